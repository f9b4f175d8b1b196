"""A child and its hub on one wire that loses, twists and counts what it carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hub.app import Hub
from node.ports import Response
from node.store import logs
from protocol import messages
from protocol.errors import LinkError
from tests.hub.calling import CERTIFICATE


class Wire:
    """A line to a hub that can lose, twist and count what it carries."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.carried: list[str] = []
        self.lose: set[str] = set()  # answers to lose, once each
        self.twist: Callable[[str, Response], Response] | None = None

    async def request(self, _address: str, path: str, body: bytes, *, token: str | None = None, **_: Any) -> Response:
        name = path.rsplit("/", 1)[1]
        self.carried.append(name)
        answer = await self.hub.handle(name, bytes.fromhex(token) if token else None, body)
        if name in self.lose:
            self.lose.remove(name)
            raise LinkError("lost")
        response = Response(answer.status, answer.body, CERTIFICATE, answer.retry_after_s)
        return self.twist(name, response) if self.twist else response

    async def close(self) -> None:
        """Nothing to close."""


def twisted(kind: type[Any], **changes: Any) -> Callable[[str, Response], Response]:
    """Return a twist of one kind of reply: its fields replaced."""

    def twist(name: str, response: Response) -> Response:
        names = {"push": messages.PushReply, "pull": messages.PullReply, "greet": messages.Greeting, "hello": messages.HelloReply}
        if names.get(name) is not kind or response.status != 200:
            return response
        made = msgspec.structs.replace(messages.decode(response.body, kind), **changes)
        return Response(200, messages.encode(made), CERTIFICATE)

    return twist


async def acked(node: Any) -> dict[int, int]:
    """Return how much of each log the parent has acknowledged."""
    found: dict[int, int] = await node.read(logs.acks)
    return {log_id: size for log_id, size in found.items() if size}
