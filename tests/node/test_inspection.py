"""Verify finds every byte that was changed under the program, and nothing in an honest store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.ledger import Draft
from node.node import Node
from node.store import logs
from node.store.database import Connection
from tests.node.building import (
    CITY,
    EAST,
    ask,
    brought_to,
    carry,
    enrol,
    found,
    furnish,
    hire,
    opened,
    seal,
    show,
)


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with a finished case, all signed."""
    node = await furnish(await found(tmp_path / "city"))
    case = await brought_to(node, await opened(node), "notice", "supplement", "accept", "decide", "finish")
    assert (await show(node, case))["state"] == "finished"
    await seal(node)
    return node


async def problems(node: Node) -> set[str]:
    """Return the kinds of problems found."""
    answer = await ask(node, "verify")
    assert answer["found"] == len(answer["problems"])
    return {problem["kind"] for problem in answer["problems"]}


async def damage(node: Node, statement: str, *values: Any) -> None:
    """Change the store behind the program's back; exactly one row."""

    def unit(conn: Connection) -> None:
        assert conn.execute(statement, values).rowcount == 1

    await node.write(lambda conn, _: unit(conn))


async def flip(node: Node, table: str, column: str, where: str, place: int = 20) -> None:
    """Flip one bit of a stored value."""

    def unit(conn: Connection) -> None:
        row, value = conn.execute(f"SELECT rowid, {column} FROM {table} WHERE {where} LIMIT 1").fetchone()
        raw = bytearray(value)
        raw[place % len(raw)] ^= 1
        conn.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (bytes(raw), row))

    await node.write(lambda conn, _: unit(conn))


async def test_an_honest_store_has_no_problems(city: Node) -> None:
    """Everything is counted, nothing is found; also before the newest entries are signed."""
    await opened(city)
    answer = await ask(city, "verify")
    assert answer["problems"] == []
    assert (answer["logs"], answer["checkpoints"]) == (1, 1)
    assert answer["entries"] == await city.read(lambda conn: city.ledger.own_row(conn).size)


@pytest.mark.parametrize(
    ("table", "column", "where", "kind"),
    [
        ("entries", "raw", "idx = 7", "root"),
        ("entries", "raw", "idx = 7", "checkpoint"),
        ("entries", "body", "idx = 7 AND body IS NOT NULL", "body"),
        ("entries", "body", "idx = 1", "body"),
        ("checkpoints", "raw", "1", "checkpoint"),
        ("checkpoints", "signature", "1", "checkpoint"),
        ("logs", "root", "1", "root"),
        ("logs", "peaks", "1", "range"),
    ],
)
async def test_a_flipped_bit_is_found(city: Node, table: str, column: str, where: str, kind: str) -> None:
    """Header, body, checkpoint, signature, root: whatever bit is changed, verify says where."""
    await flip(city, table, column, where)
    assert kind in await problems(city)


async def test_the_place_is_named(city: Node) -> None:
    """A problem names log and index."""
    await flip(city, "entries", "body", "idx = 7 AND body IS NOT NULL")
    (problem,) = (await ask(city, "verify"))["problems"]
    assert (problem["index"], problem["log"].partition("/")[0]) == (7, CITY)


async def test_an_opening_with_another_salt_unmasks_itself(city: Node) -> None:
    """The salt is in the opening's body: changed, no body of the case fits any more."""
    answer_before = await problems(city)
    index = await city.read(
        lambda conn: conn.execute("SELECT min(idx) FROM entries WHERE case_id IS NOT NULL").fetchone()[0]
    )
    await flip(city, "entries", "body", f"idx = {index}", place=-20)
    assert (answer_before, "body" in await problems(city)) == (set(), True)


async def test_a_missing_entry_is_a_gap(city: Node) -> None:
    """An entry taken out of the middle is missed."""
    index = await city.read(lambda conn: conn.execute("SELECT max(idx) FROM entries").fetchone()[0])
    await damage(city, "DELETE FROM entries WHERE idx = ?", index - 1)
    assert "gap" in await problems(city)


async def test_logs_are_read_in_pages(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages find the same as large ones, and tell how far they are."""
    from node import inspection

    monkeypatch.setattr("node.inspection.PAGE", 3)
    steps: list[tuple[int, int]] = []
    report = await inspection.verify(city, lambda done, whole: steps.append((done, whole)))
    assert report.problems == []
    assert steps == sorted(steps)
    assert len(steps) > 2
    await flip(city, "entries", "raw", "idx = 7")
    assert "checkpoint" in await problems(city)


async def test_what_came_in_bundles_is_checked_by_its_path(tmp_path: Path) -> None:
    """At a child foreign entries stand on a path and a checkpoint; a changed path, header or a missing path is found."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await brought_to(east, case, "offer")
    await carry(east, city)
    await brought_to(city, case, "take", "accept")
    await carry(city, east)
    await seal(east)
    assert await problems(east) == set()
    assert await problems(city) == set()
    sparse = "id IN (SELECT entry FROM paths WHERE length(path) > 0) AND case_id IS NOT NULL"
    await flip(east, "entries", "raw", sparse)
    assert "path" in await problems(east)
    await flip(east, "entries", "raw", sparse)
    await flip(east, "paths", "path", "length(path) > 0")
    assert await problems(east) == {"path"}


async def test_an_entry_that_lost_its_path_is_found(tmp_path: Path) -> None:
    """An entry of a foreign log without a path proves nothing."""
    city = await furnish(await found(tmp_path / "city"))
    east = await enrol(tmp_path / "east", city, EAST)
    await damage(east, "DELETE FROM paths WHERE entry = (SELECT max(entry) FROM paths)")
    assert await problems(east) == {"path"}


async def test_a_foreign_log_is_covered_by_its_authors_signatures(tmp_path: Path) -> None:
    """Entries at the end of another node's log without a checkpoint are nobody's word."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    await opened(east)
    await carry(east, city)
    assert await problems(city) == set()
    await damage(city, "DELETE FROM checkpoints WHERE log = (SELECT id FROM logs WHERE node = ? LIMIT 1)", EAST)
    assert await problems(city) == {"unsigned"}


async def test_receipts_are_held_against_what_their_hub_stated(city: Node) -> None:
    """A receipt names log, size and root: a row that says otherwise, or another history, is found."""

    def receipt(conn: Connection, changes: Any, root: bytes) -> None:
        row = city.ledger.own_row(conn)
        of = [[[row.log.node, row.log.incarnation], row.size, root or row.root]]
        (placed,) = city.ledger.append(conn, [Draft("receipt", 5, {"at": 5}, {"of": of})], changes)
        logs.save_receipts(conn, [(row.id, CITY, row.size, 5, placed.id)])

    await city.write(lambda conn, changes: receipt(conn, changes, b""))
    assert await problems(city) == set()
    await damage(city, "UPDATE receipts SET at = 6")
    assert await problems(city) == {"receipt"}
    await damage(city, "UPDATE receipts SET at = 5")
    await city.write(lambda conn, changes: receipt(conn, changes, b"\x01" * 32))
    assert await problems(city) == {"receipt"}


async def test_evidence_of_a_fork_is_a_problem(city: Node) -> None:
    """Two signed histories are reported as long as they are kept."""
    await damage(
        city, "INSERT INTO evidence (log, idx, first, second, seen_at) VALUES (1, 3, x'', x'c0', 0)"
    )
    assert await problems(city) == {"fork", "evidence"}


async def test_a_report_is_bounded(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken disk gives a count, not an endless list."""
    monkeypatch.setattr("node.inspection.PROBLEMS_MAX", 2)
    await city.write(lambda conn, _: conn.execute("UPDATE entries SET body = x'80' WHERE body IS NOT NULL"))
    answer = await ask(city, "verify")
    assert len(answer["problems"]) == 2
    assert answer["found"] > 2
