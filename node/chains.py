"""The chain of a node's keys, as it is held here, and as it lies in a file.

A machine whose store is gone and whose key is safe needs nothing else to begin anew: the chain says which network it is of, and who it
is there (`node.anew`). It is no secret: genesis, invitations, enrolments, keys. So it is kept beside the key, and any other
node that has it can write it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from node import folder
from node.ledger import Ledger
from node.store.database import Connection
from protocol import carry, limits, messages
from protocol.errors import InputError, PeerError, StoreError
from protocol.log import Bundle, decode_header


def chain_of(ledger: Ledger, conn: Connection, node: str) -> list[Bundle]:
    """Return the chain of keys from the genesis down to a node, one bundle an entry; empty when it is not here.

    Of each node all the keys that it has had, in their order: each was introduced by one before it, or by the node above.
    """
    line = [node, *ledger.rules.now.ancestors(node)]
    entries: list[tuple[int, int, int]] = []
    for one in reversed(line):
        records = ledger.rules.records(one)
        if not records:
            return []
        for record in records:
            entries += _keying_entries(conn, record.keyed)
    return [bundle for entry in entries for bundle in ledger.bundles(conn, [entry])]


def _keying_entries(conn: Connection, leaf: bytes) -> list[tuple[int, int, int]]:
    """Return the entry that gave a node a key, after the invitation that it answers, if it is an enrolment."""
    place = "SELECT e.id, e.log, e.idx, e.raw FROM facts f JOIN entries e ON e.id = f.entry WHERE f.leaf "
    entry_id, log_id, index, raw = conn.execute(place + "= ?", (leaf,)).fetchone()
    header = decode_header(raw)
    if header.type != "node.enrol":
        return [(entry_id, log_id, index)]
    link = header.fields["invite"]
    invite = conn.execute(place + "BETWEEN ? AND ?", (link + b"\x00" * 16, link + b"\xff" * 16)).fetchone()
    return [tuple(invite[:3]), (entry_id, log_id, index)]


def pack(chain: Sequence[Bundle]) -> bytes:
    """Return the bytes of a file with a chain."""
    return messages.encode(carry.Keys(tuple(chain)))


def save(path: Path, chain: Sequence[Bundle]) -> bool:
    """Write a chain into a file, if it does not hold just this; tells whether it was written.

    Raises:
        StoreError: the disk refuses; what was there stands.
    """
    packed = pack(chain)
    try:
        if path.exists() and path.read_bytes() == packed:
            return False
    except OSError as exc:
        raise StoreError(f"{path}: cannot be read: {exc.strerror}") from exc
    folder.write_private(path, packed)
    return True


def load(path: Path) -> tuple[Bundle, ...]:
    """Read a chain from a file; whether it holds, `protocol.chain` tells.

    Raises:
        InputError: no such file, or another one.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(limits.MESSAGE_BYTES_MAX + 1)
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}", hint="Look at the file's name and rights.") from exc
    try:
        return messages.decode(packed, carry.Keys).chain
    except PeerError as exc:
        raise InputError(
            f"{path}: no chain of keys, or damaged on its way", hint="Have it written and copied again: `tongban vouch NODE FILE`."
        ) from exc
