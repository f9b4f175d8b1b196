"""Requests over TLS: what is no answer of a node becomes a LinkError, within its time and its bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node import tls, transport
from node.transport import HttpsTransport
from protocol.errors import LimitExceeded, LinkError

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@asynccontextmanager
async def standing(folder: Path, behave: Behaviour) -> AsyncIterator[str]:
    """Run a server that behaves as told; yields its address."""
    pem = folder / "node.pem"
    tls.ensure_certificate(pem, "650102000000")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server_context(pem))
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0.05)


def answering(data: bytes, *, stay: bool = False) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        if stay:
            await asyncio.sleep(1.0)

    return behave


async def request(address: str, timeout_s: float = 5.0) -> transport.Response:
    async with HttpsTransport(connect_timeout_s=1.0) as line:
        return await line.request(address, "/sync/1/hello", b"x", token="ab" * 16, timeout_s=timeout_s)


async def test_an_answer_comes_with_the_certificate_that_was_shown(tmp_path: Path) -> None:
    """The hash of the connection's own certificate goes up with the body, however short the answer."""
    async with standing(tmp_path, answering(OK)) as address:
        response = await request(address)
    assert (response.status, response.body) == (200, b"hello")
    assert response.certificate_hash == tls.certificate_hash(tls.load_certificate(tmp_path / "node.pem"))


async def test_the_request_says_who_and_what(tmp_path: Path) -> None:
    """Path, token and body as given; nothing that identifies a person or a machine; no compression asked for."""
    seen: list[bytes] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(1))
        writer.write(OK)
        await writer.drain()

    async with standing(tmp_path, behave) as address:
        await request(address)
    head = seen[0].decode()
    assert head.startswith("POST /sync/1/hello HTTP/1.1\r\n")
    assert f"Authorization: Tongban {'ab' * 16}" in head
    assert "Accept-Encoding: identity" in head
    assert head.endswith("x")
    assert "Cookie" not in head


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"\x00\x01garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
    ],
)
async def test_a_broken_answer_is_a_broken_line(tmp_path: Path, data: bytes) -> None:
    """Closed, cut off, or no HTTP: try again later."""
    async with standing(tmp_path, answering(data)) as address:
        with pytest.raises(LinkError):
            await request(address, 2.0)


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """A captive portal that sends elsewhere is answered nowhere."""
    data = b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with standing(tmp_path, answering(data)) as address:
        assert (await request(address)).status == 302


@pytest.mark.parametrize("sized", [True, False])
async def test_an_endless_answer_is_cut_at_its_bound(tmp_path: Path, sized: bool) -> None:
    """More than a message is not read, whether its length is told or not."""
    size = transport.PACKED_BYTES_MAX + 1
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size if sized else b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with standing(tmp_path, answering(head + bytes(size))) as address:
        with pytest.raises(LimitExceeded):
            await request(address, 20.0)


async def test_silence_ends_in_time(tmp_path: Path) -> None:
    """A half-open line does not hold a request beyond its timeout."""

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        await asyncio.sleep(2.0)

    async with standing(tmp_path, silent) as address:
        with pytest.raises(LinkError):
            async with asyncio.timeout(1.5):
                await request(address, 0.3)


async def test_nobody_there_is_a_broken_line() -> None:
    """A refused connection, a name that does not resolve and an address that is none are all a broken line."""
    for address in ("127.0.0.1:1", "no-such-host.invalid:443", "not an address"):
        with pytest.raises(LinkError):
            await request(address, 2.0)


@pytest.mark.parametrize(("told", "expected"), [(b"7.5", 7.5), (b"5", 5.0), (b"soon", None), (b"-3", None), (b"9" * 40, None)])
async def test_the_slot_is_read(tmp_path: Path, told: bytes, expected: float | None) -> None:
    """Retry-After in seconds; anything else is none."""
    data = b"HTTP/1.1 503 Busy\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % told
    async with standing(tmp_path, answering(data)) as address:
        assert (await request(address)).retry_after_s == expected
