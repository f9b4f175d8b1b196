"""How long the disk lasts: the store's growth, from a few samples kept in the store itself, against what is free.

A sample is (wall time, bytes of the store's files), taken every few hours while the node runs; the newest `SAMPLES_MAX` are kept.
A wrong clock spoils nothing for long: only samples of the five weeks before "now" are looked at, whatever that is, and
those of another time stay for when the clock is right again.

    forecast = diskspace.forecast(load(conn), now_ms, space)
    forecast.days_left, forecast.low
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.store import logs
from node.store.database import Connection
from protocol.errors import StoreError

GROWTH: Final = "growth"  # in meta: JSON of [[wall time in ms, bytes], …] in the order in which they were taken
SAMPLES_MAX: Final = 120  # a month at the pace below
SAMPLE_MS: Final = 6 * 3_600_000
WINDOW_MS: Final = 35 * 24 * 3_600_000
DAY_MS: Final = 24 * 3_600_000
WARN_DAYS: Final = 30.0
RESERVE_BYTES: Final = 32 << 20  # below that the disk counts as full: no new work is begun (node.ballast)


@dataclass(frozen=True, slots=True)
class Sample:
    """How large the store was, and when by this machine's wall clock."""

    at_ms: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Space:
    """What a folder's disk holds. store_bytes: database and WAL; wal_bytes: the WAL alone; free_bytes: for this user."""

    store_bytes: int
    wal_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long the disk lasts.

    Attributes:
        space: as it is now.
        bytes_a_day: growth of the store; None until samples span a day.
        days_left: until only the reserve is free; None when nothing grows, or nothing is known yet.
        reserve_bytes: that must stay free.
    """

    space: Space
    bytes_a_day: float | None
    days_left: float | None
    reserve_bytes: int = RESERVE_BYTES

    @property
    def low(self) -> bool:
        """Whether somebody should make room."""
        return self.full or (self.days_left is not None and self.days_left < WARN_DAYS)

    @property
    def full(self) -> bool:
        """Whether only the reserve is left."""
        return self.space.free_bytes <= self.reserve_bytes


def measure(conn: Connection) -> Space:
    """Look at the disk on which a store lies.

    Raises:
        StoreError: the disk does not answer.
    """
    path = Path(conn.execute("PRAGMA database_list").fetchone()[2])
    try:
        wal = path.with_name(path.name + "-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
        return Space(path.stat().st_size + wal_bytes, wal_bytes, shutil.disk_usage(path.parent).free)
    except OSError as exc:
        raise StoreError(f"the disk does not answer: {exc.strerror}", hint="Look at the disk and its rights.") from exc


def forecast(samples: Sequence[Sample], now_ms: int, space: Space, reserve_bytes: int = RESERVE_BYTES) -> Forecast:
    """Say how long the disk lasts if the store grows on as in the last weeks.

    Args:
        reserve_bytes: that must stay free; what a ballast file holds back is taken off it.
    """
    room = max(space.free_bytes - reserve_bytes, 0)
    a_day = _pace(sorted(_counted(samples, now_ms), key=lambda one: one.at_ms), now_ms, space)
    days_left = room / a_day if a_day else None
    return Forecast(space, a_day, days_left if room else 0.0, reserve_bytes)


def noted(samples: Sequence[Sample], sample: Sample) -> list[Sample] | None:
    """Return the samples with a new one, the oldest dropped; None when the last one is recent enough."""
    if any(0 <= sample.at_ms - one.at_ms < SAMPLE_MS for one in samples):
        return None
    return [*samples, sample][-SAMPLES_MAX:]


def load(conn: Connection) -> list[Sample]:
    """Return the samples kept in a store; none when they cannot be read."""
    found = logs.get_meta(conn, GROWTH)
    try:
        return [Sample(int(at), int(size)) for at, size in json.loads(found or b"[]")]
    except (ValueError, TypeError):
        return []


def note(conn: Connection, now_ms: int) -> None:
    """Take a sample if one is due: part of a unit of work."""
    samples = noted(load(conn), Sample(now_ms, measure(conn).store_bytes))
    if samples is not None:
        logs.set_meta(conn, GROWTH, json.dumps([[one.at_ms, one.bytes] for one in samples]).encode("ascii"))


def _pace(counted: Sequence[Sample], now_ms: int, space: Space) -> float | None:
    """Return bytes a day since the first sample that counts; None for less than a day."""
    if not counted or now_ms - counted[0].at_ms < DAY_MS:
        return None
    return max(space.store_bytes - counted[0].bytes, 0) * DAY_MS / (now_ms - counted[0].at_ms)


def _counted(samples: Sequence[Sample], now_ms: int) -> list[Sample]:
    return [one for one in samples if now_ms - WINDOW_MS <= one.at_ms <= now_ms]
