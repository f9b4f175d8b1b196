"""The power fails: what was called saved, or receipted, is there afterwards, and nothing half of it (S04, S05).

A node, or a hub, works once on a disk that notes every write and sync. Then the power is cut at hundreds of moments, with the
writes that no sync covered lost, torn or kept, and the product opens what is left.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.app import Hub
from node import setup
from node.inspection import verify
from node.node import Node
from node.store import logs
from node.store.database import InlineDatabase
from tests.faults.disk import Disk, content_of, lay
from tests.hub.calling import CERTIFICATE, Caller
from tests.node.building import EAST, ask, brought_to, enrol, found, furnish, hire, opened

CUTS = 220
SMALL_WAL = "PRAGMA wal_autocheckpoint = 60;"  # so that cuts also fall into checkpoints
NORMAL = SMALL_WAL + "PRAGMA synchronous = NORMAL;"

Acked = list[tuple[int, bytes]]  # the moment of the acknowledgement, and the header bytes that it stands for


@dataclass
class Worked:
    """A history on a disk. base: the files when it began."""

    disk: Disk
    path: Path
    base: dict[str, bytes]
    acked: Acked
    node: Node


async def move_to(disk: Disk, node: Node, path: Path) -> tuple[Node, dict[str, bytes]]:
    """Close a node's store and open it again on a disk; returns the files as they were between."""
    await node.close()
    base = content_of(path)
    store = InlineDatabase(path, disk.connect)
    return await setup.node_of(store, node.ledger.identity.key, node.clock, node.entropy), base


async def a_counter(folder: Path, settings: str) -> Worked:
    """A counter takes in and works on cases, seals, and is told after each command that it is saved."""
    disk, path = Disk(settings), folder / "city" / "tongban.sqlite3"
    node, base = await move_to(disk, await furnish(await found(folder / "city")), path)
    acked: Acked = []
    for number in range(12):
        case = await opened(node, f"王{number}")
        acked += await newest(node, disk)
        for step in ("accept", "decide", "finish")[: number % 4]:
            await brought_to(node, case, step)
            acked += await newest(node, disk)
        await node.store.own(node.ledger.seal)
    return Worked(disk, path, base, acked, node)


async def newest(node: Node, disk: Disk) -> Acked:
    raw = await node.read(lambda conn: conn.execute("SELECT raw FROM entries ORDER BY id DESC LIMIT 1").fetchone()[0])
    return [(disk.now(), raw)]


async def a_hub(folder: Path, settings: str) -> Worked:
    """A hub takes pushes of a child and answers each with its receipt: from then on it has them."""
    disk, path = Disk(settings), folder / "city" / "tongban.sqlite3"
    city = await furnish(await found(folder / "city"))
    child = await hire(await enrol(folder / "east", city, EAST))
    city, base = await move_to(disk, city, path)
    caller = Caller(child, Hub(city, CERTIFICATE))
    await caller.login()
    acked: Acked = []
    pushed = 0
    for number in range(12):
        await opened(child, f"李{number}")
        await caller.push(await caller.next_push())
        rows = await child.read(lambda conn: logs.entries_between(conn, child.ledger.own_row(conn).id, 0, 1_000))
        acked += [(disk.now(), row.raw) for row in rows[pushed:]]
        pushed = len(rows)
        await caller.node.write(lambda conn, _, pushed=pushed: logs.save_ack(conn, child.ledger.own_row(conn).id, pushed))
    return Worked(disk, path, base, acked, city)


async def lost(worked: Worked, folder: Path, cuts: int, seed: int) -> int:
    """Cut the power at random moments; return in how many images something acknowledged is missing. What is left must be whole."""
    chance, missing = random.Random(seed), 0
    for cut in range(cuts):
        moment = chance.randrange(1, worked.disk.now() + 1)
        path = lay(folder / str(cut), worked.disk.image(worked.base, moment, chance), worked.path.name)
        node = await setup.node_of(InlineDatabase(path), worked.node.ledger.identity.key, worked.node.clock, worked.node.entropy)
        held = {raw for (raw,) in await node.read(lambda conn: conn.execute("SELECT raw FROM entries").fetchall())}
        missing += any(at <= moment and raw not in held for at, raw in worked.acked)
        await node.store.own(node.ledger.seal)  # re-reads the log to its end, against its root
        if cut % 20 == 0:
            assert (await verify(node)).problems == [], f"cut {cut}"
            assert (await ask(node, "rebuild"))["different"] == 0
        await node.close()
    return missing


@pytest.mark.parametrize("work", [a_counter, a_hub])
async def test_what_was_acknowledged_survives_every_power_cut(work: Callable[[Path, str], object], tmp_path: Path) -> None:
    """Saved at a counter, receipted by a hub: there after the power came back, at whatever moment and however torn."""
    worked = await work(tmp_path, SMALL_WAL)  # type: ignore[misc]
    assert await lost(worked, tmp_path / "cuts", CUTS, seed=1) == 0
    assert worked.disk.now() > len(worked.acked) * 3
    assert any(step.kind == "sync" and not step.file.endswith("-wal") for step in worked.disk.steps), "no checkpoint was cut"


async def test_less_than_full_synchronisation_would_lose(tmp_path: Path) -> None:
    """The same cuts with synchronous=NORMAL lose what was called saved: FULL is needed, and the tester finds it."""
    worked = await a_counter(tmp_path, NORMAL)
    assert await lost(worked, tmp_path / "cuts", 60, seed=1) > 10
