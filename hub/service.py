"""`tongban run`: a node and its accepting side, from start to drain.

Order of starting: lock, store, own certificate, listening, uplink, local API; then the first line that says ready. Order of
stopping: no new requests, those who wait are answered, what is under way is finished, the store is closed last. Whatever is
cut off is recovered by the same code at the next start: nothing rests on a clean stop.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from hub import commands
from hub.app import Hub
from hub.guard import Bounds
from hub.metrics import of_hub
from hub.server import Server, serve
from node import anew, ballast, local_api, monitoring, pulse, scrub, setup, tls, upkeep
from node import logs as lines
from node.ballast import Room
from node.command import Command, carry_out
from node.config import Config, join_address
from node.folder import Folder
from node.ledger import Changes, Draft
from node.metrics import of_certificate, of_uplink
from node.monitoring import Monitor
from node.node import Node
from node.ports import Clock, Entropy
from node.registrar import take_in
from node.rekeying import destroying_spent
from node.store.database import Connection
from node.transport import HttpsTransport
from node.upgrades import catch_up
from node.uplink import Settings, Uplink
from node.watchdog import Notifier
from protocol.register import Right

DRAIN_S: Final = 8.0
SWITCH_S: Final = 0.001  # the loop and the database thread take turns; Python's 5 ms would be felt at every hop
STOP: Final = "stop"  # over the local API: end as after a signal


@dataclass(frozen=True, slots=True)
class Ready:
    """What the first line says."""

    node: str
    listen: str
    web: str
    pid: int

    def as_dict(self) -> dict[str, object]:
        """Return the line's fields."""
        return {"ready": True, "node": self.node, "listen": self.listen, "web": self.web, "pid": self.pid}


def uplink_settings(config: Config) -> Settings:
    """Return the uplink's part of a configuration."""
    told = config.uplink
    return Settings(
        told.parents, told.request_timeout_s, int(told.wait_s), told.retry_min_s, told.retry_max_s
    )


async def run(
    folder: Folder,
    config: Config,
    clock: Clock,
    entropy: Entropy,
    ready: Callable[[Ready], None],
    stop: asyncio.Event,
    notifier: Notifier | None = None,
) -> None:
    """Run a node until `stop` is set.

    Args:
        ready: told where it answers, once it does.
        notifier: tells the service manager; None where there is none.

    Raises:
        StoreBusy: another process has the folder. PortTaken: another one has a port. InputError, StoreError: it cannot be used.
    """
    notifier = notifier or Notifier()
    sys.setswitchinterval(SWITCH_S)
    with folder.locked():
        async with AsyncExitStack() as stack:
            node = await setup.open_node(folder, clock, entropy)
            stack.push_async_callback(node.close)
            node.check_here()
            hub, server = await stack.enter_async_context(_listening(node, folder, config))
            node.listen = join_address(server.host, server.port)
            await catch_up(node)
            uplink = await stack.enter_async_context(_uplinked(node, config))
            stack.enter_context(commands.attached(node, uplink))
            await stack.enter_async_context(_kept_up(node, folder, config, uplink))
            stack.enter_context(destroying_spent(node))
            await stack.enter_async_context(anew.keeping_chain(node, folder))

            async def obey(command: Command) -> object:
                if command.name == STOP:  # works on every system, and for who did not start this process
                    stop.set()
                    return {"stopping": True}
                return await carry_out(node, command)

            monitor = await stack.enter_async_context(_watched(node, hub, uplink, folder, config, notifier))
            place = await stack.enter_async_context(
                local_api.serving(obey, folder, config.local, clock, entropy, monitor=monitor)
            )
            await announce(node, config.advertise.address or join_address(server.host, server.port))
            ready(Ready(node.id, join_address(server.host, server.port), place.web or place.url, os.getpid()))
            notifier.ready()
            await stop.wait()
            notifier.stopping()
            lines.event("service.stopping", node=node.id)


@asynccontextmanager
async def _kept_up(node: Node, folder: Folder, config: Config, uplink: Uplink | None) -> AsyncIterator[None]:
    """Keep room on the disk, and go over the store once a day."""
    node.room = Room(folder.store, upkeep.sizes(config))
    tasks = {asyncio.create_task(ballast.watch(node.room, node.clock))}
    if config.store.scrub_every_h:
        tasks.add(asyncio.create_task(scrub.daily(node, config.store.scrub_every_h)))
    try:
        with scrub.attached(node, upkeep.fetching(uplink.line) if uplink is not None else None):
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _watched(
    node: Node, hub: Hub, uplink: Uplink | None, folder: Folder, config: Config, notifier: Notifier
) -> AsyncIterator[Monitor]:
    """Let the service manager and watching programs see how the node is."""
    async with pulse.beating(node, notifier) as found:
        ends_at_s = tls.ends_at_s(tls.load_certificate(folder.tls))
        sources = partial(of_hub, hub), partial(of_uplink, uplink), partial(of_certificate, ends_at_s, node)
        monitor = Monitor(node, found, sources)
        if not config.metrics.listen:
            yield monitor
            return
        async with monitoring.serving(monitor, config.metrics.listen):
            yield monitor


@asynccontextmanager
async def _listening(node: Node, folder: Folder, config: Config) -> AsyncIterator[tuple[Hub, Server]]:
    certificate = tls.certificate_hash(tls.ensure_certificate(folder.tls, node.id))
    hub = Hub(node, certificate, waiting_max=config.limits.intake_waiting_max)
    bounds = Bounds(lines=config.limits.connections_max, per_host=config.limits.connections_per_host_max)
    server = await serve(hub, folder.tls, config.listen.host, config.listen.port, bounds=bounds)
    restoring = asyncio.create_task(hub.restoring.wait_out())
    try:
        yield hub, server
    finally:
        restoring.cancel()
        hub.close()
        await server.stop()


@asynccontextmanager
async def _uplinked(node: Node, config: Config) -> AsyncIterator[Uplink | None]:
    if node.parent is None:
        yield None
        return
    async with HttpsTransport(
        proxy=config.uplink.proxy, connect_timeout_s=config.uplink.connect_timeout_s
    ) as transport:
        uplink = Uplink(node, transport, uplink_settings(config))
        task = asyncio.create_task(uplink.run())
        try:
            yield uplink
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=DRAIN_S)


async def announce(node: Node, address: str) -> None:
    """State where this hub can be reached, if that is news: children look there, also for a parent's replacement."""
    record = node.rules.record(node.id)
    if record is None or Right.ENROL not in record.rights or record.addresses[:1] == (address,):
        return
    now = node.clock.wall_ms()

    def state(conn: Connection, changes: Changes) -> None:
        node.ledger.append(conn, [Draft("node.address", now, {"addresses": [address]})], changes)
        take_in(node.ledger, conn, changes, now)

    await node.write(state)
