"""A hub that tells its children another history than its own parent: found by the heads that they hold, and proved by a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub import commands as _commands  # noqa: F401 - registers the operations
from hub.witness import Witness
from node.ledger import Changes, Draft
from node.registrar import take_in
from node.store import logs
from node.store.database import Connection
from node.uplink import Settings
from protocol import evidence
from protocol.errors import SignatureInvalid
from protocol.log import Signed, decode_checkpoint
from tests import story
from tests.story import CITY, D1, T1, V1
from tests.world import Place, World

TREE = ((D1, CITY), (T1, D1), (V1, T1))
DAY_S = 24 * 3_600.0


class Patient(World):
    """A world whose nodes ask for news less often: days pass in seconds."""

    def settings(self, parent: str) -> Settings:
        return replace(super().settings(parent), wait_s=120)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A village, its township, its district and the city, in good weather."""
    with Patient(4, tmp_path) as made:
        yield made


async def heads(place: Place, node: str) -> list[Signed]:
    """Return the heads that a machine holds of a node's log, the longest last."""

    def read(conn: Connection) -> list[Signed]:
        (row,) = [one for one in logs.logs_of(conn, [node]) if not one.branch]
        rows = conn.execute("SELECT raw, signature FROM checkpoints WHERE log = ? ORDER BY size", (row.id,))
        return [Signed(*one) for one in rows.fetchall()]

    return await place.node.read(read)


async def state(place: Place) -> None:
    """Let a hub state something in its own log: where it answers."""

    def write(conn: Connection, changes: Changes) -> None:
        draft = Draft("node.address", place.clock.wall_ms(), {"addresses": [f"{place.id}:1"]})
        place.node.ledger.append(conn, [draft], changes)
        take_in(place.node.ledger, conn, changes, place.clock.wall_ms())

    await place.node.write(write)


async def build(world: World) -> None:
    """Build the network; every hub says where it answers, and a case is everywhere."""
    await story.build(world, TREE)
    for name in (D1, T1, CITY):
        await state(world.places[name])
    await spot(world, "before")
    await world.settle()


LIAR = "liar"


async def lie(world: World, *, stated: int = 12) -> None:
    """Let the township tell its village one history, and its district another, both signed with its key: as two machines do."""
    await world.stop(T1)
    await world.stop(V1)
    await world.clone(T1, LIAR)
    for other in (D1, CITY):
        world.cut(LIAR, other)
    world.places[V1].parent = LIAR
    for name in (T1, LIAR, V1):
        await world.start(name)
    await spot(world, "told to the village")
    for _ in range(stated):
        await state(world.places[T1])
    await asyncio.sleep(120.0)


async def spot(world: World, name: str) -> None:
    await story.spot(world, story.Oracle(), V1, name)


async def listed(place: Place) -> Any:
    return await story.ask(place, "evidence.list")


def test_a_split_view_and_a_child_kept_back_are_found_within_a_day(world: World) -> None:
    """By itself: the village shows the district what the township signed for it, which proves it; and says what is kept back."""

    async def tell() -> None:
        await build(world)
        await lie(world)
        district, village = world.places[D1], world.places[V1]
        assert await listed(district) == []
        assert (await story.ask(village, "status"))["withheld"] is None
        await asyncio.sleep(DAY_S + 600.0)
        rows = await listed(district)
        assert {row["node"] for row in rows} == {T1}
        made = await story.ask(district, "evidence.export", number=rows[0]["number"])
        found = evidence.verify(made["data"].encode())
        assert found.node == T1
        assert found.network == world.places[CITY].node.ledger.identity.network
        assert (await story.ask(village, "status"))["withheld"]["entries"] >= 5
        await spot(world, "its office goes on")
        await world.stop(V1)
        await world.stop(LIAR)
        village.parent = T1  # an honest parent again
        await world.start(V1)
        await asyncio.sleep(300.0)
        assert (await story.ask(village, "status"))["withheld"] is None

    world.run(tell())


def test_honest_hubs_are_accused_of_nothing(world: World) -> None:
    """A day and more of ordinary life, with a hub that loses its line and comes back: no evidence anywhere, nothing withheld."""

    async def tell() -> None:
        await build(world)
        await spot(world, "one")
        world.cut(T1, D1)
        await asyncio.sleep(DAY_S / 4)
        world.heal()
        await asyncio.sleep(DAY_S)
        await spot(world, "two")
        await world.settle()
        for place in world:
            assert await listed(place) == []
            assert (await story.ask(place, "status"))["withheld"] is None
        assert world.problems == []

    world.run(tell())


def test_a_head_ahead_of_its_log_waits_for_it(world: World) -> None:
    """What a village shows before the township has pushed so far is compared when it has: both when it agrees and when not."""

    async def tell() -> None:
        await build(world)
        district, town = world.places[D1], world.places[T1]
        world.cut(T1, D1)
        await state(town)
        honest = await town.node.store.own(lambda conn: town.node.ledger.seal(conn)[-1])
        await witness(district, [honest])
        assert await waiting(district, T1) == 1
        world.heal()
        await world.settle()
        await witness(district, [], T1)
        assert await waiting(district, T1) == 0
        assert await listed(district) == []
        assert decode_checkpoint(honest.checkpoint).node == T1

    world.run(tell())


async def witness(place: Place, seen: list[Signed], child: str = V1) -> int:
    def take(conn: Connection, _: Changes) -> int:
        one = Witness(place.node.ledger, conn, place.clock.wall_ms())
        one.take(child, seen)
        return one.found

    return await place.node.write(take)


async def waiting(place: Place, node: str) -> int:
    def read(conn: Connection) -> int:
        rows = [row for row in logs.logs_of(conn, [node]) if not row.branch]
        return sum(len(logs.uncompared(conn, row.id, 1 << 40, 100)) for row in rows)

    return await place.node.read(read)


def test_a_head_that_waited_is_evidence_when_its_log_comes_otherwise(world: World) -> None:
    """The liar's head for its child was ahead of what it had pushed; once the other history goes as far, it is compared."""

    async def tell() -> None:
        await build(world)
        await lie(world, stated=0)
        district = world.places[D1]
        shown = (await heads(world.places[V1], T1))[-1:]
        assert await witness(district, shown) == 0
        assert await waiting(district, T1) == 1
        for _ in range(12):
            await state(world.places[T1])
        await asyncio.sleep(60.0)
        assert await witness(district, [], T1) == 1
        assert {row["node"] for row in await listed(district)} == {T1}

    world.run(tell())


def test_the_same_lie_shown_again_is_one_piece_of_evidence(world: World) -> None:
    """Every child of a liar may show it, every day; what nobody signed is refused."""

    async def tell() -> None:
        await build(world)
        await lie(world)
        shown = (await heads(world.places[V1], T1))[-1:]
        assert await witness(world.places[D1], shown) == 1
        assert await witness(world.places[D1], shown) == 0
        with pytest.raises(SignatureInvalid):
            await witness(world.places[D1], [Signed(shown[0].checkpoint, bytes(64))])

    world.run(tell())
