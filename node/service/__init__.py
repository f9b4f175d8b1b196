"""Installing the node as a service of the system, so that it runs with nobody there: systemd on Linux, a scheduled task on Windows.

`unit` and `task` write the definition, pure; `installing` gives it to the system's own programs, or shows what it would do.
Start reading at `installing.Installation`.
"""
