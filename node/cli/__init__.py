"""The command line of one node: commands, their options, and how answers and failures are shown. The only place with exits.

`options` reads what is typed, `execute` gives it to the running node or opens the store, `output` and `answers` show what
came back; `program` is the root of the commands, with one function each in `case` and `administration`. Start at `program`.
`hub.cli` adds the commands of a network: init, invite, join, run, sync, demo, replay.
"""
