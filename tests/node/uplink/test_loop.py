"""The endless loop: lost answers, late copies, odd parents; it goes on for ever, and ends at once when it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub.app import Hub
from node.uplink import Uplink
from node.uplink.loop import COMPARE_S
from protocol import errors, messages
from protocol.errors import (
    DecodeError,
    LinkError,
    Overloaded,
    PeerError,
    ProofInvalid,
    TongbanError,
    VersionUnsupported,
)
from protocol.log import Bundle, Signed
from tests import story
from tests.node.building import CITY, EAST, ask
from tests.node.uplink.building import Wire, acked, twisted
from tests.story import D1, V1, Oracle
from tests.world import Weather, World


@pytest.mark.parametrize("name", ["greet", "login", "hello", "push", "pull"])
async def test_a_lost_answer_costs_one_more_try(pair: tuple[Uplink, Wire], name: str) -> None:
    """Whatever answer is lost, the next round brings everything, each entry once."""
    uplink, line = pair
    line.lose.add(name)
    with pytest.raises(LinkError):
        await uplink.round()
    uplink.drop(LinkError("lost"))
    await uplink.round()
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size
    assert (await ask(line.hub.node, "verify"))["problems"] == []


async def test_a_round_with_nothing_new_is_two_short_requests(pair: tuple[Uplink, Wire]) -> None:
    """With a session, an idle child asks for news only."""
    uplink, line = pair
    await uplink.round()
    line.carried.clear()
    await uplink.round()
    assert line.carried == ["pull"]


async def test_two_uplinks_at_once_do_no_harm(pair: tuple[Uplink, Wire]) -> None:
    """A command beside the running program: both push, everything stands once."""
    uplink, line = pair
    other = Uplink(uplink.node, line, uplink.line.settings)
    outcomes = await asyncio.gather(uplink.round(), other.sync(30.0), return_exceptions=True)
    assert not [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, Overloaded)]
    await uplink.sync(30.0)
    other.close()
    assert (await ask(line.hub.node, "verify"))["problems"] == []
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size


@pytest.mark.parametrize(
    ("kind", "changes", "error"),
    [
        (messages.PushReply, {"receipt": None}, ProofInvalid),
        (messages.PushReply, {"receipt": Bundle(Signed(b"\x00", bytes(64)), ())}, DecodeError),
        (messages.Greeting, {"signature": bytes(64)}, errors.SignatureInvalid),
        (messages.Greeting, {"node": EAST}, PeerError),
        (messages.Greeting, {"network": bytes(32)}, PeerError),
        (messages.Greeting, {"version": 7}, VersionUnsupported),
        (messages.PullReply, {"cursors": messages.Cursors(0, 0, b"", 0), "more": True, "registers": (), "items": ()}, PeerError),
    ],
)
async def test_what_a_parent_cannot_prove_moves_nothing(
    pair: tuple[Uplink, Wire], kind: type[Any], changes: dict[str, Any], error: type[TongbanError]
) -> None:
    """No acknowledgement without a receipt, no cursor without progress, no hub that is not the parent."""
    uplink, line = pair
    line.twist = twisted(kind, **changes)
    before = await acked(uplink.node)
    with pytest.raises(error):
        await uplink.round()
    if kind is not messages.PullReply:
        assert await acked(uplink.node) == before
    line.twist = None
    uplink.drop(LinkError("again"))
    await uplink.round()


def test_the_uplink_never_ends(tmp_path: Path) -> None:
    """Whatever a parent answers, also what we did not foresee, the uplink tries again; and ends at once when it is cancelled."""
    with World(9, tmp_path) as world:
        world.run(_never_ends(world))


async def _never_ends(world: World) -> None:
    await story.build(world, ((D1, CITY),))
    hub = world.places[CITY].hub
    honest = Hub._INSIDE["pull"]

    async def odd(_hub: Hub, _session: Any, _body: bytes) -> messages.Message:
        return messages.PullReply(messages.Cursors(1, 1, b"", 0), more=True, registers=({"not": "a register"},))  # type: ignore[arg-type]

    Hub._INSIDE["pull"] = odd
    try:
        await story.told(world, world.places[CITY], "officer.add", id="2002", name="李四")
        await story.ask(world.places[CITY], "calendar.publish", calendar=story.calendar(2))
        await asyncio.sleep(600.0)
    finally:
        Hub._INSIDE["pull"] = honest
    await world.settle()
    assert world.problems == []
    assert hub.sessions.of(D1)
    (task,) = world.places[D1].tasks
    task.cancel()
    await asyncio.sleep(0.1)
    assert task.done()


def test_a_local_write_wakes_the_uplink(tmp_path: Path) -> None:
    """What is written is at the parent within a moment, also in a pause after a failure."""
    with World(10, tmp_path) as world:
        world.run(_wakes(world))


async def _wakes(world: World) -> None:
    await story.build(world, ((D1, CITY),))
    await asyncio.sleep(100.0)
    for cut in (False, True):
        if cut:
            world.cut(D1, CITY)
            await asyncio.sleep(12.0)
            world.heal()
        begun = world.loop.time()
        await story.ask(world.places[D1], "case.open", item="spot", applicant="王伟", id_number=story.ID_NUMBER)
        await world.settle(rounds=1_000, step_s=0.02)
        assert world.loop.time() - begun < (14.0 if cut else 0.5)


async def test_an_overloaded_hubs_slot_is_kept(pair: tuple[Uplink, Wire]) -> None:
    """A child comes back after the time it was given, spread up to twice that; else after a jittered, growing, capped pause."""
    uplink, _ = pair
    clock = uplink.node.clock
    for exc, failures, low, high in [
        (Overloaded("x", retry_after_s=10.0), 5, 10.0, 20.0),
        (LinkError("x"), 20, 0.0, 300.0),
        (LinkError("x"), 0, 0.0, 1.0),
    ]:
        before = clock.monotonic_s()
        await uplink.pause(exc, failures)
        assert low <= clock.monotonic_s() - before <= high


async def test_a_hub_that_is_busy_keeps_the_session(pair: tuple[Uplink, Wire]) -> None:
    """Who is sent away comes back with the push alone: no greeting and no login are added to a storm; a broken line meets anew."""
    uplink, wire = pair
    await uplink.round()
    uplink.drop(Overloaded("x", retry_after_s=1.0))
    wire.carried.clear()
    await uplink.round()
    assert not {"greet", "login", "hello"} & set(wire.carried)
    uplink.drop(LinkError("x"))
    await uplink.round()
    assert {"greet", "login", "hello"} <= set(wire.carried)


def test_good_weather_and_bad(tmp_path: Path) -> None:
    """Messages that come twice, an hour late or never, change nothing in the end."""
    with World(12, tmp_path) as world:
        world.run(_weather(world))


async def _weather(world: World) -> None:
    oracle = Oracle()
    await story.build(world, ((D1, CITY), (V1, D1)))
    world.weather = Weather(0.2, 0.2, 1.0, 0.5, (0.001, 2.0), late_s=(1.0, 3_600.0))
    await story.spot(world, oracle, V1, "a")
    await asyncio.sleep(8_000.0)
    world.calm()
    await world.settle()
    await story.judge(world, oracle)


def test_heads_are_compared_again_while_a_session_lasts(tmp_path: Path) -> None:
    """What an ancestor holds more of comes to light within the hour, without a new session and without a failure."""

    async def tell(world: World) -> None:
        await world.found(CITY, "市")
        await world.enrol(EAST, "区", CITY)
        await world.settle()
        hub, names = world.places[CITY].hub, list[str]()
        honest = hub.handle

        async def counted(name: str, token: bytes | None, body: bytes) -> Any:
            names.append(name)
            return await honest(name, token, body)

        hub.handle = counted  # type: ignore[method-assign]
        await asyncio.sleep(2.1 * COMPARE_S)
        assert names.count("hello") == 2
        assert names.count("login") == 0

    with World(1, tmp_path) as world:
        world.run(tell(world))
