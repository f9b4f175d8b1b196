"""Who is told what: one feed row per transaction, child and case, written with the entries themselves.

A child gets a row when its subtree has a party of the case and does not hold the author's log; a party that joins, with
its subtree, is one "whole case" row. What would not fit a page is several rows, one behind the other. The cost is paid once, at
write time; reading is one index scan.

Positions are counted within *runs*: each start of the program draws a name for the positions that it gives out. A hub put back
from an old copy counts again from where the copy ended, under another name, so that no child's cursor skips what came since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from node.ledger import Changes, Ledger
from node.node import Node
from node.projection import Touched
from node.store import feeds
from node.store.database import Connection
from protocol import messages
from protocol.register import View

WHOLE_CASE: Final = 0
RUN_BYTES: Final = 16
ROW_BYTES: Final = 256 << 10  # of the entries behind one row, about: rows are not divided when they are sent
ENTRY_BYTES: Final = 600  # of an entry in a bundle of its own, beside header and body: its path, its checkpoint

Row = tuple[object, ...]


def towards(view: View, me: str, node: str) -> str | None:
    """Return the child of ours in whose subtree a node stands, the child itself included; None if in none."""
    line = (node, *view.ancestors(node))
    place = line.index(me) if me in line else 0
    return line[place - 1] if place else None


def attach(node: Node) -> None:
    """Let a node mark feed rows from now on, also one that was opened for a single command: its children are told later."""
    if node.ledger.feed is None:
        node.ledger.feed = Feeds(node.ledger, node.entropy.bytes(RUN_BYTES)).mark


class Feeds:
    """Marks feed rows; set as the ledger's hook. Owner: the store's writer."""

    def __init__(self, ledger: Ledger, run: bytes) -> None:
        """Begin. run: this start's name, 16 random bytes."""
        self._ledger = ledger
        self._run = run
        self._towards: dict[str, str | None] = {}
        self._rules: tuple[int, int, int] = (0, 0, 0)

    def towards(self, node: str) -> str | None:
        """Return the child of ours in whose subtree a node stands; remembered until the rules change."""
        rules = self._ledger.rules
        if node not in self._towards:
            self._towards[node] = towards(rules.now, self._ledger.identity.node, node)
        return self._towards[node]

    def mark(self, conn: Connection, touched: Sequence[Touched], changes: Changes) -> None:
        """Write the feed rows for what one unit of work changed."""
        self._forget_old_rules()
        rows: list[Row] = []
        for one in touched:
            authors = {self.towards(author) for author in one.authors}
            before = {self.towards(party) for party in one.parties_before}
            for child in sorted({self.towards(party) for party in one.parties} - {None}):  # type: ignore[type-var]
                first = self._first(one, child, authors, before)  # type: ignore[arg-type]
                if first is not None:
                    rows += [(child, one.row.id, *part) for part in _parts(conn, one, first)]
                    changes.fed.add(child)  # type: ignore[arg-type]
        if rows:
            feeds.save(conn, self._run, rows)

    def _forget_old_rules(self) -> None:
        rules = self._ledger.rules
        stamp = (id(rules), rules.number, rules.enrolled)
        if stamp != self._rules:
            self._towards.clear()
            self._rules = stamp

    def _first(self, one: Touched, child: str, authors: set[str | None], before: set[str | None]) -> int | None:
        """Return from which entry on a child must be told, or None: nothing new for it."""
        foreign = bool(authors - {child})
        if child in before:
            return one.first if foreign and one.new else None
        known_only = one.row.entries > len(one.new)  # entries came before the child had a party in it
        return WHOLE_CASE if foreign or known_only else None


def _parts(conn: Connection, one: Touched, first: int) -> list[tuple[int, int]]:
    """Return (first, last) entry ids of the rows that tell of a case from an entry on, each of a bounded size."""
    sizes: Iterable[tuple[int, int]]
    if first == WHOLE_CASE:
        sizes = feeds.sizes_up_to(conn, one.row.id, one.last)
    else:
        sizes = ((entry_id, len(entry.raw) + len(entry.body or b"")) for entry_id, _, _, entry in one.new)
    begins = [first, *_breaks(sizes)]
    return [(begin, end - 1) for begin, end in zip(begins, [*begins[1:], one.last + 1], strict=True)]


def _breaks(sizes: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield the entry ids at which a new row begins."""
    room = ROW_BYTES
    for count, (entry_id, size) in enumerate(sizes):
        room -= size + ENTRY_BYTES
        if room < 0 and count:
            yield entry_id
            room = ROW_BYTES - size - ENTRY_BYTES


def common_point(conn: Connection, cursors: messages.Cursors) -> int:
    """Return the position from which a child goes on: its own, or where the run that it names ended in this store."""
    end = feeds.end_of_run(conn, cursors.incarnation)
    return 0 if end is None else min(cursors.cases, end)
