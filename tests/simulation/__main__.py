"""`python -m tests.simulation 0:20`: run seeds, print what each did, and at the end how often each fault and fault point fired.

    make simulate SEEDS=0:2000            python -m tests.simulation 17            one seed again, as it was
    python -m tests.simulation 0:40 --size quick --jobs 2
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from node import logs
from tests.simulation import course, swarm, table

REPEAT: Final = "again with: python -m tests.simulation {seed} --size {size}   (at commit {commit})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds that the command line names; returns the exit code."""
    wish = _wish(argv)
    whole, failed = table.Table(), []
    for seed, told, wall_s in _results(wish):
        if isinstance(told, str):
            failed.append(seed)
            table.say(f"seed {seed}: FAILED after {wall_s:.1f} s\n{told}")
            table.say(REPEAT.format(seed=seed, size=wish.size, commit=commit()))
            if wish.first:
                break
        else:
            whole.add(told)
            table.say(table.line(told, wall_s))
    table.say(whole.text())
    if failed:
        table.say(f"FAILED seeds: {failed}, at commit {commit()}")
    return 1 if failed else 0


def _wish(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seeds", help="a seed, or first:behind")
    parser.add_argument("--size", choices=sorted(swarm.SIZES), default="full")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--without", action="append", default=[], help="a fault of the swarm to leave out")
    parser.add_argument("--first", action="store_true", help="stop at the first failure")
    parser.add_argument("--logs", action="store_true", help="show the programs' log lines")
    return parser.parse_args(argv)


def _seeds(text: str) -> range:
    first, colon, behind = text.partition(":")
    return range(int(first or 0), int(behind)) if colon else range(int(first), int(first) + 1)


def _results(wish: argparse.Namespace) -> Iterator[tuple[int, course.Told | str, float]]:
    work = [(seed, wish.size, tuple(wish.without), wish.logs) for seed in _seeds(wish.seeds)]
    if wish.jobs == 1:
        yield from map(_one, work)
        return
    with ProcessPoolExecutor(wish.jobs) as pool:
        yield from pool.map(_one, work)


def _one(work: tuple[int, str, tuple[str, ...], bool]) -> tuple[int, course.Told | str, float]:
    seed, name, left_out, show_logs = work
    logs.set_strict(True)
    begun = time.monotonic()
    size = swarm.SIZES[name]
    fate = swarm.without(swarm.draw(seed, size), *left_out)
    try:
        with table.quiet(not show_logs):
            told: course.Told | str = course.simulate(seed, size, fate)
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt):
            raise
        notes = " ".join(getattr(exc, "__notes__", ()))
        told = f"{type(exc).__name__}: {exc}\n{notes}\nswarm: {swarm.shown(fate)}{table.where(exc)}"
    return seed, told, time.monotonic() - begun


def commit() -> str:
    """Return the commit that is checked out, with a + where files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
