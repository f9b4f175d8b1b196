"""A node's beginning: found a network, begin as a member, open what is there.

`found` writes the genesis; `begin` lays down the store of a machine that was just enrolled; `open_node` opens a folder for
work. Each is one transaction: a machine that stops in the middle begins again with the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node import faults
from node.acceptance import accept_bundles
from node.folder import Folder
from node.keyring import Keyring
from node.ledger import Changes, Draft, Identity, Ledger
from node.node import MOVED, PROGRAM, Node, open_ledger
from node.ports import Clock, Entropy
from node.projection import Batch
from node.rekeying import destroy_spent
from node.restore import is_restored, renewing
from node.store import logs
from node.store.checking import check_file
from node.store.database import Connection, Database, Store
from protocol import divisions, keys
from protocol.chain import genesis_of
from protocol.errors import InputError, StoreError
from protocol.log import FORMAT, Bundle, Header, LogId, Rebuilt, encode_header, hash_header
from protocol.register import Fact, Rules

RECOVERY_KEYS: Final = 1
THRESHOLD: Final = 1
INCARNATION_BYTES: Final = 16


def new_recovery(entropy: Entropy, count: int = RECOVERY_KEYS) -> list[bytes]:
    """Draw the seeds of the recovery keys; they are printed and kept on no disk."""
    return [entropy.bytes(keys.SEED_BYTES) for _ in range(count)]


async def found(
    store: Store,
    node: str,
    name: str,
    key: keys.SigningKey,
    seal_key: bytes,
    recovery: Sequence[bytes],
    clock: Clock,
    entropy: Entropy,
    threshold: int = THRESHOLD,
) -> Ledger:
    """Write the genesis of a new network: this node is its root.

    Args:
        recovery: public recovery keys. seal_key: public. threshold: how many recovery keys replace the root's key.

    Raises:
        InputError: not a node id, or no name.
    """
    if not divisions.is_node_id(node):
        raise InputError(f"{node!r} is not a division code", hint="12 digits, with -suffix for a department.")
    if not name.strip():
        raise InputError("the network needs a name")
    fields = {
        "name": name.strip(),
        "node": node,
        "key": key.public,
        "seal_key": seal_key,
        "recovery": list(recovery),
        "threshold": threshold,
    }
    header = Header(
        FORMAT, key.suite, node, "network.genesis", None, None, clock.wall_ms(), None, 0, None, None, None, None, (), (), fields
    )
    raw = encode_header(header)
    identity = Identity(node, entropy.bytes(INCARNATION_BYTES), key, hash_header(raw))
    return await store.write(lambda conn: _write_genesis(conn, identity, header, raw))


def _write_genesis(conn: Connection, identity: Identity, header: Header, raw: bytes) -> Ledger:
    rules = Rules()
    fact = Fact(identity.network, header)
    rules.open(fact)
    ledger = _lay_down(conn, identity, rules)
    row = ledger.own_row(conn)
    batch = Batch(conn, rules, ledger.judge)
    (entry_id,) = batch.add(row, 0, [Rebuilt(raw, None, fact.leaf, header, None)])
    logs.save_log(conn, row.id, row.range.append_many([fact.leaf]))
    _register_genesis(conn, entry_id, fact.leaf)
    return ledger


def _lay_down(conn: Connection, identity: Identity, rules: Rules) -> Ledger:
    if logs.get_meta(conn, "node") is not None:
        raise StoreError("a node lives in this folder already", hint="Use another --data folder.")
    logs.set_meta(conn, "node", identity.node.encode())
    logs.set_meta(conn, "network", identity.network)
    logs.set_meta(conn, "incarnation", identity.incarnation)
    logs.create_log(conn, identity.log, identity.key.public, suite=identity.key.suite)
    return Ledger(identity, rules)


def _register_genesis(conn: Connection, entry_id: int, leaf: bytes) -> None:
    conn.execute("INSERT INTO facts (entry, leaf, number) VALUES (?, ?, 0) ON CONFLICT DO UPDATE SET number = 0", (entry_id, leaf))
    conn.execute("INSERT INTO registers (number, entry) VALUES (0, ?)", (entry_id,))


async def begin(
    store: Store,
    node: str,
    network: bytes,
    key: keys.SigningKey,
    chain: Sequence[Bundle],
    clock: Clock,
    entropy: Entropy,
) -> Ledger:
    """Lay down the store of a machine that was just enrolled, and open its log.

    Args:
        chain: from the genesis down to the own enrolment.

    Raises:
        ProofInvalid, SignatureInvalid, UnknownSigner, DecodeError: the chain does not hold; nothing was written.
    """
    identity = Identity(node, entropy.bytes(INCARNATION_BYTES), key, network)
    now = clock.wall_ms()
    return await store.write(lambda conn: _write_beginning(conn, identity, chain, now))


def _write_beginning(conn: Connection, identity: Identity, chain: Sequence[Bundle], now: int) -> Ledger:
    rules = Rules()
    genesis = genesis_of(identity.network, chain)
    rules.open(genesis)
    ledger = _lay_down(conn, identity, rules)
    batch = Batch(conn, rules, ledger.judge)
    sparse = accept_bundles(ledger, conn, batch, chain)
    batch.finish()
    _register_genesis(conn, sparse[0].id, genesis.leaf)
    record = rules.record(identity.node)
    if record is None or record.key != identity.key.public:
        raise StoreError("the hub enrolled another key than this machine's", hint="Join again with a new code.")
    fields = {"enrol": record.enrolment, "continues": None, "program": PROGRAM}
    ledger.append(conn, [Draft("log.open", now, fields)], Changes())
    faults.point("setup.begun")
    return ledger


async def open_node(folder: Folder, clock: Clock, entropy: Entropy) -> Node:
    """Open a node's folder for work; the caller holds its lock.

    Raises:
        InputError: no node here. StoreError: the folder cannot be used. StoreDamaged: its store is not what was written.
    """
    folder.require()
    if not folder.store.exists():
        raise InputError(
            f"{folder.root}: joining was not finished, or the store is gone",
            hint="Give the `join` command again; if a node lived here, `tongban restore FILE`; without a backup, `restore --without-store`.",
        )
    check_file(folder.store)
    store = await Database.open(folder.store)
    try:
        ring = Keyring(folder)
        node = await node_of(store, _any_key(ring), clock, entropy, ring)
        await destroy_spent(node)
    except BaseException:
        await store.close()
        raise
    node.sealing = ring.sealing
    return node


def _any_key(ring: Keyring) -> keys.SigningKey:
    found = ring.signing()
    if not found:
        raise StoreError(f"{ring.folder.seed('signing')}: the node's key is missing", hint="Restore it from the key backup.")
    return found[0]


async def node_of(
    store: Store, key: keys.SigningKey, clock: Clock, entropy: Entropy, keyring: Keyring | None = None
) -> Node:
    """Make a node from an open store. keyring: the folder's keys, where it has one."""
    others = keyring.signing() if keyring is not None else []
    ledger = await store.own(lambda conn: open_ledger(conn, key, *others))
    if await store.own(is_restored):
        ledger.renew = renewing(clock, entropy)
    moved = await store.own(lambda conn: logs.get_meta(conn, MOVED) is not None)
    return Node(store, ledger, clock, entropy, keyring=keyring, moved=moved)


def own_log(node: Node) -> LogId:
    """Return the node's own log."""
    return node.ledger.identity.log
