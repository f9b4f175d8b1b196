"""What a hub does with a push: verify → append → fold → feed rows → receipt, in one transaction, then reply.

Each push is applied whole or not at all. Pushes that wait share one commit, each in its own savepoint, so that a thousand
stations at once cost few commits; every reply leaves after that commit, with a receipt sealed from what was read back.
A crash before the commit leaves nothing; after it, the child sends again and is acknowledged again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from node import faults
from node.acceptance import Accepted, accept_set, note_head
from node.ledger import Changes, Draft, Ledger, Placed
from node.node import Node
from node.projection import Batch
from node.registrar import take_in
from node.store import logs
from node.store.database import Connection
from protocol import limits, messages
from protocol.errors import Overloaded, TongbanError
from protocol.log import Bundle, Header, Rebuilt, Signed, decode_checkpoint

SHARED_BYTES_MAX: Final = 2 << 20  # of pushes that share a commit, unpacked, about
SHARED_MAX: Final = 64
RETRY_AFTER_S: Final = 5.0


@dataclass(slots=True)
class _Waiting:
    child: str
    push: messages.Push
    size: int
    done: asyncio.Future[tuple[Taken, Bundle]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a push. receipt: the own entry that receipts it."""

    held: tuple[messages.Held, ...]
    receipt: Placed
    added: int
    forks: int


def take_push(
    ledger: Ledger, conn: Connection, changes: Changes, child: str, push: messages.Push, received_at: int
) -> Taken:
    """Apply one push: part of a unit of work. Raises a PeerError, and then leaves nothing.

    Args:
        child: who sent it (the session's node). received_at: this hub's clock, ms.
    """
    batch = Batch(conn, ledger.rules, ledger.judge)
    for signed in _heads_of(push, child):
        note_head(ledger, conn, signed, received_at)
    accepted = [accept_set(ledger, conn, batch, change) for change in push.sets]
    faults.point("intake.appended")
    ledger.finish(conn, batch, changes)
    stated = [draft for one in accepted for draft in _times(one, child, received_at)]
    stated += [draft for one in accepted for draft in _admissions(ledger, conn, one, received_at)]
    heads = {one.checkpoint.log: one for one in accepted if one.fork_at < 0}
    of = [[[log.node, log.incarnation], one.checkpoint.size, one.checkpoint.root] for log, one in heads.items()]
    placed = ledger.append(conn, [*stated, Draft("receipt", received_at, {"at": received_at}, {"of": of})], changes)
    receipt = placed[-1]
    logs.save_receipts(
        conn,
        [(one.row.id, ledger.identity.node, one.checkpoint.size, received_at, receipt.id) for one in heads.values()],
    )
    take_in(ledger, conn, changes, received_at)
    changes.logs |= {one.row.id for one in accepted}
    held = tuple(messages.Held(log, _size(conn, one)) for log, one in heads.items())
    return Taken(held, receipt, sum(one.added for one in accepted), sum(one.fork_at >= 0 for one in accepted))


def _heads_of(push: messages.Push, child: str) -> list[Signed]:
    """Return the sender's own newest head, if it shows one: others' logs were dated by their own hubs."""
    shown = [change.signed for change in push.sets] + ([push.head] if push.head is not None else [])
    own = [signed for signed in shown if decode_checkpoint(signed.checkpoint).node == child]
    return own[-1:]


def _size(conn: Connection, one: Accepted) -> int:
    return logs.load_log(conn, one.row.id).size


def _admissions(ledger: Ledger, conn: Connection, accepted: Accepted, received_at: int) -> list[Draft]:
    """Admit a child's new incarnation that continues an older one: with the sizes held of the older ones by now."""
    log, opening = accepted.row.log, accepted.entries[0].header if accepted.entries else None
    record = ledger.rules.record(log.node)
    if accepted.row.size or opening is None or opening.type != "log.open" or not opening.fields.get("continues"):
        return []
    if record is None or record.parent != ledger.identity.node:
        return []
    sizes = [
        [row.log.incarnation, row.size]
        for row in logs.load_logs(conn)
        if row.log.node == log.node and row.log.incarnation != log.incarnation and not row.branch
    ]
    return [Draft("node.admit", received_at, {"node": log.node, "incarnation": log.incarnation, "sizes": sizes})]


def _times(accepted: Accepted, child: str, received_at: int) -> list[Draft]:
    """State receive times for claims outside the window: only the first hub to receipt an entry, its author's, does."""
    row = accepted.row
    if row.log.node != child or accepted.fork_at >= 0:
        return []
    since = row.window if accepted.checkpoint.size <= row.committed else row.receipted
    low, high = since - limits.CLAIM_SLACK_MS, received_at + limits.CLAIM_SLACK_MS
    return [
        _time(one, header, received_at)
        for one in accepted.entries
        if (header := one.header) is not None
        and not low <= header.claimed_at <= high
        and (header.case is not None or header.type == "open")
        and header.fields.get("afterwards") is not True
        and header.type != "time"
    ]


def _time(one: Rebuilt, header: Header, received_at: int) -> Draft:
    link = one.leaf[:16]
    return Draft(
        "time",
        received_at,
        {"of": link, "at": received_at},
        case=header.case or link,
        epoch=header.epoch,
        prev=header.prev or link,
    )


class Intake:
    """Queues pushes and commits those that wait together. Owner of the queue: the event loop."""

    def __init__(self, node: Node, waiting_max: int = 256) -> None:
        self._node = node
        self._waiting: deque[_Waiting] = deque()
        self._waiting_max = waiting_max
        self._worker: asyncio.Task[None] | None = None
        self._last_at = 0

    async def submit(self, child: str, push: messages.Push, size: int) -> tuple[Taken, Bundle]:
        """Apply a push and return its receipt as a bundle.

        Args:
            size: bytes of the message, for sharing a commit fairly.

        Raises:
            PeerError: refused whole. Overloaded: too many wait; come back later.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded("too many pushes wait", retry_after_s=RETRY_AFTER_S)
        if any(one.child == child for one in self._waiting):
            raise Overloaded("a push of this node waits already", retry_after_s=1.0)
        waiting = _Waiting(child, push, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            # its own task: a child that hangs up must not take the others' commit with it
            self._worker = asyncio.get_running_loop().create_task(self._drain())
        return await waiting.done

    async def _drain(self) -> None:
        while self._waiting:
            await self._commit(self._next())

    def _next(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and len(taken) < SHARED_MAX and (not taken or size + self._waiting[0].size <= SHARED_BYTES_MAX):
            size += self._waiting[0].size
            taken.append(self._waiting.popleft())
        return taken

    async def _commit(self, group: list[_Waiting]) -> None:
        try:
            outcomes = await self._node.write(lambda conn, changes: self._take_group(conn, changes, group))
            bundles = await self._node.store.own(lambda conn: self._receipts(conn, outcomes))
        except TongbanError as exc:
            for one in group:
                if not one.done.done():
                    one.done.set_exception(exc)
            return
        for one, outcome, bundle in zip(group, outcomes, bundles, strict=True):
            if one.done.done():
                continue
            if isinstance(outcome, TongbanError) or bundle is None:
                one.done.set_exception(outcome)  # type: ignore[arg-type]
            else:
                one.done.set_result((outcome, bundle))

    def _take_group(self, conn: Connection, changes: Changes, group: Sequence[_Waiting]) -> list[Taken | TongbanError]:
        outcomes: list[Taken | TongbanError] = []
        for one in group:
            received_at = self._received_at()
            part, unsaved = Changes(), self._node.ledger.unsaved()
            conn.execute("SAVEPOINT push")
            try:
                outcomes.append(take_push(self._node.ledger, conn, part, one.child, one.push, received_at))
            except TongbanError as exc:
                conn.execute("ROLLBACK TO push")
                self._node.ledger.put_back(unsaved)
                outcomes.append(exc)
            else:
                changes.merge(part)
            conn.execute("RELEASE push")
        return outcomes

    def _received_at(self) -> int:
        """Return this hub's receive time: it never falls within a run of the program."""
        self._last_at = max(self._node.clock.wall_ms(), self._last_at)
        return self._last_at

    def _receipts(self, conn: Connection, outcomes: Sequence[Taken | TongbanError]) -> list[Bundle | None]:
        self._node.ledger.seal(conn)
        return [
            self._node.ledger.bundle_own(conn, one.receipt.index) if isinstance(one, Taken) else None for one in outcomes
        ]
