"""How long the disk lasts."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from node import diskspace
from node.diskspace import DAY_MS, GROWTH, RESERVE_BYTES, SAMPLE_MS, SAMPLES_MAX, Sample, Space
from node.store import logs
from tests.node.building import START_MS, found

MIB = 1 << 20
NOW = START_MS


def space(store: int, free: int) -> Space:
    return Space(store, 0, free)


def test_growth_against_what_is_free() -> None:
    """10 MiB a day and room for 200 MiB above the reserve: 20 days, which somebody is told."""
    samples = [Sample(NOW - 10 * DAY_MS, 100 * MIB), Sample(NOW - 5 * DAY_MS, 170 * MIB)]
    found = diskspace.forecast(samples, NOW, space(200 * MIB, RESERVE_BYTES + 200 * MIB))
    assert (found.bytes_a_day, found.days_left, found.low, found.full) == (10 * MIB, 20.0, True, False)
    assert not diskspace.forecast(samples, NOW, space(200 * MIB, RESERVE_BYTES + 301 * MIB)).low


def test_what_does_not_grow_lasts() -> None:
    """No growth, or a store that shrank: no date, and no alarm."""
    for size in (100 * MIB, 50 * MIB):
        found = diskspace.forecast([Sample(NOW - 10 * DAY_MS, 100 * MIB)], NOW, space(size, RESERVE_BYTES + MIB))
        assert (found.bytes_a_day, found.days_left, found.low) == (0.0, None, False)


def test_a_first_day_says_nothing() -> None:
    """The burst of a new store's first hours is no pace."""
    found = diskspace.forecast([Sample(NOW - DAY_MS + 1, 0)], NOW, space(900 * MIB, RESERVE_BYTES + MIB))
    assert (found.bytes_a_day, found.days_left, found.low) == (None, None, False)


def test_only_the_reserve_left_is_an_alarm_at_any_pace() -> None:
    """A full disk is full, whatever filled it."""
    for samples in ([], [Sample(NOW - 10 * DAY_MS, 100 * MIB)], [Sample(NOW - 10 * DAY_MS, 0)]):
        found = diskspace.forecast(samples, NOW, space(100 * MIB, RESERVE_BYTES))
        assert (found.days_left, found.low, found.full) == (0.0, True, True)


def test_what_the_ballast_holds_back_is_room(tmp_path: Path) -> None:
    """A reserve that the ballast more than covers leaves all that is free, and the ballast's surplus."""
    samples = [Sample(NOW - 10 * DAY_MS, 100 * MIB)]
    assert diskspace.forecast(samples, NOW, space(200 * MIB, 68 * MIB), 32 * MIB - 64 * MIB).days_left == 10.0
    assert diskspace.forecast(samples, NOW, space(200 * MIB, 64 * MIB), 64 * MIB).full


def test_a_dead_clock_battery_spoils_no_forecast() -> None:
    """A start in 1970 adds a sample of that time, which counts for nothing once the clock is right, and the others stay."""
    samples = [Sample(NOW - 10 * DAY_MS, 100 * MIB)]
    odd = diskspace.noted(samples, Sample(5_000, 150 * MIB))
    assert odd == [*samples, Sample(5_000, 150 * MIB)]
    assert diskspace.forecast(odd, 6_000, space(150 * MIB, 900 * MIB)).bytes_a_day is None
    assert diskspace.forecast(odd, NOW, space(200 * MIB, 900 * MIB)).bytes_a_day == 10 * MIB


def test_the_oldest_samples_go() -> None:
    """A month of samples at the usual pace is kept, whatever the years bring."""
    samples: list[Sample] = []
    for number in range(SAMPLES_MAX + 50):
        samples = diskspace.noted(samples, Sample(NOW + number * SAMPLE_MS, number)) or samples
    assert [one.bytes for one in samples] == list(range(50, SAMPLES_MAX + 50))


@given(st.lists(st.integers(0, 1 << 42), max_size=200))
def test_samples_are_few(times: list[int]) -> None:
    """However the clock jumps: at most so many are kept, each some hours after any before it."""
    samples: list[Sample] = []
    for at in times:
        samples = diskspace.noted(samples, Sample(at, 1)) or samples
    assert len(samples) <= SAMPLES_MAX
    for place, one in enumerate(samples):
        assert not any(0 <= one.at_ms - before.at_ms < SAMPLE_MS for before in samples[:place])


async def test_samples_are_kept_in_the_store(tmp_path: Path) -> None:
    """One is taken when it is due, and only then; what cannot be read counts as none."""
    node = await found(tmp_path / "city")
    for now in (NOW, NOW + SAMPLE_MS - 1, NOW + SAMPLE_MS):
        await node.write(lambda conn, _, now=now: diskspace.note(conn, now))  # type: ignore[misc]
    kept = await node.read(diskspace.load)
    assert [one.at_ms for one in kept] == [NOW, NOW + SAMPLE_MS]
    assert all(one.bytes > 4_096 for one in kept)
    measured = await node.read(diskspace.measure)
    assert measured.store_bytes > measured.wal_bytes >= 0
    assert measured.free_bytes > 0
    await node.write(lambda conn, _: logs.set_meta(conn, GROWTH, b"?"))
    assert await node.read(diskspace.load) == []
