"""Machines put back from old copies: what they lost comes back, what they wrote since is restated, and nobody else notices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node.store import logs
from node.store.database import Connection
from protocol.log import decode_header
from tests import story
from tests.story import CITY, D1, T1, V1, V2, Oracle
from tests.world import Place, World

TREE = ((D1, CITY), (T1, D1), (V1, T1), (V2, T1))


class Restore:
    """A world in which one machine is put back to an old copy of its disk."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.oracle = Oracle()

    @property
    def place(self) -> Place:
        return self.world.places[self.name]

    async def begin(self, *, before: int = 1, after: int = 2) -> None:
        """Take cases in, copy the disk, take more in, and put the old copy back under the stopped machine."""
        await story.build(self.world, TREE)
        await self.work("a", before)
        await self.world.settle()
        await self.world.stop(self.name)
        self.world.back_up(self.name)
        await self.world.start(self.name)
        await self.work("b", after)
        await self.world.settle()
        await self.world.stop(self.name)
        self.world.restore(self.name)

    async def work(self, mark: str, count: int, village: str = V1) -> None:
        for number in range(count):
            await story.spot(self.world, self.oracle, village, f"{mark}{number}")

    async def back(self) -> None:
        """Start the machine again and let all come to rest."""
        await self.world.start(self.name)
        await self.world.settle()


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """A world in good weather."""
    with World(1, tmp_path) as made:
        yield made


def alone(world: World, name: str) -> None:
    """Cut a machine off from everything above it: an ancestor would help out, too."""
    for ancestor in world.places[name].node.rules.now.ancestors(name):
        world.cut(name, ancestor)


async def incarnation(place: Place) -> bytes:
    return place.node.ledger.identity.incarnation


async def own_types(place: Place, where: str) -> list[str]:
    """Return the types of all entries of a node's logs, as another machine holds them, in order."""

    def read(conn: Connection) -> list[str]:
        rows = [row for row in logs.load_logs(conn) if row.log.node == where and row.size]
        return [decode_header(one.raw).type for row in rows for one in logs.entries_between(conn, row.id, 0, row.size)]

    return await place.node.read(read)


def test_a_restored_village_that_wrote_nothing_gets_its_tail_back(world: World) -> None:
    """The parent holds more of its log: that is fetched, in the same incarnation, and no fork is seen."""
    case = Restore(world, V1)

    async def tell() -> None:
        await case.begin()
        before = await incarnation(case.place)
        await case.back()
        assert await incarnation(case.place) == before
        await case.work("c", 1)
        await world.settle()
        await story.judge(world, case.oracle)
        await story.check_stories(world, case.oracle)

    world.run(tell())


def test_a_restored_village_that_wrote_since_goes_on_in_a_new_incarnation(world: World) -> None:
    """What nobody above has is restated byte for byte: case keys stay true, the parent admits it, nothing is lost."""
    case = Restore(world, V1)

    async def tell() -> None:
        await case.begin()
        before = await incarnation(case.place)
        alone(world, V1)
        await world.start(V1)
        await case.work("c", 2)  # offline, not knowing that it was restored
        world.heal()
        await world.settle()
        assert await incarnation(case.place) != before
        await story.judge(world, case.oracle)
        await story.check_stories(world, case.oracle)
        for place in (case.place, world.places[T1], world.places[CITY]):
            types = await own_types(place, V1)
            assert types.count("log.open") == 2
            assert types.count("open") == 5
        assert "node.admit" in await own_types(world.places[CITY], T1)
        admitted = world.places[V1].node.rules.admissions[V1]
        assert [one.incarnation for one in admitted] == [await incarnation(case.place)]
        await case.work("d", 1)  # and again, as ever
        await world.settle()
        await story.judge(world, case.oracle)

    world.run(tell())


def test_a_village_restored_twice_is_admitted_twice(world: World) -> None:
    """Each new incarnation continues the one before."""
    case = Restore(world, V1)

    async def tell() -> None:
        await case.begin()
        for mark in ("c", "d"):
            alone(world, V1)
            await world.start(V1)
            await case.work(mark, 1)
            world.heal()
            await world.settle()
            await story.judge(world, case.oracle)
            await world.stop(V1)
            if mark == "c":
                world.restore(V1)
        await world.start(V1)
        await world.settle()
        assert len(world.places[CITY].node.rules.admissions[V1]) == 2
        await story.judge(world, case.oracle)
        await story.check_stories(world, case.oracle)

    world.run(tell())


@pytest.mark.parametrize("first", ["children", "parent"])
def test_a_restored_hub_is_filled_again_from_above_and_below(world: World, first: str) -> None:
    """Whoever speaks to it first: its children push again what it lost, its parent gives its own log back."""
    case = Restore(world, T1)

    async def tell() -> None:
        await case.begin()
        if first == "children":
            alone(world, T1)
            await world.start(T1)
            await case.work("c", 1)
            await case.work("d", 1, V2)
            world.heal()
        await case.back() if first == "parent" else await world.settle()
        await case.work("e", 1)
        await world.settle()
        # children that were served before the hub knew see two receipts at one place: kept, not lost
        await story.judge(world, case.oracle, forks=first == "children")
        await story.check_stories(world, case.oracle)

    world.run(tell())


def test_a_head_shown_before_the_restore_does_not_lock_a_village_out(world: World) -> None:
    """Its parent was shown a longer log than it got; the restored village writes other entries there, and still comes in."""
    case = Restore(world, V1)

    async def tell() -> None:
        await case.begin()
        await world.start(V1)
        await world.settle()
        await world.stop(V1)
        world.back_up(V1, "second")
        await world.start(V1)
        alone(world, V1)
        await case.work("c", 1)
        shown = await case.place.node.store.own(
            lambda conn: (case.place.node.ledger.seal(conn), case.place.node.ledger.newest_seal(conn))[1]
        )
        lost = {raw for raw in case.oracle.saved if raw not in set(await world.places[CITY].node.read(story._raws))}
        await world.stop(V1)
        world.restore(V1, "second")
        case.oracle.saved = [raw for raw in case.oracle.saved if raw not in lost]  # on no other disk: gone with this one
        case.oracle.cases = {key: at for key, at in case.oracle.cases.items() if key in await known(world)}
        hub = world.places[T1].node

        def show(conn: Connection, _changes: Any) -> None:
            from node.acceptance import note_head

            note_head(hub.ledger, conn, shown, hub.clock.wall_ms())

        await hub.write(show)
        world.heal()
        before = await incarnation(case.place)
        await world.start(V1)
        await case.work("d", 3)
        await world.settle()
        assert await incarnation(case.place) != before
        await story.judge(world, case.oracle)
        await story.check_stories(world, case.oracle)

    async def known(world: World) -> set[str]:
        rows = await world.places[CITY].node.read(lambda conn: conn.execute("SELECT key FROM cases").fetchall())
        return {key.hex() for (key,) in rows}

    world.run(tell())


def test_a_restored_hub_counts_its_feed_anew_and_skips_nothing(tmp_path: Path) -> None:
    """Positions given out again after a restore belong to another run: a child goes back to where the runs part."""
    with World(2, tmp_path) as world:
        case = Restore(world, story.D2)
        tree = ((D1, CITY), (V1, D1), (story.D2, CITY), (story.SOCIAL, story.D2), (story.CIVIL, story.D2))

        async def crossing(mark: str) -> None:
            await asyncio.wait_for(story.cross(world, case.oracle, V1, mark), 900)

        async def tell() -> None:
            await story.build(world, tree)
            await crossing("a")
            await world.settle()
            await world.stop(story.D2)
            world.back_up(story.D2)
            await world.start(story.D2)
            await crossing("b")
            await world.settle()
            await world.stop(story.D2)
            world.restore(story.D2)
            world.cut(story.SOCIAL, story.D2)
            await world.start(story.D2)
            await world.stop(story.SOCIAL)
            world.cuts.clear()
            await world.settle_without(story.SOCIAL)
            await world.start(story.SOCIAL)
            await crossing("c")
            await crossing("d")
            await world.settle()
            await story.judge(world, case.oracle)
            await story.check_stories(world, case.oracle)

        world.run(tell())
