"""The root numbers the rules in the transaction in which they arrive; nobody else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ledger import Changes, Draft
from node.node import Node
from node.registrar import take_in
from node.store.database import Connection
from protocol.log import decode_header
from tests.node.building import CITY, EAST, START_MS, ask, carry, enrol, found, item, size_of


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root."""
    return await found(tmp_path / "city")


async def test_rules_get_one_number_together(city: Node) -> None:
    """All that waits is taken in by one register, which names the one before it."""
    await ask(city, "catalogue.publish", items=[item("a"), item("b")])
    assert city.rules.number == 1
    last = await city.read(lambda conn: conn.execute("SELECT raw FROM entries ORDER BY id DESC LIMIT 1").fetchone()[0])
    header = decode_header(last)
    assert (header.type, header.fields["number"]) == ("register", 1)
    assert header.fields["before"] == city.ledger.identity.network


async def test_nothing_new_makes_no_register(city: Node) -> None:
    """Without rules to take in, nothing is written."""
    before = await size_of(city)
    await city.write(lambda conn, changes: take_in(city.ledger, conn, changes, START_MS))
    assert await size_of(city) == before


async def test_many_rules_are_cut_into_registers(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A register's body is bounded; the next one goes on."""
    monkeypatch.setattr("node.registrar.FACTS_PER_REGISTER", 2)
    await ask(city, "catalogue.publish", items=[item(f"i{number}") for number in range(5)])
    assert city.rules.number == 3
    assert len(list(city.rules.now.items())) == 5


async def test_a_void_rule_is_taken_in_and_has_no_effect(city: Node) -> None:
    """What breaks a rule is void there, once, for all; what is behind it passes."""

    def unit(conn: Connection, changes: Changes) -> bytes:
        fields = {"code": "x", "version": 1, "title": "x", "owner": EAST, "receive": [CITY], "decide": [CITY]}
        (bad,) = city.ledger.append(conn, [Draft("catalogue.item", START_MS, fields, {})], changes)
        take_in(city.ledger, conn, changes, START_MS)
        return bad.leaf

    leaf = await city.write(unit)
    assert city.rules.voids == {leaf: "no_right"}
    await ask(city, "catalogue.publish", items=[item("x")])
    assert city.rules.now.item("x") is not None


async def test_only_the_root_numbers(tmp_path: Path, city: Node) -> None:
    """At every other node rules wait for the root's register."""
    east = await enrol(tmp_path / "east", city, EAST)
    number = east.rules.number
    await ask(east, "catalogue.publish", items=[item("e", owner=EAST)])
    assert east.rules.number == number
    await carry(east, city)
    await city.write(lambda conn, changes: take_in(city.ledger, conn, changes, START_MS))
    assert city.rules.now.item("e") is not None
    await carry(city, east)
    assert east.rules.now.item("e") is not None
