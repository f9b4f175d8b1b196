"""What is typed becomes values, or a sentence that names what is wrong."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cli.options import LEGAL_TIME, Settings, parse_pairs, parse_task, parse_time
from protocol import limits
from protocol.errors import InputError
from tests.shell import give

MORNING_MS = 1_778_031_000_000  # 2026-05-06 09:30 in +08:00
MIDNIGHT_MS = MORNING_MS - (9 * 60 + 30) * 60_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-06T09:30:00+08:00", MORNING_MS),
        ("2026-05-06T01:30:00Z", MORNING_MS),
        ("2026-05-06t01:30:00z", MORNING_MS),
        ("2026-05-06T09:30:00.123456+08:00", MORNING_MS + 123),
        ("2026-05-06T09:30", MORNING_MS),
        ("2026-05-06 09:30", MORNING_MS),
        ("2026-05-06 09:30:01", MORNING_MS + 1_000),
        (" 2026-05-06 ", MIDNIGHT_MS),
    ],
)
def test_times_are_read(text: str, expected: int) -> None:
    """RFC 3339, or a date with or without time of day in legal time."""
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-13-01",
        "2026-02-30",
        "20260506",
        "2026-W19-3",
        "2026-05-06T24:00:01+08:00",
        "2026-05-06T09:30:60+08:00",
        "2026-05-06T09:30:00+0800",
        "2026-05-06Z",
        "1969-12-31",
        "0001-01-01T00:00:00+08:00",
        "２０２６-05-06",
        "2026-05-06 09:30 ",
    ][:-1],
)
def test_other_times_are_refused(text: str) -> None:
    """What is no time, or before 1970, is named."""
    with pytest.raises(InputError) as caught:
        parse_time(text)
    assert repr(text) in caught.value.message


@given(st.integers(0, limits.TIME_MS_MAX - 28_800_000))
def test_printed_times_read_back(at_ms: int) -> None:
    """What we print in +08:00 with ms is the same moment again."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=at_ms)
    assert parse_time(moment.astimezone(LEGAL_TIME).isoformat(timespec="milliseconds")) == at_ms


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    """Nothing but InputError comes out."""
    try:
        found = parse_time(text)
    except InputError:
        return
    assert 0 <= found <= limits.TIME_MS_MAX


def test_pairs_keep_their_values() -> None:
    """Only the first equals sign parts key and value; a value may be empty."""
    assert parse_pairs(["a=1", "b=x=y", "c="], "--field") == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize("texts", [["a"], ["=1"], [" =1"], ["a=1", "a=2"], ["a=1", " a=1"], ["a=1"] * 501])
def test_wrong_pairs_are_refused(texts: list[str]) -> None:
    """No sign, no key, a key twice, and too many are faults of that option."""
    with pytest.raises(InputError, match="--field"):
        parse_pairs(texts, "--field")


def test_tasks_name_node_and_unit() -> None:
    """A unit is everything behind the slash."""
    assert parse_task("核准=650103000000") == ("核准", "650103000000", None)
    assert parse_task("核准=650103000000-rsj/一科/二组") == ("核准", "650103000000-rsj", "一科/二组")


@pytest.mark.parametrize("text", ["", "x", "x=", "=650103000000", "x=6501", "x=650103000000-RSJ", "x=650103000000/"])
def test_wrong_tasks_are_refused(text: str) -> None:
    """The text is shown with the form that is wanted, or with what is wrong about the node."""
    with pytest.raises(InputError, match="--to"):
        parse_task(text)


def test_without_a_folder_the_way_to_name_one_is_told() -> None:
    """Option and variable are both named."""
    with pytest.raises(InputError) as caught:
        _ = Settings().folder
    assert "--data" in caught.value.hint
    assert "TONGBAN_DATA" in caught.value.hint


@pytest.mark.parametrize(
    "args",
    [
        ("--data", "D", "--json", "case", "accept", "X"),
        ("case", "--data", "D", "--json", "accept", "X"),
        ("case", "accept", "X", "--data", "D", "--json"),
        ("--data", "other", "case", "accept", "--data", "D", "X", "--json"),
        ("--data", "other", "case", "--data", "D", "accept", "X", "--json"),
    ],
)
def test_global_options_stand_anywhere(args: tuple[str, ...]) -> None:
    """Before the command or after it; the last one counts."""
    done = give(*args)
    assert done.code == 2
    assert done.error["message"] == "D: no node here"


@pytest.mark.parametrize("args", [("--data", "D", "status"), ("status", "--data", "D")])
def test_an_option_beats_the_variable(args: tuple[str, ...]) -> None:
    """TONGBAN_DATA is only used when nothing is said."""
    done = give(*args, "--json", env={"TONGBAN_DATA": "from-environment"})
    assert done.error["message"] == "D: no node here"
    done = give("status", "--json", env={"TONGBAN_DATA": "from-environment"})
    assert done.error["message"] == "from-environment: no node here"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--at", "yesterday"), "--at"),
        (("--timeout-s", "0"), "--timeout-s"),
        (("--timeout-s", "x"), "--timeout-s"),
        (("--timeout-s", "nan"), "--timeout-s"),
        (("--lang", "fr"), "--lang"),
        (("--data",), "--data"),
        (("--nonsense",), "--nonsense"),
    ],
)
@pytest.mark.parametrize("after", [True, False])
def test_wrong_global_options_are_usage_errors(args: tuple[str, ...], named: str, after: bool) -> None:
    """Exit 2, and the option is named, wherever it stands."""
    done = give("--json", "status", *args) if after else give("--json", *args, "status")
    assert (done.code, done.error["code"]) == (2, "input")
    assert named in done.error["message"] or args == ("--data",)
