"""What watching programs ask: `GET /metrics`, `/health/live`, `/health/ready`; on the local API, and where `[metrics] listen` says.

    monitor = Monitor(node, pulse, [families_of_a_hub])
    monitor.add_routes(application)                  # of the local API
    async with serving(monitor, "10.1.2.3:9650"): …

Answers hold counts, node ids and error codes: no token is asked for, and nothing can be changed here. Numbers are collected at most
once a second, one collection at a time, however many ask; they are read on the reader's thread, so saving does not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from node import health, logs, metrics
from node.config import join_address, parse_address
from node.listening import cannot_listen
from node.metrics import Family
from node.node import Node
from node.pulse import Pulse
from node.store.database import Connection
from protocol.errors import StoreError

FRESH_S: Final = 1.0
REQUESTS_MAX: Final = 16  # at once; more are told to come later
IDLE_S: Final = 15.0

Source = Callable[[Connection], Iterable[Family]]
"""Collects numbers on the reader's connection."""
Check = Callable[[web.Request], None]
"""Raises for who may not ask."""


class Monitor:
    """Answers with numbers and health. Owner: the event loop."""

    def __init__(self, node: Node, pulse: Pulse, sources: Sequence[Source] = ()) -> None:
        self._node = node
        self._pulse = pulse
        self._sources: tuple[Source, ...] = (partial(metrics.of_store, node), *sources)
        self._lock = asyncio.Lock()
        self._under_way = 0
        self._text = ""
        self._taken_s = float("-inf")

    async def metrics(self) -> str:
        """Return all numbers in Prometheus' text format.

        Raises:
            StoreError: the store does not answer.
        """
        async with self._lock:
            if self._node.clock.monotonic_s() - self._taken_s >= FRESH_S:
                collected = await self._node.read(self._collect)
                self._text = metrics.render([*collected, *metrics.of_process(self._node, self._pulse.began_s)])
                self._taken_s = self._node.clock.monotonic_s()
            return self._text

    def add_routes(self, application: web.Application, check: Check = lambda _request: None) -> None:
        """Answer on an application."""
        for path, answer in (
            ("/metrics", self._metrics),
            ("/health/live", self._live),
            ("/health/ready", self._ready),
        ):
            application.router.add_get(path, partial(self._bounded, check, answer), allow_head=False)

    async def _bounded(
        self, check: Check, answer: Callable[[], Awaitable[web.Response]], request: web.Request
    ) -> web.Response:
        """Answer so many at once; a store that refuses is one line in the log."""
        check(request)
        if self._under_way >= REQUESTS_MAX:
            return web.Response(status=503, text="overloaded", headers={"Retry-After": "1"})
        self._under_way += 1
        try:
            return await answer()
        except StoreError as exc:
            logs.failure("metrics.failed", exc)
            return web.Response(status=503, text=exc.code)
        finally:
            self._under_way -= 1

    def _collect(self, conn: Connection) -> list[Family]:
        return [family for source in self._sources for family in source(conn)]

    async def _metrics(self) -> web.Response:
        text = await self.metrics()
        return web.Response(body=text.encode("utf-8"), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _live(self) -> web.Response:
        return _shown(health.live(self._pulse, self._node.clock.monotonic_s()))

    async def _ready(self) -> web.Response:
        return _shown(await health.ready(self._node, self._pulse))


@asynccontextmanager
async def serving(monitor: Monitor, listen: str) -> AsyncIterator[str]:
    """Answer watching programs of other machines while the block runs.

    Args:
        listen: HOST:PORT; port 0 takes a free one.

    Yields:
        The address really taken.

    Raises:
        StoreError: the address cannot be taken.
    """
    host, port = parse_address(listen, "[metrics] listen", port_min=0)
    application = web.Application(client_max_size=1_024)
    monitor.add_routes(application)
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, shutdown_timeout=0.1, keepalive_timeout=IDLE_S
    )
    await runner.setup()
    try:
        await _start(runner, host, port)
        taken = join_address(host, int(runner.addresses[0][1]))
        logs.event("metrics.listening", address=taken)
        yield taken
    finally:
        await runner.cleanup()


async def _start(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as exc:
        raise cannot_listen(exc, join_address(host, port), "[metrics] listen") from exc


def _shown(found: health.Health) -> web.Response:
    return web.Response(
        status=found.http_status, body=msgspec.json.encode(found.shown()) + b"\n", content_type="application/json"
    )
