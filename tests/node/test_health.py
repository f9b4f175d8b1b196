"""Live and ready: what is well, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import health
from node.diskspace import RESERVE_BYTES, WARN_DAYS, Forecast, Space
from node.health import LATE_S, Word
from node.pulse import STALL_S, Pulse
from tests.node.building import CITY, EAST, enrol, found


def test_live_until_the_store_was_silent_for_long() -> None:
    """A long unit of work is no reason for a restart; a store that never answers again is."""
    assert health.live(Pulse(0.0, 100.0), 100.0 + STALL_S - 1).http_status == 200
    found_dead = health.live(Pulse(0.0, 100.0), 100.0 + STALL_S)
    assert (found_dead.http_status, found_dead.shown()) == (503, {"live": False, "checks": {"store": "silent"}})


async def test_a_station_without_its_parent_is_ready(tmp_path: Path) -> None:
    """Nothing above is needed to take cases in (rule 10)."""
    east = await enrol(tmp_path / "east", await found(tmp_path / "city", CITY), EAST)
    now_s = east.clock.monotonic_s()
    shown = (await health.ready(east, Pulse(now_s, now_s))).shown()
    assert shown == {"ready": True, "checks": {"store": "ok", "disk": "ok"}}


async def test_a_busy_store_is_not_ready(tmp_path: Path) -> None:
    """Who would wait half a minute is sent elsewhere, and nothing more is asked of the store."""
    city = await found(tmp_path / "city")
    now_s = city.clock.monotonic_s()
    answer = await health.ready(city, Pulse(0.0, now_s - LATE_S))
    assert (answer.http_status, answer.shown()["checks"]) == (503, {"store": "silent", "disk": "unknown"})


@pytest.mark.parametrize(
    ("forecast", "word"),
    [
        (Forecast(Space(1, 0, RESERVE_BYTES), None, 0.0), Word.FULL),
        (Forecast(Space(1, 0, RESERVE_BYTES + 1), 1.0, WARN_DAYS - 1), Word.LOW),
        (Forecast(Space(1, 0, RESERVE_BYTES + 1), 1.0, WARN_DAYS), Word.OK),
        (Forecast(Space(1, 0, RESERVE_BYTES + 1), None, None), Word.OK),
    ],
)
def test_the_disk_in_one_word(forecast: Forecast, word: Word) -> None:
    """Full at the reserve, low below thirty days, else fine."""
    assert health.word_of(forecast) is word
