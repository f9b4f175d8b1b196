"""A disk under real SQLite that a test can cut the power of, fill up, or make fail.

`Disk.connect` is a connector for the store: apsw's SQLite on a file system layer of ours, shown as Python's `sqlite3` would show
it. Every write, truncation and sync is noted in order; `images` replays any beginning of that, with the writes that no sync
covered lost, torn or kept at random, as a power cut may leave them. The product opens such an image with its own connector.

    disk = Disk()
    store = InlineDatabase(path, disk.connect)
    …                                   # work; disk.now() names the moment of an acknowledgement
    for image in disk.images(path, base, random, count): …
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from node.store.database import Connection, settle

SECTOR = 512
_names = itertools.count()


@dataclass(frozen=True)
class Step:
    """One thing done to a file: a write at an offset, a truncation to it, or a sync of all before."""

    file: str
    kind: str  # "write", "truncate", "sync"
    offset: int = 0
    data: bytes = b""


@dataclass
class Disk:
    """What was done to the files, and what is to go wrong. settings: after the product's own, for what a test turns down."""

    settings: str = ""
    steps: list[Step] = field(default_factory=list)
    fail_sync: Callable[[str], bool] = lambda _name: False
    fail_write: Callable[[str], bool] = lambda _name: False
    room: Callable[[], int] | None = None  # bytes left, for growing files

    def __post_init__(self) -> None:
        self._name = f"tongban-disk-{next(_names)}"
        self._vfs = _FileSystem(self._name, self)  # kept: apsw lets go of it with its last reference

    def connect(self, path: str, readonly: bool) -> Connection:
        """Open a file on this disk, as the product's own connector does."""
        conn: Any = _Connection(apsw.Connection(path, vfs=self._name, statementcachesize=256))
        settle(conn, readonly)
        conn.executescript(self.settings)
        return conn  # type: ignore[no-any-return]

    def heal(self) -> None:
        """Be well again."""
        self.fail_sync = self.fail_write = lambda _name: False
        self.room = None

    def now(self) -> int:
        """Return the moment: how much was done so far."""
        return len(self.steps)

    def image(self, base: dict[str, bytes], moment: int, chance: random.Random) -> dict[str, bytes]:
        """Return the files as a power cut at this moment may leave them: each write since its file's last sync kept, torn or lost."""
        files = {name: bytearray(data) for name, data in base.items()}
        synced = {one.file: place for place, one in enumerate(self.steps[:moment]) if one.kind == "sync"}
        kept = chance.choice((0.0, 0.3, 0.7, 1.0))
        for place, one in enumerate(self.steps[:moment]):
            content = files.setdefault(one.file, bytearray())
            if place < synced.get(one.file, -1):
                _apply(content, one, len(one.data))
            elif chance.random() < kept:
                whole = chance.random() < 0.7
                _apply(content, one, len(one.data) if whole else SECTOR * chance.randrange(len(one.data) // SECTOR + 1))
        return {name: bytes(content) for name, content in files.items()}


def _apply(content: bytearray, step: Step, count: int) -> None:
    if step.kind == "truncate":
        del content[step.offset :]
    elif step.kind == "write":
        content.extend(bytes(max(0, step.offset + count - len(content))))
        content[step.offset : step.offset + count] = step.data[:count]


def content_of(path: Path) -> dict[str, bytes]:
    """Return a store's files, all synced."""
    return {file.name: file.read_bytes() for file in (path, wal_of(path)) if file.exists()}


def lay(folder: Path, files: dict[str, bytes], name: str) -> Path:
    """Write an image into a folder and return its store."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return folder / name


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


class _FileSystem(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 - SQLite's name
        return _File(self._disk, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._file = Path(text).name if text else ""
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        grows = offset + len(data) - self.xFileSize()
        if self._disk.room is not None and grows > 0 and self._file and self._disk.room() < grows:
            raise _failure(apsw.FullError, apsw.SQLITE_FULL)
        if self._file and self._disk.fail_write(self._file):
            raise _failure(apsw.IOError, apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)
        self._note("write", offset, bytes(data))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self._note("truncate", size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._file and self._disk.fail_sync(self._file):
            raise _failure(apsw.IOError, apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        self._note("sync")

    def _note(self, kind: str, offset: int = 0, data: bytes = b"") -> None:
        if self._file:
            self._disk.steps.append(Step(self._file, kind, offset, data))


def _failure(kind: type[apsw.Error], code: int) -> apsw.Error:
    error = kind("the disk failed")
    error.result, error.extendedresult = code & 0xFF, code
    return error


# --- apsw in the form of sqlite3


class _Connection:
    """The part of `sqlite3.Connection` that the product uses."""

    def __init__(self, conn: apsw.Connection) -> None:
        self._conn = conn

    @property
    def in_transaction(self) -> bool:
        return self._conn.in_transaction

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Cursor:
        with _translated():
            return _Cursor(self._conn, self._conn.execute(sql, values))

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> _Cursor:
        with _translated():
            return _Cursor(self._conn, self._conn.executemany(sql, rows))

    def executescript(self, sql: str) -> None:
        with _translated():
            self._conn.execute(sql).fetchall()

    def rollback(self) -> None:
        with _translated():
            self._conn.execute("ROLLBACK")

    def close(self) -> None:
        with _translated():
            self._conn.close()


class _Cursor:
    def __init__(self, conn: apsw.Connection, cursor: apsw.Cursor) -> None:
        self._cursor = cursor
        self.lastrowid = conn.last_insert_rowid()
        self.rowcount = conn.changes()

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def fetchone(self) -> Any:
        with _translated():
            return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        return list(self)


class _translated:  # noqa: N801 - read as a word in a `with`
    """Raises apsw's errors as sqlite3's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, apsw.Error):
            return
        code = getattr(error, "extendedresult", 0) or getattr(error, "result", 0)
        names = {**apsw.mapping_result_codes, **apsw.mapping_extended_result_codes}
        ours = (sqlite3.IntegrityError if isinstance(error, apsw.ConstraintError) else sqlite3.OperationalError)(str(error))
        ours.sqlite_errorname = names.get(code, type(error).__name__)  # type: ignore[attr-defined]
        raise ours from error
