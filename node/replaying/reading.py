"""Reading another system's event log: JSON lines, one object an event, sorted by time.

    log = read_log(Path("receipt.jsonl.gz"), replay_map)
    log.cases          # each with its events in order
    log.unmapped       # activities that the map does not know: how many events, and the first one's line

Faults are collected, each with its line and key, and raised together.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from node import inputs
from node.office.desk import SOURCE_CHARS_MAX
from node.replaying.mapping import LogKeys, Opening, Path, ReplayMap
from protocol import limits
from protocol.errors import InputError
from protocol.problems import Problems, clip
from protocol.text import clean

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MILLISECOND: Final = dt.timedelta(milliseconds=1)


class Event(msgspec.Struct, array_like=True, frozen=True):
    """One event. source: unique in all logs taken in. at_ms: since the epoch. line: in its file, from 1."""

    source: str
    activity: str
    at_ms: int
    officer: str | None
    line: int


class LoggedCase(msgspec.Struct, array_like=True, frozen=True):
    """The events of one case. ended_at: ms, when the log says that it ended. form: of its opening."""

    name: str
    events: tuple[Event, ...]
    ended_at: int | None = None
    form: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class EventLog:
    """A whole log. unmapped: activity → (events, line of the first)."""

    cases: tuple[LoggedCase, ...]
    unmapped: Mapping[str, tuple[int, int]]

    @property
    def events(self) -> int:
        """How many events it has."""
        return sum(len(case.events) for case in self.cases)

    def by_activity(self) -> dict[str, int]:
        """Return how many events each activity has, the most frequent first."""
        return dict(Counter(event.activity for case in self.cases for event in case.events).most_common())

    def sources(self) -> dict[str, str]:
        """Return the activity of each event by its source id."""
        return {event.source: event.activity for case in self.cases for event in case.events}


@dataclass(slots=True)
class _Case:
    """A case while its log is read."""

    name: str
    events: list[Event] = field(default_factory=list)
    ended_at: int | None = None
    form: dict[str, str] = field(default_factory=dict)


def read_log(path: FilePath, replay_map: ReplayMap) -> EventLog:
    """Read a log.

    Raises:
        InputProblems: every fault with line and key. InputError: the file cannot be read, or holds no event.
    """
    reader = _Reader(str(path), replay_map)
    for line, row in inputs.read_json_lines(path):
        reader.take(line, row)
    return reader.done()


def decode_cases(value: object) -> list[LoggedCase]:
    """Read cases that came in a command; raises InputError."""
    try:
        return msgspec.convert(value, list[LoggedCase])
    except msgspec.ValidationError as exc:
        raise InputError(f"cases: {str(exc)[:200]}") from exc


class _Reader:
    def __init__(self, where: str, replay_map: ReplayMap) -> None:
        self._where = where
        self._map = replay_map
        self._problems = Problems(where)
        self._cases: dict[str, _Case] = {}
        self._lines: dict[str, int] = {}  # source id → line
        self._unmapped: dict[str, tuple[int, int]] = {}
        self._latest = (-1, 0)  # time, line
        self._repeats: Counter[tuple[str, str]] = Counter()

    def take(self, line: int, row: dict[str, Any]) -> None:
        """Take one event; its faults are noted."""
        try:
            self._take(line, row)
        except InputError as error:
            self._problems.add(f"line {line}", error.message)

    def done(self) -> EventLog:
        """Return the log; raises what was noted."""
        self._problems.check()
        if not self._cases:
            raise InputError(f"{self._where}: holds no event")
        cases = tuple(LoggedCase(case.name, tuple(case.events), case.ended_at, case.form) for case in self._cases.values())
        return EventLog(cases, self._unmapped)

    def _take(self, line: int, row: dict[str, Any]) -> None:
        keys = self._map.log
        name, activity = _text(row, keys.case), _text(row, keys.activity)
        at_ms = _time(row, keys.time)
        self._check_order(line, at_ms, keys)
        rule = self._map.rules.get(activity)
        if rule is None:
            count, first = self._unmapped.get(activity, (0, line))
            self._unmapped[activity] = (count + 1, first)
        officer = rule.officer if rule and rule.officer else _optional(row, keys.officer)
        self._map.officers.id_of(officer)
        event = Event(self._source(row, name, activity, line), activity, at_ms, officer, line)
        case = self._cases.get(name)
        if case is None:
            case = self._cases[name] = _Case(name, form=self._form(row, activity))
        case.events.append(event)
        if keys.end and at(row, keys.end) is not None:
            case.ended_at = max(_time(row, keys.end), case.ended_at or 0)

    def _check_order(self, line: int, at_ms: int, keys: LogKeys) -> None:
        latest, before = self._latest
        if at_ms < latest:
            raise InputError(f"{_named(keys.time)}: is earlier than line {before}; sort the log by time")
        self._latest = (at_ms, line)

    def _source(self, row: dict[str, Any], case: str, activity: str, line: int) -> str:
        """Return what names this event for ever: prefix, case, activity, and its id, else its place among its like."""
        keys = self._map.log
        if keys.id:
            last = _text(row, keys.id)
        else:
            self._repeats[case, activity] += 1
            last = str(self._repeats[case, activity])
        source = "/".join(part for part in (keys.prefix, case, activity, last) if part)
        if len(source) > SOURCE_CHARS_MAX:
            raise InputError(f"case, activity and id together have more than {SOURCE_CHARS_MAX} characters")
        before = self._lines.setdefault(source, line)
        if before != line:
            raise InputError(f"{_named(keys.id)}: is the same event as line {before}: {clip(source)}")
        return source

    def _form(self, row: dict[str, Any], activity: str) -> dict[str, str]:
        rule = self._map.rules.get(activity)
        opening = next((way.opening for way in rule.ways if way.opening), None) if rule else None
        return _form(row, opening) if opening else {}


def at(row: Mapping[str, Any], path: Path) -> Any:  # noqa: ANN401 - JSON is any value
    """Return what stands at a path inside an event; None when nothing does."""
    value: Any = row
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _form(row: Mapping[str, Any], opening: Opening) -> dict[str, str]:
    found = ((name, _optional(row, path)) for name, path in opening.form.items())
    return {name: text for name, text in found if text}


def _named(path: Iterable[str]) -> str:
    return ".".join(path)


def _text(row: Mapping[str, Any], path: Path) -> str:
    found = _optional(row, path)
    if not found:
        raise InputError(f"{_named(path)}: is missing")
    return found


def _optional(row: Mapping[str, Any], path: Path) -> str | None:
    """Return text or a number as text; None when it is missing or null."""
    value = at(row, path) if path else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{_named(path)}: must be text")
    try:
        return clean(str(value), limits.NAME_CHARS_MAX)
    except InputError as error:
        raise InputError(f"{_named(path)}: {error.message}") from error


def _time(row: Mapping[str, Any], path: Path) -> int:
    """Return a time as ms since the epoch."""
    text = _text(row, path)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{_named(path)}: {clip(text)!r} is no time like 2026-05-06T09:30:00+08:00") from None
    if moment.tzinfo is None:
        raise InputError(f"{_named(path)}: {clip(text)!r} has no zone; write 2026-05-06T09:30:00+08:00")
    found = (moment - EPOCH) // MILLISECOND
    if not 0 <= found <= limits.TIME_MS_MAX:
        raise InputError(f"{_named(path)}: {clip(text)!r} is before 1970")
    return found
