"""What comes from above in bundles: entries of cases, single entries outside them, and receipts. Each part of a unit of work."""

from __future__ import annotations

from collections.abc import Sequence

from node import continuity, faults
from node import logs as lines
from node.acceptance import Sparse, accept_bundles
from node.ledger import Changes, Ledger
from node.node import Node
from node.projection import Batch
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol.chain import verify_chain
from protocol.errors import DecodeError, ProofInvalid, UnknownSigner
from protocol.log import Bundle, Header, LogId, decode_body, decode_checkpoint, hash_body


def take_bundles(ledger: Ledger, conn: Connection, changes: Changes, bundles: Sequence[Bundle]) -> None:
    """Apply entries of cases that came in bundles: fold, feed on, write."""
    batch = Batch(conn, ledger.rules, ledger.judge)
    accept_bundles(ledger, conn, batch, bundles)
    ledger.finish(conn, batch, changes)


def take_stated(ledger: Ledger, conn: Connection, bundle: Bundle, kind: str) -> tuple[Sparse, Header, bytes]:
    """Take a bundle that must hold one entry outside cases, of one type, with the body that was signed.

    Raises:
        ProofInvalid, DecodeError: it does not.
    """
    sparse = _only_entry(ledger, conn, bundle)
    header, body = sparse.entry.header, sparse.entry.body
    if header is None or header.type != kind or header.body is None or body is None:
        raise ProofInvalid(f"what should be a {kind} is none")
    if hash_body(b"", header.body[0], body) != header.body[2]:
        raise ProofInvalid(f"the body of a {kind} is not the one that was signed")
    return sparse, header, body


def _only_entry(ledger: Ledger, conn: Connection, bundle: Bundle) -> Sparse:
    if len(bundle.entries) != 1:
        raise DecodeError("a bundle of one entry holds several, or none")
    batch = Batch(conn, ledger.rules, ledger.judge)
    taken = accept_bundles(ledger, conn, batch, [bundle])
    batch.finish()
    if len(taken) != 1:
        raise ProofInvalid("another entry is held under this place")
    return taken[0]


async def learn_chain(node: Node, chain: Sequence[Bundle]) -> None:
    """Keep the keys that a chain leads to, if all of it holds; what is older than what is known changes nothing.

    Where it shows entries of our own log that are not here, this store is an older copy: a new incarnation is opened first.

    Raises:
        ProofInvalid, SignatureInvalid, UnknownSigner, DecodeError: it does not hold.
    """
    verify_chain(node.ledger.identity.network, chain)
    incarnation, now = node.entropy.bytes(16), node.clock.wall_ms()

    def take(conn: Connection, changes: Changes) -> None:
        if _shows_more(node.ledger, conn, chain):
            common = continuity.proven_size(node.ledger, conn, [bundle.signed for bundle in chain])
            continuity.reincarnate(node.ledger, conn, changes, common, incarnation, now)
        take_bundles(node.ledger, conn, changes, chain)
        changes.rules = True
        faults.point("uplink.keys_learnt")

    await node.write(take)


def _shows_more(ledger: Ledger, conn: Connection, chain: Sequence[Bundle]) -> bool:
    """Tell whether we signed something that is in a verified chain and not in our own log."""
    row = ledger.own_row(conn)
    shown = [one for one in (decode_checkpoint(bundle.signed.checkpoint) for bundle in chain) if one.log == row.log]
    return any(one.size > row.size or logs.root_at(conn, row, one.size) != one.root for one in shown)


# --- receipts


async def keep_receipts(node: Node, receipts: Sequence[Bundle]) -> None:
    """Keep receipts of hubs further up, that came with a reply."""
    if not receipts:
        return

    def keep(conn: Connection, changes: Changes) -> None:
        for bundle in receipts:
            keep_receipt(node.ledger, conn, changes, bundle)
        changes.receipts = True
        faults.point("uplink.receipts_kept")

    try:
        await node.write(keep)
    except UnknownSigner as exc:
        lines.failure("uplink.receipt_unknown", exc)  # its hub's enrolment is on its way; the parent repeats it


def keep_receipt(ledger: Ledger, conn: Connection, changes: Changes, bundle: Bundle) -> dict[int, int]:
    """Verify a receipt and keep it: its entry, and what it says of logs held here. What it says of other histories is passed over.

    Returns:
        Log id → the size receipted, of each log that it names and whose root is ours at that size.

    Raises:
        ProofInvalid, DecodeError: no receipt.
    """
    sparse, header, body = take_stated(ledger, conn, bundle, "receipt")
    found: dict[int, int] = {}
    rows = []
    try:
        at = int(header.fields["at"])
        for (node, incarnation), size, root in decode_body(body)["of"]:
            row = _history(conn, LogId(node, incarnation), size, root)
            if row is None:
                continue
            rows.append((row.id, header.node, size, at, sparse.id))
            found[row.id] = size
            changes.receipted[row.id] = row.log.node
    except (KeyError, TypeError, ValueError) as exc:
        raise DecodeError("a receipt cannot be read") from exc
    logs.save_receipts(conn, rows)
    return found


def _history(conn: Connection, log: LogId, size: int, root: bytes) -> LogRow | None:
    """Return the log, or the rival branch of it, that has this root at this size; None when it is of no history held here."""
    row = logs.find_log(conn, log)
    if row is None or (size <= row.size and logs.root_at(conn, row, size) == root):
        return row
    for rival in logs.branches(conn, log):
        if rival.start < size <= rival.size and logs.root_at(conn, rival, size) == root:
            return rival
    if size <= row.size:
        lines.event("receipt.other_history", lines.WARNING, author=log.node, size=size)
    return None
