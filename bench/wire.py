"""What really goes over a line: counted by the kernel, per connection, so that other traffic does not disturb."""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import aiohttp

from node.ports import Response
from node.transport import HttpsTransport

TCP_INFO_COUNTS: Final = struct.Struct("QQII")  # of struct tcp_info, from byte 120: acked, received, segments out, in
TCP_INFO_AT: Final = 120
SEGMENT_HEADERS: Final = 52  # IPv4 and TCP with timestamps, as the loopback device counts them


class CountedTransport(HttpsTransport):
    """The real transport, with an eye on its sockets. Linux only."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets: list[socket.socket] = []
        self._gone = [0, 0, 0, 0]
        self.requests = 0

    def _open(self) -> aiohttp.ClientSession:
        fresh = self._session is None
        session = super()._open()
        if fresh:
            session.connector._socket_factory = self._make  # type: ignore[union-attr]  # noqa: SLF001 - aiohttp takes it only when made
        return session

    def _make(self, info: Any) -> socket.socket:  # noqa: ANN401 - as getaddrinfo gives it
        family, kind, protocol, _, _ = info
        made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made

    async def request(
        self, address: str, path: str, body: bytes, *, token: str | None = None, timeout_s: float
    ) -> Response:
        """See `node.ports.Transport`."""
        self.requests += 1
        return await super().request(address, path, body, token=token, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close all connections; what went over them stays counted."""
        self._gone = self._sum()
        self._sockets.clear()
        await super().close()

    def _sum(self) -> list[int]:
        total = list(self._gone)
        for one in self._sockets:
            if one.fileno() < 0:
                continue
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            total = [a + b for a, b in zip(total, TCP_INFO_COUNTS.unpack_from(info, TCP_INFO_AT), strict=True)]
        return total

    def counted(self) -> dict[str, int]:
        """Return bytes of both directions, headers of segments included, and the number of requests."""
        sent, received, segments_out, segments_in = self._sum()
        headers = SEGMENT_HEADERS * (segments_out + segments_in)
        return {"bytes": sent + received + headers, "payload": sent + received, "requests": self.requests}
