"""What a case's clocks show on a day: when it is due, whether it counts as accepted, how urgent it is.

A reading is computed, never stored as an entry: the same context, calendar and day give the same reading at every node.
All days are legal dates (+08:00) of legal times; all limits are working days of the *handling* region's calendar.

    reading(context, calendars, date(2025, 6, 11)).due     # Limit(date=2025-06-12, provisional=False, basis="promised")

The rules, in the order in which they are applied:

1. Acceptance. Within 5 working days after the receipt the holder accepts, refuses, or tells once what is missing (行政许可法 32).
   If not, the case counts as accepted on the day of receipt. A notice that comes later than that stops no clock.
2. A notice in time stops the clock until the material comes in: the 补正 span ends at the legal time of the material that the
   holder's next spine entry rests on, and the 5 days begin anew. Before such an entry, they run as soon as all is handed in.
3. Decision. The promised and the statutory limit run from the day of acceptance, lengthened by `extend`, stopped by suspensions.
   While a suspension runs, the limit is shown as if it ended on the day of the reading, and provisional.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from protocol.calendar import Calendar, Due, Span
from protocol.cases import Clock, Context, is_answered, state_code, state_word
from protocol.transitions import State

ACCEPTANCE_DAYS: Final = 5
WARNING_SHARE: Final = 5  # yellow when a fifth of the limit, or one day, is left
LEGAL_OFFSET_MS: Final = 8 * 3_600_000
DAY_MS: Final = 86_400_000
_EPOCH_ORDINAL: Final = dt.date(1970, 1, 1).toordinal()


class Regions(Protocol):
    """Calendars by region; `protocol.calendar.Calendars` is one."""

    def for_region(self, region: str) -> Calendar:
        """Return what holds in a region (12 digits)."""


class Basis(enum.StrEnum):
    """Which rule a limit comes from."""

    ACCEPTANCE = "acceptance"
    PROMISED = "promised"
    STATUTORY = "statutory"


class Level(enum.StrEnum):
    """How urgent a case is. `OVER` = past the statutory limit (督办)."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Limit:
    """The last day of a limit; `provisional` (暂定) when it may yet move."""

    date: dt.date
    provisional: bool
    basis: Basis


@dataclass(frozen=True, slots=True)
class Reading:
    """A case as of a day.

    Args:
        as_of: the day, legal date.
        state: the state's word.
        state_code: export code.
        due: the limit that counts towards people: of acceptance, then the promised one; None when no clock runs or ran.
        statutory: the statutory limit; None before acceptance.
        accepted_on: the day from which the decision's limits run; None before acceptance.
        deemed_accepted: `accepted_on` is the day of receipt because nobody answered in time (逾期不告知即受理).
        stopped: the clock stands: the applicant's turn, or a suspension.
        overdue: past `due` on the day, or when it was decided.
        level: how urgent; a case that was decided in time is green.
    """

    as_of: dt.date
    state: str
    state_code: int
    due: Limit | None
    statutory: Limit | None
    accepted_on: dt.date | None
    deemed_accepted: bool
    stopped: bool
    overdue: bool
    level: Level


def legal_date(at_ms: int) -> dt.date:
    """Return the legal date (+08:00) of a time in ms since the Unix epoch; the last possible date beyond year 9999."""
    ordinal = _EPOCH_ORDINAL + (at_ms + LEGAL_OFFSET_MS) // DAY_MS
    return dt.date.fromordinal(min(ordinal, dt.date.max.toordinal()))


def reading(context: Context, calendars: Regions, as_of: dt.date) -> Reading:
    """Read a case's clocks as of a day.

    Args:
        context: the case as it stands here.
        calendars: all that are published here.
        as_of: legal date.
    """
    calendar = calendars.for_region(context.terms.region)
    if context.state is State.UNOPENED:
        return _before_acceptance(context, calendar, as_of, _Receipt(None, deemed=False))
    receipt = _read_receipt(context, calendar, as_of)
    accepted = _accepted_on(context.clock, receipt)
    if accepted is None:
        return _before_acceptance(context, calendar, as_of, receipt)
    return _after_acceptance(context, calendar, as_of, accepted, deemed=receipt.deemed)


# --- until acceptance


@dataclass(frozen=True, slots=True)
class _Receipt:
    """How the acceptance clock stands: the day that it runs from (None: the applicant's turn), and whether it ran out."""

    since: dt.date | None
    deemed: bool


def _read_receipt(context: Context, calendar: Calendar, as_of: dt.date) -> _Receipt:
    since = legal_date(context.clock.opened_at)
    for told_at, ended_at in context.clock.notices:
        if _is_past(calendar, since, legal_date(told_at)):
            return _Receipt(since, deemed=True)
        ended_at = _handed_at(context) if ended_at is None else ended_at  # noqa: PLW2901 - the end as it reads today
        if ended_at is None:
            return _Receipt(None, deemed=False)
        since = legal_date(max(told_at, ended_at))
    return _Receipt(since, deemed=_is_past(calendar, since, _answered_on(context.clock) or as_of))


def _handed_at(context: Context) -> int | None:
    """Return when the last of what a notice asks for was handed in; None while something lacks."""
    return context.handed_at if is_answered(context) else None


def _answered_on(clock: Clock) -> dt.date | None:
    """Return the day of acceptance, refusal or withdrawal."""
    answered_at = clock.accepted_at if clock.accepted_at is not None else clock.decided_at
    return None if answered_at is None else legal_date(answered_at)


def _is_past(calendar: Calendar, since: dt.date, day: dt.date) -> bool:
    return day > calendar.add_working_days(since, ACCEPTANCE_DAYS).date


def _accepted_on(clock: Clock, receipt: _Receipt) -> dt.date | None:
    if receipt.deemed:
        return receipt.since
    return None if clock.accepted_at is None else legal_date(clock.accepted_at)


def _before_acceptance(context: Context, calendar: Calendar, as_of: dt.date, receipt: _Receipt) -> Reading:
    """Read a case that is not accepted: due is the end of the 5 days, unless it is the applicant's turn or it is over."""
    runs = context.state in {State.RECEIVED, State.NOTICED}
    due: Limit | None = None
    level = Level.GREEN
    if runs and receipt.since is not None:
        due = _limit(calendar.add_working_days(receipt.since, ACCEPTANCE_DAYS), Basis.ACCEPTANCE)
        left = ACCEPTANCE_DAYS - calendar.elapsed(receipt.since, as_of)
        level = Level.YELLOW if left <= 1 else Level.GREEN
    return Reading(
        as_of,
        state_word(context),
        state_code(context),
        due,
        statutory=None,
        accepted_on=None,
        deemed_accepted=False,
        stopped=runs and due is None,
        overdue=False,
        level=level,
    )


# --- from acceptance on


def _after_acceptance(
    context: Context, calendar: Calendar, as_of: dt.date, accepted: dt.date, *, deemed: bool
) -> Reading:
    clock = context.clock
    decided = None if clock.decided_at is None else legal_date(clock.decided_at)
    day = as_of if decided is None else min(as_of, decided)
    spans, standing = _spans(clock.suspensions, day)
    promised_days, statutory_days = _days(context)
    promised = _limit(calendar.due(accepted, promised_days, spans), Basis.PROMISED, provisional=standing)
    statutory = _limit(calendar.due(accepted, statutory_days, spans), Basis.STATUTORY, provisional=standing)
    left = promised_days - calendar.elapsed(accepted, day, spans)
    level = _level(day, promised, statutory)
    if level is Level.GREEN and decided is None and left <= max(1, promised_days // WARNING_SHARE):
        level = Level.YELLOW
    return Reading(
        as_of,
        state_word(context),
        state_code(context),
        promised,
        statutory,
        accepted_on=accepted,
        deemed_accepted=deemed,
        stopped=standing,
        overdue=promised is not None and day > promised.date,
        level=level,
    )


def _days(context: Context) -> tuple[int, int]:
    """Return the promised and the statutory limit, extended; a statutory one below the promise is a slip and counts as equal."""
    promised, statutory = context.terms.limits
    extension = context.clock.extension_days
    return promised + extension, max(promised, statutory) + extension


def _spans(suspensions: Sequence[tuple[int, int | None]], day: dt.date) -> tuple[list[Span], bool]:
    """Return suspensions as days, one that still runs ended on the given day, and whether one still runs."""
    spans = []
    standing = False
    for start_at, end_at in suspensions:
        start = legal_date(start_at)
        standing = standing or end_at is None
        spans.append(Span(start, max(start, day) if end_at is None else legal_date(end_at)))
    return spans, standing


def _limit(due: Due | None, basis: Basis, *, provisional: bool = False) -> Limit | None:
    return None if due is None else Limit(due.date, due.provisional or provisional, basis)


def _level(day: dt.date, promised: Limit | None, statutory: Limit | None) -> Level:
    if statutory is not None and day > statutory.date:
        return Level.OVER
    return Level.RED if promised is not None and day > promised.date else Level.GREEN
