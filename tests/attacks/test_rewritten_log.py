"""H10: a hub rewrites what it has stated: its children's copies and the hub above have the other half of the proof."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import setup
from node.acceptance import accept_bundles
from node.ledger import Changes, Draft
from node.node import Node
from node.projection import Batch
from node.store import logs
from node.store.database import Connection
from node.uplink.pushing import prepare_push
from protocol import evidence, messages
from protocol.log import Bundle
from tests import story
from tests.hub.test_witness import build, listed
from tests.story import CITY, D1, T1, V1
from tests.world import World

BACK_MS = 30 * 24 * 3_600_000
LIAR = "liar"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(9, tmp_path) as made:
        yield made


async def rewritten(world: World) -> Node:
    """Return the township's store as it was before it receipted a case, with the same receipts a month earlier instead."""
    await world.stop(T1)
    world.back_up(T1)
    await world.start(T1)
    await story.spot(world, story.Oracle(), V1, "receipted")
    await world.settle()
    place = world.places[T1]
    store = world.disk(place.folder / "backup")
    node = await setup.node_of(store, place.key, place.clock, place.entropy)

    def backdate(conn: Connection, changes: Changes) -> None:
        for _ in range(5):
            at = place.clock.wall_ms() - BACK_MS
            node.ledger.append(conn, [Draft("receipt", at, {"at": at}, {"of": []})], changes)

    await node.write(backdate)
    return node


def test_the_hub_above_keeps_both_and_proves_it(world: World) -> None:
    """It is pushed by somebody with the township's key: what was first stays, the other is a branch, and the file convinces."""

    async def tell() -> None:
        await build(world)
        liar = await rewritten(world)
        district = world.places[D1]
        before = await head(district.node)
        assert await listed(district) == []
        push = await liar.store.own(lambda conn: prepare_push(liar.ledger, conn, {}))
        assert push is not None
        line = world.places[T1].uplink.line  # type: ignore[union-attr]
        session = await line.login(D1, f"{D1}:1")
        await line.ask_at(session, "push", push.body, messages.PushReply)
        await liar.close()
        assert await head(district.node) == before
        (row,) = await listed(district)
        made = await story.ask(district, "evidence.export", number=row["number"])
        assert evidence.verify(made["data"].encode()).node == T1

    world.run(tell())


async def head(node: Node) -> tuple[int, bytes]:
    """Return size and root of the township's log, as a node holds it."""

    def read(conn: Connection) -> tuple[int, bytes]:
        (row,) = [one for one in logs.logs_of(conn, [T1]) if not one.branch]
        return row.size, row.root

    return await node.read(read)


def test_a_child_that_is_given_a_rewritten_receipt_keeps_both(world: World) -> None:
    """Under the index of the receipt that it holds comes another: nothing is replaced, and the child can prove it."""

    async def tell() -> None:
        await build(world)
        liar = await rewritten(world)
        village = world.places[V1].node
        size = await liar.read(lambda conn: liar.ledger.own_row(conn).size)
        first = await receipts(village)
        bundles = await liar.store.own(lambda conn: [liar.ledger.bundle_own(conn, index) for index in range(size - 5, size)])
        await village.write(lambda conn, changes: take(village, conn, changes, bundles))
        await liar.close()
        assert await receipts(village) == first
        rows = await listed(world.places[V1])
        assert {row["node"] for row in rows} == {T1}
        made = await story.ask(world.places[V1], "evidence.export", number=rows[0]["number"])
        assert evidence.verify(made["data"].encode()).node == T1
        assert await listed(world.places[CITY]) == []

    world.run(tell())


def take(node: Node, conn: Connection, changes: Changes, bundles: list[Bundle]) -> None:
    batch = Batch(conn, node.ledger.rules, node.ledger.judge)
    accept_bundles(node.ledger, conn, batch, bundles)
    node.ledger.finish(conn, batch, changes)


async def receipts(node: Node) -> list[Any]:
    return await node.read(lambda conn: conn.execute("SELECT * FROM receipts ORDER BY log, hub, size").fetchall())
