"""Faults from outside, one file a kind: power cuts, failing disks, killed processes. `disk` is the disk that they happen to."""
