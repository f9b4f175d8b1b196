"""Hubs put back from old copies, or begun anew: their children give back what they have seen, and no number is given twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.app import Hub
from hub.enrolment import chain_of
from hub.restoring import LISTEN_S
from node import continuity, restore, setup
from node.registrar import take_in
from node.store import copying, facts, logs
from node.store.database import Connection
from protocol import messages
from protocol.log import Bundle, BundleEntry, Signed, decode_checkpoint, sign_checkpoint
from tests import story
from tests.hub.calling import Caller, city_and_child, dump
from tests.node.building import EAST, hire
from tests.story import CITY, D1, D2, T1, V1, V2, Oracle
from tests.world import Place, World

TREE = ((D1, CITY), (T1, D1), (V1, T1), (V2, T1))


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """A world in good weather."""
    with World(1, tmp_path) as made:
        yield made


async def registers(place: Place) -> dict[int, bytes]:
    """Return number → leaf of all registers held at a machine."""
    return {number: fact.leaf for number, fact in await place.node.read(facts.load_registers)}


async def losses(place: Place) -> list[continuity.Loss]:
    return await place.node.read(lambda conn: continuity.losses(place.node.ledger, conn))


async def restored(world: World, oracle: Oracle, *names: str, by: str = "copy") -> dict[int, bytes]:
    """Build, copy some machines' disks, let life go on with new rules, and put the copies back; returns all registers given.

    Args:
        by: "copy" of the file, or "command", which leaves a mark.
    """
    await story.build(world, TREE)
    await story.spot(world, oracle, V1, "a")
    await world.settle()
    for name in names:
        await world.stop(name)
        world.back_up(name)
        await world.start(name)
    await story.told(world, world.places[CITY], "calendar.publish", calendar=story.calendar(2))
    await world.enrol(D2, "另一个区", CITY)
    await story.told(world, world.places[D2], "officer.add", id="1001", name="张三")
    await story.spot(world, oracle, V1, "b")
    await world.settle()
    given = await registers(world.places[D1])
    for name in names:
        await world.stop(name)
        put_back(world, name, by)
    return given


def put_back(world: World, name: str, by: str) -> None:
    """Restore a stopped machine from its backup."""
    world.restore(name)
    if by == "command":
        place = world.places[name]
        copying.mark(place.file, restore.marks(place.clock.wall_ms(), 0))


async def one_order(world: World, given: dict[int, bytes]) -> None:
    """Check that every machine holds the same registers, and all that were ever given."""
    held = [await registers(place) for place in world]
    assert all(one == held[0] for one in held)
    assert given.items() <= held[0].items()
    assert [place.id for place in world if (await story.ask(place, "status"))["clones"]] == []


@pytest.mark.parametrize("by", ["copy", "command"])
@pytest.mark.parametrize("first", ["hello", "write"])
def test_a_restored_root_gives_no_register_number_twice(world: World, first: str, by: str) -> None:
    """It takes its registers back from its children, in a new incarnation, before it numbers anything, also if it wrote first."""

    async def tell() -> None:
        oracle = Oracle()
        given = await restored(world, oracle, CITY, by=by)
        before = world.places[CITY].node.ledger.identity.incarnation
        if first == "write":
            for name in (D1, D2):
                world.cut(name, CITY)
        await world.start(CITY)
        city = world.places[CITY]
        await story.told(world, city, "calendar.publish", calendar=story.calendar(3))
        if first == "write":
            await asyncio.sleep(20.0)
            world.heal()
        await story.spot(world, oracle, V1, "c")
        await world.settle()
        await asyncio.sleep(LISTEN_S)
        await world.settle()
        assert city.node.ledger.identity.incarnation != before
        assert max(await registers(city)) > max(given)
        await one_order(world, given)
        for place in world:
            assert [one.incarnation for one in place.node.rules.admissions[CITY]] == [city.node.ledger.identity.incarnation]
        await story.judge(world, oracle, forks=(first, by) == ("write", "copy"))  # by the command, no index is used twice
        await story.check_stories(world, oracle)

    world.run(tell())


def test_a_root_restored_by_command_admits_itself_though_nothing_was_lost(world: World) -> None:
    """Nobody below has seen more, so nobody gives anything back: the first entry still opens a log that everybody takes as the root's."""

    async def tell() -> None:
        oracle = Oracle()
        await story.build(world, TREE)
        await world.stop(CITY)
        world.back_up(CITY)
        put_back(world, CITY, "command")
        await world.start(CITY)
        city = world.places[CITY]
        before, number = city.node.ledger.identity.incarnation, city.node.rules.number
        await world.settle()
        await story.told(world, city, "calendar.publish", calendar=story.calendar(2))
        await story.spot(world, oracle, V1, "a")
        await world.settle()
        after = city.node.ledger.identity.incarnation
        assert after != before
        assert city.node.rules.number > number
        for place in world:
            assert [one.incarnation for one in place.node.rules.admissions[CITY]] == [after]
        await one_order(world, {})
        await story.judge(world, oracle)
        await story.check_stories(world, oracle)

    world.run(tell())


def test_a_root_restored_by_command_waits_a_day_for_a_child_that_is_silent(world: World) -> None:
    """It knows that it is an old copy before anybody shows it: what one child alone holds is awaited longer than after a start."""

    async def tell() -> None:
        oracle = Oracle()
        given = await restored(world, oracle, CITY, by="command")
        for name in (D1, D2):
            world.cut(name, CITY)
        world.cut(T1, CITY)
        await world.start(CITY)
        city = world.places[CITY]
        number = city.node.rules.number
        await story.told(world, city, "calendar.publish", calendar=story.calendar(3))
        await asyncio.sleep(10 * LISTEN_S)
        await city.node.write(lambda conn, changes: take_in(city.node.ledger, conn, changes, city.clock.wall_ms()))
        assert city.node.rules.number == number
        world.heal()
        await world.settle()
        await one_order(world, given)
        await story.judge(world, oracle)

    world.run(tell())


def test_a_restored_district_states_again_what_only_its_children_have(world: World) -> None:
    """What it receipted, and its parent never got, comes back from below and goes up; no index is given twice."""

    async def tell() -> None:
        oracle = Oracle()
        await story.build(world, TREE)
        await story.spot(world, oracle, V1, "a")
        await world.settle()
        await world.stop(D1)
        world.back_up(D1)
        await world.start(D1)
        world.cut(D1, CITY)
        await story.spot(world, oracle, V1, "b")
        await world.settle_below(D1)
        stated = set(await world.places[D1].node.read(_own))
        before = world.places[D1].node.ledger.identity.incarnation
        await world.stop(D1)
        world.restore(D1)
        world.heal()
        await world.start(D1)
        await story.spot(world, oracle, V2, "c")
        await world.settle()
        assert world.places[D1].node.ledger.identity.incarnation != before
        assert stated <= set(await world.places[CITY].node.read(lambda conn: _own(conn, D1)))
        await story.judge(world, oracle)
        await story.check_stories(world, oracle)

    world.run(tell())


def _own(conn: Connection, node: str = D1) -> list[bytes]:
    """Return the headers of all entries that a machine holds of a node."""
    rows = conn.execute("SELECT e.raw FROM entries e JOIN logs l ON l.id = e.log WHERE l.node = ?", (node,))
    return [row[0] for row in rows]


def test_a_root_and_a_district_that_are_restored_together(world: World) -> None:
    """Registers come back from further below, by way of the district; the loss report names what no copy holds, and no more."""

    async def tell() -> None:
        oracle = Oracle()
        given = await restored(world, oracle, CITY, D1)
        await world.stop(D2)  # what is left of the city's log is below the district
        seen = set(await world.places[T1].node.read(lambda conn: _own(conn, CITY)))
        await world.start(CITY)
        await world.start(D1)
        await story.spot(world, oracle, V1, "c")
        await world.settle_without(D2)
        await asyncio.sleep(LISTEN_S)
        assert seen <= set(await world.places[CITY].node.read(lambda conn: _own(conn, CITY)))
        await world.start(D2)
        await world.settle()
        await one_order(world, given)
        await story.judge(world, oracle)
        await story.check_stories(world, oracle)

    world.run(tell())


def test_what_no_copy_holds_is_named(world: World) -> None:
    """The loss report of a restored root is exactly what it had stated and no living machine holds, by incarnation and index."""

    async def tell() -> None:
        oracle = Oracle()
        await story.build(world, TREE)
        await world.stop(CITY)
        world.back_up(CITY)
        await world.start(CITY)
        city = world.places[CITY]
        await story.told(world, city, "officer.add", id="2002", name="李四")  # nobody below hears of it
        await story.spot(world, oracle, V1, "a")
        await world.settle()
        log = city.node.ledger.identity.log
        stated = set(await city.node.read(lambda conn: _indexes(conn, log)))
        await world.stop(CITY)
        world.restore(CITY)
        elsewhere = [set(await place.node.read(lambda conn: _indexes(conn, log))) for place in world if place.id != CITY]
        await world.start(CITY)
        await world.settle()
        kept = set(await city.node.read(lambda conn: _indexes(conn, log)))
        (loss,) = await losses(city)
        lost = {index for start, end in loss.spans for index in range(start, end)}
        assert loss.log == log
        assert lost == {index for index in stated - kept - set().union(*elsewhere) if index < max(stated & set().union(*elsewhere))}
        assert lost
        shown = (await story.ask(city, "status"))["lost"]
        assert sum(one["count"] for one in shown) == loss.count == len(lost)

    world.run(tell())


def _indexes(conn: Connection, log: Any) -> list[int]:
    row = logs.find_log(conn, log)
    return logs.indexes_beyond(conn, row.id, 0) if row is not None else []


def test_a_district_replaced_with_an_empty_store_is_filled_again(world: World) -> None:
    """With its key and the chain of its enrolment a new machine takes its place: its parent and children give all back."""

    async def tell() -> None:
        oracle = Oracle()
        await story.build(world, TREE)
        await story.spot(world, oracle, V1, "a")
        await world.settle()
        world.cut(D1, CITY)
        await story.spot(world, oracle, V1, "b")
        await world.settle_below(D1)
        before = world.places[D1].node.ledger.identity.incarnation
        await world.stop(D1)
        await empty(world, D1, chain_at=CITY)
        world.heal()
        await world.start(D1)
        await story.spot(world, oracle, V2, "c")
        await world.settle()
        (admitted,) = world.places[V1].node.rules.admissions[D1]
        assert before in {incarnation for incarnation, _ in admitted.sizes}
        await story.judge(world, oracle)
        await story.check_stories(world, oracle)

    world.run(tell())


def test_a_root_replaced_with_an_empty_store_is_filled_again(world: World) -> None:
    """A root of which only the key is left takes all rules back from one child before it numbers anything."""

    async def tell() -> None:
        oracle = Oracle()
        await story.build(world, TREE)
        await story.spot(world, oracle, V1, "a")
        await world.settle()
        given = await registers(world.places[D1])
        await world.stop(CITY)
        await empty(world, CITY, chain_at=D1)
        world.cut(D1, CITY)
        await world.start(CITY)
        city = world.places[CITY]
        await asyncio.sleep(2 * LISTEN_S)
        await story.told(world, city, "officer.add", id="1001", name="张三")
        await city.node.write(lambda conn, changes: take_in(city.node.ledger, conn, changes, city.clock.wall_ms()))
        assert max(await registers(city)) == 0
        world.heal()
        await story.spot(world, oracle, V2, "c")
        await world.settle()
        await story.ask(city, "calendar.publish", calendar=story.calendar(2))
        await world.settle()
        await one_order(world, given)
        assert max(await registers(city)) > max(given)
        await story.judge(world, oracle)
        await story.check_stories(world, oracle)

    world.run(tell())


async def empty(world: World, name: str, chain_at: str) -> None:
    """Replace a stopped machine's disk by a new one that holds its key, and the chain of its child's or its own enrolment."""
    place, source = world.places[name], world.places[chain_at].node
    below = name if chain_at == CITY else chain_at
    chain = await source.store.own(lambda conn: chain_of(source.ledger, conn, below))
    for file in place.folder.glob(f"{place.file.name}*"):
        file.unlink()
    store = world.disk(place.file)
    await setup.begin(store, name, source.ledger.identity.network, place.key, chain, place.clock, place.entropy)
    await store.close()


def test_what_was_given_is_not_given_again(world: World) -> None:
    """A child gives back once; later sessions cost no more than before."""

    async def tell() -> None:
        oracle = Oracle()
        given: list[str] = []
        honest = Hub._INSIDE["give"]

        async def counted(hub: Hub, session: Any, body: bytes) -> messages.Message:
            given.append(session.node)
            return await honest(hub, session, body)

        await restored(world, oracle, CITY)
        Hub._INSIDE["give"] = counted
        try:
            await world.start(CITY)
            await world.settle()
            assert sorted(given) == [D1, D2]
            await world.stop(CITY)
            await world.start(CITY)
            await world.restart_session(D1)
            await world.settle()
        finally:
            Hub._INSIDE["give"] = honest
        assert sorted(given) == [D1, D2]

    world.run(tell())


def test_a_root_whose_children_are_silent_waits_so_long_and_no_longer(world: World) -> None:
    """After a start a register waits for children that called before; when they do not, it is given two minutes later."""

    async def tell() -> None:
        await story.build(world, TREE)
        await world.stop(CITY)
        world.cut(D1, CITY)
        world.cut(T1, CITY)
        await world.start(CITY)
        city = world.places[CITY]
        number = city.node.rules.number
        waiting = world.loop.create_task(city.hub.restoring.wait_out())
        await story.ask(city, "calendar.publish", calendar=story.calendar(2))
        await asyncio.sleep(LISTEN_S - 20.0)
        assert city.node.rules.number == number
        await asyncio.sleep(40.0)
        assert city.node.rules.number == number + 1
        await waiting
        world.heal()
        await world.settle()

    world.run(tell())


# --- children that say what is not so


async def grown(tmp_path: Path) -> tuple[Caller, Signed]:
    """A child that has pushed, and the newest checkpoint that it holds of its hub's log."""
    child = await city_and_child(tmp_path)
    await hire(child.node)
    reply = await child.push()
    assert reply.receipt is not None
    return child, reply.receipt.signed


def hello(*seen: Signed, registers: int = -1) -> messages.Hello:
    return messages.Hello(bytes(32), seen=seen, registers=registers)


async def test_only_what_the_hub_signed_tells_that_it_was_restored(tmp_path: Path) -> None:
    """A longer checkpoint with another signature is refused; an older one of ours, or one of a stranger's log, says nothing."""
    child, newest = await grown(tmp_path)
    before = await dump(child.hub.node)
    longer = msgspec.structs.replace(decode_checkpoint(newest.checkpoint), size=90, start=80)
    forged = sign_checkpoint(longer, child.node.ledger.identity.key, child.node.ledger.identity.network)
    answer = await child.send("hello", hello(forged))
    assert (answer.status, messages.decode(answer.body, messages.Refusal).code) == (403, "signature")
    own = msgspec.structs.replace(longer, node=EAST, incarnation=child.node.ledger.identity.incarnation)
    of_its_own = sign_checkpoint(own, child.node.ledger.identity.key, child.node.ledger.identity.network)
    reply = await child.ask("hello", hello(newest, of_its_own), messages.HelloReply)
    assert (reply.lacks, reply.registers) == ((), -1)
    assert await dump(child.hub.node) == before


async def test_nothing_is_taken_back_that_was_not_asked_for(tmp_path: Path) -> None:
    """A child cannot make a whole hub begin anew."""
    child, newest = await grown(tmp_path)
    before = child.hub.node.ledger.identity
    answer = await child.send("give", messages.Give((newest,)))
    assert answer.status == 403
    await child.ask("hello", hello(newest, registers=99), messages.HelloReply)  # as if it held newer rules
    taken = await child.ask("give", messages.Give((newest,)), messages.GiveReply)
    assert (taken.taken, child.hub.node.ledger.identity) == (0, before)


async def test_a_page_that_does_not_hold_leaves_nothing(tmp_path: Path) -> None:
    """What is given back is proven as any bundle, and a page is taken whole or not at all, the new incarnation with it."""
    child, newest = await grown(tmp_path)
    hub = child.hub.node
    row = await hub.read(hub.ledger.own_row)
    further = msgspec.structs.replace(decode_checkpoint(newest.checkpoint), start=row.size, size=row.size + 2)
    lost = sign_checkpoint(further, hub.ledger.identity.key, hub.ledger.identity.network)  # as if this store were an old one
    reply = await child.ask("hello", hello(lost), messages.HelloReply)
    assert reply.lacks == (messages.Held(row.log, row.size),)
    before, identity = await dump(hub), hub.ledger.identity
    answer = await child.send("give", messages.Give((lost,), bundles=(Bundle(lost, (BundleEntry(row.size, b"?", None, ()),)),)))
    assert answer.status == 400
    assert (await dump(hub), hub.ledger.identity) == (before, identity)
    await child.ask("give", messages.Give((lost,)), messages.GiveReply)
    assert hub.ledger.identity != identity
    (loss,) = await hub.read(lambda conn: continuity.losses(hub.ledger, conn))
    assert loss.spans == ((row.size, row.size + 2),)
