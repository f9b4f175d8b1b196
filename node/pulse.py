"""Whether the running node is alive: its event loop turns, and its store answers.

    async with beating(node, notifier) as pulse:
        pulse.live(now_s)

One rule for the service manager's watchdog and for `/health/live`: every few seconds the store is asked something small; when an
answer is overdue by `STALL_S`, or the loop itself stands still, no more beats are sent and the service is started anew. A
long unit of work is no stall, and neither is a parent that is away: a restart would mend neither.

The same loop takes the samples for the disk's forecast, since both go on as long as the node does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node import diskspace, logs
from node.node import Node
from node.store.database import Connection
from node.watchdog import Notifier
from protocol.errors import StoreError

BEAT_S: Final = 10.0
STALL_S: Final = 600.0  # a store that answers nothing for so long has lost its thread or its disk
SAMPLE_S: Final = 3_600.0  # how often to look whether a sample of the disk is due


@dataclass(slots=True)
class Pulse:
    """When the store answered last, by the monotonic clock. Owner: the event loop."""

    began_s: float
    answered_s: float

    def silent_s(self, now_s: float) -> float:
        """Return for how long the store has not answered."""
        return max(now_s - self.answered_s, 0.0)

    def live(self, now_s: float) -> bool:
        """Tell whether a restart would mend nothing."""
        return self.silent_s(now_s) < STALL_S


@asynccontextmanager
async def beating(node: Node, notifier: Notifier | None = None) -> AsyncIterator[Pulse]:
    """Ask the store, beat, and sample the disk while the block runs."""
    now_s = node.clock.monotonic_s()
    pulse = Pulse(now_s, now_s)
    tasks = [
        asyncio.create_task(_listen(node, pulse)),
        asyncio.create_task(_beat(node, pulse, notifier or Notifier())),
        asyncio.create_task(_sample(node)),
    ]
    try:
        yield pulse
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _listen(node: Node, pulse: Pulse) -> None:
    while True:
        try:
            await node.read(_something_small)
            pulse.answered_s = node.clock.monotonic_s()
        except StoreError as exc:
            logs.failure("store.silent", exc)  # and no answer is noted: what only refuses does not live
        await node.clock.sleep(BEAT_S)


async def _beat(node: Node, pulse: Pulse, notifier: Notifier) -> None:
    span_s = notifier.beat_s
    while span_s is not None:
        if pulse.live(node.clock.monotonic_s()):
            notifier.beat()
        await node.clock.sleep(span_s)


async def _sample(node: Node) -> None:
    while True:
        try:
            tell(node.id, await node.read(lambda conn: look(node, conn)))
            await node.write(lambda conn, _: diskspace.note(conn, node.clock.wall_ms()))
        except StoreError as exc:  # the next hour may find room
            logs.failure("disk.unknown", exc)
        await node.clock.sleep(SAMPLE_S)


def tell(node: str, found: diskspace.Forecast) -> None:
    """Write a warning down when the disk runs out."""
    if found.low:
        logs.event("disk.low", logs.WARNING, node=node, free_mib=found.space.free_bytes >> 20, days=found.days_left)


def look(node: Node, conn: Connection) -> diskspace.Forecast:
    """Return how long the disk of a node's store lasts."""
    reserve = diskspace.RESERVE_BYTES
    if node.room is not None:  # the ballast is thrown off before the reserve is touched
        reserve = node.room.sizes.reserve - _size_of(node.room.ballast)
    return diskspace.forecast(diskspace.load(conn), node.clock.wall_ms(), diskspace.measure(conn), reserve)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _something_small(conn: Connection) -> object:
    return conn.execute("SELECT count(*) FROM meta WHERE name = 'node'").fetchone()
