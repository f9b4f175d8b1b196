"""Entries that others signed: verified, then kept beside our own, through the same `Batch`.

Two ways in. A *change set* extends a log that is held whole: of our subtree, or our own tail coming back. A *bundle* brings
some entries of another's log with their paths. What is not authentic is refused and changes nothing; what differs from what
is held is kept as evidence; a body is kept only when it is the one that its header commits to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from node import faults
from node.ledger import Ledger
from node.projection import Batch, case_key
from node.rulebook import note_facts
from node.store import logs
from node.store.database import Connection
from node.store.logs import EntryRow, LogRow
from protocol import codec, limits, merkle
from protocol.chain import introduce
from protocol.errors import (
    DecodeError,
    ForkDetected,
    GapFound,
    LimitExceeded,
    ProofInvalid,
    SignatureInvalid,
    UnknownSigner,
)
from protocol.log import (
    LINK_BYTES,
    Bundle,
    BundleEntry,
    ChangeSet,
    Checkpoint,
    Known,
    Rebuilt,
    Signed,
    decode_checkpoint,
    hash_header,
    read_entry,
    rebuild,
    references,
    verify_bundle,
    verify_checkpoint,
)

HEADS_MAX: Final = 8  # of one log, shown and not reached yet; of more, neighbours become one


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a change set.

    row: the log as it was before. added: entries that were new.
    fork_at: the index at which it differs from what is held; -1 normally.
    """

    row: LogRow
    checkpoint: Checkpoint
    added: int
    entries: Sequence[Rebuilt] = ()
    fork_at: int = -1


@dataclass(frozen=True, slots=True)
class Sparse:
    """An entry that came in a bundle. id: of the entries table. has_body: its body was kept."""

    id: int
    row: LogRow
    index: int
    entry: Rebuilt
    has_body: bool


def public_key(ledger: Ledger, checkpoint: Checkpoint) -> bytes:
    """Return the key that must have signed: of all that the node has had, the one named; raises UnknownSigner."""
    found = ledger.rules.key_of(checkpoint.node, checkpoint.key)
    if found is None:
        known = ledger.rules.record(checkpoint.node) is not None
        missing = f"key {checkpoint.key.hex()} of node {checkpoint.node} is not known" if known else f"node {checkpoint.node} is not enrolled"
        raise UnknownSigner(f"{missing} here", node=checkpoint.node)
    return found


def _authentic(ledger: Ledger, signed: Signed) -> Checkpoint:
    stated = decode_checkpoint(signed.checkpoint)
    return verify_checkpoint(signed, public_key(ledger, stated), ledger.identity.network)


def _log_of(ledger: Ledger, conn: Connection, checkpoint: Checkpoint) -> LogRow:
    """Return the log of a verified checkpoint, begun if it is new: one key signs all of it.

    A new incarnation goes on in time where its author was last heard: an entry is not older because its log is new.
    """
    key = public_key(ledger, checkpoint)
    found = logs.find_log(conn, checkpoint.log)
    if found is None:
        made = logs.create_log(conn, checkpoint.log, key, suite=checkpoint.suite)
        heard = max((row.receipted for row in logs.logs_of(conn, [checkpoint.node])), default=0)
        logs.save_heard(conn, made.id, heard)
        return replace(made, receipted=heard)
    if found.key != key:
        raise SignatureInvalid(f"a log of {checkpoint.node} is signed by another key than the one with which it began")
    return found


# --- heads


def note_head(ledger: Ledger, conn: Connection, signed: Signed, received_at: int) -> None:
    """Take an author's signed head: what it commits to is as old as this moment, also if it arrives in many pieces.

    Claims of entries below the head count back to when the author was last heard before; so a long backlog keeps its
    times, and nothing can be slipped in behind a head that was shown. A head stands until the log has reached it, whatever
    longer ones are shown meanwhile; of very many some become one (`_thinned`).

    Args:
        received_at: this hub's clock, ms.
    """
    stated = decode_checkpoint(signed.checkpoint)
    if ledger.rules.record(stated.node) is not None and ledger.rules.key_of(stated.node, stated.key) is None:
        return  # of a key that the entries which come with it may make known: it dates nothing yet
    checkpoint = _authentic(ledger, signed)
    row = _log_of(ledger, conn, checkpoint)
    pending = _pending_heads(conn, row)
    if checkpoint.size > max(row.size, pending[-1].size if pending else 0):
        pending.append(_Head(checkpoint.size, checkpoint.root, row.receipted))
        packed = codec.encode([[one.size, one.root, one.window] for one in _thinned(pending)])
        logs.save_commitment(conn, row.id, checkpoint.size, packed)
    logs.save_heard(conn, row.id, received_at)


@dataclass(frozen=True, slots=True)
class _Head:
    """A head that its author showed. window: when the author was heard before, ms."""

    size: int
    root: bytes
    window: int


def _thinned(heads: Sequence[_Head]) -> list[_Head]:
    """Return heads within the bound: of one too many, that whose window lies closest to the next one's becomes part of that.

    The longer head commits to all that the shorter one did, and the later window of the two holds for both: so a claim may
    reach back no further than before, and nobody can backdate by showing many heads. An honest entry of the shorter head
    loses the moments between the two windows, the smallest such span; the first head, whose window a long time offline
    hangs on, always stands, and so does the newest.
    """
    if len(heads) <= HEADS_MAX:
        return list(heads)
    spans = [max(after.window - one.window, 0) for one, after in pairwise(heads[1:])]
    gone = 1 + spans.index(min(spans))
    merged = replace(heads[gone + 1], window=max(heads[gone].window, heads[gone + 1].window))
    return [*heads[:gone], merged, *heads[gone + 2 :]]


def _pending_heads(conn: Connection, row: LogRow) -> list[_Head]:
    """Return the heads that a log has not reached yet, by size."""
    if row.committed <= row.size:
        return []
    shown = codec.decode(logs.load_heads(conn, row.id) or codec.encode([]))
    found = [_Head(*one) for one in shown]  # type: ignore[misc, union-attr]
    return [one for one in found if one.size > row.size]


def heard_before(conn: Connection, row: LogRow, size: int) -> int:
    """Return from when on claims of entries below a size count: since the author was heard before it showed a head that holds them.

    Args:
        row: the log as it was before these entries.
    """
    return next((one.window for one in _pending_heads(conn, row) if one.size >= size), row.receipted)


def _check_commitment(conn: Connection, row: LogRow, leaves: Sequence[bytes]) -> None:
    """Check that a log passes through the heads that its author showed before; raises ForkDetected."""
    for head in _pending_heads(conn, row):
        if head.size <= row.size + len(leaves) and row.range.append_many(leaves[: head.size - row.size]).root() != head.root:
            raise ForkDetected(f"{row.log.node} showed another head than the log that it sends")


# --- change sets


def accept_set(ledger: Ledger, conn: Connection, batch: Batch, change: ChangeSet) -> Accepted:
    """Verify a change set and append what is new of it.

    Raises:
        UnknownSigner, SignatureInvalid, DecodeError, ProofInvalid, ForkDetected: not authentic; nothing was changed.
        GapFound: entries before it are missing here. LimitExceeded: it could not be passed on.
    """
    checkpoint = _authentic(ledger, change.signed)
    unit = _Unit(ledger, conn, batch, change, checkpoint)
    row = _log_of(ledger, conn, checkpoint)
    try:
        return _lead_on(unit, row)
    except (GapFound, ProofInvalid, DecodeError):
        found = _on_a_branch(unit, row)
        if found is None:
            raise
        return found


@dataclass(frozen=True, slots=True)
class _Unit:
    """A set that is being taken in, and into what."""

    ledger: Ledger
    conn: Connection
    batch: Batch
    change: ChangeSet
    checkpoint: Checkpoint


def _lead_on(unit: _Unit, row: LogRow) -> Accepted:
    checkpoint = unit.checkpoint
    if checkpoint.start > row.size:
        raise GapFound(f"the log of {checkpoint.node} is held up to {row.size} only", size_held=row.size, log=row.log)
    entries = _rebuilt(unit, row)
    differs = _first_difference(unit, row, entries)
    if differs is not None:
        return _on_a_branch(unit, row) or _keep_branch(unit, row, entries, differs)
    fresh = entries[row.size - checkpoint.start :]
    leaves = [one.leaf for one in fresh]
    compact = _continued(unit, row, leaves)
    if compact is None:
        raise ProofInvalid(f"the log of {checkpoint.node} does not lead on from what is held here")
    if fresh:
        _check_commitment(unit.conn, row, leaves)
        faults.point("ledger.verified")
    _take(unit, row, entries, compact)
    return Accepted(row, checkpoint, len(fresh), fresh)


def _on_a_branch(unit: _Unit, row: LogRow) -> Accepted | None:
    """Take a set into the rival branch that it continues or repeats, if any: a relay may hold that one for the log."""
    for rival in logs.branches(unit.conn, row.log):
        if not rival.size or not unit.checkpoint.start <= rival.size or unit.checkpoint.size <= rival.start:
            continue
        try:
            entries = _rebuilt(unit, rival)
        except (ProofInvalid, DecodeError):
            continue
        fresh = entries[rival.size - unit.checkpoint.start :]
        if _first_difference(unit, rival, entries) is not None:
            continue
        compact = _continued(unit, rival, [one.leaf for one in fresh])
        if compact is not None:
            _take(unit, rival, entries, compact)
            return Accepted(rival, unit.checkpoint, len(fresh), fresh, fork_at=rival.start)
    return None


def _continued(unit: _Unit, row: LogRow, leaves: Sequence[bytes]) -> merkle.CompactRange | None:
    """Return a history's range with a set's new leaves; None if it has not the root that the set's author signed.

    A set without anything new is compared too: whoever receipts it states its root.
    """
    if not leaves:
        return row.range if logs.root_at(unit.conn, row, unit.checkpoint.size) == unit.checkpoint.root else None
    compact = row.range.append_many(leaves)
    return compact if compact.root() == unit.checkpoint.root else None


def _take(unit: _Unit, row: LogRow, entries: Sequence[Rebuilt], compact: merkle.CompactRange) -> None:
    """Append what is new of a set that was compared with its history; what is held may gain bodies."""
    place = row.size - unit.checkpoint.start
    _gain_bodies(unit, row, entries[:place])
    if compact.size > row.size:
        _append(unit, row, entries[place:])
        logs.save_log(unit.conn, row.id, compact)
        logs.save_checkpoint(unit.conn, row.id, unit.checkpoint, unit.change.signed)


def _gain_bodies(unit: _Unit, row: LogRow, entries: Sequence[Rebuilt]) -> None:
    """Give entries that are held without their bodies those that came now, with the salts that prove them."""
    start = max(unit.checkpoint.start, row.start)
    came = {
        index: one for index, one in enumerate(entries, unit.checkpoint.start) if one.body is not None and _is_proven(one)
    }
    if not came:
        return
    for index in logs.without_bodies(unit.conn, row.id, start, unit.checkpoint.start + len(entries)):
        held = logs.entry_at(unit.conn, row.id, index)
        if held is not None and index in came:
            unit.batch.fill(held, row.id, came[index])


def _is_proven(one: Rebuilt) -> bool:
    """Tell whether an entry's body was compared with its hash, not by its length only."""
    return one.header is not None and (one.salt is not None or (one.header.case is None and one.header.type != "open"))


def _rebuilt(unit: _Unit, row: LogRow) -> list[Rebuilt]:
    """Give back a set's entries; they are those that the author signed, or it is refused."""
    checkpoint, change = unit.checkpoint, unit.change
    entries = rebuild(checkpoint, change.entries, _known_before(unit, row))
    if len(entries) != checkpoint.size - checkpoint.start:
        raise DecodeError("the change set does not hold as many entries as its checkpoint says")
    if sum(len(one.raw) + len(one.body or b"") for one in entries) > limits.SET_BYTES_MAX:
        raise LimitExceeded(f"a change set is over the bound of {limits.SET_BYTES_MAX} bytes")
    if merkle.root([one.leaf for one in entries]) != checkpoint.run:
        raise ProofInvalid("the entries of the change set are not those that its author signed")
    return entries


def _known_before(unit: _Unit, row: LogRow) -> dict[int, Known]:
    """Return what a set counts back to; for a branch what stands before it parts is the log's."""
    wanted = references(unit.change.entries, unit.checkpoint.start)
    trunk = logs.find_log(unit.conn, row.log) if row.branch else None
    if trunk is None:
        return unit.batch.known(row, wanted)
    homes = {trunk.id, *(one.id for one in logs.branches(unit.conn, row.log))}
    shared = unit.batch.known(trunk, [index for index in wanted if index < row.start], homes)
    return {**shared, **unit.batch.known(row, [index for index in wanted if index >= row.start], homes)}


def _append(unit: _Unit, row: LogRow, fresh: Sequence[Rebuilt]) -> None:
    """Append the entries behind `row.size`; those that came in bundles before only lose their paths."""
    pieces = {one.index: one for one in logs.entries_between(unit.conn, row.id, row.size, row.size + len(fresh))}
    held = {index: one for index, one in pieces.items() if one.raw == fresh[index - row.size].raw}
    for index in sorted(pieces.keys() - held.keys()):
        _set_aside(unit, row, pieces[index])
    places = [(index, one) for index, one in enumerate(fresh, row.size) if index not in held]
    _add_places(unit.ledger, unit.conn, unit.batch, row, places)
    for index, entry in held.items():
        unit.batch.fill(entry, row.id, fresh[index - row.size])
    logs.forget_paths(unit.conn, [entry.id for entry in held.values()])


def _add_places(
    ledger: Ledger, conn: Connection, batch: Batch, row: LogRow, places: Sequence[tuple[int, Rebuilt]]
) -> list[int]:
    """Append entries at their places and note the rules among them; returns their ids."""
    ids = batch.add_places(row, places)
    stated = [(i, one.leaf, one.header) for i, (_, one) in zip(ids, places, strict=True) if one.header is not None]
    note_facts(conn, ledger.rules, stated)
    return ids


def _set_aside(unit: _Unit, row: LogRow, piece: EntryRow) -> None:
    """Put a piece that came before the log, and differs from it, on a branch of its own: it is evidence, and bars nothing."""
    _keep_evidence(unit.conn, row, piece.index, unit.change.signed)
    branch = hash_header(piece.raw)[:LINK_BYTES]
    rival = logs.find_log(unit.conn, row.log, branch)
    if rival is None:
        rival = logs.create_log(unit.conn, row.log, row.key, branch=branch, suite=row.suite)
    if logs.entry_at(unit.conn, rival.id, piece.index) is not None:
        raise ForkDetected(f"the log of {row.log.node} differs from what came of it in bundles")
    unit.batch.move(piece, rival, read_entry(row.log.node, piece.raw, None))


def _first_difference(unit: _Unit, row: LogRow, entries: Sequence[Rebuilt]) -> int | None:
    """Return the index from which a set differs from a history held whole."""
    start, end = unit.checkpoint.start, min(row.size, unit.checkpoint.size)
    if start >= end:
        return None
    held = logs.history_leaves(unit.conn, row, start, end)
    for index, (mine, theirs) in enumerate(zip(held, entries, strict=False), start):
        if mine != theirs.leaf:
            return index
    return None


def _keep_branch(unit: _Unit, row: LogRow, entries: Sequence[Rebuilt], differs: int) -> Accepted:
    """Keep a second history of one log: both checkpoints as evidence, its entries as a log of their own."""
    conn, checkpoint = unit.conn, unit.checkpoint
    shared = logs.range_at(conn, row, differs)
    fresh = entries[differs - checkpoint.start :]
    compact = shared.append_many([one.leaf for one in fresh])
    if compact.root() != checkpoint.root:  # it parted earlier, or is a lie
        raise ProofInvalid(f"a second history of {checkpoint.node} does not lead on from what is held here")
    _keep_evidence(conn, row, differs, unit.change.signed)
    branch, rival = _branch_for(unit, row, entries, differs)
    if rival is None:
        rival = logs.create_log(conn, row.log, row.key, branch=branch, suite=row.suite, start=differs, compact=shared)
    else:
        rival = logs.begin_branch(conn, rival, differs, shared)
    _take(unit, rival, entries, compact)
    return Accepted(rival, checkpoint, len(fresh), fresh, fork_at=differs)


def _branch_for(unit: _Unit, row: LogRow, entries: Sequence[Rebuilt], differs: int) -> tuple[bytes, LogRow | None]:
    """Return the name of a new branch, and its row if pieces of it are here: the first leaf that no other branch has there."""
    index: int | None = differs
    while index is not None:
        branch = entries[index - unit.checkpoint.start].leaf[:LINK_BYTES]
        rival = logs.find_log(unit.conn, row.log, branch)
        if rival is None or not rival.size:
            return branch, rival
        index = _first_difference(unit, rival, entries)
    raise ProofInvalid(f"a second history of {row.log.node} is that of a branch, under another root")


def _keep_evidence(conn: Connection, row: LogRow, index: int, second: Signed) -> None:
    first = logs.checkpoint_of(conn, row.id, index)
    held = codec.encode([first.checkpoint, first.signature]) if first else b""
    logs.save_evidence(conn, row.id, index, held, codec.encode([second.checkpoint, second.signature]), row.receipted)


# --- bundles


def accept_bundles(ledger: Ledger, conn: Connection, batch: Batch, bundles: Sequence[Bundle]) -> list[Sparse]:
    """Verify bundles and keep their entries with their paths; what is held already may gain its body.

    Raises:
        UnknownSigner, SignatureInvalid, ProofInvalid, DecodeError: nothing of the unit is kept.
    """
    taken = [one for bundle in bundles for one in _accept_bundle(ledger, conn, batch, bundle)]
    _fill_bodies(batch, taken, bundles)
    return taken


def _accept_bundle(ledger: Ledger, conn: Connection, batch: Batch, bundle: Bundle) -> list[Sparse]:
    introduce(ledger.rules, bundle)
    public = public_key(ledger, decode_checkpoint(bundle.signed.checkpoint))
    checkpoint = verify_bundle(bundle, public, ledger.identity.network)
    row = _log_of(ledger, conn, checkpoint)
    known, fresh, rivals = _split(conn, row, bundle)
    taken = known + _keep_pieces(ledger, conn, batch, row, bundle, fresh)
    for entry in rivals:  # nothing that is authentic is dropped: each on the branch that has it, or one of its own
        rival = _rival_of(conn, row, entry)
        held = logs.entry_at(conn, rival.id, entry.index)
        taken += (
            _keep_pieces(ledger, conn, batch, rival, bundle, [entry]) if held is None else [_known(rival, held, entry)]
        )
    return taken


def _rival_of(conn: Connection, row: LogRow, entry: BundleEntry) -> LogRow:
    """Return the branch that holds an entry, or a new one that it names."""
    rivals = logs.branches(conn, row.log)
    for rival in rivals:
        held = logs.entry_at(conn, rival.id, entry.index)
        if held is not None and held.raw == entry.raw:
            return rival
    branch = hash_header(entry.raw)[:LINK_BYTES]
    return logs.find_log(conn, row.log, branch) or logs.create_log(conn, row.log, row.key, branch=branch, suite=row.suite)


def _keep_pieces(
    ledger: Ledger, conn: Connection, batch: Batch, row: LogRow, bundle: Bundle, fresh: Sequence[BundleEntry]
) -> list[Sparse]:
    if not fresh:
        return []
    checkpoint_id = logs.save_checkpoint(conn, row.id, decode_checkpoint(bundle.signed.checkpoint), bundle.signed, whole=False)
    places = [(entry.index, _without_unproven_body(row, entry)) for entry in fresh]
    ids = _add_places(ledger, conn, batch, row, places)
    logs.save_paths(conn, [(i, checkpoint_id, b"".join(entry.path)) for i, entry in zip(ids, fresh, strict=True)])
    return [Sparse(i, row, index, one, one.body is not None) for i, (index, one) in zip(ids, places, strict=True)]


def _split(
    conn: Connection, row: LogRow, bundle: Bundle
) -> tuple[list[Sparse], list[BundleEntry], list[BundleEntry]]:
    """Separate a bundle's entries: held already, new, and rivals of what is held, which are evidence."""
    known, fresh, rivals = [], [], []
    for entry in bundle.entries:
        held = logs.entry_at(conn, row.id, entry.index)
        if held is None:
            fresh.append(entry)
        elif held.raw != entry.raw:
            _keep_evidence(conn, row, entry.index, bundle.signed)
            rivals.append(entry)
        else:
            known.append(_known(row, held, entry))
    return known, fresh, rivals


def _known(row: LogRow, held: EntryRow, entry: BundleEntry) -> Sparse:
    body = entry.body if held.body is None else held.body
    return Sparse(held.id, row, entry.index, read_entry(row.log.node, entry.raw, body), held.body is not None)


def _without_unproven_body(row: LogRow, entry: BundleEntry) -> Rebuilt:
    """Read a bundle's entry; inside a case its body waits until the case's salt proves it (`_fill_bodies`)."""
    one = read_entry(row.log.node, entry.raw, entry.body)
    if one.header is not None and one.header.case is not None:
        return Rebuilt(one.raw, None, one.leaf, one.header, None)
    return one


def _fill_bodies(batch: Batch, taken: Sequence[Sparse], bundles: Iterable[Bundle]) -> None:
    """Add bodies whose cases' salts are known by now; the cases of those that are left out are to be fetched again."""
    came = {entry.raw: entry.body for bundle in bundles for entry in bundle.entries if entry.body is not None}
    wanted = [one for one in taken if not one.has_body and one.entry.header is not None and one.entry.header.body is not None]
    openings = [one for one in wanted if one.entry.header is not None and one.entry.header.case is None]
    filled = {one.id for one in openings if _fill_body(batch, one, came.get(one.entry.raw), {})}  # their salts prove the others
    salts = batch.salts({key for one in wanted if (key := one.entry.header.case) is not None})  # type: ignore[union-attr]
    filled |= {one.id for one in wanted if one.id not in filled and _fill_body(batch, one, came.get(one.entry.raw), salts)}
    batch.bodiless |= {key for one in wanted if one.id not in filled and (key := case_key(one.entry)) is not None}


def _fill_body(batch: Batch, one: Sparse, body: bytes | None, salts: Mapping[bytes, bytes]) -> bool:
    """Give an entry its body if it is proven; tells whether it was."""
    header = one.entry.header
    if header is None or (header.case is not None and header.case not in salts):
        return False
    read = read_entry(one.row.log.node, one.entry.raw, body, salts)
    if read.body is not None:
        batch.fill(EntryRow(one.id, one.row.id, one.index, None, one.entry.raw, None), one.row.id, read)
    return read.body is not None
