"""Slow, cut, flapping, one-way and lying lines, through a proxy of our own with real TLS: nothing is lost, doubled or half taken."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.app import Hub
from hub.server import serve
from node import tls
from node.ledger import Changes, Draft
from node.node import Node
from node.ports import Response
from node.store.database import Connection
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from protocol import limits, messages
from protocol.errors import DecodeError, LinkError, PeerError
from tests.chaos import Chaos, Way
from tests.hub.calling import clock, dump
from tests.network.door import Open, acked, check_once, held, lined, listening, memory_mb, tried
from tests.node.building import DAY_MS, HOUR_MS, WEST, enrol, opened, size_of


@pytest.fixture
async def open_(tmp_path: Path) -> AsyncIterator[Open]:
    """A hub on a port, and a child with a case to send."""
    async with listening(tmp_path) as found:
        await opened(found.child.node)
        yield found


# --- N01: slow and late


async def test_a_slow_line_carries_everything(open_: Open) -> None:
    """N01: narrow and late both ways, each piece for itself: the round ends, and both sides hold the same."""
    case = await opened(open_.child.node, "乙")
    async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address) as uplink:
        chaos.up.late_s = chaos.down.late_s = 0.02
        chaos.up.bytes_per_s = chaos.down.bytes_per_s = 80_000
        await uplink.round()
    await check_once(open_, case)


async def test_an_answer_that_keeps_coming_is_waited_for(open_: Open) -> None:
    """N01: silence ends a request, slowness does not: an answer that takes longer than the timeout arrives if it flows."""
    for number in range(40):
        await opened(open_.child.node, f"甲{number}", field={"f": random.Random(number).randbytes(700).hex()})
    ask = messages.Fetch("log", open_.child.node.ledger.identity.log, 0)
    async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address, 0.7) as uplink:
        await uplink.round()
        begun, chaos.down.bytes_per_s = time.monotonic(), 40_000
        reply = await uplink.line.ask("fetch", ask, messages.FetchReply)
        assert sum(len(one.entries) for one in reply.sets) == await size_of(open_.child.node)
        assert time.monotonic() - begun > 0.75


# --- N02, N04, N07: cut, at every place


async def test_an_answer_lost_after_the_commit_costs_one_more_try(open_: Open) -> None:
    """N02: the hub has committed, the child does not know: it sends again, is acknowledged, and everything stands once."""
    async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address) as uplink:
        await uplink.round()
        case, before = await opened(open_.child.node, "乙"), await acked(open_.child.node)
        chaos.lose_answer()
        assert isinstance(await tried(uplink), LinkError)
        assert await acked(open_.child.node) == before < await held(open_)
        await uplink.round()
    await check_once(open_, case)


@pytest.mark.parametrize("upward", [True, False])
async def test_a_cut_at_any_byte_takes_all_or_nothing(open_: Open, upward: bool) -> None:
    """N04: wherever a request or an answer breaks (TLS, head, body, last byte), a set is held whole or not at all."""
    async with Chaos(open_.server.port) as chaos:
        async with lined(open_.child.node, chaos.address) as uplink:
            await uplink.round()
        total = (chaos.up if upward else chaos.down).passed
        for share in (0.0, 0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0):
            case = await opened(open_.child.node, "丙")
            before, size = await held(open_), await size_of(open_.child.node)
            async with lined(open_.child.node, chaos.address) as uplink:
                chaos.heal()
                (chaos.up if upward else chaos.down).cut_at = int(total * share)
                await tried(uplink)
            assert await held(open_) in {before, size}
            assert await acked(open_.child.node) <= await held(open_)
        chaos.heal()
        async with lined(open_.child.node, chaos.address) as uplink:
            await uplink.round()
    await check_once(open_, case)


@pytest.mark.parametrize("upward", [True, False])
async def test_a_line_that_is_open_one_way_only_ends_in_time(open_: Open, upward: bool) -> None:
    """N07: nothing closes, nothing comes: the request ends at its deadline; no cursor and no acknowledgement has moved."""
    async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address, 0.4) as uplink:
        await uplink.round()
        case, before = await opened(open_.child.node, "乙"), await acked(open_.child.node)
        cursors = await uplink.cursors()
        (chaos.up if upward else chaos.down).hold()
        begun = time.monotonic()
        assert isinstance(await tried(uplink), LinkError)
        assert time.monotonic() - begun < 2.0
        assert (await acked(open_.child.node), await uplink.cursors()) == (before, cursors)
        assert (await held(open_) > before) is not upward
        assert await opened(open_.child.node, "丁")  # the counter does not notice
        chaos.heal()
        chaos.cut()
        await uplink.round()
    await check_once(open_, case)


# --- N03: once more, later, in another order


class Recorder:
    """A transport that remembers what was said inside TLS: what nobody on the way can read, but an end can."""

    def __init__(self, transport: HttpsTransport) -> None:
        self.transport = transport
        self.said: list[tuple[str, bytes, str | None]] = []

    async def request(self, address: str, path: str, body: bytes, **told: Any) -> Response:
        self.said.append((path, body, told.get("token")))
        return await self.transport.request(address, path, body, **told)

    async def close(self) -> None:
        await self.transport.close()


async def test_what_was_said_once_changes_nothing_when_it_is_said_again(open_: Open) -> None:
    """N03: every request again, backwards: at once in its session, and an hour later; entries stand once, cases are the same."""
    async with HttpsTransport() as transport:
        recorder = Recorder(transport)
        uplink = Uplink(open_.child.node, recorder, Settings((open_.address,), 5.0))
        await uplink.round()
        case = await opened(open_.child.node, "乙")
        await uplink.push_all()
        before = await _effects(open_)
        child_entries = await held(open_)
        statuses = await _again(recorder, open_)
        assert statuses["push"] == {200}
        assert statuses["login"] == {401}  # a challenge is good once
        clock(open_.hub).pass_ms(HOUR_MS)
        late = await _again(recorder, open_)
        assert late["push"] == late["pull"] == late["hello"] == late["login"] == {401}
        assert await _effects(open_) == before
        assert await held(open_) == child_entries
        uplink.close()
    await check_once(open_, case)


async def _effects(open_: Open) -> dict[str, Any]:
    """Return what a hub shows and obeys; new receipts are not among it."""
    return {name: rows for name, rows in (await dump(open_.hub)).items() if name in {"cases", "evidence", "facts", "names_data"}}


async def _again(recorder: Recorder, open_: Open) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for path, body, token in list(reversed(recorder.said)):
        answer = await recorder.transport.request(open_.address, path, body, token=token, timeout_s=5.0)
        found.setdefault(path.rsplit("/", 1)[1], set()).add(answer.status)
    return found


# --- N05: damage


async def test_a_flipped_byte_on_the_wire_ends_the_connection(open_: Open) -> None:
    """N05: TLS finds it; nothing of it reaches either side, and the next connection is a new one."""
    async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address, 1.0) as uplink:
        await uplink.round()
        case, before = await opened(open_.child.node, "乙"), await dump(open_.hub)
        chaos.up.damage = _flipped
        assert isinstance(await tried(uplink), LinkError)
        assert await dump(open_.hub) == before
        chaos.heal()
        await uplink.round()
    await check_once(open_, case)


def _flipped(piece: bytes) -> bytes:
    return piece[:-3] + bytes([piece[-3] ^ 1]) + piece[-2:]


@pytest.mark.parametrize("upward", [True, False])
async def test_a_flipped_byte_behind_tls_is_refused(open_: Open, upward: bool) -> None:
    """N05: a machine that ends TLS with the hub's own key and damages what passes: refused; no cursor, no acknowledgement moves."""
    contexts = {"inner": tls.client_context(), "outer": tls.server_context(open_.tls)}
    async with Chaos(open_.server.port, **contexts) as chaos, lined(open_.child.node, chaos.address, 1.0) as uplink:
        await uplink.round()
        case, before = await opened(open_.child.node, "乙"), await dump(open_.hub)
        (chaos.up if upward else chaos.down).damage = _flipped_body
        failure = await tried(uplink)
        assert isinstance(failure, (PeerError, LinkError))
        if upward:
            assert isinstance(failure, DecodeError)
            assert await dump(open_.hub) == before
        assert await acked(open_.child.node) < await size_of(open_.child.node)
        chaos.heal()
        await uplink.round()
    await check_once(open_, case)


def _flipped_body(piece: bytes) -> bytes:
    """Flip a bit of a body, wherever it is; heads pass."""
    top, mark, body = piece.rpartition(b"\r\n\r\n")
    return top + mark + _flipped(body) if len(body) > 8 else piece


# --- N08: up and down


async def test_a_line_that_flaps_makes_headway_in_each_window(open_: Open) -> None:
    """N08: of a backlog each short window carries some; pieces shrink to what passes, and all of it arrives once."""
    node, noise = open_.child.node, random.Random(1)
    for number in range(80):
        await opened(node, f"甲{number}", field={"f": noise.randbytes(700).hex()})
        if number % 8 == 0:
            await node.store.own(node.ledger.seal)
            await node.write(lambda conn, _: node.ledger.save_seals(conn))
    steps = []
    async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address) as uplink:
        for _ in range(40):
            chaos.heal()
            chaos.up.cut_at = 24_000  # one window
            failure = await tried(uplink)
            steps.append(await acked(open_.child.node))
            if failure is None:
                break
    assert steps == sorted(steps)
    assert steps[-1] == await size_of(open_.child.node)
    assert len(set(steps)) > 3  # no window carries all of it
    await check_once(open_)


# --- N09: away for a month


async def test_a_month_offline_goes_up_in_bounded_pieces(open_: Open) -> None:
    """N09: ten thousand changes after thirty days: no message over its bound, little memory at the hub, each of them once."""
    node = open_.child.node
    cases = [await opened(node, f"甲{number}") for number in range(5)]
    keys = await node.read(lambda conn: [row[0] for row in conn.execute("SELECT key FROM cases ORDER BY id")])
    for part in range(10):
        clock(node).pass_ms(3 * DAY_MS)
        await node.write(lambda conn, changes, part=part: _notes(node, conn, changes, keys[-5:], part))  # type: ignore[misc]
    clock(open_.hub).pass_ms(30 * DAY_MS)
    async with HttpsTransport() as transport:
        recorder, before = Recorder(transport), memory_mb()
        uplink = Uplink(node, recorder, Settings((open_.address,), 30.0))
        await uplink.round()
        uplink.close()
        assert memory_mb() - before < 100  # both ends
    pushes = [len(body) for path, body, _ in recorder.said if path.endswith("push")]
    assert len(pushes) > 3
    assert max(pushes) <= limits.MESSAGE_BYTES_MAX
    assert await held(open_) > 10_000
    await check_once(open_, *cases)


def _notes(node: Node, conn: Connection, changes: Changes, cases: list[bytes], part: int) -> None:
    """Write two hundred notes into each case."""
    now = node.clock.wall_ms()
    drafts = [
        Draft("note", now + number, {}, {"text": f"第{part}日第{number}次来电询问"}, case=case, epoch=0, prev=case)
        for case in cases
        for number in range(200)
    ]
    node.ledger.append(conn, drafts, changes)


# --- N13: something else answers


async def _answering(data: bytes, context: Any) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(data)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)


PORTALS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 21\r\n\r\n<html>Log in</html>\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: https://portal.example/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("portal", PORTALS)
@pytest.mark.parametrize("secure", [True, False])
async def test_a_captive_portal_is_no_parent(open_: Open, tmp_path: Path, portal: bytes, secure: bool) -> None:
    """N13: whatever a portal answers, with TLS or without, is a broken line that is tried again; nothing moves."""
    other = tmp_path / "portal.pem"
    tls.ensure_certificate(other, "portal")
    server = await _answering(portal, tls.server_context(other) if secure else None)
    before = await dump(open_.child.node)
    async with lined(open_.child.node, f"127.0.0.1:{server.sockets[0].getsockname()[1]}", 1.0) as uplink:
        failure = await tried(uplink)
    server.close()
    assert isinstance(failure, (LinkError, DecodeError))
    assert await dump(open_.child.node) == before


async def test_a_portal_in_the_middle_of_a_session_moves_no_cursor(open_: Open, tmp_path: Path) -> None:
    """N13: the Wi-Fi asks for its password again: the answer to a push is a web page; the entries stay unacknowledged."""
    other = tmp_path / "portal.pem"
    tls.ensure_certificate(other, "portal")
    async with Chaos(open_.server.port) as chaos, lined(open_.child.node, chaos.address, 1.0) as uplink:
        await uplink.round()
        case, before = await opened(open_.child.node, "乙"), await acked(open_.child.node)
        server = await _answering(PORTALS[0], tls.server_context(other))
        chaos.cut()
        hub, chaos._target = chaos._target, server.sockets[0].getsockname()[1]
        failure = await tried(uplink)
        assert isinstance(failure, (LinkError, DecodeError))
        assert await acked(open_.child.node) == before
        chaos._target = hub
        chaos.cut()
        await uplink.round()
        server.close()
    await check_once(open_, case)


async def test_a_machine_that_opens_the_line_is_told_apart(open_: Open, tmp_path: Path) -> None:
    """N13: TLS inspection and a wrong host show another certificate than the one both sides sign: refused, nothing sent."""
    other = tmp_path / "middle.pem"
    tls.ensure_certificate(other, "middle")
    before = await dump(open_.hub)
    contexts = {"inner": tls.client_context(), "outer": tls.server_context(other)}
    async with Chaos(open_.server.port, **contexts) as chaos, lined(open_.child.node, chaos.address, 1.0) as uplink:
        failure = await tried(uplink)
    assert failure is not None
    assert failure.code == "signature"
    assert await dump(open_.hub) == before
    assert await acked(open_.child.node) == 0


async def test_another_hub_of_the_same_network_is_no_parent(open_: Open, tmp_path: Path) -> None:
    """N13: a node that is enrolled, but not the one looked for, gets no session and no entries."""
    west = await enrol(tmp_path / WEST, open_.hub, WEST, seed=5)
    hub = Hub(west, tls.certificate_hash(tls.ensure_certificate(open_.tls, "")))
    server = await serve(hub, open_.tls, "127.0.0.1", 0)
    async with lined(open_.child.node, f"127.0.0.1:{server.port}", 1.0) as uplink:
        failure = await tried(uplink)
    await server.stop()
    assert isinstance(failure, PeerError)
    assert "another node" in failure.message
    assert await acked(open_.child.node) == 0


# --- the proxy itself


async def test_the_proxy_does_what_it_says() -> None:
    """A way cuts at its byte, damages what passes, and holds what it is told to hold."""
    way = Way(cut_at=5)
    assert (await way.carry(b"abc"), await way.carry(b"defg"), await way.carry(b"h")) == (b"abc", b"de", b"")
    assert await Way(damage=_flipped).carry(b"abcd") == b"accd"
    held_way = Way()
    held_way.hold()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await held_way.carry(b"x")


def test_what_these_tests_send_is_real() -> None:
    """A damaged frame is not a frame of ours: the check behind TLS has something to find."""
    with pytest.raises(DecodeError):
        messages.decode(_flipped(messages.encode(messages.Hello(bytes(32)))), messages.Hello)
