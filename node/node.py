"""A running node's one object: its store, its logs, its rules, and who wants to know when they change.

All writing goes through `Node.write`: one unit of work, durable when it returns; afterwards listeners hear what changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from node.ballast import Room
from node.keyring import Keyring
from node.ledger import Changes, Identity, Ledger
from node.ports import Clock, Entropy
from node.rulebook import load_rules
from node.store import logs
from node.store.database import Connection, Store
from protocol import keys
from protocol.errors import MachineRetired, StoreDamaged, StoreError, StoreFull
from protocol.log import LogId
from protocol.register import Rules

PROGRAM: Final = "tongban/0.1"
MOVED: Final = "moved"  # in meta: when the node moved to another machine, ms, decimal; here nothing is written any more

T = TypeVar("T")
WriteUnit = Callable[[Connection, Changes], T]
Listener = Callable[[Changes], None]


@dataclass(slots=True)
class Node:
    """One node.

    Attributes:
        listeners: called on the event loop after each commit.
        listen: where it answers others, while it runs.
        sealing: loads a key of this node by its public part, to open what was sealed for it; None where it has no folder of keys.
        moved: it lives on another machine now; here it can be read.
        keyring: the keys in its folder, where it has one.
        room: on the disk, while the node runs.
    """

    store: Store
    ledger: Ledger
    clock: Clock
    entropy: Entropy
    listeners: list[Listener] = field(default_factory=list)
    listen: str | None = None
    sealing: Callable[[bytes], keys.SealingKey] | None = None
    keyring: Keyring | None = None
    moved: bool = False
    room: Room | None = None

    @property
    def id(self) -> str:
        """The node's id."""
        return self.ledger.identity.node

    @property
    def rules(self) -> Rules:
        """The rules held here."""
        return self.ledger.rules

    @property
    def parent(self) -> str | None:
        """The parent's id; None at the root."""
        record = self.rules.record(self.id)
        return record.parent if record else None

    async def write(self, unit: WriteUnit[T]) -> T:
        """Run a unit in one transaction, then tell the listeners.

        When it fails nothing is kept, also of the rules it may have folded.
        """
        self.check_here()
        changes = Changes()
        finished = stale = False

        def whole(conn: Connection) -> T:
            nonlocal finished, stale
            mark = self.ledger.mark()
            try:
                result = unit(conn, changes)
            except BaseException:
                stale = self.ledger.go_back(mark)
                raise
            finished = True
            return result

        try:
            result = await self.store.write(whole)
        except BaseException as exc:
            if isinstance(exc, StoreFull) and self.room is not None:
                self.room.filled()
            if finished:  # the commit failed, or only its answer: the store knows
                await self.store.own(self.ledger.recover)
            elif stale:
                await self.store.own(self.ledger.reload)
            raise
        for listener in list(self.listeners):
            listener(changes)
        return result

    def admit(self) -> None:
        """Let new work begin, from people or other nodes; raises StoreFull while the disk has no room for it."""
        if self.room is not None:
            self.room.admit()

    def check_here(self) -> None:
        """Check that the node lives here; raises MachineRetired when it moved to another machine."""
        if self.moved:
            raise MachineRetired(
                f"node {self.id} moved to another machine", hint="Work there. What is here can be read, for ever; nothing is written."
            )

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run a reading unit on a snapshot."""
        return await self.store.read(unit)

    async def close(self) -> None:
        """Close the store."""
        await self.store.close()


def open_ledger(conn: Connection, key: keys.SigningKey, *others: keys.SigningKey) -> Ledger:
    """Load a node's identity and rules from its store.

    Args:
        key, others: those that the node has; that of its own log is the one with which it speaks.

    Raises:
        StoreError: no node lives in this store. StoreDamaged: the key of its log is not among these.
    """
    node, incarnation = logs.get_meta(conn, "node"), logs.get_meta(conn, "incarnation")
    network = logs.get_meta(conn, "network")
    if node is None or incarnation is None or network is None:
        raise StoreError("no node lives in this folder", hint="Begin with `tongban init` or `tongban join`.")
    own = logs.find_log(conn, LogId(node.decode(), incarnation))
    ring = {one.public: one for one in (key, *others)}
    if own is not None and own.key not in ring:
        raise StoreDamaged(
            "the store and the keys of this folder are not of one machine",
            hint="Put back the folder as it was, or `tongban restore FILE`; a foreign -wal file beside the store does this, too. "
            "If the key is lost, ask the parent for a code: `tongban invite NODE --again`.",
        )
    ledger = Ledger(Identity(node.decode(), incarnation, ring[own.key] if own is not None else key, network), load_rules(conn))
    ledger.keys.update(ring)
    return ledger
