"""Tests of `hub.demo`; whole demos in real processes: test_demo.py."""
