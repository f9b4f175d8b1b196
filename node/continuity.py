"""When a store is not what its node last was: restored from a backup, or recovered.

The parent shows what it holds of our own log. If ours is a beginning of that, the tail is fetched and life goes on. If we
have written since, the logs have parted: then a new incarnation is opened, which continues the common part and restates,
byte for byte, what nobody above has. Case keys, links and printed receipts stay true, and nothing is dropped.

A hub learns the same from its children (`hub.restoring`): what they hold of its own log comes back in pieces, without the
entries that none of them ever got. So a new incarnation is opened at once, and what came back is restated there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec

from node import faults
from node import logs as lines
from node.ledger import Changes, Draft, Identity, Ledger
from node.node import PROGRAM
from node.projection import Batch
from node.store import logs
from node.store.database import Connection
from node.store.logs import EntryRow, LogRow
from protocol import limits, merkle
from protocol.errors import ProofInvalid
from protocol.log import (
    FORMAT,
    ChangeSet,
    Checkpoint,
    Header,
    LogId,
    Signed,
    decode_checkpoint,
    read_entry,
    rebuild,
    references,
    sign_checkpoint,
    verify_checkpoint,
)

RESTORED: Final = "restored"  # in meta: [at, size], from `tongban restore` on until a new incarnation is open; at: ms
RESTATED_AT_ONCE: Final = 2_000  # entries
RESTATED: Final = "restated"  # in meta: (log id, index) of what children gave back and was stated again
SEEN: Final = "seen"  # in meta: (incarnation, size) of own logs that went further than this store, as children showed


def common_size(ledger: Ledger, conn: Connection, theirs: Sequence[ChangeSet], start: int) -> int:
    """Return up to where our own log and the parent's copy of it are one.

    Args:
        theirs: the parent's change sets of our log, from `start` on. start: a size at which both are known to agree.

    Raises:
        SignatureInvalid, ProofInvalid, DecodeError: it is no copy of our log.
    """
    row = ledger.own_row(conn)
    size = start
    for change in theirs:
        checkpoint = verify_checkpoint(change.signed, row.key, ledger.identity.network)
        if checkpoint.start >= row.size:
            break  # theirs goes on where ours ends
        known = logs.known_of(conn, row.id, references(change.entries, checkpoint.start))
        entries = rebuild(checkpoint, change.entries, known)
        if checkpoint.log != row.log or merkle.root([one.leaf for one in entries]) != checkpoint.run:
            raise ProofInvalid("the parent's copy of our own log is not what we signed")
        held = logs.leaves_between(conn, row.id, checkpoint.start, min(row.size, checkpoint.size))
        for offset, (mine, entry) in enumerate(zip(held, entries, strict=False)):
            if mine != entry.leaf:
                return checkpoint.start + offset
        size = max(size, checkpoint.start + len(held))
    return size


def reincarnate(ledger: Ledger, conn: Connection, changes: Changes, common: int, incarnation: bytes, now_ms: int) -> None:
    """Go on in a new incarnation from `common` on: one transaction, in which entries only change their place.

    Args:
        incarnation: 16 new random bytes.
    """
    logs.drop_meta(conn, RESTORED)  # this is what the mark asks for; the opening would do it again
    old = ledger.own_row(conn)
    shared = logs.root_at(conn, old, common)
    identity = ledger.identity
    ledger.become(Identity(identity.node, incarnation, identity.key, identity.network))
    logs.set_meta(conn, "incarnation", incarnation)
    logs.create_log(conn, ledger.identity.log, identity.key.public, suite=identity.key.suite)
    record = ledger.rules.record(identity.node)
    fields = {
        "enrol": record.enrolment if record else None,
        "continues": [old.log.incarnation, common, shared] if common else None,
        "program": PROGRAM,
    }
    ledger.append(conn, [Draft("log.open", now_ms, fields)], changes)
    moved = logs.cases_behind(conn, old.id, common)
    _move(conn, old, ledger.own_row(conn), common)
    ledger.tell_again(conn, changes, moved)
    _cover(ledger, conn, old, common)
    faults.point("continuity.restated")
    changes.logs |= {old.id, ledger.own_row(conn).id}
    lines.event("log.reincarnated", lines.WARNING, node=identity.node, count=old.size - common)


def _cover(ledger: Ledger, conn: Connection, old: LogRow, common: int) -> None:
    """Sign the end of the common part anew, where its checkpoint went on into what has moved: nothing may stand uncovered."""
    covered = max((one.size for one in map(_said, logs.checkpoints_from(conn, old.id, 0, -1))), default=0)
    if covered >= common:
        return
    for start in range(covered, common, limits.SET_ENTRIES):
        end = min(common, start + limits.SET_ENTRIES)
        leaves = logs.leaves_between(conn, old.id, start, end)
        checkpoint = Checkpoint(
            FORMAT, old.suite, old.log.node, old.log.incarnation, start, end, logs.root_at(conn, old, end), merkle.root(leaves), ledger.identity.key.id
        )
        signed = sign_checkpoint(checkpoint, ledger.identity.key, ledger.identity.network)
        logs.save_checkpoint(conn, old.id, checkpoint, signed)


def _said(signed: Signed) -> Checkpoint:
    return decode_checkpoint(signed.checkpoint)


def _move(conn: Connection, old: LogRow, new: LogRow, common: int) -> None:
    """Give our entries from `common` on their new place; the old log ends there, until the parent's tail comes."""
    leaves = logs.leaves_between(conn, old.id, common, old.size)
    conn.execute("DELETE FROM checkpoints WHERE log = ? AND size > ?", (old.id, common))
    conn.execute("DELETE FROM receipts WHERE log = ? AND size > ?", (old.id, common))
    conn.execute(  # a case's opening is the first of its entries in the log in which it stands
        "UPDATE cases SET open_log = ? WHERE open_log = ? AND (SELECT min(idx) FROM entries e WHERE e.case_id = cases.id AND e.log = ?) >= ?",
        (new.id, old.id, old.id, common),
    )
    conn.execute(
        "UPDATE entries SET log = ?, idx = idx - ? + ? WHERE log = ? AND idx >= ?",
        (new.id, common, new.size, old.id, common),
    )
    logs.save_log(conn, new.id, new.range.append_many(leaves))
    logs.save_log(conn, old.id, logs.range_at(conn, old, common))
    logs.save_ack(conn, old.id, common)


# --- what children give back of our own log


def proven_size(ledger: Ledger, conn: Connection, proofs: Sequence[Signed]) -> int:
    """Return up to where our own log is surely what it was: what we signed then agrees with it, or the parent receipted it.

    Args:
        proofs: checkpoints that others show, some of them perhaps of our own log.
    """
    row = ledger.own_row(conn)
    sizes = [size for hub, size, _ in logs.receipts_of(conn, row.id) if hub != row.log.node and size <= row.size]
    for signed in proofs:
        one = decode_checkpoint(signed.checkpoint)
        if one.log == row.log and one.size <= row.size and logs.root_at(conn, row, one.size) == one.root:
            verify_checkpoint(signed, row.key, ledger.identity.network)
            sizes.append(one.size)
    return max(sizes, default=row.size)


def restate(ledger: Ledger, conn: Connection, changes: Changes) -> int:
    """State again, byte for byte, what came back of our older incarnations and the parent has not; once each, a part at a time.

    Called when the parent's copy of them was compared, and fetched as far as it goes. At the root nobody needs it.

    Returns:
        How many entries were stated again.
    """
    rows = _given_back(ledger, conn)[:RESTATED_AT_ONCE]
    if not rows:
        return 0
    ledger.save_seals(conn)
    own = ledger.own_row(conn)
    batch = Batch(conn, ledger.rules, ledger.judge)
    salts = batch.salts({key for row in rows if (header := _header(own.log.node, row)) is not None and (key := header.case) is not None})
    again = [read_entry(own.log.node, row.raw, row.body, salts) for row in rows]
    batch.add(own, own.size, again)
    logs.save_log(conn, own.id, own.range.append_many([one.leaf for one in again]))
    ledger.finish(conn, batch, changes)
    ledger.forget_end()
    changes.logs.add(own.id)
    logs.set_meta(conn, RESTATED, msgspec.msgpack.encode(sorted(_restated(conn) | {(row.log, row.index) for row in rows})))
    faults.point("continuity.returned")
    lines.event("log.restated", lines.WARNING, node=own.log.node, count=len(rows))
    return len(rows)


def is_to_restate(ledger: Ledger, conn: Connection) -> bool:
    """Tell whether something came back that `restate` would state again."""
    return bool(_given_back(ledger, conn))


def _given_back(ledger: Ledger, conn: Connection) -> list[EntryRow]:
    """Return the pieces of our older incarnations beyond what is held of them whole, or beside it, not stated again yet."""
    done = _restated(conn)
    own = ledger.identity.log
    older = [row for row in logs.logs_of(conn, [own.node]) if row.log != own]
    found = [one for row in older for one in logs.pieces_beyond(conn, row.id, 0 if row.branch else row.size)]
    wanted = [one for one in found if (one.log, one.index) not in done]
    return [one for one in wanted if (header := _header(own.node, one)) is None or header.type != "log.open"]


def _header(node: str, row: EntryRow) -> Header | None:
    return read_entry(node, row.raw, None).header


def _restated(conn: Connection) -> set[tuple[int, int]]:
    packed = logs.get_meta(conn, RESTATED)
    return set() if packed is None else set(msgspec.msgpack.decode(packed, type=list[tuple[int, int]]))


@dataclass(frozen=True, slots=True)
class Loss:
    """Entries of an older incarnation of ours that children have seen, and that no copy has given back yet.

    spans: [start, end) of indexes.
    """

    log: LogId
    spans: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many entries."""
        return sum(end - start for start, end in self.spans)


def note_seen(conn: Connection, log: LogId, size: int) -> None:
    """Remember how far one of our older incarnations went, as its own checkpoint says that a child showed."""
    seen = dict(_seen(conn))
    if size > seen.get(log.incarnation, 0):
        seen[log.incarnation] = size
        logs.set_meta(conn, SEEN, msgspec.msgpack.encode(sorted(seen.items())))


def _seen(conn: Connection) -> list[tuple[bytes, int]]:
    packed = logs.get_meta(conn, SEEN)
    return [] if packed is None else msgspec.msgpack.decode(packed, type=list[tuple[bytes, int]])


def losses(ledger: Ledger, conn: Connection) -> list[Loss]:
    """Return what is known to be lost of our own log, where this store was put back from an old copy or began anew."""
    found = []
    for incarnation, size in _seen(conn):
        log = LogId(ledger.identity.node, incarnation)
        row = logs.find_log(conn, log)
        start = row.size if row is not None else 0
        here = logs.indexes_beyond(conn, row.id, start) if row is not None else []
        bounds = [start - 1, *(index for index in here if index < size), size]
        spans = tuple((low + 1, high) for low, high in pairwise(bounds) if high > low + 1)
        if spans:
            found.append(Loss(log, spans))
    return found
