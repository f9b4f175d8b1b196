"""One seed from beginning to end: build, trouble, rest, judgement; with its table of faults and its trace."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

from hub import app
from node.office import Act
from node.uplink import calling
from protocol.errors import CommandRefused, LinkError, StoreError
from tests.node.building import calendar
from tests.simulation import clerks, judge, labels, programs, scene
from tests.simulation.arena import FAILED, PERSISTED, WAIT_S, Arena, Armed
from tests.simulation.clerks import Office
from tests.simulation.gremlins import Gremlins
from tests.simulation.oracle import Oracle
from tests.simulation.swarm import Size, Swarm

LOOK_S: Final = 20.0
ROUNDS_MAX: Final = 120
HELPED_S: Final = 120.0  # so often a node that an ancestor helps looks for its parent
ROUND_S: Final = 60.0
MORNING_S: Final = 30.0
ACT: Final = Act(officer="1001", window="3")


@dataclass(slots=True)
class Told:
    """What a run says of itself. trace: SHA-256 of all that happened, and of what the root holds at the end."""

    seed: int
    trace: str
    cases: int
    hours: float
    entries: int
    rounds: int
    fired: Counter[str] = field(default_factory=Counter)
    died: Counter[tuple[str, str]] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    doomed: int = 0
    carried: int = 0


class Violation(AssertionError):
    """What must never be was found."""


def simulate(seed: int, size: Size, swarm: Swarm) -> Told:
    """Run one seed.

    Raises:
        Violation: the product broke a promise; the message says which, and when.
    """
    with tempfile.TemporaryDirectory(prefix="tongban-sim-", dir=_memory()) as folder, _arena(seed, swarm, folder) as arena:
        with programs.mixed(arena.old), _patient():
            told: Told = arena.run(_live(arena, size))
        return told


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Let idle nodes ask less often: virtual days then cost seconds. Nothing but these two spans is other than in life."""
    with mock.patch.object(app, "WAIT_MAX_S", WAIT_S), mock.patch.object(calling, "LOOK_S", HELPED_S):
        yield


def _memory() -> str | None:
    """Return a folder in memory, where there is one: what the platter keeps is simulated anyway."""
    place = Path("/dev/shm")
    return str(place) if place.is_dir() else None


@contextlib.contextmanager
def _arena(seed: int, swarm: Swarm, folder: str) -> Iterator[Arena]:
    with Arena(seed, Path(folder), swarm=swarm, oracle=Oracle()) as arena:
        yield arena


async def _live(arena: Arena, size: Size) -> Told:
    await _watched(arena, _build(arena, size))
    _arm(arena, building=False)
    counters = tuple(name for name, _ in size.tree if name not in arena.oracle.parents.values() and "-" not in name)
    office = Office(arena, counters, size.cases, size.trouble_s * 0.9)
    gremlins = Gremlins(arena, size)
    try:
        await _watched(arena, asyncio.sleep(size.trouble_s))
    finally:
        await gremlins.close()
        await office.close()
    opened, hours = office.opened, arena.loop.time() / 3_600
    await _watched(arena, _calm(arena, gremlins))
    rounds = await _watched(arena, judge.rest(arena, ROUNDS_MAX, ROUND_S))
    await _watched(arena, judge.agree(arena, gremlins))
    _check(arena)
    root = arena.oracle.seen[scene.CITY]
    arena.note("end", sorted(root.leaves), sorted(arena.fired.items()), sorted(arena.points.items()))
    return Told(
        arena.seed, arena.trace.hexdigest(), opened, hours, len(root.leaves), rounds,
        arena.fired, arena.died, Counter(arena.points), arena.oracle.levels(), len(arena.oracle.doomed), arena.carried,
    )


async def _watched(arena: Arena, work: Any) -> Any:
    """Do something while the oracle is listened to: the run ends at the first violation."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=LOOK_S)
            _check(arena)
            if done:
                return task.result()
    finally:
        task.cancel()


def _check(arena: Arena) -> None:
    found = [*arena.oracle.violations, *arena.problems]
    if found:
        raise Violation("\n".join(found[:8]))


def _arm(arena: Arena, *, building: bool) -> None:
    """Arm a share of the fault points, each for both ways of dying."""
    draw = arena.random
    for label in labels.reachable():
        if label.startswith(labels.BUILDING) != building:
            continue
        for mode in (FAILED, PERSISTED):
            if draw.random() < arena.swarm.traps:
                arena.armed.append(Armed(label, mode, draw.randint(1, 3) if building else draw.randint(1, 40)))


async def _build(arena: Arena, size: Size) -> None:
    """Found the network, enrol everybody, publish the rules, give each an officer and each hub its address."""
    arena.oracle.parents.update(dict(size.tree))
    _arm(arena, building=True)
    await arena.found(scene.CITY, "乌鲁木齐市")
    for name, parent in size.tree:
        await arena.enrol(name, f"节点{name[6:]}", parent)
    await told(arena, scene.CITY, "catalogue.publish", items=scene.items())
    await told(arena, scene.CITY, "calendar.publish", calendar=calendar())
    for place in list(arena):
        await told(arena, place.id, "officer.add", id=clerks.OFFICER, name="张三")
    for hub in sorted(set(arena.oracle.parents.values())):
        await arena.again(lambda hub=hub: arena.at(hub, _announce(arena, hub)))
    await judge.rest(arena, ROUNDS_MAX, ROUND_S)  # every counter has the rules: a hub may lie from now on


async def _announce(arena: Arena, hub: str) -> None:
    from hub.service import announce

    place = arena.places[hub]
    if not place.up:
        raise LinkError("down")
    await announce(place.node, f"{hub}:1")


async def told(arena: Arena, at: str, command: str, /, **params: Any) -> Any:
    """Give a command that may be repeated, until it is answered."""
    while True:
        place = arena.places[at]
        if place.up:
            try:
                return await arena.at(at, clerks.ask(place, command, ACT, **params))
            except (LinkError, StoreError):
                pass
            except CommandRefused as exc:
                return exc  # it was done, and its answer lost
        await asyncio.sleep(2.0)


async def _calm(arena: Arena, gremlins: Gremlins) -> None:
    """End all faults; every machine is switched on, every program brought up to date, the liar replaced by an honest one."""
    arena.swarm = Swarm()
    arena.armed.clear()
    arena.calm()
    gremlins.mend()
    await asyncio.sleep(60.0)
    for place in arena.alive():
        await arena.start(place.id)
    await gremlins.choose()
    for name in sorted(arena.old - arena.stolen):
        await _upgrade(arena, name)
    await _next_morning(arena)


async def _next_morning(arena: Arena) -> None:
    """Start every machine once more, from the top down: what a hub got past the machines between, they look for when they next meet it."""
    for place in sorted(arena.alive(), key=lambda one: (len(arena.oracle.above(arena.oracle.node_of(one.id))), one.id)):
        await arena.stop(place.id)
        await arena.start(place.id)
        await asyncio.sleep(MORNING_S)


async def _upgrade(arena: Arena, name: str) -> None:
    """Start a machine again with the new program, and fold what waited for it."""
    arena.old.discard(name)
    await arena.stop(name)
    await arena.start(name)
    await arena.at(name, clerks.ask(arena.places[name], "rebuild", ACT))
