"""Room on the disk: the ballast is thrown off when it is full, new work waits until there is room, and both come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ballast import MIB, Room, Sizes, watch
from protocol.errors import StoreFull
from tests.node.building import VirtualClock

SIZES = Sizes(ballast=3 * MIB + 5, reserve=2 * MIB, wal_alarm=MIB)


class Disk:
    """So many bytes, less what the ballast takes."""

    def __init__(self, folder: Path, total: int) -> None:
        self.total = total
        self.room = Room(folder / "tongban.sqlite3", SIZES, self.free)

    def free(self) -> int:
        ballast = self.room.ballast
        return self.total - (ballast.stat().st_size if ballast.exists() else 0)


def test_the_ballast_takes_its_space_and_gives_it_back(tmp_path: Path) -> None:
    """Free space below the reserve: the ballast goes and new work is refused; with room for both it is laid again."""
    disk = Disk(tmp_path, 10 * MIB)
    disk.room.look()
    assert disk.room.ballast.stat().st_size == SIZES.ballast
    disk.room.admit()
    disk.total = MIB + SIZES.ballast
    disk.room.look()
    disk.room.admit()  # the ballast still holds more than the reserve
    disk.total = MIB
    disk.room.look()
    assert not disk.room.ballast.exists()
    with pytest.raises(StoreFull) as caught:
        disk.room.admit()
    assert "6 MB" in caught.value.hint
    assert str(tmp_path) not in caught.value.hint
    disk.total = SIZES.ballast + SIZES.reserve
    disk.room.admit()
    assert not disk.room.full
    disk.room.look()
    assert (disk.room.full, disk.room.ballast.stat().st_size) == (False, SIZES.ballast)
    assert disk.room.ballast.stat().st_blocks * 512 >= SIZES.ballast, "really there, no hole"


def test_a_commit_that_finds_the_disk_full_throws_the_ballast_off(tmp_path: Path) -> None:
    """Room is judged by the commit that failed; half of the room wanted does not yet let new work in."""
    disk = Disk(tmp_path, 10 * MIB)
    disk.room.look()
    disk.room.filled()
    disk.room.filled()
    assert not disk.room.ballast.exists()
    disk.total = SIZES.reserve + 1
    with pytest.raises(StoreFull):
        disk.room.admit()


def test_a_ballast_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """Where the disk says more than it has, the node does not fail, and stays closed for new work only if it was."""
    room = Room(tmp_path / "gone" / "tongban.sqlite3", SIZES, lambda: 100 * MIB)
    room.look()
    room.admit()
    assert not room.ballast.exists()


def test_a_large_wal_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader that holds an old state, or a disk that takes nothing back, is seen by the size of the WAL."""
    from node import logs
    from node.config import Log

    logs.configure(Log(file="-"), tmp_path)
    disk = Disk(tmp_path, 10 * MIB)
    (tmp_path / "tongban.sqlite3-wal").write_bytes(bytes(MIB + 1))
    disk.room.look()
    disk.room.look()
    assert disk.room.wal_bytes() == MIB + 1
    logs.shutdown()
    assert capsys.readouterr().err.count("store.wal_large") == 1


async def test_the_disk_is_looked_at_again_and_again(tmp_path: Path) -> None:
    """A disk that fills up between commits is seen too."""
    disk, clock = Disk(tmp_path, 10 * MIB), VirtualClock()
    looked = 0

    class Ended(Exception):
        pass

    async def sleep(span_s: float) -> None:
        nonlocal looked
        looked += 1
        disk.total = MIB
        if looked == 2:
            raise Ended

    clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(Ended):
        await watch(disk.room, clock)
    assert disk.room.full
