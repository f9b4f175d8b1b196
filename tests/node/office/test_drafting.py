"""Naming a case, and what a new spine entry lists of the side entries before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from node.office.drafting import find_case
from node.store import logs
from protocol import limits
from protocol.errors import CommandRefused, NotFound
from protocol.log import decode_header
from tests.node.building import ask, brought_to, found, furnish, opened, show


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


async def newest(node: Node) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return `rests` and `saw` of the node's newest entry."""

    def read(conn: object) -> bytes:
        row = node.ledger.own_row(conn)  # type: ignore[arg-type]
        found = logs.entry_at(conn, row.id, row.size - 1)  # type: ignore[arg-type]
        assert found is not None
        return found.raw

    header = decode_header(await node.read(read))
    return header.rests, header.saw


async def test_a_case_is_named_by_number_key_or_prefix(city: Node) -> None:
    """Number as printed or typed, key, and unique key prefix of eight digits name the same case."""
    number = await opened(city)
    key = (await show(city, number))["key"]
    typed = number.lower().replace("-", " ")
    for name in (number, typed, key, key[:8], key[:11].upper()):
        assert (await city.read(lambda conn, name=name: find_case(conn, name))).key.hex() == key


@pytest.mark.parametrize("name", ["", "1234567", "ffffffff", "650100000000-20251125-00009A", "王伟", "' OR 1=1 --", "%"])
async def test_what_names_no_case_is_not_found(city: Node, name: str) -> None:
    """A short prefix, a wrong number or anything else is refused, never guessed."""
    await opened(city)
    with pytest.raises(NotFound):
        await city.read(lambda conn: find_case(conn, name))


async def test_a_number_printed_twice_is_ambiguous(city: Node) -> None:
    """Two cases under one number both stand; the command asks for a key."""
    number = await opened(city)
    await opened(city)
    await city.write(lambda conn, _: conn.execute("UPDATE cases SET number = ?", (number,)))
    with pytest.raises(CommandRefused, match="several") as caught:
        await ask(city, "case.accept", case=number)
    assert "key" in caught.value.hint


async def test_materials_asked_for_are_rested_on_and_notes_only_seen(city: Node) -> None:
    """What a notice asked for goes into `rests`, everything else that is new into `saw`, each once."""
    case = await brought_to(city, await opened(city), "notice")
    await ask(city, "case.note", case=case, text="来电")
    await brought_to(city, case, "supplement")
    steps = {step["type"]: step["entry"] for step in (await show(city, case))["timeline"]}
    await brought_to(city, case, "accept")
    rests, saw = await newest(city)
    assert ([link.hex() for link in rests], [link.hex() for link in saw]) == ([steps["supplement"]], [steps["note"]])
    await brought_to(city, case, "decide")
    assert await newest(city) == ((), ())


async def test_results_of_the_stage_are_rested_on_by_any_step(city: Node) -> None:
    """A step between result and decision relies on the result: seen only, it could not count later."""
    await brought_to(city, await opened(city), "accept", "dispatch", "task:社保核验", "suspend")
    rests, saw = await newest(city)
    assert (len(rests), len(saw)) == (1, 0)


async def test_more_than_a_header_holds_waits_for_the_next_step(city: Node) -> None:
    """At most 64 links are listed, the newest first; the rest is listed by the next spine entry."""
    case = await brought_to(city, await opened(city), "accept")
    count = limits.LINKS_MAX + 5
    for number in range(count):
        city.clock.at_ms += 1  # type: ignore[attr-defined] # the virtual clock
        await ask(city, "case.note", case=case, text=f"备注 {number}")
    entries = [step["entry"] for step in (await show(city, case))["timeline"] if step["type"] == "note"]
    await brought_to(city, case, "suspend")
    assert [link.hex() for link in (await newest(city))[1]] == entries[5:]
    await brought_to(city, case, "resume")
    assert [link.hex() for link in (await newest(city))[1]] == entries[:5]


async def test_a_case_is_bounded(city: Node) -> None:
    """At the bound a command says to go on in a new case."""
    case = await opened(city)
    await city.write(lambda conn, _: conn.execute("UPDATE cases SET entries = ?", (limits.CASE_ENTRIES_MAX,)))
    with pytest.raises(CommandRefused, match="4096") as caught:
        await ask(city, "case.note", case=case, text="x")
    assert "new case" in caught.value.hint
