"""Pages are taken whole or not at all; rules that change how older entries stand are applied where they arrive."""

from __future__ import annotations

import msgspec
import pytest

from node.ledger import Changes, Draft
from node.registrar import take_in
from node.store.database import Connection
from node.uplink import Uplink
from node.uplink.pulling import take_page
from protocol import messages
from protocol.errors import PeerError
from protocol.log import Bundle, Signed
from tests import story
from tests.hub.calling import dump
from tests.node.building import EAST, START_MS, ask
from tests.node.uplink.building import Wire


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
