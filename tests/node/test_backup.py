"""A backup is one state of the store, whole, checked, and says what it is; under load a clerk's save does not wait for it."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
from pathlib import Path

import pytest

from node import backup, faults, metrics, setup
from node.backup import back_up
from node.cli.answers import in_words
from node.node import Node
from node.store.database import Connection, Database
from node.system import SystemClock
from protocol.errors import InputError, StoreDamaged, StoreError
from tests.node.building import CITY, DAY_MS, SeededEntropy, ask, found, furnish, opened


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A furnished root."""
    return await furnish(await found(tmp_path / "city"))


async def test_a_backup_is_a_whole_store_that_says_what_it_is(city: Node, tmp_path: Path) -> None:
    """One file, without a WAL: node, incarnation, network, head and time; its log verified again; readable by any SQLite."""
    await opened(city)
    (tmp_path / "safe").mkdir()
    done = await backup.back_up(city, tmp_path / "safe", config=b"# settings")
    path = Path(done["file"])
    assert [file.name for file in (tmp_path / "safe").iterdir()] == [path.name]
    read = backup.read(path)
    row = await city.read(city.ledger.own_row)
    identity = city.ledger.identity
    assert (read.head.node, read.head.incarnation, read.head.network) == (CITY, identity.incarnation, identity.network)
    assert (read.head.size, read.head.root, read.at) == (row.size, row.root, city.clock.wall_ms())
    assert (read.config, read.keys, done["with_key"]) == (b"# settings", None, False)
    with sqlite3.connect(path) as conn:
        assert conn.execute("SELECT count(*) FROM cases").fetchone() == (1,)
    conn.close()


async def test_the_last_backup_is_remembered(city: Node, tmp_path: Path) -> None:
    """Whoever looks after the machine sees how old the last backup is: in status and in the numbers."""
    assert (await ask(city, "status"))["backup_age_s"] is None
    assert "最近一次备份：从未" in in_words("status", await ask(city, "status"), "zh")
    made_s = city.clock.wall_ms() / 1_000
    await back_up(city, tmp_path / "a.backup")
    city.clock.at_ms += 3 * DAY_MS  # type: ignore[attr-defined] # the virtual clock
    shown = await ask(city, "status")
    assert shown["backup_age_s"] == 3 * 86_400
    assert "最近一次备份：3 天前" in in_words("status", shown, "zh")
    text = await city.read(lambda conn: metrics.render(metrics.of_store(city, conn)))
    assert f"tongban_backup_timestamp_seconds {made_s!r}\n" in text


async def test_a_backup_overwrites_nothing_and_needs_its_folder(city: Node, tmp_path: Path) -> None:
    """A file that is there stays; a folder that is not there is not invented."""
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(InputError, match="there already"):
        await backup.back_up(city, tmp_path / "old")
    with pytest.raises(InputError, match="no such folder"):
        await backup.back_up(city, tmp_path / "none" / "a.backup")
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("label", ["backup.copied", "backup.drafted"])
async def test_a_backup_that_fails_leaves_no_file(label: str, city: Node, tmp_path: Path) -> None:
    """There is a whole, checked backup under the name, or none."""
    trap = faults.parse_trap(f"{label}:1:raise")
    with faults.hooked(trap), pytest.raises(StoreError):
        await backup.back_up(city, tmp_path / "a.backup")
    assert not lying(tmp_path, "a.backup*")
    assert (await backup.back_up(city, tmp_path / "a.backup"))["size"] > 0


async def test_a_changed_backup_is_refused(city: Node, tmp_path: Path) -> None:
    """Cut, flipped in what was signed, marked as another, or no backup at all: named before anything is done with it."""
    path = tmp_path / "a.backup"
    await backup.back_up(city, path)
    data = path.read_bytes()
    raw = await city.read(lambda conn: conn.execute("SELECT raw FROM entries WHERE id = 2").fetchone()[0])
    place = data.index(raw) + len(raw) // 2
    for changed in (data[: len(data) // 2], b"", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]):
        path.write_bytes(changed)
        with pytest.raises(StoreDamaged):
            backup.read(path)
    path.write_bytes(data)
    for statement, kind in (
        ("UPDATE logs SET size = size - 1 WHERE id = 1", StoreError),
        ("UPDATE meta SET value = x'00' WHERE name = 'backup'", StoreDamaged),
        ("DELETE FROM meta WHERE name = 'backup'", InputError),
    ):
        path.write_bytes(data)
        with sqlite3.connect(path) as conn:
            conn.execute(statement)
        conn.close()
        with pytest.raises((kind, StoreDamaged)):
            backup.read(path)


async def test_a_backup_under_load_is_one_state_and_nobody_waits(tmp_path: Path) -> None:
    """While cases are taken in, the backup gets done; it is one state of the log; saves stay below 50 ms."""
    node = await furnish(await found(tmp_path / "city"))
    await node.write(_fill)
    await node.close()
    store = await Database.open(tmp_path / "city" / "tongban.sqlite3")
    node = await setup.node_of(store, node.ledger.identity.key, SystemClock(), SeededEntropy(5))
    clock, spans, saved = node.clock, [], 0
    copying = asyncio.ensure_future(backup.back_up(node, tmp_path / "a.backup"))
    while not copying.done():
        begun_s = clock.monotonic_s()
        await opened(node, f"王{saved}")
        spans.append(clock.monotonic_s() - begun_s)
        saved += 1
    done = await copying
    await node.close()
    read = backup.read(tmp_path / "a.backup")
    assert done["size"] == read.head.size
    assert saved > 20
    assert statistics.median(spans) < 0.025
    assert sorted(spans)[int(len(spans) * 0.9)] < 0.050  # this machine may have other work meanwhile


def lying(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def _fill(conn: Connection, _changes: object) -> None:
    conn.executemany("INSERT INTO sources (source, entry) VALUES (?, 1)", [(f"{number:0200d}",) for number in range(60_000)])


def test_keys_open_with_their_passphrase_only() -> None:
    """Sealed under a passphrase: another one, a changed byte, a short one are refused, and the key does not stand in the bytes."""
    seeds = {"signing": bytes(range(32)), "sealing": bytes(range(32, 64))}
    sealed = backup.seal_keys(seeds, "twelve chars or more", bytes(48))
    assert seeds["signing"] not in sealed
    assert backup.open_keys(sealed, "twelve chars or more") == seeds
    for wrong, phrase in ((sealed, "twelve chars or mora"), (sealed[:-1] + b"\0", "twelve chars or more"), (b"", "x")):
        with pytest.raises(InputError, match="do not open"):
            backup.open_keys(wrong, phrase)
    with pytest.raises(InputError, match="12 characters"):
        backup.seal_keys(seeds, "short", bytes(48))


async def test_the_sealed_keys_travel_in_the_backup(city: Node, tmp_path: Path) -> None:
    """Only when they were given."""
    await backup.back_up(city, tmp_path / "a.backup", sealed=b"sealed keys")
    assert backup.read(tmp_path / "a.backup").keys == b"sealed keys"
    assert (await ask(city, "verify"))["problems"] == []
