"""A node's one way of writing: whole or not at all, in memory too."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import setup
from node.ledger import Changes, Draft
from node.node import Node, open_ledger
from node.registrar import take_in
from node.store.database import Connection, InlineDatabase
from protocol import numbers
from protocol.errors import CommandRefused, StoreError
from tests.node.building import CITY, START_MS, ask, found, furnish, item, opened, seal


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


def failing(node: Node, *drafts: Draft, number_rules: bool = False) -> object:
    """Return a unit that states entries, then fails."""

    def unit(conn: Connection, changes: Changes) -> None:
        node.ledger.append(conn, drafts, changes)
        if number_rules:
            take_in(node.ledger, conn, changes, START_MS)
        raise CommandRefused("failed on purpose")

    return unit


async def test_a_failed_unit_leaves_no_entry_and_tells_nobody(city: Node) -> None:
    """What a unit wrote before it failed is gone, and listeners heard nothing."""
    heard: list[Changes] = []
    city.listeners.append(heard.append)
    before = await ask(city, "status")
    with pytest.raises(CommandRefused):
        await city.write(failing(city, Draft("note.test", START_MS, {})))  # type: ignore[arg-type]
    assert await ask(city, "status") == before
    assert heard == []


async def test_a_failed_unit_takes_its_rules_back(city: Node) -> None:
    """A register that was folded and then rolled back is forgotten, and can come again."""
    number = city.rules.number
    fields = {"code": "x", "version": 1, "title": "x", "owner": CITY, "receive": [CITY], "decide": [CITY]}
    with pytest.raises(CommandRefused):
        await city.write(failing(city, Draft("catalogue.item", START_MS, fields, {}), number_rules=True))  # type: ignore[arg-type]
    assert (city.rules.number, city.rules.now.item("x")) == (number, None)
    await ask(city, "catalogue.publish", items=[item("x")])
    assert city.rules.number == number + 1


async def test_signatures_survive_a_unit_that_fails(city: Node) -> None:
    """A checkpoint waits for the next transaction; when that one fails it waits on, so every entry keeps its cover."""
    await city.store.own(city.ledger.seal)
    with pytest.raises(CommandRefused):
        await city.write(failing(city, Draft("note.test", START_MS, {})))  # type: ignore[arg-type]
    await seal(city)
    assert await city.read(lambda conn: conn.execute("SELECT count(*) FROM checkpoints").fetchone()[0]) == 1
    await opened(city)
    await seal(city)
    assert (await ask(city, "verify"))["checkpoints"] == 2


async def test_signatures_survive_a_commit_that_fails(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may refuse at the commit itself: then everything is signed again, equal."""
    await city.store.own(city.ledger.seal)

    def full(label: str) -> None:
        if label == "store.before_commit":
            raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("node.faults._hook", full)
        with pytest.raises(OSError, match="full"):
            await opened(city)
    await opened(city)
    await seal(city)
    covered = await city.read(lambda conn: conn.execute("SELECT start, size FROM checkpoints ORDER BY size").fetchall())
    assert [start for start, _ in covered] == [0, *(size for _, size in covered[:-1])]
    assert (await ask(city, "verify"))["problems"] == []


async def test_a_store_without_a_node_says_how_to_begin(tmp_path: Path) -> None:
    """An empty store is refused with the two commands that make a node."""
    store = InlineDatabase(tmp_path / "empty.sqlite3")
    with pytest.raises(StoreError) as caught:
        await store.own(lambda conn: open_ledger(conn, None))  # type: ignore[arg-type]
    assert "init" in caught.value.hint
    await store.close()


async def test_a_node_opened_again_goes_on(city: Node, tmp_path: Path) -> None:
    """Rules, log and serials are those of the store."""
    first = await opened(city)
    await city.close()
    again = await setup.node_of(
        InlineDatabase(tmp_path / "city" / "tongban.sqlite3"), city.ledger.identity.key, city.clock, city.entropy
    )
    second = await opened(again)
    assert [numbers.parse_number(one).serial for one in (first, second)] == [1, 2]
    assert (await ask(again, "verify"))["problems"] == []
