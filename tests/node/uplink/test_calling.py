"""Asking: whatever answers becomes one of our errors, and a session that ended is begun again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node.ports import Response
from node.uplink.calling import call, refusal_of
from protocol import errors, messages
from protocol.errors import DecodeError, LinkError, Overloaded, PeerError, TongbanError
from tests import story
from tests.node.building import CITY
from tests.story import D1, D2, Oracle
from tests.world import World


@pytest.mark.parametrize(
    ("body", "status", "slot", "kind"),
    [
        (b"<html>login to the free wifi</html>", 200, None, None),
        (b"<html>moved</html>", 302, None, LinkError),
        (b"", 502, None, LinkError),
        (messages.encode(messages.Refusal("gap", "x")), 409, None, PeerError),
        (messages.encode(messages.Refusal("overloaded", "x")), 503, 7.0, Overloaded),
        (messages.encode(messages.Refusal("overloaded", "x")), 503, 1e9, Overloaded),
        (messages.encode(messages.Refusal("session", "x")), 401, None, errors.SessionEnded),
        (messages.encode(messages.Refusal("store", "x")), 507, None, LinkError),
        (messages.encode(messages.Refusal("what_is_this", "x")), 400, None, PeerError),
    ],
)
async def test_whatever_answers_becomes_one_of_our_errors(body: bytes, status: int, slot: float | None, kind: type[TongbanError] | None) -> None:
    """A captive portal, a proxy, a newer hub: an error that says whether to try again, never a crash."""
    if kind is None:

        class Portal:
            async def request(self, *_: Any, **__: Any) -> Response:
                return Response(status, body, b"")

        with pytest.raises(DecodeError):
            await call(Portal(), "x:1", "greet", b"", messages.Greeting, None, 1.0)  # type: ignore[arg-type]
        return
    found = refusal_of(body, status, slot)
    assert type(found) is kind
    if isinstance(found, Overloaded):
        assert found.retry_after_s <= 3_600.0


def test_a_session_that_ends_is_begun_again(tmp_path: Path) -> None:
    """A hub that started again does not know its children's sessions: they greet again by themselves."""
    with World(11, tmp_path) as world:
        world.run(_begun_again(world))


async def _begun_again(world: World) -> None:
    await story.build(world, ((D1, CITY),))
    await world.stop(CITY)
    await asyncio.sleep(30.0)
    await world.start(CITY)
    oracle = Oracle()
    await story.spot(world, oracle, D1, "a")
    await world.settle()
    await story.judge(world, oracle)


def test_a_child_that_its_restored_root_has_never_heard_of_logs_in(tmp_path: Path) -> None:
    """Enrolled after the copy was made, with nobody else to tell of it: it shows the chain of its keys, and gives the rules back."""

    async def tell(world: World) -> None:
        oracle = Oracle()
        await story.build(world, ((D1, CITY),))
        await world.stop(CITY)
        world.back_up(CITY)
        await world.start(CITY)
        await world.enrol(D2, "另一个区", CITY)
        await world.settle()
        number = world.places[CITY].node.rules.number
        await world.stop(D1)
        await world.stop(CITY)
        world.restore(CITY)
        await world.start(CITY)
        assert world.places[CITY].node.rules.record(D2) is None
        await world.settle_without(D1)
        assert world.places[CITY].node.rules.number == number
        await world.start(D1)
        await world.settle()
        await story.judge(world, oracle)

    with World(12, tmp_path) as world:
        world.run(tell(world))
