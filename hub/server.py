"""The hub's door: TLS and HTTP around `hub.app.Hub`. No decision is taken here.

What comes in is bounded before it is read: connections in all and per address, the time for headers and body, the body's
bytes. TLS read buffers are small, since a hub holds thousands of long polls.
"""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from hub.app import Hub
from node import logs as lines
from node.tls import server_context
from protocol import limits
from protocol.errors import StoreError

TLS_BUFFER_BYTES: Final = 16 << 10
BODY_BYTES_MAX: Final = limits.MESSAGE_BYTES_MAX + (64 << 10)
HEADER_BYTES_MAX: Final = 8 << 10
TOKEN_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Spans:
    """How long a hub waits for whoever calls, in seconds; the TLS handshake has asyncio's 60.

    header_s: a connection without a whole request head is closed after this; also one that is idle.
    body_s: for a whole body: 1 MiB at 20 KB/s.
    """

    header_s: float = 55.0
    body_s: float = 55.0


@dataclass(slots=True)
class Server:
    """A listening hub. port: the one really taken."""

    runner: web.AppRunner
    host: str
    port: int

    async def stop(self) -> None:
        """Stop listening, let what is under way finish, then close."""
        await self.runner.cleanup()


class _Door:
    """Turns HTTP requests into `Hub.handle`."""

    def __init__(self, hub: Hub, connections_max: int, per_host_max: int, body_s: float) -> None:
        self._hub = hub
        self._connections_max = connections_max
        self._per_host_max = per_host_max
        self._body_s = body_s
        self._strangers: Counter[str] = Counter()  # requests under way that show no session of ours, by address
        self.connections: Callable[[], int] = lambda: 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request; what can be refused unread is refused unread."""
        if request.headers.get("Content-Encoding"):
            return _refused(415)
        if (request.content_length or 0) > BODY_BYTES_MAX:
            return _refused(413)
        token = _token(request)
        if self._hub.sessions.is_known(token):
            return await self._handle(request, token)
        if self.connections() > self._connections_max:
            return _refused(503, "5")
        return await self._handle_stranger(request, token)

    async def _handle_stranger(self, request: web.Request, token: bytes | None) -> web.Response:
        host = request.remote or ""
        if self._strangers[host] >= self._per_host_max:
            return _refused(503, "5")
        self._strangers[host] += 1
        try:
            return await self._handle(request, token)
        finally:
            self._strangers[host] -= 1
            if not self._strangers[host]:
                del self._strangers[host]

    async def _handle(self, request: web.Request, token: bytes | None) -> web.Response:
        try:
            async with asyncio.timeout(self._body_s):
                body = await request.read()
        except TimeoutError:
            return _refused(408)
        answer = await self._hub.handle(request.match_info["name"], token, body)
        headers = {}
        if answer.retry_after_s is not None:
            headers["Retry-After"] = f"{answer.retry_after_s:.1f}"
        return web.Response(status=answer.status, body=answer.body, headers=headers, content_type="application/vnd.tongban")


def _refused(status: int, retry_after: str | None = None) -> web.Response:
    """Answer without having read the body, so the connection cannot go on."""
    headers = {"Connection": "close"} if retry_after is None else {"Connection": "close", "Retry-After": retry_after}
    response = web.Response(status=status, headers=headers)
    response.force_close()
    return response


def _token(request: web.Request) -> bytes | None:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind != "Tongban" or len(text) != 2 * TOKEN_BYTES:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


async def serve(
    hub: Hub,
    tls: Path,
    host: str,
    port: int,
    *,
    connections_max: int = 4_096,
    connections_per_host_max: int = 64,
    spans: Spans | None = None,
) -> Server:
    """Listen for other nodes.

    Args:
        connections_max: beyond it only those who have a session are served.
        connections_per_host_max: requests at once of one address without a session; the others are bounded by session.

    Raises:
        StoreError: the address cannot be taken.
    """
    sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES  # asyncio's 256 KiB a connection: 1,000 long polls would take 347 MB
    spans = spans or Spans()
    door = _Door(hub, connections_max, connections_per_host_max, spans.body_s)
    runner = _runner(door, spans)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=server_context(tls), backlog=min(connections_max, 1_024))
    try:
        await site.start()
    except OSError as exc:
        await runner.cleanup()
        raise StoreError(f"cannot listen on {host}:{port}: {exc.strerror}", hint="Is another program using the port?") from exc
    door.connections = lambda: len(runner.server.connections) if runner.server is not None else 0
    taken = runner.addresses[0][1]
    lines.event("hub.listening", port=taken)
    return Server(runner, host, int(taken))


def _runner(door: _Door, spans: Spans) -> web.AppRunner:
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_post("/sync/1/{name}", door.answer)
    return web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=spans.header_s,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        auto_decompress=False,
        shutdown_timeout=5.0,
        lingering_time=1.0,
    )
