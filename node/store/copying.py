"""Copying a store while it is at work: one state of it, in small steps, on connections of its own.

SQLite's backup begins again whenever somebody else writes, unless its source holds one state: so the source is a reader inside
a transaction, and the copy is that state however long it takes. Meanwhile the WAL cannot be written back, only grow.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.store import checking, logs
from node.store.database import SCHEMA, Connection, connect, translate
from protocol.errors import StoreDamaged, StoreError
from protocol.log import LogId

STEP_PAGES: Final = 64  # 256 KiB
SYNC_STEPS: Final = 16  # 4 MiB: so much at most stands before a clerk's own sync

Marks = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Head:
    """What a store is: its node, and the end of its own log."""

    node: str
    incarnation: bytes
    network: bytes
    size: int
    root: bytes
    key: bytes


def copy(source: Path, target: Path, pause: Callable[[], None]) -> None:
    """Write one state of a store into a new file, durable when it returns.

    Args:
        pause: called after each step.

    Raises:
        StoreError: one of the two disks refuses; what was written is to be thrown away.
    """
    try:
        reader = connect(str(source), True)
        writer = sqlite3.connect(target, isolation_level=None)
        try:
            _copy(reader, writer, target, pause)
        finally:
            writer.close()
            reader.close()
        _sync(target)
    except sqlite3.Error as exc:
        raise translate(exc) from exc


def _copy(reader: Connection, writer: Connection, target: Path, pause: Callable[[], None]) -> None:
    writer.execute("PRAGMA synchronous = OFF")  # of a draft; synced along the way and at the end
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on one state is held
    steps = 0

    def stepped(_status: int, _left: int, _all: int) -> None:
        nonlocal steps
        steps += 1
        if steps % SYNC_STEPS == 0:
            _sync(target)
        pause()

    reader.backup(writer, pages=STEP_PAGES, progress=stepped)
    reader.execute("ROLLBACK")
    writer.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it


def _sync(path: Path) -> None:
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def mark(path: Path, marks: Marks) -> None:
    """Write facts about a copy into it, and take away those given as None."""
    conn = sqlite3.connect(path, isolation_level=None)
    try:
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("BEGIN IMMEDIATE")
        for name, value in marks.items():
            if value is None:
                conn.execute("DELETE FROM meta WHERE name = ?", (name,))
            else:
                logs.set_meta(conn, name, value)
        conn.execute("COMMIT")
    except sqlite3.Error as exc:
        raise translate(exc) from exc
    finally:
        conn.close()


def check(path: Path) -> tuple[Head, dict[str, bytes]]:
    """Read a copy from the disk again: its pages, its schema, and its node's own log against the root that was committed.

    Returns:
        The head of its own log, and all facts about it.

    Raises:
        StoreDamaged: it is not whole. StoreError: it is newer than this program, or cannot be read.
    """
    checking.check_file(path)
    try:
        conn = connect(str(path), True)
        try:
            return _check(conn)
        finally:
            conn.close()
    except sqlite3.Error as exc:
        raise translate(exc) from exc


def _check(conn: Connection) -> tuple[Head, dict[str, bytes]]:
    steps = sorted(SCHEMA.glob("[0-9][0-9][0-9].sql"))
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if not 0 < version <= len(steps):
        raise StoreError(f"the file has schema {version}, this program knows {len(steps)}", hint="Use the newer program.")
    checking.check_schema(conn, tuple(steps[:version]))
    found = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreDamaged("the pages of the file are damaged")
    facts: dict[str, bytes] = dict(conn.execute("SELECT name, value FROM meta"))
    node, incarnation = facts.get("node", b"").decode(errors="replace"), facts.get("incarnation", b"")
    row = logs.find_log(conn, LogId(node, incarnation))
    if row is None or logs.range_at(conn, row, row.size).root() != row.root:
        raise StoreDamaged("the node's own log in the file is not what was written")
    return Head(node, incarnation, facts.get("network", b""), row.size, row.root, row.key), facts
