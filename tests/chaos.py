"""A TCP proxy of our own between an uplink and its hub: real sockets, real TLS through it, and whatever can go wrong on the way.

By default it passes bytes and sees ciphertext only, as everything between two offices does. Each direction is a `Way`: it can be
slow, late, held (a one-way partition: nothing passes, nothing closes), cut at a byte, damaged. `lose_answer` lets one request pass
and cuts the line at the first byte of its answer. With `inner` and `outer` it ends TLS and begins it again, with whatever
certificate it is given, and sees what the two say.

    async with Chaos(hub_port) as chaos:
        chaos.up.cut_at = 900
        await uplink_to(chaos.port).round()   # LinkError
        chaos.heal()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Self

CHUNK_BYTES = 16 << 10


@dataclass
class Way:
    """One direction. Bytes are counted over all connections since the last `heal`.

    bytes_per_s, late_s: what the line carries, and how long each piece takes. cut_at: after so many bytes every connection breaks.
    damage: what becomes of a piece. held: nothing passes while this is not set.
    """

    bytes_per_s: float = 0.0
    late_s: float = 0.0
    cut_at: int | None = None
    damage: Callable[[bytes], bytes] | None = None
    passed: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def hold(self) -> None:
        """Let nothing pass any more, and close nothing."""
        self.open.clear()

    @property
    def grain(self) -> int:
        """How many bytes travel together."""
        return max(64, min(CHUNK_BYTES, int(self.bytes_per_s / 20) or CHUNK_BYTES))

    async def carry(self, piece: bytes) -> bytes:
        """Return what comes out at the other end, when it does; shorter than the piece: the line breaks behind it."""
        span_s = self.late_s + (len(piece) / self.bytes_per_s if self.bytes_per_s else 0.0)
        if span_s:
            await asyncio.sleep(span_s)
        await self.open.wait()
        room = len(piece) if self.cut_at is None else max(0, self.cut_at - self.passed)
        self.passed += min(len(piece), room)
        return (self.damage(piece) if self.damage else piece)[:room]


class Chaos:
    """The proxy. inner: towards the hub; outer: towards the child; None: bytes pass as they are. Owner: the event loop."""

    def __init__(self, port: int, *, inner: SSLContext | None = None, outer: SSLContext | None = None) -> None:
        self._target = port
        self._inner, self._outer = inner, outer
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._losing = self._asked = False
        self.port = 0
        self.connections = 0
        self.down = self.up = Way()
        self.heal()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._outer)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    # --- what goes wrong

    def heal(self) -> None:
        """End all faults; pieces that were held pass now, if their connection still stands."""
        self.up.open.set()
        self.down.open.set()
        self.up, self.down = Way(), Way()
        self._losing = False

    def cut(self) -> None:
        """Break every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    def lose_answer(self) -> None:
        """Let the next request through, and break the line before the first byte of its answer arrives."""
        self._losing, self._asked = True, False

    # --- carrying

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target, ssl=self._inner)
            self._writers.add(far_writer)
            await self._both(reader, writer, far_reader, far_writer)
            self._writers.discard(far_writer)
        except (OSError, asyncio.CancelledError):  # nobody there, or the test is over
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        ways = [
            asyncio.ensure_future(self._pump(reader, far_writer, upward=True)),
            asyncio.ensure_future(self._pump(far_reader, writer, upward=False)),
        ]
        broken = True
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            broken = any(one.result() for one in done)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for one in (writer, far_writer):
                one.transport.abort() if broken else one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upward: bool) -> bool:
        """Carry until an end closes, or the line breaks; tells whether it broke."""
        try:
            while piece := await reader.read((self.up if upward else self.down).grain):
                if upward:
                    self._asked = True
                elif self._losing and self._asked:
                    self._losing = False
                    return True
                out = await (self.up if upward else self.down).carry(piece)
                writer.write(out)
                await writer.drain()
                if len(out) < len(piece):
                    return True
        except OSError:
            return True
        return False
