"""Tests of `node.office`."""
