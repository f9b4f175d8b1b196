"""Pushing: whatever the parent has not receipted, in bounded messages, one on its way and the next made ready meanwhile.

Short logs go first, so that a fresh change passes by another log's backlog. A log that the parent refuses is left out for
the session and holds up no other. No acknowledgement moves without a receipt that names what was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from node import faults
from node import logs as lines
from node.ledger import Changes, Ledger, change_set
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from node.uplink.bundles import keep_receipt, keep_receipts
from node.uplink.calling import REFUSALS, Line, ended
from node.uplink.comparing import Comparing
from protocol import errors, limits, messages
from protocol.errors import GapFound, LinkError, Overloaded, PeerError, ProofInvalid
from protocol.log import ChangeSet, LogId, decode_checkpoint

PUSH_BYTES: Final = 256 << 10  # of entries in one push, about, where the hub has not said how much it would take
PUSH_BYTES_MAX: Final = 900 << 10  # … however much it would: a push is one message
PUSH_BYTES_MIN: Final = 16 << 10  # … however bad the line: less than a set or two is not worth asking for
BACKLOG: Final = 200  # entries: so many of one log do not travel in one push with fresh changes of others


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A push made ready. sizes: log id → size that it brings the hub to. more: another one may follow."""

    body: bytes
    sizes: dict[int, int]
    entries: int
    more: bool


class Pushing:
    """Pushes to the parent. acked: entries that it receipted. aside: logs that it refuses; tried again in the next session."""

    def __init__(self, line: Line, comparing: Comparing) -> None:
        self.line = line
        self.node = line.node
        self.acked = 0
        self.aside: set[int] = set()
        self._room = PUSH_BYTES  # bytes of entries that the hub would take at once
        self._passes = PUSH_BYTES_MAX  # … that pass before the line breaks: half as many after each push that it lost
        self._comparing = comparing

    async def push_all(self) -> None:
        """Push until nothing is pending; the next message is made ready while one is on its way."""
        outgoing = await self._prepare({})
        while outgoing is not None:
            on_its_way = asyncio.ensure_future(self._send(outgoing))
            try:
                following = await self._prepare(outgoing.sizes) if outgoing.more else None
                await on_its_way
            except GapFound as exc:
                await self.go_back(exc)
                following = await self._prepare({})
            except REFUSALS as exc:
                await self._push_apart(outgoing, exc)
                following = await self._prepare({})
            finally:
                await ended({on_its_way})
            outgoing = following

    async def _prepare(self, assumed: dict[int, int], only: int | None = None) -> Outgoing | None:
        return await self.node.store.own(
            lambda conn: prepare_push(self.node.ledger, conn, assumed, frozenset(self.aside), only, self._bytes_max)
        )

    @property
    def _bytes_max(self) -> int:
        return min(self._room, self._passes)

    async def _push_apart(self, refused: Outgoing, exc: PeerError) -> None:
        """Push the logs of a refused message one by one, so that one bad log does not hold up the others."""
        own = await self.node.read(lambda conn: self.node.ledger.own_row(conn).id)
        if len(refused.sizes) == 1:
            await self._set_aside(next(iter(refused.sizes)), own, exc)
            return
        for log_id in sorted(refused.sizes, key=lambda one: (one != own, one)):
            alone = await self._prepare({}, only=log_id)
            try:
                if alone is not None:
                    await self._send(alone)
            except GapFound as gap:
                await self.go_back(gap)
            except REFUSALS as again:
                await self._set_aside(log_id, own, again)

    async def _set_aside(self, log_id: int, own: int, exc: PeerError) -> None:
        """Leave a refused log out for this session. Our own is never left out: it goes on in a new incarnation, or fails loudly."""
        if log_id != own:
            lines.failure("uplink.log_refused", exc)
            self.aside.add(log_id)
            return
        if not isinstance(exc, errors.ForkDetected):
            raise exc
        await self._comparing.go_on_anew()

    async def _send(self, outgoing: Outgoing) -> None:
        faults.point("uplink.before_push")
        try:
            reply = await self.line.ask("push", outgoing.body, messages.PushReply)
        except LinkError as exc:
            if not isinstance(exc, Overloaded):
                self._passes = max(self._bytes_max // 2, PUSH_BYTES_MIN)
            raise
        await self.node.write(lambda conn, changes: self._take_receipt(conn, changes, outgoing, reply))
        faults.point("uplink.acknowledged")
        self.acked += outgoing.entries
        self._room = min(reply.room, PUSH_BYTES_MAX) or PUSH_BYTES
        self._passes = min(2 * self._passes, PUSH_BYTES_MAX)
        await keep_receipts(self.node, reply.receipts)

    def _take_receipt(self, conn: Connection, changes: Changes, outgoing: Outgoing, reply: messages.PushReply) -> None:
        """Believe a receipt: only what it names, with roots that are ours."""
        if reply.receipt is None:
            raise ProofInvalid("the parent acknowledged without a receipt")
        receipted = keep_receipt(self.node.ledger, conn, changes, reply.receipt)
        for log_id, size in outgoing.sizes.items():
            row = logs.load_log(conn, log_id)
            if receipted.get(row.id, 0) < size:
                raise ProofInvalid(f"the parent's receipt does not name what was sent of {row.log.node}")
            logs.save_ack(conn, log_id, size)
        self.line.note_contact(conn)
        changes.receipts = True

    async def go_back(self, exc: GapFound) -> None:
        """Go back to what the parent names: it holds less than we thought."""
        log = exc.log
        if not isinstance(log, LogId):
            raise exc

        def save(conn: Connection, _: Changes) -> None:
            row = logs.find_log(conn, log)
            if row is None or exc.size_held >= logs.acks(conn).get(row.id, 0):
                raise ProofInvalid("the parent names a gap that is none")
            logs.save_ack(conn, row.id, exc.size_held)

        await self.node.write(save)


def prepare_push(
    ledger: Ledger,
    conn: Connection,
    assumed: dict[int, int],
    aside: frozenset[int] = frozenset(),
    only: int | None = None,
    bytes_max: int = PUSH_BYTES,
) -> Outgoing | None:
    """Make the next push ready: what is short goes first, so that a fresh change passes by another log's backlog.

    Args:
        assumed: sizes that a push on its way will bring the hub to.
        aside: logs to leave out. only: the one log to push.
        bytes_max: of one log, headers and bodies, as hub and line bear it. Of several logs it is no more than usual: they are
            a hub's, and fresh changes are among them.
    """
    ledger.seal(conn)
    acked = {**logs.acks(conn), **assumed}
    wanted = [row for row in logs.load_pending(conn) if row.id not in aside and only in {None, row.id}]
    rows = _in_order(ledger, wanted, acked)[: limits.PUSH_LOGS_MAX]
    head = ledger.newest_seal(conn)
    sets: list[ChangeSet] = []
    sizes: dict[int, int] = {}
    room, entries = (bytes_max if len(rows) == 1 else min(bytes_max, PUSH_BYTES)), 0
    for row in rows:
        size = max(acked.get(row.id, 0), row.start)
        if sets and row.size - size > BACKLOG:
            return Outgoing(messages.encode(messages.Push(tuple(sets), head)), sizes, entries, more=True)
        for signed in ledger.checkpoints_from(conn, row, size):
            checkpoint = decode_checkpoint(signed.checkpoint)
            room -= logs.run_bytes(conn, row.id, checkpoint.start, checkpoint.size)
            if sets and (room < 0 or len(sets) >= limits.SETS_PER_PUSH_MAX):
                return Outgoing(messages.encode(messages.Push(tuple(sets), head)), sizes, entries, more=True)
            sets.append(change_set(conn, row, signed, checkpoint))
            sizes[row.id] = checkpoint.size
            entries += checkpoint.size - max(checkpoint.start, size)
    if not sets:
        return None
    more = len(rows) == limits.PUSH_LOGS_MAX
    return Outgoing(messages.encode(messages.Push(tuple(sets), head)), sizes, entries, more=more)


def _in_order(ledger: Ledger, rows: Sequence[LogRow], acked: dict[int, int]) -> list[LogRow]:
    """Return the logs with something to push, the shortest first, so that a fresh change passes by another log's backlog.

    Logs that the parent has nothing of come last, the higher node's before the lower's: their enrolments are in the others.
    Of one node's they come in the order in which they began: the key of the next one may stand at the end of the one before.
    """
    view = ledger.rules.now

    def place(row: LogRow) -> tuple[int, int, int]:
        if not acked.get(row.id):
            return 1 + len(view.ancestors(row.log.node)), row.id, 0
        return 0, row.size - acked[row.id], row.id

    return sorted((row for row in rows if row.size > acked.get(row.id, 0)), key=place)
