"""`tongban rebuild`: all projections dropped and made again from entries, in one transaction, and compared with what was there.

A difference is a mistake of the program or a damaged file; what is made from entries stays.
"""

from __future__ import annotations

from typing import Final

from node.inspection import Report
from node.ledger import Changes
from node.node import Node
from node.office import officers
from node.projection import rebuild_rows
from node.store import logs
from node.store.database import Connection
from node.views.common import Shown
from protocol import codec

_CASE_COLUMNS: Final = (
    *("number", "item", "state", "holder", "opener", "opened_at", "delivered", "simple", "waiting", "entries"),
    *("salt", "open_log", "context"),
)
_COMPARED: Final = {"cases": f"id, key, {', '.join(_CASE_COLUMNS)}", "sources": "source, entry"}


async def rebuild(node: Node) -> Shown:
    """Drop all projections, make them again from entries in one transaction, and compare."""
    return await node.write(lambda conn, changes: _rebuild(node, conn, changes))


def _rebuild(node: Node, conn: Connection, _changes: Changes) -> Shown:
    report = Report()
    for table, columns in _COMPARED.items():
        conn.execute(f"CREATE TEMP TABLE before_{table} AS SELECT {columns} FROM {table}")
    conn.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab('main', 'names', 'instance')")
    conn.execute("CREATE TEMP TABLE before_terms AS SELECT term, doc, offset FROM temp.terms")
    before = logs.get_meta(conn, officers.META)
    entries = rebuild_rows(conn, node.ledger.rules, node.ledger.judge)
    officers.recount(conn, node.id)
    if (logs.get_meta(conn, officers.META) or codec.encode([])) != (before or codec.encode([])):
        report.problem("officers", None, None, "the list of officers differs")
    _compare_cases(conn, report)
    _compare_rows(conn, report)
    cases = int(conn.execute("SELECT count(*) FROM cases").fetchone()[0])
    for table in (*(f"before_{table}" for table in _COMPARED), "before_terms", "terms"):
        conn.execute(f"DROP TABLE temp.{table}")
    return {"cases": cases, "entries": entries, "different": report.found, "problems": report.problems}


def _compare_cases(conn: Connection, report: Report) -> None:
    differs = " OR ".join(f"b.{column} IS NOT c.{column}" for column in _CASE_COLUMNS)
    flags = ", ".join(f"b.{column} IS NOT c.{column}" for column in _CASE_COLUMNS)
    rows = conn.execute(f"SELECT c.key, {flags} FROM temp.before_cases b JOIN cases c ON c.id = b.id WHERE {differs}")
    for key, *changed in rows:
        names = ", ".join(name for name, flag in zip(_CASE_COLUMNS, changed, strict=True) if flag)
        report.problem("case", None, None, f"{key.hex()}: {names}")


def _compare_rows(conn: Connection, report: Report) -> None:
    pairs = {
        "source": ("SELECT source, entry FROM temp.before_sources", "SELECT source, entry FROM sources"),
        "name": ("SELECT doc, term, offset FROM temp.before_terms", "SELECT doc, term, offset FROM temp.terms"),
    }
    for kind, (old, new) in pairs.items():
        for first, second, word in ((old, new, "gone"), (new, old, "new")):
            count = conn.execute(f"SELECT count(*) FROM ({first} EXCEPT {second})").fetchone()[0]
            if count:
                report.problem(kind, None, None, f"{count} rows are {word}")
