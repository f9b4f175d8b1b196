"""H12: an old change set is sent again, to the same hub, to another one, and to another network."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hub.app import Hub
from node.store.database import Connection
from node.uplink.pushing import prepare_push
from protocol import messages
from tests import story
from tests.hub.calling import CERTIFICATE, Caller, city_and_child, clock, count, dump
from tests.hub.test_app import opened
from tests.hub.test_witness import TREE
from tests.node.building import EAST, enrol, found
from tests.story import CITY, D1, V1
from tests.world import World

HOUR_MS = 3_600_000
GROWS = ("logs", "entries", "checkpoints", "receipts", "registers", "facts")  # with each receipt


async def test_an_old_push_at_the_same_hub_changes_nothing(tmp_path: Path) -> None:
    """An hour later, and again: a receipt of what is held, the entries once, the cases as they were."""
    child = await city_and_child(tmp_path)
    await opened(child.node, "甲")
    old = await child.next_push()
    await child.push(old)
    await opened(child.node, "乙")
    await child.push()
    before = await dump(child.hub.node, *GROWS)
    size = await held(child)
    for _ in range(2):
        clock(child.hub.node).pass_ms(HOUR_MS)
        await child.login()
        reply = await child.push(old)
        assert [one.size for one in reply.held] == [size]
    assert await dump(child.hub.node, *GROWS) == before
    assert await count(child.hub.node, "entries", "raw IN (SELECT raw FROM entries GROUP BY raw HAVING count(*) > 1)") == 0


async def held(child: Caller) -> int:
    return int(await child.node.read(lambda conn: child.node.ledger.own_row(conn).size))


async def test_an_old_push_in_another_network_is_refused(tmp_path: Path) -> None:
    """The same node id with the same key, in a network of another genesis: every signature is for one network only."""
    child = await city_and_child(tmp_path / "one")
    city = await found(tmp_path / "city", seed=99)
    other = Caller(await enrol(tmp_path / "east", city, EAST), Hub(city, CERTIFICATE))
    await other.login()
    assert child.node.ledger.identity.key.public == other.node.ledger.identity.key.public
    assert child.node.ledger.identity.network != other.node.ledger.identity.network
    old = await child.next_push()
    await other.refused("push", old, "signature")
    await other.refused("push", msgspec.structs.replace(old, head=None), "signature")


def test_an_old_push_at_another_hub_is_taken_once(tmp_path: Path) -> None:
    """A hub further up takes an authentic log from whoever brings it; at the root each entry stands once, also afterwards."""
    with World(8, tmp_path) as world:

        async def tell() -> None:
            await story.build(world, TREE)
            oracle = story.Oracle()
            await story.spot(world, oracle, V1, "one")
            village = world.places[V1]
            old = await village.node.store.own(lambda conn: prepare_push(village.node.ledger, conn, nothing_acked(conn)))
            assert old is not None
            await world.settle()
            line = village.uplink.line  # type: ignore[union-attr]
            session = await line.login(D1, f"{D1}:1")
            for _ in range(2):
                reply = await line.ask_at(session, "push", old.body, messages.PushReply)
                assert reply.receipt is not None
            await world.settle()
            await story.judge(world, oracle)
            assert (await story.ask(world.places[CITY], "evidence.list")) == []

        def nothing_acked(conn: Connection) -> dict[int, int]:
            return {log: 0 for (log,) in conn.execute("SELECT id FROM logs").fetchall()}

        world.run(tell())
