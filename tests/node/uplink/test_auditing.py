"""The daily look past the parent: it disturbs nothing, and says what the hub above the parent holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import audit
from protocol.errors import LinkError
from tests.hub.test_witness import TREE, build
from tests.story import CITY, D1, T1, V1
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(7, tmp_path) as made:
        yield made


def auditing(world: World, name: str) -> Any:
    uplink = world.places[name].uplink
    assert uplink is not None
    return uplink.auditing


def test_a_look_finds_what_the_hub_above_holds(world: World) -> None:
    """The session with the parent stands; the head that was shown is kept, for the status."""

    async def tell() -> None:
        await build(world)
        village = world.places[V1]
        session = village.uplink.line.session  # type: ignore[union-attr]
        await auditing(world, V1).look()
        assert village.uplink.line.session is session  # type: ignore[union-attr]
        own = village.node.ledger.identity.log
        size = await village.node.read(lambda conn: village.node.ledger.own_row(conn).size)
        assert await village.node.read(lambda conn: audit._asked(conn, own)) == size
        assert TREE[0][0] == D1

    world.run(tell())


def test_a_hub_that_cannot_be_reached_stops_nothing(world: World) -> None:
    """The look fails by itself; when it is due, the failure is written down and the uplink goes on."""

    async def tell() -> None:
        await build(world)
        world.cut(V1, D1)
        one = auditing(world, V1)
        with pytest.raises(LinkError):
            await one.look()
        one._last_s -= 2 * 24 * 3_600.0
        await one.look_if_due()
        await asyncio.sleep(60.0)
        assert world.places[V1].uplink.connected  # type: ignore[union-attr]
        assert world.problems == []

    world.run(tell())


def test_a_child_of_the_root_visits_nobody(world: World) -> None:
    """There is no hub above its parent."""

    async def tell() -> None:
        await build(world)
        await auditing(world, D1).look()
        assert auditing(world, D1).line.addresses_above() == []
        assert [hub for hub, _ in auditing(world, T1).line.addresses_above()] == [CITY]

    world.run(tell())
