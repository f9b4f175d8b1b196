"""The trail of one node's sessions at one hub, and how two machines under one name give themselves away on it.

Each session has a *mark*; a machine keeps the mark of the last one in its store and shows it when it logs in. The marks form a
tree. One machine only ever moves to a child of where it stands, or, when an old backup is put back, to a place behind itself on
its own line. Two machines that began as copies stand on two branches, and sooner or later one of them shows a mark that was
passed over:

    … ─ a1 ─ a2            a2 was the end of the line
         └── b1            a1 shown: a backup was put back, or a copy was started      OLD
             a2            shown all the same: a newer backup, or the first machine    RETURNED
             b1            shown again, though left by a return: two machines          CLONE

An answer that is lost costs nothing: the last mark that was shown, and all that were given since, are good. Once a clone is found
it stays found until somebody chooses: the machine that shows `keep` is the line from then on, whatever the others show.

Pure, and bounded: the marks of the last few dozen sessions.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from protocol.errors import DecodeError
from protocol.keys import sha256
from protocol.log import UNREADABLE, Count

MARK_BYTES: Final = 8
STEPS_MAX: Final = 48  # an older backup begins a new line, which is no alarm
OUT_MAX: Final = 16  # … of them of machines that somebody chose against
MACHINES_MAX: Final = 4
MACHINE_MARKS_MAX: Final = 8  # answers lost in a row
KEEP: Final = "keep"
RETIRE: Final = "retire"

Mark = Annotated[bytes, Meta(max_length=MARK_BYTES)]


def mark_of(token: bytes) -> bytes:
    """Return the mark of a session: what may lie on a disk, unlike its token."""
    return sha256(b"tongban/1/mark/" + token)[:MARK_BYTES]


class Kind(enum.IntEnum):
    """What became of a mark's branch."""

    GOOD = 0
    CROSSED = 1  # passed over when a mark of another branch was shown again
    OUT = 2  # somebody chose against its machine


class Step(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A mark that was given, and the one that was shown for it; empty if none."""

    mark: Mark
    parent: Mark
    kind: Kind = Kind.GOOD


class Machine(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One of the machines that showed themselves. marks: those that it may show next; at: when it was heard, ms.

    incarnation, size: of its own log, as it said. choice: `KEEP`, `RETIRE` or nothing.
    """

    marks: tuple[Mark, ...]
    incarnation: bytes
    size: Count
    at: Count
    choice: str


class Trail(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a hub remembers of a node's sessions.

    steps: in the order in which they were given. tip: the mark shown last. since: when a clone was found, ms; 0 = none
    is known. chosen: somebody chose which machine goes on.
    """

    steps: tuple[Step, ...] = ()
    tip: Mark = b""
    since: Count = 0
    chosen: bool = False
    machines: tuple[Machine, ...] = ()


class Outcome(enum.StrEnum):
    """What a showing says."""

    FRESH = "fresh"
    SILENT = "silent"  # nothing was shown: an older program, or a machine that was never here
    OLD = "old"
    RETURNED = "returned"
    CLONE = "clone"
    OUT = "out"  # a machine that somebody chose against


@dataclass(frozen=True, slots=True)
class Showing:
    """What a machine shows when it logs in.

    Args:
        last: the mark of its last session here; empty for none.
        used: marks of sessions of this node that were used since they were given: their answers arrived.
        incarnation, size: of its own log. at: the hub's clock, ms.
        choice: what somebody chose there: `KEEP`, `RETIRE` or nothing.
    """

    last: bytes
    at: int
    used: tuple[bytes, ...] = ()
    incarnation: bytes = b""
    size: int = 0
    choice: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of a showing.

    suspect: since when this machine is under suspicion, ms; 0 = it is not. alone: it is not known to be one of several, so the
    node's other sessions are to end: whoever uses one must log in anew, and be told.
    """

    trail: Trail
    outcome: Outcome
    suspect: int
    alone: bool


def visit(trail: Trail, shown: Showing, mark: bytes) -> Visit:
    """Take a showing in, and the mark of the session that is given for it."""
    for used in shown.used:
        if _parent(trail, used) == trail.tip:
            trail = replace(trail, tip=used)
    outcome = _outcome(trail, shown.last)
    trail = _moved(trail, shown.last, outcome)
    alone = outcome not in {Outcome.FRESH, Outcome.SILENT, Outcome.OUT} and (not trail.since or trail.chosen)
    if outcome is Outcome.CLONE and alone:
        trail = replace(trail, since=max(shown.at, 1), chosen=False)
    if shown.choice == KEEP and trail.since:
        trail, outcome = _choose(trail, shown.last), Outcome.FRESH
    elif shown.choice == RETIRE and trail.since:
        trail, outcome = _put_out(trail, shown.last), Outcome.OUT
    suspect = 0 if trail.chosen and outcome is not Outcome.OUT else trail.since
    kind = Kind.OUT if outcome is Outcome.OUT else Kind.GOOD
    steps = (*trail.steps, Step(mark, shown.last, kind))
    return Visit(_met(replace(trail, steps=_bounded(steps)), shown, mark), outcome, suspect, alone)


def encode(trail: Trail) -> bytes:
    """Return the bytes that a hub keeps."""
    return msgspec.msgpack.encode(trail)


def decode(data: bytes | None) -> Trail:
    """Read a trail; none begins empty. Raises DecodeError."""
    if data is None:
        return Trail()
    try:
        return msgspec.msgpack.decode(data, type=Trail)
    except UNREADABLE as exc:
        raise DecodeError("the trail of a node's sessions cannot be read") from exc


# --- where a mark stands


def _outcome(trail: Trail, last: bytes) -> Outcome:
    if not last:
        return Outcome.SILENT
    kind = next((step.kind for step in trail.steps if step.mark == last), Kind.GOOD)
    if kind is Kind.OUT:
        return Outcome.OUT
    if last == trail.tip or not trail.tip or _parent(trail, last) == trail.tip:
        return Outcome.FRESH
    if last in _line(trail, trail.tip) or _parent(trail, last) is None:
        return Outcome.OLD  # behind on the line; or older than what is remembered, here or after this hub's own restore
    return Outcome.CLONE if kind is Kind.CROSSED else Outcome.RETURNED


def _parent(trail: Trail, mark: bytes) -> bytes | None:
    return next((step.parent for step in trail.steps if step.mark == mark), None)


def _line(trail: Trail, mark: bytes) -> set[bytes]:
    """Return a mark and those before it, as far as they are remembered."""
    parents = {step.mark: step.parent for step in trail.steps}
    found: set[bytes] = set()
    here: bytes | None = mark
    while here and here not in found:
        found.add(here)
        here = parents.get(here)
    return found


# --- moves


def _moved(trail: Trail, last: bytes, outcome: Outcome) -> Trail:
    """Go to the mark that was shown; where it lies on another branch, the one that was left is crossed out."""
    if outcome in {Outcome.SILENT, Outcome.OUT}:
        return trail
    if _parent(trail, last) is None:
        trail = replace(trail, steps=(*trail.steps, Step(last, b"")))
    if outcome in {Outcome.RETURNED, Outcome.CLONE}:
        line = _line(trail, last)
        trail = _marked(trail, _line(trail, trail.tip) - line, Kind.CROSSED)
        trail = replace(trail, steps=tuple(_as(step, Kind.GOOD) if step.mark in line else step for step in trail.steps))
    return replace(trail, tip=last)


def _marked(trail: Trail, marks: set[bytes], kind: Kind) -> Trail:
    """Change what became of some marks and of all that were given for them."""
    marks, steps = set(marks), []
    for step in trail.steps:  # in the order in which they were given: a parent comes before its children
        if step.mark in marks or step.parent in marks:
            marks.add(step.mark)
            step = _as(step, kind)  # noqa: PLW2901 - the same step, as it is from now on
        steps.append(step)
    return replace(trail, steps=tuple(steps))


def _as(step: Step, kind: Kind) -> Step:
    return step if step.kind in {kind, Kind.OUT} else replace(step, kind=kind)


def _choose(trail: Trail, last: bytes) -> Trail:
    """Let the machine that shows this mark be the line, and all others be out."""
    line = _line(trail, last)
    steps = tuple(Step(step.mark, step.parent, Kind.GOOD if step.mark in line else Kind.OUT) for step in trail.steps)
    return replace(trail, steps=steps, tip=last, chosen=True)


def _put_out(trail: Trail, last: bytes) -> Trail:
    """Take a machine off the line, since somebody retired it."""
    trail = _marked(trail, {last} - {b""}, Kind.OUT)
    return replace(trail, tip=b"" if trail.tip == last else trail.tip)


def _bounded(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the newest steps; those of machines that are out are forgotten last."""
    if len(steps) <= STEPS_MAX:
        return steps
    kept = {step.mark for step in [step for step in steps if step.kind is Kind.OUT][-OUT_MAX:]}
    rest = [step.mark for step in steps if step.mark not in kept]
    kept |= set(rest[len(kept) - STEPS_MAX :])
    return tuple(step for step in steps if step.mark in kept)


def _met(trail: Trail, shown: Showing, mark: bytes) -> Trail:
    """Note who was here: the machine that may show this mark, or another one."""
    mine = [one for one in trail.machines if shown.last and shown.last in one.marks]
    others = [one for one in trail.machines if one not in mine]
    given = tuple(step.mark for step in trail.steps if mine and step.mark in mine[0].marks and step.parent == shown.last)
    machine = Machine((shown.last, *given, mark)[-MACHINE_MARKS_MAX:], shown.incarnation, shown.size, shown.at, shown.choice)
    return replace(trail, machines=(*others, machine)[-MACHINES_MAX:])
