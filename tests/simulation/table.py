"""What runs print: one line a seed, and the table of how often each fault and each fault point fired."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.simulation import labels
from tests.simulation.course import Told
from tests.simulation.oracle import LEVELS
from tests.simulation.swarm import LIES

# Every fault that a run can bring; over many seeds none may stay at zero.
FAULTS: Final = (
    "request lost", "answer lost", "caller hung up", "request repeated later", "request overtaken", "message into a cut link",
    "link cut", "link cut one way", "link healed", "parent away", "off at night",
    "power cut", "power cut in the middle of a commit", "disk full",
    "clock wrong from the beginning", "clock jumped",
    "node restored from an old copy", "hub restored from an old copy", "root restored from an old copy",
    "hub replaced, its disk empty", "disk cloned", "machine stolen", "key revoked", "older program",
    "restored, and without a line", "rules changed", "rogue entry",
    *(f"liar: {lie}" for lie in LIES),
)  # fmt: skip


@dataclass(slots=True)
class Table:
    """The sum over seeds."""

    seeds: int = 0
    cases: int = 0
    hours: float = 0.0
    doomed: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    died: Counter[tuple[str, str]] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)

    def add(self, told: Told) -> None:
        """Add one seed."""
        self.seeds += 1
        self.cases += told.cases
        self.hours += told.hours
        self.doomed += told.doomed
        for mine, its in ((self.fired, told.fired), (self.points, told.points), (self.levels, told.levels)):
            mine.update(its)
        self.died.update(told.died)

    def text(self) -> str:
        """Return the table."""
        faults = sorted({*FAULTS, *self.fired})
        lines = ["", f"{self.seeds} seeds, {self.cases} cases, {self.hours:.0f} virtual hours; saved entries by level: "]
        lines[-1] += ", ".join(f"{level} {self.levels[level]}" for level in LEVELS) + f"; no copy left of {self.doomed}"
        lines += ["", f"{'fault':44} times"] + [f"{name:44} {self.fired[name]:7}" for name in faults]
        lines += ["", f"{'fault point':28} {'passed':>8} {'failed':>8} {'persisted':>9} {'torn':>6}"]
        lines += [self._point_line(label) for label in labels.reachable()]
        return "\n".join(lines)

    def _point_line(self, label: str) -> str:
        ways = [self.died[label, way] for way in ("failed", "persisted", "torn")]
        return f"{label:28} {self.points[label]:8} {ways[0]:8} {ways[1]:9} {ways[2]:6}"


def line(told: Told, wall_s: float) -> str:
    """Return one seed's line."""
    deaths = sum(told.died.values())
    return (
        f"seed {told.seed}: {told.cases} cases, {told.entries} entries, {told.hours:.1f} h, {sum(told.fired.values())} faults, "
        f"{deaths} deaths, at rest after {told.rounds} rounds, {told.doomed} without copy, trace {told.trace[:12]}, {wall_s:.1f} s"
    )


def say(text: str) -> None:
    """Print at once: a run may take hours."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def quiet(wanted: bool) -> Iterator[None]:
    """Keep the programs' log lines back: with thousands of faults they are many."""
    before = logging.root.manager.disable
    if wanted:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def where(exc: BaseException) -> str:
    """Return the last lines of a failure that is none of the oracle's."""
    if isinstance(exc, AssertionError):
        return ""
    return "\n" + "".join(traceback.format_exception(exc)[-6:])
