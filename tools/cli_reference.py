"""Write docs/CLI.md, the help of every command: `python -m tools.cli_reference`. `tests/hub/test_cli.py` checks that it is fresh."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from hub.cli import main as program

FILE: Final = Path(__file__).resolve().parent.parent / "docs" / "CLI.md"
COLUMNS: Final = 110

HEAD: Final = """\
# Commands

What `--help` says of each command; this file follows from the program. The options of `tongban` itself (`--data`,
`--officer`, `--window`, `--at`, `--timeout-s`, `--json`, `--lang`) may stand before or after the name of any command.

With `--json` standard output is one JSON value (lists and `export`: one object a line), UTF-8 on any console; a failure is
`{"error":{"code","message","hint","retryable","data_safe"}}` and a list that breaks off ends with one. Times are RFC 3339 in
+08:00 with ms, ids are hex; fields are added, never renamed. Exit code: 0 done, 1 refused or problems found, 2 usage, config or
input file, 3 try later.

While a node runs on the folder, a command goes through it; else it opens the store itself. Two commands at once wait for
each other for up to ten seconds.
"""


def reference() -> str:
    """Return the whole file."""
    return "\n".join([HEAD, *(f"## {path}\n\n```\n{help_of(path, command)}\n```\n" for path, command in commands())])


def help_of(path: str, command: click.Command) -> str:
    """Return what `--help` prints on a wide console."""
    context = click.Context(command, info_name=path, terminal_width=COLUMNS, max_content_width=COLUMNS)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its whole name, groups before what is in them."""
    yield from _below("tongban", program)


def _below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _below(f"{path} {name}", inner)


def main() -> int:
    """Bring the file up to date."""
    FILE.write_text(reference(), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
