"""Keys of this node and of those below it: shown, replaced, revoked; and stations that close.

A revocation proposes, for each log that the key signed, the largest size that a hub on the way up had receipted before the
moment from which the key is not trusted: what stood there then was written before. It never takes anything away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from node.ledger import Changes, Draft
from node.node import Node
from node.office.desk import Act, Answer
from node.registrar import take_in
from node.rekeying import rotate
from node.store import facts, logs
from node.store.database import Connection
from node.store.logs import LogRow
from node.views.common import time_text
from protocol import keys, limits
from protocol.errors import CommandRefused, DecodeError, InputError
from protocol.log import decode_body, decode_header
from protocol.ruleset import NodeRecord

CASES_SHOWN: Final = 200
OPEN_STATES: Final = ("received", "noticed", "accepted", "handling", "suspended", "decided", "waiting")


def show(node: Node, conn: Connection) -> Answer:
    """Return the keys that this node has had, the present one last, and since when each was stated."""
    records = node.rules.records(node.id)
    return {
        "node": node.id,
        "fingerprint": keys.key_id(node.ledger.identity.key.public).hex(),
        "keys": [_shown(node, conn, record, record is records[-1]) for record in records],
    }


def _shown(node: Node, conn: Connection, record: NodeRecord, is_present: bool) -> Answer:
    stated = facts.find(conn, record.keyed)
    revoked = node.rules.is_revoked_key(record.node, record.key)
    return {
        "fingerprint": keys.key_id(record.key).hex(),
        "since": time_text(stated.header.claimed_at) if stated is not None else None,
        "by": stated.header.type if stated is not None else None,
        "state": "revoked" if revoked else "present" if is_present else "replaced",
        "private": record.key in node.ledger.keys,
    }


async def replace(node: Node, act: Act) -> Answer:
    """Give this node a new key, also without a connection."""
    before = node.ledger.identity.key
    key = await rotate(node, act.officer)
    return {"node": node.id, "fingerprint": key.id.hex(), "before": before.id.hex(), "kept": before.public in node.ledger.keys}


# --- revoking


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is to be revoked. key: fingerprint, the present one if None. before_ms: trusted until then, ms; None = until now."""

    node: str
    reason: str
    key: str | None = None
    before_ms: int | None = None
    dry_run: bool = False


async def revoke(node: Node, wish: Revocation, act: Act) -> Answer:
    """Trust a node's key up to what was receipted before a moment, and no further.

    Raises:
        CommandRefused: not below this node, or no such key. Nothing was written.
    """
    record = _below(node, wish.node)
    public = _key_of(node, record, wish.key)
    now = node.clock.wall_ms()
    moment = now if wish.before_ms is None else wish.before_ms
    if wish.dry_run:
        return _answer(wish, public, await node.read(lambda conn: _proposed(node, conn, wish.node, public, moment)))

    def state(conn: Connection, changes: Changes) -> Answer:
        found = _proposed(node, conn, wish.node, public, moment)
        cuts = [[row.log.incarnation, size, logs.root_at(conn, row, size)] for row, size in found if size]
        fields = {"node": wish.node, "key": public, "cuts": cuts[-limits.INCARNATIONS_MAX :]}
        draft = Draft("node.revoke", now, fields, {"reason": wish.reason}, officer=act.officer)
        node.ledger.append(conn, [draft], changes)
        take_in(node.ledger, conn, changes, now)
        changes.rules = True
        return _answer(wish, public, found)

    return await node.write(state)


def _below(node: Node, other: str) -> NodeRecord:
    record = node.rules.record(other)
    if record is None or not node.rules.now.above(node.id, other):
        raise CommandRefused(f"{other} does not stand below this node", hint="Give the command at a hub above it.")
    return record


def _key_of(node: Node, record: NodeRecord, fingerprint: str | None) -> bytes:
    if fingerprint is None:
        return record.key
    for one in node.rules.records(record.node):
        if keys.key_id(one.key).hex() == fingerprint.lower():
            return one.key
    raise InputError(f"{record.node} never had a key {fingerprint!r}", hint="Leave --key out for its present one.")


def _proposed(node: Node, conn: Connection, author: str, public: bytes, moment: int) -> list[tuple[LogRow, int]]:
    """Return each log that a key signed, and the size up to which it was receipted at a moment, ms."""
    hubs = [hub for hub in node.rules.now.ancestors(author) if node.rules.now.rules_over(node.id, hub)]
    rows = [row for row in logs.logs_of(conn, [author]) if row.key == public and not row.branch and row.size]
    return [(row, min(row.size, _receipted(conn, hubs, row, moment))) for row in rows]


def _receipted(conn: Connection, hubs: Sequence[str], row: LogRow, moment: int) -> int:
    """Return the largest size of a log that a hub on its way up to here had receipted at a moment."""
    own = conn.execute("SELECT max(size) FROM receipts WHERE log = ? AND at <= ?", (row.id, moment)).fetchone()[0] or 0
    return max(own, *(_stated_by(conn, hub, row, moment) for hub in hubs), 0)


def _stated_by(conn: Connection, hub: str, row: LogRow, moment: int) -> int:
    """Return the largest size of a log in the receipts of one hub, read from its own log."""
    found = conn.execute(
        "SELECT e.raw, e.body FROM entries e JOIN logs l ON l.id = e.log WHERE l.node = ? AND e.case_id IS NULL AND instr(e.body, ?)",
        (hub, row.log.incarnation),
    )
    return max((_size_in(raw, body, row, moment) for raw, body in found), default=0)


def _size_in(raw: bytes, body: bytes, row: LogRow, moment: int) -> int:
    header = decode_header(raw)
    if header.type != "receipt" or not isinstance(at := header.fields.get("at"), int) or at > moment:
        return 0
    try:
        named = decode_body(body).get("of", ())
        return max((one[1] for one in named if one[0] == [row.log.node, row.log.incarnation]), default=0)
    except (DecodeError, TypeError, IndexError, KeyError):
        return 0  # a receipt that nobody can read says nothing


def _answer(wish: Revocation, public: bytes, found: Sequence[tuple[LogRow, int]]) -> Answer:
    return {
        "node": wish.node,
        "fingerprint": keys.key_id(public).hex(),
        "cuts": [{"incarnation": row.log.incarnation.hex(), "trusted": size, "held": row.size} for row, size in found],
        "without_effect": sum(row.size - size for row, size in found),
        "dry_run": wish.dry_run,
    }


# --- closing a station


async def retire(node: Node, closed: str, reason: str, act: Act) -> Answer:
    """Let a node below take no more part; what it wrote stands, and what it still brings is taken.

    Raises:
        CommandRefused: not below this node, or closed already.
    """
    if _below(node, closed).retired:
        raise CommandRefused(f"{closed} is closed already", hint="Nothing is left to do.")
    now = node.clock.wall_ms()

    def state(conn: Connection, changes: Changes) -> Answer:
        draft = Draft("node.retire", now, {"node": closed}, {"reason": reason}, officer=act.officer)
        node.ledger.append(conn, [draft], changes)
        take_in(node.ledger, conn, changes, now)
        return {"node": closed, "open_cases": _open_cases(conn, closed)}

    return await node.write(state)


def _open_cases(conn: Connection, holder: str) -> list[dict[str, Any]]:
    marks = ", ".join("?" * len(OPEN_STATES))
    rows = conn.execute(
        f"SELECT number, key, state FROM cases WHERE holder = ? AND state IN ({marks}) ORDER BY id LIMIT ?",
        (holder, *OPEN_STATES, CASES_SHOWN),
    )
    return [{"case": number or key.hex(), "state": state} for number, key, state in rows]
