"""How safe an entry is: on this machine, at the parent, or on a second machine above. The strongest true one is said.

Only verified receipts count: what a hub has signed for, not what we have sent.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from node.store import logs
from node.store.database import Connection


class Safety(enum.StrEnum):
    """Where an entry is safe; `node.texts` has the words (`safety.here` …)."""

    HERE = "here"
    PARENT = "parent"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Receipted:
    """A hub's newest receipt of a log: it held `size` entries at its own time `at`, ms."""

    node: str
    size: int
    at: int


@dataclass(frozen=True, slots=True)
class Acked:
    """What is known above of one log: at the parent, and at the best other node above."""

    parent: Receipted | None
    second: Receipted | None

    def of(self, index: int) -> Safety:
        """Return how safe the entry at an index is."""
        above = sum(one is not None and one.size > index for one in (self.parent, self.second))
        return (Safety.HERE, Safety.PARENT, Safety.SECOND)[above]


def acked(conn: Connection, log_id: int, own: str, parent: str | None) -> Acked:
    """Return what nodes above have receipted of a log; receipts of this node (`own`) itself are no second machine."""
    found = [Receipted(hub, size, at) for hub, size, at, _ in logs.newest_receipts(conn, log_id) if hub != own]
    first = next((one for one in found if one.node == parent), None)
    others = sorted((one for one in found if one is not first), key=lambda one: (one.size, one.node))
    if first is None and others:  # a node moved, or its parent was passed by: whoever has it counts as the one above
        return Acked(others[-1], others[-2] if len(others) > 1 else None)
    return Acked(first, others[-1] if others else None)
