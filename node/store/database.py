"""One SQLite file, one writer, one reader: the only door to aiosqlite.

The writer alone checkpoints: SQLite 3.7.0 to 3.51.2 can corrupt a file when a second connection writes or checkpoints beside
the first. Readers open the file read-only, so they cannot; a mended writer replaces the old one before either writes again.

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
from node.store import checking, upgrading
from protocol.errors import DiskFailed, StoreDamaged, StoreError, StoreFull, TongbanError

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
    """Open the file with Python's own SQLite."""
    where = Path(path).absolute().as_uri() + "?mode=ro" if readonly else path
    conn = sqlite3.connect(
        where, isolation_level=None, timeout=BUSY_S, check_same_thread=False, cached_statements=256, uri=readonly
    )
    settle(conn, readonly)
    return conn


def settle(conn: Connection, readonly: bool) -> None:
    """Give a new connection the settings on which durability rests.

    Raises:
        StoreError: the file system does not allow them.
    """
    conn.execute("PRAGMA trusted_schema = OFF")
    conn.execute("PRAGMA foreign_keys = OFF" if readonly else "PRAGMA foreign_keys = ON")
    conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    conn.execute("PRAGMA cell_size_check = ON")
    if readonly:
        conn.execute("PRAGMA query_only = ON")
        return
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    if conn.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise StoreError("the database does not accept synchronous=FULL", hint="Move the folder to a local disk.")


def migrate(conn: Connection) -> None:
    """Bring the file to the newest schema; each step is one transaction inside its script.

    Raises:
        StoreError: the file is newer than this program. StoreDamaged: its schema is not the one of its version.
    """
    steps = sorted(SCHEMA.glob("[0-9][0-9][0-9].sql"))
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if version > len(steps):
        raise StoreError(
            f"the store has schema {version}, this program knows {len(steps)}",
            hint="Start the newer program again; this one changes nothing.",
        )
    checking.check_schema(conn, tuple(steps[:version]))
    if 0 < version < len(steps):
        upgrading.keep_copy(conn, version)
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
    if name in {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}:  # the second: no room for the index of the WAL
        return StoreFull("the disk is full")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "decode" in str(exc):
        return StoreDamaged("the store's file is damaged")
    if name.startswith("SQLITE_IOERR"):
        return DiskFailed(f"the disk failed: {name}")
    return StoreError(f"the store refused: {name}", hint="Look at the disk; nothing was written.")


def ours(exc: Exception) -> TongbanError:
    """Turn any exception that a unit raised into one that another machine can be told."""
    if isinstance(exc, TongbanError):
        return exc
    if isinstance(exc, sqlite3.Error):
        return translate(exc)
    return TongbanError("the hub failed on this request", hint="Look at the hub's log.")


class Line:
    """The writing connection, and how it is made again after the disk failed. Owner: the thread that writes."""

    def __init__(self, path: Path, connector: Connector) -> None:
        self._path = str(path)
        self._connector = connector
        self._broken = False
        self._opened: Connection | None = None

    def begin(self) -> Connection:
        """Open the file, check it, and bring it to the newest schema."""
        checking.check_library()
        try:
            self._opened = self._connector(self._path, False)
            migrate(self._opened)
        except sqlite3.Error as exc:
            raise translate(exc) from exc
        except UnicodeDecodeError as exc:  # SQLite's message quotes what it cannot read
            raise StoreDamaged("the store's schema cannot be read") from exc
        return self._opened

    @property
    def conn(self) -> Connection:
        """The connection, once open."""
        if self._opened is None:
            raise StoreError("the store is not open")
        return self._opened

    def write(self, unit: Unit[T]) -> T:
        """See `Store.write`; after a failure of the disk nothing is acknowledged before `_mend` has succeeded."""
        if self._broken:
            self._mend()
        try:
            return run_unit(self.conn, unit)
        except DiskFailed:
            self._broken = True
            raise

    def own(self, unit: Unit[T]) -> T:
        """See `Store.own`."""
        return run_own(self.conn, unit)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._opened is not None:
            with suppress(sqlite3.Error):
                self._opened.close()

    def _mend(self) -> None:
        """Go on with a new connection, after everything acknowledged was written to the main file once more and synced.

        A second fsync of the same pages proves nothing: the system may have dropped them and say yes. Truncating the WAL
        writes all its committed pages anew, syncs the main file, and leaves nothing of the commit that failed.
        """
        try:
            fresh = self._connector(self._path, False)
            busy, _, _ = fresh.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as exc:
            raise translate(exc) from exc
        if busy:
            fresh.close()
            raise DiskFailed("the store is not whole again yet after a failure of the disk")
        self.close()
        self._opened, self._broken = fresh, False


async def _thread() -> aiosqlite.Connection:
    """Return a thread of aiosqlite's that has opened nothing of ours: one whose opening fails ends after its event loop."""
    return await aiosqlite.Connection(lambda: sqlite3.connect(":memory:", check_same_thread=False), 64)


class Database:
    """A store on aiosqlite's threads: one for the writer, one for readers."""

    def __init__(self, line: Line, writer: aiosqlite.Connection, reading: Connection, reader: aiosqlite.Connection) -> None:
        self._line = line  # owner: the writer's thread
        self._writer = writer
        self._reading = reading  # owner: the reader's thread
        self._reader = reader

    @classmethod
    async def open(cls, path: Path, connector: Connector = connect) -> Database:
        """Open or create the file and bring it to the newest schema."""
        line, writer, reader = Line(path, connector), await _thread(), await _thread()
        try:
            await writer._execute(line.begin)  # type: ignore[no-untyped-call]  # noqa: SLF001
            reading = await reader._execute(lambda: connector(str(path), True))  # type: ignore[no-untyped-call]  # noqa: SLF001
        except BaseException as exc:
            await reader.close()
            await writer._execute(line.close)  # type: ignore[no-untyped-call]  # noqa: SLF001
            await writer.close()
            if isinstance(exc, sqlite3.Error):
                raise translate(exc) from exc
            raise
        return cls(line, writer, reading, reader)

    async def write(self, unit: Unit[T]) -> T:
        """See `Store.write`."""
        # _execute is the one way to run a whole function in a single hop; public calls take a hop a statement
        result: T = await self._writer._execute(lambda: self._line.write(unit))  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def read(self, unit: Unit[T]) -> T:
        """See `Store.read`."""
        result: T = await self._reader._execute(lambda: run_read(self._reading, unit))  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def own(self, unit: Unit[T]) -> T:
        """See `Store.own`."""
        result: T = await self._writer._execute(lambda: self._line.own(unit))  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def close(self) -> None:
        """See `Store.close`: the writer last, since who closes last checkpoints."""
        await self._reader._execute(self._reading.close)  # type: ignore[no-untyped-call]  # noqa: SLF001
        await self._reader.close()
        await self._writer._execute(self._line.close)  # type: ignore[no-untyped-call]  # noqa: SLF001
        await self._writer.close()


class InlineDatabase:
    """The same store without threads."""

    def __init__(self, path: Path, connector: Connector = connect) -> None:
        self._line = Line(path, connector)
        self._line.begin()

    async def write(self, unit: Unit[T]) -> T:
        """See `Store.write`."""
        return self._line.write(unit)

    async def read(self, unit: Unit[T]) -> T:
        """See `Store.read`."""
        return run_read(self._line.conn, unit)

    async def own(self, unit: Unit[T]) -> T:
        """See `Store.own`."""
        return self._line.own(unit)

    async def close(self) -> None:
        """See `Store.close`."""
        self._line.close()


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
