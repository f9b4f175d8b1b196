"""From entries to case rows: entry by entry, in batches, or all at once, the result is the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from node.node import Node
from node.projection import Batch, case_key, held_of
from node.store import cases, logs
from node.store.cases import CaseRow
from node.store.database import Connection
from protocol.cases import decode_context
from protocol.fold import fold
from protocol.log import Rebuilt, decode_header, hash_header
from tests.node.building import EAST, ask, brought_to, carry, enrol, found, furnish, hire, opened, show


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


def rows(conn: Connection) -> list[CaseRow]:
    ids = [row[0] for row in conn.execute("SELECT id FROM cases ORDER BY id")]
    return cases.load_by_ids(conn, ids)


async def test_step_by_step_equals_the_full_fold(city: Node) -> None:
    """The fast path of every day gives the context of the full fold after each step."""
    case = await opened(city)
    for step in ("notice", "supplement", "accept", "dispatch", "task:社保核验", "task:民政核验", "decide", "deliver", "finish"):
        await brought_to(city, case, step)

        def check(conn: Connection, step: str = step) -> None:
            (row,) = rows(conn)
            assert row.context is not None
            held = held_of(conn, city.rules, logs.entries_of_cases(conn, [row.id])[row.id])
            assert decode_context(row.context) == fold(held, city.ledger.judge).context, step
            assert row.entries == len(held)

        await city.read(check)


async def test_many_entries_at_once_equal_one_by_one(tmp_path: Path, city: Node) -> None:
    """A backlog that arrives in one set gives the rows that its author has."""
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    for name in ("王伟", "李娜"):
        await brought_to(east, await opened(east, name), "notice", "supplement", "offer")
    await carry(east, city)
    mine, theirs = await east.read(rows), await city.read(rows)
    assert [(row.key, row.number, row.state, row.holder, row.context, row.salt) for row in mine] == [
        (row.key, row.number, row.state, row.holder, row.context, row.salt) for row in theirs
    ]
    assert len(await ask(city, "list", find="李")) == 1


async def test_the_order_of_arrival_does_not_matter(tmp_path: Path, city: Node) -> None:
    """A case whose entries come singly in any order ends with the same context, digest and name."""
    case = await brought_to(city, await opened(city), "notice", "supplement", "accept", "decide")
    await ask(city, "case.correct", case=case, field={"applicant": "王玮"}, reason="r")
    entries = await city.read(lambda conn: logs.entries_of_cases(conn, [1])[1])
    expected = (await city.read(rows))[0]
    digest = (await show(city, case))["digest"]
    for seed in range(6):
        other = await found(tmp_path / f"copy{seed}")  # the same seed: the same root and rules
        await furnish(other)
        order = list(entries)
        random.Random(seed).shuffle(order)
        for one in order:

            def put(conn: Connection, raw: bytes = one.raw, body: bytes | None = one.body, index: int = one.index) -> None:
                header = decode_header(raw)
                salt = expected.salt if header.type == "open" else None
                batch = Batch(conn, other.rules, other.ledger.judge)  # noqa: B023
                batch.add_places(other.ledger.own_row(conn), [(index, Rebuilt(raw, body, hash_header(raw), header, salt))])  # noqa: B023
                batch.finish()

            await other.write(lambda conn, _, put=put: put(conn))
        (row,) = await other.read(rows)
        assert (row.context, row.state, row.number) == (expected.context, expected.state, expected.number)
        assert (await show(other, case))["digest"] == digest
        assert [len(await ask(other, "list", find=find)) for find in ("玮", "伟", "李")] == [1, 1, 0]
        assert (await ask(other, "rebuild"))["different"] == 0


async def test_what_waited_is_folded_when_its_rules_come(tmp_path: Path, city: Node) -> None:
    """A case whose basis is not here yet shows as waiting, and is a case once the register arrives."""
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await carry(east, city)
    (row,) = await city.read(rows)
    await city.write(lambda conn, _: cases.save(conn, [CaseRow(row.id, row.key, waiting=1, entries=1)]))

    def again(conn: Connection) -> list[int]:
        waiting = cases.load_by_ids(conn, cases.waiting_ids(conn, 10))
        return [one.row.id for one in Batch(conn, city.rules, city.ledger.judge).refold(waiting)]

    assert await city.write(lambda conn, _: again(conn)) == [row.id]
    assert (await show(city, case))["state"] == "received"
    assert (await city.read(rows))[0].waiting == 0


def test_what_belongs_to_no_case_has_no_key() -> None:
    """Opaque bytes are kept in their log, and touch no case."""
    assert case_key(Rebuilt(b"\xff", None, bytes(32), None, None)) is None
