"""What a seed draws: the size of its world, and a share or rate for each fault. Every fault is absent from some seeds.

Shares are of messages or of passes; rates are per virtual hour, of the whole network.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from tests.simulation import scene

HOUR_S: Final = 3_600.0
DAY_S: Final = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is. tree: (node, parent), parents first. cases: openings planned. trouble_s: how long faults last."""

    name: str
    tree: tuple[tuple[str, str], ...]
    cases: int
    trouble_s: float


FULL: Final = Size("full", scene.TREE, 240, 2 * DAY_S)
QUICK: Final = Size("quick", scene.TREE, 60, 6 * HOUR_S)
SMALL: Final = Size("small", scene.SMALL, 24, 2 * HOUR_S)
SIZES: Final = {one.name: one for one in (FULL, QUICK, SMALL)}


@dataclass(frozen=True, slots=True)
class Swarm:
    """One seed's weather and fate."""

    lost: float = 0.0
    answer_lost: float = 0.0
    hung_up: float = 0.0
    repeated: float = 0.0
    reordered: float = 0.0
    delay_s: float = 0.02
    cuts: float = 0.0
    one_way: float = 0.0
    traps: float = 0.0  # share of the fault points that are armed, for each way of dying
    crash_share: float = 0.0  # of passes
    power_cuts: float = 0.0
    torn: float = 0.0  # share of the armed commits at which the power fails while the disk still writes
    disk_full: float = 0.0
    clocks_wrong: float = 0.0  # share of the machines
    clock_jumps: float = 0.0
    nights_off: float = 0.0  # share of the counters that are switched off at night
    away: float = 0.0  # a hub is gone for hours
    restores: float = 0.0
    hub_restores: float = 0.0
    root_restores: float = 0.0
    clones: float = 0.0
    replacements: float = 0.0
    thefts: float = 0.0  # a counter's machine is stolen, and its key revoked with a cut
    rules: float = 0.0  # new versions of items
    old_programs: float = 0.0  # share of the machines
    rogues: float = 0.0  # entries that their authors had no right to
    liar: str = ""  # what the lying hub does; "" = none


SCALE: Final = 48.0  # hours in which a rate of n comes about n times


def draw(seed: int, size: Size) -> Swarm:
    """Draw one seed's fate. A fault that needs no other comes in about half of the seeds."""
    random_ = random.Random(f"swarm {seed}")
    hours = size.trouble_s / HOUR_S

    def some(*values: float) -> float:
        return random_.choice((0.0, *values))

    def rate(*counts: float) -> float:
        return some(*counts) / hours

    return Swarm(
        lost=some(0.02, 0.1, 0.3),
        answer_lost=some(0.02, 0.2),
        hung_up=some(0.5),
        repeated=some(0.05, 0.5),
        reordered=some(0.05, 0.3),
        delay_s=random_.choice((0.02, 0.2, 4.0)),
        cuts=rate(10, 40),
        one_way=rate(6, 20),
        traps=some(0.5, 1.0),
        crash_share=some(0.0002, 0.001),
        power_cuts=rate(3, 10),
        torn=some(0.5),
        disk_full=rate(3, 8),
        clocks_wrong=some(0.2, 1.0),
        clock_jumps=rate(4, 20),
        nights_off=some(0.5, 1.0),
        away=rate(2, 5),
        restores=rate(1, 3),
        hub_restores=rate(1, 2),
        root_restores=random_.choice((0.0, 0.0, 1.0)) / hours,
        clones=rate(1),
        replacements=rate(1),
        thefts=random_.choice((0.0, 0.0, 1.0)) / hours,
        rules=rate(1, 3),
        old_programs=some(0.1, 0.3),
        rogues=rate(4, 12),
        liar=random_.choice(("", "", *LIES)),
    )


LIES: Final = ("withhold", "freeze", "rewrite", "backdate", "forge", "two_histories", "false_body")


def without(swarm: Swarm, *names: str) -> Swarm:
    """Return the same fate without some faults."""
    empty = Swarm()
    nothing: dict[str, Any] = {name: getattr(empty, name) for name in names}
    return replace(swarm, **nothing)


def shown(swarm: Swarm) -> str:
    """Return what a seed drew, without what it left out."""
    empty = Swarm()
    return " ".join(
        f"{one.name}={_short(getattr(swarm, one.name))}"
        for one in fields(swarm)
        if getattr(swarm, one.name) != getattr(empty, one.name)
    )


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
