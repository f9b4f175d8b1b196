"""Who is told what: one feed row per transaction, child and case, written with the entries themselves.

A child gets a row when its subtree has a party of the case and does not hold the author's log; a party that joins, with
its subtree, is one "whole case" row. The cost is paid once, at write time; reading is one index scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node.ledger import Changes, Ledger
from node.projection import Touched
from node.store.database import Connection, insert_rows

WHOLE_CASE: Final = 0


class Feeds:
    """Marks feed rows; set as the ledger's hook. Owner: the store's writer."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._towards: dict[str, str | None] = {}
        self._rules: tuple[int, int, int] = (0, 0, 0)

    def towards(self, node: str) -> str | None:
        """Return the child of ours in whose subtree a node stands, the child itself included; None if in none."""
        rules = self._ledger.rules
        stamp = (id(rules), rules.number, len(rules.known_nodes()) if node not in self._towards else self._rules[2])
        if stamp[:2] != self._rules[:2] or (node not in self._towards and stamp != self._rules):
            self._towards.clear()
            self._rules = stamp
        if node not in self._towards:
            line = (node, *rules.now.ancestors(node))
            me = self._ledger.identity.node
            place = line.index(me) if me in line else 0
            self._towards[node] = line[place - 1] if place else None
        return self._towards[node]

    def mark(self, conn: Connection, touched: Sequence[Touched], changes: Changes) -> None:
        """Write the feed rows for what one unit of work changed."""
        rows: list[tuple[object, ...]] = []
        for one in touched:
            authors = {self.towards(author) for author in one.authors}
            before = {self.towards(party) for party in one.parties_before}
            for child in {self.towards(party) for party in one.parties} - {None}:
                first = self._first(one, child, authors, before)  # type: ignore[arg-type]
                if first is not None:
                    rows.append((child, one.row.id, first, one.last))
                    changes.fed.add(child)  # type: ignore[arg-type]
        insert_rows(conn, "INSERT INTO feed (child, case_id, entry_first, entry_last) VALUES", rows)

    def _first(self, one: Touched, child: str, authors: set[str | None], before: set[str | None]) -> int | None:
        """Return from which entry on a child must be told, or None: nothing new for it."""
        foreign = bool(authors - {child})
        if child in before:
            return one.first if foreign and one.new else None
        known_only = one.row.entries > len(one.new)  # entries came before the child had a party in it
        return WHOLE_CASE if foreign or known_only else None
