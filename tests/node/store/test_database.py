"""The door to SQLite: one unit, one transaction; settings on which durability rests; refusals in our words."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from node import faults
from node.store import database
from node.store.checking import shape
from node.store.database import (
    Connection,
    Database,
    InlineDatabase,
    Store,
    connect,
    insert_rows,
    marks,
    migrate,
    run_own,
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


@pytest.fixture
def three_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A schema of three scripts; returns a store that has taken the first, with something in it."""
    scripts = tmp_path / "schema"
    scripts.mkdir()
    first = (database.SCHEMA / "001.sql").read_text(encoding="utf-8")
    (scripts / "001.sql").write_text(first, encoding="utf-8")
    monkeypatch.setattr(database, "SCHEMA", scripts)
    path = tmp_path / "old.sqlite3"
    InlineDatabase(path)._line.write(lambda conn: put(conn, "kept"))
    for number, work in ((2, "ALTER TABLE cases ADD COLUMN two INTEGER"), (3, "CREATE TABLE three (a BLOB) STRICT")):
        script = f"BEGIN IMMEDIATE; {work}; PRAGMA user_version = {number}; COMMIT;"
        (scripts / f"00{number}.sql").write_text(script, encoding="utf-8")
    return path


@pytest.mark.parametrize("step", [1, 2])
def test_a_kill_at_each_migration_step_is_taken_up_by_the_next_start(step: int, three_steps: Path, tmp_path: Path) -> None:
    """Each step is whole or not there; the next start goes on with the rest; what was in the store stays."""

    def crash(label: str) -> None:
        nonlocal step
        step -= label == "store.migrate"
        if step == 0:
            raise faults.Crash(label)

    with faults.hooked(crash), pytest.raises(faults.Crash):
        InlineDatabase(three_steps)
    store = InlineDatabase(three_steps)
    fresh = InlineDatabase(tmp_path / "fresh.sqlite3")
    assert store._line.own(shape) == fresh._line.own(shape)
    assert store._line.own(count) == 1


def test_a_step_cut_in_its_middle_leaves_nothing(three_steps: Path, tmp_path: Path) -> None:
    """A script that fails half-way is rolled back whole; the program before it can still open the file."""
    broken = tmp_path / "schema" / "002.sql"
    whole = broken.read_text(encoding="utf-8")
    broken.write_text(whole.replace("PRAGMA user_version", "SELECT nothing FROM nowhere; PRAGMA user_version"), encoding="utf-8")
    with pytest.raises(StoreError):
        InlineDatabase(three_steps)
    broken.write_text(whole, encoding="utf-8")
    assert InlineDatabase(three_steps)._line.own(count) == 1


async def test_readers_never_checkpoint(tmp_path: Path) -> None:
    """SQLite up to 3.51.2 can corrupt a file that two connections write or checkpoint: the reader can do neither."""
    store = await Database.open(tmp_path / "a.sqlite3")
    await store.write(lambda conn: put(conn, "a"))
    with pytest.raises(StoreError):
        await store._reader._execute(lambda: run_own(store._reading, lambda conn: conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()))
    wal = (tmp_path / "a.sqlite3-wal").stat().st_size
    await store._reader._execute(store._reading.close)
    assert (tmp_path / "a.sqlite3-wal").stat().st_size == wal > 0
    await store.close()


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
