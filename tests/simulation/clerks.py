"""Clerks who take cases in and carry them on, whatever happens: a command that was not answered is given again, under its event's id.

What a command answered is *saved*: the oracle is told, with the bytes that are on the disk. A clerk who is refused waits longer
and longer, and gives up only when the day of the simulation ends; work left over is no fault.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from node import operations
from node.office import Act
from node.store.database import Connection
from protocol.errors import CommandRefused, InputError, LinkError, StoreError
from tests.node.building import ID_NUMBER
from tests.simulation import scene
from tests.simulation.arena import Arena
from tests.simulation.scene import CIVIL, D2, SOCIAL, STAGE
from tests.world import Place

OFFICER: Final = "1001"
PATIENCE_S: Final = 3_600.0
FIRST_S: Final = 15.0


async def ask(place: Place, command: str, act: Act, /, **params: Any) -> Any:
    """Give one command at a machine."""
    answer = await operations.run(place.node, command, params, act)
    return [row async for row in answer] if isinstance(answer, AsyncIterator) else answer


class Case:
    """One case and the clerks who work on it. home: the counter that took it in."""

    def __init__(self, arena: Arena, name: str, home: str) -> None:
        self.arena, self.name, self.home = arena, name, home
        self.key: str | None = None
        self._steps = 0

    async def open(self, item: str) -> None:
        """Take the case in."""
        answer = await self._do(self.home, "open", "case.open", item=item, applicant="王伟", id_number=ID_NUMBER)
        self.key = answer["key"]

    async def go(self, at: str, kind: str, /, **params: Any) -> Any:
        """Carry the case one step on."""
        self._steps += 1
        return await self._do(at, f"{self._steps}{kind}", f"case.{kind}", case=self.key, **params)

    async def _do(self, at: str, step: str, command: str, **params: Any) -> Any:
        arena, source = self.arena, f"{self.name}/{step}"
        act = Act(OFFICER, "3", None, (source, command))
        wait_s = FIRST_S
        while True:
            place = arena.places[at]
            if place.up:
                try:
                    answer, raw = await arena.at(at, _saved(place, act, command, params))
                except (LinkError, StoreError, CommandRefused) as exc:  # dead, full, or the case is not that far yet
                    arena.refused[f"{command}: {type(exc).__name__}: {exc}"] += 1
                except InputError as exc:
                    arena.problems.append(f"{at}: {command} was refused: {exc.message}")
                    raise
                else:
                    arena.oracle.told(at, source, raw)
                    arena.note("saved", at, source)
                    return answer
            await asyncio.sleep(arena.random.uniform(0.5, 1.0) * wait_s)
            wait_s = min(wait_s * 1.7, PATIENCE_S)


async def _saved(place: Place, act: Act, command: str, params: dict[str, Any]) -> tuple[Any, bytes]:
    answer = await ask(place, command, act, **params)
    at = answer["log"]

    def read(conn: Connection) -> bytes:
        (raw,) = conn.execute(
            "SELECT e.raw FROM entries e JOIN logs l ON l.id = e.log WHERE l.node = ? AND l.incarnation = ? AND l.branch = x'' AND e.idx = ?",
            (at["node"], bytes.fromhex(at["incarnation"]), at["index"]),
        ).fetchone()
        return bytes(raw)

    return answer, await place.node.read(read)


# --- what happens to a case


async def spot(case: Case) -> None:
    """Taken in and decided at one counter."""
    await case.open("spot")
    await case.go(case.home, "accept")
    await case.go(case.home, "decide", result="grant", reason="符合")
    await case.go(case.home, "finish")
    await case.go(case.home, "deliver", how="window")


async def noted(case: Case) -> None:
    """Taken in, remarked on, and left."""
    await case.open("spot")
    await case.go(case.home, "note", text="申请人明日再来")


async def cross(case: Case) -> None:
    """Decided by two departments of another district, delivered where it began."""
    await case.open("cross")
    await case.go(case.home, "offer", to=D2)
    await case.go(D2, "take")
    await case.go(D2, "notice", missing=["申请表"])
    await case.go(case.home, "supplement", material=[{"name": "申请表"}])
    await case.go(D2, "accept")
    await case.go(D2, "dispatch", stage=STAGE)
    tasks = (case.go(at, "task", task=name, result="pass") for name, at in scene.TASKS)
    await asyncio.gather(*tasks)
    await case.go(D2, "decide", result="grant", reason="符合条件")
    await case.go(D2, "finish")
    await case.go(case.home, "deliver", how="window")


async def returned(case: Case) -> None:
    """Offered to the township, which gives it back; offered again, and taken."""
    town = case.arena.oracle.above(case.home)[0]
    await case.open("town")
    await case.go(case.home, "offer", to=town)
    await case.go(town, "return", reason="材料不全")
    await case.go(case.home, "note", text="材料已补")
    await case.go(case.home, "offer", to=town)
    await case.go(town, "take")
    await case.go(town, "accept")
    await case.go(town, "decide", result="deny", reason="不符合")


async def reclaimed(case: Case) -> None:
    """Offered to a township that does not take it: the district takes it back, whatever the counter does meanwhile."""
    town, district, *_ = case.arena.oracle.above(case.home)
    await case.open("town")
    await case.go(case.home, "accept")
    work = [case.go(district, "reclaim", reason="逾期"), case.go(case.home, "offer", to=town)]
    await asyncio.gather(*work)
    late = asyncio.gather(case.go(town, "take"), case.go(case.home, "suspend", kind="鉴定", reason="需要鉴定"))
    try:
        await case.go(district, "decide", result="grant", reason="符合")
        await case.go(district, "finish")
        await case.go(case.home, "deliver", how="post", tracking="EMS 1")
    finally:
        late.cancel()


async def long(case: Case) -> None:
    """Suspended, resumed, extended, corrected, decided, and the decision revoked."""
    home = case.home
    await case.open("spot")
    await case.go(home, "accept", lacking=["申请表"])
    await case.go(home, "suspend", kind="鉴定", reason="需要鉴定")
    await case.go(home, "correct", field={"phone": "13800000000"}, reason="笔误")
    await case.go(home, "resume")
    await case.go(home, "extend", days=3, reason="案情复杂")
    await case.go(home, "decide", result="partial", reason="部分符合")
    await case.go(home, "revoke", reason="事实有误")


async def refused(case: Case) -> None:
    """Not ours: refused at the counter; the applicant asks to withdraw."""
    await case.open("spot")
    await case.go(case.home, "refuse", kind=5, reason="不属于本机关")


async def withdrawn(case: Case) -> None:
    """Offered to a district, withdrawn at the counter: a request that the holder answers."""
    await case.open("cross")
    await case.go(case.home, "offer", to=D2)
    await case.go(case.home, "withdraw", reason="申请人撤回")
    await case.go(D2, "take")
    await case.go(D2, "withdraw", reason="申请人撤回")


Story = Callable[[Case], Awaitable[None]]
MIX: Final[tuple[tuple[Story, int], ...]] = (
    (spot, 40),
    (noted, 25),
    (cross, 8),
    (returned, 6),
    (reclaimed, 7),
    (long, 5),
    (refused, 5),
    (withdrawn, 4),
)


class Office:
    """All clerks of a network: cases begin through the days, more by day than by night."""

    def __init__(self, arena: Arena, counters: tuple[str, ...], count: int, span_s: float) -> None:
        self.arena = arena
        self.cases: list[Case] = []
        self._tasks: set[asyncio.Task[None]] = set()
        draw = random.Random(f"office {arena.seed}")
        stories, weights = zip(*MIX, strict=True)
        for number in range(count):
            story = draw.choices(stories, weights)[0]
            case = Case(arena, f"{story.__name__}{number}", draw.choice(counters))
            self.cases.append(case)
            at_s = draw.betavariate(1.2, 1.8) * span_s
            self._tasks.add(arena.loop.create_task(self._work(case, story, at_s)))

    async def _work(self, case: Case, story: Story, at_s: float) -> None:
        await asyncio.sleep(at_s)
        await story(case)

    @property
    def opened(self) -> int:
        """How many cases were taken in."""
        return sum(case.key is not None for case in self.cases)

    async def close(self) -> None:
        """Send all clerks home."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, (LinkError, StoreError)):
                self.arena.problems.append(f"a clerk's story ended: {outcome!r}")


PEOPLE: Final = (SOCIAL, CIVIL)
