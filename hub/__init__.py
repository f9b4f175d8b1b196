"""The accepting side of a node that has children: intake, feeds, joining, server. Imports `node` and `protocol`. Start at `intake`."""
