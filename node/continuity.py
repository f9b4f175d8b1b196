"""When a store is not what its node last was: restored from a backup, or recovered.

The parent shows what it holds of our own log. If ours is a beginning of that, the tail is fetched and life goes on. If we
have written since, the logs have parted: then a new incarnation is opened, which continues the common part and restates,
byte for byte, what nobody above has. Case keys, links and printed receipts stay true, and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from node import faults
from node import logs as lines
from node.ledger import Changes, Draft, Identity, Ledger
from node.node import PROGRAM
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol import limits, merkle
from protocol.errors import ProofInvalid
from protocol.log import (
    FORMAT,
    ChangeSet,
    Checkpoint,
    Signed,
    decode_checkpoint,
    rebuild,
    references,
    sign_checkpoint,
    verify_checkpoint,
)


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
    old = ledger.own_row(conn)
    shared = logs.root_at(conn, old, common)
    identity = ledger.identity
    ledger.become(Identity(identity.node, incarnation, identity.key, identity.network))
    logs.set_meta(conn, "incarnation", incarnation)
    logs.create_log(conn, ledger.identity.log, old.key, suite=old.suite)
    record = ledger.rules.record(identity.node)
    fields = {
        "enrol": record.enrolment if record else None,
        "continues": [old.log.incarnation, common, shared] if common else None,
        "program": PROGRAM,
    }
    ledger.append(conn, [Draft("log.open", now_ms, fields)], changes)
    _move(conn, old, ledger.own_row(conn), common)
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
    conn.execute(
        "UPDATE entries SET log = ?, idx = idx - ? + ? WHERE log = ? AND idx >= ?",
        (new.id, common, new.size, old.id, common),
    )
    conn.execute("UPDATE cases SET open_log = NULL WHERE open_log = ?", (old.id,))
    conn.execute("UPDATE cases SET open_log = (SELECT e.log FROM entries e WHERE e.case_id = cases.id ORDER BY e.id LIMIT 1) WHERE open_log IS NULL AND salt IS NOT NULL")
    logs.save_log(conn, new.id, new.range.append_many(leaves))
    logs.save_log(conn, old.id, logs.range_at(conn, old, common))
    logs.save_ack(conn, old.id, common)
