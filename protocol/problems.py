"""Reading a mapping that people wrote, key by key, with every fault collected and named by its place.

A file with seven mistakes is refused once, with seven sentences. So the readers here do not stop at the first fault: they
note it and return a harmless value of the right type; `Problems.check` raises in the end, before anything is used.

    problems = Problems("items.toml")
    table = Fields(mapping, "items[0]", problems)
    name = table.text("name", chars_max=200)
    table.done()            # a key that nobody asked for is a fault too
    problems.check()
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from protocol import limits
from protocol.errors import InputError, InputProblems
from protocol.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable

DAY_CHARS: Final = len("2026-11-21")
CLIP_CHARS: Final = 40
T = TypeVar("T")


class Problems:
    """The faults found so far in one file; the first `INPUT_PROBLEMS_MAX` are kept."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._found: list[str] = []
        self._count = 0

    def add(self, place: str, text: str) -> None:
        """Note one fault; `place` is the line or item and field, or "" for the file as a whole."""
        self._count += 1
        if len(self._found) < limits.INPUT_PROBLEMS_MAX:
            self._found.append(f"{place}: {text}" if place else text)

    def __len__(self) -> int:
        """Return how many faults were met, kept or not."""
        return self._count

    def check(self) -> None:
        """Raise what was found.

        Raises:
            InputProblems: at least one fault was noted.
        """
        if self._found:
            raise InputProblems(self.where, self._found)


class Fields:
    """One table of a file, read key by key.

    Args:
        value: what should be a table of text keys.
        place: how the table is named in a fault, such as `item A-01: materials[2]`; "" at the top.
        problems: where faults go.
    """

    def __init__(self, value: object, place: str, problems: Problems) -> None:
        self.place = place
        self.problems = problems
        self._asked: set[str] = set()
        self._values: dict[str, object] = {}
        self._is_table = isinstance(value, Mapping)
        if isinstance(value, Mapping):
            self._values = {str(key): inner for key, inner in value.items()}
        else:
            problems.add(place, f"must be a table, not {kind_of(value)}")

    def at(self, key: str) -> str:
        """Return the name of one field, for a fault."""
        return f"{self.place}: {key}" if self.place else key

    def fault(self, key: str, text: str) -> None:
        """Note a fault of one field."""
        self.problems.add(self.at(key), text)

    def has(self, key: str) -> bool:
        """Tell whether the key is there."""
        return key in self._values

    def text(self, key: str, *, chars_max: int = limits.NAME_CHARS_MAX, default: str | None = None) -> str:
        """Read clean text of 1 to `chars_max` characters; with a default the key and the text may be missing or empty."""
        value = self._take(key, default)
        if not isinstance(value, str):
            return self._wrong(key, value, "text", "")
        try:
            found = clean(value, chars_max, lines=True)
        except InputError as error:
            self.fault(key, error.message)
            return ""
        if not found and default is None:
            self.fault(key, "must not be empty")
        return found

    def optional_text(self, key: str, *, chars_max: int = limits.NAME_CHARS_MAX) -> str | None:
        """Read text that may be missing; None then."""
        return self.text(key, chars_max=chars_max) if self.has(key) else None

    def checked(self, key: str, check: Callable[[str], object], *, default: str | None = None) -> str:
        """Read text that `check` accepts; its InputError becomes the fault."""
        found = self.text(key, default=default)
        if found:
            self._apply(key, check, found)
        return found

    def integer(self, key: str, low: int, high: int, *, default: int | None = None) -> int:
        """Read a whole number from `low` to `high`."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            return self._wrong(key, value, "a whole number", low)
        if not low <= value <= high:
            self.fault(key, f"must be from {low} to {high}, not {value if abs(value) < 1 << 64 else 'that large'}")
            return low
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Read true or false."""
        value = self._take(key, default)
        return value if isinstance(value, bool) else self._wrong(key, value, "true or false", False)

    def day(self, key: str, *, instead: dt.date = dt.date.min) -> dt.date:
        """Read a date written `2026-11-21`; `instead` stands for a wrong one, so that it raises no second fault."""
        value = self._take(key, None)
        return self._day(key, value) or instead

    def days(self, key: str) -> frozenset[dt.date]:
        """Read a list of different dates; missing counts as empty."""
        found: set[dt.date] = set()
        for place, value in self._listed(key, limits.CALENDAR_DAYS_MAX):
            day = self._day(place, value)
            if day in found:
                self.fault(place, f"{day} stands in the list twice")
            if day is not None:
                found.add(day)
        return frozenset(found)

    def texts(
        self, key: str, check: Callable[[str], object] | None = None, *, count_max: int = limits.LIST_ITEMS_MAX
    ) -> tuple[str, ...]:
        """Read a list of different texts, each accepted by `check`; missing counts as empty."""
        found: list[str] = []
        for place, value in self._listed(key, count_max):
            inner = Fields({place: value}, self.place, self.problems)
            text = inner.checked(place, check) if check else inner.text(place)
            if text in found and text:
                self.fault(place, f"{text} stands in the list twice")
            found.append(text)
        return tuple(found)

    def tables(self, key: str, *, count_max: int = limits.LIST_ITEMS_MAX) -> list[Fields]:
        """Read a list of tables; missing counts as empty."""
        return [Fields(value, self.at(place), self.problems) for place, value in self._listed(key, count_max)]

    def table(self, key: str) -> Fields:
        """Read one table."""
        value = self._take(key, None)
        return Fields({} if value is None else value, self.at(key), self.problems)

    def raw(self, key: str, default: object = None) -> object:
        """Return what stands there, unread; for fields of more than one type."""
        return self._take(key, default)

    def done(self) -> None:
        """Note every key that was never asked for: a misspelt key must not pass in silence."""
        for key in self._values:
            if key not in self._asked:
                self.fault(clip(key), "unknown key")

    def _take(self, key: str, default: object) -> object:
        self._asked.add(key)
        if key in self._values:
            return self._values[key]
        if default is None and self._is_table:  # of what is no table, that is said once
            self.fault(key, "is missing")
        return default

    def _listed(self, key: str, count_max: int) -> list[tuple[str, object]]:
        value = self._take(key, [])
        if not isinstance(value, list | tuple):
            return self._wrong(key, value, "a list", [])
        if len(value) > count_max:
            self.fault(key, f"has {len(value)} entries; at most {count_max} are allowed")
            return []
        return [(f"{key}[{number}]", inner) for number, inner in enumerate(value)]

    def _day(self, key: str, value: object) -> dt.date | None:
        if isinstance(value, str) and len(value) == DAY_CHARS:
            try:
                return dt.date.fromisoformat(value)
            except ValueError:
                self.fault(key, f"{clip(value)} is no date of the calendar")
                return None
        return self._wrong(key, value, "a date in quotes, like 2026-11-21", None)

    def _apply(self, key: str, check: Callable[[str], object], text: str) -> None:
        try:
            check(text)
        except InputError as error:
            self.fault(key, error.message)

    def _wrong(self, key: str, value: object, wanted: str, instead: T) -> T:
        if value is not None or self.has(key):
            self.fault(key, f"must be {wanted}, not {kind_of(value)}")
        return instead


def kind_of(value: object) -> str:
    """Return the word for a value's kind, as the writer of a file knows it."""
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a decimal number",
        str: "text",
        type(None): "nothing",
    }
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return words.get(type(value), "a date" if isinstance(value, dt.date) else "something else")


def clip(text: str) -> str:
    """Return at most `CLIP_CHARS` printable characters of outside text, to be quoted in a fault."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:CLIP_CHARS])
    return shown + ("…" if len(text) > CLIP_CHARS else "")
