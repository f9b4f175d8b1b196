"""`tongban restore --without-store`: a node of which only the key is left begins anew with an empty store, as who it was.

The chain of its keys says of which network it is, and which node there. It lies beside the key, kept by `keeping_chain` while the node
runs; or another node writes it out: `tongban vouch`, at any node of which this one is above or below. With it the node opens a
new incarnation of its log, and its parent and its children give back what they hold (docs/decisions/0005-restored-hub.md).
A root numbers nothing before they did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node import chains, config, faults, operations, registrar, restore, setup
from node import folder as folders
from node import logs as lines
from node.folder import Folder, write_private
from node.keyring import Keyring
from node.ledger import Changes
from node.node import Node
from node.office.desk import Act
from node.ports import Clock, Entropy
from node.store import logs
from node.store.database import Connection, Database
from node.views.common import Shown
from protocol import keys
from protocol.chain import verify_chain
from protocol.errors import InputError, NotFound, PeerError, StoreError
from protocol.log import Bundle, hash_header
from protocol.problems import Fields

ASK: Final = "At its parent, or at any node below it, give `tongban vouch NODE FILE`, bring the file, and name it: restore --without-store FILE."


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a chain and a key say that this machine is. parent: None at the root."""

    network: bytes
    node: str
    name: str
    parent: str | None
    key: keys.SigningKey
    chain: tuple[Bundle, ...]


async def begin_anew(
    place: Folder, clock: Clock, entropy: Entropy, *, file: Path | None = None, parent: str | None = None, replace: bool = False
) -> Shown:
    """Lay an empty store down for the node whose key is in a folder; the caller holds the folder's lock.

    Args:
        file: with the chain of its keys; None for the one that lies beside them.
        parent: HOST:PORT of the parent, where `config.toml` is lost.
        replace: also in the place of a store that is whole; it is kept aside, as a damaged one is.

    Raises:
        InputError: a whole store is here, no key, no chain or another node's, or nobody knows where the parent is.
        StoreError: a disk refuses. Nothing was changed.
    """
    if not replace and restore.is_whole(place):
        raise InputError(
            f"{place.root}: a whole store is here", hint="Start it with `tongban run`; or --replace, which keeps it aside and begins anew."
        )
    who = _who(place, file or _kept(place))
    settings = _settings(place, who, parent)
    if settings is not None:
        write_private(place.config, settings)
    aside = await _lay_down(place, who, clock, entropy)
    if file is not None:
        chains.save(place.chain, who.chain)
    lines.event("store.begun_anew", lines.WARNING, node=who.node)
    return {
        "node": who.node,
        "name": who.name,
        "parent": who.parent,
        "network": who.network.hex(),
        "kept_aside": str(aside) if aside is not None else None,
        "without_store": True,
    }


def _kept(place: Folder) -> Path:
    if not place.chain.exists():
        raise InputError(f"{place.chain}: the chain of this node's keys is not here", hint=ASK)
    return place.chain


def _who(place: Folder, file: Path) -> Identity:
    """Return which node of a chain has a key that is here as its present one."""
    mine = {key.public: key for key in Keyring(place).signing()}
    if not mine:
        raise InputError(
            f"{place.keys}: there is no private key here",
            hint="Put the key files into keys/ first; if they are lost, too: `tongban invite NODE --again` at its parent, then `join`.",
        )
    chain = chains.load(file)
    try:
        network = hash_header(chain[0].entries[0].raw)
        rules = verify_chain(network, chain)
    except (PeerError, IndexError) as exc:
        raise InputError(f"{file}: this chain of keys does not hold", hint=ASK) from exc
    for node in sorted({*rules.local, *rules.newer, *rules.node_histories}):
        record = rules.record(node)
        if record is not None and record.key in mine:
            return Identity(network, node, record.name, record.parent, mine[record.key], chain)
    raise InputError(
        f"{file}: no key in {place.keys} is the present key of a node in this chain",
        hint="It is of another node, or older than the last change of the key. " + ASK,
    )


def _settings(place: Folder, who: Identity, parent: str | None) -> bytes | None:
    """Return the settings' file to be written, if the one that is here does not do."""
    found = config.load(place.config)
    if parent is not None:
        return config.render(config.with_addresses(found, parents=(parent,))).encode("utf-8")
    if who.parent is not None and not found.uplink.parents:
        raise InputError(
            f"{place.config}: no address of the parent {who.parent} is there", hint="Add --parent HOST:PORT, or put config.toml back."
        )
    return None


async def _lay_down(place: Folder, who: Identity, clock: Clock, entropy: Entropy) -> Path | None:
    """Lay the empty store down under another name, then change places. Recovered by giving the command again."""
    draft = place.store.with_name("anew.sqlite3")
    try:
        place.create()
        for ending in ("", "-wal", "-shm"):
            draft.with_name(draft.name + ending).unlink(missing_ok=True)
        store = await Database.open(draft)
        try:
            await setup.begin(store, who.node, who.network, who.key, who.chain, clock, entropy)
            await store.write(_mark)
        finally:
            await store.close()
        folders.sync_file(draft)
        faults.point("restore.anew_drafted")
        aside = restore.set_aside(place, clock.wall_ms())
        faults.point("restore.anew_aside")
        draft.replace(place.store)
        folders.sync_folder(place.root)
    except OSError as exc:
        raise StoreError(f"{place.root}: cannot be written: {exc.strerror}", hint="Check the disk and its free space.") from exc
    return aside


def _mark(conn: Connection) -> None:
    """Let a root give no number before its children were heard, also by a command while it does not run."""
    logs.set_meta(conn, registrar.UNHEARD, b"")


# --- the chain beside the key


@asynccontextmanager
async def keeping_chain(node: Node, place: Folder) -> AsyncIterator[None]:
    """Keep the chain of this node's keys beside them while it runs, also after they changed; on the event loop."""
    kept = b""
    tasks: set[asyncio.Task[None]] = set()

    async def keep() -> None:
        nonlocal kept
        now = _keyed(node)
        try:
            chain = await node.store.own(lambda conn: chains.chain_of(node.ledger, conn, node.id))
            chains.save(place.chain, chain)
        except StoreError as exc:
            lines.failure("chain.not_kept", exc)  # written at the next start; `vouch` elsewhere gives it, too
        kept = now

    def look(changes: Changes) -> None:
        if changes.rules and not tasks and _keyed(node) != kept:
            task = asyncio.create_task(keep())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    await keep()
    node.listeners.append(look)
    try:
        yield
    finally:
        node.listeners.remove(look)
        await asyncio.gather(*tasks)


def _keyed(node: Node) -> bytes:
    record = node.rules.record(node.id)
    return record.keyed if record is not None else b""


# --- what another node writes out


async def _vouch(node: Node, params: Mapping[str, Any], _: Act) -> dict[str, object]:
    target = operations.read_params("vouch", params, _target)
    chain = await node.store.own(lambda conn: chains.chain_of(node.ledger, conn, target))
    if not chain:
        raise NotFound(f"node {target} is not known here", hint="Ask its parent, or a node below it.")
    return {"node": target, "data": chains.pack(chain).hex()}


def _target(fields: Fields) -> str:
    return fields.text("node")


operations.register("vouch", _vouch)
