"""The machine's own clock and randomness keep the promises of the ports."""

from __future__ import annotations

import time

from node.system import SystemClock, SystemEntropy, block_s, resident_bytes


def test_wall_time_is_in_milliseconds_since_1970() -> None:
    """One unit for wall time everywhere."""
    assert abs(SystemClock().wall_ms() - time.time() * 1000) < 2_000


async def test_sleeping_takes_at_least_its_span() -> None:
    """A pause is never cut short, and a negative one is none."""
    clock = SystemClock()
    start = clock.monotonic_s()
    await clock.sleep(0.02)
    await clock.sleep_until(start + 0.03)
    await clock.sleep(-5)
    await clock.sleep_until(start - 5)
    assert 0.029 <= clock.monotonic_s() - start < 2


def test_randomness_differs_and_jitter_stays_in_range() -> None:
    """Keys are not repeated; jitter is in [0, 1)."""
    entropy = SystemEntropy()
    assert len({entropy.bytes(32) for _ in range(50)}) == 50
    jitters = [entropy.uniform() for _ in range(200)]
    assert all(0 <= jitter < 1 for jitter in jitters)
    assert len(set(jitters)) > 100


def test_standing_still_blocks_the_thread() -> None:
    """The blocking pause really waits, and a negative one does not fail."""
    clock = SystemClock()
    start = clock.monotonic_s()
    block_s(0.02)
    block_s(-1)
    assert clock.monotonic_s() - start >= 0.019


def test_the_memory_in_use_is_known() -> None:
    """A running Python has some megabytes; what is taken shows."""
    before = resident_bytes()
    assert before is not None
    assert before > 5 << 20
    held = bytes(64 << 20) + b"x"
    after = resident_bytes()
    assert after is not None
    assert after - before > 50 << 20
    assert held
