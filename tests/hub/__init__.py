"""Tests of the packages, one file for each module."""
