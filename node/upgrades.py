"""What a newer program finds in the store of an older one: entries whose type nobody here knew.

An older program keeps and relays what it does not know: entries of cases wait, rules that a register lists have no effect. It writes
down which types it knew; at the first start of a program that knows more, in one transaction, these entries get their meaning:

1. rule entries of new types are remembered as such, so that the root numbers them;
2. if a register had listed one already, the rules were folded anew with it at this start, and so is every case;
3. else the cases that waited are folded again; children whom that concerns are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node import logs as lines
from node.ledger import Changes
from node.node import Node
from node.projection import rebuild_rows
from node.registrar import take_in
from node.store import facts, logs
from node.store.database import Connection
from protocol import codec
from protocol.errors import DecodeError, StoreFull
from protocol.facts import RULE_TYPES
from protocol.log import FORMAT, Bundle, Header, decode_checkpoint, decode_header, hash_header
from protocol.transitions import KNOWN_TYPES, TABLE_VERSION

KNOWN: Final = "known_types"  # in meta: canonical list of the types, formats and tables that the last program knew


def known_now() -> list[str]:
    """Return what this program knows, as it is written down."""
    return sorted([*RULE_TYPES, *KNOWN_TYPES, f"format/{FORMAT}", f"table/{TABLE_VERSION}"])


async def catch_up(node: Node) -> None:
    """Give entries of an older program's time their meaning, if this one knows more; children are told as of other news.

    On a full disk that waits for the next start: a counter that can read is better than none.
    """
    now = codec.encode(known_now())
    if await node.read(lambda conn: logs.get_meta(conn, KNOWN)) == now:
        return
    try:
        await node.write(lambda conn, changes: _catch_up(node, conn, changes, now))
    except StoreFull as exc:
        lines.failure("upgrade.put_off", exc)


def _catch_up(node: Node, conn: Connection, changes: Changes, now: bytes) -> None:
    held = logs.get_meta(conn, KNOWN)
    logs.set_meta(conn, KNOWN, now)
    if held is None:  # a store that no other program had
        return
    before = codec.decode(held)
    news = frozenset(known_now()).difference(before if isinstance(before, list) else ())
    if not news:
        return
    numbered = _remember(conn, news & RULE_TYPES)
    if numbered:
        rebuild_rows(conn, node.ledger.rules, node.ledger.judge)
    node.ledger.fold_again(conn, changes)
    take_in(node.ledger, conn, changes, node.clock.wall_ms())
    lines.event("upgrade.caught_up", node=node.id, count=len(news), cases=len(changes.cases))


def note_listed(conn: Connection, bundles: Sequence[Bundle]) -> None:
    """Remember what a register lists as rules, also of types that this program does not know: numbered like the others, without effect.

    Args:
        bundles: the register's facts, whose entries are stored already.
    """
    found = []
    for bundle in bundles:
        row = logs.find_log(conn, decode_checkpoint(bundle.signed.checkpoint).log)
        for one in bundle.entries:
            held = logs.entry_at(conn, row.id, one.index) if row is not None else None
            if held is not None and held.raw == one.raw and decode_header(one.raw).type not in RULE_TYPES:
                found.append((held.id, hash_header(one.raw)))
    facts.save(conn, found)


def _remember(conn: Connection, types: frozenset[str]) -> bool:
    """Note rule entries of types that were unknown so far; tells whether a register lists one of them already."""
    if not types:
        return False
    found = []
    for entry_id, raw in conn.execute("SELECT id, raw FROM entries WHERE case_id IS NULL ORDER BY id"):
        header = _readable(raw)
        if header is not None and header.type in types:
            found.append((entry_id, hash_header(raw)))
    facts.save(conn, found)
    return any(
        conn.execute("SELECT 1 FROM facts WHERE leaf = ? AND number IS NOT NULL", (leaf,)).fetchone() for _, leaf in found
    )


def _readable(raw: bytes) -> Header | None:
    try:
        return decode_header(raw)
    except DecodeError:
        return None  # opaque: a later program may read it, this one does not
