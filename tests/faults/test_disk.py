"""The disk fails, fills up, loses a file or gets a foreign one: nothing acknowledged is lost, nothing wrong is believed (S06-S09, S12, S15)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.app import FULL_S, Hub
from node import setup
from node.ballast import MIB, Room, Sizes
from node.folder import Folder
from node.inspection import verify
from node.node import Node
from node.store.database import Database, InlineDatabase, Store
from protocol import messages
from protocol.errors import DiskFailed, StoreDamaged, StoreError, StoreFull
from tests.faults.disk import Disk, content_of, lay, wal_of
from tests.faults.test_power import move_to
from tests.hub.calling import CERTIFICATE, Caller, count
from tests.node.building import EAST, SeededEntropy, VirtualClock, enrol, found, furnish, hire, opened, store_in

WAL, MAIN = "tongban.sqlite3-wal", "tongban.sqlite3"


@pytest.fixture(params=["inline", "threads"])
async def city(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Node, Disk]]:
    """A furnished root on a disk of ours, in both kinds of store."""
    disk = Disk()
    node = await furnish(await found(tmp_path))
    await node.close()
    path = tmp_path / MAIN
    store: Store = InlineDatabase(path, disk.connect) if request.param == "inline" else await Database.open(path, disk.connect)
    yield await setup.node_of(store, node.ledger.identity.key, node.clock, node.entropy), disk
    disk.heal()
    await store.close()


async def test_a_failed_sync_is_never_trusted_again(city: tuple[Node, Disk], tmp_path: Path) -> None:
    """A commit whose fsync failed is not acknowledged; before the next one everything is written anew to the main file, and synced."""
    node, disk = city
    await opened(node, "王一")
    before = await count(node, "entries")
    failures = iter([True])
    disk.fail_sync = lambda name: name == WAL and next(failures, False)
    with pytest.raises(DiskFailed) as caught:
        await opened(node, "王二")
    assert caught.value.data_safe
    assert await count(node, "entries") == before, "what was refused is not shown"
    moment = disk.now()
    await opened(node, "王三")
    done = [(step.file, step.kind) for step in disk.steps[moment:]]
    assert done.index((MAIN, "sync")) < done.index((WAL, "write"))
    assert await count(node, "entries") == before + 1
    assert (await verify(node)).problems == []


async def test_while_syncs_fail_nothing_is_acknowledged_and_reading_goes_on(city: tuple[Node, Disk]) -> None:
    """However often it is tried: no save without a sync; when the disk is well again the node goes on by itself."""
    node, disk = city
    before = await count(node, "entries")
    disk.fail_sync = lambda _name: True
    for _ in range(3):
        with pytest.raises(DiskFailed):
            await opened(node)
        assert await count(node, "entries") == before
    disk.fail_sync = lambda _name: False
    await opened(node)
    assert await count(node, "entries") == before + 1
    await node.store.own(node.ledger.seal)


async def test_what_was_acknowledged_around_a_failed_sync_survives_a_power_cut(tmp_path: Path) -> None:
    """Pages that the system dropped after the failure are written again, so that power cuts find all that was acknowledged."""
    disk, path = Disk(), tmp_path / "city" / MAIN
    node, base = await move_to(disk, await furnish(await found(tmp_path / "city")), path)
    failures = iter([False, False, True])
    disk.fail_sync = lambda name: name == WAL and next(failures, False)
    acked: list[tuple[int, bytes]] = []
    for number in range(6):
        try:
            await opened(node, f"王{number}")
        except DiskFailed:
            continue
        raw = await node.read(lambda conn: conn.execute("SELECT raw FROM entries ORDER BY id DESC LIMIT 1").fetchone()[0])
        acked.append((disk.now(), raw))
    assert len(acked) == 5
    chance = random.Random(3)
    for cut in range(60):
        moment = chance.randrange(1, disk.now() + 1)
        store = InlineDatabase(lay(tmp_path / str(cut), disk.image(base, moment, chance), MAIN))
        held = await store.read(lambda conn: {raw for (raw,) in conn.execute("SELECT raw FROM entries")})
        assert {raw for at, raw in acked if at <= moment} <= held
        await store.close()


async def test_a_full_disk_refuses_cleanly_and_work_goes_on_when_there_is_room(city: tuple[Node, Disk]) -> None:
    """At commit, and at a WAL that cannot grow: nothing half, reading works, and the same command is done when there is room."""
    node, disk = city
    await opened(node, "王一")
    before = await count(node, "entries")
    disk.room = lambda: 0
    for _ in range(3):
        with pytest.raises(StoreFull) as caught:
            await opened(node, "王二")
        assert (caught.value.exit_code, caught.value.data_safe) == (3, True)
    assert await count(node, "entries") == before
    await node.store.own(node.ledger.seal)
    disk.room = lambda: 1 << 30
    await opened(node, "王二")
    assert (await count(node, "entries"), (await verify(node)).problems) == (before + 1, [])


async def test_the_ballast_makes_room_for_what_must_be_written(tmp_path: Path) -> None:
    """A reader holds the WAL, the disk fills up: the ballast goes, new work is refused in words, receipts still have room."""
    disk, path = Disk("PRAGMA wal_autocheckpoint = 5;"), tmp_path / "city" / MAIN
    node, _ = await move_to(disk, await furnish(await found(tmp_path / "city")), path)
    node.room = Room(path, Sizes(ballast=MIB, reserve=300_000), lambda: 4 * MIB)
    node.room.look()
    used = sum(len(data) for data in content_of(path).values())
    total = used + MIB + 200_000

    def free() -> int:
        assert node.room is not None
        held = [file.stat().st_size for file in (path, wal_of(path), node.room.ballast) if file.exists()]
        return total - sum(held)

    disk.room = node.room.free = free
    reader = disk.connect(str(path), True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entries").fetchone()
    with pytest.raises(StoreFull):
        for number in range(1_000):
            await opened(node, f"王{number}")
    assert node.room.full
    assert not node.room.ballast.exists()
    with pytest.raises(StoreFull, match="no new work"):
        await opened(node)
    await node.write(lambda conn, _: conn.execute("UPDATE meta SET value = value"))  # what a receipt needs: has room
    reader.execute("ROLLBACK")
    await node.store.own(lambda conn: conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    total += 2 * MIB
    await opened(node)
    assert (await verify(node)).problems == []
    await node.close()


async def test_a_full_hub_gives_a_slot_and_children_keep_their_data(tmp_path: Path) -> None:
    """Pushes are answered 507 with Retry-After, nothing is half taken; when there is room the same pushes are receipted."""
    disk, path = Disk(), tmp_path / "city" / MAIN
    city = await furnish(await found(tmp_path / "city"))
    child = await hire(await enrol(tmp_path / "east", city, EAST))
    city, _ = await move_to(disk, city, path)
    city.room = Room(path, Sizes(ballast=MIB, reserve=0), lambda: 8 * MIB)
    caller = Caller(child, Hub(city, CERTIFICATE))
    await caller.login()
    before = await count(city, "entries")
    room = 0
    disk.room = city.room.free = lambda: room
    await opened(child)
    push = await caller.next_push()
    for _ in range(20):
        answer = await caller.send("push", push)
        assert (answer.status, answer.retry_after_s) == (507, FULL_S)
        assert messages.decode(answer.body, messages.Refusal).retryable
    assert await count(city, "entries") == before
    assert await child.store.own(lambda conn: conn.execute("SELECT count(*) FROM acks").fetchone()) == (0,)
    room = 8 * MIB
    reply = await caller.push(push)
    assert reply.receipt is not None
    await city.close()


# --- files that go missing, or are not ours


async def a_folder(tmp_path: Path) -> tuple[Folder, Node]:
    """A node's folder with key and store; the node is at work."""
    folder = Folder(tmp_path / "node")
    folder.create()
    node = await furnish(await found(folder.root))
    seed_of = SeededEntropy(1).bytes(32)
    folder.save_seed("signing", seed_of)
    return folder, node


@pytest.mark.parametrize("kept", [0, 1, 100, 4096, 0.5, 0.9])
async def test_a_cut_file_is_named_and_no_new_life_begins(kept: float, tmp_path: Path) -> None:
    """Emptied, or cut anywhere: the error says what to do, and the same identity is not silently used again."""
    folder, node = await a_folder(tmp_path)
    await node.close()
    data = folder.store.read_bytes()
    folder.store.write_bytes(data[: int(kept if kept > 1 or kept in {0, 1} else kept * len(data))])
    with pytest.raises(StoreDamaged) as caught:
        opened_node = await setup.open_node(folder, VirtualClock(), SeededEntropy(5))
        try:
            await opened(opened_node)
        finally:
            await opened_node.close()
    assert "restore" in caught.value.hint
    assert caught.value.data_safe is False


async def test_a_missing_index_costs_nothing_and_a_missing_wal_no_whole_state(tmp_path: Path) -> None:
    """The shared index is made anew; without the WAL the store is an older whole one, as after a restore, and verifies."""
    folder, node = await a_folder(tmp_path)
    await node.store.own(lambda conn: conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    before = await count(node, "entries")
    await opened(node)
    files = content_of(folder.store)
    for missing, size in ((None, before + 1), (WAL, before)):
        lay(tmp_path / f"no{missing}", {name: data for name, data in files.items() if name != missing}, MAIN)
        again = await setup.node_of(store_in(tmp_path / f"no{missing}"), node.ledger.identity.key, node.clock, node.entropy)
        assert (await verify(again)).problems == []
        assert await count(again, "entries") == size
        await again.close()
    await node.close()


async def test_a_wal_of_another_store_is_not_believed(tmp_path: Path) -> None:
    """SQLite takes any whole WAL beside the file: a foreign one makes another node of it, and the folder's key does not fit."""
    folder, node = await a_folder(tmp_path)
    await node.close()
    base = content_of(folder.store)
    other = await furnish(await found(tmp_path / "other", seed=7))
    await opened(other)
    wal = wal_of(tmp_path / "other" / MAIN).read_bytes()
    await other.close()
    lay(folder.root, {**base, WAL: wal}, MAIN)
    with pytest.raises(StoreDamaged, match="one machine"):
        await (await setup.open_node(folder, VirtualClock(), SeededEntropy(5))).close()


async def test_an_old_wal_of_the_same_store_is_a_whole_state_or_found(tmp_path: Path) -> None:
    """Pages of another day of the same store: refused, found by verify, or a state that was once whole; nothing wrong is signed."""
    folder, node = await a_folder(tmp_path)
    await node.store.own(lambda conn: conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    await opened(node, "王一")
    old = wal_of(folder.store).read_bytes()
    for number in range(40):
        await opened(node, f"李{number}")
    await node.close()
    lay(folder.root, {WAL: old}, MAIN)
    signed = 0
    try:
        mixed = await setup.open_node(folder, VirtualClock(), SeededEntropy(5))
    except StoreError:
        return
    try:
        found_problems = (await verify(mixed)).problems
        signed = len(await mixed.store.own(mixed.ledger.seal))
    except StoreError:
        return
    finally:
        await mixed.close()
    assert found_problems == [] or signed == 0


@pytest.mark.processes
def test_a_second_process_ends_and_changes_nothing(tmp_path: Path) -> None:
    """Two programs in one folder: the second says who has it and ends with 3; no index is given twice."""
    from tests.shell import give, run, started

    data = tmp_path / "city"
    assert give("init", "--division", "650100000000", "--name", "市", "--listen", "127.0.0.1:0", data=data).code == 0
    with started("run", data=data) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        second = run("run", "--json", data=data)
        assert (second.code, second.error["code"]) == (3, "store_busy")
        assert process.poll() is None
