"""Errors say whose fault it is, what to do, and whether anything is lost; the codes that cross the wire are fixed."""

from __future__ import annotations

import re

import pytest

from protocol import errors
from protocol.errors import PeerError, TongbanError
from tests.sources import ROOT

# code → (HTTP status, retryable, exit code); docs/PROTOCOL.md, section 15. A code is never reused for something else.
CODES = {
    "peer": (400, False, 1),
    "decode": (400, False, 1),
    "limit": (413, False, 1),
    "signature": (403, False, 1),
    "unknown_signer": (403, True, 1),
    "not_permitted": (403, False, 1),
    "proof": (400, False, 1),
    "gap": (409, True, 1),
    "version": (426, False, 1),
    "wrong_network": (403, False, 1),
    "session": (401, True, 1),
    "join_refused": (403, False, 1),
    "rollback": (409, False, 1),
    "fork": (409, False, 1),
    "overloaded": (503, True, 3),
}


def kinds(base: type[TongbanError]) -> list[type[TongbanError]]:
    return [base, *(kind for one in base.__subclasses__() for kind in kinds(one))]


def test_codes_on_the_wire_are_fixed() -> None:
    """Another implementation relies on code, status and whether to try again."""
    found = {
        kind.code: (kind.http_status, kind.retryable, kind.exit_code) for kind in [*kinds(PeerError), errors.Overloaded]
    }
    assert found == CODES


def test_the_protocol_document_lists_the_codes() -> None:
    """The table in docs/PROTOCOL.md, section 15, is this one."""
    text = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8").partition("## 15. Errors")[2]
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9]{3}) \| (yes|no) \|", text, re.MULTILINE)
    stated = {code: (int(status), retry == "yes") for code, status, retry in rows}
    assert stated == {code: (status, retryable) for code, (status, retryable, _) in CODES.items()}


def test_each_kind_has_its_own_code() -> None:
    """A code names one kind."""
    codes = [kind.code for kind in kinds(TongbanError)]
    own = [kind for kind in kinds(TongbanError) if "code" in vars(kind)]
    assert len({kind.code for kind in own}) == len(own)
    assert set(codes) == {kind.code for kind in own}


def test_an_error_is_shown_with_a_hint() -> None:
    """The form of `--json`: code, message, hint, retryable, data_safe."""
    shown = errors.DecodeError("x").as_dict()
    assert shown == {
        "code": "decode",
        "message": "x",
        "hint": errors.DecodeError.default_hint,
        "retryable": False,
        "data_safe": True,
    }
    assert errors.DecodeError("x", hint="y").hint == "y"
    assert errors.StoreError("x", data_safe=False).as_dict()["data_safe"] is False


def test_errors_carry_what_helps_to_go_on() -> None:
    """A gap tells the size held, overload the slot, an unknown signer the node."""
    assert errors.GapFound("x", size_held=3, log="l").size_held == 3
    assert errors.GapFound("x", size_held=3).hint
    assert errors.Overloaded("x", retry_after_s=2.5).retry_after_s == 2.5
    assert errors.UnknownSigner("x", node="n").node == "n"


@pytest.mark.parametrize("count", [1, 2, 25])
def test_many_problems_are_one_error(count: int) -> None:
    """One line for one fault, a count and a bounded list for more; all of them for programs."""
    error = errors.InputProblems("f.toml", [f"line {n}" for n in range(count)])
    assert error.message.count("\n") == (0 if count == 1 else min(count, 20) + (count > 20))
    assert error.as_dict()["problems"] == [f"line {n}" for n in range(count)]
