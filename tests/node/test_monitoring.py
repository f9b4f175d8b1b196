"""Watching programs ask over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import metrics, monitoring
from node.metrics import Family
from node.monitoring import REQUESTS_MAX, Monitor
from node.node import Node
from node.pulse import STALL_S, Pulse
from node.store.database import Connection
from protocol.errors import PortTaken, StoreError
from tests.node.building import VirtualClock, found
from tests.node.test_metrics import numbers


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    return await found(tmp_path / "city")


def pulse_of(node: Node) -> Pulse:
    return Pulse(node.clock.monotonic_s(), node.clock.monotonic_s())


async def get(address: str, path: str, *, host: str = "") -> tuple[int, str, str]:
    """Ask as a watching program does; host: another name for the address."""
    where, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(where, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host or address}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    kinds = [line.split(": ")[1] for line in head.splitlines() if line.startswith("Content-Type: ")]
    return int(head.split()[1]), kinds[0], body


async def test_numbers_and_health_are_answered(node: Node) -> None:
    """Three addresses, each in its form; nothing else is there."""
    pulse = pulse_of(node)
    async with monitoring.serving(Monitor(node, pulse), "127.0.0.1:0") as address:
        status, kind, text = await get(address, "/metrics")
        assert (status, kind) == (200, metrics.CONTENT_TYPE)
        assert numbers(text)["tongban_uptime_seconds"] == 0
        assert (await get(address, "/health/live"))[0] == 200
        status, kind, text = await get(address, "/health/ready")
        assert (status, json.loads(text)["ready"]) == (200, True)
        assert kind.startswith("application/json")
        for path in ("/", "/api/command", "/sync/1/greet"):
            assert (await get(address, path))[0] == 404
        pulse.answered_s -= STALL_S
        assert (await get(address, "/health/live"))[0] == 503
        assert (await get(address, "/health/ready"))[0] == 503


async def test_many_who_ask_are_one_collection(node: Node) -> None:
    """A second's numbers are collected once, one collection at a time."""
    collections = 0

    def source(_conn: Connection) -> Iterator[Family]:
        nonlocal collections
        collections += 1
        yield metrics.gauge("extra", "Of a hub.", collections)

    monitor = Monitor(node, pulse_of(node), [source])
    texts = await asyncio.gather(*(monitor.metrics() for _ in range(50)))
    assert collections == 1
    assert numbers(texts[0])["tongban_extra"] == 1
    clock = node.clock
    assert isinstance(clock, VirtualClock)
    clock.at_ms += 1_000
    assert numbers(await monitor.metrics())["tongban_extra"] == 2


async def test_more_than_a_bound_are_told_to_come_later(node: Node) -> None:
    """A flood of questions holds nothing up but itself."""
    gate = asyncio.Event()

    class Slow(Monitor):
        async def metrics(self) -> str:
            await gate.wait()
            return await super().metrics()

    async with monitoring.serving(Slow(node, pulse_of(node)), "127.0.0.1:0") as address:
        asked = [asyncio.create_task(get(address, "/metrics")) for _ in range(REQUESTS_MAX + 1)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=10.0)
        assert [one.result()[0] for one in done] == [503]
        gate.set()
        assert sorted([(await one)[0] for one in asked]) == [200] * REQUESTS_MAX + [503]


async def test_a_store_that_refuses_is_an_answer(node: Node) -> None:
    """The watching program gets the error's code and 503; the node goes on."""

    def broken(_conn: Connection) -> Iterator[Family]:
        raise StoreError("the disk does not answer")

    async with monitoring.serving(Monitor(node, pulse_of(node), [broken]), "127.0.0.1:0") as address:
        status, _, text = await get(address, "/metrics")
        assert (status, text) == (503, "store")
        assert (await get(address, "/health/live"))[0] == 200


async def test_a_taken_port_is_said(node: Node) -> None:
    """Two cannot listen at one address."""
    monitor = Monitor(node, pulse_of(node))
    async with monitoring.serving(monitor, "127.0.0.1:0") as address:
        with pytest.raises(PortTaken, match=address):
            async with monitoring.serving(monitor, address):
                pass
