"""The export of case entries: one row an entry, in constant memory, for whoever counts or checks from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from node.node import Node
from node.office.refusals import command_of
from node.projection import held_of
from node.store import cases, logs
from node.store.cases import CaseRow
from node.store.database import Connection
from node.store.logs import EntryRow
from node.views.common import Receipts, Shown, header_of, log_text, time_text
from protocol.fold import Effect, fold
from protocol.log import LINK_BYTES, Header, hash_header

PAGE_ENTRIES: Final = 1_000


async def export_entries(node: Node) -> AsyncIterator[Shown]:
    """Yield every case entry held here, case by case, in the order in which cases were first met."""
    after = 0
    while True:
        page = await node.read(lambda conn, after=after: export_page(node, conn, after))  # type: ignore[misc] # a default binds it
        if page is None:
            return
        rows, after = page
        for row in rows:
            yield row


def export_page(node: Node, conn: Connection, after: int) -> tuple[list[Shown], int] | None:
    """Return the entries of the next cases, about `PAGE_ENTRIES` of them, and the id to go on after; None at the end."""
    rows = _next_cases(conn, after)
    if not rows:
        return None
    held = logs.entries_of_cases(conn, [row.id for row in rows])
    receipts = Receipts(conn)
    found = [shown for row in rows for shown in _entries(node, conn, row, held[row.id], receipts)]
    return found, rows[-1].id


def _next_cases(conn: Connection, after: int) -> list[CaseRow]:
    ids: list[int] = []
    total = 0
    sizes = conn.execute("SELECT id, entries FROM cases WHERE id > ? ORDER BY id LIMIT ?", (after, PAGE_ENTRIES))
    for case_id, entries in sizes:
        if ids and total + entries > PAGE_ENTRIES:
            break
        ids.append(case_id)
        total += entries
    return sorted(cases.load_by_ids(conn, ids), key=lambda row: row.id)


def _entries(
    node: Node, conn: Connection, case: CaseRow, rows: list[EntryRow], receipts: Receipts
) -> list[Shown]:
    effects = _effects(node, conn, case, rows)
    return [
        _shown(case, row, header, effects.get(hash_header(row.raw)[:LINK_BYTES], default), receipts)
        for row in rows
        if (header := header_of(row)) is not None
        for default in (Effect.APPLIED if case.simple else Effect.WAITING,)
    ]


def _effects(node: Node, conn: Connection, case: CaseRow, rows: list[EntryRow]) -> dict[bytes, Effect]:
    """Return the effect of each entry by link; empty for a simple case, where every entry is applied."""
    if case.simple:
        return {}
    held = held_of(conn, node.rules, rows)
    return {link: verdict.effect for link, verdict in fold(held, node.ledger.judge).verdicts.items()} if held else {}


def _shown(case: CaseRow, row: EntryRow, header: Header, effect: Effect, receipts: Receipts) -> Shown:
    source, activity = source_of(header)
    return {
        "case": case.number or case.key.hex(),
        "key": case.key.hex(),
        "log": log_text(receipts.log(row.log).log),
        "index": row.index,
        "type": command_of(header.type),
        "activity": activity,
        "source_id": source,
        "node": header.node,
        "officer": header.officer,
        "claimed_at": time_text(header.claimed_at),
        "received_at": receipts.shown(row.log, row.index),
        "effect": effect.value,
        "recorded_afterwards": header.fields.get("afterwards") is True,
    }


def source_of(header: Header) -> tuple[str | None, str | None]:
    """Return (source id, activity) of an entry that repeats an event of another system."""
    source = header.fields.get("source")
    if isinstance(source, (list, tuple)) and len(source) == 2 and all(isinstance(part, str) for part in source):
        return source[0], source[1]
    return None, None
