"""Heads that others were shown, compared with the logs held here: where a hub told its children another history than us.

A hub signs its own log, and its children hold heads of it: with every receipt comes one. They show the newest in `hello`, to
their parent and once a day to the hub above it (`node.uplink.auditing`), which holds the parent's log whole. A head with another
root than that log has at its size is evidence: kept, and exported with `tongban evidence`. A head that goes further than what is
held here waits until the log has come so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node import faults
from node import logs as lines
from node.ledger import Ledger
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol import codec
from protocol.log import Checkpoint, Signed, decode_checkpoint, verify_checkpoint

RECOMPUTED_MAX: Final = 200_000  # leaves hashed for one hello, where no head of the size shown is held
WAITING_MAX: Final = 64  # heads compared at once that waited for their log


class Witness:
    """One hello's comparison. Part of a unit of work. found: contradictions that were not known before."""

    def __init__(self, ledger: Ledger, conn: Connection, at: int) -> None:
        """Begin. at: this hub's clock, ms."""
        self._ledger = ledger
        self._conn = conn
        self._at = at
        self._room = RECOMPUTED_MAX
        self.found = 0

    def take(self, child: str, seen: Sequence[Signed]) -> None:
        """Compare the heads that a child shows, and those of its own log that waited.

        Raises:
            SignatureInvalid, DecodeError: it shows what nobody signed.
        """
        for signed in seen:
            shown = decode_checkpoint(signed.checkpoint)
            key = self._ledger.rules.key_of(shown.node, shown.key)
            if shown.node == self._ledger.identity.node or key is None:
                continue  # of our own log: see `hub.restoring`; of a node that is not known yet: shown again another time
            verify_checkpoint(signed, key, self._ledger.identity.network)
            row = logs.find_log(self._conn, shown.log)
            if row is not None:
                self._compare(row, shown, signed)
        for row, signed in self._waited(child):
            self._compare(row, decode_checkpoint(signed.checkpoint), signed)
        faults.point("witness.compared")

    def _waited(self, child: str) -> list[tuple[LogRow, Signed]]:
        """Return heads of a child's own logs that were not compared yet, and can be now."""
        found = []
        for row in logs.logs_of(self._conn, [child]):
            if not row.branch and row.size:
                rows = logs.uncompared(self._conn, row.id, row.size, WAITING_MAX)
                found += [(row, signed) for signed in rows]
        return found

    def _compare(self, row: LogRow, shown: Checkpoint, signed: Signed) -> None:
        if shown.size > row.size:
            self._keep(row, shown, signed)
            return
        root = self._root(row, shown.size)
        if root is None:
            return
        if root == shown.root:
            logs.save_checkpoint(self._conn, row.id, shown, signed)
        elif not any(self._is_of(rival, shown) for rival in logs.branches(self._conn, row.log)):
            covering = logs.checkpoint_covering(self._conn, row.id, shown.size - 1)
            if covering is not None:
                self._accuse(row, shown.size - 1, covering[2], signed)

    def _keep(self, row: LogRow, shown: Checkpoint, signed: Signed) -> None:
        """Let a head wait for its log; two of one size need not wait to contradict each other."""
        for other in logs.checkpoints_of_size(self._conn, row.id, shown.size):
            if decode_checkpoint(other.checkpoint).root != shown.root:
                self._accuse(row, shown.size - 1, other, signed)
                return
        if self._ledger.rules.now.above(self._ledger.identity.node, shown.node):  # a log that will be here whole
            logs.save_checkpoint(self._conn, row.id, shown, signed, whole=False)

    def _is_of(self, rival: LogRow, shown: Checkpoint) -> bool:
        """Tell whether a head is of a second history that is held, and known, already."""
        return rival.start < shown.size <= rival.size and self._root(rival, shown.size) == shown.root

    def _root(self, row: LogRow, size: int) -> bytes | None:
        """Return a log's root at a size; None where computing it would cost too much for one hello."""
        if size != row.size and logs.checkpoint_at(self._conn, row.id, size) is None:
            self._room -= size
            if self._room < 0:
                return None
        return logs.root_at(self._conn, row, size)

    def _accuse(self, row: LogRow, index: int, first: Signed, second: Signed) -> None:
        packed = [codec.encode([one.checkpoint, one.signature]) for one in (first, second)]
        if logs.save_evidence(self._conn, row.id, index, packed[0], packed[1], self._at):
            self.found += 1
            lines.event("log.two_histories", lines.CRITICAL, author=row.log.node, index=index)
