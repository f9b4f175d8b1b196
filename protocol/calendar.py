"""Working days: which days count, when a limit ends, and what a suspended clock shows.

A calendar is published data of one region: weekdays off and weekend days worked, each known from `valid_from` through
`valid_through`. A region's calendar holds only what differs from the country's (`overlay`). What reaches outside the
known days is computed by what is known, and is `provisional`: shown as 暂定, never quietly guessed.

    calendar = calendars.for_region("650102000000")        # country, then 65, then 6501 … laid over one another
    calendar.add_working_days(date(2025, 5, 30), 5)        # Due(2025-06-12, provisional=False) in Xinjiang

The rule for suspended clocks (`elapsed`, `due`): a day counts when it is a working day, comes strictly after the day of
the start, not after the day asked for, and lies in no span; a span holds both its ends. So the day on which a clock is stopped
does not count, nor does the day on which it goes on; counting resumes on the working day after. Spans may overlap; a day in two is
left out once. A span that ends before it begins holds no day. A span without an end holds every day from its start.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Final

from protocol import limits
from protocol.divisions import NATION, parse_region, region_prefix, within
from protocol.errors import DecodeError, InputProblems
from protocol.problems import Fields, Problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMAT: Final = "tongban-calendar/1"
VERSION_MAX: Final = 1_000_000
SATURDAY: Final = 5
ONE_DAY: Final = dt.timedelta(days=1)
NEVER: Final = (dt.date.max, dt.date.min)  # valid from, through: no day at all


@dataclass(frozen=True, slots=True)
class Due:
    """The day on which a limit ends; `provisional` when a day before it, or itself, is outside the published calendar."""

    date: dt.date
    provisional: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Days on which a clock stands, both ends included; `end` None while it still stands."""

    start: dt.date
    end: dt.date | None

    def holds(self, day: dt.date) -> bool:
        """Tell whether the day lies in the span."""
        return self.start <= day and (self.end is None or day <= self.end)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The working days of one region.

    Args:
        region: 12 digits; `NATION` for the whole country.
        version: of this region's calendar; a higher one replaces a lower one whole.
        valid_from: first day for which the facts are known.
        valid_through: last such day.
        weekday_off: days off that would be worked by the weekend rule.
        weekend_work: Saturdays and Sundays worked.
        name: shown to people.
        note: source and what is not known.
    """

    region: str
    version: int
    valid_from: dt.date
    valid_through: dt.date
    weekday_off: frozenset[dt.date] = frozenset()
    weekend_work: frozenset[dt.date] = frozenset()
    name: str = ""
    note: str = ""

    def is_working(self, day: dt.date) -> bool:
        """Tell whether a day is worked, by what is known; ask `knows` whether that is certain."""
        if day.weekday() >= SATURDAY:
            return day in self.weekend_work
        return day not in self.weekday_off

    def knows(self, first: dt.date, last: dt.date) -> bool:
        """Tell whether all days from first through last are published."""
        return self.valid_from <= first and last <= self.valid_through

    def add_working_days(self, day: dt.date, count: int) -> Due:
        """Return the end of a limit that begins on `day`, which itself does not count (民法典 201).

        Args:
            day: the day of the start.
            count: 0 to `WORKING_DAYS_MAX`; 0 means the same day, or the next working day.

        Raises:
            ValueError: count out of range.
        """
        found = self.due(day, count, ())
        assert found is not None  # without an open span a clock always ends
        return found

    def elapsed(self, start: dt.date, as_of: dt.date, spans: Sequence[Span] = ()) -> int:
        """Return how many working days a clock that began on `start` shows at the close of `as_of`."""
        stood = sum(self._worked(*gap) for gap in _gaps(start.toordinal(), as_of.toordinal(), spans))
        return self._worked(start.toordinal(), as_of.toordinal()) - stood

    def due(self, start: dt.date, count: int, spans: Sequence[Span]) -> Due | None:
        """Return the first working day outside all spans at whose close the clock shows `count` days.

        Args:
            start: the day on which the clock began.
            count: 0 to `WORKING_DAYS_MAX`; 0 means the first such day from `start` on.
            spans: when the clock stood, in any order.

        Returns:
            The end of the limit; None while a span without an end keeps the clock from getting there. The last day that a
            date can hold, provisional, if the limit would end behind it.

        Raises:
            ValueError: count out of range.
        """
        if not 0 <= count <= limits.WORKING_DAYS_MAX:
            raise ValueError(f"a limit of {count} working days")
        stands_from = min((span.start for span in spans if span.end is None), default=dt.date.max)
        day, left = start, count
        while True:
            if day >= stands_from:
                return None if stands_from < dt.date.max else Due(dt.date.max, provisional=True)
            counts = self.is_working(day) and not _standing(day, spans)
            left -= counts and day > start
            if counts and left <= 0:
                return Due(day, provisional=not self.knows(start, day))
            day = _next_day(day, spans)

    def _worked(self, after: int, through: int) -> int:
        """Return how many days are worked after one ordinal through another; 0 when they are the wrong way round."""
        if through <= after:
            return 0
        off = sum(after < day.toordinal() <= through and day.weekday() < SATURDAY for day in self.weekday_off)
        work = sum(after < day.toordinal() <= through for day in self.weekend_work)
        return _weekdays(through) - _weekdays(after) - off + work


PLAIN: Final = Calendar(NATION, 0, *NEVER)  # nothing published: Monday to Friday, and everything provisional


@dataclass(frozen=True, slots=True)
class Calendars:
    """All calendars in force, one for each region; `Calendars.of` makes it."""

    by_region: Mapping[str, Calendar]

    @classmethod
    def of(cls, calendars: Iterable[Calendar]) -> Calendars:
        """Keep the highest version for each region; of equal ones the first."""
        found: dict[str, Calendar] = {}
        for calendar in calendars:
            held = found.get(calendar.region)
            if held is None or calendar.version > held.version:
                found[calendar.region] = calendar
        return cls(found)

    def for_region(self, region: str) -> Calendar:
        """Return the calendar of a division: the country's with those of its province, city and so on laid over it.

        Args:
            region: 12 digits of a division at any tier.

        Returns:
            What holds there; `PLAIN` when nothing is published.
        """
        fitting = [calendar for calendar in self.by_region.values() if within(region, calendar.region)]
        fitting.sort(key=lambda calendar: len(region_prefix(calendar.region)))
        return reduce(overlay, fitting) if fitting else PLAIN


def overlay(base: Calendar, local: Calendar) -> Calendar:
    """Lay a region's days over those of the larger region around it.

    The local calendar has the last word on the days that it names. Known is what both know: a day for which the region
    has published nothing yet is worked or not as the base says, but provisional.
    """
    return Calendar(
        local.region,
        local.version,
        max(base.valid_from, local.valid_from),
        min(base.valid_through, local.valid_through),
        (base.weekday_off - local.weekend_work) | local.weekday_off,
        (base.weekend_work - local.weekday_off) | local.weekend_work,
        local.name,
        local.note,
    )


def parse_calendar(mapping: object, where: str) -> Calendar:
    """Check a calendar file.

    Args:
        mapping: the whole file, read.
        where: the file's name, for messages.

    Raises:
        InputProblems: every fault with its field.
    """
    problems = Problems(where)
    fields = Fields(mapping, "", problems)
    found_format = fields.text("format")
    if found_format and found_format != FORMAT:
        fields.fault("format", f"must be {FORMAT!r}")
    calendar = _read(fields)
    fields.done()
    problems.check()
    return calendar


def header_fields(calendar: Calendar) -> dict[str, object]:
    """Return the fields of a `calendar.publish` header: which region, which version, which days it speaks of."""
    return {
        "region": calendar.region,
        "version": calendar.version,
        "valid_from": calendar.valid_from.isoformat(),
        "valid_through": calendar.valid_through.isoformat(),
    }


def to_body(calendar: Calendar) -> dict[str, object]:
    """Return the body of a `calendar.publish` entry."""
    return {
        "region": calendar.region,
        "version": calendar.version,
        "name": calendar.name,
        "note": calendar.note,
        "valid_from": calendar.valid_from.isoformat(),
        "valid_through": calendar.valid_through.isoformat(),
        "weekday_off": [day.isoformat() for day in sorted(calendar.weekday_off)],
        "weekend_work": [day.isoformat() for day in sorted(calendar.weekend_work)],
    }


def from_body(body: object) -> Calendar:
    """Read the body of a `calendar.publish` entry; keys that a later version added are passed over.

    Raises:
        DecodeError: the body breaks a rule of the format.
    """
    problems = Problems("calendar.publish")
    calendar = _read(Fields(body, "", problems))
    try:
        problems.check()
    except InputProblems as error:
        raise DecodeError(error.message) from error
    return calendar


def _read(fields: Fields) -> Calendar:
    calendar = Calendar(
        region=fields.checked("region", parse_region),
        version=fields.integer("version", 1, VERSION_MAX),
        name=fields.text("name"),
        note=fields.text("note", chars_max=limits.TEXT_CHARS_MAX, default=""),
        valid_from=fields.day("valid_from"),
        valid_through=fields.day("valid_through", instead=dt.date.max),
        weekday_off=fields.days("weekday_off"),
        weekend_work=fields.days("weekend_work"),
    )
    _check(calendar, fields)
    return calendar


def _check(calendar: Calendar, fields: Fields) -> None:
    """Note what is wrong between fields."""
    if calendar.valid_from > calendar.valid_through:
        fields.fault("valid_through", f"{calendar.valid_through} is before valid_from")
    for key, days in (("weekday_off", calendar.weekday_off), ("weekend_work", calendar.weekend_work)):
        for day in sorted(days):
            if not calendar.knows(day, day):
                fields.fault(key, f"{day} is outside valid_from to valid_through")
    for day in sorted(calendar.weekday_off):
        # A region may stay closed on a weekend day that the country works; for the country such a day is a slip.
        if day.weekday() >= SATURDAY and calendar.region == NATION:
            fields.fault("weekday_off", f"{day} is a {day:%A}, which is off by itself")
    for day in sorted(calendar.weekend_work):
        if day.weekday() < SATURDAY:
            fields.fault("weekend_work", f"{day} is a {day:%A}, which is worked by itself")


def _weekdays(through: int) -> int:
    """Return how many Mondays to Fridays there are up to an ordinal; ordinal 1 is a Monday."""
    weeks, days = divmod(through, 7)
    return weeks * SATURDAY + min(days, SATURDAY)


def _gaps(after: int, through: int, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Return the spans' days inside (after, through] as disjoint pairs of the same kind."""
    found: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda span: span.start):
        last = through if span.end is None else min(through, span.end.toordinal())
        first = max(after, span.start.toordinal() - 1)
        if first < last:
            found.append((first, last))
            after = last
    return found


def _standing(day: dt.date, spans: Sequence[Span]) -> bool:
    return any(span.holds(day) for span in spans)


def _next_day(day: dt.date, spans: Sequence[Span]) -> dt.date:
    """Return the day after, or the last day of a closed span that the day lies in, so that long spans cost one step."""
    ends = [span.end for span in spans if span.end is not None and span.start <= day < span.end]
    if ends:
        return max(ends)
    return day + ONE_DAY if day < dt.date.max else day
