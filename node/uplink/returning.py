"""What the parent has lost: it was put back from an old backup, or began anew with an empty store.

In `hello` a child shows the newest checkpoints that it holds of the logs of all nodes above it, and its newest register. If the
hub holds less, it says so, and the child gives back what it has: registers with their facts first, then the hub's and its
ancestors' own entries, in pages. What it cannot give, no reader of its subtree ever saw; another child may have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from node import news
from node.ledger import Ledger
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol import limits, messages
from protocol.log import Signed

GIVEN_BYTES: Final = 256 << 10  # of one page, about
PLACES: Final = 1_000  # entries of one page


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where things were given back. number: of registers. entry: id of the last entry of a page."""

    number: int
    entry: int = 0


def newest_above(ledger: Ledger, conn: Connection) -> tuple[Signed, ...]:
    """Return the newest checkpoint held of each log of the nodes above this one, the newest logs first."""
    newest = [logs.newest_checkpoint(conn, row.id) for row in reversed(_rows_above(ledger, conn))]
    return tuple(signed for signed in newest if signed is not None)[: limits.LISTED_MAX]


def _rows_above(ledger: Ledger, conn: Connection) -> list[LogRow]:
    above = ledger.rules.now.ancestors(ledger.identity.node)
    return [row for row in logs.logs_of(conn, above) if not row.branch]


def page(ledger: Ledger, conn: Connection, lacks: Sequence[messages.Held], cursor: Cursor) -> tuple[messages.Give, Cursor]:
    """Return what is given back next, and how far that reaches. Runs on the writer's connection.

    Args:
        lacks: how much the hub holds of each log of which it holds less than was shown.
    """
    registers, room = news.registers_after(ledger, conn, cursor.number, GIVEN_BYTES, with_texts=True)
    number = registers[-1].number if registers else cursor.number
    proofs = tuple(signed for one in lacks for signed in _proofs(conn, one))
    if number < ledger.rules.number:
        return messages.Give(proofs, tuple(registers), more=True), Cursor(number, cursor.entry)
    places = _places(ledger, conn, lacks, cursor.entry)
    count = max(1, sum(size <= room for size in accumulate(size for _, size in places)))
    bundles = ledger.bundles(conn, [place for place, _ in places[:count]])
    last = places[:count][-1][0][0] if places else cursor.entry
    more = count < len(places) or len(places) == PLACES
    return messages.Give(proofs, tuple(registers), tuple(bundles), more), Cursor(number, last)


def _proofs(conn: Connection, lack: messages.Held) -> list[Signed]:
    """Return the newest checkpoint of a log, and the newest that the hub can compare with what it holds."""
    row = logs.find_log(conn, lack.log)
    if row is None:
        return []
    found = [logs.newest_checkpoint(conn, row.id), logs.newest_checkpoint(conn, row.id, lack.size)]
    return [signed for signed in dict.fromkeys(found) if signed is not None]


def _places(
    ledger: Ledger, conn: Connection, lacks: Sequence[messages.Held], after: int
) -> list[tuple[tuple[int, int, int], int]]:
    """Return (place, about how many bytes) of the next entries that the hub lacks, in the order in which they came here."""
    held = {one.log: one.size for one in lacks}
    above = set(ledger.rules.now.ancestors(ledger.identity.node))
    rows = [row for row in logs.logs_of(conn, sorted({log.node for log in held} & above)) if row.log in held]
    found = [one for row in rows for one in logs.entries_beyond(conn, row.id, held[row.log], after, PLACES)]
    return [((entry_id, log_id, index), news.OVERHEAD_BYTES + size) for entry_id, log_id, index, size in sorted(found)[:PLACES]]
