"""Reading an event log: each event once, in order, and every fault with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from node.replaying.reading import EventLog, at, decode_cases, read_log
from protocol.errors import InputError, InputProblems
from tests.node.replaying.helping import LOG, small_map

ROW: dict[str, Any] = {"case": "c", "activity": "收件", "time": "2011-01-05T09:00:00.250+02:00", "officer": "李 四"}


def read(folder: Path, *rows: Any, **changes: Any) -> EventLog:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path = folder / "log.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_log(path, small_map(**changes))


def test_the_small_log_is_read_whole() -> None:
    """Cases in the order of their first event, events in theirs."""
    log = read_log(LOG, small_map())
    assert (log.events, len(log.cases), dict(log.unmapped)) == (185, 31, {})
    assert log.by_activity()["收件"] == 31
    assert log.cases[0].name == "c-00"
    assert log.cases[0].form == {"channel": "网上"}
    assert len(log.sources()) == 185


def test_an_event_knows_its_time_officer_and_source(tmp_path: Path) -> None:
    """Times of any zone become ms since the epoch; without an id the place among its like names an event."""
    log = read(tmp_path, ROW, {**ROW, "activity": "会商", "officer": None}, {**ROW, "activity": "会商"})
    (case,) = log.cases
    assert case.events[0].at_ms == 1_294_210_800_250
    assert [event.source for event in case.events] == ["c/收件/1", "c/会商/1", "c/会商/2"]
    assert [event.officer for event in case.events] == ["李 四", "B-7", "B-7"]
    assert [event.line for event in case.events] == [1, 2, 3]


def test_an_id_of_the_log_names_its_events(tmp_path: Path) -> None:
    """With prefix, case and activity before it; the same one twice is a fault."""
    keys = {"id": "attrs.concept:instance", "prefix": "r"}
    row = {**ROW, "attrs": {"concept:instance": 7}}
    assert list(read(tmp_path, row, log=keys, end=[]).sources()) == ["r/c/收件/7"]
    with pytest.raises(InputProblems, match=r"line 2: attrs\.concept:instance: is the same event as line 1"):
        read(tmp_path, row, row, log=keys, end=[])


def test_what_the_map_lacks_is_counted(tmp_path: Path) -> None:
    """With the line of the first one."""
    log = read(tmp_path, ROW, {**ROW, "activity": "归档"}, {**ROW, "activity": "归档"})
    assert log.unmapped == {"归档": (2, 2)}


def test_a_case_ends_when_the_log_says_so(tmp_path: Path) -> None:
    """Also when that lies before its last event."""
    ended = {**ROW, "attrs": {"case_end": {"enddate": "2011-01-05T08:59:00+02:00"}}}
    assert read(tmp_path, ended).cases[0].ended_at == 1_294_210_740_000
    assert read(tmp_path, {**ROW, "attrs": {"case_end": None}}).cases[0].ended_at is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({**ROW, "time": "2011-01-05T09:00:00"}, "line 2: time: '2011-01-05T09:00:00' has no zone"),
        ({**ROW, "time": "5.1.2011"}, "line 2: time: '5.1.2011' is no time"),
        ({**ROW, "time": "1890-01-05T09:00:00Z"}, "line 2: time: '1890-01-05T09:00:00Z' is before 1970"),
        ({**ROW, "time": "2011-01-05T06:59:59Z"}, "line 2: time: is earlier than line 1; sort"),
        ({**ROW, "time": None}, "line 2: time: is missing"),
        ({**ROW, "case": ""}, "line 2: case: is missing"),
        ({**ROW, "case": ["c"]}, "line 2: case: must be text"),
        ({**ROW, "activity": "x" * 201}, "line 2: activity: is longer than 200"),
        ({**ROW, "activity": "a\u0000b"}, "line 2: activity: holds the character U+0000"),
        ({**ROW, "officer": "x" * 50}, "line 2: officer id"),
        ({**ROW, "case": "c" * 199}, "line 2: case, activity and id together"),
        ('{"case": "c"', "line 2: column"),
        ("[]", "line 2: must hold one JSON object"),
    ],
)
def test_a_wrong_event_is_named_by_line_and_key(row: Any, told: str, tmp_path: Path) -> None:
    """Nothing of a log with a fault is taken in."""
    with pytest.raises(InputError) as error:
        read(tmp_path, ROW, row)
    assert told in error.value.message


def test_faults_are_collected(tmp_path: Path) -> None:
    """All wrong lines are told at once."""
    with pytest.raises(InputProblems) as error:
        read(tmp_path, ROW, {**ROW, "time": ""}, {**ROW, "case": None})
    assert len(error.value.problems) == 2


def test_files_that_are_no_log(tmp_path: Path) -> None:
    """Missing, empty, cut off: refused with the file's name."""
    with pytest.raises(InputError, match="there is no such file"):
        read_log(tmp_path / "none.jsonl", small_map())
    with pytest.raises(InputError, match="holds no event"):
        read(tmp_path, "")
    cut = tmp_path / "log.jsonl.gz"
    cut.write_bytes(gzip.compress(LOG.read_bytes())[:-200])
    with pytest.raises(InputError, match="damaged or cut off"):
        read_log(cut, small_map())


def test_a_path_that_leads_nowhere_is_nothing() -> None:
    """Logs leave keys out."""
    assert at({"a": {"b": 1}}, ("a", "b")) == 1
    assert at({"a": None}, ("a", "b")) is None
    assert at({}, ("a",)) is None


def test_cases_travel_as_lists() -> None:
    """What a command carries is checked like a file."""
    (case,) = decode_cases([["c", [["s", "a", 5, None, 1]]]])
    assert (case.name, case.events[0].source, case.form) == ("c", "s", {})
    for wrong in ("c", [["c"]], [["c", [["s", "a", "5", None, 1]]]], [{"name": "c"}]):
        with pytest.raises(InputError, match="cases: "):
            decode_cases(wrong)
