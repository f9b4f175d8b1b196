"""One SQLite file, one writer, one reader: the only door to aiosqlite.

A *unit of work* is one synchronous function on a connection, run whole in one hop to the database thread: nothing is
awaited between BEGIN and COMMIT, and a caller that is cancelled cancels nothing. `Database` runs units on aiosqlite's
threads; `InlineDatabase` runs the same units in place, so that a simulated network repeats exactly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

import aiosqlite

from node import faults
from protocol.errors import StoreError, TongbanError

T = TypeVar("T")
Connection = sqlite3.Connection
Unit = Callable[[Connection], T]
Connector = Callable[[str, bool], Connection]

SCHEMA: Final = Path(__file__).with_name("schema")
BUSY_S: Final = 10.0
CACHE_KIB: Final = 16 << 10
WAL_PAGES: Final = 4_000  # the writer checkpoints after so many pages: about 16 MB


class Store(Protocol):
    """Where units of work run."""

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit inside one transaction; it is durable when this returns."""
        ...

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads, on one snapshot."""
        ...

    async def own(self, unit: Unit[T]) -> T:
        """Run a reading unit on the writer's connection: after all writes before it, outside any transaction."""
        ...

    async def close(self) -> None:
        """Finish what is under way and close the file."""
        ...


def connect(path: str, readonly: bool) -> Connection:
    """Open the file with the settings on which durability rests."""
    conn = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S, check_same_thread=False, cached_statements=256)
    conn.execute("PRAGMA trusted_schema = OFF")
    conn.execute("PRAGMA foreign_keys = OFF" if readonly else "PRAGMA foreign_keys = ON")
    conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    conn.execute("PRAGMA cell_size_check = ON")
    if readonly:
        conn.execute("PRAGMA query_only = ON")
        return conn
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    if conn.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise StoreError("the database does not accept synchronous=FULL", hint="Move the folder to a local disk.")
    return conn


def migrate(conn: Connection) -> None:
    """Bring the file to the newest schema; each step is one transaction inside its script.

    Raises:
        StoreError: the file is newer than this program, or foreign.
    """
    steps = sorted(SCHEMA.glob("[0-9][0-9][0-9].sql"))
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if version > len(steps):
        raise StoreError(
            f"the store has schema {version}, this program knows {len(steps)}",
            hint="Start the newer program again; this one changes nothing.",
        )
    for step in steps[version:]:
        faults.point("store.migrate")
        try:
            conn.executescript(step.read_text(encoding="utf-8"))
        except sqlite3.Error:
            if conn.in_transaction:
                conn.rollback()
            raise


def run_unit(conn: Connection, unit: Unit[T]) -> T:
    """Run a unit between BEGIN and COMMIT; what fails leaves nothing behind."""
    try:
        conn.execute("BEGIN IMMEDIATE")
        try:
            result = unit(conn)
            faults.point("store.before_commit")
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.rollback()
            raise
    except sqlite3.Error as exc:
        raise translate(exc) from exc
    faults.point("store.committed")
    return result


def run_read(conn: Connection, unit: Unit[T]) -> T:
    """Run a reading unit on one snapshot."""
    try:
        conn.execute("BEGIN")
        try:
            return unit(conn)
        finally:
            if conn.in_transaction:
                conn.rollback()
    except sqlite3.Error as exc:
        raise translate(exc) from exc


def run_own(conn: Connection, unit: Unit[T]) -> T:
    """Run a reading unit outside any transaction."""
    try:
        return unit(conn)
    except sqlite3.Error as exc:
        raise translate(exc) from exc


def translate(exc: sqlite3.Error) -> StoreError:
    """Turn SQLite's error into ours: the one place that does."""
    name = getattr(exc, "sqlite_errorname", "") or type(exc).__name__
    if name == "SQLITE_FULL":
        return StoreError("the disk is full", hint="Free some space; nothing that was saved is lost.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError(
            "the store's file is damaged", hint="Stop the node, keep a copy of its folder, then see the guide.", data_safe=False
        )
    return StoreError(f"the store refused: {name}", hint="Look at the disk; nothing was written.")


def ours(exc: Exception) -> TongbanError:
    """Turn any exception that a unit raised into one that another machine can be told."""
    if isinstance(exc, TongbanError):
        return exc
    if isinstance(exc, sqlite3.Error):
        return translate(exc)
    return TongbanError("the hub failed on this request", hint="Look at the hub's log.")


def _prepare(path: Path, connector: Connector) -> Connection:
    try:
        conn = connector(str(path), False)
        migrate(conn)
    except sqlite3.Error as exc:
        raise translate(exc) from exc
    return conn


class Database:
    """A store on aiosqlite's threads: one for the writer, one for readers."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._reader = reader

    @classmethod
    async def open(cls, path: Path, connector: Connector = connect) -> Database:
        """Open or create the file and bring it to the newest schema."""
        writer = await aiosqlite.Connection(lambda: _prepare(path, connector), 64)
        reader = await aiosqlite.Connection(lambda: connector(str(path), True), 64)
        return cls(writer, reader)

    async def write(self, unit: Unit[T]) -> T:
        """See `Store.write`."""
        # _execute is the one way to run a whole function in a single hop; public calls take a hop a statement
        result: T = await self._writer._execute(lambda: run_unit(self._writer._conn, unit))  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def read(self, unit: Unit[T]) -> T:
        """See `Store.read`."""
        result: T = await self._reader._execute(lambda: run_read(self._reader._conn, unit))  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def own(self, unit: Unit[T]) -> T:
        """See `Store.own`."""
        result: T = await self._writer._execute(lambda: run_own(self._writer._conn, unit))  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def close(self) -> None:
        """See `Store.close`."""
        await self._reader.close()
        await self._writer.close()


class InlineDatabase:
    """The same store without threads."""

    def __init__(self, path: Path, connector: Connector = connect) -> None:
        self._conn = _prepare(path, connector)

    async def write(self, unit: Unit[T]) -> T:
        """See `Store.write`."""
        return run_unit(self._conn, unit)

    async def read(self, unit: Unit[T]) -> T:
        """See `Store.read`."""
        return run_read(self._conn, unit)

    async def own(self, unit: Unit[T]) -> T:
        """See `Store.own`."""
        return run_own(self._conn, unit)

    async def close(self) -> None:
        """See `Store.close`."""
        with suppress(sqlite3.Error):
            self._conn.close()


def insert_rows(conn: Connection, head: str, rows: list[tuple[object, ...]], tail: str = "", batch: int = 200) -> None:
    """Insert many rows with few statements: multi-row VALUES beat executemany beside a busy thread.

    `head` is "INSERT INTO t (a, b) VALUES", `tail` an ON CONFLICT clause, or nothing.
    """
    if not rows:
        return
    one = "(" + ",".join("?" * len(rows[0])) + ")"
    for begin in range(0, len(rows), batch):
        part = rows[begin : begin + batch]
        conn.execute(f"{head} {','.join([one] * len(part))} {tail}", [value for row in part for value in row])


def marks(count: int) -> str:
    """Return `?,?,…` for an IN list."""
    return ",".join("?" * count)
