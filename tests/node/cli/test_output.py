"""Answers and failures reach scripts as JSON and people as words, with the exit code of the contract."""

from __future__ import annotations

import json

import click
import pytest

from node.cli.options import Settings
from node.cli.output import Printer, as_error, show_failure
from node.command import Relayed
from protocol.errors import CommandRefused, InputError, InputProblems, LinkError, StoreBusy, StoreError, TongbanError

JSON = Settings(as_json=True)
WORDS = Settings()


def printed(capsys: pytest.CaptureFixture[str], settings: Settings, name: str, *rows: object) -> tuple[int, str]:
    printer = Printer(settings, name)
    for row in rows:
        printer.row(row)
    return printer.finish(), capsys.readouterr().out


def test_a_value_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    """One value, whatever it is."""
    printer = Printer(JSON, "status")
    printer.value({"name": "张三", "children": []})
    assert printer.finish() == 0
    assert json.loads(capsys.readouterr().out) == {"name": "张三", "children": []}


def test_a_list_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows as they come, or a list that came as one value."""
    assert printed(capsys, JSON, "list", {"n": 1}, {"n": 2}) == (0, '{"n":1}\n{"n":2}\n')
    printer = Printer(JSON, "officer.list")
    printer.value([{"n": 1}, {"n": 2}])
    assert capsys.readouterr().out == '{"n":1}\n{"n":2}\n'
    assert printed(capsys, JSON, "list") == (0, "")


def test_an_export_is_json_in_words_too(capsys: pytest.CaptureFixture[str]) -> None:
    """No table could hold it."""
    assert printed(capsys, WORDS, "export", {"n": 1}) == (0, '{"n":1}\n')


def test_a_list_in_words_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Heads and states are in the user's language."""
    _, out = printed(
        capsys, WORDS, "list", {"case": "650102001001-20261121-00012X", "state": "accepted", "holder": None}
    )
    assert out.split() == ["办件编号", "状态", "650102001001-20261121-00012X", "已受理"]


@pytest.mark.parametrize("name", ["verify", "rebuild", "replay"])
def test_problems_found_are_exit_1(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The report is the answer, not a failure; scripts see it by the code."""
    for problems, code in ([], 0), ([{"kind": "root", "log": "ab", "index": 3, "detail": "differs"}], 1):
        printer = Printer(JSON, name)
        printer.value({"entries": 5, "problems": problems})
        assert printer.finish() == code
        assert json.loads(capsys.readouterr().out)["problems"] == problems


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (InputProblems("f.toml", ["a", "b"]), 2),
        (CommandRefused("x"), 1),
        (LinkError("x"), 3),
        (StoreBusy("x"), 3),
        (StoreError("x"), 1),
        (Relayed({"code": "from_a_newer_node", "message": "x", "retryable": True}, 3), 3),
    ],
)
def test_failures_have_code_and_fields(error: TongbanError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON on standard output, words on standard error, the same exit code."""
    assert show_failure(error, JSON) == code
    out, err = capsys.readouterr()
    assert {"code", "message", "hint", "retryable", "data_safe"} <= set(json.loads(out)["error"])
    assert err == ""
    assert show_failure(error, WORDS) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert error.message in err


def test_people_hear_whether_their_data_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """Said when the machine or the line fails, not when the order given was wrong; danger is always said."""
    for error, word in (
        (LinkError("x"), "没有受影响"),
        (StoreError("x", data_safe=False), "联系管理员"),
        (CommandRefused("x", data_safe=False), "联系管理员"),
    ):
        show_failure(error, WORDS)
        assert word in capsys.readouterr().err
    show_failure(InputError("x"), WORDS)
    assert "没有受影响" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("exc", "code", "exit_code"),
    [
        (click.UsageError("x"), "input", 2),
        (click.BadParameter("x"), "input", 2),
        (click.FileError("x"), "input", 2),
        (KeyboardInterrupt(), "link", 3),
        (click.Abort(), "link", 3),
        (PermissionError(13, "Permission denied", "/home/zhang"), "store", 1),
        (RuntimeError("张三"), "error", 1),
        (LinkError("x"), "link", 3),
    ],
)
def test_whatever_ends_a_command_becomes_one_of_our_errors(exc: BaseException, code: str, exit_code: int) -> None:
    """Scripts never see a traceback, people never a name that a mistake had in hand."""
    error = as_error(exc)
    assert (error.code, error.exit_code) == (code, exit_code)
    assert "张三" not in error.message
    assert error.message
