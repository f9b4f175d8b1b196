"""Preparations that would take long through the commands: large stores, many offers; and the bare durable commit."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, Final

import aiosqlite

from bench.counter import WINDOW, Counter
from bench.workload import FAMILY, GIVEN
from node.ledger import Changes, Draft
from node.node import Node
from node.office import counter as steps
from node.office.desk import Act, perform
from node.store.database import Connection
from protocol.divisions import region_of

DRAFTS_PER_UNIT: Final = 1_000
ENTRIES_PER_CASE: Final = 5


def catalogue_of(codes: list[str], owner: str) -> dict[str, Any]:
    """Return a catalogue file in which every counter may take in and decide."""
    items = [
        {
            "code": code,
            "version": 1,
            "name": f"事项{number}",
            "owner": owner,
            "kind": 2,
            "limits": {"promised_days": 5, "statutory_days": 20},
            "receive": [f"{owner}/*"],
            "decide": [f"{owner}/*"],
        }
        for number, code in enumerate(codes, 1)
    ]
    return {"format": "tongban-catalogue/1", "items": items}


async def fill(node: Node, entries: int) -> float:
    """Append openings and notes until the store holds about so many entries; returns seconds."""
    draw, start = random.Random(entries), time.monotonic()
    held = (await node.read(counts))["entries"]
    while held < entries:
        held += await node.write(lambda conn, changes: _fill_unit(node, conn, changes, draw))
    return time.monotonic() - start


def _fill_unit(node: Node, conn: Connection, changes: Changes, draw: random.Random) -> int:
    now, item = node.clock.wall_ms(), next(iter(node.rules.now.items())).head.code
    count = DRAFTS_PER_UNIT // ENTRIES_PER_CASE
    opened = [_opening(node, now, item, draw) for _ in range(count)]
    placed = node.ledger.append(conn, opened, changes)
    notes = [
        Draft("note", now, {}, {"text": f"备注{number}"}, case=one.leaf[:16], epoch=0, prev=one.leaf[:16], salt=draft.salt)
        for draft, one in zip(opened, placed, strict=True)
        for number in range(ENTRIES_PER_CASE - 1)
    ]
    node.ledger.append(conn, notes, changes)
    return len(opened) + len(notes)


def _opening(node: Node, now: int, item: str, draw: random.Random) -> Draft:
    salt = draw.randbytes(16)
    fields = {
        "item": item,
        "version": 1,
        "number": f"{node.id}-{salt.hex()[:12]}",
        "handler": node.id,
        "region": region_of(node.id),
        "table": 1,
        "limits": [5, 20],
        "kind": 2,
    }
    name = draw.choice(FAMILY) + "".join(draw.choices(GIVEN, k=2))
    return Draft("open", now, fields, {"salt": salt, "applicant": name, "form": {}}, salt=salt)


async def offer_all(node: Node, counter: Counter, to: str) -> None:
    """Offer every case that was opened at a counter to another node."""
    officer = "1"
    await counter.add_officers([officer])
    names = list(counter.keys.values())
    for begin in range(0, len(names), 200):
        part = names[begin : begin + 200]

        def unit(conn: Connection, changes: Changes, part: list[str] = part) -> None:
            for case in part:
                perform(node, conn, changes, Act(officer, WINDOW), lambda desk, case=case: steps.offer(desk, case, to=to))  # type: ignore[misc]

        await node.write(unit)


def counts(conn: Connection) -> dict[str, int]:
    """Return how many entries, cases, finished cases and findable names a store holds."""
    ask = {
        "entries": "SELECT count(*) FROM entries",
        "cases": "SELECT count(*) FROM cases",
        "finished": "SELECT count(*) FROM cases WHERE state = 'finished'",
        "waiting": "SELECT count(*) FROM cases WHERE waiting = 1",
        "found": "SELECT count(*) FROM names WHERE names MATCH '王 OR 李 OR 阿 OR 古'",
    }
    return {name: int(conn.execute(sql).fetchone()[0]) for name, sql in ask.items()}


async def bare_commits(path: Path, count: int) -> list[float]:
    """Time durable commits of one row each through aiosqlite; returns ms."""
    spans = []
    async with aiosqlite.connect(path) as conn:
        await conn.execute("PRAGMA journal_mode = WAL")
        await conn.execute("PRAGMA synchronous = FULL")
        await conn.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB)")
        await conn.commit()
        for _ in range(count):
            start = time.perf_counter()
            await conn.execute("INSERT INTO rows (body) VALUES (?)", (bytes(300),))
            await conn.commit()
            spans.append((time.perf_counter() - start) * 1000)
    return spans
