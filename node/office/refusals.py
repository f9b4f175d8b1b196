"""Why the fold would not apply an entry, in words: state, holder and the way out. Nothing was written when these are raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.cases import Context, state_word
from protocol.errors import CommandRefused, InputError, TongbanError, TransitionRefused
from protocol.fold import Effect, Verdict
from protocol.limits import CASE_ENTRIES_MAX
from protocol.log import Header
from protocol.transitions import TRANSITIONS, Reason

# Entry types whose command has another name.
COMMANDS: Final[Mapping[str, str]] = {"material": "supplement", "withdrawal": "withdraw"}
SYNC_HINT: Final = "Nothing is lost: run `tongban sync` when the line is back, then try again."


def command_of(kind: str) -> str:
    """Return the command's name for an entry type."""
    return COMMANDS.get(kind, kind)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An entry that was tried on the fold. number: how people call the case. context: the case as it stands here."""

    node: str
    number: str
    context: Context
    header: Header

    @property
    def command(self) -> str:
        """The command that people gave."""
        return command_of(self.header.type)

    @property
    def custody(self) -> str:
        """Who has the case, in words."""
        holder = self.context.holder
        who = "this node" if holder == self.node else holder
        to = self.context.offered
        return f"held by {who}" + (f" and offered to {'this node' if to == self.node else to}" if to else "")


def refusal(attempt: Attempt, verdict: Verdict) -> TongbanError:
    """Return the error for an entry that would not be applied."""
    if verdict.effect is Effect.WAITING:
        return not_here(attempt.number)
    base, _, name = verdict.reason.partition(":")
    explain = _WORDS.get(base)
    if explain is None:
        return TransitionRefused(f"case {attempt.number}: {attempt.command} would have no effect ({verdict.reason})")
    return explain(attempt, name)


def not_here(number: str) -> CommandRefused:
    """Return the error for a case of which something is not here yet; trying again later helps."""
    return retryable(CommandRefused(f"case {number} is not here whole yet", hint=SYNC_HINT))


def too_long(number: str) -> CommandRefused:
    """Return the error for a case that is full."""
    return CommandRefused(f"case {number} has {CASE_ENTRIES_MAX} entries, the most", hint="Continue in a new case.")


def retryable(error: CommandRefused) -> CommandRefused:
    """Mark a refusal that ends by itself, once what is on its way has come."""
    error.retryable = True
    error.exit_code = 3
    return error


# --- one function a reason


def _not_in_table(attempt: Attempt, _name: str) -> TongbanError:
    possible = sorted(TRANSITIONS[attempt.context.state].keys() - {"adopt"})
    hint = f"Possible now for its holder: {', '.join(possible)}." if possible else "The case is over; open a new one."
    return TransitionRefused(
        f"case {attempt.number} is {state_word(attempt.context)}, {attempt.custody}: {attempt.command} is not possible now", hint=hint
    )


def _not_holder(attempt: Attempt, _name: str) -> TongbanError:
    hint = f"Let {attempt.context.holder} do it, or offer the case to this node."
    if attempt.context.offered == attempt.node:
        hint = "Take the case first (`case take`)."
    return _custody(attempt, hint)


def _offered_away(attempt: Attempt, _name: str) -> TongbanError:
    to = attempt.context.offered
    return _custody(attempt, f"Wait until {to} takes or returns it; a hub above may reclaim it.")


def _not_offered(attempt: Attempt, _name: str) -> TongbanError:
    return _custody(attempt, "Only the node to which a case is offered takes or returns it.")


def _not_above(attempt: Attempt, _name: str) -> TongbanError:
    return _custody(attempt, "Only a node above its holder reclaims a case: ask the common hub.")


def _custody(attempt: Attempt, hint: str) -> TongbanError:
    return TransitionRefused(
        f"case {attempt.number} is {attempt.custody} ({state_word(attempt.context)}): {attempt.command} is not this node's", hint=hint
    )


def _no_right(attempt: Attempt, name: str) -> TongbanError:
    item = attempt.context.terms.item
    if name == "no_such_item":
        return CommandRefused(f"item {item} is not in the catalogue held here", hint=SYNC_HINT)
    return CommandRefused(
        f"{attempt.node} has no right to {attempt.command} cases of item {item}",
        hint="Offer the case to a node that has it, or ask the item's owner for the right; then sync.",
    )


def _not_party(attempt: Attempt, _name: str) -> TongbanError:
    return CommandRefused(
        f"{attempt.node} is no party of case {attempt.number}",
        hint="Parties are its opener, holders, and the nodes to which it was offered or dispatched.",
    )


def _not_assigned(attempt: Attempt, _name: str) -> TongbanError:
    stage = attempt.context.stage
    tasks = ", ".join(f"{task.name} ({task.node})" for task in stage.tasks) if stage else "none"
    return CommandRefused(
        f"case {attempt.number}: that task is not assigned to {attempt.node}", hint=f"Tasks of the stage: {tasks}."
    )


def _malformed(attempt: Attempt, _name: str) -> TongbanError:
    return InputError(f"{attempt.command}: a value is too long or not of the form that the record needs")


def _not_chosen(attempt: Attempt, _name: str) -> TongbanError:
    return TransitionRefused(
        f"case {attempt.number}: another line of the case would stand before this {attempt.command}",
        hint="Look at `case show`; a hub above all who wrote on that line can reclaim it.",
    )


def _guarded(attempt: Attempt, name: str) -> TongbanError:
    words, hint = _GUARDS.get(name, (name, ""))
    context = attempt.context
    missing = ", ".join(name for name in context.awaited if name not in context.handed)
    detail = words.replace("{missing}", missing).replace("{results}", _results(context))
    return TransitionRefused(f"case {attempt.number} ({state_word(context)}): {attempt.command}: {detail}", hint=hint)


def _results(context: Context) -> str:
    """Return the results of the stage, those included that the entry would have relied on first."""
    if context.stage is None:
        return "none"
    fresh = {side.task: side.result for side in context.fresh if side.dispatch == context.stage.dispatch}
    return ", ".join(
        f"{task.name}: {fresh.get(task.name) or task.result or 'no result yet'}" for task in context.stage.tasks
    )


_GUARDS: Final[Mapping[str, tuple[str, str]]] = {
    "materials": (
        "materials are still missing: {missing}",
        "Hand them in first (`case supplement`), at any counter that is a party.",
    ),
    "join": ("the stage is not finished: {results}", "Wait for the departments' results; a deny needs one that failed."),
    "no_result": ("there is no result to deliver yet", "Decide or refuse first."),
    "target": ("the case cannot be offered to the node that holds it", "Name another node with --to."),
    "stages": ("the case has had the most stages possible", "Continue in a new case."),
    "parties": ("the case has the most parties possible", "Continue in a new case."),
    "spans": ("the case was stopped as often as possible", "Continue in a new case."),
    "days": ("the extensions together are longer than a calendar can count", "Give fewer days."),
    "rests": ("something it rests on has no effect", "Look at `case show`."),
}

_WORDS: Final[Mapping[str, Callable[[Attempt, str], TongbanError]]] = {
    Reason.NOT_IN_TABLE: _not_in_table,
    Reason.NOT_HOLDER: _not_holder,
    Reason.WRONG_EPOCH: _not_holder,
    Reason.OFFERED_AWAY: _offered_away,
    Reason.NOT_OFFERED: _not_offered,
    Reason.NOT_ABOVE: _not_above,
    Reason.NO_RIGHT: _no_right,
    Reason.NOT_A_PARTY: _not_party,
    Reason.NOT_ASSIGNED: _not_assigned,
    Reason.NOT_DISPATCHED: _not_assigned,
    Reason.MALFORMED: _malformed,
    Reason.NOT_CHOSEN: _not_chosen,
    Reason.GUARD: _guarded,
}
