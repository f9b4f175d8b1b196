"""One command at work: who acts and when, the open transaction, and the answer that every writing command gives.

    answer = await at_desk(node, Act(officer="0012", window="3"), lambda desk: counter.accept(desk, "650102001001-…"))

`at_desk` is one transaction. Who brings many events at once (a replay) calls `perform` several times inside one unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from node import clones
from node.ledger import Changes, Draft, Placed
from node.node import Node
from node.safety import Safety, acked
from node.store import cases, logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol.errors import CommandRefused, InputError
from protocol.register import View

ID_CHARS_MAX: Final = 40  # of an officer, a window
SOURCE_CHARS_MAX: Final = 200

Answer = dict[str, object]


@dataclass(frozen=True, slots=True)
class Act:
    """Who gives a command, where, and for which time.

    Args:
        officer: id of the officer (工号).
        window: id of the counter's window.
        at_ms: claimed time, ms since the epoch; None = now; a past one makes the entry 补录 (recorded afterwards).
        source: (id, activity) of the event in another system that this command repeats here.
    """

    officer: str | None = None
    window: str | None = None
    at_ms: int | None = None
    source: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """A command in its transaction. now_ms, claimed_at: ms since the epoch."""

    node: Node
    conn: Connection
    changes: Changes
    act: Act
    now_ms: int
    claimed_at: int

    @property
    def rules(self) -> View:
        """The newest rules held here: those that an entry written now is judged by."""
        return self.node.rules.now

    def marks(self) -> dict[str, Any]:
        """Return the header fields that say how an entry came here: afterwards, or from which event."""
        found: dict[str, Any] = {}
        if self.claimed_at < self.now_ms:
            found["afterwards"] = True
        if self.act.source is not None:
            found["source"] = list(self.act.source)
        return found

    def draft(self, kind: str, fields: Mapping[str, Any], body: Mapping[str, Any] | None = None, **case: Any) -> Draft:  # noqa: ANN401 - Draft's own
        """Return an entry about to be stated by this officer at this window; `case`: the draft's place in its case."""
        return Draft(
            kind, self.claimed_at, {**fields, **self.marks()}, body or None, self.act.officer, self.act.window, **case
        )

    def write(self, *drafts: Draft) -> list[Placed]:
        """Append entries to the own log.

        Raises:
            CloneSuspected, MachineRetired: another machine is, or may be, at work under this node's name.
        """
        clones.check(self.conn, [draft.type for draft in drafts])
        return self.node.ledger.append(self.conn, drafts, self.changes)

    def place(self, placed: Placed) -> Answer:
        """Return where an entry just written stands, as every writing command answers."""
        own = self.node.ledger.identity.log
        return {**place_of(own.node, own.incarnation, placed.index), "safety": Safety.HERE.value}


def place_of(node: str, incarnation: bytes, index: int) -> Answer:
    """Return a place in a log as answers show it."""
    return {"log": {"node": node, "incarnation": incarnation.hex(), "index": index}}


async def at_desk(node: Node, act: Act, work: Callable[[Desk], Answer]) -> Answer:
    """Run one command in a transaction of its own.

    Raises:
        CommandRefused: it cannot be done now; nothing was written.
        InputError: a value is wrong; nothing was written. StoreFull: the disk has no room.
    """
    node.admit()
    return await node.write(lambda conn, changes: perform(node, conn, changes, act, work))


def perform(node: Node, conn: Connection, changes: Changes, act: Act, work: Callable[[Desk], Answer]) -> Answer:
    """Run one command as part of a unit of work; an event that was taken in before is answered again, written once."""
    now_ms = node.clock.wall_ms()
    _check(act, now_ms)
    desk = Desk(node, conn, changes, act, now_ms, now_ms if act.at_ms is None else act.at_ms)
    return _repeated(desk) or work(desk)


def _check(act: Act, now_ms: int) -> None:
    for what, value in (("officer", act.officer), ("window", act.window)):
        if value is not None and not 0 < len(value) <= ID_CHARS_MAX:
            raise InputError(f"--{what}: must have 1 to {ID_CHARS_MAX} characters")
    if act.at_ms is not None and not 0 <= act.at_ms <= now_ms:
        raise InputError(
            "--at: lies in the future, by this machine's clock",
            hint="Give the time at which it happened, or correct the clock of this machine.",
        )
    if act.source is not None and not all(0 < len(part) <= SOURCE_CHARS_MAX for part in act.source):
        raise InputError(f"the event's source id and activity must have 1 to {SOURCE_CHARS_MAX} characters")


def _repeated(desk: Desk) -> Answer | None:
    """Answer for an event of another system that is here already, as it was answered the first time."""
    if desk.act.source is None:
        return None
    entry_id = cases.find_source(desk.conn, desk.act.source[0])
    if entry_id is None:
        return None
    entry = logs.entry_by_id(desk.conn, entry_id)
    log = logs.load_log(desk.conn, entry.log)
    if entry.case_id is None or log.log.node != desk.node.id:
        raise CommandRefused(
            f"the event {desk.act.source[0]} was taken in at {log.log.node}", hint="It is in the network once; skip it here."
        )
    (row,) = cases.load_by_ids(desk.conn, [entry.case_id])
    return {
        **case_name(row.number, row.key),
        **place_of(log.log.node, log.log.incarnation, entry.index),
        "safety": safety_at(desk, log, entry.index),
        "repeated": True,
    }


def safety_at(desk: Desk, log: LogRow, index: int) -> str:
    """Return how safe an own entry is."""
    return acked(desk.conn, log.id, desk.node.id, desk.node.parent).of(index).value


def case_name(number: str | None, key: bytes) -> Answer:
    """Return how answers name a case: by its number, or its key while the opening is not here."""
    return {"case": number or key.hex(), "key": key.hex()}
