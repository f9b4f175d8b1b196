"""A child on the line to a hub, in test code: honest messages through the real bytes interface, and hostile ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hub.app import Answer, Hub
from node.node import Node
from node.store.database import Connection
from node.uplink.pushing import prepare_push
from protocol import keys, messages
from tests.node.building import EAST, VirtualClock, enrol, found, furnish

CERTIFICATE = bytes(range(32))
R = TypeVar("R", bound=msgspec.Struct)


class Caller:
    """One child's side of the conversation."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self.node = node
        self.hub = hub
        self.token: bytes | None = None

    async def send(self, name: str, message: messages.Message | bytes, token: bytes | None = None) -> Answer:
        """Send a message and return what comes back, whatever it is."""
        body = message if isinstance(message, bytes) else messages.encode(message)
        return await self.hub.handle(name, token or self.token, body)

    async def ask(self, name: str, message: messages.Message | bytes, kind: type[R]) -> R:
        """Send a message that must be answered."""
        answer = await self.send(name, message)
        assert answer.status == 200, messages.decode(answer.body, messages.Refusal)
        return messages.decode(answer.body, kind)

    async def refused(self, name: str, message: messages.Message | bytes, code: str) -> messages.Refusal:
        """Send a message that must be refused with a code, and leave everything in the hub's store as it was."""
        before = await dump(self.hub.node)
        answer = await self.send(name, message)
        assert answer.status != 200
        refusal = messages.decode(answer.body, messages.Refusal)
        assert refusal.code == code, refusal
        assert await dump(self.hub.node) == before
        return refusal

    async def login(self) -> messages.Session:
        """Meet the hub and begin a session."""
        greeting = await self.ask("greet", self.greet(), messages.Greeting)
        session = await self.ask("login", self.login_to(greeting), messages.Session)
        self.token = session.token
        return session

    def greet(self, **changes: Any) -> messages.Greet:
        identity = self.node.ledger.identity
        return msgspec.structs.replace(messages.Greet((1,), identity.network, identity.node, bytes(32)), **changes)

    def login_to(self, greeting: messages.Greeting, **changes: Any) -> messages.Login:
        identity = self.node.ledger.identity
        proof = messages.login_text(identity.node, greeting.challenge, self.hub.certificate)
        signature = identity.key.sign(keys.SignedKind.HELLO, identity.network, proof)
        made = messages.Login(identity.node, greeting.challenge, self.hub.certificate, signature, "test")
        return msgspec.structs.replace(made, **changes)

    async def next_push(self) -> messages.Push:
        """Return what the node would push now."""
        outgoing = await self.node.store.own(lambda conn: prepare_push(self.node.ledger, conn, {}))
        assert outgoing is not None
        return messages.decode(outgoing.body, messages.Push)

    async def push(self, push: messages.Push | None = None) -> messages.PushReply:
        """Push, and have it acknowledged by the hub (the node itself forgets it)."""
        return await self.ask("push", push or await self.next_push(), messages.PushReply)


async def city_and_child(folder: Path, child: str = EAST) -> Caller:
    """Return a child of a furnished root, logged in; both clocks stand still."""
    city = await furnish(await found(folder / "city"))
    node = await enrol(folder / child, city, child)
    caller = Caller(node, Hub(city, CERTIFICATE))
    await caller.login()
    return caller


def clock(node: Node) -> VirtualClock:
    assert isinstance(node.clock, VirtualClock)
    return node.clock


async def dump(node: Node, *besides: str) -> dict[str, list[Any]]:
    """Return all that a store holds, but for when whom was heard."""

    def read(conn: Connection) -> dict[str, list[Any]]:
        names = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")]
        return {name: conn.execute(f"SELECT * FROM {name}").fetchall() for name in names if name not in {"contacts", *besides}}

    return await node.read(read)


async def count(node: Node, table: str, where: str = "1") -> int:
    found = await node.read(lambda conn: conn.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone())
    return int(found[0])
