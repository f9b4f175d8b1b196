"""The wire between a station and its hub: what goes wrong on it, and who stands on it. Rows N01-N13 of docs/FAULTS.md."""
