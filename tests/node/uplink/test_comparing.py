"""Comparing copies: where histories part, both are kept, and everybody else goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests import story
from tests.hub.calling import Caller
from tests.node.building import CITY
from tests.story import D1, T1, V1, V2, Oracle
from tests.world import World


def test_a_parent_that_holds_another_history_of_a_village_gets_ours_too(tmp_path: Path) -> None:
    """A village that shows two histories to two hubs bricks neither: both keep both, and everybody else goes on."""
    with World(8, tmp_path) as world:
        world.run(_two_histories(world))


async def _two_histories(world: World) -> None:
    oracle = Oracle()
    await story.build(world, ((D1, CITY), (T1, D1), (V1, T1), (V2, T1)))
    await world.stop(V1)
    world.back_up(V1)
    world.cut(T1, D1)
    await world.start(V1)
    await story.spot(world, oracle, V1, "a")  # told to the township only
    await asyncio.sleep(20.0)
    await world.stop(V1)
    world.restore(V1)
    world.cut(V1, T1)
    await world.start(V1)
    await story.spot(world, Oracle(), V1, "b")
    liar = Caller(world.places[V1].node, world.places[D1].hub)  # and another story, to the district
    await liar.login()
    await liar.push()
    await world.stop(V1)
    world.heal()
    await story.spot(world, oracle, V2, "c")
    await asyncio.sleep(200.0)
    assert world.problems == []
    for name in (CITY, D1):
        node = world.places[name].node
        held = set(await node.read(story._raws))
        assert [raw for raw in oracle.saved if raw not in held] == [], name
        assert (await story.ask(world.places[name], "verify"))["found"] >= (1 if name == D1 else 0)
