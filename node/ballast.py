"""Room on the disk: a ballast file that is thrown off when the disk is full, and no new work until there is room again.

A full disk stops more than commits: the WAL cannot be written back, receipts cannot be kept, nobody can log in to clean up. So a
node keeps some space occupied by a file without content. When a commit finds the disk full, or free space falls below the reserve,
the ballast goes, and new work is refused in words (at the counter, from children, from the parent), while what is needed to get
data to safety, receipts first, still has room. Reading goes on. When somebody has made room, the ballast is laid again and work goes on.

Losing the ballast file costs nothing; it is made anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node import logs as lines
from node.ports import Clock
from protocol.errors import StoreFull

MIB: Final = 1 << 20
LOOK_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. ballast: of the file. reserve: free space below which no new work is begun. wal_alarm: a WAL that is too large."""

    ballast: int = 64 * MIB
    reserve: int = 32 * MIB
    wal_alarm: int = 256 * MIB


@dataclass(slots=True)
class Room:
    """Whether there is room for new work beside one store. Owner: the event loop.

    Attributes:
        store: the SQLite file. free: bytes free on its disk.
        full: new work is refused.
    """

    store: Path
    sizes: Sizes = field(default_factory=Sizes)
    free: Callable[[], int] | None = None
    full: bool = False
    _wal_told: bool = False

    @property
    def ballast(self) -> Path:
        """The file that holds the space."""
        return self.store.with_name("ballast")

    def admit(self) -> None:
        """Let new work begin.

        Raises:
            StoreFull: there is no room for it; nothing was written.
        """
        if self.full and self._free() + self._held() >= self.sizes.ballast + self.sizes.reserve:
            self.full = False  # the ballast is laid again by the next look
        if self.full:
            raise StoreFull("the disk is full: no new work until there is room", hint=self.advice())

    def advice(self) -> str:
        """Return what a person can do."""
        wanted = -(-(self.sizes.ballast + self.sizes.reserve) // MIB)
        return f"Free {wanted} MB on the disk of {self.store.parent.name}; reading still works, and what was saved is safe."

    def filled(self) -> None:
        """Throw the ballast off: a commit found the disk full, or it nearly is."""
        if not self.full:
            lines.event("store.full", lines.ERROR, bytes=self._free())
        self.full = True
        self.ballast.unlink(missing_ok=True)

    def look(self) -> None:
        """Compare free space with what is wanted: lay the ballast when there is room, throw it off when there is none."""
        held, free = self._held(), self._free()
        if free + held < self.sizes.reserve:
            self.filled()
        elif free + held >= self.sizes.ballast + self.sizes.reserve and self._lay(held):
            if self.full:
                lines.event("store.room_again", bytes=free)
            self.full = False
        self._look_at_wal()

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log: it grows while a reader holds an old state, or nothing can be written back."""
        wal = self.store.with_name(self.store.name + "-wal")
        return wal.stat().st_size if wal.exists() else 0

    def _look_at_wal(self) -> None:
        size = self.wal_bytes()
        if size > self.sizes.wal_alarm and not self._wal_told:
            lines.event("store.wal_large", lines.ERROR, bytes=size)
        self._wal_told = size > self.sizes.wal_alarm

    def _lay(self, held: int) -> bool:
        """Have the ballast's space reserved, if it is not; False when the disk has no room for it after all."""
        if held == self.sizes.ballast:
            return True
        reserve = getattr(os, "posix_fallocate", None)  # at once, where the system has it; Windows reserves what a file is long
        try:
            with self.ballast.open("wb") as stream:
                if reserve is not None and self.sizes.ballast:
                    reserve(stream.fileno(), 0, self.sizes.ballast)
                else:
                    stream.truncate(self.sizes.ballast)
        except OSError:
            self.ballast.unlink(missing_ok=True)
            return False
        return True

    def _held(self) -> int:
        return self.ballast.stat().st_size if self.ballast.exists() else 0

    def _free(self) -> int:
        return self.free() if self.free is not None else shutil.disk_usage(self.store.parent).free


async def watch(room: Room, clock: Clock) -> None:
    """Look at the disk again and again; ends only when cancelled."""
    while True:
        room.look()
        await clock.sleep(LOOK_S)
