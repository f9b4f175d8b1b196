"""The node's own log: append what we state, seal what was read back, show what is held as bundles and change sets.

Every function with a connection is part of a unit of work (see `node.store.database`). Own entries and received ones
(`node.acceptance`) go through the same `Batch` into cases, search and feeds, in one transaction.

    placed = ledger.append(conn, [draft])            # own entries, unsigned yet
    signed = ledger.seal(conn)                       # after the commit: re-read, recompute the root, sign
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from node import faults
from node.mending import note_bodiless
from node.projection import Batch, Touched
from node.rulebook import load_rules, note_facts
from node.store import cases, logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol import keys, limits, merkle
from protocol.authority import RulesJudge
from protocol.errors import StoreDamaged, StoreError
from protocol.log import (
    FORMAT,
    SCHEME_PLAIN,
    Bundle,
    BundleEntry,
    ChangeSet,
    Checkpoint,
    Entry,
    Header,
    LogId,
    Rebuilt,
    Signed,
    decode_body,
    decode_header,
    encode_body,
    encode_header,
    hash_body,
    hash_header,
    shorten,
    sign_checkpoint,
)
from protocol.register import Rules

PEAK_BYTES: Final = 32
REFOLDED: Final = 500  # cases at once
SET_BYTES: Final = 256 << 10  # what we seal at once, of headers and bodies, but for a single entry


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is: its id, its log's incarnation, its signing key and its network."""

    node: str
    incarnation: bytes
    key: keys.SigningKey
    network: bytes

    @property
    def log(self) -> LogId:
        """The node's own log."""
        return LogId(self.node, self.incarnation)


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry about to be stated.

    claimed_at: ms since the epoch. salt: the case's; drawn by the caller for an opening, empty outside cases.
    """

    type: str
    claimed_at: int
    fields: Mapping[str, Any]
    body: Mapping[str, Any] | None = None
    officer: str | None = None
    window: str | None = None
    case: bytes | None = None
    epoch: int | None = None
    prev: bytes | None = None
    rests: tuple[bytes, ...] = ()
    saw: tuple[bytes, ...] = ()
    salt: bytes = b""


@dataclass(frozen=True, slots=True)
class Placed:
    """An own entry after it was appended. id: of the entries table."""

    id: int
    index: int
    leaf: bytes
    header: Header
    raw: bytes


@dataclass(slots=True)
class Changes:
    """What a unit of work changed, for those who wait: logs that grew, cases that moved, rules that arrived."""

    logs: set[int] = field(default_factory=set)
    cases: list[Touched] = field(default_factory=list)
    rules: bool = False
    receipts: bool = False  # from hubs further up
    receipted: dict[int, str] = field(default_factory=dict)  # … of these logs: id → author
    fed: set[str] = field(default_factory=set)
    anew: bool = False  # the parent is to be met anew: somebody chose what it has to know

    def merge(self, other: Changes) -> None:
        """Add another unit's changes."""
        self.logs |= other.logs
        self.cases += other.cases
        self.rules |= other.rules
        self.receipts |= other.receipts
        self.receipted |= other.receipted
        self.fed |= other.fed
        self.anew |= other.anew


@dataclass(frozen=True, slots=True)
class Mark:
    """What a ledger holds in memory at the beginning of a unit. sealed: range and unsaved heads. number, enrolled: of its rules."""

    identity: Identity
    sealed: tuple[merkle.CompactRange, tuple[tuple[Checkpoint, Signed], ...]] | None
    number: int
    enrolled: int


@dataclass(slots=True)
class _Sealed:
    """Up to where the own log is signed. Owned by the writer's thread."""

    range: merkle.CompactRange
    unsaved: list[tuple[Checkpoint, Signed]] = field(default_factory=list)


FeedHook = Callable[[Connection, Sequence[Touched], Changes], None]
Renew = Callable[["Ledger", Connection, Changes], None]


class Ledger:
    """One node's log, its rules, and what it shows of others'. One owner: the store's writer."""

    def __init__(self, identity: Identity, rules: Rules) -> None:
        self.identity = identity
        self.keys = {identity.key.public: identity.key}  # this one, and older or drafted ones that are still here
        self.rules = rules
        self.judge = RulesJudge(rules)
        self.feed: FeedHook | None = None  # a hub sets it: who is to be told
        self.is_unsure: Callable[[Connection], bool] | None = None  # a hub sets it: whether the root waits with registers
        self.renew: Renew | None = None  # what a restored store does before it states anything (`node.restore`)
        self._sealed: _Sealed | None = None
        self._count = 0
        self._claimed_high = -1
        self.received_at: int | None = None  # at a hub: the receive time stated last, ms; None: to be looked up

    def become(self, identity: Identity) -> None:
        """Go on as another incarnation; what is remembered of the old log's end is forgotten."""
        self.identity = identity
        self.forget_end()

    def forget_end(self) -> None:
        """Forget what is remembered of the own log's end: its tail came back from the parent, or a unit failed."""
        self._sealed = None
        self._count, self._claimed_high, self.received_at = 0, -1, None

    def speaking(self) -> list[keys.SigningKey]:
        """Return the keys to greet a hub with: the present one, then those before it, in case it has not heard of it yet."""
        had = [record.key for record in reversed(self.rules.records(self.identity.node))]
        older = [self.keys[public] for public in had if public in self.keys and public != self.identity.key.public]
        return [self.identity.key, *older]

    # --- own entries

    def own_row(self, conn: Connection) -> LogRow:
        """Return the own log."""
        row = logs.find_log(conn, self.identity.log)
        if row is None:
            raise StoreError("the node's own log is missing", hint="Restore the folder from its backup.", data_safe=False)
        return row

    def append(self, conn: Connection, drafts: Sequence[Draft], changes: Changes) -> list[Placed]:
        """State entries in the own log: durable with the surrounding commit, signed afterwards by `seal`.

        Raises:
            LimitExceeded: a header or body is over its bound.
        """
        if self.renew is not None:
            self.renew(self, conn, changes)
        row = self.own_row(conn)
        self._save_checkpoints(conn, row)
        rebuilt = [self._state(conn, row, draft) for draft in drafts]
        batch = Batch(conn, self.rules, self.judge)
        ids = self._extend(conn, batch, row, rebuilt)
        faults.point("ledger.appended")
        self.finish(conn, batch, changes)
        changes.logs.add(row.id)
        placed = [
            Placed(entry_id, row.size + offset, one.leaf, one.header, one.raw)
            for offset, (entry_id, one) in enumerate(zip(ids, rebuilt, strict=True))
            if one.header is not None
        ]
        note_facts(conn, self.rules, [(one.id, one.leaf, one.header) for one in placed])
        return placed

    def _state(self, conn: Connection, row: LogRow, draft: Draft) -> Rebuilt:
        body = encode_body(draft.body) if draft.body is not None else None
        reference = (SCHEME_PLAIN, len(body), hash_body(draft.salt, SCHEME_PLAIN, body)) if body is not None else None
        header = Header(
            FORMAT,
            row.suite,
            self.identity.node,
            draft.type,
            draft.officer,
            draft.window,
            draft.claimed_at,
            self.rules.basis if self.rules.registers else None,
            self._next_count(conn, row, draft.claimed_at),
            reference,
            draft.case,
            draft.epoch,
            draft.prev,
            draft.rests,
            draft.saw,
            dict(draft.fields),
        )
        raw = encode_header(header)
        decode_header(raw)  # bounds and types hold for our own entries too
        return Rebuilt(raw, body, hash_header(raw), header, draft.salt or None)

    def _next_count(self, conn: Connection, row: LogRow, claimed_at: int) -> int:
        """Return a counter that makes two facts of a node differ: it rises whenever the claimed time did not."""
        if self._claimed_high < 0:
            last = logs.entry_at(conn, row.id, row.size - 1)
            header = decode_header(last.raw) if last else None
            self._count = header.count if header else 0
            self._claimed_high = limits.TIME_MS_MAX if header else 0
        if claimed_at > self._claimed_high:
            self._claimed_high = claimed_at
        else:
            self._count += 1
        return self._count

    def _extend(self, conn: Connection, batch: Batch, row: LogRow, entries: Sequence[Rebuilt]) -> list[int]:
        compact = row.range.append_many([one.leaf for one in entries])
        ids = batch.add(row, row.size, entries)
        logs.save_log(conn, row.id, compact)
        return ids

    def finish(self, conn: Connection, batch: Batch, changes: Changes) -> None:
        """Fold what the batch touched, write it, and mark whom to tell."""
        touched = batch.finish()
        if batch.bodiless:
            note_bodiless(conn, batch.bodiless)
        changes.cases += touched
        if self.feed is not None:
            self.feed(conn, touched, changes)

    def fold_again(self, conn: Connection, changes: Changes, upset: Iterable[str] = ()) -> None:
        """Fold what waited, since new rules may be what it waited for; and cases in which the order of entries may have changed.

        Args:
            upset: nodes that were admitted in a new incarnation, or whose key was revoked or replaced.
        """
        ids = cases.waiting_ids(conn)
        for node in sorted(set(upset)):
            cut = any(one.node == node for one in self.rules.revocations) or any(one == node for one, _ in self.rules.closings)
            ids += cases.ids_of_author(conn, node, simple_too=cut)
        ids = sorted(set(ids))
        for begin in range(0, len(ids), REFOLDED):
            batch = Batch(conn, self.rules, self.judge)
            touched = batch.refold(cases.load_by_ids(conn, ids[begin : begin + REFOLDED]))
            changes.cases += touched
            if self.feed is not None:
                self.feed(conn, touched, changes)

    def tell_again(self, conn: Connection, changes: Changes, case_ids: Sequence[int]) -> None:
        """Let the children have cases whole again: entries of ours stand at another place than the one they were told."""
        for begin in range(0, len(case_ids) if self.feed is not None else 0, REFOLDED):
            batch = Batch(conn, self.rules, self.judge)
            touched = batch.refold(cases.load_by_ids(conn, case_ids[begin : begin + REFOLDED]))
            for one in touched:
                one.parties_before = ()
            if self.feed is not None:
                self.feed(conn, touched, changes)

    # --- sealing: sign only what was re-read

    def seal(self, conn: Connection) -> list[Signed]:
        """Sign what was appended since the last seal, from the bytes on disk.

        Called outside a transaction, after the commit. A checkpoint lost before it is stored is signed again, equal.

        Raises:
            StoreError: what is on disk is not what was appended; nothing is signed.
        """
        row = self.own_row(conn)
        sealed = self._sealed or self._resume_seal(conn, row)
        signed = []
        for start, run, after in self._unsigned(conn, row, sealed.range):
            checkpoint = Checkpoint(
                FORMAT, row.suite, row.log.node, row.log.incarnation, start, after.size, after.root(), run, self.identity.key.id
            )
            signed.append(sign_checkpoint(checkpoint, self.identity.key, self.identity.network))
            sealed.unsaved.append((checkpoint, signed[-1]))
            sealed.range = after
        return signed

    def _unsigned(self, conn: Connection, row: LogRow, compact: merkle.CompactRange) -> list[tuple[int, bytes, merkle.CompactRange]]:
        """Return (start, run root, range after it) of all runs to be signed, once the last gives the root that was committed."""
        runs: list[tuple[int, bytes, merkle.CompactRange]] = []
        while compact.size < row.size:
            start = compact.size
            end = logs.run_end(conn, row.id, start, min(row.size, start + limits.SET_ENTRIES), SET_BYTES)
            leaves = logs.leaves_between(conn, row.id, start, end)
            compact = compact.append_many(leaves)
            runs.append((start, merkle.root(leaves), compact))
            if len(leaves) != end - start:
                break
        if runs and (compact.size != row.size or compact.root() != row.root):
            self.forget_end()  # what is wrong may be mended meanwhile: then all is read again
            raise StoreDamaged("the log on disk is not what was written; nothing was signed", hint="Run `tongban scrub`.")
        return runs

    def _resume_seal(self, conn: Connection, row: LogRow) -> _Sealed:
        """Find how far the stored checkpoints reach, and the range there."""
        found = conn.execute("SELECT max(size) FROM checkpoints WHERE log = ? AND whole", (row.id,)).fetchone()
        size = min(found[0] or 0, row.size)
        compact = merkle.CompactRange(0, ())
        for start in range(0, size, 10_000):
            compact = compact.append_many(logs.leaves_between(conn, row.id, start, min(size, start + 10_000)))
        self._sealed = _Sealed(compact)
        return self._sealed

    def _save_checkpoints(self, conn: Connection, row: LogRow) -> None:
        """Store checkpoints signed since the last transaction; losing them costs a second signature."""
        if self._sealed is None:
            return
        for checkpoint, signed in self._sealed.unsaved:
            logs.save_checkpoint(conn, row.id, checkpoint, signed)
        self._sealed.unsaved.clear()

    # --- what a unit changes in memory

    def mark(self) -> Mark:
        """Return what is in memory before a unit, for `go_back` when it fails."""
        sealed = (self._sealed.range, tuple(self._sealed.unsaved)) if self._sealed is not None else None
        return Mark(self.identity, sealed, self.rules.number, self.rules.enrolled)

    def go_back(self, mark: Mark) -> bool:
        """Undo in memory what a unit did that was rolled back; tells whether the rules must be loaded again.

        A checkpoint whose transaction failed waits for the next one: a lost one would leave entries without cover. What the unit
        itself sealed is sealed again, for the same reason.
        """
        if self.identity != mark.identity:
            self.become(mark.identity)
        self._sealed = _Sealed(mark.sealed[0], list(mark.sealed[1])) if mark.sealed is not None else None
        return (self.rules.number, self.rules.enrolled) != (mark.number, mark.enrolled)

    def save_seals(self, conn: Connection) -> None:
        """Store what `seal` signed, in a transaction of its own."""
        self._save_checkpoints(conn, self.own_row(conn))

    def newest_seal(self, conn: Connection) -> Signed | None:
        """Return the newest signed head of the own log; `seal` comes first."""
        if self._sealed is not None and self._sealed.unsaved:
            return self._sealed.unsaved[-1][1]
        row = self.own_row(conn)
        return logs.checkpoint_at(conn, row.id, row.size)

    def bundle_own(self, conn: Connection, index: int) -> Bundle:
        """Return one own entry as a bundle, sealing first if needed. For receipts: they travel alone in their run."""
        self.seal(conn)
        row = self.own_row(conn)
        found = self._covering(conn, row.id, index)
        return bundle_of(conn, row.id, found[0], found[1], [index])

    def _covering(self, conn: Connection, log_id: int, index: int) -> tuple[Checkpoint, Signed]:
        """Return a checkpoint whose run holds an entry; own ones may not be stored yet."""
        found = logs.checkpoint_covering(conn, log_id, index)
        if found is not None:
            return found[1], found[2]
        if log_id == self.own_row(conn).id:
            self.seal(conn)
            for checkpoint, signed in self._sealed.unsaved if self._sealed else ():
                if checkpoint.start <= index < checkpoint.size:
                    return checkpoint, signed
        raise StoreError(f"entry {index} of a log has no checkpoint")

    def checkpoints_from(self, conn: Connection, row: LogRow, size: int) -> list[Signed]:
        """Return the checkpoints that lead on from a size, own ones not stored yet included; `seal` comes first."""
        found = logs.checkpoints_from(conn, row.id, size)
        if self._sealed is not None and row.log == self.identity.log and not row.branch:
            found += [signed for _, signed in self._sealed.unsaved]
        return logs.leading_on(found, size)

    def bundles(
        self, conn: Connection, entries: Sequence[tuple[int, int, int]], *, with_bodies: bool = True
    ) -> list[Bundle]:
        """Return stored entries as bundles, one a checkpoint. Runs on the writer's connection, as `seal` does.

        Args:
            entries: (entry id, log id, index).
        """
        runs: dict[bytes, tuple[int, Checkpoint, Signed, list[int]]] = {}
        relayed: dict[int, list[tuple[int, int, bytes]]] = {}
        for entry_id, log_id, index in entries:
            path = conn.execute("SELECT checkpoint, path FROM paths WHERE entry = ?", (entry_id,)).fetchone()
            if path is not None:
                relayed.setdefault(path[0], []).append((entry_id, index, path[1]))
                continue
            checkpoint, signed = self._covering(conn, log_id, index)
            runs.setdefault(signed.signature, (log_id, checkpoint, signed, []))[3].append(index)
        found = [bundle_of(conn, log_id, point, signed, members) for log_id, point, signed, members in runs.values()]
        found += [_relayed(conn, checkpoint_id, members) for checkpoint_id, members in relayed.items()]
        return found if with_bodies else [_without_bodies(bundle) for bundle in found]

    def reload(self, conn: Connection) -> None:
        """Fold the rules again from the store, after a unit that failed."""
        self.rules = load_rules(conn)
        self.judge = RulesJudge(self.rules)

    def recover(self, conn: Connection) -> None:
        """Take all that is in memory from the store again; what may have been lost is signed again, equal."""
        incarnation = logs.get_meta(conn, "incarnation") or self.identity.incarnation
        row = logs.find_log(conn, LogId(self.identity.node, incarnation))
        key = self.keys.get(row.key, self.identity.key) if row is not None else self.identity.key
        self.become(replace(self.identity, incarnation=incarnation, key=key))
        self.reload(conn)


def bundle_of(conn: Connection, log_id: int, checkpoint: Checkpoint, signed: Signed, indexes: Sequence[int]) -> Bundle:
    """Make a bundle from a run that is held whole."""
    leaves = logs.history_leaves(conn, logs.load_log(conn, log_id), checkpoint.start, checkpoint.size)
    paths = merkle.paths(leaves, [index - checkpoint.start for index in indexes])
    entries = []
    for index, path in zip(indexes, paths, strict=True):
        row = logs.entry_at(conn, log_id, index)
        if row is None:
            raise StoreError("an entry of a sealed run is missing", data_safe=False)
        entries.append(BundleEntry(index, row.raw, row.body, tuple(path)))
    return Bundle(signed, tuple(entries))


def _relayed(conn: Connection, checkpoint_id: int, members: Sequence[tuple[int, int, bytes]]) -> Bundle:
    raw, signature = conn.execute("SELECT raw, signature FROM checkpoints WHERE id = ?", (checkpoint_id,)).fetchone()
    entries = []
    for entry_id, index, path in members:
        row = logs.entry_by_id(conn, entry_id)
        hashes = tuple(path[begin : begin + PEAK_BYTES] for begin in range(0, len(path), PEAK_BYTES))
        entries.append(BundleEntry(index, row.raw, row.body, hashes))
    return Bundle(Signed(raw, signature), tuple(entries))


def _without_bodies(bundle: Bundle) -> Bundle:
    return Bundle(bundle.signed, tuple(BundleEntry(one.index, one.raw, None, one.path) for one in bundle.entries))


def change_set(conn: Connection, row: LogRow, signed: Signed, checkpoint: Checkpoint) -> ChangeSet:
    """Return a sealed run as it travels."""
    read = logs.stored_run if checkpoint.start >= row.start else logs.forked_run
    stored = read(conn, row.id, checkpoint.start, checkpoint.size)
    return ChangeSet(signed, shorten(row.log.node, row.suite, stored))


def read_body(entry: Entry) -> dict[str, Any] | None:
    """Open a body: the one function that does, and may answer None, "not for this node"."""
    return decode_body(entry.body) if entry.body is not None else None
