"""Two machines under one name: found, fenced, chosen between; and nothing of either is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub import commands as _commands  # noqa: F401 - registers the operations
from node import clones
from node.store import logs
from node.store.database import Connection
from protocol import trail
from protocol.errors import CloneSuspected, CommandRefused, MachineRetired
from protocol.log import LogId, decode_header
from protocol.transitions import KNOWN_TYPES, SIDE_TYPES
from tests import story
from tests.node.building import ID_NUMBER
from tests.story import CITY, D1, T1, V1, Oracle
from tests.world import Place, World

TREE = ((D1, CITY), (T1, D1), (V1, T1))
TWIN = "twin"
SPOT = {"item": "spot", "applicant": "阿依古丽", "id_number": ID_NUMBER}


class Twins:
    """A village and a copy of its disk in a second machine."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.oracle = Oracle()
        self.saved: set[bytes] = set()

    @property
    def both(self) -> tuple[Place, Place]:
        return self.world.places[V1], self.world.places[TWIN]

    async def begin(self) -> None:
        """Build the network, take a case in, copy the village's disk."""
        await story.build(self.world, TREE)
        await story.spot(self.world, self.oracle, V1, "before")
        await self.world.settle()
        await self.world.stop(V1)
        await self.world.clone(V1, TWIN)

    async def open(self, place: Place) -> str:
        """Take a case in at a machine; returns its key."""
        answer = await story.ask(place, "case.open", **SPOT)
        await self._note(place)
        return str(answer["key"])

    async def _note(self, place: Place) -> None:
        def read(conn: Connection) -> bytes:
            row = place.node.ledger.own_row(conn)
            entry = logs.entry_at(conn, row.id, row.size - 1)
            assert entry is not None
            return entry.raw

        self.saved.add(await place.node.read(read))

    async def until_suspected(self) -> int:
        """Let both machines live until both are told; returns how many sessions their hub has given since they began."""
        hub = self.world.places[T1].node
        before = await hub.read(_sessions)
        for _ in range(60):
            await asyncio.sleep(5.0)
            if all([await told(place) for place in self.both]):
                return await hub.read(_sessions) - before
        raise AssertionError("the clone was not found")

    async def until_above(self, top: str = CITY) -> None:
        """Let time pass until all that either machine saved is at the root."""
        for _ in range(100):
            held = set(await self.world.places[top].node.read(story._raws))
            if held >= self.saved:
                return
            await asyncio.sleep(5.0)
        raise AssertionError("what was saved did not reach the root")


def _sessions(conn: Connection) -> int:
    (raw,) = conn.execute("SELECT trail FROM contacts WHERE node = ?", (V1,)).fetchone()
    return len(trail.decode(raw).steps)


async def told(place: Place) -> bool:
    return bool((await shown(place))["suspected_since"])


async def shown(place: Place) -> Any:
    return await place.node.read(lambda conn: clones.shown(place.node, conn))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world in good weather."""
    with World(3, tmp_path) as made:
        yield made


@pytest.fixture
def twins(world: World) -> Twins:
    return Twins(world)


async def start_both(twins: Twins, first: str = V1, after_s: float = 30.0) -> None:
    for name in (first, TWIN if first == V1 else V1):
        await twins.world.start(name)
        await asyncio.sleep(after_s)


# --- found


@pytest.mark.parametrize("first", [V1, TWIN])
@pytest.mark.parametrize("after_s", [0.0, 400.0])
def test_two_machines_at_once_are_found_within_two_exchanges(twins: Twins, first: str, after_s: float) -> None:
    """Whichever starts first, at once or after a while: hub, machine and copy all know, after two logins of each."""

    async def tell() -> None:
        await twins.begin()
        await start_both(twins, first, after_s)
        assert await twins.until_suspected() <= 2 * 2 + 2  # each once more, to be told
        seen = await shown(twins.world.places[T1])
        (child,) = seen["children"]
        assert child["node"] == V1
        assert not child["settled"]
        assert len(child["machines"]) == 2
        status = await story.ask(twins.world.places[T1], "status")
        assert [one["clones"] for one in status["children"]] == [True]
        assert twins.world.problems == []

    twins.world.run(tell())


def test_two_machines_that_are_never_on_at_once_are_found(twins: Twins) -> None:
    """One by day, the other by night: found when the first comes back."""

    async def tell() -> None:
        await twins.begin()
        for name in (V1, TWIN, V1, TWIN):
            await twins.world.start(name)
            await asyncio.sleep(60.0)
            await twins.world.stop(name)
        await twins.world.start(V1)
        await asyncio.sleep(60.0)
        assert await told(twins.world.places[V1])

    twins.world.run(tell())


def test_a_machine_that_is_restored_and_loses_its_line_is_not_suspected(world: World) -> None:
    """Backups, crashes and bad weather of one machine raise no alarm, whatever the order."""
    twins = Twins(world)

    async def tell() -> None:
        await story.build(world, TREE)
        await world.stop(V1)
        world.back_up(V1)
        await world.start(V1)
        world.weather.lost = world.weather.answer_lost = world.weather.repeated = 0.15
        for number in range(6):
            await story.spot(world, twins.oracle, V1, f"n{number}")
            await world.stop(V1)
            if number % 2:
                world.restore(V1)
            elif number == 2:
                world.back_up(V1)
            await world.start(V1)
        world.calm()
        await world.settle()
        assert not await told(world.places[V1])
        assert (await shown(world.places[T1]))["children"] == []

    world.run(tell())


# --- fenced


def test_a_fenced_machine_takes_in_and_decides_nothing(twins: Twins) -> None:
    """Taking in, material and notes go on at both; what advances a case is refused with what to do; nothing is written."""

    async def tell() -> None:
        await twins.begin()
        await start_both(twins)
        await twins.until_suspected()
        for place in twins.both:
            key = await twins.open(place)
            await story.ask(place, "case.note", case=key, text="备注")
            await story.ask(place, "case.supplement", case=key, material=[{"name": "申请表"}])
            before = await place.node.read(lambda conn, place=place: place.node.ledger.own_row(conn).size)
            for command, params in (("accept", {}), ("offer", {"to": T1}), ("refuse", {"kind": 4, "reason": "无"})):
                with pytest.raises(CloneSuspected) as refused:
                    await story.ask(place, f"case.{command}", case=key, **params)
                assert "clones keep" in refused.value.hint
            assert await place.node.read(lambda conn, place=place: place.node.ledger.own_row(conn).size) == before
        await twins.until_above()

    twins.world.run(tell())


def test_the_fence_stands_after_a_restart_and_without_a_line(twins: Twins) -> None:
    """What was told is kept on disk: also a machine that lost its line meanwhile decides nothing."""

    async def tell() -> None:
        await twins.begin()
        await start_both(twins)
        await twins.until_suspected()
        await twins.world.stop(TWIN)
        for hub in (T1, D1, CITY):
            twins.world.cut(TWIN, hub)
        await twins.world.start(TWIN)
        key = await twins.open(twins.world.places[TWIN])
        with pytest.raises(CloneSuspected):
            await story.ask(twins.world.places[TWIN], "case.accept", case=key)

    twins.world.run(tell())


def test_what_is_fenced_is_the_custody_spine_but_for_the_opening() -> None:
    """Side entries and taking in are nobody's alone; each other type of a case is."""
    assert SIDE_TYPES | {"open"} == KNOWN_TYPES - clones.FENCED


# --- chosen


def test_one_machine_is_kept_and_the_other_retired_and_nothing_is_lost(twins: Twins) -> None:
    """Both had work of their own, also behind one index: all of it is at the root, the kept one works, the other is read."""

    async def tell() -> None:
        world = twins.world
        await twins.begin()
        await start_both(twins)
        await twins.until_suspected()
        kept, out = twins.both
        for _ in range(3):
            await twins.open(kept)
            await twins.open(out)
        await clones.retire(out.node)
        await clones.keep(kept.node)
        await twins.until_above()
        await asyncio.sleep(120.0)
        key = await twins.open(kept)
        for command, params in (("accept", {}), ("decide", {"result": "grant", "reason": "符合"}), ("finish", {})):
            await story.ask(kept, f"case.{command}", case=key, **params)
        await twins.until_above()
        with pytest.raises(MachineRetired):
            await story.ask(out, "case.open", **SPOT)
        assert await story.ask(out, "status")
        assert await story.ask(out, "list")
        (child,) = (await shown(world.places[T1]))["children"]
        assert child["settled"]
        mine, theirs = await shown(kept), await shown(out)
        assert (mine["fenced"], mine["pending"], mine["suspected_since"]) == (False, 0, None)
        assert (theirs["fenced"], theirs["pending"], theirs["choice"]) == (True, 0, "retire")
        page = await story.ask(world.places[CITY], "show", case=key)
        assert (page["state"], page["holder"]) == ("finished", V1)
        await once_each(world.places[CITY], twins.saved)
        assert world.problems == []

    twins.world.run(tell())


async def once_each(place: Place, raws: set[bytes]) -> None:
    """Each saved entry counts once in its case, however many places it has in logs."""
    held = await place.node.read(story._raws)
    assert set(held) >= raws
    assert (await story.ask(place, "rebuild"))["problems"] == []


def test_a_choice_made_without_a_line_holds_at_once_and_is_told_later(twins: Twins) -> None:
    """The machine that is kept works at once; the hub hears of it when the line is back."""

    async def tell() -> None:
        world = twins.world
        await twins.begin()
        await start_both(twins)
        await twins.until_suspected()
        kept, out = twins.both
        before = kept.node.ledger.identity.incarnation
        for hub in (T1, D1, CITY):
            world.cut(V1, hub)
        await twins.open(kept)
        for _ in range(3):  # meanwhile the other goes on in the same incarnation
            await twins.open(out)
            await asyncio.sleep(3.0)
        await clones.keep(kept.node)
        assert kept.node.ledger.identity.incarnation != before
        key = await twins.open(kept)
        await story.ask(kept, "case.accept", case=key)
        await world.stop(V1)
        world.heal()
        await world.start(V1)
        await twins.until_above()
        await asyncio.sleep(60.0)
        assert not await told(world.places[V1])
        assert (await shown(world.places[V1]))["choice"] is None
        assert await told(out)
        assert await story.ask(world.places[T1], "evidence.list") == []  # what was not sent was restated: no place is signed twice

    twins.world.run(tell())


def test_nothing_is_chosen_where_nothing_is_suspected(world: World) -> None:
    """A single machine cannot be retired by mistake."""

    async def tell() -> None:
        await story.build(world, TREE)
        village = world.places[V1].node
        for choose in (clones.keep, clones.retire):
            with pytest.raises(CommandRefused, match="no second machine"):
                await choose(village)
        assert (await shown(world.places[V1]))["fenced"] is False

    world.run(tell())


# --- two entries under one index


def test_two_signed_heads_under_one_index_are_both_kept(twins: Twins) -> None:
    """Both machines sign the next index of one incarnation: hub and root hold both heads and both entries."""

    async def tell() -> None:
        world = twins.world
        await twins.begin()
        await start_both(twins)
        await twins.until_suspected()
        first, second = twins.both
        assert first.node.ledger.identity.log == second.node.ledger.identity.log
        log = first.node.ledger.identity.log
        for place in (first, second):  # their sessions stand: neither compares before it pushes
            await twins.open(place)
            await asyncio.sleep(3.0)
        await twins.until_above()
        for hub in (T1, CITY):
            evidence = await world.places[hub].node.read(lambda conn: rivals(conn, log))
            assert evidence, hub
        await asyncio.sleep(120.0)
        incarnations = {place.node.ledger.identity.incarnation for place in twins.both}
        assert len(incarnations) == 2  # the one whose entry came second goes on in a new one
        await twins.until_above()

    twins.world.run(tell())


def rivals(conn: Connection, log: LogId) -> list[tuple[bytes, bytes]]:
    """Return the pairs of signed heads of a log that cannot both be true."""
    row = logs.find_log(conn, log)
    assert row is not None
    found = conn.execute("SELECT first, second FROM evidence WHERE log = ?", (row.id,)).fetchall()
    assert all(first and second for first, second in found)
    branches = [one for one in logs.branches(conn, log) if one.size]
    assert bool(branches) == bool(found)
    for branch in branches:
        entry = logs.entry_at(conn, branch.id, branch.start)
        rival = logs.entry_at(conn, row.id, branch.start)
        assert entry is not None
        assert rival is not None
        assert decode_header(entry.raw) != decode_header(rival.raw)
    return found


# --- a hub


def test_a_cloned_hub_serves_its_children_while_it_is_fenced(world: World) -> None:
    """Its own office decides nothing; what the village writes is taken in, receipted and passed up as ever."""

    async def tell() -> None:
        await story.build(world, TREE)
        await world.stop(T1)
        await world.clone(T1, TWIN)
        for name in (T1, TWIN):
            await world.start(name)
        hubs = (world.places[T1], world.places[TWIN])
        for _ in range(60):
            await asyncio.sleep(5.0)
            if all([await told(place) for place in hubs]):
                break
        oracle = Oracle()
        await story.spot(world, oracle, V1, "goes on")
        key = (await story.ask(hubs[0], "case.open", **SPOT))["key"]
        with pytest.raises(CloneSuspected):
            await story.ask(hubs[0], "case.accept", case=key)
        await clones.retire(hubs[1].node)
        await clones.keep(hubs[0].node)
        await asyncio.sleep(120.0)
        await world.stop(TWIN)
        await story.spot(world, oracle, V1, "and on")
        await story.ask(hubs[0], "case.accept", case=key)
        await asyncio.sleep(120.0)
        held = await world.places[CITY].node.read(story._raws)
        assert set(oracle.saved) <= set(held)
        assert [one["node"] for one in (await shown(world.places[D1]))["children"]] == [T1]
        assert world.problems == []

    world.run(tell())
