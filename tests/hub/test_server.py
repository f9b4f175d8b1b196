"""The hub's door on real TLS sockets: slow, idle, odd and flooding callers cost little, and the honest are served."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from hub.guard import Bounds
from hub.server import BODY_BYTES_MAX, serve
from node import tls
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from node.uplink.calling import refusal_of
from protocol import messages
from protocol.errors import LinkError, Overloaded, StoreError
from tests.hub.calling import Caller
from tests.network.door import Open, ended, head, listening, raw, said, sync
from tests.node.building import CITY, WEST, enrol, hire, opened


async def test_a_child_syncs_over_tls(tmp_path: Path) -> None:
    """Meeting, pushing and pulling on real sockets, with signatures over the certificate that was shown."""
    async with listening(tmp_path) as open_:
        await opened(open_.child.node)
        uplink = await sync(open_)
        assert uplink.progress.acked == 3


async def test_somebody_on_the_line_with_another_certificate_is_found(tmp_path: Path) -> None:
    """TLS inspection or a wrong host ends at the signed greeting; nothing was sent."""
    async with listening(tmp_path) as open_:
        other = tmp_path / "other.pem"
        tls.ensure_certificate(other, "middle")

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner, outer = await raw(open_)
            await asyncio.gather(_pump(reader, outer), _pump(inner, writer), return_exceptions=True)

        middle = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=tls.server_context(other))
        port = middle.sockets[0].getsockname()[1]
        async with HttpsTransport() as transport:
            uplink = Uplink(open_.child.node, transport, Settings((f"127.0.0.1:{port}",), 5.0))
            with pytest.raises(Exception, match=r"signature|certificate"):
                await uplink.round()
            uplink.close()
        middle.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(1 << 16):
        writer.write(part)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "identity, gzip"])
async def test_a_content_encoding_is_refused_unread(tmp_path: Path, coding: str) -> None:
    """Bodies are zstd inside the message; nothing else is ever unpacked."""
    async with listening(tmp_path) as open_:
        assert b" 415 " in await said(open_, head(f"Content-Encoding: {coding}", "Content-Length: 4") + b"abcd")


async def test_an_oversize_body_is_refused_unread(tmp_path: Path) -> None:
    """A length over the bound is refused from the head, and so is a body that does not state its length."""
    async with listening(tmp_path) as open_:
        assert b" 413 " in await said(open_, head(f"Content-Length: {BODY_BYTES_MAX + 1}"))
        assert b" 411 " in await said(open_, head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "request_",
    [
        head("Content-Length: 3", "Content-Length: 5") + b"abcde",
        head("Content-Length: +3") + b"abc",
        head("Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head("X: " + "y" * 20_000, "Content-Length: 0"),
        b"\x00\x01\x02\r\n\r\n",
        b"POST /sync/1/greet HTTP/1.1\nHost: hub\n\n",
        head("Transfer-Encoding: chunked") + b"zz\r\nabc\r\n0\r\n\r\n",
    ],
)
async def test_odd_http_is_refused(tmp_path: Path, request_: bytes) -> None:
    """Ambiguous lengths, huge heads and what is no HTTP get a 400 at most, and the hub goes on."""
    async with listening(tmp_path) as open_:
        answer = await said(open_, request_)
        assert answer == b"" or answer.split(b" ")[1] in {b"400", b"403", b"411"}
        await sync(open_)


async def test_other_paths_and_methods_are_not_there(tmp_path: Path) -> None:
    """The door has one room."""
    async with listening(tmp_path) as open_:
        assert b" 404 " in await said(open_, head("Content-Length: 0", path="/"))
        assert b" 405 " in await said(open_, head("Content-Length: 0", method="GET"))
        assert b" 401 " in await said(open_, head("Content-Length: 0", path="/sync/1/push"))
        assert b" 403 " in await said(open_, head("Content-Length: 0", path="/sync/1/nothing"))


async def test_a_head_that_trickles_is_cut_off(tmp_path: Path) -> None:
    """Slow heads and idle connections end after their span, on any request of a connection."""
    async with listening(tmp_path, Bounds(head_s=0.6, body_s=0.6)) as open_:
        begun = time.monotonic()
        reader, writer = await raw(open_)
        idle, idle_writer = await raw(open_)
        for byte in head("Content-Length: 0")[:40]:
            writer.write(bytes([byte]))
            try:
                await writer.drain()
            except OSError:
                break
            await asyncio.sleep(0.05)
            if reader.at_eof():
                break
        async with asyncio.timeout(5.0):
            assert await ended(reader)
            assert await ended(idle)
        assert time.monotonic() - begun < 4.0
        for one in (writer, idle_writer):
            one.close()


async def test_a_body_that_trickles_is_cut_off(tmp_path: Path) -> None:
    """A byte at a time is not waited for: 408, and the connection is closed."""
    async with listening(tmp_path, Bounds(body_s=0.4)) as open_:
        reader, writer = await raw(open_)
        writer.write(head("Content-Length: 100") + b"x")
        async with asyncio.timeout(4.0):
            answer = await reader.read()
        assert b" 408 " in answer
        writer.close()


async def test_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    """Of an address's silent connections the oldest give way: an honest child beside them syncs as ever."""
    async with listening(tmp_path, Bounds(per_host=50)) as open_:
        silent = await asyncio.gather(*(raw(open_) for _ in range(100)), return_exceptions=True)
        assert len(open_.server.guard.lines) <= 50
        await opened(open_.child.node)
        begun = time.monotonic()
        await sync(open_)
        assert time.monotonic() - begun < 3.0
        for one in silent:
            if isinstance(one, tuple):
                one[1].close()


async def test_strangers_are_counted_by_address_and_children_are_not(tmp_path: Path) -> None:
    """An address full of half-sent greetings shuts out nobody: the oldest gives way, and who has a session never does."""
    async with listening(tmp_path, Bounds(per_host=3)) as open_, HttpsTransport() as transport:
        uplink = Uplink(open_.child.node, transport, Settings((open_.address,), 5.0))
        await uplink.round()
        held = [await raw(open_) for _ in range(3)]
        for _, writer in held:
            writer.write(head("Content-Length: 100") + b"x")
            await writer.drain()
        assert b" 400 " in await said(open_, head("Content-Length: 1") + b"x")
        await opened(open_.child.node)
        await uplink.push_all()
        async with asyncio.timeout(2.0):
            assert await ended(held[0][0])
        for _, writer in held:
            writer.close()
        uplink.close()


async def test_too_many_requests_are_refused_unread_with_a_slot(tmp_path: Path) -> None:
    """An address that asks without end hears 429 before its bodies are read; a child's session pays from its own bucket."""
    async with listening(tmp_path, Bounds(per_host=2)) as open_, HttpsTransport() as transport:
        uplink = Uplink(open_.child.node, transport, Settings((open_.address,), 5.0))
        await uplink.round()
        body = messages.encode(messages.Pull(messages.Cursors(0, 0, b"", 0)))
        for _ in range(20):
            last = await transport.request(open_.address, "/sync/1/pull", body, token="00" * 16, timeout_s=5.0)
            if last.status == 429:
                break
        assert isinstance(refusal_of(last.body, last.status, last.retry_after_s), Overloaded)
        assert (last.retry_after_s or 0) >= 1.0
        await opened(open_.child.node)
        await uplink.push_all()
        uplink.close()


async def test_a_flooding_child_does_not_hold_up_another(tmp_path: Path) -> None:
    """While one child sends the same push without end and stalls in others, another's changes pass within moments."""
    async with listening(tmp_path) as open_:
        west = Caller(await enrol(tmp_path / WEST, open_.child.hub.node, WEST, seed=5), open_.child.hub)
        await hire(west.node)
        for number in range(150):
            await opened(open_.child.node, f"甲{number}")
        await sync(open_, west)
        alone_s = await _timed_change(open_, west)
        await open_.child.login()
        flood = asyncio.create_task(_flood(open_))
        spans = [await _timed_change(open_, west) for _ in range(8)]
        flood.cancel()
        assert sorted(spans)[4] < max(1.0, 10 * alone_s)


async def _flood(open_: Open) -> None:
    body = messages.encode(await open_.child.next_push())
    token = (open_.child.token or b"").hex()
    async with HttpsTransport() as transport:
        while True:
            some = [transport.request(open_.address, "/sync/1/push", body, token=token, timeout_s=20.0) for _ in range(6)]
            await asyncio.gather(*some, return_exceptions=True)


async def _timed_change(open_: Open, west: Caller) -> float:
    await opened(west.node, "乙")
    begun = time.monotonic()
    await sync(open_, west)
    return time.monotonic() - begun


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """A second hub on one port is refused with what to look for."""
    async with listening(tmp_path) as open_:
        with pytest.raises(StoreError, match="cannot listen"):
            await serve(open_.child.hub, open_.tls, "127.0.0.1", open_.server.port)


async def test_stopping_answers_those_who_wait(tmp_path: Path) -> None:
    """A long poll ends with the program, within a moment."""
    async with listening(tmp_path) as open_:
        await sync(open_)
        async with HttpsTransport() as transport:
            uplink = Uplink(open_.child.node, transport, Settings((open_.address,), 5.0, 60))
            await uplink.round()
            waiting = asyncio.create_task(uplink.pulling.wait())
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            open_.child.hub.close()
            await waiting
            assert time.monotonic() - begun < 1.0
            uplink.close()


def test_only_modern_tls_is_spoken(tmp_path: Path) -> None:
    """Nothing older than TLS 1.2."""
    tls.ensure_certificate(tmp_path / "x.pem", CITY)
    assert tls.server_context(tmp_path / "x.pem").minimum_version >= ssl.TLSVersion.TLSv1_2
    assert LinkError.retryable
