"""Clocks that are dead, wrong by years, or jump: nothing is ordered or decided by them, what they claim is replaced by evidence."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pytest

from node.cli.answers import in_words
from node.cli.options import parse_time
from node.ledger import Draft
from node.node import Node
from node.uplink import Settings, Uplink
from protocol import limits
from protocol.authority import legal_day
from protocol.errors import InputError, TongbanError
from protocol.log import decode_header
from tests.attacks.scene import key_of, states
from tests.hub.calling import Caller, city_and_child, clock, count, dump
from tests.node.building import (
    CITY,
    DAY_MS,
    EAST,
    HOUR_MS,
    MINUTE_MS,
    START_MS,
    ask,
    brought_to,
    effects,
    hire,
    opened,
    show,
)
from tests.node.uplink.building import Wire

YEAR_MS = 365 * DAY_MS
DECADE_MS = 10 * YEAR_MS


async def child_at(folder: Path, at_ms: int) -> Caller:
    """Return a child whose clock shows something of its own, logged in, with an officer."""
    caller = await city_and_child(folder)
    clock(caller.node).at_ms = at_ms
    await hire(caller.node)
    return caller


async def entries_of(node: Node, author: str) -> list[Any]:
    """Return the headers of an author's entries, in their order."""
    rows = await node.read(
        lambda conn: conn.execute(
            "SELECT e.raw FROM entries e JOIN logs l ON l.id = e.log WHERE l.node = ? ORDER BY e.idx", (author,)
        ).fetchall()
    )
    return [decode_header(raw) for (raw,) in rows]


# --- F01


@pytest.mark.parametrize("off_ms", [-START_MS, -DECADE_MS, DECADE_MS])
async def test_a_clock_that_is_years_off_stops_nothing(tmp_path: Path, off_ms: int) -> None:
    """F01: 1970 at each boot, ten years early or late: cases are taken in and handed up; the hub's receive time stands for the claim."""
    child = await child_at(tmp_path, START_MS + off_ms)
    case = await opened(child.node)
    await child.push()
    clock(child.node).at_ms = START_MS + off_ms  # a dead battery: the same moment again after a restart
    await brought_to(child.node, case, "notice", "supplement", "accept")
    await child.push()
    page = await show(child.hub.node, case)
    assert page["state"] == "accepted"
    assert {effect for _, effect in effects(page)} == {"applied"}
    dated = [one for one in page["timeline"] if one["node"] == EAST and one["type"] != "time"]
    assert {one["legal_at"][:10] for one in dated} == {"2025-11-25"}
    assert await count(child.hub.node, "facts") > 0


@pytest.mark.parametrize("off_ms", [-DECADE_MS, DECADE_MS])
async def test_no_order_and_no_verdict_hangs_on_an_authors_clock(tmp_path: Path, off_ms: int) -> None:
    """F01, I7: the same steps under a true clock and a wrong one give the same verdicts, in the same order."""
    told = []
    for name, shift in (("true", 0), ("wrong", off_ms)):
        child = await child_at(tmp_path / name, START_MS + shift)
        case = await brought_to(child.node, await opened(child.node), "notice", "supplement", "accept")
        key = await key_of(child.node, case)
        await states(child.node, Draft("decide", clock(child.node).at_ms, {"result": "grant"}, case=key, epoch=0, prev=key))
        await child.push()
        page = await show(child.hub.node, case)
        told.append([(one["type"], one["effect"], one["reason"]) for one in page["timeline"] if one["type"] != "time"])
    assert told[0] == told[1]


# --- F02


async def test_receive_times_never_fall_under_a_clock_that_strobes(tmp_path: Path) -> None:
    """F02: the hub's clock jumps an hour back and forth with each push: its receipts rise, and everything is acknowledged."""
    child = await child_at(tmp_path, START_MS)
    for number in range(12):
        clock(child.hub.node).at_ms += (-1) ** number * HOUR_MS
        await opened(child.node, f"甲{number}")
        await child.login()
        await child.push()
    stamps = [one.fields["at"] for one in await entries_of(child.hub.node, CITY) if one.type == "receipt"]
    assert len(stamps) == 12
    assert stamps == sorted(stamps)


async def test_a_hub_a_day_ahead_is_noticed_below(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """F02: clocks are compared at each meeting: a day apart is written down and told in `status`, five minutes are nothing; work goes on."""
    caller = await child_at(tmp_path, START_MS)
    uplink = Uplink(caller.node, Wire(caller.hub), Settings(("hub:1",), 5.0))
    for shift_ms, said in ((4 * MINUTE_MS, 0), (DAY_MS, 1)):
        clock(caller.hub.node).at_ms = START_MS + shift_ms
        caplog.clear()
        with caplog.at_level(logging.WARNING, "tongban"):
            await opened(caller.node)
            await uplink.round()
            uplink.drop(TongbanError(""))
        assert [record.message for record in caplog.records].count("clock.off") == said
        assert uplink.line.skew_ms == -shift_ms
        shown = await ask(caller.node, "status")
        assert shown["clock_skew_s"] == -shift_ms / 1_000
        assert ("本机时钟比上级慢 1 天，请核对两边时钟" in in_words("status", shown, "zh")) == bool(said)
    uplink.close()


# --- F03


async def test_a_far_future_is_adopted_by_nobody(tmp_path: Path) -> None:
    """F03: a peer that claims 2099, once, is taken at its evidence: a `time` entry, and nobody's clock or receipts follow it."""
    child = await child_at(tmp_path, START_MS)
    await child.push()
    clock(child.node).at_ms = 4_070_908_800_000
    case = await opened(child.node)
    await child.push()
    clock(child.node).at_ms = START_MS
    await brought_to(child.node, case, "notice")
    await child.push()
    hub = child.hub.node
    assert hub.clock.wall_ms() == START_MS
    mine = await entries_of(hub, CITY)
    assert {one.claimed_at for one in mine} == {START_MS}
    assert [one.type for one in mine].count("time") == 1
    page = await show(hub, case)
    assert [one["legal_at"][:10] for one in page["timeline"] if one["node"] == EAST] == ["2025-11-25"] * 2


async def test_a_header_of_the_last_moment_is_taken_at_its_evidence(tmp_path: Path) -> None:
    """F03: 9999-12-31T23:59:59.999Z in an entry is a time like any other: dated by the hub, and it poisons nothing behind it."""
    child = await child_at(tmp_path, START_MS)
    case = await opened(child.node)
    key = await key_of(child.node, case)
    await states(child.node, Draft("note", limits.TIME_MS_MAX, {}, {"text": "x"}, case=key, epoch=0, prev=key))
    await brought_to(child.node, case, "notice")
    await child.push()
    page = await show(child.hub.node, case)
    assert [one["legal_at"][:10] for one in page["timeline"] if one["node"] == EAST] == ["2025-11-25"] * 3
    assert page["state"] == "noticed"


async def test_the_last_year_prints_no_numbers(tmp_path: Path) -> None:
    """F04: a clock in the year 9999 is told to be wrong, in words; nothing is written with it."""
    child = await child_at(tmp_path, START_MS)
    clock(child.node).at_ms = limits.TIME_MS_MAX - 8 * HOUR_MS
    before = await dump(child.node)
    with pytest.raises(InputError, match="9999") as caught:
        await opened(child.node)
    assert "clock" in caught.value.hint
    assert await dump(child.node) == before


async def test_a_time_beyond_the_calendar_is_no_entry(tmp_path: Path) -> None:
    """F03, F04: a millisecond after 9999 is nothing that a node could write or a hub would read."""
    child = await child_at(tmp_path, START_MS)
    before = await dump(child.hub.node)
    with pytest.raises((TongbanError, ValueError)):
        await states(child.node, Draft("officer.add", limits.TIME_MS_MAX + 1, {"id": "1", "name": "甲"}))
    assert await dump(child.hub.node) == before


# --- F04


@pytest.mark.parametrize(
    ("at_ms", "day"),
    [
        (0, "1970-01-01"),
        (2**31 * 1000 - 1, "2038-01-19"),
        (2**31 * 1000, "2038-01-19"),
        (2**32 * 1000, "2106-02-07"),
        (951_782_399_999, "2000-02-29"),  # 2000-02-28T23:59:59.999Z: already the 29th in Beijing
        (4_070_908_800_000, "2099-01-01"),
    ],
)
async def test_the_edges_of_time_are_ordinary_days(tmp_path: Path, at_ms: int, day: str) -> None:
    """F04: 2038, 2106, leap days and the last day of 9999: a case is taken in and shown; nothing overflows."""
    assert legal_day(at_ms) == day
    child = await child_at(tmp_path, START_MS)
    clock(child.node).at_ms = at_ms
    case = await opened(child.node)
    assert (await show(child.node, case))["timeline"][0]["claimed_at"][:10] == day
    await child.push()
    assert (await show(child.hub.node, case))["state"] == "received"
    assert (await ask(child.hub.node, "rebuild"))["problems"] == []


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-11-25T10:00:00+08:00", "2025-11-25T02:00:00"),
        ("2025-11-25T02:00:00Z", "2025-11-25T02:00:00"),
        ("2025-11-24T21:00:00-05:00", "2025-11-25T02:00:00"),
        ("2025-11-25 10:00", "2025-11-25T02:00:00"),  # a legal time: +08:00 in the whole country, also in Xinjiang
        ("2025-11-25", "2025-11-24T16:00:00"),
        ("2038-01-19T03:14:08Z", "2038-01-19T03:14:08"),
    ],
)
def test_zones_are_read_and_forgotten(text: str, utc: str) -> None:
    """F04: whatever zone a time is written in, what is stored is one number."""
    expected = dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    assert parse_time(text) == int(expected.timestamp() * 1000)


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2025-02-29", "2025-13-01", "1969-12-31", "10000-01-01", "now", "2025-11-25T24:00:01Z"])
def test_what_no_calendar_has_is_refused_in_words(text: str) -> None:
    """F04: a leap second has no number of its own here; it and other impossible moments are refused, not rounded."""
    with pytest.raises(InputError):
        parse_time(text)
