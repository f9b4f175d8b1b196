"""Is the node well? Two answers for machines that watch: *live* (else restart it) and *ready* (else send nobody there).

A station whose parent is away, or whose rules are old, is ready: it takes cases in. What stands in the way of that is a store that does
not answer and a disk with nothing left but its reserve.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from node.diskspace import Forecast
from node.node import Node
from node.pulse import BEAT_S, Pulse, look
from protocol.errors import StoreError

LATE_S = 3 * BEAT_S  # a store that is silent for so long is busy beyond what a counter bears


class Word(StrEnum):
    """What a check came to."""

    OK = "ok"
    SILENT = "silent"
    LOW = "low"
    FULL = "full"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Health:
    """An answer: whether it is well, and what each check came to."""

    name: str
    well: bool
    checks: tuple[tuple[str, Word], ...]

    @property
    def http_status(self) -> int:
        """200, or 503 for what is not well."""
        return 200 if self.well else 503

    def shown(self) -> dict[str, object]:
        """Return the JSON."""
        return {self.name: self.well, "checks": {key: str(word) for key, word in self.checks}}


def live(pulse: Pulse, now_s: float) -> Health:
    """Tell whether a restart would mend nothing."""
    well = pulse.live(now_s)
    return Health("live", well, (("store", Word.OK if well else Word.SILENT),))


async def ready(node: Node, pulse: Pulse) -> Health:
    """Tell whether a counter can work here."""
    answers = pulse.silent_s(node.clock.monotonic_s()) < LATE_S
    disk = await _disk(node) if answers else Word.UNKNOWN
    well = answers and disk in {Word.OK, Word.LOW}
    return Health("ready", well, (("store", Word.OK if answers else Word.SILENT), ("disk", disk)))


async def _disk(node: Node) -> Word:
    if node.room is not None and node.room.full:
        return Word.FULL  # new work is refused until there is room for the ballast as well
    try:
        return word_of(await node.read(lambda conn: look(node, conn)))
    except StoreError:
        return Word.UNKNOWN


def word_of(forecast: Forecast) -> Word:
    """Say a forecast in one word."""
    if forecast.full:
        return Word.FULL
    return Word.LOW if forecast.low else Word.OK
