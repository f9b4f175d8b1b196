"""Logs: one line an event, whatever is in it, and never personal data."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import logs
from node.config import Log
from protocol.errors import StoreError

STREAM_ONLY = Log(file="-")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream(tmp_path: Path) -> io.StringIO:
    out = io.StringIO()
    logs.configure(STREAM_ONLY, tmp_path, out)
    return out


def test_an_event_is_one_json_line(stream: io.StringIO) -> None:
    """Name, level, legal time and fields; bytes in hex; None left out."""
    logs.event("uplink.pushed", node="650102000000-rsj", count=500, ms=4.25, log=b"\xab" * 16, clean=True, code=None)
    (line,) = lines(stream)
    assert line.pop("at").endswith("+08:00")
    assert line == {
        "level": "info",
        "event": "uplink.pushed",
        "node": "650102000000-rsj",
        "count": 500,
        "ms": 4.25,
        "log": "ab" * 16,
        "clean": True,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"applicant": "x"},
        {"name": "x"},
        {"text": "x"},
        {"node": "张三"},
        {"case": "650102199001011234"[:7]},
        {"code": "a b"},
        {"reason": "材料不全"},
        {"count": "five"},
        {"address": "x\r\ny:1"},
        {"node": "650102000000\n"},
        {"error": "x" * 201},
        {"route": "/cases/650102"},
    ],
)
def test_what_might_be_personal_is_refused(stream: io.StringIO, fields: dict[str, Any]) -> None:
    """An unknown field, or a value of another form, raises where tests run."""
    with pytest.raises(logs.UnsafeFieldError):
        logs.event("test.event", **fields)
    assert stream.getvalue() == ""


def test_in_production_unsafe_values_are_hidden(stream: io.StringIO) -> None:
    """A slip in the code neither leaks nor stops the counter."""
    logs.set_strict(False)
    logs.event("Not an event 张三", node="张三", applicant="张三", count=1)
    (line,) = lines(stream)
    assert (line["event"], line["node"], line["count"]) == ("unnamed", "?", 1)
    assert "张三" not in stream.getvalue()
    assert "\\u5f20" not in stream.getvalue()


@given(st.text() | st.binary() | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_any_value_stays_on_one_bounded_line(value: Any) -> None:
    """Line breaks and long values cannot forge or flood the log."""
    out = io.StringIO()
    logs.configure(STREAM_ONLY, Path(), out)
    logs.set_strict(False)
    logs.event("test.event", **dict.fromkeys(logs.FIELDS, value))
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().isascii()
    assert len(out.getvalue()) < logs.FIELDS_MAX * (logs.FIELD_CHARS_MAX + 30)


def test_a_failure_tells_class_and_lines_but_no_message(stream: io.StringIO) -> None:
    """Messages of exceptions may quote what was typed."""
    try:
        raise ValueError("650102199001011234")  # noqa: TRY301 - the traceback is what is tested
    except ValueError as exc:
        logs.failure("request.failed", exc, node="650102000000")
    (line,) = lines(stream)
    assert (line["level"], line["error"]) == ("error", "ValueError")
    assert line["where"].startswith("test_logs:")
    assert "650102199001011234" not in stream.getvalue()


def test_libraries_are_heard_without_their_words(stream: io.StringIO) -> None:
    """A library's warning shows that it spoke, and from where, not what it quoted."""
    logging.getLogger("some.library").warning("bad request from %s", "张三")
    logging.getLogger("some.library").info("quiet")
    (line,) = lines(stream)
    assert (line["event"], line["library"]) == ("library.message", "some.library")
    assert "张三" not in json.dumps(line, ensure_ascii=False)


def test_files_rotate_by_size(tmp_path: Path) -> None:
    """A log never fills the disk: so many files of so many bytes."""
    logs.configure(Log(file="logs/x.log", file_bytes_max=1_000, files_max=2), tmp_path, io.StringIO())
    for number in range(100):
        logs.event("test.event", count=number)
    files = sorted(file.name for file in (tmp_path / "logs").iterdir())
    assert files == ["x.log", "x.log.1", "x.log.2"]
    assert all(file.stat().st_size <= 1_000 for file in (tmp_path / "logs").iterdir())
    assert '"count":99' in (tmp_path / "logs" / "x.log").read_text(encoding="utf-8")


def test_a_full_disk_stops_nobody_and_is_told_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be written is dropped and counted; the console stays quiet, and the next line that is taken names the count."""
    log = tmp_path / "logs" / "x.log"
    log.parent.mkdir()
    log.symlink_to("/dev/full")  # each write fails as on a full disk
    logs.configure(Log(file="logs/x.log"), tmp_path, io.StringIO())
    for number in range(3):
        logs.event("test.event", count=number)
    log.unlink()  # there is room again
    logs.event("test.event", count=3)
    found = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(line["event"], line.get("dropped"), line.get("count")) for line in found] == [
        ("log.dropped", 3, None),
        ("test.event", None, 3),
    ]
    assert capsys.readouterr() == ("", "")


def test_a_file_that_cannot_be_renamed_stays_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where somebody holds the older file, as on Windows, the log goes on in its own file, within twice its bytes."""
    held = tmp_path / "logs" / "x.log.1"
    (held / "inside").mkdir(parents=True)  # a name that nothing can replace
    logs.configure(Log(file="logs/x.log", file_bytes_max=1_000, files_max=1), tmp_path, io.StringIO())
    sizes = []
    for number in range(100):
        logs.event("test.event", count=number)
        sizes.append((tmp_path / "logs" / "x.log").stat().st_size)
    assert 1_000 < max(sizes) <= 2_000
    assert '"count":99' in (tmp_path / "logs" / "x.log").read_text(encoding="utf-8")
    (held / "inside").rmdir()
    held.rmdir()
    for number in range(100):
        logs.event("test.event", count=number)
    assert held.stat().st_size <= 2_000
    assert (tmp_path / "logs" / "x.log").stat().st_size <= 1_000
    assert capsys.readouterr() == ("", "")


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    """A restart appends, and counts what is there already."""
    for number in range(30):
        logs.configure(Log(file="logs/x.log", file_bytes_max=1_000, files_max=1), tmp_path, io.StringIO())
        logs.event("test.event", count=number)
    assert (tmp_path / "logs" / "x.log.1").exists()
    assert all(file.stat().st_size <= 1_000 for file in (tmp_path / "logs").iterdir())


def test_with_a_file_the_stream_shows_only_warnings(tmp_path: Path) -> None:
    """Whoever watches the console sees what needs a person."""
    out = io.StringIO()
    logs.configure(Log(), tmp_path, out)
    logs.event("test.usual")
    logs.event("test.wrong", logs.WARNING)
    assert [line["event"] for line in lines(out)] == ["test.wrong"]


def test_the_level_is_kept(tmp_path: Path) -> None:
    """Below the chosen level nothing is written."""
    out = io.StringIO()
    logs.configure(Log(level="error", file="-"), tmp_path, out)
    logs.event("test.usual", logs.WARNING)
    assert out.getvalue() == ""


def test_a_log_file_that_cannot_be_opened_is_a_store_error(tmp_path: Path) -> None:
    """The user hears which file it is."""
    (tmp_path / "logs").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be opened"):
        logs.configure(Log(), tmp_path, io.StringIO())
