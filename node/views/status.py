"""How a node stands: who it is, what it holds, what is safe above, and how its children are, as far as this store knows.

A hub says more about its children (`hub`): what they told of themselves in their last greeting.
"""

from __future__ import annotations

from typing import Final

from node import audit, clones, continuity, scrub
from node.node import PROGRAM, Node
from node.safety import Acked, Receipted, acked
from node.store import logs
from node.store.database import Connection
from node.views.common import Shown, log_text, time_text
from node.views.upkeep import upkeep
from protocol import trail

LOST_SPANS: Final = 20  # spans of lost entries that are listed
LAST_CONTACT: Final = "last_contact"  # in meta: ms since the epoch, decimal; written by the uplink


def status(node: Node, conn: Connection) -> Shown:
    """Return the node's standing."""
    row = node.ledger.own_row(conn)
    record = node.rules.record(node.id)
    above = acked(conn, row.id, node.id, node.parent)
    return {
        "node": node.id,
        "name": record.name if record is not None else None,
        "parent": node.parent,
        "network": node.ledger.identity.network.hex(),
        "incarnation": node.ledger.identity.incarnation.hex(),
        "listen": node.listen or (record.addresses[0] if record is not None and record.addresses else None),
        "store": {**_store(conn), **scrub.standing(conn), "full": node.room is not None and node.room.full},
        "version": PROGRAM,
        "basis": _basis(node),
        "log_size": row.size,
        "acked": _acked(above),
        "safety": above.of(row.size - 1).value,
        "pending": pending(node, conn),
        "last_contact": _last_contact(conn),
        **upkeep(node, conn),
        "clones": clones.state(conn).since > 0,
        "withheld": found.shown() if (found := audit.withheld(node, conn)) is not None else None,
        "lost": [_loss(loss) for loss in continuity.losses(node.ledger, conn)],
        "children": [_child(node, conn, child.node) for child in node.rules.now.children(node.id)],
    }


def pending(node: Node, conn: Connection) -> int:
    """Return how many own entries the parent has not acknowledged; 0 at the root."""
    if node.parent is None:
        return 0
    known = logs.acks(conn)
    own = (row for row in logs.load_logs(conn) if row.log.node == node.id and not row.branch)
    return sum(max(0, row.size - known.get(row.id, 0)) for row in own)


def _store(conn: Connection) -> Shown:
    pages = conn.execute("PRAGMA page_count").fetchone()[0] * conn.execute("PRAGMA page_size").fetchone()[0]
    counts = conn.execute(
        "SELECT (SELECT coalesce(max(id), 0) FROM entries), (SELECT count(*) FROM cases), (SELECT count(*) FROM logs)"
    ).fetchone()
    schema = conn.execute("PRAGMA user_version").fetchone()[0]
    return {"schema": schema, "bytes": pages, "entries": counts[0], "cases": counts[1], "logs": counts[2]}


def _loss(loss: continuity.Loss) -> Shown:
    """Name own entries that were lost with a store, and that nobody has given back: spans of indexes, the last not included."""
    return {"log": log_text(loss.log), "count": loss.count, "indexes": [list(span) for span in loss.spans[:LOST_SPANS]]}


def _basis(node: Node) -> Shown | None:
    if not node.rules.registers:
        return None
    number, mark = node.rules.basis
    return {"number": number, "hash": mark.hex()}


def _acked(above: Acked) -> Shown:
    return {"parent": _receipted(above.parent), "second": _receipted(above.second)}


def _receipted(one: Receipted | None) -> Shown | None:
    return None if one is None else {"node": one.node, "size": one.size, "at": time_text(one.at)}


def _last_contact(conn: Connection) -> str | None:
    value = logs.get_meta(conn, LAST_CONTACT)
    return time_text(int(value)) if value else None


def _child(node: Node, conn: Connection, child: str) -> Shown:
    """Return what the store knows of a child: the size held of its log, and when it last called."""
    held = [row for row in logs.load_logs(conn) if row.log.node == child and not row.branch]
    at = conn.execute("SELECT at, trail FROM contacts WHERE node = ?", (child,)).fetchone()
    record = node.rules.record(child)
    return {
        "node": child,
        "name": record.name if record is not None else None,
        "log_size": held[-1].size if held else 0,
        "lag_entries": sum(max(row.committed - row.size, 0) for row in held),  # as its last signed head says
        "lag_s": max(0, node.clock.wall_ms() - at[0]) // 1000 if at else None,
        "last_contact": time_text(at[0]) if at else None,
        "clones": at is not None and trail.decode(at[1]).since > 0,  # two machines seem to be at work under its name
    }
