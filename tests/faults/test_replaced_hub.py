"""A hub is replaced in the middle of its children's work, by a new machine with a new key and an empty disk (A08, H07)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests import story
from tests.story import Oracle
from tests.world import Weather, World

TREE = tuple(pair for pair in story.TREE if pair[0] not in {story.V3, story.T2})


async def replaced(world: World, oracle: Oracle) -> None:
    """Villages work on, on a line that loses answers, while their township is taken away for good and another machine is enrolled in its place."""
    await story.build(world, TREE)
    await story.cross(world, oracle, story.V2, "before")
    world.weather = Weather(0.1, 0.2, 0.1, 0.1, (0.001, 0.5))
    work = [asyncio.create_task(story.cross(world, oracle, story.V1, f"c{n}")) for n in range(3)]
    await asyncio.sleep(world.random.uniform(2.0, 60.0))
    await world.stop(story.T1)
    await story.spot(world, oracle, story.V1, "alone")
    await world.rebuild(story.T1)
    world.calm()
    await asyncio.wait_for(asyncio.gather(*work), 36_000)
    await world.settle(rounds=120)


@pytest.mark.parametrize("seed", range(3))
def test_children_go_on_with_a_hub_that_has_a_new_key_and_an_empty_disk(seed: int, tmp_path: Path) -> None:
    """What the old one had receipted and what it had not is at the city once; everybody follows the new key by himself."""
    oracle = Oracle()
    with World(seed, tmp_path) as world:
        world.run(replaced(world, oracle))
        world.run(story.judge(world, oracle))
        world.run(story.check_stories(world, oracle))
        new = world.places[story.T1].node.ledger.identity.key.public
        assert {place.node.rules.record(story.T1).key for place in world} == {new}  # type: ignore[union-attr]
