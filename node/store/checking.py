"""Whether a file is a store of ours, before anything in it is believed: the library, the file, the schema.

A crafted or damaged file may carry triggers, views or other tables; SQLite would run them. So the schema must be, word for word,
what the numbered scripts make, and a file that holds nothing is never taken for a new store.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from pathlib import Path
from typing import Final

from protocol.errors import StoreDamaged, StoreError

SQLITE_MIN: Final = (3, 37, 0)  # STRICT tables
HEADER: Final = b"SQLite format 3\x00"
SHADOWS: Final = ("names_",)  # made by the search module itself; their words differ between versions of SQLite

Shape = frozenset[tuple[str, str, str | None]]


def check_library() -> None:
    """Refuse a library that cannot keep our tables.

    Raises:
        StoreError: SQLite is too old.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old; {'.'.join(map(str, SQLITE_MIN))} is needed", hint="Install a newer Python."
        )


def check_file(path: Path) -> None:
    """Check that a file that should hold a node is no empty or foreign one; a new store is made elsewhere, under another name.

    Raises:
        StoreDamaged: it is empty, cut within its first page, or no database.
    """
    try:
        with path.open("rb") as stream:
            begin = stream.read(len(HEADER))
    except OSError as exc:
        raise StoreError(f"{path}: cannot be read: {exc.strerror}", hint="Look at the rights of the folder.") from exc
    if begin != HEADER:
        raise StoreDamaged(f"{path}: {'the store is empty' if not begin else 'not a database'}")


def check_schema(conn: sqlite3.Connection, steps: tuple[Path, ...]) -> None:
    """Check that a store holds exactly what these scripts make.

    Raises:
        StoreDamaged: something was added, changed or taken away.
    """
    found, expected = shape(conn), _shape_of(steps)
    if found != expected:
        names = sorted({name for _, name, _ in found ^ expected})
        raise StoreDamaged(
            f"the store's schema is not this program's: {', '.join(names)[:200]}",
            hint="The file was changed by another program, or is not ours. `tongban restore FILE` puts a backup in its place.",
        )


def shape(conn: sqlite3.Connection) -> Shape:
    """Return (type, name, SQL) of all that a file's schema declares."""
    rows = conn.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return frozenset((kind, name, None if name.startswith(SHADOWS) else sql) for kind, name, sql in rows)


@lru_cache(maxsize=8)
def _shape_of(steps: tuple[Path, ...]) -> Shape:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for step in steps:
            conn.executescript(step.read_text(encoding="utf-8"))
        return shape(conn)
    finally:
        conn.close()
