"""What a node shows: lists, one case with its timeline, how things stand, and the export. Reading only, no state of its own.

Every function here is part of a reading unit on one snapshot. Times are printed RFC 3339, +08:00, with ms; ids are hex.
"""
