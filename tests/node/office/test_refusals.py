"""Every reason of the fold has words, and says what to do."""

from __future__ import annotations

import pytest

from node.office.refusals import Attempt, command_of, not_here, refusal
from protocol.cases import CaseTerms, Clock, Context
from protocol.errors import CommandRefused, InputError, TransitionRefused
from protocol.fold import Effect, Verdict
from protocol.log import Header
from protocol.transitions import Reason, State
from tests.node.building import CITY, EAST

TERMS = CaseTerms("permit", 1, "n", EAST, CITY, CITY, (5, 20), 2, 1)
CONTEXT = Context(bytes(16), TERMS, State.RECEIVED, EAST, 0, bytes(16), Clock(0), (EAST,))


def attempt(kind: str = "accept") -> Attempt:
    header = Header(1, 1, CITY, kind, None, None, 0, None, 0, None, bytes(16), 0, bytes(16), (), (), {})
    return Attempt(CITY, "N-1", CONTEXT, header)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason])
def test_no_reason_is_shown_as_a_bare_code_without_context(reason: Reason) -> None:
    """Whatever the fold answers, the sentence names the case, the command or the node."""
    error = refusal(attempt(), Verdict(Effect.VOID, reason))
    assert isinstance(error, CommandRefused | InputError)
    assert any(word in error.message for word in ("N-1", "accept", CITY))


@pytest.mark.parametrize("guard", ["materials", "join", "no_result", "target", "stages", "parties", "spans", "days", "rests"])
def test_each_guard_has_a_sentence_and_a_hint(guard: str) -> None:
    """A guard's name is for programs; people read what is missing and what to do."""
    error = refusal(attempt(), Verdict(Effect.VOID, f"{Reason.GUARD}:{guard}"))
    assert isinstance(error, TransitionRefused)
    assert error.hint
    assert "{" not in error.message


def test_what_waits_can_be_tried_again() -> None:
    """A case that is not here whole is a matter of time: exit code 3, nothing lost."""
    for error in (refusal(attempt(), Verdict(Effect.WAITING, Reason.BASIS_MISSING)), not_here("N-1")):
        assert (error.retryable, error.exit_code, error.data_safe) == (True, 3, True)


def test_the_holder_is_named() -> None:
    """Who is told to wait is told for whom."""
    error = refusal(attempt(), Verdict(Effect.VOID, Reason.NOT_HOLDER))
    assert f"held by {EAST}" in error.message
    assert EAST in error.hint


def test_commands_have_the_names_that_people_type() -> None:
    """Two entry types have a command of another name."""
    assert [command_of(kind) for kind in ("material", "withdrawal", "accept")] == ["supplement", "withdraw", "accept"]
