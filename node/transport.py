"""Requests over TLS: the real Transport, on aiohttp.

Certificates are not what nodes trust (see `node.tls`): any is accepted, its hash is handed up, and both sides sign it. A
reply is read up to its bound only. A request has its time, and that in which its bytes pass at `LINE_BYTES_PER_SECOND_MIN`: a slow
line is not a dead one. What is not our protocol becomes a LinkError, never a crash.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from node.ports import Response
from node.tls import certificate_hash, client_context
from protocol import limits
from protocol.errors import LimitExceeded, LinkError

CONNECTIONS_MAX: Final = 8
KEEP_S: Final = 45.0  # shorter than the hub keeps a connection without a request
PACKED_BYTES_MAX: Final = limits.MESSAGE_BYTES_MAX + (64 << 10)  # a frame of bytes that do not shrink


class HttpsTransport:
    """One pool of connections for a node's own requests."""

    def __init__(self, *, proxy: str = "", connect_timeout_s: float = 10.0) -> None:
        self._proxy = proxy or None
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=client_context(), limit=CONNECTIONS_MAX, keepalive_timeout=KEEP_S)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=1 << 16, response_class=_Response
            )
        return self._session

    async def request(
        self, address: str, path: str, body: bytes, *, token: str | None = None, timeout_s: float
    ) -> Response:
        """See `node.ports.Transport`."""
        headers = {"Content-Type": "application/vnd.tongban", "Accept-Encoding": "identity", "User-Agent": "tongban"}
        if token is not None:
            headers["Authorization"] = f"Tongban {token}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s)
        try:
            async with (
                asyncio.timeout(timeout_s + len(body) / limits.LINE_BYTES_PER_SECOND_MIN) as span,
                self._open().post(
                    f"https://{address}{path}", data=body, headers=headers, timeout=timeout, proxy=self._proxy, allow_redirects=False
                ) as reply,
            ):
                certificate = reply.certificate if isinstance(reply, _Response) else b""
                data = await _read_bounded(reply, span)
                return Response(reply.status, data, certificate, _retry_after(reply))
        except (aiohttp.ClientError, OSError, ValueError) as exc:  # TimeoutError and what TLS raises are OSErrors
            raise LinkError(f"{address} does not answer ({type(exc).__name__})") from exc

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.close()


class _Response(aiohttp.ClientResponse):
    """A response that looks at its connection before aiohttp gives that back: a short answer may end at once."""

    certificate: bytes = b""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:  # noqa: ANN401 - aiohttp's own connection
        """Keep the hash of the certificate that the connection shows."""
        transport = connection.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        self.certificate = certificate_hash(der) if der else b""
        return await super().start(connection)


async def _read_bounded(reply: aiohttp.ClientResponse, span: asyncio.Timeout) -> bytes:
    """Read an answer up to its bound; each byte that comes gives the next ones the time that they may take."""
    begun_s = span.when() or 0.0
    if (reply.content_length or 0) > PACKED_BYTES_MAX:
        raise LimitExceeded("the answer is over its bound")
    parts, size = [], 0
    async for part in reply.content.iter_any():
        size += len(part)
        if size > PACKED_BYTES_MAX:
            raise LimitExceeded("the answer is over its bound")
        span.reschedule(begun_s + size / limits.LINE_BYTES_PER_SECOND_MIN)
        parts.append(part)
    return b"".join(parts)


def _retry_after(reply: aiohttp.ClientResponse) -> float | None:
    text = reply.headers.get("Retry-After", "")
    return float(text) if text.replace(".", "", 1).isdigit() and len(text) < 10 else None
