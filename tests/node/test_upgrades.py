"""A newer program on an older one's store; the whole story, with real processes, is in `tests/test_versions.py`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from node import upgrades
from node.ledger import Draft
from node.node import Node
from node.registrar import take_in
from node.store import facts, logs
from node.upgrades import KNOWN, catch_up, known_now
from protocol import codec
from protocol import facts as rules
from protocol.errors import StoreFull
from protocol.register import _FOLDERS
from tests.node.building import START_MS, found, furnish, hire, opened

MOTTO = "network.motto"


class Motto(msgspec.Struct, frozen=True):
    text: str


def upgrade(patch: pytest.MonkeyPatch) -> None:
    """From here on the program knows one more rule."""
    more = rules.RULE_TYPES | {MOTTO}
    patch.setattr(upgrades, "RULE_TYPES", more)
    patch.setattr("node.rulebook.RULE_TYPES", more)
    patch.setitem(rules._FIELDS, MOTTO, Motto)
    patch.setitem(_FOLDERS, MOTTO, lambda *_: None)


async def state_motto(node: Node) -> None:
    def state(conn: object, changes: object) -> None:
        node.ledger.append(conn, [Draft(MOTTO, START_MS, {"text": "一窗受理"})], changes)  # type: ignore[arg-type]
        take_in(node.ledger, conn, changes, START_MS)  # type: ignore[arg-type]

    await node.write(state)


async def test_a_new_store_has_nothing_to_catch_up_with(tmp_path: Path) -> None:
    """What the program knows is written down once; the same program finds nothing to do, and writes nothing."""
    city = await furnish(await found(tmp_path / "city"))
    await catch_up(city)
    assert await city.read(lambda conn: codec.decode(logs.get_meta(conn, KNOWN) or b"")) == known_now()
    before = await city.read(lambda conn: conn.execute("PRAGMA data_version").fetchone())
    number = city.rules.number
    await catch_up(city)
    assert (city.rules.number, await city.read(lambda conn: conn.execute("PRAGMA data_version").fetchone())) == (number, before)


async def test_on_a_full_disk_it_waits_for_the_next_start(tmp_path: Path) -> None:
    """The node starts and can be read; nothing is written down as known before it was caught up with."""
    city = await found(tmp_path / "city")
    await city.store.write(lambda conn: conn.execute("PRAGMA max_page_count = 1").fetchone())  # as small as it is: no page more
    filler = b"x" * 20_000
    with pytest.raises(StoreFull):
        await city.write(lambda conn, _: logs.set_meta(conn, "filler", filler))
    for number in range(200):  # what room there is inside its pages
        try:
            await city.write(lambda conn, _, number=number: logs.set_meta(conn, f"f{number}", b"x" * 200))  # type: ignore[misc]
        except StoreFull:
            break
    await catch_up(city)
    assert await city.read(lambda conn: logs.get_meta(conn, KNOWN)) is None
    await city.store.own(lambda conn: conn.execute("PRAGMA max_page_count = 1000000").fetchone())
    await catch_up(city)
    assert await city.read(lambda conn: logs.get_meta(conn, KNOWN)) is not None


async def test_a_root_numbers_rules_that_came_before_it_knew_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule of a newer type lies in the root's store as an entry; upgraded, the root takes it into a register, once."""
    city = await furnish(await found(tmp_path / "city"))
    await catch_up(city)
    await state_motto(city)
    number = city.rules.number
    assert await city.read(facts.unregistered_facts) == []
    upgrade(monkeypatch)
    await catch_up(city)
    await catch_up(city)
    assert city.rules.number == number + 1
    assert city.rules.voids == {}


async def test_a_rule_listed_before_is_folded_with_all_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A register lists a rule that the older program took for void: with the upgrade rules and every case are made anew."""
    city = await hire(await furnish(await found(tmp_path / "city")))
    await opened(city)
    with monkeypatch.context() as newer:
        upgrade(newer)
        await state_motto(city)
    await catch_up(city)
    await city.store.own(city.ledger.reload)  # the older program's next start
    assert list(city.rules.voids.values()) == ["unknown_type"]
    await city.write(lambda conn, _: conn.execute("UPDATE cases SET state = 'decided'"))  # as judged without the rule
    upgrade(monkeypatch)
    await city.store.own(city.ledger.reload)
    await catch_up(city)
    assert city.rules.voids == {}
    assert await city.read(lambda conn: conn.execute("SELECT state FROM cases").fetchall()) == [("received",)]
