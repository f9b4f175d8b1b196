"""Who is told what: exactly the cases in which a child's subtree has a party, nothing skipped, nothing twice in vain."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import feeds
from hub.feeds import Feeds, towards
from node.ledger import Changes
from node.store import feeds as feed_rows
from node.store.database import Connection
from protocol import messages
from protocol.errors import TongbanError
from tests import story
from tests.story import CITY, D1, D2, SOCIAL, T1, V1, V2, Oracle
from tests.world import World

TREE = ((D1, CITY), (D2, CITY), (SOCIAL, D2), (T1, D1), (V1, T1), (V2, T1))


async def rows(world: World, place: str) -> list[tuple[Any, ...]]:
    def read(conn: Connection) -> list[tuple[Any, ...]]:
        return conn.execute("SELECT child, case_id, entry_first, entry_last FROM feed ORDER BY position").fetchall()

    return await world.places[place].node.read(read)


@pytest.fixture
def world(tmp_path: Path) -> Any:
    with World(3, tmp_path) as made:
        yield made


def test_a_node_stands_towards_one_child(world: World) -> None:
    """The child itself, or the one in whose subtree a node stands; none for ourselves, those above and aside."""

    async def tell() -> None:
        await story.build(world, TREE)
        view = world.places[CITY].node.rules.now
        assert [towards(view, CITY, one) for one in (D1, V1, SOCIAL, CITY, "650199000000")] == [D1, D1, D2, None, None]
        assert [towards(view, T1, one) for one in (V1, T1, D1, V2)] == [V1, None, None, V2]

    world.run(tell())


def test_a_case_at_home_feeds_nobody(world: World) -> None:
    """What one subtree states about its own case need not come down to it again."""

    async def tell() -> None:
        await story.build(world, TREE)
        await story.spot(world, Oracle(), V1, "s")
        await world.settle()
        assert [await rows(world, place) for place in (CITY, D1, T1)] == [[], [], []]

    world.run(tell())


def test_a_party_that_joins_gets_the_whole_case(world: World) -> None:
    """One row for all that was before; from then on one row a transaction; and its own entries go nowhere back."""

    async def tell() -> None:
        await story.build(world, TREE)
        oracle = Oracle()
        opened = await story.step(world, oracle, V1, "o", "case.open", item="cross", applicant="王伟", id_number=story.ID_NUMBER)
        await story.step(world, oracle, V1, "f", "case.offer", case=opened["case"], to=D2)
        await world.settle()
        assert [(child, first) for child, _, first, _ in await rows(world, CITY)] == [(D2, feeds.WHOLE_CASE)]
        await story.step(world, oracle, D2, "t", "case.take", case=opened["case"])
        await world.settle()
        down = await rows(world, CITY)
        assert [(child, first == feeds.WHOLE_CASE) for child, _, first, _ in down] == [(D2, True), (D1, False)]
        await story.check_routing(world)

    world.run(tell())


def test_a_long_case_is_told_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is never more than fits a page, however long the case was before a party joined."""
    monkeypatch.setattr(feeds, "ROW_BYTES", 4_000)

    async def tell() -> None:
        await story.build(world, TREE)
        oracle = Oracle()
        opened = await story.step(world, oracle, V1, "o", "case.open", item="cross", applicant="王伟", id_number=story.ID_NUMBER)
        for number in range(30):
            await story.step(world, oracle, V1, f"n{number}", "case.note", case=opened["case"], text="字" * 200)
        await story.step(world, oracle, V1, "f", "case.offer", case=opened["case"], to=D2)
        await world.settle()
        found = await rows(world, CITY)
        assert len(found) > 5
        assert found[0][2] == feeds.WHOLE_CASE
        assert [first for _, _, first, _ in found[1:]] == [last + 1 for _, _, _, last in found[:-1]]
        await story.check_routing(world)

    world.run(tell())


def test_runs_part_where_a_copy_was_put_back(world: World) -> None:
    """A cursor of a run goes on from itself, from the run's end in this store, or from the beginning if the run is unknown."""

    async def tell() -> None:
        await world.found(CITY, "市")
        node = world.places[CITY].node

        def fill(run: bytes, count: int) -> Any:
            def unit(conn: Connection, _changes: Changes) -> None:
                feed_rows.save(conn, run, [("x", 1, 1, 1)] * count)

            return unit

        first, second = b"1" * 16, b"2" * 16
        await node.write(fill(first, 3))
        await node.write(fill(first, 2))
        await node.write(fill(second, 4))

        def common(run: bytes, position: int) -> Any:
            return lambda conn: feeds.common_point(conn, messages.Cursors(0, 0, run, position))

        for run, position, expected in [
            (first, 3, 3),
            (first, 99, 5),
            (second, 7, 7),
            (second, 99, 9),
            (b"3" * 16, 4, 0),
            (b"", 0, 0),
        ]:
            assert await node.read(common(run, position)) == expected

    world.run(tell())


def test_towards_follows_new_rules(world: World) -> None:
    """A node enrolled a moment ago is found in its place, also where it was looked for before."""

    async def tell() -> None:
        await world.found(CITY, "市")
        ledger = world.places[CITY].node.ledger
        feed = Feeds(ledger, bytes(16))
        feed._forget_old_rules()
        assert feed.towards(D1) is None
        await world.enrol(D1, "区", CITY)
        feed._forget_old_rules()
        assert feed.towards(D1) == D1

    world.run(tell())


MOVES = ("open", "offer", "take", "note", "reclaim", "pause")


@given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 9), st.integers(0, 9)), min_size=6, max_size=24), st.integers(0, 99))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_each_child_holds_exactly_the_cases_of_its_subtree(moves: list[tuple[str, int, int]], seed: int) -> None:
    """Whatever is opened, offered, taken and written by whom, in any order and with restarts: after pulling all is where it belongs."""
    with tempfile.TemporaryDirectory() as folder, World(seed, Path(folder)) as world:
        world.run(_wander(world, moves))


async def _wander(world: World, moves: list[tuple[str, int, int]]) -> None:
    await story.build(world, TREE)
    places, known = [D1, D2, SOCIAL, T1, V1, V2], []
    for count, (move, one, other) in enumerate(moves):
        place = world.places[places[one % len(places)]]
        case = known[other % len(known)] if known else None
        try:
            if move == "open" or case is None:
                made = await story.ask(place, "case.open", item="cross", applicant="王伟", id_number=story.ID_NUMBER)
                known.append(made["key"])
            elif move == "pause":
                await world.stop(place.id)
                await world.start(place.id)
            else:
                await _move(world, place, move, case, places[other % len(places)], count)
        except TongbanError:
            pass  # not possible now: as at a counter
        if random.Random(count * 31 + one).random() < 0.6:
            await world.settle()
    await world.settle()
    await story.check_routing(world)
    assert world.problems == []


async def _move(world: World, place: Any, move: str, case: str, target: str, count: int) -> None:
    given = {"offer": {"to": target}, "note": {"text": f"第{count}条"}, "reclaim": {"reason": "收回"}, "take": {}}[move]
    await story.ask(place, f"case.{move}", case=case, **given)
