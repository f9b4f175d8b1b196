"""Tests of the readings of a case's clocks: acceptance and its deeming, limits, suspensions, levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.calendar import Calendar
from protocol.fold import fold
from protocol.limits import TIME_MS_MAX
from protocol.reading import Basis, Level, Limit, Reading, legal_date, reading
from tests.protocol.histories import EAST, EAST_VILLAGE, JUDGE, WEST, Script, hostile

HANDLING = "650103000000"
# The handling region has two days off in the weeks used here; the receiving one has none.
WEST_DAYS_OFF = frozenset({date(2025, 6, 2), date(2025, 6, 6)})


@dataclass(frozen=True)
class Regions:
    """Two calendars, published for 2025."""

    off: Mapping[str, frozenset[date]] = field(default_factory=lambda: {HANDLING: WEST_DAYS_OFF})

    def for_region(self, region: str) -> Calendar:
        days = self.off.get(region, frozenset())
        return Calendar(region, 1, date(2025, 1, 1), date(2025, 12, 31), weekday_off=days)


PLAIN = Regions({})
FRIDAY = date(2025, 5, 30)  # the day of receipt


def at(day: date, hour: int = 10) -> int:
    """Return the ms of an hour of a legal day (+08:00)."""
    return ((day - date(1970, 1, 1)).days * 24 + hour - 8) * 3_600_000


def day(month: int, number: int) -> date:
    return date(2025, month, number)


def received(limits: tuple[int, int] = (5, 20)) -> Script:
    case = Script()
    case.write(EAST_VILLAGE, "open", claimed=at(FRIDAY), case=None, prev=None, epoch=None, **opening(limits))
    case.key = case.entries[0].link
    return case


def opening(limits: tuple[int, int]) -> dict[str, Any]:
    return {
        "item": "x",
        "version": 1,
        "number": "n",
        "handler": EAST_VILLAGE,
        "region": HANDLING,
        "table": 1,
        "limits": list(limits),
    }


def accepted(limits: tuple[int, int] = (5, 20)) -> Script:
    case = received(limits)
    case.write(EAST_VILLAGE, "accept", claimed=at(FRIDAY))
    return case


def read(case: Script, as_of: date, regions: Regions = PLAIN) -> Reading:
    context = fold(case.entries, JUDGE).context
    assert context is not None
    return reading(context, regions, as_of)


# --- legal dates


def test_a_legal_day_begins_at_midnight_of_the_legal_zone() -> None:
    """16:00 UTC is the next day; the last time of all is still a date."""
    assert legal_date(at(FRIDAY, 0)) == FRIDAY
    assert legal_date(at(FRIDAY, 0) - 1) == FRIDAY - timedelta(days=1)
    assert legal_date(0) == date(1970, 1, 1)
    assert legal_date(TIME_MS_MAX) == date.max


# --- acceptance


def test_a_received_case_is_due_for_acceptance_in_five_working_days() -> None:
    """The day of receipt does not count; the last day is not late; yellow with one day left."""
    case = received()
    shown = read(case, day(6, 4))
    assert shown.due == Limit(day(6, 6), provisional=False, basis=Basis.ACCEPTANCE)
    assert (shown.level, shown.overdue, shown.accepted_on, shown.statutory) == (Level.GREEN, False, None, None)
    assert read(case, day(6, 5)).level is Level.YELLOW
    assert not read(case, day(6, 6)).deemed_accepted


def test_the_calendar_is_the_handling_region_s() -> None:
    """The same case is due later where the handling region has days off."""
    assert read(received(), day(6, 3), Regions()).due == Limit(day(6, 10), provisional=False, basis=Basis.ACCEPTANCE)


def test_a_case_that_nobody_answers_counts_as_accepted_from_its_receipt() -> None:
    """逾期不告知即受理: from the sixth working day on, the decision's limits run from the day of receipt."""
    shown = read(received((10, 20)), day(6, 9))
    assert shown.deemed_accepted
    assert shown.accepted_on == FRIDAY
    assert shown.due == Limit(day(6, 13), provisional=False, basis=Basis.PROMISED)
    assert shown.statutory == Limit(day(6, 27), provisional=False, basis=Basis.STATUTORY)
    assert shown.state == "received"  # the state is the fold's; deeming is a reading


def test_an_acceptance_that_comes_too_late_does_not_move_the_start() -> None:
    """Accepting after the fifth day leaves the start at the receipt; on the fifth day it counts from that day."""
    late = received()
    late.write(EAST_VILLAGE, "accept", claimed=at(day(6, 9)))
    assert read(late, day(6, 9)).accepted_on == FRIDAY
    assert read(late, day(6, 9)).deemed_accepted
    timely = received()
    timely.write(EAST_VILLAGE, "accept", claimed=at(day(6, 6), 23))
    assert read(timely, day(6, 30)).accepted_on == day(6, 6)
    assert not read(timely, day(6, 30)).deemed_accepted


def test_a_notice_in_time_stops_the_clock() -> None:
    """It is the applicant's turn: nothing is due and nothing is deemed, however long that takes."""
    case = received()
    case.write(EAST_VILLAGE, "notice", missing=["photo"], claimed=at(day(6, 6)))
    shown = read(case, day(9, 1))
    assert (shown.due, shown.stopped, shown.deemed_accepted, shown.state_code) == (None, True, False, 6)


def test_a_late_notice_stops_no_clock() -> None:
    """A notice whose legal time is past the five days changes nothing: accepted from the day of receipt."""
    case = received()
    case.write(EAST_VILLAGE, "notice", missing=["photo"], claimed=at(day(6, 9)))
    shown = read(case, day(6, 9))
    assert shown.deemed_accepted
    assert shown.accepted_on == FRIDAY
    assert shown.due == Limit(day(6, 6), provisional=False, basis=Basis.PROMISED)
    assert (shown.level, shown.overdue) == (Level.RED, True)


def test_a_notice_backdated_into_the_limit_is_read_by_its_legal_time() -> None:
    """A `time` of the first hub moves the notice past the limit: then it stops no clock."""
    case = received()
    notice = case.write(EAST_VILLAGE, "notice", missing=["photo"], claimed=at(day(6, 6)))
    case.write(EAST, "time", of=notice.link, at=at(day(6, 20)))
    assert read(case, day(6, 20)).deemed_accepted


def test_when_all_is_handed_in_five_days_run_again() -> None:
    """From the material on, the holder has five working days; silence is acceptance from the day it was complete."""
    case = received()
    case.write(EAST_VILLAGE, "notice", missing=["photo", "form"], claimed=at(day(6, 3)))
    case.write(EAST_VILLAGE, "material", materials=["photo"], claimed=at(day(6, 10)))
    assert read(case, day(6, 30)).stopped
    case.write(EAST_VILLAGE, "material", materials=["form"], claimed=at(day(6, 12)))
    shown = read(case, day(6, 13))
    assert shown.due == Limit(day(6, 19), provisional=False, basis=Basis.ACCEPTANCE)
    assert (shown.state_code, shown.stopped) == (7, False)
    deemed = read(case, day(6, 20))
    assert (deemed.deemed_accepted, deemed.accepted_on) == (True, day(6, 12))


def test_the_span_ends_with_the_material_that_the_holder_relied_on() -> None:
    """The holder's next entry rests on the first material: the clock goes on from that material's day."""
    case = received()
    case.write(EAST_VILLAGE, "notice", missing=["photo"], claimed=at(day(6, 3)))
    photo = case.write(EAST_VILLAGE, "material", materials=["photo"], claimed=at(day(6, 10)))
    case.write(EAST_VILLAGE, "offer", to=WEST, rests=[photo], claimed=at(day(6, 16)))
    assert read(case, day(6, 16)).due == Limit(day(6, 17), provisional=False, basis=Basis.ACCEPTANCE)


def test_a_second_notice_in_time_stops_the_clock_again() -> None:
    """Each notice is measured from the material before it."""
    case = received()
    case.write(EAST_VILLAGE, "notice", missing=["photo"], claimed=at(day(6, 3)))
    photo = case.write(EAST_VILLAGE, "material", materials=["photo"], claimed=at(day(6, 10)))
    case.write(EAST_VILLAGE, "notice", missing=["form"], rests=[photo], claimed=at(day(6, 17)))
    assert read(case, day(9, 1)).stopped
    late = received()
    late.write(EAST_VILLAGE, "notice", missing=["photo"], claimed=at(day(6, 3)))
    photo = late.write(EAST_VILLAGE, "material", materials=["photo"], claimed=at(day(6, 10)))
    late.write(EAST_VILLAGE, "notice", missing=["form"], rests=[photo], claimed=at(day(6, 18)))
    assert read(late, day(9, 1)).accepted_on == day(6, 10)


@pytest.mark.parametrize(("kind", "fields"), [("refuse", {"kind": 5}), ("withdraw", {})])
def test_a_case_that_ended_before_acceptance_has_no_limit(kind: str, fields: dict[str, Any]) -> None:
    """Refused or withdrawn in time: no clock runs, and none is deemed to."""
    case = received()
    case.write(EAST_VILLAGE, kind, claimed=at(day(6, 3)), **fields)
    shown = read(case, day(9, 1))
    assert (shown.due, shown.level, shown.stopped, shown.deemed_accepted) == (None, Level.GREEN, False, False)


def test_a_case_that_was_never_opened_has_no_clock() -> None:
    """A void opening is not deemed accepted by waiting."""
    case = Script()
    case.open(limits=[])
    shown = read(case, day(9, 1))
    assert (shown.due, shown.deemed_accepted, shown.state_code, shown.stopped) == (None, False, 0, False)


# --- decision


@pytest.mark.parametrize(
    ("as_of", "level", "overdue"),
    [
        (FRIDAY, Level.GREEN, False),
        (day(6, 10), Level.GREEN, False),  # 3 of 10 days left
        (day(6, 11), Level.YELLOW, False),  # 2 left: a fifth
        (day(6, 13), Level.YELLOW, False),
        (day(6, 14), Level.RED, True),
        (day(6, 27), Level.RED, True),
        (day(6, 28), Level.OVER, True),
    ],
)
def test_levels_of_an_accepted_case(as_of: date, level: Level, overdue: bool) -> None:
    """Green, yellow from a fifth left, red past the promise, over past the statute."""
    shown = read(accepted((10, 20)), as_of)
    assert (shown.level, shown.overdue) == (level, overdue)


def test_a_short_limit_turns_yellow_with_one_day_left() -> None:
    """A fifth of three days is less than a day: one day is the least."""
    assert read(accepted((3, 20)), day(6, 2)).level is Level.GREEN
    assert read(accepted((3, 20)), day(6, 3)).level is Level.YELLOW


def test_a_case_for_the_same_day_is_due_that_day() -> None:
    """A limit of 0 days ends on the day of acceptance."""
    case = accepted((0, 20))
    assert read(case, FRIDAY).due == Limit(FRIDAY, provisional=False, basis=Basis.PROMISED)
    assert read(case, FRIDAY + timedelta(days=1)).overdue


def test_a_statutory_limit_below_the_promise_counts_as_equal() -> None:
    """An opening that states 0 for the statute is not over it at once."""
    shown = read(accepted((5, 0)), day(6, 6))
    assert shown.statutory == Limit(day(6, 6), provisional=False, basis=Basis.STATUTORY)


def test_an_extension_lengthens_both_limits() -> None:
    """Extended days are added to the promise and to the statute."""
    case = accepted((5, 20))
    case.write(EAST_VILLAGE, "extend", days=5, claimed=at(day(6, 3)))
    shown = read(case, day(6, 3))
    assert shown.due is not None
    assert shown.statutory is not None
    assert (shown.due.date, shown.statutory.date) == (day(6, 13), day(7, 4))


def test_a_suspension_is_not_counted() -> None:
    """Neither its first nor its last day counts; counting resumes on the working day after."""
    case = accepted()
    case.write(EAST_VILLAGE, "suspend", claimed=at(day(6, 3)))
    running = read(case, day(6, 5))
    # 3, 4 and 5 June stand: 2 June is the first day, 6 June would be the second
    assert running.due == Limit(day(6, 11), provisional=True, basis=Basis.PROMISED)
    assert (running.stopped, running.overdue) == (True, False)
    assert not read(case, day(9, 1)).overdue
    case.write(EAST_VILLAGE, "resume", claimed=at(day(6, 9)))
    resumed = read(case, day(6, 10))
    assert resumed.due == Limit(day(6, 13), provisional=False, basis=Basis.PROMISED)
    assert not resumed.stopped


def test_a_decision_stops_the_clock() -> None:
    """A case that was decided in time stays green for ever; one decided late stays red at what it was."""
    timely = accepted()
    timely.write(EAST_VILLAGE, "decide", result="grant", claimed=at(day(6, 6), 23))
    assert (read(timely, day(12, 1)).level, read(timely, day(12, 1)).overdue) == (Level.GREEN, False)
    late = accepted()
    late.write(EAST_VILLAGE, "decide", result="grant", claimed=at(day(6, 7)))
    late.write(EAST_VILLAGE, "finish", claimed=at(day(6, 9)))
    assert (read(late, day(12, 1)).level, read(late, day(12, 1)).overdue) == (Level.RED, True)
    assert not read(late, day(6, 6)).overdue  # as of a day before the decision


def test_beyond_the_published_calendar_a_limit_is_provisional() -> None:
    """暂定: the date may move when the next year's calendar is published."""
    case = Script()
    case.write(EAST_VILLAGE, "open", claimed=at(day(12, 30)), case=None, prev=None, epoch=None, **opening((5, 20)))
    case.key = case.entries[0].link
    due = read(case, day(12, 30)).due
    assert due is not None
    assert due.provisional


@settings(max_examples=60, deadline=None)
@given(hostile(), st.dates(date(1970, 1, 1), date(2100, 1, 1)))
def test_any_case_can_be_read_as_of_any_day(entries: list[Any], as_of: date) -> None:
    """Whatever a history holds, its clocks can be read, and a deemed case says from when."""
    context = fold(entries, JUDGE).context
    if context is not None:
        shown = reading(context, Regions(), as_of)
        assert shown.as_of == as_of
        assert not (shown.deemed_accepted and shown.accepted_on is None)
        assert not (shown.overdue and shown.level in {Level.GREEN, Level.YELLOW})
