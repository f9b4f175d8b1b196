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
from itertools import accumulate
from typing import Final

from node import faults
from node import logs as lines
from node.acceptance import Accepted, accept_set, heard_before, note_head
from node.ledger import Changes, Draft, Ledger, Placed
from node.node import Node
from node.projection import Batch
from node.registrar import take_in
from node.store import facts, logs
from node.store.database import Connection, ours
from protocol import limits, messages
from protocol.errors import LimitExceeded, Overloaded, TongbanError
from protocol.log import Bundle, Header, Rebuilt, Signed, decode_checkpoint, decode_header

SHARED_BYTES_MAX: Final = 2 << 20  # of pushes that share a commit, unpacked, about
SHARED_MAX: Final = 128
LOOKED_BACK: Final = 256  # own entries at a time, for the last receive time
WAITING_BYTES_MAX: Final = 64 << 20  # packed
PUSH_S_MAX: Final = 0.02  # what counts of one push for slots: a single one that took long in a storm must not send all away for hours
ROOM_ALONE_BYTES: Final = 900 << 10  # of entries in one push, while nobody else writes here: a writer is busy with it for some 80 ms
ROOM_SHARED_BYTES: Final = 256 << 10  # … while others do, who then wait for some 20 ms
LATELY_S: Final = 2.0
OFTEN: Final = 3  # writes of others lately: then they are at work here, and do not only say hello


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push and who sent it (the session's node). heard_at: when its sender spoke, ms, if not now: it came in a file."""

    child: str
    push: messages.Push
    heard_at: int | None = None


@dataclass(slots=True)
class _Waiting:
    pushed: Pushed
    size: int
    done: asyncio.Future[tuple[Taken, Bundle]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a push. receipt: the own entry that receipts it. forked: whose logs came with a second history."""

    held: tuple[messages.Held, ...]
    receipt: Placed
    added: int
    forks: int
    forked: frozenset[str] = frozenset()


def take_pushes(
    ledger: Ledger, conn: Connection, changes: Changes, group: Sequence[Pushed], received_at: int
) -> list[Taken]:
    """Apply some pushes as one: part of a unit of work. Raises a PeerError when one is bad, and then leaves nothing.

    Args:
        received_at: this hub's clock, ms.
    """
    batch = Batch(conn, ledger.rules, ledger.judge)
    accepted = [_accept(ledger, conn, batch, one, received_at) for one in group]
    faults.point("intake.appended")
    ledger.finish(conn, batch, changes)
    drafts = [_stated(ledger, conn, one, taken, received_at) for one, taken in zip(group, accepted, strict=True)]
    placed = ledger.append(conn, [draft for some in drafts for draft in some], changes)
    receipts = [placed[end - 1] for end in accumulate(map(len, drafts))]  # each push's last entry
    rows = [
        (one.row.id, ledger.identity.node, one.checkpoint.size, received_at, receipt.id)
        for receipt, taken in zip(receipts, accepted, strict=True)
        for one in _last(taken)
    ]
    logs.save_receipts(conn, rows)
    faults.point("intake.receipted")
    take_in(ledger, conn, changes, received_at)
    changes.logs |= {one.row.id for taken in accepted for one in taken}
    return [_taken(receipt, taken) for receipt, taken in zip(receipts, accepted, strict=True)]


def _accept(ledger: Ledger, conn: Connection, batch: Batch, one: Pushed, received_at: int) -> list[Accepted]:
    for signed in _heads_of(one.push, one.child):
        note_head(ledger, conn, signed, received_at if one.heard_at is None else one.heard_at)
    accepted = [accept_set(ledger, conn, batch, change) for change in one.push.sets]
    if len({each.checkpoint.log for each in accepted}) > limits.PUSH_LOGS_MAX:
        raise LimitExceeded(f"a push brings more than {limits.PUSH_LOGS_MAX} logs", hint="Send fewer logs at once.")
    return accepted


def _last(accepted: Sequence[Accepted]) -> list[Accepted]:
    """Return the last set of each log. Rival branches too: they are kept, and a receipt names the root of what it received."""
    return list({one.checkpoint.log: one for one in accepted}.values())


def _stated(
    ledger: Ledger, conn: Connection, one: Pushed, accepted: Sequence[Accepted], received_at: int
) -> list[Draft]:
    """Return what this hub states about a push: times, admissions, and at the end the receipt."""
    times = [draft for each in accepted for draft in _times(ledger, conn, each, one.child, received_at)]
    admissions = [draft for each in accepted for draft in _admissions(ledger, conn, each, received_at)]
    of = [
        [[each.checkpoint.node, each.checkpoint.incarnation], each.checkpoint.size, each.checkpoint.root]
        for each in _last(accepted)
    ]
    return [*times, *admissions, Draft("receipt", received_at, {"at": received_at}, {"of": of})]


def _taken(receipt: Placed, accepted: Sequence[Accepted]) -> Taken:
    held = tuple(messages.Held(one.checkpoint.log, max(one.row.size, one.checkpoint.size)) for one in _last(accepted))
    forked = [one.checkpoint.node for one in accepted if one.fork_at >= 0]
    return Taken(held, receipt, sum(one.added for one in accepted), len(forked), frozenset(forked))


def _heads_of(push: messages.Push, child: str) -> list[Signed]:
    """Return the sender's own newest head, if it shows one: others' logs were dated by their own hubs."""
    shown = [change.signed for change in push.sets] + ([push.head] if push.head is not None else [])
    own = [signed for signed in shown if decode_checkpoint(signed.checkpoint).node == child]
    return own[-1:]


def _admissions(ledger: Ledger, conn: Connection, accepted: Accepted, received_at: int) -> list[Draft]:
    """Admit a child's new incarnation, if there are older ones: with the sizes held of them by now."""
    log, opening = accepted.row.log, accepted.entries[0].header if accepted.entries else None
    record = ledger.rules.record(log.node)
    if accepted.row.size or opening is None or opening.type != "log.open":
        return []
    if record is None or record.parent != ledger.identity.node or accepted.row.key != record.key:
        return []
    sizes = [
        [row.log.incarnation, row.size]
        for row in logs.load_logs(conn)
        if row.log.node == log.node and row.log.incarnation != log.incarnation and not row.branch
    ]
    if not sizes and not opening.fields.get("continues"):
        return []  # its first
    return [Draft("node.admit", received_at, {"node": log.node, "incarnation": log.incarnation, "sizes": sizes})]


def _times(ledger: Ledger, conn: Connection, accepted: Accepted, child: str, received_at: int) -> list[Draft]:
    """State receive times for claims outside the window: only the first hub to receipt an entry, its author's, does."""
    row = accepted.row
    if row.log.node != child or accepted.fork_at >= 0:
        return []
    since = heard_before(conn, row, accepted.checkpoint.size) or _enrolled_at(ledger, conn, child)
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


def _enrolled_at(ledger: Ledger, conn: Connection, node: str) -> int:
    """Return when a node was enrolled, ms: nobody took anything in there before, whatever its clock says."""
    record = ledger.rules.record(node)
    fact = facts.find(conn, record.enrolment) if record is not None else None
    return fact.header.claimed_at if fact is not None else 0


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

    def __init__(self, node: Node, waiting_max: int = 2_048) -> None:
        self._node = node
        self._waiting: deque[_Waiting] = deque()
        self._waiting_max = waiting_max
        self._children: set[str] = set()  # who has a push waiting
        self._bytes = 0  # of the pushes that wait
        self._push_s = 0.005  # what a push takes lately: the slots of those who must come later follow it
        self._worker: asyncio.Task[None] | None = None
        self._mine: Changes | None = None  # of the commit under way
        self._writes: deque[tuple[float, str]] = deque(maxlen=64)  # when, and which child; "" for ourselves
        node.listeners.append(self._written)

    def _written(self, changes: Changes) -> None:
        if changes is not self._mine:
            self._note("")

    def _note(self, who: str) -> None:
        self._writes.append((self._node.clock.monotonic_s(), who))

    def room_for(self, child: str) -> int:
        """Return how many bytes of entries a child may send at once: more while it has the writer nearly for itself."""
        since_s = self._node.clock.monotonic_s() - LATELY_S
        others = sum(at_s >= since_s and who != child for at_s, who in self._writes)
        return ROOM_SHARED_BYTES if others >= OFTEN else ROOM_ALONE_BYTES

    @property
    def waiting(self) -> int:
        """How many pushes wait for the store."""
        return len(self._waiting)

    @property
    def waiting_s(self) -> float:
        """How long they will take, about, in seconds."""
        return len(self._waiting) * self._push_s

    async def submit(self, child: str, push: messages.Push, size: int) -> tuple[Taken, Bundle]:
        """Apply a push and return its receipt as a bundle.

        Args:
            size: bytes of the message, for sharing a commit fairly.

        Raises:
            PeerError: refused whole. Overloaded: too many wait; come back later. StoreFull: no room on the disk.
        """
        self._node.admit()
        if len(self._waiting) >= self._waiting_max or self._bytes + size > WAITING_BYTES_MAX:
            raise Overloaded("too many pushes wait", retry_after_s=max(1.0, len(self._waiting) * self._push_s))
        if child in self._children:
            raise Overloaded("a push of this node waits already", retry_after_s=1.0)
        self._note(child)
        waiting = _Waiting(Pushed(child, push), size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._children.add(child)
        self._bytes += size
        if self._worker is None or self._worker.done():
            # its own task: a child that hangs up must not take the others' commit with it
            self._worker = asyncio.get_running_loop().create_task(self._drain())
        return await waiting.done

    async def _drain(self) -> None:
        while self._waiting:
            group, begun_s = self._next(), self._node.clock.monotonic_s()
            await self._commit(group)
            each_s = min((self._node.clock.monotonic_s() - begun_s) / len(group), PUSH_S_MAX)
            self._push_s += (each_s - self._push_s) * len(group) / (len(group) + SHARED_MAX)

    def _next(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and len(taken) < SHARED_MAX and (not taken or size + self._waiting[0].size <= SHARED_BYTES_MAX):
            size += self._waiting[0].size
            taken.append(self._waiting.popleft())
        self._bytes -= size
        self._children -= {one.pushed.child for one in taken}
        return taken

    async def _commit(self, group: list[_Waiting]) -> None:
        try:
            outcomes = await self._node.write(lambda conn, changes: self._take_group(conn, changes, group))
            faults.point("intake.committed")
            bundles = await self._node.store.own(lambda conn: self._receipts(conn, outcomes))
            faults.point("intake.sealed")
        except Exception as exc:  # noqa: BLE001 - whatever broke: everybody is answered, and the next group has its turn
            _fail(group, _as_ours(exc))
            return
        except BaseException:
            _hang_up([*group, *self._waiting])
            raise
        for one, outcome, bundle in zip(group, outcomes, bundles, strict=True):
            if one.done.done():
                continue
            if isinstance(outcome, TongbanError) or bundle is None:
                one.done.set_exception(outcome)  # type: ignore[arg-type]
            else:
                one.done.set_result((outcome, bundle))

    def _take_group(self, conn: Connection, changes: Changes, group: Sequence[_Waiting]) -> list[Taken | TongbanError]:
        """Apply a group as one; when one of it is bad, each on its own, so that it hurts nobody else."""
        self._mine = changes
        pushed = [one.pushed for one in group]
        whole = self._try(conn, changes, pushed)
        if len(pushed) == 1 or not isinstance(whole, TongbanError):
            return [*whole] if isinstance(whole, list) else [whole]
        singly = [self._try(conn, changes, [one]) for one in pushed]
        return [one if isinstance(one, TongbanError) else one[0] for one in singly]

    def _try(self, conn: Connection, changes: Changes, pushed: Sequence[Pushed]) -> list[Taken] | TongbanError:
        """Apply pushes in a savepoint: all of them, or nothing."""
        part, mark = Changes(), self._node.ledger.mark()
        conn.execute("SAVEPOINT push")
        try:
            taken = take_pushes(self._node.ledger, conn, part, pushed, received_at(self._node, conn))
        except Exception as exc:  # also a mistake of ours: it must not hurt the others of the group
            if not conn.in_transaction:
                raise  # the store gave up the whole transaction: the disk is full, say
            conn.execute("ROLLBACK TO push")
            conn.execute("RELEASE push")
            if self._node.ledger.go_back(mark):
                self._node.ledger.reload(conn)
            return _as_ours(exc)
        conn.execute("RELEASE push")
        changes.merge(part)
        return taken

    def _receipts(self, conn: Connection, outcomes: Sequence[Taken | TongbanError]) -> list[Bundle | None]:
        self._node.ledger.seal(conn)
        return [
            self._node.ledger.bundle_own(conn, one.receipt.index) if isinstance(one, Taken) else None for one in outcomes
        ]


def received_at(node: Node, conn: Connection) -> int:
    """Return a hub's receive time: it never falls within an incarnation, whatever the clock does while the program is off."""
    ledger = node.ledger
    if ledger.received_at is None:
        ledger.received_at = _last_stamp(ledger, conn)
    ledger.received_at = max(node.clock.wall_ms(), ledger.received_at)
    return ledger.received_at


def _last_stamp(ledger: Ledger, conn: Connection) -> int:
    """Return the receive time that this hub stated last, ms; 0 before the first."""
    row = ledger.own_row(conn)
    for end in range(row.size, 0, -LOOKED_BACK):
        for one in reversed(logs.entries_between(conn, row.id, max(0, end - LOOKED_BACK), end)):
            header = decode_header(one.raw)
            if header.type == "receipt":
                return int(header.fields["at"])
    return 0


def _as_ours(exc: Exception) -> TongbanError:
    """Return the error that a child is told; what we did not foresee is written down."""
    found = ours(exc)
    if found is not exc:
        lines.failure("intake.failed", exc)
    return found


def _fail(group: Sequence[_Waiting], exc: TongbanError) -> None:
    for one in group:
        if not one.done.done():
            one.done.set_exception(exc)


def _hang_up(waiting: Sequence[_Waiting]) -> None:
    """Let go of all who wait: the program ends."""
    for one in waiting:
        one.done.cancel()
