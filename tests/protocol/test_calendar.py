"""Working days, limits and suspended clocks."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.inputs import load_file, read_mapping
from protocol import limits
from protocol.calendar import (
    PLAIN,
    Calendar,
    Calendars,
    Due,
    Span,
    from_body,
    header_fields,
    overlay,
    parse_calendar,
    to_body,
)
from protocol.divisions import NATION
from protocol.errors import DecodeError, InputProblems

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "configs" / "calendars"
SHARED = ROOT.parent / "shared" / "data"
NATIONAL = load_file(SAMPLES / "national-2024-2026.json", parse_calendar)
XINJIANG = load_file(SAMPLES / "xinjiang-2025.json", parse_calendar)
CALENDARS = Calendars.of([XINJIANG, NATIONAL])
LOCAL = CALENDARS.for_region("650102000000")

GOOD: dict[str, Any] = {
    "format": "tongban-calendar/1",
    "region": NATION,
    "name": "测试日历",
    "version": 1,
    "valid_from": "2026-01-01",
    "valid_through": "2026-12-31",
    "weekday_off": ["2026-10-01"],
    "weekend_work": ["2026-10-10"],
}

DAYS = st.dates(dt.date(2023, 6, 1), dt.date(2027, 6, 30))
CLOSED_SPANS = st.builds(lambda start, days: Span(start, start + dt.timedelta(days=days)), DAYS, st.integers(-3, 40))
SPANS = st.lists(CLOSED_SPANS, max_size=4)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def counted_one_by_one(calendar: Calendar, start: dt.date, as_of: dt.date, spans: list[Span]) -> int:
    """The rule, said again as simply as it can be."""
    days = (start + dt.timedelta(days=number) for number in range(1, max(0, (as_of - start).days) + 1))
    return sum(calendar.is_working(one) and not any(span.holds(one) for span in spans) for one in days)


def faults(mapping: object) -> tuple[str, ...]:
    with pytest.raises(InputProblems) as caught:
        parse_calendar(mapping, "c.json")
    return caught.value.problems


# --- limits


@pytest.mark.parametrize(
    ("start", "count", "due"),
    [
        ("2026-02-13", 1, "2026-02-14"),  # a Saturday that is worked
        ("2026-02-14", 5, "2026-02-28"),
        ("2026-09-28", 5, "2026-10-10"),
        ("2025-09-30", 1, "2025-10-09"),
        ("2026-09-30", 20, "2026-11-03"),
        ("2025-05-30", 5, "2025-06-09"),
        ("2025-03-28", 3, "2025-04-02"),
    ],
)
def test_national_limits(start: str, count: int, due: str) -> None:
    """Limits by the national calendar end on the days that were computed by hand; the first day does not count."""
    assert NATIONAL.add_working_days(day(start), count) == Due(day(due), provisional=False)
    assert CALENDARS.for_region("350203000000").add_working_days(day(start), count).date == day(due)


@pytest.mark.parametrize(("start", "count", "due"), [("2025-05-30", 5, "2025-06-12"), ("2025-03-28", 3, "2025-04-03")])
def test_xinjiang_limits(start: str, count: int, due: str) -> None:
    """Xinjiang's own days off in 2025 are laid over the national calendar."""
    assert LOCAL.add_working_days(day(start), count) == Due(day(due), provisional=False)


@pytest.mark.parametrize(
    ("start", "due"), [("2026-09-30", "2026-09-30"), ("2026-10-01", "2026-10-08"), ("2026-10-10", "2026-10-10")]
)
def test_a_limit_of_no_days_ends_the_same_day(start: str, due: str) -> None:
    """即办: the same day, or the next working day when that is none."""
    assert NATIONAL.add_working_days(day(start), 0).date == day(due)


def test_beyond_the_calendar_is_provisional() -> None:
    """After the last published day the weekend rule holds, and the date says that it is not certain."""
    assert NATIONAL.add_working_days(day("2026-12-30"), 1) == Due(day("2026-12-31"), provisional=False)
    assert NATIONAL.add_working_days(day("2026-12-31"), 1) == Due(day("2027-01-01"), provisional=True)
    assert NATIONAL.add_working_days(day("2023-12-29"), 1) == Due(day("2024-01-01") + dt.timedelta(1), provisional=True)


def test_an_unknown_local_year_is_provisional() -> None:
    """Xinjiang's 2026 is not published: the national days count, but nothing is certain."""
    assert LOCAL.add_working_days(day("2026-09-28"), 5) == Due(day("2026-10-10"), provisional=True)
    assert not NATIONAL.add_working_days(day("2026-09-28"), 5).provisional


def test_nothing_published_still_works() -> None:
    """Without any calendar a counter counts Monday to Friday, provisionally."""
    assert Calendars.of([]).for_region("650102000000") is PLAIN
    assert PLAIN.add_working_days(day("2026-11-20"), 1) == Due(day("2026-11-23"), provisional=True)


@pytest.mark.parametrize("count", [-1, limits.WORKING_DAYS_MAX + 1])
def test_a_limit_out_of_range_is_refused(count: int) -> None:
    """A limit that no law has would only cost time."""
    with pytest.raises(ValueError, match="a limit of"):
        NATIONAL.add_working_days(day("2026-01-01"), count)


def test_the_end_of_all_dates_is_no_crash() -> None:
    """A clock that a wrong date started near the year 9999 ends on the last day there is."""
    assert PLAIN.add_working_days(day("9999-12-20"), 20) == Due(dt.date.max, provisional=True)
    assert PLAIN.due(day("9999-12-20"), 20, [Span(day("9999-12-21"), dt.date.max)]) == Due(
        dt.date.max, provisional=True
    )


@given(DAYS, st.integers(0, 60), st.integers(0, 60))
def test_more_days_end_later(start: dt.date, one: int, more: int) -> None:
    """A longer limit never ends earlier, and always on a working day."""
    first, second = (LOCAL.add_working_days(start, count) for count in (one, one + more))
    assert first.date <= second.date
    assert first.provisional <= second.provisional
    assert LOCAL.is_working(second.date)


@given(DAYS, DAYS, st.integers(0, 30))
def test_a_later_start_never_ends_earlier(one: dt.date, other: dt.date, count: int) -> None:
    """Who begins later is due later, or on the same day."""
    early, late = sorted([one, other])
    assert NATIONAL.add_working_days(early, count).date <= NATIONAL.add_working_days(late, count).date


# --- suspended clocks


def test_a_suspension_by_hand() -> None:
    """Both ends of a span stand still; counting resumes on the working day after."""
    span = Span(day("2026-11-04"), day("2026-11-10"))  # Wednesday to Tuesday
    start = day("2026-11-02")  # Monday
    expected = {"2026-11-02": 0, "2026-11-03": 1, "2026-11-04": 1, "2026-11-10": 1, "2026-11-11": 2, "2026-11-14": 4}
    assert {text: NATIONAL.elapsed(start, day(text), [span]) for text in expected} == expected
    assert NATIONAL.due(start, 2, [span]) == Due(day("2026-11-11"), provisional=False)
    assert NATIONAL.due(start, 1, [span]) == Due(day("2026-11-03"), provisional=False)


def test_an_open_span_stops_the_clock() -> None:
    """While a clock stands there is no due date, unless it ended before."""
    span = Span(day("2026-11-04"), None)
    start = day("2026-11-02")
    assert NATIONAL.due(start, 2, [span]) is None
    assert NATIONAL.due(start, 1, [span]) == Due(day("2026-11-03"), provisional=False)
    assert NATIONAL.elapsed(start, day("2027-11-04"), [span]) == 1
    assert NATIONAL.due(day("2026-11-05"), 0, [span]) is None


def test_overlapping_spans_count_once() -> None:
    """Two reasons for standing still on one day leave out one day."""
    spans = [Span(day("2026-11-03"), day("2026-11-05")), Span(day("2026-11-04"), day("2026-11-06"))]
    assert NATIONAL.elapsed(day("2026-11-02"), day("2026-11-10"), spans) == 2


def test_a_span_that_ends_before_it_begins_holds_no_day() -> None:
    """Legal times may come out crossed; that never adds to a limit and never fails."""
    spans = [Span(day("2026-11-06"), day("2026-11-03"))]
    assert NATIONAL.elapsed(day("2026-11-02"), day("2026-11-06"), spans) == 4


@given(DAYS, DAYS, SPANS, st.none() | DAYS)
def test_elapsed_is_the_rule(start: dt.date, as_of: dt.date, spans: list[Span], stop: dt.date | None) -> None:
    """The arithmetic gives what counting day by day gives, for any spans, open ones too."""
    every = spans + ([Span(stop, None)] if stop else [])
    assert LOCAL.elapsed(start, as_of, every) == counted_one_by_one(LOCAL, start, as_of, every)


@given(DAYS, st.integers(1, 40), SPANS, st.none() | DAYS)
def test_on_the_due_day_the_limit_is_used_up(
    start: dt.date, count: int, spans: list[Span], stop: dt.date | None
) -> None:
    """At the close of the due day exactly the limit has elapsed, and one day less the day before."""
    every = spans + ([Span(stop, None)] if stop else [])
    due = LOCAL.due(start, count, every)
    if due is None:
        assert stop is not None
        assert LOCAL.elapsed(start, stop, every) < count
    else:
        assert LOCAL.elapsed(start, due.date, every) == count
        assert LOCAL.elapsed(start, due.date - dt.timedelta(days=1), every) == count - 1


@given(DAYS, st.integers(0, 40), SPANS, CLOSED_SPANS)
def test_a_further_span_never_shortens(start: dt.date, count: int, spans: list[Span], more: Span) -> None:
    """To stand still longer never makes a case due earlier."""
    before, after = LOCAL.due(start, count, spans), LOCAL.due(start, count, [*spans, more])
    assert before is not None
    assert after is not None
    assert before.date <= after.date


@given(
    DAYS,
    st.integers(0, 20),
    st.permutations([Span(day("2025-05-01"), day("2025-05-20")), Span(day("2025-05-09"), None)]),
)
def test_spans_come_in_any_order(start: dt.date, count: int, spans: list[Span]) -> None:
    """The order in which spans are named does not matter."""
    assert LOCAL.due(start, count, spans) == LOCAL.due(start, count, sorted(spans, key=lambda span: span.start))


# --- which calendar


def test_the_most_specific_calendar_has_the_last_word() -> None:
    """Country, province and city are laid over one another; a place outside keeps the country's."""
    city = Calendar("650100000000", 1, day("2025-01-01"), day("2025-12-31"), frozenset({day("2025-07-01")}))
    calendars = Calendars.of([city, NATIONAL, XINJIANG])
    assert not calendars.for_region("650102000000").is_working(day("2025-07-01"))
    assert not calendars.for_region("650102000000").is_working(day("2025-06-06"))
    assert not calendars.for_region("650102000000").is_working(day("2025-10-01"))
    assert calendars.for_region("652300000000").is_working(day("2025-07-01"))
    assert calendars.for_region("350200000000").is_working(day("2025-06-06"))


def test_the_highest_version_holds_whole() -> None:
    """A new version replaces the older one, in whatever order they came; nothing of the old one is left."""
    newer = Calendar(NATION, 2, day("2026-01-01"), day("2027-12-31"))
    for order in ([NATIONAL, newer], [newer, NATIONAL]):
        assert Calendars.of(order).for_region("110000000000") == newer


def test_a_region_may_change_what_the_country_says() -> None:
    """A region can stay closed on a weekend day that the country works, and work on one that it does not."""
    local = Calendar(
        "650000000000",
        1,
        day("2026-01-01"),
        day("2026-12-31"),
        weekday_off=frozenset({day("2026-10-10")}),
        weekend_work=frozenset({day("2026-10-11")}),
    )
    both = overlay(NATIONAL, local)
    assert not both.is_working(day("2026-10-10"))
    assert both.is_working(day("2026-10-11"))


# --- files and bodies


def test_a_file_becomes_a_calendar() -> None:
    """A good file gives its region, range and days."""
    found = parse_calendar(GOOD, "c.json")
    assert (found.region, found.version, found.valid_through) == (NATION, 1, day("2026-12-31"))
    assert not found.is_working(day("2026-10-01"))
    assert found.is_working(day("2026-10-10"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "tongban-calendar/2"}, "format: must be 'tongban-calendar/1'"),
        ({"region": "65"}, "region: division code 65 has 2 digits; it must have 12"),
        ({"version": 0}, "version: must be from 1 to 1000000, not 0"),
        ({"name": ""}, "name: must not be empty"),
        ({"valid_from": "2026-13-01"}, "valid_from: 2026-13-01 is no date of the calendar"),
        ({"weekday_off": ["2026-10-03"]}, "weekday_off: 2026-10-03 is a Saturday, which is off by itself"),
        ({"weekend_work": ["2026-10-09"]}, "weekend_work: 2026-10-09 is a Friday, which is worked by itself"),
        ({"weekday_off": ["2027-10-01"]}, "weekday_off: 2027-10-01 is outside valid_from to valid_through"),
        ({"weekend_work": "2026-10-10"}, "weekend_work: must be a list, not text"),
        ({"weekend_wrok": []}, "weekend_wrok: unknown key"),
    ],
)
def test_each_fault_names_its_field(change: dict[str, object], expected: str) -> None:
    """A wrong value is refused by field, with what is wrong."""
    assert expected in faults(GOOD | change)


def test_all_faults_come_at_once() -> None:
    """A file with faults in four fields is refused with four sentences."""
    found = faults(
        {"format": "x", "region": "1", "version": "1", "valid_from": "2026-01-01", "valid_through": "2025-01-01"}
    )
    assert {fault.split(":")[0] for fault in found} == {"format", "region", "version", "name", "valid_through"}


@pytest.mark.parametrize("mapping", [None, [], "x", 3, {}])
def test_another_value_is_no_calendar(mapping: object) -> None:
    """Whatever a file holds instead of a calendar is refused, not crashed on."""
    assert faults(mapping)


@pytest.mark.parametrize("calendar", [NATIONAL, XINJIANG])
def test_a_body_reads_back(calendar: Calendar) -> None:
    """The body of a calendar entry holds plain values only and gives the same calendar again."""
    body = to_body(calendar)
    assert json.loads(json.dumps(body)) == body
    assert from_body(body) == calendar
    assert from_body({**body, "added_later": 1}) == calendar
    assert header_fields(calendar).items() <= body.items()


def test_a_wrong_body_is_a_decode_error() -> None:
    """A body from another node that breaks the format is its author's fault, not our user's."""
    with pytest.raises(DecodeError):
        from_body({**to_body(NATIONAL), "valid_through": "2020-01-01"})


def source_days() -> list[tuple[Calendar, list[str], list[str]]]:
    """The published lists beside this repository, as (our sample, weekdays off, weekend days worked); empty without them."""
    if not SHARED.exists():
        return []
    national = read_mapping(SHARED / "cn_workdays_2024_2026.json")
    local = read_mapping(SHARED / "xj_local_holidays.json")["years"]["2025"]
    return [
        (ours, found["weekday_off"], found["weekend_work"]) for ours, found in ((NATIONAL, national), (XINJIANG, local))
    ]


def test_the_samples_have_the_days_of_their_sources() -> None:
    """What we ship has exactly the days of the lists that it names: 56 and 19 of the country, 4 and none of Xinjiang."""
    counts = [(len(ours.weekday_off), len(ours.weekend_work)) for ours in (NATIONAL, XINJIANG)]
    assert counts == [(56, 19), (4, 0)]
    for ours, off, work in source_days():
        assert (sorted(map(str, ours.weekday_off)), sorted(map(str, ours.weekend_work))) == (off, work)


def test_the_national_years_have_their_working_days() -> None:
    """2024 to 2026 have 251, 248 and 248 working days."""
    years = [(dt.date(year - 1, 12, 31), dt.date(year, 12, 31)) for year in (2024, 2025, 2026)]
    assert [NATIONAL.elapsed(*year) for year in years] == [251, 248, 248]


def test_schema_and_parser_ask_for_the_same_keys() -> None:
    """What the schema requires the parser misses, what it leaves free the parser does too, and it knows every key."""
    schema = json.loads((ROOT / "docs" / "schemas" / "calendar.schema.json").read_text(encoding="utf-8"))
    full = {**GOOD, "note": "来源"}
    assert set(schema["properties"]) == set(full)
    for key in full:
        rest = {name: value for name, value in full.items() if name != key}
        if key in schema["required"]:
            assert faults(rest) == (f"{key}: is missing",)
        else:
            assert parse_calendar(rest, "c").region == NATION
