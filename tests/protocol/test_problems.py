"""Collecting the faults of a mapping."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.errors import InputError, InputProblems
from protocol.problems import Fields, Problems, clip, kind_of

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def faults(problems: Problems) -> tuple[str, ...]:
    with pytest.raises(InputProblems) as caught:
        problems.check()
    return caught.value.problems


def refuse(text: str) -> str:
    raise InputError(f"{text} is refused")


def test_no_fault_raises_nothing() -> None:
    """A table whose keys are all read and right is accepted."""
    problems = Problems("f.toml")
    fields = Fields({"name": " 甲 ", "days": 5, "on": True, "list": ["a"], "date": "2026-11-21"}, "", problems)
    assert fields.text("name") == "甲"
    assert fields.integer("days", 0, 9) == 5
    assert fields.flag("on")
    assert fields.texts("list") == ("a",)
    assert fields.day("date") == dt.date(2026, 11, 21)
    fields.done()
    problems.check()


def test_every_fault_is_collected_with_its_place() -> None:
    """Each wrong field gives one sentence that begins with its place, and all come together."""
    problems = Problems("f.toml")
    fields = Fields({"name": 3, "days": 10, "on": "yes", "list": ["a", "a", 1], "extra": 1, "code": "X"}, "t", problems)
    fields.text("name")
    fields.integer("days", 0, 9)
    fields.flag("on")
    fields.texts("list")
    fields.day("date")
    fields.checked("code", refuse)
    fields.done()
    assert faults(problems) == (
        "t: name: must be text, not a whole number",
        "t: days: must be from 0 to 9, not 10",
        "t: on: must be true or false, not text",
        "t: list[1]: a stands in the list twice",
        "t: list[2]: must be text, not a whole number",
        "t: date: is missing",
        "t: code: X is refused",
        "t: extra: unknown key",
    )


def test_true_is_no_number() -> None:
    """Python takes True for 1; a limit of "true" days is a fault."""
    problems = Problems("f")
    assert Fields({"days": True}, "", problems).integer("days", 0, 9) == 0
    assert faults(problems) == ("days: must be a whole number, not true or false",)


def test_dates_are_exact() -> None:
    """Only dates that exist, written with dashes, are read; each once."""
    problems = Problems("f")
    Fields({"d": ["2026-02-29", "20260228", "2026-02-28", "2026-02-28", 3]}, "", problems).days("d")
    assert [fault.split(":")[0] for fault in faults(problems)] == ["d[0]", "d[1]", "d[3]", "d[4]"]


def test_what_is_kept_is_bounded() -> None:
    """A file of a million faults is refused with the first two hundred, and the message shows twenty."""
    problems = Problems("f.csv")
    for line in range(1000):
        problems.add(f"line {line}", "wrong")
    assert len(problems) == 1000
    found = faults(problems)
    assert len(found) == limits.INPUT_PROBLEMS_MAX
    message = str(InputProblems("f.csv", found))
    assert message.count("\n") == 21
    assert message.endswith("… and 180 more")


def test_one_fault_is_one_line() -> None:
    """A single fault reads file, place and sentence in one line; machines get the list."""
    error = InputProblems("f.csv", ["line 3: name: is missing"])
    assert error.message == "f.csv: line 3: name: is missing"
    assert error.as_dict()["problems"] == ["line 3: name: is missing"]
    assert error.as_dict()["code"] == "input"


def test_quoted_text_is_short_and_printable() -> None:
    """What a fault quotes from outside can neither flood nor steer a terminal."""
    assert clip("\x1b[31m" + "x" * 100) == "?[31m" + "x" * 35 + "…"


@given(PLAIN)
def test_any_value_is_read_or_noted(value: object) -> None:
    """No value under any key makes a reader raise anything but the collected faults."""
    problems = Problems("f")
    fields = Fields({"k": value}, "", problems)
    fields.text("k")
    fields.integer("k", 0, 5)
    fields.flag("k")
    fields.day("k")
    fields.days("k")
    fields.texts("k")
    fields.table("k").done()
    for table in fields.tables("k"):
        table.done()
    assert len(problems) > 0
    assert kind_of(value)
