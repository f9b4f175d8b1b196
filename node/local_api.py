"""The running node's door for commands on the same machine: HTTP on a loopback address, opened by a token.

    async with local_api.serving(run, folder, config.local, clock, entropy) as place:
        …                                   # run/api.json tells commands where; it goes when the block ends

Only who can read `run/api.json`, the user that the node runs as, may command the node. A page in a browser cannot: it has no token,
and a name that was made to point at this machine (DNS rebinding) is refused by its Host header. The form of commands and
answers is in `node.command`, the asking side in `node.local_client`.

A command that was begun is finished, also when its asker has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from aiohttp import web

from node import logs
from node.command import COMMAND_BYTES_MAX, LINES_TYPE, MARK, PATH, Command, Run, decode_command, failure_line
from node.config import Local, join_address
from node.folder import ApiPlace, Folder
from node.listening import cannot_listen
from node.monitoring import Monitor
from node.ports import Clock, Entropy
from protocol.errors import LimitExceeded, NotFound, NotPermitted, TongbanError

TOKEN_BYTES: Final = 32
CHUNK_BYTES: Final = 64 << 10  # rows are sent in pieces of about this size
DRAIN_S: Final = 8.0  # for commands under way when the node stops
COMMANDS_MAX: Final = 64  # at work at once; more wait


@asynccontextmanager
async def serving(
    run: Run,
    folder: Folder,
    settings: Local,
    clock: Clock,
    entropy: Entropy,
    *,
    web_url: str = "",
    monitor: Monitor | None = None,
) -> AsyncIterator[ApiPlace]:
    """Serve the local API while the block runs.

    Args:
        run: carries a command out.
        folder: gets `run/api.json`.
        settings: loopback address; port 0 takes a free one.
        clock: for the log.
        entropy: for the token, a new one at each start.
        web_url: of the counter's pages, told to commands; empty when there are none.
        monitor: answers watching programs of this machine; they need no token, since they are told no secret.

    Raises:
        StoreError: the address is taken, or the folder refuses the file.
    """
    api = _Api(run, clock, entropy.bytes(TOKEN_BYTES).hex())
    # Our own close gives commands their time; aiohttp would also wait for idle kept-alive connections.
    application = api.application()
    if monitor is not None:
        monitor.add_routes(application, api.check_host)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        port = await _listen(runner, settings)
        api.hosts = _hosts(settings.host, port)
        place = ApiPlace(os.getpid(), f"http://{join_address(settings.host, port)}", api.token, web_url)
        folder.save_api(place)
        try:
            yield place
        finally:
            folder.remove_api()
            await api.drained()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: Local) -> int:
    site = web.TCPSite(runner, settings.host, settings.port)
    try:
        await site.start()
    except OSError as exc:
        raise cannot_listen(exc, join_address(settings.host, settings.port), "[local] port") from exc
    return int(runner.addresses[0][1])


def _hosts(host: str, port: int) -> frozenset[str]:
    return frozenset(join_address(name, port) for name in {host, "localhost", "127.0.0.1", "::1"})


class _Api:
    """Answers requests; knows the token and what is under way."""

    def __init__(self, run: Run, clock: Clock, token: str) -> None:
        self.token = token
        self.hosts: frozenset[str] = frozenset()
        self._run = run
        self._clock = clock
        self._slots = asyncio.Semaphore(COMMANDS_MAX)
        self._under_way: set[asyncio.Task[object]] = set()  # owned by the event loop

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application(client_max_size=COMMAND_BYTES_MAX, middlewares=[_told])
        application.router.add_post(PATH, self.command)
        return application

    async def command(self, request: web.Request) -> web.StreamResponse:
        """Carry one command out."""
        self._check(request)
        command = decode_command(await _read(request))
        began = self._clock.monotonic_s()
        code = "error"
        try:
            async with self._slots:
                result = await self._finished(command)
                code = "ok"
                return await (_stream(request, result) if isinstance(result, AsyncIterator) else _value(result))
        except TongbanError as error:
            code = error.code
            raise
        finally:
            ms = round((self._clock.monotonic_s() - began) * 1000)
            logs.event("api.command", command=command.name, code=code, ms=ms)

    async def drained(self) -> None:
        """Wait for what is under way, within bounds; what was committed stays in any case."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_S)

    async def _finished(self, command: Command) -> object:
        """Run a command in a task of its own, so that an asker who goes away cancels nothing."""
        task = asyncio.create_task(self._run(command))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def check_host(self, request: web.Request) -> None:
        """Refuse a page whose name was made to point at this machine."""
        if request.host not in self.hosts:
            raise NotPermitted("the local API answers under loopback names only")

    def _check(self, request: web.Request) -> None:
        self.check_host(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not hmac.compare_digest(token.encode(), self.token.encode()):
            raise NotPermitted("the token is missing or wrong", hint="The running node's token is in run/api.json.")


@web.middleware
async def _told(request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's handler type is private
    """Turn every failure into an answer of the API: the one place that does."""
    try:
        response: web.StreamResponse = await handler(request)
    except TongbanError as error:
        response = _refusal(error)
    except web.HTTPException as exc:
        response = _refusal(NotFound(f"the local API has no such request ({exc.status})"))
    except Exception as exc:  # noqa: BLE001 - a mistake in one command must not stop the node
        logs.failure("api.failed", exc)
        response = _refusal(unexpected(exc))
    if not response.prepared:
        response.headers[MARK[0]] = MARK[1]
    return response


def unexpected(exc: BaseException) -> TongbanError:
    """Describe a mistake of the program by its class only: its message may hold personal data."""
    return TongbanError(
        f"the program failed: {type(exc).__name__}",
        hint="Nothing half-done was kept. Send the log file to the maintainers.",
    )


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as exc:
        raise LimitExceeded(f"a command has more than {COMMAND_BYTES_MAX} bytes") from exc


async def _value(result: object) -> web.StreamResponse:
    return web.Response(body=_line({"value": result}), content_type=LINES_TYPE)


def _refusal(error: TongbanError) -> web.Response:
    return web.Response(status=error.http_status, body=_line(failure_line(error)), content_type=LINES_TYPE)


async def _stream(request: web.Request, rows: AsyncIterator[object]) -> web.StreamResponse:
    """Send rows as they come; a failure in the middle is the last line."""
    response = web.StreamResponse(headers={"Content-Type": LINES_TYPE, MARK[0]: MARK[1]})
    await response.prepare(request)
    buffer = bytearray()
    with contextlib.suppress(ConnectionError):  # the asker has gone: the rest is for nobody
        async for line in _told_rows(rows):
            buffer += _line(line)
            if len(buffer) >= CHUNK_BYTES:
                await response.write(bytes(buffer))
                buffer.clear()
        await response.write(bytes(buffer))
        await response.write_eof()
    return response


async def _told_rows(rows: AsyncIterator[object]) -> AsyncGenerator[dict[str, object], None]:
    count = 0
    try:
        async for row in rows:
            yield {"row": row}
            count += 1
    except TongbanError as error:
        yield failure_line(error)
    except Exception as exc:  # noqa: BLE001 - as in `_told`
        logs.failure("api.failed", exc)
        yield failure_line(unexpected(exc))
    else:
        yield {"end": count}


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
