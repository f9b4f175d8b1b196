"""A newer program keeps the way back: a copy before the schema step, for the older one to go on with."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from node import backup, faults
from node.folder import Folder
from node.store import database, upgrading
from node.store.database import Connection, InlineDatabase
from node.store.upgrading import copy_path
from protocol.errors import StoreError, StoreFull
from tests import shell
from tests.node.building import CITY

OLD = database.SCHEMA
LAST = len(list(OLD.glob("[0-9][0-9][0-9].sql")))
STEP = "BEGIN IMMEDIATE;\nCREATE TABLE newer (id INTEGER PRIMARY KEY) STRICT;\nPRAGMA user_version = {number};\nCOMMIT;\n"


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The schema of a program that is one step further."""
    folder = tmp_path / "schema"
    shutil.copytree(OLD, folder)
    (folder / f"{LAST + 1:03}.sql").write_text(STEP.format(number=LAST + 1), encoding="utf-8")
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "node").mkdir()
    return tmp_path / "node" / "tongban.sqlite3"


def program(schema: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the program is the one with this schema: all that tells two versions apart."""
    monkeypatch.setattr(database, "SCHEMA", schema)


def put(conn: Connection, name: str) -> None:
    conn.execute("INSERT INTO meta (name, value) VALUES (?, x'00')", (name,))


def names(conn: Connection) -> list[str]:
    return [name for (name,) in conn.execute("SELECT name FROM meta ORDER BY name")]


def in_file(path: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute("PRAGMA user_version").fetchone()[0], names(conn)


def content(path: Path) -> bytes:
    return path.read_bytes()


async def test_the_way_there_and_back(path: Path, newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upgrade keeps a copy; the older program refuses the newer file and changes nothing, and works on the copy; then there again."""
    old = InlineDatabase(path)
    await old.write(lambda conn: put(conn, "a"))  # still in the WAL when the machine stops
    program(newer, monkeypatch)
    new = InlineDatabase(path)
    await new.write(lambda conn: put(conn, "b"))
    await new.close()
    await old.close()
    assert in_file(copy_path(path, LAST)) == (LAST, ["a"])
    assert in_file(path) == (LAST + 1, ["a", "b"])
    assert not copy_path(path, LAST).with_name(copy_path(path, LAST).name + "-wal").exists()

    program(OLD, monkeypatch)
    before = content(path)
    with pytest.raises(StoreError, match=f"schema {LAST + 1}, this program knows {LAST}"):
        InlineDatabase(path)
    assert content(path) == before
    copy_path(path, LAST).replace(path)
    old = InlineDatabase(path)
    await old.write(lambda conn: put(conn, "c"))
    await old.close()

    program(newer, monkeypatch)
    await InlineDatabase(path).close()
    assert in_file(path) == (LAST + 1, ["a", "c"])
    assert in_file(copy_path(path, LAST)) == (LAST, ["a", "c"])


def test_the_older_program_restores_the_copy(tmp_path: Path, newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is a backup: the older program puts it in the newer store's place with `restore`, and goes on in a new incarnation."""
    folder = Folder(tmp_path / "city")
    assert shell.give("init", "--division", CITY, "--name", "乌鲁木齐市", data=folder.root).code == 0
    assert shell.give("officer", "add", "1001", "--name", "张三", data=folder.root).code == 0
    first = shell.give("--json", "status", data=folder.root).value
    program(newer, monkeypatch)
    assert shell.give("officer", "add", "1002", "--name", "李四", data=folder.root).code == 0
    program(OLD, monkeypatch)
    assert "schema" in shell.give("--json", "status", data=folder.root).error["message"]
    kept = copy_path(folder.store, LAST)
    found = backup.read(kept)
    assert (found.head.node, found.head.size) == (CITY, first["log_size"])
    done = shell.give("--json", "restore", str(kept), "--replace", data=folder.root)
    assert (done.code, done.value["kept_aside"] is not None) == (0, True)
    assert [row["officer"] for row in shell.give("--json", "officer", "list", data=folder.root).rows] == ["1001"]
    assert shell.give("officer", "add", "1003", "--name", "王五", data=folder.root).code == 0
    last = shell.give("--json", "status", data=folder.root).value
    assert last["incarnation"] != first["incarnation"]
    assert shell.give("--json", "verify", data=folder.root).value["problems"] == []


async def test_a_copy_of_an_earlier_upgrade_gives_way(path: Path, newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever went back by another road finds the newest state in the copy, not that of years ago."""
    await InlineDatabase(path).close()
    copy_path(path, LAST).write_bytes(b"of long ago")
    program(newer, monkeypatch)
    await InlineDatabase(path).close()
    assert in_file(copy_path(path, LAST)) == (LAST, [])


async def test_a_crash_at_the_step_leaves_store_and_copy(path: Path, newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between copy and step: the store is as it was, the copy is whole, and the next start goes on."""
    store = InlineDatabase(path)
    await store.write(lambda conn: put(conn, "a"))
    await store.close()
    program(newer, monkeypatch)

    def die(label: str) -> None:
        if label == "store.migrate":
            raise faults.Crash(label)

    with faults.hooked(die), pytest.raises(faults.Crash):
        InlineDatabase(path)
    assert in_file(path) == in_file(copy_path(path, LAST)) == (LAST, ["a"])
    copy_path(path, LAST).with_name(f"{copy_path(path, LAST).name}.new").write_bytes(b"a draft that a crash left")
    await InlineDatabase(path).close()
    assert in_file(path) == (LAST + 1, ["a"])
    assert not [file.name for file in path.parent.iterdir() if file.name.endswith(".new")]


async def test_no_copy_where_nothing_is_left_behind(path: Path) -> None:
    """A new store, and one of the newest schema, have no older state."""
    await InlineDatabase(path).close()
    await InlineDatabase(path).close()
    assert not [file.name for file in path.parent.iterdir() if ".schema-" in file.name]


def test_without_room_nothing_is_changed(path: Path) -> None:
    """The copy is not optional: the user hears how much room it needs, and the older program still works."""
    conn = database.connect(str(path), False)
    database.migrate(conn)
    with pytest.raises(StoreFull, match="first keep a copy") as caught:
        upgrading.keep_copy(conn, LAST, lambda _: upgrading.SPARE_BYTES)
    assert (caught.value.exit_code, caught.value.data_safe) == (3, True)
    assert not copy_path(path, LAST).exists()
    upgrading.keep_copy(conn, LAST, lambda _: 1 << 40)
    conn.close()
    assert in_file(copy_path(path, LAST))[0] == LAST
    if os.name != "nt":
        assert copy_path(path, LAST).stat().st_mode & 0o777 == 0o600
