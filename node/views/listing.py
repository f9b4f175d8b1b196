"""The list of cases: filtered, newest first, one row a case; found by one or two characters of a name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from node.node import Node
from node.office.counter import stated_values
from node.office.drafting import find_case
from node.store import cases, logs
from node.store.cases import CaseRow, Filter
from node.store.database import Connection
from node.store.logs import EntryRow
from node.views.common import Shown, body_of, header_of, time_text
from protocol import text
from protocol.cases import decode_context, state_code
from protocol.log import LINK_BYTES, hash_header

LIMIT: Final = 100
LIMIT_MAX: Final = 10_000
PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list asks for; None = everything. find: part of an applicant's name. after: the last case of the page before."""

    state: str | None = None
    holder: str | None = None
    item: str | None = None
    find: str | None = None
    after: str | None = None
    limit: int = LIMIT


async def list_cases(node: Node, wanted: Wanted) -> AsyncIterator[Shown]:
    """Yield the cases page by page, each page on a snapshot of its own."""
    chosen = await node.read(lambda conn: _filter(conn, wanted))
    left = wanted.limit
    while left > 0:
        page = replace(chosen, limit=min(PAGE, left))
        rows = await node.read(lambda conn, page=page: _page(conn, page))  # type: ignore[misc] # a default binds the page
        for _, row in rows:
            yield row
        if len(rows) < page.limit:
            return
        chosen = replace(chosen, after=rows[-1][0])
        left -= len(rows)


def _filter(conn: Connection, wanted: Wanted) -> Filter:
    grams = text.query_phrase(wanted.find) if wanted.find is not None else None
    after = find_case(conn, wanted.after).id if wanted.after is not None else None
    return Filter(wanted.state, wanted.holder, wanted.item, grams, after, wanted.limit)


def _page(conn: Connection, wanted: Filter) -> list[tuple[int, Shown]]:
    return [(row.id, show_row(conn, row)) for row in cases.search(conn, wanted)]


def show_row(conn: Connection, row: CaseRow) -> Shown:
    """Return one case as lists show it."""
    context = decode_context(row.context) if row.context is not None else None
    return {
        "case": row.number or row.key.hex(),
        "key": row.key.hex(),
        "item": row.item,
        "applicant": applicant_of(conn, row),
        "state": row.state,
        "state_code": state_code(context) if context is not None else None,
        "delivered": bool(row.delivered),
        "holder": row.holder,
        "offered": context.offered if context is not None else None,
        "opener": row.opener,
        "opened_at": time_text(row.opened_at) if row.opened_at is not None else None,
        "entries": row.entries,
    }


def applicant_of(conn: Connection, row: CaseRow) -> str | None:
    """Return the applicant's name; None where the opening's body is not here.

    Corrections count while nothing about the case is in doubt; otherwise its page tells what is in effect.
    """
    found: str | None = None
    for one in logs.entries_of_cases(conn, [row.id])[row.id]:
        kind = _stating(row, one)
        name = stated_values(kind, body_of(one)).get("applicant") if kind else None
        found = name or found
    return found


def _stating(row: CaseRow, one: EntryRow) -> str:
    """Return the type of an entry that states names, or ""."""
    if hash_header(one.raw)[:LINK_BYTES] == row.key:
        return "open"
    if not row.simple:
        return ""
    header = header_of(one)
    return "correct" if header is not None and header.type == "correct" else ""
