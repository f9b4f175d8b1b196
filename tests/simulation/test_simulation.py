"""A fixed budget of seeds, and that a seed repeats. More of them: `make simulate SEEDS=0:2000`."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from tests.simulation import labels, swarm, table
from tests.simulation.course import Told, simulate
from tests.sources import ROOT

WHOLE = 171  # a seed of the full size with few lost messages: those with many take a minute
BUDGET = (*(("small", seed) for seed in range(100, 110)), ("quick", 101), ("full", WHOLE))
# What the budget is too small to pass: long runs of `make simulate` do.
RARE = ("continuity.", "restoring.", "uplink.chain_taken", "witness.")


@cache
def told(size: str, seed: int) -> Told:
    """Run a seed once, whoever asks first."""
    with table.quiet(True):
        return simulate(seed, swarm.SIZES[size], swarm.draw(seed, swarm.SIZES[size]))


@pytest.mark.parametrize(("size", "seed"), BUDGET)
def test_a_seed_breaks_no_promise(size: str, seed: int) -> None:
    """Whatever faults a seed brings, no promise is broken while they last, and afterwards the network comes to rest and agrees."""
    found = told(size, seed)
    assert found.cases > 0


@pytest.mark.parametrize("seed", [10, 40, 211])
def test_what_a_seed_found_stays_mended(seed: int) -> None:
    """What a seed found once is found no more."""
    # 10: entries of a restored root at a new place are told again. 40: a plain line with a task is folded again when a new log is
    # admitted. 211: what a hub receipted before it lost its store counts no more.
    assert told("small", seed).cases > 0


def test_the_full_size_is_a_city() -> None:
    """A seed of the full size is a network of twenty nodes and more on four tiers, two days and two hundred cases."""
    found, size = told("full", WHOLE), swarm.FULL
    assert len(size.tree) + 1 >= 20
    assert found.hours >= 48
    assert found.cases >= 200


def test_the_budget_fires_every_kind_of_fault() -> None:
    """A fault that never happens tests nothing: among the budget's seeds each message fault, each death and each restore occurs."""
    whole = table.Table()
    for size, seed in BUDGET:
        whole.add(told(size, seed))
    often = [name for name in table.FAULTS if not name.startswith(("liar", "root", "machine", "key", "disk cloned", "hub replaced", "off at"))]
    assert [name for name in often if not whole.fired[name]] == []
    points = [label for label in labels.reachable() if not label.startswith(RARE)]
    assert [label for label in points if not whole.points[label]] == []
    for way in ("failed", "persisted", "torn"):
        assert sum(count for (_, how), count in whole.died.items() if how == way) > 0


def test_a_seed_repeats_exactly() -> None:
    """The same seed gives the same trace, also in another process with another hash seed: a failure can be looked at again."""
    mine = told("small", 100)
    ask = (
        "from tests.simulation import course, swarm, table\n"
        "with table.quiet(True): print(course.simulate(100, swarm.SMALL, swarm.draw(100, swarm.SMALL)).trace)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4242"}
    theirs = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert theirs.stdout.split()[-1] == mine.trace


def test_no_fault_is_in_every_seed() -> None:
    """Swarm: each fault is absent from some seeds and present in others, so that none hides behind another."""
    fates = [swarm.draw(seed, swarm.FULL) for seed in range(60)]
    for name in swarm.Swarm.__dataclass_fields__:
        if name != "delay_s":
            values = [bool(getattr(fate, name)) for fate in fates]
            assert any(values), name
            assert not all(values), name
