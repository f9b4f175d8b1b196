"""The hub's door: TLS and HTTP around `hub.app.Hub`. No decision is taken here; `hub.guard` says what is borne.

What comes in is bounded before it is read: lines in all and of each caller, requests a second, the time for TLS, for a request's
head and for its body, the body's bytes. TLS read buffers are small, since a hub holds thousands of long polls.
"""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from hub.app import Hub
from hub.guard import Bounds, Guard, Line
from node import logs as lines
from node.config import join_address
from node.listening import cannot_listen
from node.tls import server_context
from protocol import limits, messages
from protocol.errors import Overloaded, TongbanError

TLS_BUFFER_BYTES: Final = 16 << 10
BODY_BYTES_MAX: Final = limits.MESSAGE_BYTES_MAX + (64 << 10)
HEADER_BYTES_MAX: Final = 8 << 10
HEADERS_MAX: Final = 32
TOKEN_BYTES: Final = 16
SWEEP_S: Final = 1.0  # so often at most overdue lines are looked for
KIND: Final = "application/vnd.tongban"


class _Caller(asyncio.Protocol):
    """One connection: looked at before TLS begins, then handed to HTTP. Owner: the event loop."""

    def __init__(self, door: _Door) -> None:
        self._door = door
        self._http: web.RequestHandler | None = None
        self._line: Line | None = None
        self._starting: asyncio.Task[None] | None = None
        self._early = b""  # what came in the same moment in which TLS stood

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or end it; called for the bare connection only."""
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        host = (transport.get_extra_info("peername") or ("",))[0]
        self._line = self._door.guard.admit(host, self._door.now_s(), transport.abort)
        if self._line is None:
            transport.abort()
            return
        self._starting = asyncio.ensure_future(self._start(transport, self._line))

    async def _start(self, transport: asyncio.Transport, line: Line) -> None:
        """Speak TLS, then HTTP over it."""
        if line not in self._door.guard.lines:
            return  # it gave way before it began
        loop, span_s = asyncio.get_running_loop(), self._door.guard.bounds.head_s
        try:
            secure = await loop.start_tls(
                transport, self, self._door.tls, server_side=True, ssl_handshake_timeout=span_s
            )
        except OSError:  # no TLS, or not in time: TimeoutError and ssl.SSLError are OSErrors
            secure = None
        if secure is None or line not in self._door.guard.lines:
            transport.abort()
            self._door.guard.forget(line)
            return
        self._http = self._door.begin(line)
        self._http.connection_made(secure)
        self._http.data_received(self._early)

    def data_received(self, data: bytes) -> None:
        """Hand on what came."""
        if self._http is not None:
            self._http.data_received(data)
        else:
            self._early += data

    def eof_received(self) -> None:
        """Hand on that nothing more comes."""
        if self._http is not None:
            self._http.eof_received()

    def pause_writing(self) -> None:
        """The other side reads slower than we write."""
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        """The other side has read."""
        if self._http is not None:
            self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the line."""
        if self._line is not None:
            self._door.guard.forget(self._line)
        if self._http is not None:
            self._door.end(self._http)
            self._http.connection_lost(exc)


class _Lines:
    """What aiohttp says of requests that it cannot read: one line each, and nothing of what was sent."""

    def debug(self, *_: object, **__: object) -> None:
        """Be silent."""

    def exception(self, _: str, *__: object, exc_info: BaseException | None = None) -> None:
        """Name the kind of fault."""
        lines.event("http.refused", error=type(exc_info).__name__)


class _Door:
    """Turns connections into HTTP requests, and those into `Hub.handle`. Owner: the event loop."""

    def __init__(self, hub: Hub, guard: Guard, tls: Path) -> None:
        self.guard = guard
        self.tls = server_context(tls)
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._lines: dict[object, Line] = {}  # by aiohttp's protocol
        self._server: web.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    def now_s(self) -> float:
        """Return the loop's time: that of sockets."""
        return self._loop.time()

    # --- lines

    def open(self, server: web.Server) -> None:
        """Begin to serve."""
        self._server = server
        self._sweep()

    def close(self) -> None:
        """End all lines."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for line in list(self.guard.lines):
            line.close()

    def _sweep(self) -> None:
        closed = self.guard.sweep(self.now_s())
        if closed:
            lines.event("lines.overdue", count=closed)
        self._sweeping = self._loop.call_later(min(SWEEP_S, self.guard.bounds.head_s / 4), self._sweep)

    def begin(self, line: Line) -> web.RequestHandler:
        """Return what speaks HTTP on a line."""
        assert self._server is not None
        http = self._server()
        self._lines[http] = line
        return http

    def end(self, http: object) -> None:
        """Forget what spoke HTTP on a line that has ended."""
        self._lines.pop(http, None)

    # --- requests

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request; what can be refused unread is refused unread."""
        line = self._lines.get(request.protocol)
        if line is None:  # the connection has just ended
            return _refused(408)
        self.guard.begin(line)
        token = _token(request)
        node = self._hub.sessions.owner_of(token)
        if node is not None:
            self.guard.know(line, node)
        size = 0
        try:
            response = await self._answer(request, line, token, node)
            size = len(response.body) if isinstance(response.body, bytes) else 0
            return response
        finally:
            self.guard.finish(line, self.now_s(), size)

    async def _answer(
        self, request: web.Request, line: Line, token: bytes | None, node: str | None
    ) -> web.Response:
        if request.headers.get("Content-Encoding"):
            return _refused(415)
        if "Transfer-Encoding" in request.headers:  # a node states its length: no chunks, no doubt where a body ends
            return _refused(411)
        if (request.content_length or 0) > BODY_BYTES_MAX:
            return _refused(413)
        wait_s = self.guard.pay(line, node, self.now_s())
        if wait_s:
            return _refused(429, Overloaded("too many requests", retry_after_s=max(1.0, wait_s)))
        body = await self._read(request)
        if isinstance(body, web.Response):
            return body
        self.guard.work(line)
        answer = await self._hub.handle(request.match_info["name"], token, body)
        headers = {} if answer.retry_after_s is None else _slot(answer.retry_after_s)
        return web.Response(status=answer.status, body=answer.body, headers=headers, content_type=KIND)

    async def _read(self, request: web.Request) -> bytes | web.Response:
        """Read a body that comes no slower and grows no larger than is borne; else return the refusal."""
        parts, size, begun_s = [], 0, self.now_s()
        try:
            async with asyncio.timeout(self.guard.bounds.body_s) as limit:
                async for part in request.content.iter_any():
                    parts.append(part)
                    size += len(part)
                    if size > BODY_BYTES_MAX:
                        return _refused(413)
                    limit.reschedule(begun_s + self.guard.bounds.body_s + size / limits.LINE_BYTES_PER_SECOND_MIN)
        except TimeoutError:
            return _refused(408)
        return b"".join(parts)


def _refused(status: int, exc: TongbanError | None = None) -> web.Response:
    """Answer without having read the body, so the connection cannot go on."""
    slot = _slot(exc.retry_after_s) if isinstance(exc, Overloaded) else {}
    told = None if exc is None else messages.encode(messages.Refusal(exc.code, exc.message, exc.hint, exc.retryable))
    response = web.Response(status=status, body=told, headers={"Connection": "close", **slot}, content_type=KIND)
    response.force_close()
    return response


def _slot(retry_after_s: float) -> dict[str, str]:
    return {"Retry-After": f"{retry_after_s:.1f}"}


def _token(request: web.Request) -> bytes | None:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind != "Tongban" or len(text) != 2 * TOKEN_BYTES:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


@dataclass(slots=True)
class Server:
    """A listening hub. port: the one really taken."""

    runner: web.AppRunner
    listener: asyncio.Server
    door: _Door
    host: str
    port: int

    @property
    def guard(self) -> Guard:
        """The lines that stand, and their bounds."""
        return self.door.guard

    async def stop(self) -> None:
        """Stop listening, let what is under way finish, then close."""
        self.listener.close()
        await self.runner.cleanup()
        self.door.close()


async def serve(hub: Hub, tls: Path, host: str, port: int, *, bounds: Bounds | None = None) -> Server:
    """Listen for other nodes.

    Raises:
        StoreError: the address cannot be taken.
    """
    sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES  # asyncio's 256 KiB a connection: 1,000 long polls would take 347 MB
    guard = Guard(bounds or Bounds())
    door = _Door(hub, guard, tls)
    runner = _runner(door)
    await runner.setup()
    assert runner.server is not None
    door.open(runner.server)
    listener = await _listen(door, runner, host, port)
    taken = int(listener.sockets[0].getsockname()[1])
    lines.event("hub.listening", port=taken)
    return Server(runner, listener, door, host, taken)


async def _listen(door: _Door, runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
    backlog = min(door.guard.bounds.lines, 1_024)
    try:
        return await asyncio.get_running_loop().create_server(lambda: _Caller(door), host, port, backlog=backlog)
    except OSError as exc:
        door.close()
        await runner.cleanup()
        raise cannot_listen(exc, join_address(host, port), "[listen] port") from exc


def _runner(door: _Door) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/sync/1/{name}", door.answer)
    return web.AppRunner(
        app,
        access_log=None,
        logger=_Lines(),
        keepalive_timeout=3_600.0,  # for the guard to decide
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
        auto_decompress=False,
        shutdown_timeout=5.0,
        lingering_time=1.0,
    )
