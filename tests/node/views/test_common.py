"""Printed times and receipts."""

from __future__ import annotations

from pathlib import Path

from node.store.database import Connection
from node.store.logs import EntryRow
from node.views.common import Receipts, body_of, header_of, log_text, time_text
from protocol.log import LogId
from tests.node.building import CITY, EAST, found


def test_times_are_printed_in_legal_time_with_ms() -> None:
    """RFC 3339, +08:00, always three digits of ms."""
    assert time_text(1_778_031_000_123) == "2026-05-06T09:30:00.123+08:00"
    assert time_text(0) == "1970-01-01T08:00:00.000+08:00"
    for beyond_ms in (0, 1, 8 * 3_600_000):  # a hostile claim: its page is shown all the same
        assert time_text(253_402_300_799_999 - 8 * 3_600_000 + beyond_ms) == "9999-12-31T23:59:59.999+08:00"


def test_a_log_has_a_name_in_one_word() -> None:
    """Node and incarnation, so that a script can count by it."""
    assert log_text(LogId(CITY, bytes(16))) == f"{CITY}/{'00' * 16}"


def test_what_cannot_be_read_is_shown_as_nothing() -> None:
    """Opaque bytes in a log do not stop a view."""
    row = EntryRow(1, 1, 0, None, b"\xff", b"\xff")
    assert header_of(row) is None
    assert body_of(row) == {}


async def test_the_first_receipt_that_covers_an_entry_tells_when(tmp_path: Path) -> None:
    """Of several receipts of a hub, the first whose size is above the index counts; each hub has its own."""
    node = await found(tmp_path)

    def unit(conn: Connection) -> list[dict[str, int]]:
        log = node.ledger.own_row(conn).id
        for hub, size, at in ((EAST, 2, 10), (EAST, 5, 20), (CITY, 5, 30)):
            conn.execute("INSERT INTO receipts (log, hub, size, at, entry) VALUES (?,?,?,?,1)", (log, hub, size, at))
        receipts = Receipts(conn)
        return [receipts.times(log, index) for index in (1, 2, 5)]

    assert await node.write(lambda conn, _: unit(conn)) == [{EAST: 10, CITY: 30}, {EAST: 20, CITY: 30}, {}]
