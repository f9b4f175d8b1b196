"""The page of one case: order of the timeline, times, clocks, and what is hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ledger import Draft
from node.node import Node
from node.office.drafting import find_case
from node.projection import held_of
from node.store import logs
from node.store.database import Connection
from node.views.page import plain, was_offline
from protocol.errors import InputError
from protocol.log import Header
from tests.node.building import (
    ACT,
    CITY,
    DAY_MS,
    EAST,
    HOUR_MS,
    START_MS,
    ask,
    brought_to,
    carry,
    enrol,
    found,
    furnish,
    hire,
    opened,
    show,
)


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


async def test_a_side_entry_stands_behind_the_step_it_names(city: Node) -> None:
    """The line gives the order; what was said beside it follows the step that its author knew last."""
    case = await opened(city)
    await ask(city, "case.note", case=case, text="一")
    await brought_to(city, case, "accept")
    await ask(city, "case.note", case=case, text="二")
    await ask(city, "case.note", case=case, text="三")
    steps = (await show(city, case))["timeline"]
    assert [(step["type"], step["details"].get("text")) for step in steps] == [
        ("open", None),
        ("note", "一"),
        ("accept", None),
        ("note", "二"),
        ("note", "三"),
    ]


async def test_the_digest_is_that_of_the_entries_held(city: Node) -> None:
    """Each new entry changes the digest; reading does not."""
    case = await opened(city)
    first = (await show(city, case))["digest"]
    assert (await show(city, case))["digest"] == first
    await brought_to(city, case, "accept")
    assert (await show(city, case))["digest"] != first


async def test_limits_are_read_as_of_a_day(city: Node) -> None:
    """The same case on another day: due, deemed acceptance, level; a day beyond the calendar is provisional."""
    case = await opened(city)
    assert (await show(city, case))["due"] == {"date": "2025-12-02", "provisional": False, "basis": "acceptance"}
    later = await show(city, case, as_of="2025-12-10")
    assert later["clock"]["deemed_accepted"] is True
    assert (later["due"]["basis"], later["clock"]["level"]) == ("promised", "red")
    await brought_to(city, case, "accept")
    await ask(city, "case.extend", case=case, days=400, reason="r")
    assert (await show(city, case))["due"]["provisional"] is True
    with pytest.raises(InputError, match="as_of"):
        await show(city, case, as_of="2025-13-01")


async def test_personal_numbers_are_masked(city: Node) -> None:
    """A page shows the name, never the whole number."""
    shown = await show(city, await opened(city, phone="13800001234"))
    assert (shown["id_number"], shown["phone"]) == ("110105********002X", "138****1234")
    assert "19491231" not in str(shown)


async def test_what_was_entered_without_a_line_is_marked(tmp_path: Path) -> None:
    """An entry that the first hub received much later than claimed is 离线录入; one in time is not."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await carry(east, city)

    def receipt(conn: Connection, at: int) -> None:
        (row,) = [row for row in logs.load_logs(conn) if row.log.node == EAST]
        conn.execute("DELETE FROM receipts")
        logs.save_receipts(conn, [(row.id, CITY, row.size, at, 1)])

    await city.write(lambda conn, _: receipt(conn, START_MS + 60_000))
    step = (await show(city, case))["timeline"][0]
    assert (step["offline"], step["received_at"]) == (False, {CITY: "2025-11-25T10:01:00.000+08:00"})
    await city.write(lambda conn, _: receipt(conn, START_MS + 9 * HOUR_MS))
    assert (await show(city, case))["timeline"][0]["offline"] is True


def test_offline_needs_a_receipt() -> None:
    """What nobody has received yet is not called late."""
    header = Header(1, 1, CITY, "open", None, None, START_MS, None, 0, None, None, None, None, (), (), {})
    assert not was_offline(header, {})
    assert was_offline(header, {CITY: START_MS + DAY_MS, EAST: START_MS + 2 * DAY_MS})
    assert not was_offline(header, {CITY: START_MS + DAY_MS, EAST: START_MS + 1})


async def test_what_has_no_effect_is_shown_with_its_reason(tmp_path: Path) -> None:
    """An authentic entry without custody is stored and shown last, with no effect on the state."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await brought_to(east, case, "offer")
    await carry(east, city)
    await ask(city, "case.take", case=case)
    await _forge(east, case, "accept")
    await carry(east, city)
    shown = await show(city, case)
    last = shown["timeline"][-1]
    assert (last["type"], last["effect"], last["reason"]) == ("accept", "void", "offered_away")
    assert (shown["state"], shown["holder"]) == ("received", CITY)


async def _forge(node: Node, case: str, kind: str) -> None:
    """Write an entry that the office would refuse."""
    def unit(conn: Connection, changes: object) -> None:
        row = find_case(conn, case)
        entries = logs.entries_of_cases(conn, [row.id])[row.id]
        tip = held_of(conn, node.rules, entries)[-1]
        draft = Draft(kind, START_MS, {}, None, ACT.officer, None, row.key, 0, tip.link)
        node.ledger.append(conn, [draft], changes)  # type: ignore[arg-type]

    await node.write(unit)


async def test_a_case_without_its_opening_is_shown_as_waiting(tmp_path: Path) -> None:
    """A page of what is not here whole says so, and shows what is."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(city)
    await ask(city, "case.offer", case=case, to=EAST)
    key = (await show(city, case))["key"]
    await carry(city, east)

    def lose(conn: Connection) -> None:
        first = conn.execute("SELECT min(id) FROM entries WHERE case_id IS NOT NULL").fetchone()[0]
        conn.execute("DELETE FROM paths WHERE entry = ?", (first,))
        conn.execute("DELETE FROM entries WHERE id = ?", (first,))

    await east.write(lambda conn, _: lose(conn))
    shown = await show(east, key)
    assert (shown["state"], shown["due"]) == ("waiting", None)
    assert [step["effect"] for step in shown["timeline"]] == ["waiting"]


def test_values_are_made_fit_for_json() -> None:
    """Hashes become hex, also inside lists and maps."""
    assert plain({"a": [b"\x01", {"b": (b"\xff", 1)}]}) == {"a": ["01", {"b": ["ff", 1]}]}
