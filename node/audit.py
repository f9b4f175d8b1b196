"""Does what we sent arrive further up? A parent that keeps an author back is found by what the hubs above it have of our log.

What counts: the receipts of hubs above the parent, which they signed, and what one of them says when it is asked (`node.uplink.auditing`).
What the parent receipted a day ago, and none of them has, is said; nothing stops for it: the line above the parent may be down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from node.node import Node
from node.store import logs
from node.store.database import Connection
from node.views.common import Shown, time_text
from protocol.log import LogId
from protocol.messages import Head

SEEN: Final = "audit"  # in meta
SPAN_MS: Final = 24 * 3_600_000


class Seen(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a hub above the parent said that it holds of our log, and when, ms."""

    hub: str
    incarnation: bytes
    size: int
    at: int


@dataclass(frozen=True, slots=True)
class Withheld:
    """Entries that the parent has had for a day and nobody above it has. size: receipted by the parent; above: held there."""

    size: int
    above: int
    since: int

    def shown(self) -> Shown:
        """Return the form that `status` prints."""
        return {"entries": self.size - self.above, "since": time_text(self.since)}


def note(node: Node, conn: Connection, hub: str, own: LogId, head: Head | None) -> None:
    """Keep what a hub above the parent said of our log; only a head that is a beginning of our log counts."""
    row = logs.find_log(conn, own)
    size = head.size if head is not None else 0
    if row is None or size > row.size or (head is not None and logs.root_at(conn, row, size) != head.root):
        size = 0
    seen = Seen(hub, own.incarnation, size, node.clock.wall_ms())
    logs.set_meta(conn, SEEN, msgspec.msgpack.encode(seen))


def withheld(node: Node, conn: Connection) -> Withheld | None:
    """Return what the parent keeps back, as far as this node can know; None if nothing, or where the parent is the root."""
    parent, row = node.parent, node.ledger.own_row(conn)
    if parent is None or not node.rules.now.ancestors(parent):
        return None
    old_ms = node.clock.wall_ms() - SPAN_MS
    receipts = logs.receipts_of(conn, row.id)
    mine = [(size, at) for hub, size, at in receipts if hub == parent and at <= old_ms]
    above = max((size for hub, size, _ in receipts if hub not in {parent, node.id}), default=0)
    above = max(above, _asked(conn, row.log))
    waiting = [(size, at) for size, at in mine if size > above]
    return Withheld(max(size for size, _ in waiting), above, min(at for _, at in waiting)) if waiting else None


def _asked(conn: Connection, own: LogId) -> int:
    packed = logs.get_meta(conn, SEEN)
    if packed is None:
        return 0
    seen = msgspec.msgpack.decode(packed, type=Seen)
    return seen.size if seen.incarnation == own.incarnation else 0
