"""A station that has no line at all: its cases go up, are decided across districts, and come back on a stick alone.

The courier loses sticks, brings them twice and in any order; machines die at every step of packing and taking in. A failure
names its seed.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from hub import commands  # noqa: F401 - registers the operations
from protocol import carry, keys
from protocol.errors import LinkError, StoreError
from tests import sources, story
from tests.story import CITY, CIVIL, D1, D2, SOCIAL, T1, V1, Oracle
from tests.world import SeededEntropy, World

TREE = ((D1, CITY), (D2, CITY), (SOCIAL, D2), (CIVIL, D2), (V1, D1))
DEEP_TREE = ((D1, CITY), (D2, CITY), (SOCIAL, D2), (CIVIL, D2), (T1, D1), (V1, T1))
LABELS = {label for label in sources.fault_labels() if label.startswith("carry.")}


def sealing_key(world: World, name: str) -> keys.SealingKey:
    """Return a machine's sealing key: the world draws it behind signing key and certificate, the root's recovery key before it."""
    entropy = SeededEntropy((world.seed, name))
    for _ in range(3 if name == CITY else 2):
        entropy.bytes(32)
    return keys.SealingKey(entropy.bytes(32))


async def at(world: World, name: str, command: str, **params: Any) -> list[dict[str, Any]]:
    """Give a command at a machine until it is answered, however often the machine dies."""
    while True:
        place = world.places[name]
        if place.up:
            place.node.sealing = lambda _public: sealing_key(world, name)
            try:
                found: list[dict[str, Any]] = await world.at(name, story.ask(place, command, **params))
            except (LinkError, StoreError):
                pass
            else:
                return found
        await asyncio.sleep(5.0)


async def bring(world: World, name: str, parts: list[dict[str, Any]]) -> None:
    """Take a file in at a machine, two pieces a command."""
    pieces = [base64.b64decode(part["data"])[carry.LENGTH_BYTES :] for part in parts[1:]]
    for first in range(0, len(pieces), 2):
        texts = [base64.b64encode(piece).decode() for piece in pieces[first : first + 2]]
        await at(world, name, "carry.in", opening=parts[0]["data"], first=first, pieces=texts)


async def courier(world: World, ways: list[tuple[str, str]], bags: dict[tuple[str, str], list[Any]], *, calm: bool = False) -> None:
    """Go each way once, (child, parent), up and down: some files are lost, some brought again, in any order."""
    for child, parent in ways:
        for giver, taker, params in ((child, parent, {}), (parent, child, {"to": child})):
            bag = bags.setdefault((giver, taker), [])
            bag.append(await at(world, giver, "carry.out", **params))
            await asyncio.sleep(world.random.uniform(10.0, 120.0))
            for file in [bag[-1]] if calm else world.random.choices(bag, k=world.random.randint(0, 3)):
                await bring(world, taker, file)


async def told(world: World, oracle: Oracle, tree: tuple[tuple[str, str], ...] = TREE) -> None:
    """Tell the story with the station, and whoever stands between it and the district, cut off from everybody."""
    await story.build(world, tree)
    ways = [(child, parent) for child, parent in reversed(tree) if child in {V1, T1}]
    bags: dict[tuple[str, str], list[Any]] = {}
    for child, _ in ways:
        for other in {CITY, D1, T1} - {child}:
            world.cut(child, other)
    world.traps = {label: world.random.randint(1, 6) for label in sorted(LABELS)}
    work = [
        asyncio.create_task(story.cross(world, oracle, V1, "c")),
        asyncio.create_task(story.spot(world, oracle, V1, "s")),
    ]
    while not all(task.done() for task in work):
        await courier(world, ways, bags)
    for task in work:
        task.result()
    world.traps.clear()
    for _ in range(3):
        await courier(world, ways, bags, calm=True)
    await world.settle(rounds=40)
    assert world.cuts


@pytest.mark.parametrize("seed", range(3))
def test_a_station_without_a_line_takes_part_by_stick_alone(tmp_path: Path, seed: int) -> None:
    """Nothing saved is lost, all machines agree, and the station knows what is safe above, though no message ever passed."""
    oracle = Oracle()
    with World(seed, tmp_path) as world:
        world.run(told(world, oracle))
        world.run(story.judge(world, oracle))
        world.run(story.check_stories(world, oracle))
        status = world.run(story.ask(world.places[V1], "status"))
        assert (status["pending"], status["safety"]) == (0, "second")
        assert world.points.keys() >= LABELS
        assert {label for label in world.crashed_at if label in LABELS}


def test_a_township_without_a_line_carries_on_for_its_village(tmp_path: Path) -> None:
    """Two sticks in a row: what the village wrote goes up through the township, receipts and news come down through it."""
    oracle = Oracle()
    with World(5, tmp_path) as world:
        world.run(told(world, oracle, DEEP_TREE))
        world.run(story.judge(world, oracle))
        world.run(story.check_stories(world, oracle))
        status = world.run(story.ask(world.places[V1], "status"))
        assert (status["pending"], status["safety"]) == (0, "second")


def test_every_step_of_a_carried_file_is_crashed_at(tmp_path: Path) -> None:
    """No durable step is left out: among a few seeds each label ends a process at least once."""
    left = set(LABELS)
    for seed in range(10, 14):
        with World(seed, tmp_path / str(seed)) as world:
            world.run(told(world, Oracle()))
            left -= world.crashed_at.keys()
        if not left:
            return
    assert left == set()
