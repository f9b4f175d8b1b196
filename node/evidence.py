"""The evidence that this node keeps: pairs of signed heads that cannot both be true, and files of them for others to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node.ledger import Ledger
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from node.views.common import Shown, time_text
from protocol import codec, evidence, merkle
from protocol.errors import DecodeError, NotFound, ProofInvalid
from protocol.evidence import Evidence, OtherBeginning, TwoEntries
from protocol.log import Bundle, Checkpoint, Signed, decode_checkpoint, hash_header

HASH_BYTES: Final = 32


def listed(conn: Connection) -> list[Shown]:
    """Return what is kept, one row a pair, the oldest first."""
    rows = conn.execute(
        "SELECT e.id, l.node, l.incarnation, e.idx, e.first, e.second, e.seen_at FROM evidence e JOIN logs l ON l.id = e.log "
        "ORDER BY e.id"
    )
    return [
        {
            "number": number,
            "node": node,
            "incarnation": incarnation.hex(),
            "index": index,
            "sizes": [decode_checkpoint(signed_of(packed).checkpoint).size for packed in (first, second) if packed],
            "seen_at": time_text(seen_at) if seen_at else None,
        }
        for number, node, incarnation, index, first, second, seen_at in rows.fetchall()
    ]


def author_of(conn: Connection, number: int) -> str:
    """Return whose log a pair is of; raises NotFound."""
    found = conn.execute("SELECT l.node FROM evidence e JOIN logs l ON l.id = e.log WHERE e.id = ?", (number,)).fetchone()
    if found is None:
        raise NotFound(f"there is no evidence {number}", hint="See `tongban evidence list`.")
    return str(found[0])


def exported(ledger: Ledger, conn: Connection, number: int, chain: Sequence[Bundle]) -> bytes:
    """Return a pair as a file that proves by itself.

    Args:
        chain: of keys, from the genesis down to the log's author.

    Raises:
        NotFound: no such pair, or it cannot be proved with what is here.
    """
    author_of(conn, number)
    log_id, index, *packed = conn.execute("SELECT log, idx, first, second FROM evidence WHERE id = ?", (number,)).fetchone()
    if not all(packed):
        raise NotFound(f"of evidence {number} only one head is here", hint="A hub above may hold both: export it there.")
    first, second = map(signed_of, packed)
    pair = decode_checkpoint(first.checkpoint), decode_checkpoint(second.checkpoint)
    trunk = logs.load_log(conn, log_id)
    histories = [trunk, *logs.branches(conn, trunk.log)]
    entries = beginning = None
    if not _contradict(pair):
        entries = _two_entries(conn, histories, index, (first, second))
        beginning = None if entries else _other_beginning(conn, histories, pair)
    network = ledger.identity.network
    data = evidence.encode(Evidence(evidence.FORMAT, network, first, second, tuple(chain), entries, beginning))
    try:
        evidence.verify(data)  # what cannot convince us convinces nobody
    except ProofInvalid as exc:
        raise NotFound(f"evidence {number} cannot be proved from here: {exc.message}", hint="A hub above may hold more.") from exc
    return data


def signed_of(packed: bytes) -> Signed:
    """Read a signed checkpoint as the evidence keeps it; raises DecodeError."""
    found = codec.decode(packed)
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(part, bytes) for part in found):
        raise DecodeError("evidence is not a signed checkpoint")
    return Signed(found[0], found[1])


def _contradict(pair: tuple[Checkpoint, Checkpoint]) -> bool:
    try:
        evidence.contradiction(*pair)
    except ProofInvalid:
        return False
    return True


def _two_entries(
    conn: Connection, histories: Sequence[LogRow], index: int, pair: tuple[Signed, Signed]
) -> TwoEntries | None:
    """Return the leaves that both heads have under an index, with their paths; None where one is not here."""
    found = [place for signed in pair if (place := _entry(conn, histories, index, signed)) is not None]
    if len(found) != len(pair) or found[0][0] == found[1][0]:
        return None
    return TwoEntries(index, *found[0], *found[1])


def _entry(
    conn: Connection, histories: Sequence[LogRow], index: int, signed: Signed
) -> tuple[bytes, tuple[bytes, ...]] | None:
    checkpoint = decode_checkpoint(signed.checkpoint)
    if not checkpoint.start <= index < checkpoint.size:
        return None
    for row in histories:
        leaves = logs.history_leaves(conn, row, checkpoint.start, checkpoint.size) if row.size >= checkpoint.size else []
        if leaves and merkle.root(leaves) == checkpoint.run:
            place = index - checkpoint.start
            return leaves[place], merkle.inclusion_proof(leaves, place)
    return _piece(conn, histories, index, signed)


def _piece(
    conn: Connection, histories: Sequence[LogRow], index: int, signed: Signed
) -> tuple[bytes, tuple[bytes, ...]] | None:
    """Return an entry that came in a bundle of this checkpoint, with its path."""
    for row in histories:
        found = conn.execute(
            "SELECT e.raw, p.path FROM entries e JOIN paths p ON p.entry = e.id JOIN checkpoints c ON c.id = p.checkpoint "
            "WHERE e.log = ? AND e.idx = ? AND c.signature = ?",
            (row.id, index, signed.signature),
        ).fetchone()
        if found is not None:
            path = tuple(found[1][begin : begin + HASH_BYTES] for begin in range(0, len(found[1]), HASH_BYTES))
            return hash_header(found[0]), path
    return None


def _other_beginning(
    conn: Connection, histories: Sequence[LogRow], pair: tuple[Checkpoint, Checkpoint]
) -> OtherBeginning | None:
    """Return the root that the longer history has where the shorter one ends, if it is held here and another."""
    short, long = sorted(pair, key=lambda one: one.size)
    for row in histories:
        if row.size >= long.size and logs.root_at(conn, row, long.size) == long.root:
            leaves = logs.history_leaves(conn, row, 0, long.size)
            root = merkle.root(leaves[: short.size])
            return OtherBeginning(root, merkle.consistency_proof(leaves, short.size)) if root != short.root else None
    return None
