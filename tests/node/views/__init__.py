"""Tests of `node.views`."""
