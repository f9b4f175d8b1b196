"""What a node needs from the world, as types: time, randomness, and one request to another node.

Everything in `node` and `hub` takes these as arguments. `system` has the real ones; the tests' world has virtual ones, so
that a whole network repeats exactly in one process from one seed. The store's port is `node.store`; the fourth seam,
labelled points at which a test may stop the program, is `faults`.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Time. The wall clock may be wrong by years and may jump; the monotonic one only measures spans."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch, UTC, as this machine believes."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment; never falls."""
        ...

    async def sleep(self, span_s: float) -> None:
        """Wait for a span; zero or less only lets other tasks run."""
        ...

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until the monotonic clock shows this."""
        ...


class Entropy(Protocol):
    """Randomness: for keys, salts, incarnations and tokens, and for the jitter of retries."""

    def bytes(self, count: int) -> builtins.bytes:
        """Return this many random bytes, fit for keys."""
        ...

    def uniform(self) -> float:
        """Return a number in [0, 1) for jitter."""
        ...


@dataclass(frozen=True, slots=True)
class Response:
    """What the other node answered.

    Attributes:
        status: HTTP status; 200 is a reply of the protocol, any other one carries an error body.
        body: the message as it came, at most `limits.MESSAGE_BYTES_MAX` bytes.
        certificate_hash: SHA-256 of the certificate that this connection showed; signed by both sides in `hello`.
        retry_after_s: the slot that an overloaded hub gave, else None.
    """

    status: int
    body: bytes
    certificate_hash: bytes
    retry_after_s: float | None = None


class Transport(Protocol):
    """One request, one answer: bytes in, bytes out."""

    async def request(
        self, address: str, path: str, body: bytes, *, token: str | None = None, timeout_s: float
    ) -> Response:
        """Send a message to another node and wait for its answer.

        Args:
            address: "host:port" of the other node.
            path: of the message type, with its leading slash.
            body: the encoded message.
            token: of the session, when there is one.
            timeout_s: for the whole exchange, connecting included.

        Raises:
            LinkError: no answer: no line, refused, cut off, too late, or not our protocol (a captive portal, say).
            LimitExceeded: the answer is over its bound.
        """
        ...

    async def close(self) -> None:
        """Give all connections back."""
        ...
