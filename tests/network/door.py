"""A hub behind its real door and an honest child, for tests on real sockets; and bare connections for callers that are neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub.app import Hub
from hub.guard import Bounds
from hub.server import Server, serve
from node import tls
from node.node import Node
from node.store import logs
from node.system import resident_bytes
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from protocol.errors import TongbanError
from tests.hub.calling import Caller, count
from tests.node.building import CITY, EAST, ask, enrol, found, furnish, hire, size_of


@dataclass
class Open:
    """A listening hub and an honest child."""

    server: Server
    child: Caller
    tls: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    @property
    def hub(self) -> Node:
        return self.child.hub.node


@asynccontextmanager
async def listening(folder: Path, bounds: Bounds | None = None) -> AsyncIterator[Open]:
    """Serve a city's hub on a port of its own; a district is enrolled and has an officer."""
    city = await furnish(await found(folder / "city"))
    node = await enrol(folder / EAST, city, EAST)
    await hire(node)
    pem = folder / "node.pem"
    hub = Hub(city, tls.certificate_hash(tls.ensure_certificate(pem, CITY)))
    server = await serve(hub, pem, "127.0.0.1", 0, bounds=bounds)
    try:
        yield Open(server, Caller(node, hub), pem)
    finally:
        hub.close()
        await server.stop()


@asynccontextmanager
async def lined(node: Node, address: str, timeout_s: float = 5.0) -> AsyncIterator[Uplink]:
    """Give a node an uplink to an address."""
    async with HttpsTransport(connect_timeout_s=timeout_s) as transport:
        uplink = Uplink(node, transport, Settings((address,), timeout_s))
        try:
            yield uplink
        finally:
            uplink.close()


async def sync(open_: Open, child: Caller | None = None) -> Uplink:
    """Let a child do a whole round over real sockets."""
    async with lined((child or open_.child).node, open_.address, 10.0) as uplink:
        await uplink.round()
    return uplink


async def tried(uplink: Uplink) -> TongbanError | None:
    """Do a round as the endless loop does; returns what it failed with."""
    try:
        await uplink.round()
    except TongbanError as exc:
        uplink.drop(exc)
        return exc
    return None


async def held(open_: Open) -> int:
    """Return how much of the child's log the hub has."""
    log = open_.child.node.ledger.identity.log
    row = await open_.hub.read(lambda conn: logs.find_log(conn, log))
    return row.size if row else 0


async def acked(node: Node) -> int:
    """Return how much of its own log a node knows to be held above."""
    return int(await node.read(lambda conn: logs.acks(conn).get(node.ledger.own_row(conn).id, 0)))


async def check_once(open_: Open, *cases: str) -> None:
    """Both sides hold the same, each entry once, and every proof holds."""
    assert await held(open_) == await acked(open_.child.node) == await size_of(open_.child.node)
    assert await count(open_.hub, "entries", "raw IN (SELECT raw FROM entries GROUP BY raw HAVING count(*) > 1)") == 0
    assert (await ask(open_.hub, "verify"))["problems"] == []
    for case in cases:
        pages: list[Any] = [await ask(one, "show", case=case) for one in (open_.hub, open_.child.node)]
        assert pages[0]["digest"] == pages[1]["digest"]


async def raw(open_: Open) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a bare TLS connection."""
    return await asyncio.open_connection("127.0.0.1", open_.server.port, ssl=tls.client_context())


async def said(open_: Open, request: bytes) -> bytes:
    """Send bytes and return all that comes back until the hub closes, or a while passes."""
    reader, writer = await raw(open_)
    writer.write(request)
    await writer.drain()
    found = b""
    try:
        async with asyncio.timeout(0.4):
            while part := await reader.read(1 << 16):
                found += part
    except TimeoutError:
        pass
    except OSError:
        pass
    writer.close()
    return found


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side closes."""
    try:
        while await reader.read(1 << 16):
            pass
    except OSError:
        pass
    return True


def head(*lines: str, path: str = "/sync/1/greet", method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: hub", *lines, "", ""]).encode()


def memory_mb() -> float:
    """Return what this process has in memory; skips the test where the system does not say."""
    found = resident_bytes()
    if found is None:
        pytest.skip("this system does not say how much memory a process has")
    return found / (1 << 20)
