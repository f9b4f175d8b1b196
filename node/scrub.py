"""The scrub: everything held is read and hashed again, and what the disk has changed is fetched once more from the parent.

SQLite has no page checksums; of flipped bits its own check finds few, hashes find all that touch evidence. Once a day, in slices
that a clerk does not feel, `verify` goes over all logs. What does not hold is mended only by what was signed:

- entries, bodies and checkpoints: from the parent's copy of the log, after its signature, run and root were checked;
- entries that came in bundles: from the parent, with their paths;
- the range over a log (a sum of its entries): computed again, if a signed checkpoint says the same.

Nothing is ever signed again that could not be verified. What cannot be mended now is named in `status` and `verify`, and tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from node import faults, inspection
from node import logs as lines
from node.inspection import Report
from node.node import Node
from node.ports import Clock
from node.store import logs, repair
from node.store.database import Connection
from node.store.logs import LogRow
from node.views.common import Shown, time_text
from protocol import codec, merkle, messages
from protocol.errors import DecodeError, LinkError, PeerError, TongbanError
from protocol.log import (
    Bundle,
    ChangeSet,
    LogId,
    Rebuilt,
    Signed,
    decode_checkpoint,
    rebuild,
    references,
    verify_bundle,
    verify_checkpoint,
)

SLICE: Final = 100  # entries at once: some 5 ms
SHARE: Final = 9  # pauses of so many times what a slice took
PAUSE_S: Final = 0.005  # at least
HOUR_S: Final = 3_600.0
BEGIN_S: Final = 600.0  # after a start: a counter that was just switched on has work to do
DONE: Final = "scrubbed"  # in meta: when the last scrub ended, ms, decimal
DAMAGED: Final = "damaged"  # in meta: what could not be mended: [[kind, node, incarnation, index], …]
WHOLE: Final = frozenset({"checkpoint", "root", "range", "receipt", "body", "gap", "unsigned"})

Ask = Callable[[messages.Fetch], Awaitable[messages.FetchReply]]

_asks: dict[int, Ask] = {}  # by id of a running node, while it runs; owner: the event loop


@contextmanager
def attached(node: Node, ask: Ask | None) -> Iterator[None]:
    """Let scrubs of the running node ask its parent until the block ends; a root has none."""
    if ask is not None:
        _asks[id(node)] = ask
    try:
        yield
    finally:
        _asks.pop(id(node), None)


def is_attached(node: Node) -> bool:
    """Tell whether a scrub of this node can ask its parent."""
    return id(node) in _asks


@dataclass(slots=True)
class Outcome:
    """What a scrub came to. mended: entries and checkpoints put right. left: what still does not hold."""

    checked: Report
    mended: int = 0
    left: Report = field(default_factory=Report)

    def shown(self) -> Shown:
        """Return the form that `scrub` prints: `verify`'s, of what is left, and how much was mended."""
        return {**self.left.shown(), "mended": self.mended}


async def scrub(node: Node, *, slice_entries: int = SLICE, share: float = SHARE) -> Outcome:
    """Check all that is held, mend what can be mended, and write down what cannot.

    Args:
        share: pauses of so many times what a slice took; 0 for a scrub that somebody waits for.
    """
    checked = await inspection.verify(node, page=slice_entries, breathe=_breather(node.clock, share))
    outcome = Outcome(checked, left=checked)
    wrong = _wrong(checked)
    if wrong:
        lines.event("store.damaged", lines.CRITICAL, count=len(wrong))
        mender = _Mender(node, _asks.get(id(node)))
        outcome.mended = await mender.mend(checked)
        outcome.left = await inspection.verify(node, page=slice_entries, breathe=_breather(node.clock, share))
        lines.event("store.mended", lines.WARNING, count=outcome.mended)
    await node.write(lambda conn, _: _note(conn, outcome.left, node.clock.wall_ms()))
    return outcome


def _breather(clock: Clock, share: float) -> inspection.Breathe:
    """Return a pause that follows what a slice took, so that the node stays at everybody's service."""
    begun_s = clock.monotonic_s()

    async def breathe() -> None:
        nonlocal begun_s
        if share:
            await clock.sleep(max(PAUSE_S, share * (clock.monotonic_s() - begun_s)))
        begun_s = clock.monotonic_s()

    return breathe


def _wrong(report: Report) -> list[tuple[str, LogId | None, int | None]]:
    """Return what the disk may have done; forks and evidence are others' doing."""
    return [place for place in report.places if place[0] not in {"fork", "evidence"}]


def _note(conn: Connection, left: Report, now_ms: int) -> None:
    places = [[kind, log.node if log else "", log.incarnation if log else b"", index] for kind, log, index in _wrong(left)]
    logs.set_meta(conn, DAMAGED, codec.encode(places))
    logs.set_meta(conn, DONE, str(now_ms).encode())
    faults.point("scrub.noted")


def standing(conn: Connection) -> Shown:
    """Return when the store was last gone over, and how many places of it are known to be damaged."""
    done, damaged = logs.get_meta(conn, DONE), logs.get_meta(conn, DAMAGED)
    places = codec.decode(damaged) if damaged else []
    return {"scrubbed": time_text(int(done)) if done else None, "damaged": len(places) if isinstance(places, list) else 0}


async def daily(node: Node, every_h: float) -> None:
    """Scrub again and again, so many hours after the last time; what is left damaged is tried again after an hour."""
    await node.clock.sleep(BEGIN_S)
    while True:
        done, damaged = await node.read(lambda conn: (logs.get_meta(conn, DONE), standing(conn)["damaged"]))
        span_ms = int((min(every_h, 1.0) if damaged else every_h) * HOUR_S * 1000)
        since_ms = node.clock.wall_ms() - int(done) if done else span_ms
        if not 0 <= since_ms < span_ms:  # also after a clock that was set back
            try:
                await scrub(node)
            except TongbanError as exc:
                lines.failure("scrub.failed", exc)
            continue_s = HOUR_S
        else:
            continue_s = (span_ms - since_ms) / 1000
        await node.clock.sleep(min(continue_s, HOUR_S))


# --- mending


class _Mender:
    """Puts right what the disk changed, from what was signed. ask: the parent; None where there is none to ask."""

    def __init__(self, node: Node, ask: Ask | None) -> None:
        self._node = node
        self._ask = ask

    async def mend(self, report: Report) -> int:
        """Mend what a check found; returns how many entries and checkpoints were put right."""
        mended = 0
        names = {log for kind, log, _ in report.places if log is not None and kind in WHOLE}
        rows = [row for row in await self._node.read(logs.load_logs) if row.log in names and not row.branch]
        for row in rows:
            mended += await self._tried(self._from_parent(row))
            await self._node.write(lambda conn, _, row=row: _mend_range(conn, row))  # type: ignore[misc]
        for key in await self._node.read(lambda conn: _sparse_cases(conn, report)):
            mended += await self._tried(self._case(key))
        await self._node.store.own(self._node.ledger.recover)
        return mended

    async def _tried(self, work: Awaitable[int]) -> int:
        """Return what was mended; none when the parent is away, or what it has is no better."""
        try:
            return await work
        except (LinkError, PeerError) as exc:
            lines.failure("scrub.not_mended", exc)
            return 0

    async def _fetch(self, ask: messages.Fetch) -> messages.FetchReply:
        if self._ask is None:
            raise LinkError("there is no parent to ask", hint="Restore a backup: `tongban restore FILE`.")
        return await self._ask(ask)

    async def _from_parent(self, row: LogRow) -> int:
        """Compare a log with the parent's copy from its beginning, and take what differs and was signed."""
        mended, start = 0, 0
        while start < row.size:
            reply = await self._fetch(messages.Fetch("log", row.log, start))
            if not reply.sets:
                return mended
            for change in reply.sets:
                mended += await self._node.write(lambda conn, _, change=change: self._take_set(conn, row, change))  # type: ignore[misc]
            end = decode_checkpoint(reply.sets[-1].signed.checkpoint).size
            if end <= start:
                return mended
            start = end
        return mended

    def _take_set(self, conn: Connection, row: LogRow, change: ChangeSet) -> int:
        checkpoint = verify_checkpoint(change.signed, row.key, self._node.ledger.identity.network)
        if checkpoint.log != row.log:
            raise DecodeError("the parent gave another log")
        known = logs.known_of(conn, row.id, references(change.entries, checkpoint.start))
        entries = rebuild(checkpoint, change.entries, known)
        if merkle.root([one.leaf for one in entries]) != checkpoint.run:
            raise DecodeError("the parent's copy is not what was signed")
        mended = 0
        for index, entry in enumerate(entries, start=checkpoint.start):
            if index < row.size:
                mended += _put_right(conn, row, index, entry)
        mended += _mend_checkpoints(conn, row, change.signed, self._node.ledger.identity.network)
        faults.point("scrub.mended")
        return mended

    async def _case(self, key: bytes) -> int:
        """Fetch a case whole, and take the entries of it that differ here."""
        mended, start, more = 0, 0, True
        while more:
            reply = await self._fetch(messages.Fetch("case", key=key, start=start))
            mended += await self._node.write(lambda conn, _, reply=reply: self._take_bundles(conn, reply.bundles))  # type: ignore[misc]
            start += sum(len(bundle.entries) for bundle in reply.bundles)
            more = reply.more and bool(reply.bundles)
        return mended

    def _take_bundles(self, conn: Connection, bundles: tuple[Bundle, ...]) -> int:
        mended = 0
        for bundle in bundles:
            log = decode_checkpoint(bundle.signed.checkpoint).log
            row = logs.find_log(conn, log)
            if row is None:
                continue
            checkpoint = verify_bundle(bundle, row.key, self._node.ledger.identity.network)
            place = logs.save_checkpoint(conn, row.id, checkpoint, bundle.signed, whole=False)
            for one in bundle.entries:
                if one.index >= row.size:
                    mended += repair.put_right(conn, row.id, one.index, one.raw, one.body, (place, b"".join(one.path)))
        return mended


def _put_right(conn: Connection, row: LogRow, index: int, entry: Rebuilt) -> int:
    return repair.put_right(conn, row.id, index, entry.raw, entry.body)


def _mend_checkpoints(conn: Connection, row: LogRow, good: Signed, network: bytes) -> int:
    """Put a checkpoint that holds in the place of those of its span that do not."""
    checkpoint = decode_checkpoint(good.checkpoint)
    bad = [
        ident
        for ident, raw, signature in repair.checkpoint_rows(conn, row.id, checkpoint.start, checkpoint.size)
        if not _holds(Signed(raw, signature), row, network)
    ]
    if bad:
        repair.drop_checkpoints(conn, bad)
        logs.save_checkpoint(conn, row.id, checkpoint, good)
    return len(bad)


def _holds(signed: Signed, row: LogRow, network: bytes) -> bool:
    try:
        return verify_checkpoint(signed, row.key, network).log == row.log
    except PeerError:
        return False


def _mend_range(conn: Connection, before: LogRow) -> None:
    """Compute a log's range again, where a signed checkpoint, or one of the two stored forms, says the same."""
    row = logs.load_log(conn, before.id)
    compact = logs.range_at(conn, row, row.size)
    signed = logs.checkpoint_at(conn, row.id, row.size)
    stated = {row.root, row.range.root() if row.size else b""}
    if signed is not None:
        stated = {decode_checkpoint(signed.checkpoint).root}
    if compact.size == row.size and compact.root() in stated:
        logs.save_log(conn, row.id, compact)


def _sparse_cases(conn: Connection, report: Report) -> list[bytes]:
    """Return the keys of cases with a damaged entry that came in a bundle."""
    found = set()
    for kind, log, index in report.places:
        row = logs.find_log(conn, log) if log is not None and kind in {"path", "body", "checkpoint"} else None
        if row is None or (index is not None and index < row.size):
            continue
        found |= repair.keys_of_sparse(conn, row.id, index)
    return sorted(found)

