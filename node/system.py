"""The real clock, the real randomness, and the memory in use: the only module that asks the machine for them."""

from __future__ import annotations

import asyncio
import builtins
import os
import random
import re
import time
from pathlib import Path
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


def resident_bytes() -> int | None:
    """Return how much memory this process has in use; None where the system does not say."""
    if os.name == "nt":
        return _resident_on_windows()
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmRSS:\s+([0-9]+) kB$", text, re.MULTILINE)
    return int(found[1]) << 10 if found else None


def _resident_on_windows() -> int | None:
    """Ask kernel32 for the working set (PROCESS_MEMORY_COUNTERS)."""
    import ctypes  # noqa: PLC0415 - only here

    class Counters(ctypes.Structure):
        _fields_ = [("cb", ctypes.c_uint32), ("faults", ctypes.c_uint32)] + [
            (f"size_{number}", ctypes.c_size_t) for number in range(8)  # peak working set, working set, pools, page files
        ]

    library = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009 - the name exists on Windows only
    counters = Counters(cb=ctypes.sizeof(Counters))
    library.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(library.GetCurrentProcess())
    if not library.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb):
        return None
    return int(counters.size_1)
