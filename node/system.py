"""The real clock and the real randomness: the only module that asks the machine for either."""

from __future__ import annotations

import asyncio
import builtins
import os
import random
import time
from typing import Final

NANOSECONDS_PER_MS: Final = 1_000_000


class SystemClock:
    """The machine's clocks (`ports.Clock`)."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch; never below 0, whatever the battery of this PC says."""
        return max(0, time.time_ns() // NANOSECONDS_PER_MS)

    def monotonic_s(self) -> float:
        """Return seconds of the machine's monotonic clock."""
        return time.monotonic()

    async def sleep(self, span_s: float) -> None:
        """Wait for a span."""
        await asyncio.sleep(max(0.0, span_s))

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until the monotonic clock shows this."""
        await self.sleep(monotonic_s - self.monotonic_s())


class SystemEntropy:
    """The operating system's randomness (`ports.Entropy`)."""

    def __init__(self) -> None:
        self._jitter = random.SystemRandom()

    def bytes(self, count: int) -> builtins.bytes:
        """Return this many bytes fit for keys."""
        return os.urandom(count)

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return self._jitter.random()


def block_s(span_s: float) -> None:
    """Stand still, the whole thread: for short waits of the command line and for injected faults."""
    time.sleep(max(0.0, span_s))
