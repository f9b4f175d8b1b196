"""The hub's door: TLS and HTTP around `hub.app.Hub`. No decision is taken here.

What comes in is bounded before it is read: connections in all and per address, the time for headers and body, the body's
bytes. TLS read buffers are small, since a hub holds thousands of long polls.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from collections import Counter
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
BODY_S: Final = 60.0  # for a whole body: 1 MiB at 20 KB/s
HEADER_BYTES_MAX: Final = 8 << 10
IDLE_S: Final = 80.0
TOKEN_BYTES: Final = 16


@dataclass(slots=True)
class Server:
    """A listening hub. port: the one really taken."""

    runner: web.AppRunner
    host: str
    port: int

    async def stop(self, drain_s: float = 5.0) -> None:
        """Stop listening, let what is under way finish, then close."""
        await self.runner.cleanup()


class _Door:
    """Turns HTTP requests into `Hub.handle`."""

    def __init__(self, hub: Hub, connections_per_host_max: int) -> None:
        self._hub = hub
        self._per_host_max = connections_per_host_max
        self._open: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        if request.headers.get("Content-Encoding"):
            return web.Response(status=415)
        if (request.content_length or 0) > BODY_BYTES_MAX:
            return web.Response(status=413)
        host = request.remote or ""
        if self._open[host] >= self._per_host_max:
            return web.Response(status=503, headers={"Retry-After": "5"})
        self._open[host] += 1
        try:
            return await self._handle(request)
        finally:
            self._open[host] -= 1
            if not self._open[host]:
                del self._open[host]

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_S):
                body = await request.read()
        except TimeoutError:
            return web.Response(status=408, headers={"Connection": "close"})
        answer = await self._hub.handle(request.match_info["name"], _token(request), body)
        headers = {}
        if answer.retry_after_s is not None:
            headers["Retry-After"] = f"{answer.retry_after_s:.1f}"
        return web.Response(status=answer.status, body=answer.body, headers=headers, content_type="application/vnd.tongban")


def _token(request: web.Request) -> bytes | None:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind != "Tongban" or len(text) != 2 * TOKEN_BYTES:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


async def serve(  # noqa: PLR0913
    hub: Hub, tls: Path, host: str, port: int, *, connections_max: int = 4_096, connections_per_host_max: int = 64
) -> Server:
    """Listen for other nodes.

    Raises:
        StoreError: the address cannot be taken.
    """
    sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES  # asyncio's 256 KiB a connection: 1,000 long polls would take 347 MB
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_post("/sync/1/{name}", _Door(hub, connections_per_host_max).answer)
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=IDLE_S,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        auto_decompress=False,
        shutdown_timeout=5.0,
    )
    await runner.setup()
    context: ssl.SSLContext = server_context(tls)
    site = web.TCPSite(runner, host, port, ssl_context=context, backlog=min(connections_max, 1_024))
    try:
        await site.start()
    except OSError as exc:
        await runner.cleanup()
        raise StoreError(f"cannot listen on {host}:{port}: {exc.strerror}", hint="Is another program using the port?") from exc
    taken = runner.addresses[0][1]
    lines.event("hub.listening", port=taken)
    return Server(runner, host, int(taken))
