"""Alive or not, on virtual time."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from node import diskspace, logs, pulse
from node.config import Log
from node.diskspace import RESERVE_BYTES, Forecast, Space
from node.node import Node
from node.pulse import BEAT_S, STALL_S
from node.store.database import InlineDatabase, T, Unit
from node.watchdog import Notifier
from protocol.errors import StoreError
from tests.node.building import CITY, found
from tests.world import VirtualClock, VirtualLoop

HOUR_S = 3_600


class Sick(InlineDatabase):
    """A store that, from a moment on, answers nothing, or only refuses."""

    silent = refusing = False

    async def read(self, unit: Unit[T]) -> T:
        if self.silent:
            await asyncio.get_running_loop().create_future()
        if self.refusing:
            raise StoreError("the disk does not answer")
        return await super().read(unit)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


def on(loop: VirtualLoop, story: Coroutine[Any, Any, None]) -> None:
    loop.run_until_complete(asyncio.wait_for(story, 1_000 * HOUR_S))


async def node_on(loop: VirtualLoop, folder: Path) -> tuple[Node, Sick]:
    node = await found(folder)
    await node.store.close()
    node.store = store = Sick(folder / "tongban.sqlite3")
    node.clock = VirtualClock(loop)
    return node, store


@pytest.mark.parametrize("sickness", ["silent", "refusing"])
def test_a_store_that_no_longer_answers_ends_the_beats(loop: VirtualLoop, tmp_path: Path, sickness: str) -> None:
    """Alive while the store answers and for a bounded time after; then no beat is sent, so that the service is restarted."""

    async def story() -> None:
        node, store = await node_on(loop, tmp_path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.setblocking(False)
            async with pulse.beating(node, Notifier(str(tmp_path / "notify"), 30.0)) as found:
                await asyncio.sleep(95.0)
                assert words(manager) == [b"WATCHDOG=1"] * 10
                setattr(store, sickness, True)
                await asyncio.sleep(STALL_S - 2 * BEAT_S)
                assert found.live(loop.time())
                await asyncio.sleep(3 * BEAT_S)
                assert not found.live(loop.time())
                words(manager)
                await asyncio.sleep(1_000.0)
                assert words(manager) == []
                store.silent = store.refusing = False
                if sickness == "refusing":  # a disk that comes back is heard again
                    await asyncio.sleep(2 * BEAT_S)
                    assert found.live(loop.time())

    on(loop, story())


def words(manager: socket.socket) -> list[bytes]:
    got = []
    while True:
        try:
            got.append(manager.recv(100))
        except BlockingIOError:
            return got


def test_the_disk_is_sampled_while_the_node_runs(loop: VirtualLoop, tmp_path: Path) -> None:
    """A sample every six hours, by the wall clock."""

    async def story() -> None:
        node, _ = await node_on(loop, tmp_path)
        async with pulse.beating(node):
            await asyncio.sleep(30 * HOUR_S + 60)
        samples = await node.read(diskspace.load)
        assert [round((one.at_ms - samples[0].at_ms) / 3_600_000) for one in samples] == [0, 6, 12, 18, 24, 30]
        assert (await node.read(lambda conn: pulse.look(node, conn))).bytes_a_day is not None

    on(loop, story())


def test_a_disk_that_runs_out_is_written_down(tmp_path: Path) -> None:
    """One warning line, with what is free and how many days are left; none while there is room."""
    out = io.StringIO()
    logs.configure(Log(file="-"), tmp_path, out)
    pulse.tell(CITY, Forecast(Space(1, 0, RESERVE_BYTES * 4), 1.0, 31.0))
    assert out.getvalue() == ""
    pulse.tell(CITY, Forecast(Space(1, 0, RESERVE_BYTES * 4), 1.0, 29.5))
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["free_mib"], line["days"]) == ("disk.low", "warning", RESERVE_BYTES * 4 >> 20, 29.5)
