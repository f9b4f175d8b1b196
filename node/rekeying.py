"""A node's new key: stated by the old one and itself, then spoken with; and the end of the old one.

A key is fixed for an incarnation. A rotation is the last entry under the old key; a new incarnation opens under the new one
and continues it: one transaction, with the old log's end signed in it. Before that the new key is on the disk; after it
the old one is kept until the parent has receipted what it closed. So a machine that stops anywhere has a key with which it
can speak, and no two keys speak for it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from node import continuity, faults
from node import logs as lines
from node.keyring import Keyring
from node.ledger import Changes, Draft, Identity, Ledger
from node.node import PROGRAM, Node
from node.ports import Clock, Entropy
from node.registrar import take_in
from node.rulebook import load_rules
from node.store import logs
from node.store.database import Connection, Store
from node.store.logs import LogRow
from protocol import keys, limits
from protocol.errors import CommandRefused, StoreError
from protocol.log import LogId, decode_checkpoint
from protocol.rekeying import recovery_message, rotate_message

INCARNATION_BYTES: Final = 16


def ring_of(node: Node) -> Keyring:
    """Return the folder's keys; raises CommandRefused where there are none."""
    if node.keyring is None:
        raise CommandRefused("this node has no folder of keys", hint="Give the command on the node's own machine.")
    return node.keyring


async def rotate(node: Node, officer: str | None = None) -> keys.SigningKey:
    """Replace the node's key, also without a connection; returns the new one.

    Raises:
        CommandRefused: no keys here. StoreError: the disk refuses; the old key stands.
    """
    ring, used = ring_of(node), {record.key for record in node.rules.records(node.id)}
    key, sealing = ring.draft(used, node.entropy)
    incarnation, now = node.entropy.bytes(INCARNATION_BYTES), node.clock.wall_ms()

    def state(conn: Connection, changes: Changes) -> None:
        if node.ledger.renew is not None:  # a restored store opens its new log first: that is the one to be closed
            node.ledger.renew(node.ledger, conn, changes)
        fields = _rotation(node.ledger, conn, key, sealing.public)
        node.ledger.append(conn, [Draft("node.key", now, fields, officer=officer)], changes)
        faults.point("rekeying.stated")
        go_on(node.ledger, conn, changes, key, incarnation, now)

    # A crash before the commit leaves a drafted key, which the next rotation takes; after it the store names the new key.
    await node.write(state)
    faults.point("rekeying.rotated")
    lines.event("key.rotated", lines.WARNING, node=node.id)
    await destroy_spent(node)
    return key


def _rotation(ledger: Ledger, conn: Connection, key: keys.SigningKey, seal_key: bytes) -> dict[str, object]:
    """Return what both keys sign: the logs under the old one end where they are, the present one with this very entry."""
    identity, row = ledger.identity, ledger.own_row(conn)
    closes = [(row.log.incarnation, row.size + 1), *((one.log.incarnation, one.size) for one in _older(conn, row))]
    closes = closes[: limits.INCARNATIONS_MAX]
    message = rotate_message(identity.node, identity.key.public, key.public, seal_key, closes)
    by_old, by_new = (one.sign(keys.SignedKind.ROTATE, identity.network, message) for one in (identity.key, key))
    return {
        "old": identity.key.public,
        "key": key.public,
        "seal_key": seal_key,
        "suite": key.suite,
        "closes": [list(one) for one in closes],
        "by_old": by_old,
        "by_new": by_new,
    }


def _older(conn: Connection, own: LogRow) -> list[LogRow]:
    """Return the node's other logs under the same key, the newest first."""
    rows = logs.logs_of(conn, [own.log.node])
    return [row for row in reversed(rows) if row.key == own.key and row.id != own.id and row.size and not row.branch]


def go_on(
    ledger: Ledger, conn: Connection, changes: Changes, key: keys.SigningKey, incarnation: bytes, now_ms: int
) -> None:
    """Sign the own log to its end with the present key, and open a new incarnation under another."""
    _open_next(ledger, conn, changes, key, incarnation, now_ms)
    if ledger.identity.node == ledger.rules.root:
        _number_own(ledger, conn, changes, now_ms)
    faults.point("rekeying.opened")


def _open_next(
    ledger: Ledger, conn: Connection, changes: Changes, key: keys.SigningKey, incarnation: bytes, now_ms: int
) -> None:
    ledger.seal(conn)
    ledger.save_seals(conn)
    old, identity = ledger.own_row(conn), ledger.identity
    ledger.keys[key.public] = key
    ledger.become(Identity(identity.node, incarnation, key, identity.network))
    logs.set_meta(conn, "incarnation", incarnation)
    logs.create_log(conn, ledger.identity.log, key.public, suite=key.suite)
    record = ledger.rules.record(identity.node)
    opening = {
        "enrol": record.enrolment if record is not None and record.parent is not None else None,
        "continues": [old.log.incarnation, old.size, old.root],
        "program": PROGRAM,
    }
    ledger.append(conn, [Draft("log.open", now_ms, opening)], changes)
    changes.logs.add(old.id)
    changes.rules = True


def _number_own(ledger: Ledger, conn: Connection, changes: Changes, now_ms: int) -> None:
    """Let the root admit its own incarnation, since nobody stands above it, and number its new key."""
    identity = ledger.identity
    sizes = [[row.log.incarnation, row.size] for row in logs.logs_of(conn, [identity.node]) if row.size and not row.branch]
    older = [one for one in sizes if one[0] != identity.incarnation][-limits.INCARNATIONS_MAX :]
    admitted = {"node": identity.node, "incarnation": identity.incarnation, "sizes": older}
    ledger.append(conn, [Draft("node.admit", now_ms, admitted)], changes)
    take_in(ledger, conn, changes, now_ms)


# --- the root's key, by the recovery keys of the genesis


async def recover(
    store: Store, ring: Keyring, signers: Sequence[keys.SigningKey], clock: Clock, entropy: Entropy
) -> keys.SigningKey:
    """Give the root a new key, signed by recovery keys; the old one may be stolen, or lost. Returns the new one.

    Args:
        store: the root's, as it was or from a backup. ring: of its folder. signers: recovery keys, as typed.

    Raises:
        CommandRefused: not the root, too few keys, or one that the genesis does not name. Nothing was written.
    """
    used = await store.own(lambda conn: _recoverable(conn, signers))
    key, sealing = ring.draft(used, entropy)
    incarnation, now = entropy.bytes(INCARNATION_BYTES), clock.wall_ms()
    present = {one.public: one for one in ring.signing()}
    await store.write(lambda conn: _recover(conn, present, (key, sealing.public), signers, incarnation, now))
    faults.point("rekeying.recovered")
    return key


def _recoverable(conn: Connection, signers: Sequence[keys.SigningKey]) -> set[bytes]:
    """Check what was typed; returns the keys that the root has had."""
    rules, node = load_rules(conn), (logs.get_meta(conn, "node") or b"").decode()
    if rules.genesis is None or node != rules.root:
        raise CommandRefused(
            "this node is not the root", hint="A node below it gets a new key by `tongban invite NODE --again` at its parent."
        )
    publics = [signer.public for signer in signers]
    if len(set(publics)) < len(publics) or not set(publics) <= set(rules.genesis.recovery):
        raise CommandRefused("a recovery key is not one of this network, or was given twice", hint="Look for typing errors.")
    if len(publics) < rules.genesis.threshold:
        raise CommandRefused(
            f"{rules.genesis.threshold} recovery keys are needed, {len(publics)} were given", hint="Give one a line."
        )
    return {record.key for record in rules.records(node)}


def _recover(
    conn: Connection,
    present: Mapping[bytes, keys.SigningKey],
    pair: tuple[keys.SigningKey, bytes],
    signers: Sequence[keys.SigningKey],
    incarnation: bytes,
    now_ms: int,
) -> None:
    """Open a new incarnation under the new key and state there who gave it: one transaction.

    With the old key still here its log is signed to its end; else what it had not signed is restated in the new one.
    """
    rules, node, changes = load_rules(conn), (logs.get_meta(conn, "node") or b"").decode(), Changes()
    own = logs.find_log(conn, LogId(node, logs.get_meta(conn, "incarnation") or b""))
    if own is None:
        raise StoreError("the node's own log is missing", hint="Restore the folder from its backup.", data_safe=False)
    key, old = pair[0], present.get(own.key)
    ledger = Ledger(Identity(node, own.log.incarnation, old or key, rules.network), rules)
    if old is not None:
        _open_next(ledger, conn, changes, key, incarnation, now_ms)
    else:
        continuity.reincarnate(ledger, conn, changes, _signed_size(conn, own), incarnation, now_ms)
    ledger.append(conn, [Draft("network.recovery", now_ms, _recovery(ledger, conn, own.key, pair, signers))], changes)
    faults.point("rekeying.recovering")
    _number_own(ledger, conn, changes, now_ms)


def _signed_size(conn: Connection, row: LogRow) -> int:
    """Return up to where a log is signed: nobody else can have more of it."""
    ends = [decode_checkpoint(one.checkpoint).size for one in logs.checkpoints_from(conn, row.id, 0, -1)]
    return min(max(ends, default=0), row.size)


def _recovery(
    ledger: Ledger, conn: Connection, old: bytes, pair: tuple[keys.SigningKey, bytes], signers: Sequence[keys.SigningKey]
) -> dict[str, object]:
    identity, (key, seal_key) = ledger.identity, pair
    number = ledger.rules.newest_recovery + 1
    rows = [row for row in logs.logs_of(conn, [identity.node]) if row.key == old and row.size and not row.branch]
    closes = [(row.log.incarnation, row.size) for row in reversed(rows)][: limits.INCARNATIONS_MAX]
    message = recovery_message(identity.node, number, key.public, seal_key, closes)
    signatures = [[one.public, one.sign(keys.SignedKind.RECOVERY, identity.network, message)] for one in signers]
    return {
        "number": number,
        "key": key.public,
        "seal_key": seal_key,
        "suite": key.suite,
        "closes": [list(one) for one in closes],
        "proof": key.sign(keys.SignedKind.RECOVERY, identity.network, message),
        "signatures": signatures,
    }


# --- the end of an old key


async def destroy_spent(node: Node) -> int:
    """Destroy old keys whose logs the parent has receipted to their ends; returns how many. Nothing depends on when."""
    if node.keyring is None or len(node.ledger.keys) < 2:
        return 0
    spent = await node.read(lambda conn: _spent(node, conn))
    for public in spent:
        node.keyring.destroy(public)
        faults.point("keyring.destroyed")
        node.ledger.keys.pop(public, None)
        lines.event("key.destroyed", node=node.id)
    return len(spent)


def _spent(node: Node, conn: Connection) -> list[bytes]:
    acked, own = logs.acks(conn), node.ledger.identity.key.public
    signed: dict[bytes, list[LogRow]] = {}
    for row in logs.logs_of(conn, [node.id]):
        if not row.branch:
            signed.setdefault(row.key, []).append(row)
    kept = [public for public in node.ledger.keys if public != own and public in signed]
    done = node.parent is None
    return [public for public in kept if done or all(acked.get(row.id, 0) >= row.size for row in signed[public])]


@contextmanager
def destroying_spent(node: Node) -> Iterator[None]:
    """Destroy old keys as soon as the parent has receipted what they closed, while a node runs; on the event loop."""
    tasks: set[asyncio.Future[int]] = set()

    def look(changes: Changes) -> None:
        if changes.receipts and len(node.ledger.keys) > 1 and not tasks:
            task = asyncio.ensure_future(destroy_spent(node))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    node.listeners.append(look)
    try:
        yield
    finally:
        node.listeners.remove(look)
