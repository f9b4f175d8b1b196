"""Write the tables of README that follow from the code: `make tables`. `tests/test_docs.py` checks that they are fresh.

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from node import config
from protocol.errors import TongbanError

README: Final = Path(__file__).resolve().parent.parent / "README.md"


def main() -> int:
    """Bring README up to date."""
    text = README.read_text(encoding="utf-8")
    for name, rows in TABLES.items():
        if name == "commands" and find_spec("hub.cli") is None:
            continue
        text = replaced(text, name, "\n".join(rows()))
    README.write_text(text, encoding="utf-8", newline="\n")
    return 0


def settings() -> Iterator[str]:
    """Every key of config.toml with its default."""
    yield "| key | default | meaning |"
    yield "| --- | --- | --- |"
    for setting in config.settings():
        value = f"`{setting.default}`" if setting.default not in {"", ()} else "empty"
        yield f"| `[{setting.section}] {setting.key}` | {value} | {setting.about} |"


def errors() -> Iterator[str]:
    """Every error code with what it means, its exit code and HTTP status."""
    yield "| code | meaning | exit | HTTP | try again |"
    yield "| --- | --- | --- | --- | --- |"
    seen: set[str] = set()
    for kind in _tree(TongbanError):
        if kind.code not in seen:
            meaning = (kind.__doc__ or "").splitlines()[0]
            again = "yes" if kind.retryable else ""
            yield f"| `{kind.code}` | {meaning} | {kind.exit_code} | {kind.http_status} | {again} |"
        seen.add(kind.code)


def commands() -> Iterator[str]:
    """Every command with its one-line help."""
    from hub.cli import main as group  # noqa: PLC0415 - the other tables do without it

    yield "| command | what it does |"
    yield "| --- | --- |"
    for name, command in _commands(group, ""):
        yield f"| `{name}` | {command.get_short_help_str(limit=200)} |"


def found(text: str, name: str) -> str:
    """Return the table that README has now.

    Raises:
        ValueError: README has no place for it.
    """
    match = re.search(_place(name), text, re.DOTALL)
    if match is None:
        raise ValueError(f"README.md has no <!-- table: {name} -->")
    return match[2].strip("\n")


def replaced(text: str, name: str, table: str) -> str:
    """Put a table at its place.

    Raises:
        ValueError: README has no place for it.
    """
    found(text, name)
    return re.sub(_place(name), lambda match: f"{match[1]}\n{table}\n{match[3]}", text, flags=re.DOTALL)


def _place(name: str) -> str:
    return rf"(<!-- table: {name} -->)(.*?)(<!-- end -->)"


def _tree(kind: type[TongbanError]) -> Iterator[type[TongbanError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("protocol."):
            yield from _tree(child)


def _commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        elif not command.hidden:
            yield f"{prefix}{name}", command


TABLES: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "settings": settings,
    "errors": errors,
    "commands": commands,
}

if __name__ == "__main__":
    sys.exit(main())
