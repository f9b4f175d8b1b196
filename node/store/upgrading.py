"""The copy that is kept before a newer program brings a store to a newer schema: the way back to the older program.

    tongban.sqlite3.schema-1      the store as the program with schema 1 left it

An older program refuses a newer file and changes nothing. The copy is a backup (`node.backup`): `tongban restore` puts it in the place
of the newer store, and the node goes on as any restored one does, in a new incarnation; what was stated since comes back from
the parent. One copy a schema is kept; nobody needs it once the new program has proved itself.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from protocol import codec
from protocol.errors import StoreError, StoreFull

SPARE_BYTES: Final = 64 << 20  # what must be free beside the copy
BACKUP_MARK: Final = "backup"  # this and the next as in node.backup, which stands above the store; a test holds them together
BACKUP_FORMAT: Final = 1


def copy_path(store: Path, version: int) -> Path:
    """Return where the copy of a store with this schema is kept."""
    return store.with_name(f"{store.name}.schema-{version}")


def keep_copy(conn: sqlite3.Connection, version: int, free: Callable[[Path], int] | None = None) -> None:
    """Keep a whole copy of a store that is about to leave this schema.

    A crash before the copy has its name leaves the store as it was, and a draft that the next start writes anew. A copy of an
    earlier upgrade from the same schema gives way: it is older than the store.

    Args:
        free: tells how many bytes a folder's disk has free; None asks the disk.

    Raises:
        StoreFull: there is no room for it; nothing was changed. StoreError: the disk refuses.
    """
    store = Path(conn.execute("PRAGMA database_list").fetchone()[2])
    needed = _bytes(conn) + SPARE_BYTES
    found = free(store.parent) if free is not None else shutil.disk_usage(store.parent).free
    if found < needed:
        raise StoreFull(
            f"the program wants to bring the store to a newer form and first keep a copy: {needed >> 20} MiB are needed, {found >> 20} are free",
            hint="Make room on the disk and start again, or start the older program; nothing was changed.",
        )
    kept = copy_path(store, version)
    draft = kept.with_name(kept.name + ".new")
    try:
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            conn.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it
            _mark(copy, store.stat().st_mtime_ns // 1_000_000, f"schema/{version}")
        _make_durable(draft)
        draft.replace(kept)
    except OSError as exc:
        raise StoreError(f"{draft}: cannot be written: {exc.strerror}", hint="Look at the disk; nothing was changed.") from exc


def _mark(copy: sqlite3.Connection, at: int, program: str) -> None:
    """Let the copy say what it is, as `node.backup` reads it; a store in which no node lives says nothing.

    Args:
        at: when the store was last written, ms. program: what stands for the older program's name.
    """
    found = copy.execute(
        "SELECT n.value, i.value, w.value, l.size, l.root FROM meta n, meta i, meta w, logs l WHERE n.name = 'node' AND i.name = 'incarnation'"
        " AND w.name = 'network' AND l.node = CAST(n.value AS TEXT) AND l.incarnation = i.value AND l.branch = x''"
    ).fetchone()
    if found is None:
        return
    node, incarnation, network, size, root = found
    told = codec.encode([BACKUP_FORMAT, node.decode("ascii"), incarnation, network, size, root, at, program])
    copy.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (BACKUP_MARK, told))


def _bytes(conn: sqlite3.Connection) -> int:
    pages, size = (conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages) * int(size)


def _make_durable(draft: Path) -> None:
    """Leave one whole file, for its owner only, on the platter."""
    for ending in ("-wal", "-shm"):  # empty: the copy's only connection is closed
        with suppress(FileNotFoundError):
            draft.with_name(draft.name + ending).unlink()
    draft.chmod(0o600)
    handle = os.open(draft, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
