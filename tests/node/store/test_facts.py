"""Rules in SQL: each fact once, in the order of arrival, until a register takes it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.ledger import Changes, Draft, Placed
from node.node import Node
from node.store import facts, logs
from node.store.database import Connection
from protocol.errors import StoreError
from protocol.log import encode_body
from tests.node.building import CITY, START_MS, found

ALL = 1_000_000


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root that has stated its genesis and nothing else."""
    return await found(tmp_path / "city")


async def stated(node: Node, *addresses: str, body: dict[str, Any] | None = None) -> list[Placed]:
    """State rules without numbering them."""

    def unit(conn: Connection, changes: Changes) -> list[Placed]:
        drafts = [Draft("node.address", START_MS, {"addresses": [one]}, body) for one in addresses]
        return node.ledger.append(conn, drafts, changes)

    return await node.write(unit)


async def test_a_fact_is_found_by_its_hash_and_by_its_link(city: Node) -> None:
    """Header and body come back as stated; another hash, or a link that nobody bears, finds nothing."""
    one, two = await stated(city, "a:1", "b:1", body={"text": "x"})

    def check(conn: Connection) -> None:
        for placed in (one, two):
            fact = facts.find(conn, placed.leaf)
            assert fact is not None
            assert (fact.leaf, fact.header, fact.body) == (placed.leaf, placed.header, encode_body({"text": "x"}))
            assert facts.find_by_link(conn, placed.leaf[:16]) == fact
        assert facts.find(conn, bytes(32)) is None
        assert facts.find(conn, one.leaf[:16]) is None
        for link in (bytes(16), b"\xff" * 16, one.leaf, one.leaf[:15], b"", None, "link", 7, [one.leaf[:16]]):
            assert facts.find_by_link(conn, link) is None, link

    await city.read(check)


async def test_a_link_finds_whatever_follows_it(city: Node) -> None:
    """A link is the first half of a hash: the lowest and the highest second half are found by it too."""
    one, two = await stated(city, "a:1", "b:1")

    def check(conn: Connection, _changes: Changes) -> None:
        for placed, leaf in ((one, b"\x11" * 16 + b"\x00" * 16), (two, b"\x22" * 16 + b"\xff" * 16)):
            conn.execute("UPDATE facts SET leaf = ? WHERE entry = ?", (leaf, placed.id))
            found_fact = facts.find_by_link(conn, leaf[:16])
            assert found_fact is not None
            assert (found_fact.leaf, found_fact.header) == (leaf, placed.header)

    await city.write(check)


async def test_facts_wait_in_the_order_of_arrival(city: Node) -> None:
    """With the log they stand in; by number and by bytes, bodies counted; one at least, so that a big one passes too."""
    placed = await stated(city, "a:1", "b:1") + await stated(city, "c:1", body={"text": "x" * 500})
    leaves = [one.leaf for one in placed]
    sizes = [len(one.raw) for one in placed]

    def check(conn: Connection) -> None:
        log = city.ledger.own_row(conn).id
        assert facts.unregistered(conn, 9, ALL) == [(leaf, log) for leaf in leaves]
        assert [fact.leaf for fact in facts.unregistered_facts(conn)] == leaves
        assert [leaf for leaf, _ in facts.unregistered(conn, 2, ALL)] == leaves[:2]
        assert [leaf for leaf, _ in facts.unregistered(conn, 9, sum(sizes[:2]))] == leaves[:2]
        assert [leaf for leaf, _ in facts.unregistered(conn, 9, sum(sizes[:2]) - 1)] == leaves[:1]
        assert [leaf for leaf, _ in facts.unregistered(conn, 9, sum(sizes) + 499)] == leaves[:2]  # its body is over
        assert [leaf for leaf, _ in facts.unregistered(conn, 9, 0)] == leaves[:1]
        assert facts.unregistered(conn, 0, ALL) == []

    await city.read(check)


async def test_a_register_takes_facts_in_once(city: Node) -> None:
    """What a register lists no longer waits; registers come back in their order, the genesis first; a number is given once."""
    one, two, three = await stated(city, "a:1", "b:1", "c:1")

    def check(conn: Connection, _changes: Changes) -> None:
        facts.save_register(conn, 2, three.id, [bytes(32)])
        facts.save_register(conn, 1, two.id, [two.leaf, one.leaf])
        assert [leaf for leaf, _ in facts.unregistered(conn, 9, ALL)] == [three.leaf]
        assert [fact.leaf for fact in facts.unregistered_facts(conn)] == [three.leaf]
        registers = facts.load_registers(conn)
        assert [number for number, _ in registers] == [0, 1, 2]
        assert [fact.leaf for _, fact in registers] == [city.ledger.identity.network, two.leaf, three.leaf]
        assert [fact.header.type for _, fact in registers] == ["network.genesis", "node.address", "node.address"]

    await city.write(check)
    with pytest.raises(StoreError):
        await city.write(lambda conn, _: facts.save_register(conn, 1, three.id, []))


async def test_a_fact_at_a_second_place_is_the_same_fact(city: Node) -> None:
    """The same bytes restated in another incarnation change nothing: the first place counts, also after it was numbered."""
    (one,) = await stated(city, "a:1")

    def check(conn: Connection, _changes: Changes) -> None:
        (other,) = conn.execute("SELECT id FROM entries WHERE id <> ? ORDER BY id LIMIT 1", (one.id,)).fetchone()
        conn.execute("DELETE FROM facts WHERE entry = ?", (other,))
        facts.save_register(conn, 1, one.id, [one.leaf])
        facts.save(conn, [(other, one.leaf)])
        rows = conn.execute("SELECT entry, leaf, number FROM facts WHERE leaf = ?", (one.leaf,)).fetchall()
        assert rows == [(one.id, one.leaf, 1)]
        facts.save(conn, [])

    await city.write(check)


async def test_a_text_comes_once(city: Node) -> None:
    """A body that came later is kept where there was none; what is there is never replaced, and no other entry is touched."""
    one, two = await stated(city, "a:1", "b:1")

    def check(conn: Connection, _changes: Changes) -> None:
        for body in (b"first", b"second"):
            facts.save_text(conn, one.leaf, body)
            assert logs.entry_by_id(conn, one.id).body == b"first"
        assert logs.entry_by_id(conn, two.id).body is None
        facts.save_text(conn, bytes(32), b"nobody's")
        assert conn.execute("SELECT count(*) FROM entries WHERE body IS NOT NULL").fetchone() == (1,)
        fact = facts.find(conn, one.leaf)
        assert fact is not None
        assert (fact.body, fact.header.node) == (b"first", CITY)

    await city.write(check)
