"""What the people who run a machine look after: its disk, how old its rules are, how long the parent was silent.

Ages are by this machine's wall clock. Old rules and a silent parent are told, and stop nothing: a counter works on with them.
"""

from __future__ import annotations

from typing import Final

from node import backup, pulse
from node.node import Node
from node.store import facts, logs
from node.store.database import Connection
from node.views.common import Shown, time_text
from protocol.log import decode_header

LAST_CONTACT: Final = "last_contact"  # in meta: ms since the epoch, decimal; written by the uplink
SKEW: Final = "clock_skew"  # in meta: ms, decimal; written by the uplink
STALE_S: Final = 7 * 24 * 3_600  # the parent was silent for so long: rules may have changed meanwhile
UNKNOWN: Final = "unknown_type"  # why a rule of a newer program has no effect here


def upkeep(node: Node, conn: Connection) -> Shown:
    """Return the disk's forecast, the age of rules and backup, the parent's silence, and how far its clock is from this one."""
    heard = logs.get_meta(conn, LAST_CONTACT)
    heard_ms = int(heard) if heard else None
    return {
        "contact_age_s": None if heard_ms is None else _age_s(node, heard_ms),
        "clock_skew_s": _skew_s(node, conn),
        "rules": _rules(node, conn, heard_ms),
        "backup_age_s": None if (made := logs.get_meta(conn, backup.LAST)) is None else _age_s(node, int(made)),
        "disk": _disk(node, conn),
    }


def _skew_s(node: Node, conn: Connection) -> float | None:
    """Return how far this clock was ahead of the parent's when they met last; None at the root, and before they met."""
    noted = logs.get_meta(conn, SKEW)
    return None if node.parent is None or noted is None else int(noted) / 1_000


def _rules(node: Node, conn: Connection, heard_ms: int | None) -> Shown:
    """Return how old the rules held may be: at the root never; else since the parent, or a register, was heard last.

    waiting: rules held that the root has not numbered yet. At the root itself: it was restored, or just started, and hears its children first.
    """
    as_of = node.clock.wall_ms() if node.parent is None else max(heard_ms or 0, _registered_ms(conn))
    age_s = _age_s(node, as_of)
    return {
        "as_of": time_text(as_of),
        "age_s": age_s,
        "stale": age_s > STALE_S,
        "unknown": sum(reason == UNKNOWN for reason in node.rules.voids.values()),
        "waiting": facts.count_unregistered(conn),
    }


def _registered_ms(conn: Connection) -> int:
    """Return when the newest register held was stated, by the root's clock."""
    found = conn.execute("SELECT e.raw FROM registers r JOIN entries e ON e.id = r.entry ORDER BY r.number DESC LIMIT 1").fetchone()
    return decode_header(found[0]).claimed_at if found else 0


def _disk(node: Node, conn: Connection) -> Shown:
    found = pulse.look(node, conn)
    return {
        "free_bytes": found.space.free_bytes,
        "store_bytes": found.space.store_bytes,
        "bytes_a_day": None if found.bytes_a_day is None else round(found.bytes_a_day),
        "days_left": None if found.days_left is None else round(found.days_left, 1),
        "low": found.low,
    }


def _age_s(node: Node, at_ms: int) -> int:
    return max(0, node.clock.wall_ms() - at_ms) // 1_000
