"""Pushing: bounded, past what a parent refuses, back to what it holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node.store import logs
from node.store.database import Connection
from node.uplink import Uplink, pushing
from node.uplink.pushing import prepare_push
from protocol import errors, limits
from protocol.errors import GapFound, LinkError, ProofInvalid
from tests import story
from tests.node.building import CITY, EAST, opened
from tests.node.uplink.building import Wire, acked
from tests.story import D1, T1, V1, V2, Oracle
from tests.world import World


async def test_a_hub_that_lost_something_gets_it_again(pair: tuple[Uplink, Wire]) -> None:
    """A gap is answered with the size held: the child goes back there, in the same round."""
    uplink, line = pair
    await uplink.round()
    hub = line.hub.node
    uplink.node.listeners.clear()
    await uplink.node.write(lambda conn, _: logs.save_ack(conn, uplink.node.ledger.own_row(conn).id, 2))
    await hub.write(lambda conn, _: _forget(conn, EAST))
    await uplink.push_all()
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size


def _forget(conn: Connection, node: str) -> None:
    """Make a hub's log of a node empty, as if restored from before it came."""
    (log_id,) = conn.execute("SELECT id FROM logs WHERE node = ? AND size > 0", (node,)).fetchone()
    for table in ("receipts", "checkpoints", "entries"):
        conn.execute(f"DELETE FROM {table} WHERE log = ?", (log_id,))
    conn.execute("UPDATE logs SET size = 0, peaks = x'', root = x'', committed = 0 WHERE id = ?", (log_id,))


async def test_a_gap_that_is_none_is_refused(pair: tuple[Uplink, Wire]) -> None:
    """A parent cannot send a child back and forth."""
    uplink, _ = pair
    await uplink.round()
    own = uplink.node.ledger.identity.log
    with pytest.raises(ProofInvalid, match="gap"):
        await uplink.pushing.go_back(GapFound("x", size_held=99, log=own))
    with pytest.raises(GapFound):
        await uplink.pushing.go_back(GapFound("x", size_held=0))


def test_one_log_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    """What a parent will not have of one village is left out for this session; all the others go on."""
    with World(7, tmp_path) as world:
        world.run(_one_refused(world))


async def _one_refused(world: World) -> None:
    oracle = Oracle()
    await story.build(world, ((D1, CITY), (T1, D1), (V1, T1), (V2, T1)))
    from hub import intake

    honest = intake.accept_set

    def refusing(ledger: Any, conn: Connection, batch: Any, change: Any) -> Any:
        found = honest(ledger, conn, batch, change)
        if found.row.log.node == V1 and ledger.identity.node == D1:
            raise ProofInvalid("not this one")
        return found

    intake.accept_set = refusing
    try:
        await story.spot(world, oracle, V1, "a")
        await story.spot(world, oracle, V2, "b")
        await asyncio.sleep(60.0)
        held = await world.places[CITY].node.read(lambda conn: {row.log.node: row.size for row in logs.load_logs(conn)})
    finally:
        intake.accept_set = honest
    assert held[V2] == 7
    assert held.get(V1, 0) <= 2
    await world.restart_session(T1)
    await world.settle()
    await story.judge(world, oracle)


async def test_a_push_that_cannot_be_prepared_leaves_no_task_behind(pair: tuple[Uplink, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    """While one message is on its way the next is made; when that fails, the first is ended with it."""
    uplink, _line = pair
    for number in range(40):
        await opened(uplink.node, f"甲{number}")
    uplink.pushing._room = 1
    made = 0
    honest = prepare_push

    def failing(*args: Any) -> Any:
        nonlocal made
        made += 1
        if made > 1:
            raise errors.StoreError("the disk fails")
        return honest(*args)

    for _ in range(3):
        await opened(uplink.node)
        await uplink.node.store.own(uplink.node.ledger.seal)
    monkeypatch.setattr(pushing, "prepare_push", failing)
    before = asyncio.all_tasks()
    with pytest.raises(errors.StoreError):
        await uplink.push_all()
    assert asyncio.all_tasks() == before


async def test_a_push_is_bounded_and_says_that_more_follows(pair: tuple[Uplink, Wire]) -> None:
    """However much is pending, each message fits, and all of it goes."""
    uplink, line = pair
    for number in range(30):
        await opened(uplink.node, f"甲{number}", field={f"q{n}": "字" * 3_900 for n in range(4)})
    first = await uplink.node.store.own(lambda conn: prepare_push(uplink.node.ledger, conn, {}))
    assert first is not None
    assert first.more
    await uplink.round()
    assert line.carried.count("push") > 1
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size
    assert limits.PUSH_LOGS_MAX * 100 < limits.BODY_BYTES_MAX  # a receipt can name each


async def test_a_push_is_as_large_as_the_hub_says(pair: tuple[Uplink, Wire]) -> None:
    """One log's backlog fills the room that the hub gives; of several logs no more than usual goes at once."""
    uplink, _line = pair
    for number in range(120):
        await opened(uplink.node, f"甲{number}", field={"q": "字" * 3_900})
    usual, large = [
        await uplink.node.store.own(lambda conn, room=room: prepare_push(uplink.node.ledger, conn, {}, bytes_max=room))
        for room in (0, pushing.PUSH_BYTES_MAX)
    ]
    assert usual is not None
    assert large is not None
    assert 2 * usual.entries < large.entries <= 125


async def test_what_a_line_loses_is_sent_in_smaller_pieces(pair: tuple[Uplink, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that breaks under a large push gets half as much each time, and more again once it holds; a busy hub changes nothing."""
    uplink, line = pair
    sizes, limit = [], 3_000
    for number in range(60):
        await opened(uplink.node, f"甲{number}")
        await uplink.node.write(lambda conn, _: uplink.node.ledger.save_seals(conn))
        await uplink.node.store.own(uplink.node.ledger.seal)
    monkeypatch.setattr(pushing, "PUSH_BYTES_MIN", 1_000)
    honest = line.request

    async def breaking(address: str, path: str, body: bytes, **told: Any) -> Any:
        if path.endswith("push"):
            sizes.append(len(body))
            if len(body) > limit:
                raise LinkError("the line broke")
        return await honest(address, path, body, **told)

    line.request = breaking  # type: ignore[method-assign]
    for _ in range(12):
        try:
            await uplink.round()
            break
        except LinkError as exc:
            uplink.drop(exc)
    assert uplink.progress.acked == await uplink.node.read(lambda conn: uplink.node.ledger.own_row(conn).size)
    assert sizes[0] > limit
    lost = [size for size in sizes if size > limit]
    assert len(lost) < 12
    assert uplink.pushing._passes > 1_000
