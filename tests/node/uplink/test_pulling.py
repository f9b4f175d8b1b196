"""Pages are taken whole or not at all; rules that change how older entries stand are applied where they arrive."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.app import Hub
from node.ledger import Changes, Draft
from node.registrar import take_in
from node.store.database import Connection
from node.uplink import Uplink
from node.uplink.pulling import take_page
from protocol import messages
from protocol.errors import PeerError
from protocol.log import Bundle, BundleEntry, Signed
from tests import story
from tests.hub.calling import dump
from tests.node.building import CITY, EAST, START_MS, ask
from tests.node.uplink.building import Wire
from tests.story import D1, D2, V1, Oracle
from tests.world import World


async def test_a_page_is_taken_whole_or_not_at_all(pair: tuple[Uplink, Wire]) -> None:
    """Rules, texts, cases and cursors are one transaction, in memory too: a bad part leaves nothing of the good ones."""
    uplink, line = pair
    await ask(line.hub.node, "calendar.publish", calendar=story.calendar(2))
    real = await uplink.line.ask("pull", messages.Pull(await uplink.cursors()), messages.PullReply)
    assert real.registers
    bad = msgspec.structs.replace(real, cases=(Bundle(real.registers[0].register.signed, ()), Bundle(Signed(b"", bytes(64)), ())))
    before, number = await dump(uplink.node), uplink.node.rules.number
    with pytest.raises(PeerError):
        await uplink.node.write(lambda conn, changes: take_page(uplink.node.ledger, conn, changes, bad))
    assert await dump(uplink.node) == before
    assert uplink.node.rules.number == number
    await uplink.round()
    assert uplink.node.rules.number > number


async def test_an_admission_folds_again_what_it_reorders(pair: tuple[Uplink, Wire]) -> None:
    """New rules that change how older entries stand are applied where they arrive, and a rebuild gives the same."""
    uplink, line = pair
    await uplink.round()
    hub = line.hub.node

    def admit(conn: Connection, changes: Changes) -> None:
        fields = {"node": EAST, "incarnation": bytes(16), "sizes": [[uplink.node.ledger.identity.incarnation, 1]]}
        hub.ledger.append(conn, [Draft("node.admit", START_MS, fields)], changes)
        take_in(hub.ledger, conn, changes, START_MS)

    await hub.write(admit)
    await uplink.round()
    for node in (hub, uplink.node):
        assert (await ask(node, "rebuild"))["problems"] == []
        assert [one.incarnation for one in node.rules.admissions[EAST]] == [bytes(16)]


@pytest.mark.parametrize("then", ["at once", "in a new session", "after a restart"])
def test_a_body_that_was_lost_on_the_way_comes_back(tmp_path: Path, then: str) -> None:
    """What a relay left out of a page is fetched again by itself, here and below, though the case waits for nothing else."""
    with World(14, tmp_path) as world:
        world.run(_lost_body(world, then))


async def _lost_body(world: World, then: str) -> None:
    oracle, text = Oracle(), "材料齐全"
    await story.build(world, ((D1, CITY), (V1, D1), (D2, CITY)))
    case = (await story.step(world, oracle, V1, "a", "case.open", item="cross", applicant="王伟", id_number=story.ID_NUMBER))["case"]
    await story.step(world, oracle, V1, "b", "case.offer", case=case, to=D2)
    await story.step(world, oracle, D2, "c", "case.take", case=case)
    await world.settle()
    honest = {name: Hub._INSIDE[name] for name in ("pull", "fetch")}
    left_out = []

    async def forgetful(hub: Hub, session: Any, body: bytes) -> messages.Message:
        reply = await honest["pull"](hub, session, body)
        if hub.node.id != CITY:
            return reply
        left_out.extend(one for bundle in reply.cases for one in bundle.entries if one.body is not None)
        return msgspec.structs.replace(reply, cases=tuple(map(_without_bodies, reply.cases)))

    async def silent(hub: Hub, session: Any, body: bytes) -> messages.Message:
        return messages.FetchReply() if hub.node.id == CITY else await honest["fetch"](hub, session, body)

    Hub._INSIDE["pull"] = forgetful
    if then != "at once":
        Hub._INSIDE["fetch"] = silent
    try:
        await story.step(world, oracle, D2, "d", "case.note", case=case, text=text)
        await asyncio.sleep(60.0)
    finally:
        Hub._INSIDE.update(honest)
    if then == "in a new session":
        await world.restart_session(D1)
    if then == "after a restart":
        await world.stop(D1)
        await world.start(D1)
    await asyncio.sleep(60.0)
    assert len(left_out) >= 1
    for name in (D1, V1):
        shown = await story.ask(world.places[name], "show", case=case)
        assert [one["details"].get("text") for one in shown["timeline"] if one["type"] == "note"] == [text], name
    await story.judge(world, oracle)


def _without_bodies(bundle: Bundle) -> Bundle:
    return Bundle(bundle.signed, tuple(BundleEntry(one.index, one.raw, None, one.path) for one in bundle.entries))
