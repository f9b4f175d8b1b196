"""The door to SQLite: one unit, one transaction; settings on which durability rests; refusals in our words."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from node.store.database import (
    Connection,
    Database,
    InlineDatabase,
    Store,
    connect,
    insert_rows,
    marks,
    migrate,
    translate,
)
from protocol.errors import StoreError


@pytest.fixture(params=["threads", "inline"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Both stores keep the same promises."""
    path = tmp_path / "store.sqlite3"
    return await Database.open(path) if request.param == "threads" else InlineDatabase(path)


def put(conn: Connection, name: str) -> None:
    conn.execute("INSERT INTO meta (name, value) VALUES (?, x'00')", (name,))


def count(conn: Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM meta").fetchone()[0])


async def test_a_unit_is_kept_whole_or_not_at_all(store: Store) -> None:
    """What fails leaves nothing; what returns is there for readers."""

    def half(conn: Connection) -> None:
        put(conn, "a")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await store.write(half)
    assert await store.read(count) == 0
    await store.write(lambda conn: put(conn, "a"))
    assert (await store.read(count), await store.own(count)) == (1, 1)
    await store.close()


async def test_a_reader_cannot_write(store: Store) -> None:
    """A reading unit that writes is refused, or keeps nothing."""
    if isinstance(store, Database):
        with pytest.raises(StoreError):
            await store.read(lambda conn: put(conn, "a"))
    else:
        await store.read(lambda conn: put(conn, "a"))
    assert await store.read(count) == 0
    await store.close()


async def test_an_error_of_sqlite_is_ours(store: Store) -> None:
    """Whoever calls the store knows one kind of error."""
    await store.write(lambda conn: put(conn, "a"))
    with pytest.raises(StoreError, match="CONSTRAINT"):
        await store.write(lambda conn: put(conn, "a"))
    await store.write(lambda conn: put(conn, "b"))
    await store.close()


def test_durability_is_set(tmp_path: Path) -> None:
    """WAL, FULL, foreign keys: what is acknowledged is on the disk."""
    conn = connect(str(tmp_path / "a.sqlite3"), False)
    found = [conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert found == ["wal", 2, 1]
    conn.close()


def test_a_newer_file_is_not_touched(tmp_path: Path) -> None:
    """A store written by a newer program is refused, and stays as it is."""
    conn = connect(str(tmp_path / "a.sqlite3"), False)
    migrate(conn)
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    conn.execute(f"PRAGMA user_version = {version + 1}")
    with pytest.raises(StoreError, match="schema"):
        migrate(conn)
    assert conn.execute("PRAGMA user_version").fetchone()[0] == version + 1
    conn.close()


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    """A file of the newest schema is taken as it is."""
    conn = connect(str(tmp_path / "a.sqlite3"), False)
    migrate(conn)
    before = conn.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    migrate(conn)
    assert conn.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
    conn.close()


def test_tables_are_strict(tmp_path: Path) -> None:
    """A number in a text column is a mistake of the program and is refused."""
    conn = connect(str(tmp_path / "a.sqlite3"), False)
    migrate(conn)
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute("INSERT INTO meta (name, value) VALUES ('a', 1)")
    conn.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Foreign bytes are not overwritten."""
    path = tmp_path / "a.sqlite3"
    path.write_bytes(b"not a database at all, but long enough to be taken for one" * 20)
    with pytest.raises(StoreError) as caught:
        InlineDatabase(path)
    assert caught.value.data_safe is False


def test_a_full_disk_says_what_to_do() -> None:
    """The message names the fault, the hint the way out."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"  # type: ignore[misc]
    assert "space" in translate(error).hint


def test_many_rows_go_in_few_statements(tmp_path: Path) -> None:
    """Rows beyond one statement's batch are all there; none at all is nothing to do."""
    conn = connect(str(tmp_path / "a.sqlite3"), False)
    migrate(conn)
    insert_rows(conn, "INSERT INTO meta (name, value) VALUES", [(str(n), b"") for n in range(450)])
    insert_rows(conn, "INSERT INTO meta (name, value) VALUES", [])
    insert_rows(conn, "INSERT INTO meta (name, value) VALUES", [("1", b"")], "ON CONFLICT DO NOTHING")
    assert count(conn) == 450
    assert marks(3) == "?,?,?"
    conn.close()
