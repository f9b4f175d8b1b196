"""Callers that are slow, silent, odd, or without end: each costs a bound, ends in bounded time, and keeps no honest child waiting.

They call from addresses of their own (127.0.0.2 and up); the honest child from 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.guard import BURST, Bounds
from node import tls
from node.ledger import Changes, Draft
from node.node import Node
from node.registrar import take_in
from node.store.database import Connection
from node.uplink import Uplink
from protocol import messages
from tests.chaos import Chaos
from tests.hub.calling import dump
from tests.network.door import Open, ended, head, lined, listening, memory_mb, sync
from tests.node.building import EAST, opened

SHORT = Bounds(head_s=0.5, body_s=0.5)
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def called(open_: Open, number: int = 2, *, secure: bool = True) -> Pair:
    """Return a connection from another address."""
    context = tls.client_context() if secure else None
    return await asyncio.open_connection("127.0.0.1", open_.server.port, ssl=context, local_addr=(f"127.0.0.{number}", 0))


async def spans_of(uplink: Uplink, count: int = 40) -> list[float]:
    """Time small honest requests, one after the other."""
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        await uplink.line.ask("hello", messages.Hello(bytes(32)), messages.HelloReply)
        found.append(time.perf_counter() - begun)
    return found


def p99(spans: list[float]) -> float:
    return statistics.quantiles(spans, n=100)[98]


@asynccontextmanager
async def served_meanwhile(open_: Open) -> AsyncIterator[Uplink]:
    """What happens inside costs an honest child at most twice its usual time (and a machine's hiccup)."""
    async with lined(open_.child.node, open_.address) as uplink:
        await uplink.round()
        quiet = p99(await spans_of(uplink))
        yield uplink
        assert p99(await spans_of(uplink)) <= 2 * quiet + 0.05


async def all_ended(pairs: list[Pair], within_s: float) -> None:
    """Every connection is closed by the other side within a time."""
    async with asyncio.timeout(within_s):
        await asyncio.gather(*(ended(reader) for reader, _ in pairs))
    for _, writer in pairs:
        writer.transport.abort()
    await asyncio.sleep(0)


# --- N11


async def test_a_thousand_idle_connections(tmp_path: Path) -> None:
    """N11, C10: they take little memory, an honest child is served beside them, and all of them are closed in time."""
    async with listening(tmp_path, SHORT) as open_:
        async with served_meanwhile(open_):
            before = memory_mb()
            idle = [await _silent(open_, 2 + number % 16) for number in range(1_000)]
            assert memory_mb() - before < 100  # 64 KB each, most of it OpenSSL's
            assert len(open_.server.guard.lines) <= 16 * 64 + 1
        await until(lambda: len(open_.server.guard.lines) == 0)
        for one in idle:
            one.close()


async def _silent(open_: Open, number: int) -> socket.socket:
    """Connect from another address, and say nothing; a bare socket, whose memory is the system's."""
    found = socket.socket()
    found.bind((f"127.0.0.{number}", 0))
    found.connect(("127.0.0.1", open_.server.port))
    await asyncio.sleep(0)
    return found


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the product, which knows no events of tests
            await asyncio.sleep(0.02)


async def test_idle_connections_end_in_their_time(tmp_path: Path) -> None:
    """N11: silent before TLS, after TLS, and after one answer: closed when the time of a head is over."""
    async with listening(tmp_path, SHORT) as open_:
        begun = time.monotonic()
        pairs = [await called(open_, secure=False), await called(open_), await called(open_)]
        pairs[2][1].write(head("Content-Length: 0", path="/sync/1/hello"))
        await all_ended(pairs, 3.0)
        assert time.monotonic() - begun >= 0.4
        assert not open_.server.guard.lines


async def test_heads_and_bodies_that_trickle(tmp_path: Path) -> None:
    """N11: a byte now and then is not waited for: 60 slow heads and 60 slow bodies end in time, and hold up nobody."""
    async with listening(tmp_path, SHORT) as open_, served_meanwhile(open_) as uplink:
        pairs = await asyncio.gather(*(called(open_, 2 + number % 2) for number in range(60)))
        begun = time.monotonic()
        slow = [asyncio.ensure_future(_trickle(writer, number % 2 == 0)) for number, (_, writer) in enumerate(pairs)]
        assert p99(await spans_of(uplink, 20)) < 0.5
        await all_ended(list(pairs), 5.0)
        assert time.monotonic() - begun < 5.0
        for one in slow:
            one.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def _trickle(writer: asyncio.StreamWriter, heads: bool) -> None:
    """Write one byte after the other, of a head, or of a body behind a whole head."""
    text = head("Content-Length: 1000")
    if not heads:
        writer.write(text)
    for byte in text if heads else bytes(1_000):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def test_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    """N11: answers that nobody takes end with their connection; what waits to be sent is bounded."""
    async with listening(tmp_path, SHORT) as open_:
        reader, writer = await called(open_)
        reader._limit = 1  # type: ignore[attr-defined]  # and so it pauses: nothing is read
        for _ in range(200):
            writer.write(head("Content-Length: 1") + b"x")
        await until(lambda: not open_.server.guard.lines)
        writer.transport.abort()


async def test_a_slow_honest_body_is_taken(tmp_path: Path) -> None:
    """N01, N11: slow is not stalled: a body that keeps coming is read to its end, long after the first span."""
    async with listening(tmp_path, Bounds(body_s=0.3, head_s=1.0)) as open_:
        for number in range(70):
            await opened(open_.child.node, field={"f": random.Random(number).randbytes(700).hex()})
        async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address) as uplink:
            await uplink.line.meet()
            await uplink.comparing.compare()
            chaos.up.bytes_per_s = 45_000
            begun = time.monotonic()
            await uplink.push_all()
            assert time.monotonic() - begun > 0.6
        assert uplink.progress.acked > 70


# --- N12

GET = "POST /sync/1/login HTTP/1.1\r\nHost: hub\r\nContent-Length: 0\r\n\r\n"
ODD = {
    "two lengths": head("Content-Length: 3", "Content-Length: 5") + b"abcde",
    "two equal lengths": head("Content-Length: 3", "Content-Length: 3") + b"abc",
    "length and chunks": head("Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + GET.encode(),
    "chunks and length": head("Transfer-Encoding: chunked", "Content-Length: 3") + b"0\r\n\r\n" + GET.encode(),
    "chunks": head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n" + GET.encode(),
    "chunk extension": head("Transfer-Encoding: chunked") + b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "chunk size": head("Transfer-Encoding: chunked") + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "hidden chunks": head("Transfer-Encoding: xchunked", "Content-Length: 0") + GET.encode(),
    "chunks with a tab": head("Transfer-Encoding:\tchunked", "Content-Length: 0") + GET.encode(),
    "plus length": head("Content-Length: +3") + b"abc",
    "negative length": head("Content-Length: -3") + b"abc",
    "long length": head("Content-Length: 99999999999999999999"),
    "space before colon": head("Content-Length : 3") + b"abc",
    "folded header": head("X: a", " b", "Content-Length: 0"),
    "bare LF": b"POST /sync/1/greet HTTP/1.1\nHost: hub\nContent-Length: 0\n\n",
    "bare CR": head("X: a\rContent-Length: 5", "Content-Length: 0"),
    "NUL": head("X: a\0b", "Content-Length: 0"),
    "20 KB header": head("X: " + "y" * 20_000, "Content-Length: 0"),
    "20 KB line": head("Content-Length: 0", path="/sync/1/" + "g" * 20_000),
    "200 headers": head(*(f"X{number}: y" for number in range(200)), "Content-Length: 0"),
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "plain text": b"hello\r\n\r\n",
    "upgrade": head("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 0") + b"PRI * HTTP/2.0\r\n\r\n",
}


@pytest.mark.parametrize("proxied", [False, True])
async def test_odd_http_is_refused_once_and_hides_nothing(
    tmp_path: Path, proxied: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """N12: of each there is one refusal at most, straight or through a proxy; no second request comes out of its body."""
    async with listening(tmp_path, SHORT) as open_:
        contexts = {"inner": tls.client_context(), "outer": tls.server_context(open_.tls)}
        async with Chaos(open_.server.port, **contexts) as chaos:
            before = await dump(open_.hub)
            answers = {name: await _said(chaos.port if proxied else open_.server.port, request) for name, request in ODD.items()}
        for name, answer in answers.items():
            statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
            assert len(statuses) <= 1, (name, answer)
            assert set(statuses) <= {b"400", b"403", b"411", b"413"}, (name, answer)
        assert await dump(open_.hub) == before
        await sync(open_)
    said = [str(vars(record)) for record in caplog.records if record.name != "asyncio"]
    assert len(said) <= 2 * len(ODD)
    assert not [line for line in said if "yyyy" in line or len(line) > 2_000]  # bounded, and nothing of what was sent


async def _said(port: int, request: bytes) -> bytes:
    """Send bytes and return all that comes back until the other side closes, which it does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client_context())
    writer.write(request)
    found = b""
    try:
        async with asyncio.timeout(3.0):
            while part := await reader.read(1 << 16):
                found += part
    except ConnectionError:
        pass
    writer.close()
    return found


# --- A12


def _revoke(hub: Node, node: str) -> Callable[[Connection, Changes], None]:
    def revoke(conn: Connection, changes: Changes) -> None:
        record = hub.rules.record(node)
        assert record is not None
        now = hub.clock.wall_ms()
        hub.ledger.append(conn, [Draft("node.revoke", now, {"node": node, "key": record.key, "cuts": []})], changes)
        take_in(hub.ledger, conn, changes, now)

    return revoke


async def test_a_revoked_node_that_polls_without_end(tmp_path: Path) -> None:
    """A12: first 403, then 429 before its bodies are read, then no TLS; the bucket is its address's, not the honest child's."""
    async with listening(tmp_path, Bounds(per_host=20)) as open_:
        token = (await open_.child.login()).token.hex()
        await open_.hub.write(_revoke(open_.hub, EAST))
        handled = _counted(open_)
        request = head(f"Authorization: Tongban {token}", "Content-Length: 4", path="/sync/1/pull") + b"abcd"
        begun = time.monotonic()
        statuses = [status for _ in range(300) if (status := await _status(open_, request))]
        assert {b"403", b"429"} >= set(statuses)
        assert b"403" in statuses
        assert len(handled) <= _bearable(20, begun)


async def test_an_unknown_caller_that_floods(tmp_path: Path) -> None:
    """A12: of some thousand requests few reach the hub; an honest child beside is served as ever."""
    async with listening(tmp_path, Bounds(per_host=20)) as open_, served_meanwhile(open_) as uplink:
        handled = _counted(open_)
        begun, stop = time.monotonic(), asyncio.Event()
        flood = asyncio.gather(*(_flood(open_, stop) for _ in range(4)))
        busy = p99(await spans_of(uplink, 60))
        stop.set()
        await flood
        assert busy < 0.5
        assert 0 < handled.count("greet") <= _bearable(20, begun)


def _bearable(per_s: int, begun_s: float) -> int:
    """Return how many requests of one address a door lets through in a time."""
    return int(per_s * (BURST + time.monotonic() - begun_s)) + 1


def _counted(open_: Open) -> list[str]:
    """Note what reaches the hub behind its door."""
    honest, names = open_.child.hub.handle, []

    def handle(name: str, token: bytes | None, body: bytes) -> Awaitable[object]:
        names.append(name)
        return honest(name, token, body)

    open_.child.hub.handle = handle  # type: ignore[method-assign, assignment]
    return names


async def _status(open_: Open, request: bytes) -> bytes:
    """Send a request on a connection of its own; returns the status, or nothing where none came."""
    try:
        reader, writer = await called(open_)
    except OSError:
        return b""
    try:
        writer.write(request)
        return (await reader.read(64))[9:12]
    except OSError:
        return b""
    finally:
        writer.close()


async def _flood(open_: Open, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await _status(open_, head("Content-Length: 1") + b"x")
