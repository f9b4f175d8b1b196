"""When two machines seem to be at work under one name: what this store knows of it, what it may still write, and the choice.

The parent finds it (`protocol.trail`) and tells each machine when it logs in. From then on the office is *fenced*: what advances a
case waits, since the other machine may advance the same one; taking in, material and notes go on. It ends when somebody chooses,
on the machines themselves:

    keep      this machine goes on, in a new incarnation; what the parent has not receipted is restated there
    retire    this machine gives the parent what it still has, and takes no more entries; its folder stays readable
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from node import continuity, faults
from node import logs as lines
from node.ledger import Changes, Ledger
from node.node import Node
from node.store import logs
from node.store.database import Connection
from node.views.common import Shown, time_text
from protocol import trail
from protocol.errors import CloneSuspected, CommandRefused, MachineRetired
from protocol.messages import Head
from protocol.trail import KEEP, RETIRE, Trail
from protocol.transitions import SPINE_TYPES

STATE: Final = "clones"  # in meta
LAST: Final = "session/"  # in meta, with a hub's id: the mark of the last session there
FENCED: Final = SPINE_TYPES - {"open"}  # a counter always registers


class State(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is known here. since: of the suspicion, ms; 0 = none. by: the hub that told. choice: made here, for that hub."""

    since: int = 0
    by: str = ""
    choice: str = ""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a machine shows of itself when it logs in."""

    last: bytes
    own: Head
    choice: str


def state(conn: Connection) -> State:
    """Return what is known here."""
    found = logs.get_meta(conn, STATE)
    return State() if found is None else msgspec.msgpack.decode(found, type=State)


def check(conn: Connection, kinds: Iterable[str]) -> None:
    """Let entries of these types be stated, or refuse.

    Raises:
        CloneSuspected: they advance cases, and another machine may do so, too. MachineRetired: nothing is stated here any more.
    """
    known = state(conn)
    if known.choice == RETIRE:
        raise MachineRetired("this machine was retired: it takes no more entries")
    if known.since and not known.choice and FENCED.intersection(kinds):
        raise CloneSuspected(
            f"since {time_text(known.since)} two machines seem to be at work under this node's name, says {known.by}"
        )


# --- meeting a hub


def introduce(ledger: Ledger, conn: Connection, hub: str) -> Introduction:
    """Return what to show a hub: the mark of the last session there, the own head, and a choice that it asked for."""
    row, known = ledger.own_row(conn), state(conn)
    last = logs.get_meta(conn, LAST + hub) or b""
    return Introduction(last, Head(row.log, row.size, row.root), known.choice if known.by == hub else "")


def note_session(conn: Connection, hub: str, token: bytes, suspect: int) -> None:
    """Keep the mark of a session before it is used, and what the hub said: part of a unit of work.

    Args:
        suspect: since when the hub suspects a clone, ms; 0 = it does not.
    """
    logs.set_meta(conn, LAST + hub, trail.mark_of(token))
    known = state(conn)
    if suspect and known.choice != RETIRE and (suspect, hub, "") != (known.since, known.by, known.choice):
        lines.event("clone.suspected", lines.CRITICAL, parent=hub)
        _save(conn, State(suspect, hub))
    elif not suspect and known.by == hub and known.choice != RETIRE:
        lines.event("clone.settled", lines.WARNING, parent=hub)
        _save(conn, State())
    faults.point("sessions.kept")


def _save(conn: Connection, known: State) -> None:
    logs.set_meta(conn, STATE, msgspec.msgpack.encode(known))


# --- choosing


async def keep(node: Node) -> Shown:
    """Let this machine go on: in a new incarnation, and fenced no longer.

    Raises:
        CommandRefused: nothing is suspected here.
    """
    incarnation, now = node.entropy.bytes(16), node.clock.wall_ms()

    def choose(conn: Connection, changes: Changes) -> Shown:
        known = _suspected(conn)
        row = node.ledger.own_row(conn)
        node.ledger.seal(conn)  # what stays in the old incarnation stays covered
        node.ledger.save_seals(conn)
        common = min(logs.acks(conn).get(row.id, 0), row.size)
        continuity.reincarnate(node.ledger, conn, changes, common, incarnation, now)
        _save(conn, State(known.since, known.by, KEEP))
        changes.anew = True
        faults.point("continuity.kept")
        return shown(node, conn)

    return await node.write(choose)


async def retire(node: Node) -> Shown:
    """Let this machine take no more entries; what it has goes to the parent as ever.

    Raises:
        CommandRefused: nothing is suspected here.
    """

    def choose(conn: Connection, changes: Changes) -> Shown:
        known = _suspected(conn)
        _save(conn, State(known.since, known.by, RETIRE))
        changes.anew = True
        faults.point("continuity.retired")
        return shown(node, conn)

    return await node.write(choose)


def _suspected(conn: Connection) -> State:
    known = state(conn)
    if not known.since:
        raise CommandRefused("no second machine is suspected here", hint="See `tongban clones`; nothing has to be chosen.")
    return known


# --- looking


def shown(node: Node, conn: Connection) -> Shown:
    """Return what is known: of this machine, and of the children whose sessions came in two lines."""
    known, row = state(conn), node.ledger.own_row(conn)
    acked = logs.acks(conn)
    own = (one for one in logs.load_logs(conn) if one.log.node == node.id and not one.branch)
    return {
        "node": node.id,
        "suspected_since": time_text(known.since) if known.since else None,
        "told_by": known.by or None,
        "choice": known.choice or None,
        "fenced": bool(known.since) and known.choice != KEEP,
        "incarnation": row.log.incarnation.hex(),
        "log_size": row.size,
        "pending": 0 if node.parent is None else sum(max(0, one.size - acked.get(one.id, 0)) for one in own),
        "children": children(conn),
    }


def children(conn: Connection) -> list[Shown]:
    """Return the children under suspicion, each with the machines that showed themselves."""
    rows = conn.execute("SELECT node, trail FROM contacts WHERE trail IS NOT NULL ORDER BY node")
    found = ((node, trail.decode(raw)) for node, raw in rows)
    return [_child(node, seen) for node, seen in found if seen.since]


def _child(node: str, seen: Trail) -> Shown:
    return {
        "node": node,
        "suspected_since": time_text(seen.since),
        "settled": seen.chosen,
        "machines": [
            {
                "incarnation": one.incarnation.hex(),
                "log_size": one.size,
                "last_contact": time_text(one.at),
                "choice": one.choice or None,
            }
            for one in seen.machines
        ],
    }
