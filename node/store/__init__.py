"""The store of one node: a single SQLite file in which entries, projections and feed rows commit together.

Trusted: what was appended here was read back before it was signed. Untrusted: nothing in the file is believed without its
hash (see `tongban verify`). Losing it costs what no other machine holds yet. Start at `database`.
"""
