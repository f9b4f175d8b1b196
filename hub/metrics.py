"""What a hub adds to a node's numbers: its children, its intake, what it refused, who is on the line.

Labels are error codes of the protocol and ids of children: of these at most `CHILDREN_MAX` are listed, by id, so that a series
stays a series; `tongban_children` says how many there are.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from node.metrics import MS, Family, Sample, counter, gauge
from node.node import Node
from node.store import logs
from node.store.database import Connection

if TYPE_CHECKING:
    from hub.app import Hub  # which counts with this module's Meter

CHILDREN_MAX: Final = 1_000
PROGRAMS_MAX: Final = 20
_PROGRAM: Final = re.compile(r"tongban/[0-9]{1,4}(\.[0-9]{1,4}){0,3}", re.ASCII)


@dataclass(slots=True)
class Meter:
    """Counts since the program started. Owner: the event loop.

    Attributes:
        refused: requests of other nodes, by error code.
        pushes, entries: taken in, durably.
    """

    refused: Counter[str] = field(default_factory=Counter)
    pushes: int = 0
    entries: int = 0


def of_hub(hub: Hub, conn: Connection) -> Iterator[Family]:
    """Yield what the accepting side counts."""
    meter = hub.meter
    refused = [Sample(count, (("code", code),)) for code, count in sorted(meter.refused.items())]
    yield counter("requests_refused_total", "Requests of other nodes that were refused.", refused)
    yield counter("pushes_total", "Pushes taken in.", [Sample(meter.pushes)])
    yield counter("pushed_entries_total", "Entries taken in with them.", [Sample(meter.entries)])
    yield gauge("intake_waiting", "Pushes that wait for the store.", hub.intake.waiting)
    yield gauge("intake_waiting_seconds", "How long they will take, about.", hub.intake.waiting_s)
    yield gauge("sessions", "Children with a session.", hub.sessions.count)
    programs = Counter(map(_program, hub.sessions.programs.values()))
    samples = tuple(Sample(count, (("program", name),)) for name, count in sorted(programs.items()))
    yield Family("callers", "gauge", "Nodes that called since the program started, by what they run.", samples[:PROGRAMS_MAX])
    yield from _children(hub.node, conn)


def _program(said: str) -> str:
    """Return what a node says it runs, if that is a version of ours: a label takes no text from outside."""
    return said if _PROGRAM.fullmatch(said) else "other"


def _children(node: Node, conn: Connection) -> Iterator[Family]:
    children = sorted(child.node for child in node.rules.now.children(node.id))
    listed = set(children[:CHILDREN_MAX])
    held: defaultdict[str, int] = defaultdict(int)
    lag: defaultdict[str, int] = defaultdict(int)
    for row in logs.load_logs(conn):
        if row.log.node in listed and not row.branch:
            held[row.log.node] += row.size
            lag[row.log.node] += max(row.committed - row.size, 0)  # as its last signed head says
    contacts = conn.execute("SELECT node, at FROM contacts ORDER BY node").fetchall()
    yield gauge("children", "Nodes right below this one.", len(children))
    yield _by_child("child_entries", "Entries held of a child's own logs.", held)
    yield _by_child("child_lag_entries", "Entries that a child has signed for and not sent yet.", lag)
    heard = {child: at / MS for child, at in contacts if child in listed}
    yield _by_child("child_contact_timestamp_seconds", "When a child was last heard.", heard)


def _by_child(name: str, about: str, values: dict[str, int] | dict[str, float]) -> Family:
    samples = (Sample(value, (("child", child),)) for child, value in sorted(values.items()))
    return Family(name, "gauge", about, tuple(samples))
