"""What the parent has had for a day and nobody above it has is noticed; what honest lines do is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node import audit
from node.audit import SPAN_MS
from node.node import Node
from node.store import logs
from node.store.database import Connection
from protocol.messages import Head
from tests import story
from tests.story import CITY, D1, T1
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(6, tmp_path) as made:
        yield made


def receipt(node: Node, conn: Connection, hub: str, size: int, age_ms: int) -> None:
    row = node.ledger.own_row(conn)
    conn.execute("DELETE FROM receipts WHERE log = ? AND hub = ?", (row.id, hub))
    logs.save_receipts(conn, [(row.id, hub, size, node.clock.wall_ms() - age_ms, 1)])


def test_only_a_day_old_receipts_that_nobody_above_shares_count(world: World) -> None:
    """Younger ones may be on their way; a receipt from further up, or a head shown there, ends the alarm."""

    async def tell() -> None:
        await story.build(world, ((D1, CITY), (T1, D1)))
        node = world.places[T1].node

        def check(conn: Connection) -> None:
            size = node.ledger.own_row(conn).size
            receipt(node, conn, CITY, 1, SPAN_MS)
            receipt(node, conn, D1, size, SPAN_MS - 1000)
            assert audit.withheld(node, conn) is None
            receipt(node, conn, D1, size, SPAN_MS)
            found = audit.withheld(node, conn)
            assert found is not None
            assert (found.size, found.above) == (size, 1)
            assert found.shown()["entries"] == size - 1
            row = node.ledger.own_row(conn)
            for head in (None, Head(row.log, size, bytes(32)), Head(row.log, size + 1, row.root), Head(row.log, 1, row.root)):
                audit.note(node, conn, CITY, row.log, head)
                assert audit.withheld(node, conn) is not None
            audit.note(node, conn, CITY, row.log, Head(row.log, size, row.root))
            assert audit.withheld(node, conn) is None
            audit.note(node, conn, CITY, row.log, None)
            receipt(node, conn, CITY, size, 0)
            assert audit.withheld(node, conn) is None

        await node.store.write(check)

    world.run(tell())


def test_a_child_of_the_root_has_nobody_to_ask(world: World) -> None:
    """Above its parent is nobody: nothing is said, and nothing at the root."""

    async def tell() -> None:
        await story.build(world, ((D1, CITY),))
        for name in (D1, CITY):
            node = world.places[name].node
            await node.store.write(lambda conn, node=node: receipt(node, conn, CITY, 1, 10 * SPAN_MS))
            assert await node.read(lambda conn, node=node: audit.withheld(node, conn)) is None

    world.run(tell())
