"""Output reaches its reader on any console."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from node import console
from protocol.errors import NotFound
from tests.sources import ROOT

RARE = "张三 𠮷 ✓"  # the second character is beyond code page 936, the third too


def stream(encoding: str) -> tuple[io.TextIOWrapper, io.BytesIO]:
    raw = io.BytesIO()
    return io.TextIOWrapper(raw, encoding=encoding, newline=""), raw


@pytest.mark.parametrize("encoding", ["utf-8", "cp936", "ascii", "latin-1"])
def test_text_survives_any_code_page(encoding: str) -> None:
    """What a console lacks becomes an escape; nothing fails."""
    out, raw = stream(encoding)
    console.write(RARE, stream=out)
    assert raw.getvalue().decode(encoding).startswith("张三" if encoding in {"utf-8", "cp936"} else "\\u5f20\\u4e09")
    assert ("𠮷".encode() in raw.getvalue()) == (encoding == "utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "cp936", "ascii"])
def test_json_is_always_utf8(encoding: str) -> None:
    """Scripts read the same bytes whatever the console."""
    out, raw = stream(encoding)
    console.write_json({"name": RARE, "n": 1}, stream=out)
    assert raw.getvalue() == '{"name":"张三 𠮷 ✓","n":1}\n'.encode()


def test_json_takes_only_what_json_has() -> None:
    """Bytes in an answer are a mistake of the program, not something to guess about."""
    with pytest.raises(TypeError, match="bytes"):
        console.write_json({"x": b""}, stream=io.StringIO())


@pytest.mark.processes
@pytest.mark.parametrize("encoding", ["cp936", "ascii:strict", "utf-8"])
def test_a_whole_program_survives_its_console(encoding: str) -> None:
    """Text, JSON, errors and Python's own writing end a program well on a Chinese Windows console and on none."""
    program = f"""
from node import console
from protocol.errors import NotFound
console.survive_console()
console.write({RARE!r}); console.write_json([{RARE!r}]); console.write_message({RARE!r})
console.write_error(NotFound({RARE!r}), as_json=True)
import sys; sys.stdout.write({RARE!r})
"""
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr[:9]) == (0, RARE.encode(encoding.partition(":")[0], "backslashreplace")[:9])
    lines = done.stdout.splitlines()
    assert json.loads(lines[1].decode()) == [RARE]
    assert json.loads(lines[2].decode())["error"]["code"] == "not_found"


def test_failures_in_words_name_what_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    """People get kind, sentence, hint, and whether their data is safe, apart from results."""
    console.write_error(
        NotFound("no case X", hint="Look at `case list`."), as_json=False, headline="没有找到", safe="安全"
    )
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", ["没有找到: no case X", "Look at `case list`.", "安全"])


def test_failures_as_json_have_all_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get code, message, hint, retryable and data_safe on standard output."""
    console.write_error(NotFound("no case X"), as_json=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["error"] == {
        "code": "not_found",
        "message": "no case X",
        "hint": "",
        "retryable": False,
        "data_safe": True,
    }


def test_columns_stay_straight_with_chinese() -> None:
    """A Chinese character takes two columns, a combining mark none."""
    lines = console.table(["姓名", "x"], [["张三", "1"], ["Li", "2"], ["e\u0301", "3"]]).splitlines()
    assert lines == ["姓名  x", "张三  1", "Li    2", "e\u0301     3"]
    assert console.table(["a"], []) == "a"


def test_a_qr_code_is_drawn_in_text() -> None:
    """A joining slip fits a terminal: blocks only, square within a column."""
    lines = console.qr("TONGBAN" * 10).splitlines()
    assert len(lines) > 10
    assert len({console.width(line) for line in lines}) == 1


def test_without_a_terminal_no_bar_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs of scripts are not filled with progress."""
    with console.progress("x", 3) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who watches sees how far it is; `quiet` wins."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("补录", 2) as advance:
        advance(2)
    shown = sys.stderr.getvalue()
    assert "补录" in shown
    assert "2/2" in shown
    with console.progress("x", 2, quiet=True) as advance:
        advance(2)
    assert sys.stderr.getvalue() == shown


def test_the_heavy_libraries_wait_until_they_are_used() -> None:
    """Importing the console costs no rich and no segno."""
    program = "import sys, node.console; sys.exit(bool({'rich', 'segno'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
