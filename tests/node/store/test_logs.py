"""Logs in SQL: what is written is read back, and a run is written as short as its receiver can rebuild it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from node.store import logs
from node.store.database import Connection
from protocol import merkle
from protocol.log import LogId, decode_checkpoint, decode_header, hash_header, rebuild, references, shorten
from tests.node.building import CITY, EAST, ask, brought_to, carry, enrol, found, furnish, hire, opened, seal


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


async def test_a_log_grows_with_its_range(city: Node) -> None:
    """Size, root and compact range of the row are those of the entries on disk."""
    await brought_to(city, await opened(city), "accept")

    def check(conn: Connection) -> None:
        row = logs.find_log(conn, LogId(CITY, city.ledger.identity.incarnation))
        assert row is not None
        leaves = logs.leaves_between(conn, row.id, 0, row.size)
        assert (len(leaves), merkle.root(leaves), row.range.root()) == (row.size, row.root, row.root)
        assert logs.load_log(conn, row.id) == row
        assert logs.load_logs(conn) == [row]
        newest = logs.entry_at(conn, row.id, row.size - 1)
        assert newest is not None
        assert newest == logs.entry_by_id(conn, newest.id) == logs.entries_between(conn, row.id, row.size - 1, row.size)[0]
        assert logs.entry_at(conn, row.id, row.size) is None
        assert logs.next_entry_id(conn) == newest.id + 1

    await city.read(check)


def short_again(conn: Connection, node: str, log_id: int, start: int, end: int) -> tuple[list[bytes], list[bytes]]:
    """Write a run short and rebuild it as a receiver does that holds what is before it; return both leaf lists."""
    row = logs.load_log(conn, log_id)
    signed = logs.checkpoints_from(conn, log_id, 0, 1)[0]
    checkpoint = decode_checkpoint(signed.checkpoint)
    run = type(checkpoint)(
        *(checkpoint.format, checkpoint.suite, node, row.log.incarnation, start, end, checkpoint.root, checkpoint.run, checkpoint.key)
    )
    wire = shorten(node, row.suite, logs.stored_run(conn, log_id, start, end))
    known = logs.known_of(conn, log_id, references(wire, start))
    return logs.leaves_between(conn, log_id, start, end), [one.leaf for one in rebuild(run, wire, known)]


async def test_every_run_can_be_rebuilt(tmp_path: Path) -> None:
    """Wherever a run begins, also behind another node's entries in the middle of a case, its receiver gets the same leaves."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await brought_to(east, case, "offer")
    await carry(east, city)
    await ask(city, "case.return", case=case, reason="材料不齐")
    await carry(city, east)
    await brought_to(east, case, "notice", "supplement", "offer")
    await ask(east, "case.note", case=case, text="已补齐")
    await seal(east)

    def check(conn: Connection) -> None:
        row = east.ledger.own_row(conn)
        for start in range(row.size):
            for end in range(start + 1, row.size + 1):
                mine, theirs = short_again(conn, EAST, row.id, start, end)
                assert mine == theirs, (start, end)

    await east.read(check)


async def test_checkpoints_are_found_by_index_and_size(city: Node) -> None:
    """The first checkpoint whose run holds an index; the same one twice is one row."""
    await seal(city)
    first = await city.read(lambda conn: city.ledger.own_row(conn).size)
    await opened(city)
    await seal(city)

    def check(conn: Connection) -> None:
        row = city.ledger.own_row(conn)
        for index, expected in ((0, (0, first)), (first - 1, (0, first)), (first, (first, row.size))):
            covering = logs.checkpoint_covering(conn, row.id, index)
            assert covering is not None
            assert (covering[1].start, covering[1].size) == expected
        assert logs.checkpoint_covering(conn, row.id, row.size) is None
        signed = logs.checkpoint_at(conn, row.id, first)
        assert signed is not None
        assert logs.checkpoint_at(conn, row.id, row.size + 1) is None
        again = logs.save_checkpoint(conn, row.id, decode_checkpoint(signed.checkpoint), signed)
        covering = logs.checkpoint_covering(conn, row.id, 0)
        assert covering is not None
        assert again == covering[0]
        assert len(logs.checkpoints_from(conn, row.id, 0)) == 2

    await city.write(lambda conn, _: check(conn))


async def test_what_a_hub_receipted_before_it_lost_its_store_counts_no_more(city: Node) -> None:
    """Receipts of a hub's earlier incarnation say nothing of what it holds now; those of another hub stand for themselves."""

    def check(conn: Connection) -> None:
        own = logs.find_log(conn, city.ledger.identity.log)
        assert own is not None
        before, now = (logs.create_log(conn, LogId(EAST, mark * 16), own.key) for mark in (b"a", b"b"))
        first = logs.next_entry_id(conn)
        logs.insert_entries(conn, [(first, before.id, 0, None, b"1", None), (first + 1, now.id, 0, None, b"2", None)])
        logs.save_receipts(conn, [(own.id, EAST, 4, 20, first), (own.id, CITY, 3, 15, first)])
        assert logs.receipted_by(conn, own.id, EAST) == 4
        logs.save_receipts(conn, [(before.id, EAST, 1, 30, first + 1)])  # of another log, in the new incarnation
        assert logs.receipted_by(conn, own.id, EAST) == 0
        logs.save_receipts(conn, [(own.id, EAST, 2, 31, first + 1)])
        assert [logs.receipted_by(conn, own.id, hub) for hub in (EAST, CITY, "650199000000")] == [2, 3, 0]

    await city.write(lambda conn, _: check(conn))


async def test_receipts_cursors_and_facts_about_the_store(city: Node) -> None:
    """Small tables give back what was put in; the newest value stands."""

    def check(conn: Connection) -> None:
        log = city.ledger.own_row(conn).id
        logs.save_receipts(conn, [(log, EAST, 2, 10, 1), (log, EAST, 4, 20, 2), (log, CITY, 3, 15, 1)])
        logs.save_receipts(conn, [(log, EAST, 2, 99, 1)])
        assert logs.receipts_of(conn, log) == [(CITY, 3, 15), (EAST, 2, 10), (EAST, 4, 20)]
        assert sorted(logs.newest_receipts(conn, log)) == [(CITY, 3, 15, 1), (EAST, 4, 20, 2)]
        logs.save_ack(conn, log, 5)
        logs.save_ack(conn, log, 4)
        assert logs.acks(conn) == {log: 4}
        assert logs.get_cursor(conn, "cases") == (b"", 0)
        logs.set_cursor(conn, "cases", b"i", 7)
        logs.set_cursor(conn, "cases", b"j", 8)
        assert logs.get_cursor(conn, "cases") == (b"j", 8)
        assert logs.get_meta(conn, "nothing") is None
        logs.set_meta(conn, "x", b"1")
        logs.set_meta(conn, "x", b"2")
        assert logs.get_meta(conn, "x") == b"2"

    await city.write(lambda conn, _: check(conn))


async def test_known_entries_name_case_and_salt(city: Node) -> None:
    """What a receiver needs of an earlier entry: its link, its case, and the salt if the opening is in the same log."""
    case = await brought_to(city, await opened(city), "accept")
    key = bytes.fromhex((await ask(city, "show", case=case))["key"])

    def check(conn: Connection) -> None:
        row = city.ledger.own_row(conn)
        index = row.size - 1
        known = logs.known_of(conn, row.id, [0, index])
        assert list(known) == [index]
        entry = logs.entry_at(conn, row.id, index)
        assert entry is not None
        assert known[index].link == hash_header(entry.raw)[:16]
        assert known[index].case == key == decode_header(entry.raw).case
        assert known[index].salt is not None

    await city.read(check)
