"""Around every command: console, failures, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import give, run
from tests.sources import ROOT


@pytest.mark.parametrize("args", [(), ("case",), ("officer",), ("nonsense",), ("case", "nonsense"), ("--nonsense",)])
@pytest.mark.parametrize("as_json", [True, False])
def test_no_command_and_no_such_command_are_usage_errors(args: tuple[str, ...], as_json: bool) -> None:
    """Exit 2; in JSON one error on standard output, in words nothing there."""
    done = give(*args, "--json") if as_json else give(*args)
    assert done.code == 2
    if as_json:
        assert done.error["code"] == "input"
        assert done.error["hint"]
    else:
        assert (done.out, done.err != b"") == (b"", True)


def test_help_is_no_failure() -> None:
    """Exit 0, on standard output."""
    for args in (("--help",), ("case", "--help"), ("case", "open", "--help")):
        done = give(*args)
        assert done.code == 0
        assert b"Usage: tongban" in done.out


def test_json_behind_a_double_dash_is_text(tmp_path: Path) -> None:
    """Who writes a note that reads --json gets his failure in words."""
    done = give("case", "note", "X", "--data", tmp_path, "--", "--json")
    assert (done.code, done.out) == (2, b"")


@pytest.mark.parametrize("args", [("--lang", "en"), ("--lang=en",)])
def test_the_language_holds_for_failures_too(args: tuple[str, ...]) -> None:
    """Also for those of the command line itself."""
    assert b"is wrong" in give("nonsense", *args).err
    assert "有误".encode() in give("nonsense").err
    assert b"is wrong" in give("nonsense", env={"TONGBAN_LANG": "en"}).err


@pytest.mark.processes
@pytest.mark.parametrize("encoding", ["gbk", "ascii", "utf-8"])
def test_output_survives_any_console(encoding: str, tmp_path: Path) -> None:
    """JSON is UTF-8 whatever the console; words and help are shown as far as the console can."""
    environ = {"PYTHONIOENCODING": encoding}
    data = tmp_path / "节点 𠮷"
    done = run("status", "--json", data=data, env=environ)
    assert done.code == 2
    assert "节点 𠮷" in done.error["message"]
    done = run("status", data=data, env=environ)
    assert (done.code, done.out) == (2, b"")
    assert "有误" in done.err.decode(encoding) or "\\u6709" in done.err.decode(encoding)
    assert b"Usage: tongban" in run("--help", env=environ).out


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="Windows hands over Unicode")
def test_arguments_that_are_no_text_are_named() -> None:
    """Bytes that the console's encoding cannot read are refused, not guessed."""
    line = [os.fsencode(sys.executable), b"-m", b"hub.cli", b"case", b"note", b"X", b"\xff\xfe", b"--json"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 2
    assert "argument 4" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="a pipe that breaks is another error there")
def test_a_reader_who_leaves_is_no_failure() -> None:
    """`tongban … | head -1` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.readline(); from hub.cli import main; main(['case', '--help'])"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 0
