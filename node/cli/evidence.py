"""`tongban evidence` and `tongban verify --evidence`: proofs that somebody signed two histories, and the check of such a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from node.cli import output
from node.cli.execute import execute
from node.cli.options import Command, Commands, Settings, with_settings
from node.cli.program import give
from protocol.errors import InputError


class _Written:
    """Takes the file that a node made and writes it here: the running node may be another user's service."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown: dict[str, Any] = {}

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        """Write the file; it must be new."""
        data = str(value["data"]).encode("ascii")
        try:
            with self.path.open("xb") as target:
                target.write(data)
        except FileExistsError:
            raise InputError(f"{self.path}: is there already", hint="Name a new file.") from None
        self.shown = {key: inner for key, inner in value.items() if key != "data"} | {"file": str(self.path), "bytes": len(data)}

    def row(self, row: Any) -> None:  # noqa: ANN401 - no list is asked for
        """Take no rows."""
        raise TypeError(row)


@click.group("evidence", cls=Commands)
def evidence() -> None:
    """证据 · Proofs kept here that a key has signed two histories of one log."""


@evidence.command("list", cls=Command)
@with_settings
def listing(settings: Settings) -> int:
    """列出 · List them: whose log, from which entry on, which sizes."""
    return give(settings, "evidence.list")


@evidence.command("export", cls=Command)
@click.argument("number", type=click.IntRange(1))
@click.argument("file", type=click.Path(path_type=Path))
@with_settings
def export(settings: Settings, number: int, file: Path) -> int:
    """导出 · Write one to a file that anybody can check: `tongban verify --evidence FILE`."""
    written = _Written(file)
    execute(settings, "evidence.export", {"number": number}, written)
    return _show(settings, "evidence.export", written.shown)


def check(settings: Settings, path: Path) -> int:
    """Check an evidence file, without a node and without a network.

    Raises:
        ProofInvalid: it proves nothing. InputError: it cannot be read.
    """
    from protocol import evidence as files  # noqa: PLC0415 - the rules of keys are slow to load, and help does without

    try:
        with path.open("rb") as source:
            data = source.read(files.FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from exc
    found = files.verify(data)
    shown = {
        "evidence": str(path),
        "node": found.node,
        "incarnation": found.incarnation.hex(),
        "sizes": list(found.sizes),
        "how": found.how.value,
        "network": found.network.hex(),
        "proved": True,
    }
    return _show(settings, "verify", shown)


def _show(settings: Settings, name: str, value: dict[str, Any]) -> int:
    printer = output.Printer(settings, name)
    printer.value(value)
    return printer.finish()
