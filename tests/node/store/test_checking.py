"""A file is believed only when its library, its beginning and every word of its schema are ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from node.store import checking
from node.store.database import InlineDatabase, connect, migrate
from protocol.errors import StoreDamaged, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole store, closed."""
    made = tmp_path / "a.sqlite3"
    conn = connect(str(made), False)
    migrate(conn)
    conn.close()
    return made


CRAFTED = [
    "CREATE TRIGGER evil AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
    "CREATE VIEW evil AS SELECT * FROM entries",
    "CREATE TABLE evil (a)",
    "CREATE INDEX evil ON entries (raw)",
    "ALTER TABLE cases ADD COLUMN evil TEXT",
    "ALTER TABLE cases RENAME COLUMN item TO evil",
    "DROP TABLE evidence",
    "DROP INDEX entries_case",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'CHECK (length(key) = 16)', '') WHERE name = 'cases'",
    """PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_evil', 'meta', 0,
    'CREATE TRIGGER sqlite_evil AFTER INSERT ON meta BEGIN DELETE FROM entries; END')""",
]


@pytest.mark.parametrize("change", CRAFTED)
def test_a_crafted_schema_is_refused(change: str, path: Path) -> None:
    """A trigger, a view, a table, an index more or less, or a changed word: the file is refused before a unit runs on it."""
    conn = sqlite3.connect(path)
    conn.executescript(change)
    conn.close()
    before = path.read_bytes()
    with pytest.raises(StoreDamaged) as caught:
        InlineDatabase(path)
    assert "restore" in caught.value.hint
    assert path.read_bytes() == before


def test_the_schema_is_checked_also_below_the_newest(path: Path) -> None:
    """A file that waits for a migration is compared with what its own version made."""
    conn = sqlite3.connect(path)
    conn.executescript("PRAGMA user_version = 0")
    conn.close()
    with pytest.raises(StoreDamaged, match="schema"):
        InlineDatabase(path)


@pytest.mark.parametrize("content", [b"", b"SQLite", b"\0" * 4096, b"PK\x03\x04" + bytes(5000)])
def test_a_file_that_holds_nothing_is_no_new_store(content: bytes, path: Path) -> None:
    """An emptied, cut or foreign file is named as damaged; nobody begins a new life in it."""
    path.write_bytes(content)
    with pytest.raises(StoreDamaged):
        checking.check_file(path)


def test_a_whole_file_passes_and_a_missing_one_is_the_folders_fault(path: Path, tmp_path: Path) -> None:
    """Only what is there can be damaged."""
    checking.check_file(path)
    checking.check_library()
    with pytest.raises(StoreError, match="cannot be read") as caught:
        checking.check_file(tmp_path / "none.sqlite3")
    assert not isinstance(caught.value, StoreDamaged)


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without STRICT tables a store would take what it must not."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StoreError, match="too old"):
        checking.check_library()
