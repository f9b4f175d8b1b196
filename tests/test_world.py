"""The demo's story in a world of ten machines: faults of every kind, then rest; and the oracle's judgement from outside.

A failure names its seed. More seeds: `TONGBAN_SEEDS=200 pytest tests/test_world.py` (or `100:200` for a range).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests import story
from tests.story import Oracle
from tests.world import Weather, World

SEEDS = 10
BUILDING = ("joining.", "enrolment.", "setup.", "registrar.", "uplink.chain")  # passed while the network is built


def seeds() -> list[int]:
    """Return the seeds to run: ten, or as the environment says."""
    first, _, last = os.environ.get("TONGBAN_SEEDS", str(SEEDS)).rpartition(":")
    return list(range(int(first or 0), int(last)))


async def troubled(world: World, oracle: Oracle) -> None:
    """Let the clerks work through loss, repetition, reordering, cuts and crashes; then calm, and come to rest."""
    draw = world.random
    labels = sorted(story.reachable_labels())
    world.traps = {label: draw.randint(1, 3) for label in labels if label.startswith(BUILDING)}
    await story.build(world)
    world.weather = Weather(
        draw.choice([0.0, 0.1, 0.3]), draw.choice([0.0, 0.2]), draw.choice([0.0, 0.3]), draw.choice([0.0, 0.5]), (0.001, draw.choice([0.05, 4.0]))
    )
    world.traps = {label: draw.randint(1, 12) for label in labels if not label.startswith(BUILDING)}
    world.crash_share = draw.choice([0.0, 0.0005])
    work = [
        *(asyncio.create_task(story.cross(world, oracle, village, f"c{n}")) for n, village in enumerate((story.V1, story.V3))),
        *(asyncio.create_task(story.spot(world, oracle, village, f"s{n}")) for n, village in enumerate((story.V1, story.V2, story.V3))),
    ]
    for _ in range(8):
        await asyncio.sleep(draw.uniform(20.0, 200.0))
        world.heal()
        for name, parent in story.TREE:
            if world.chance(0.2):
                world.cut(name, parent)
            elif world.chance(0.1):
                world.one_way.add((parent, name))
    world.calm()
    await asyncio.wait_for(asyncio.gather(*work), 3_600)
    for place in world:
        await world.start(place.id)
    await world.settle(rounds=120)


@pytest.mark.parametrize("seed", seeds())
def test_the_network_recovers_from_everything(tmp_path: Path, seed: int) -> None:
    """After any mixture of faults nothing saved is lost, and all machines agree."""
    oracle = Oracle()
    with World(seed, tmp_path) as world:
        world.run(troubled(world, oracle))
        world.run(story.judge(world, oracle))
        world.run(story.check_stories(world, oracle))


def test_a_seed_repeats_exactly(tmp_path: Path) -> None:
    """The same seed gives the same crashes, the same entries and the same end, byte for byte: a failure can be looked at again."""

    def told(folder: Path) -> tuple[object, ...]:
        with World(3, folder) as world:
            world.run(troubled(world, Oracle()))
            held = world.run(world.places[story.CITY].node.read(story._raws))
            return world.loop.time(), world.crashed_at, world.points, held

    assert told(tmp_path / "one") == told(tmp_path / "two")


def test_every_fault_point_is_crashed_at(tmp_path: Path) -> None:
    """No durable step is left out: among a few seeds each label that a network passes ends a process at least once."""
    left = story.reachable_labels()
    for seed in range(40, 52):
        with World(seed, tmp_path / str(seed)) as world:
            world.run(troubled(world, Oracle()))
            left -= world.crashed_at.keys()
        if not left:
            return
    assert left == set()


def test_the_oracle_finds_what_is_lost(tmp_path: Path) -> None:
    """The tester is tested: an entry that is missing at the city, an acknowledgement too many, a case in the wrong place."""

    async def tell(world: World) -> None:
        oracle = Oracle()
        await story.build(world, ((story.D1, story.CITY), (story.V1, story.D1)))
        await story.spot(world, oracle, story.V1, "a")
        await world.settle()
        await story.judge(world, oracle)
        oracle.saved.append(b"said to be saved")
        with pytest.raises(AssertionError, match="exactly once"):
            await story.judge(world, oracle)
        oracle.saved.pop()
        village = world.places[story.V1].node
        await village.write(lambda conn, _: conn.execute("UPDATE acks SET size = size + 1"))
        with pytest.raises(AssertionError, match="acknowledged beyond"):
            await story.judge(world, oracle)
        await village.write(lambda conn, _: conn.execute("UPDATE acks SET size = size - 1"))
        await village.write(lambda conn, _: conn.execute("UPDATE cases SET state = 'decided'"))
        with pytest.raises(AssertionError):
            await story.judge(world, oracle)

    with World(1, tmp_path) as world:
        world.run(tell(world))
