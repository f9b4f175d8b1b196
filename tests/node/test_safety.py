"""How safe an entry is: only verified receipts of other nodes count."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from node.safety import Acked, Receipted, Safety, acked
from tests.node.building import CITY, EAST, EAST_VILLAGE, found


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    """A node with a log of one entry; who its parent is does not matter here."""
    return await found(tmp_path)


async def known(node: Node, *receipts: tuple[str, int, int], parent: str | None = EAST) -> Acked:
    """Write receipts (hub, size, at) of the own log and read them back."""

    def unit(conn: object) -> Acked:
        row = node.ledger.own_row(conn)  # type: ignore[arg-type]
        for hub, size, at in receipts:
            conn.execute("INSERT INTO receipts (log, hub, size, at, entry) VALUES (?,?,?,?,1)", (row.id, hub, size, at))  # type: ignore[attr-defined]
        return acked(conn, row.id, EAST_VILLAGE, parent)  # type: ignore[arg-type]

    return await node.write(lambda conn, _: unit(conn))


async def test_without_receipts_it_is_here(node: Node) -> None:
    """Sent is not received."""
    found = await known(node)
    assert (found, found.of(0)) == (Acked(None, None), Safety.HERE)


async def test_the_parent_has_what_it_receipted(node: Node) -> None:
    """A receipt of size n covers the entries before index n, by the newest receipt."""
    found = await known(node, (EAST, 3, 10), (EAST, 5, 20))
    assert found.parent == Receipted(EAST, 5, 20)
    assert [found.of(index) for index in (0, 4, 5)] == [Safety.PARENT, Safety.PARENT, Safety.HERE]


async def test_a_second_machine_must_be_another_one(node: Node) -> None:
    """The strongest true level is said: a receipt from further up, not an own one."""
    found = await known(node, (EAST, 5, 20), (CITY, 3, 30), (EAST_VILLAGE, 9, 40))
    assert found.second == Receipted(CITY, 3, 30)
    assert [found.of(index) for index in (2, 3)] == [Safety.SECOND, Safety.PARENT]


async def test_a_node_passed_by_counts_as_one_machine_above(node: Node) -> None:
    """When only a hub further up has receipted, that is one machine above, not two."""
    found = await known(node, (CITY, 3, 30))
    assert (found.of(0), found.second) == (Safety.PARENT, None)
