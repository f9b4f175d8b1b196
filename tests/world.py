"""A whole network in one process, on virtual time, from one seed: the real protocol, node and hub code, no sockets.

The loop's clock jumps to the next timer whenever nothing is ready, so that weeks pass in seconds and a seed repeats exactly.
Links delay, drop, repeat and reorder messages and can be cut; a node can crash at a fault point and is started again from
its file. After each step of a story `world.check()` re-verifies what every node holds.

    with World(seed=7) as world:
        world.run(story(world))
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import selectors
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hub.app import Hub
from hub.enrolment import invite
from node import faults, setup
from node.joining import join
from node.node import Node
from node.ports import Response
from node.store.database import InlineDatabase
from node.uplink import Settings, Uplink
from protocol import joincode, keys
from protocol.errors import LinkError, TongbanError

START_MS = 1_795_305_600_000  # 2026-11-22T00:00:00Z
_here: contextvars.ContextVar[str] = contextvars.ContextVar("node", default="")


class _JumpingSelector(selectors.SelectSelector):
    """Waits no real time: a wait moves the loop's clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Move the clock by the time that would have been waited."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing is scheduled: the virtual network stands still")
            self.now_s += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return virtual seconds."""
        return self._jumping.now_s


@dataclass(slots=True)
class VirtualClock:
    """One node's clock: true time plus its own error."""

    loop: VirtualLoop
    offset_ms: int = 0

    def wall_ms(self) -> int:
        """Return what this node believes."""
        return START_MS + int(self.loop.time() * 1000) + self.offset_ms

    def monotonic_s(self) -> float:
        """Return virtual seconds."""
        return self.loop.time()

    async def sleep(self, span_s: float) -> None:
        """Wait virtual time."""
        await asyncio.sleep(max(span_s, 0.0))

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until a virtual moment."""
        await self.sleep(monotonic_s - self.loop.time())


class SeededEntropy:
    """Randomness that repeats."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(repr(seed))

    def bytes(self, count: int) -> bytes:
        """Return repeatable bytes."""
        return self._random.randbytes(count)

    def uniform(self) -> float:
        """Return a repeatable number in [0, 1)."""
        return self._random.random()


@dataclass(slots=True)
class Weather:
    """What the links do: shares of messages, and seconds."""

    lost: float = 0.0
    answer_lost: float = 0.0
    repeated: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.02)


@dataclass(slots=True)
class Place:
    """One machine: its disk survives, the rest is gone with each crash."""

    id: str
    folder: Path
    key: keys.SigningKey
    clock: VirtualClock
    entropy: SeededEntropy
    certificate: bytes
    node: Node
    hub: Hub
    parent: str | None
    uplink: Uplink | None = None
    task: asyncio.Task[None] | None = None
    up: bool = True
    crashes: int = 0


class _Link:
    """One machine's way to all others."""

    def __init__(self, world: World, here: str) -> None:
        self._world = world
        self._here = here

    async def request(
        self, address: str, path: str, body: bytes, *, token: str | None = None, timeout_s: float
    ) -> Response:
        """Carry one request and its answer, as the weather allows."""
        world, target = self._world, address.rsplit(":", 1)[0]
        await world.delay()
        if not world.reaches(self._here, target) or world.chance(world.weather.lost):
            await asyncio.sleep(timeout_s)
            raise LinkError(f"{address} does not answer")
        if world.chance(world.weather.repeated):
            world.later(self._deliver(target, path, body, token))
        response = await self._deliver(target, path, body, token)
        await world.delay()
        if not world.reaches(target, self._here) or world.chance(world.weather.answer_lost):
            await asyncio.sleep(timeout_s)
            raise LinkError(f"{address} does not answer")
        return response

    async def _deliver(self, target: str, path: str, body: bytes, token: str | None) -> Response:
        place = self._world.places[target]
        if not place.up:
            raise LinkError(f"{target} is down")
        secret = bytes.fromhex(token) if token else None
        answer = await self._world.inside(target, place.hub.handle(path.rsplit("/", 1)[1], secret, body))
        return Response(answer.status, answer.body, place.certificate, answer.retry_after_s)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass(slots=True)
class World:
    """A network of places. Everything random comes from `seed`."""

    seed: int
    folder: Path
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    weather: Weather = field(default_factory=Weather)
    places: dict[str, Place] = field(default_factory=dict)
    cuts: set[frozenset[str]] = field(default_factory=set)
    crash_share: float = 0.0
    points: dict[str, int] = field(default_factory=dict)
    background: set[asyncio.Task[Any]] = field(default_factory=set)
    random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        """Seed."""
        self.random.seed(self.seed)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every file."""
        self.run(self.close())
        self.loop.close()

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        """Run a story to its end on virtual time."""
        asyncio.set_event_loop(self.loop)
        try:
            with faults.hooked(self._point):
                return self.loop.run_until_complete(story)
        finally:
            asyncio.set_event_loop(None)

    # --- weather

    def chance(self, share: float) -> bool:
        """Draw."""
        return self.random.random() < share

    async def delay(self) -> None:
        """Wait as long as a message travels."""
        await asyncio.sleep(self.random.uniform(*self.weather.delay_s))

    def reaches(self, one: str, other: str) -> bool:
        """Tell whether the line between two places is whole."""
        return frozenset((one, other)) not in self.cuts

    def cut(self, one: str, other: str) -> None:
        """Pull the cable."""
        self.cuts.add(frozenset((one, other)))

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Put one cable back, or all."""
        if one is None or other is None:
            self.cuts.clear()
        else:
            self.cuts.discard(frozenset((one, other)))

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something once more, after a while: a late copy of a message."""

        async def delayed() -> None:
            await asyncio.sleep(self.random.uniform(0.01, 60.0))
            with contextlib.suppress(TongbanError):
                await work

        task = self.loop.create_task(delayed())
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    # --- faults

    def _point(self, label: str) -> None:
        self.points[label] = self.points.get(label, 0) + 1
        here = _here.get()
        if here and self.chance(self.crash_share):
            self.places[here].crashes += 1
            raise faults.Crash(label)

    async def inside(self, place: str, work: Coroutine[Any, Any, Any]) -> Any:
        """Run work as a place's own; when it crashes, the place starts again from its disk."""
        context = contextvars.copy_context()
        context.run(_here.set, place)
        try:
            return await self.loop.create_task(work, context=context)
        except faults.Crash as exc:
            await self.restart(place)
            raise LinkError(f"{place} crashed") from exc

    async def restart(self, name: str) -> None:
        """Kill a place and start it again."""
        place = self.places[name]
        await self.stop(name)
        await self.start(place)

    async def stop(self, name: str) -> None:
        """Kill a place."""
        place = self.places[name]
        place.up = False
        if place.task is not None:
            place.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, faults.Crash):
                await place.task
            place.task = None
        await place.node.close()

    async def start(self, place: Place) -> None:
        """Start a place from its disk."""
        store = InlineDatabase(place.folder / "tongban.sqlite3")
        place.node = await setup.node_of(store, place.key, place.clock, place.entropy)
        self._wire(place)
        place.up = True
        self._follow(place)

    def _wire(self, place: Place) -> None:
        place.hub = Hub(place.node, place.certificate)
        place.uplink = None
        if place.parent is not None:
            settings = Settings((f"{place.parent}:1",), timeout_s=10.0, wait_s=50, retry_min_s=1.0, retry_max_s=60.0)
            place.uplink = Uplink(place.node, _Link(self, place.id), settings)

    def _follow(self, place: Place) -> None:
        if place.uplink is None:
            return

        async def live() -> None:
            try:
                await place.uplink.run()  # type: ignore[union-attr]
            except* faults.Crash:
                place.task = None
                self.later(self.restart(place.id))

        context = contextvars.copy_context()
        context.run(_here.set, place.id)
        place.task = self.loop.create_task(live(), context=context)

    # --- founding

    def _machine(self, name: str) -> tuple[Path, SeededEntropy, keys.SigningKey, bytes, VirtualClock]:
        folder = self.folder / name
        folder.mkdir(parents=True)
        entropy = SeededEntropy((self.seed, name))
        return folder, entropy, keys.SigningKey(entropy.bytes(32)), entropy.bytes(32), VirtualClock(self.loop)

    async def found(self, name: str, title: str) -> Place:
        """Begin the network."""
        folder, entropy, key, certificate, clock = self._machine(name)
        store = InlineDatabase(folder / "tongban.sqlite3")
        recovery = [keys.SigningKey(entropy.bytes(32)).public]
        await setup.found(store, name, title, key, keys.SealingKey(entropy.bytes(32)).public, recovery, clock, entropy)
        return await self._settle(name, folder, key, clock, entropy, certificate, store, None)

    async def enrol(self, name: str, title: str, parent: str) -> Place:
        """Invite a place at its parent and join it."""
        hub = self.places[parent]
        invited = await invite(hub.node, name, title, parent=None, expires_h=168, addresses=(f"{parent}:1",))
        folder, entropy, key, certificate, clock = self._machine(name)
        seal = keys.SealingKey(entropy.bytes(32)).public
        code = joincode.parse_code(invited.code)
        joined = await join(code, key, seal, _Link(self, name), entropy)
        store = InlineDatabase(folder / "tongban.sqlite3")
        await setup.begin(store, name, joined.network, key, joined.chain, clock, entropy)
        place = await self._settle(name, folder, key, clock, entropy, certificate, store, parent)
        self._follow(place)
        return place

    async def _settle(  # noqa: PLR0913, PLR0917
        self,
        name: str,
        folder: Path,
        key: keys.SigningKey,
        clock: VirtualClock,
        entropy: SeededEntropy,
        certificate: bytes,
        store: InlineDatabase,
        parent: str | None,
    ) -> Place:
        node = await setup.node_of(store, key, clock, entropy)
        place = Place(name, folder, key, clock, entropy, certificate, node, Hub(node, certificate), parent)
        self._wire(place)
        self.places[name] = place
        return place

    async def close(self) -> None:
        """Stop everything."""
        for task in list(self.background):
            task.cancel()
        for name in list(self.places):
            if self.places[name].up:
                await self.stop(name)

    def __iter__(self) -> Iterator[Place]:
        """Return all places."""
        return iter(list(self.places.values()))

    # --- convergence

    async def settle(self, rounds: int = 200, step_s: float = 5.0) -> None:
        """Let time pass until every log is held by every ancestor; fails when that takes too long."""
        for _ in range(rounds):
            await asyncio.sleep(step_s)
            if all([not await self._behind(place) for place in self]):
                return
        raise AssertionError(f"seed {self.seed}: the network does not converge")

    async def _behind(self, place: Place) -> bool:
        if not place.up:
            return True
        own = await place.node.read(lambda conn: place.node.ledger.own_row(conn).size)
        for ancestor in place.node.rules.now.ancestors(place.id):
            hub = self.places[ancestor]
            if not hub.up or await hub.node.read(lambda conn: _size(conn, place)) != own:
                return True
        if place.parent is None or place.uplink is None:
            return False
        parent = self.places[place.parent].node
        mine = await place.uplink.cursors()
        from hub import serving  # noqa: PLC0415

        return await parent.store.own(lambda conn: serving.has_news(parent.ledger, conn, place.id, mine))


def _size(conn: Any, place: Place) -> int:
    from node.store import logs  # noqa: PLC0415

    row = logs.find_log(conn, place.node.ledger.identity.log)
    return row.size if row else 0
