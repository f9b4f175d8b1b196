"""A whole network in one process, on virtual time, from one seed: the real protocol, node and hub code, no sockets.

The loop's clock jumps to the next timer whenever nothing is ready, so that weeks pass in seconds and a seed repeats exactly.
Links delay, drop, repeat and reorder messages and can be cut. A machine dies at a fault point as at a power switch: what was not
committed is gone, every task of its process ends, nobody gets an answer; after a while it starts again from its file. Whatever a
task raises that is neither ours nor a crash is kept in `problems`, and fails the story.

    with World(seed=7, folder=tmp_path) as world:
        world.run(story(world))
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import selectors
import shutil
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from hub.app import Hub
from hub.enrolment import invite
from node import faults, setup
from node.folder import Folder
from node.joining import join
from node.keyring import Keyring
from node.node import Node
from node.ports import Response
from node.store import logs
from node.store.database import Connection, InlineDatabase, Unit, connect
from node.uplink import Settings, Uplink
from protocol import joincode, keys
from protocol.errors import LinkError, StoreError, TongbanError

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


T = TypeVar("T")


def quick(path: str, readonly: bool) -> Connection:
    """Open a store that does not wait for the platter: here only processes die, never the machine's power."""
    conn = connect(path, readonly)
    conn.execute("PRAGMA synchronous = OFF")
    return conn


class Disk(InlineDatabase):
    """A store whose process may be dead: then nothing is read or written any more."""

    def __init__(self, path: Path) -> None:
        self.dead = False
        super().__init__(path, quick)

    async def write(self, unit: Unit[T]) -> T:
        self._check()
        return await super().write(unit)

    async def read(self, unit: Unit[T]) -> T:
        self._check()
        return await super().read(unit)

    async def own(self, unit: Unit[T]) -> T:
        self._check()
        return await super().own(unit)

    def _check(self) -> None:
        if self.dead:
            raise faults.Crash("the process is dead")


@dataclass(slots=True)
class Weather:
    """What the links do: shares of messages, and seconds."""

    lost: float = 0.0
    answer_lost: float = 0.0
    repeated: float = 0.0
    hung_up: float = 0.0  # of those whose answer is lost: the handler's task is cancelled, too
    delay_s: tuple[float, float] = (0.001, 0.02)
    late_s: tuple[float, float] = (0.01, 60.0)  # after which a repeated message comes once more
    down_s: tuple[float, float] = (0.5, 40.0)  # for which a crashed machine is off


@dataclass(slots=True)
class Place:
    """One machine: its disk survives, the rest is gone with each crash."""

    id: str
    folder: Path
    key: keys.SigningKey
    clock: VirtualClock
    entropy: SeededEntropy
    certificate: bytes
    parent: str | None
    store: Disk
    node: Node
    hub: Hub
    uplink: Uplink | None = None
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    up: bool = True
    crashes: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The store's file."""
        return self.folder / "tongban.sqlite3"


class Link:
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
        world.carried += len(body)
        if world.chance(world.weather.repeated):
            world.later(lambda: self._deliver(target, path, body, token))
        lost = world.chance(world.weather.answer_lost)
        if lost and world.chance(world.weather.hung_up):
            return await self._hang_up(target, path, body, token)
        response = await self._deliver(target, path, body, token)
        await world.delay()
        if lost or not world.reaches(target, self._here):
            await asyncio.sleep(timeout_s)
            raise LinkError(f"{address} does not answer")
        return response

    async def _hang_up(self, target: str, path: str, body: bytes, token: str | None) -> Response:
        try:
            async with asyncio.timeout(self._world.random.uniform(0.0, 0.05)):
                return await self._deliver(target, path, body, token)
        except TimeoutError as exc:
            raise LinkError(f"{target} does not answer") from exc

    async def _deliver(self, target: str, path: str, body: bytes, token: str | None) -> Response:
        place = self._world.places[target]
        if not place.up:
            raise LinkError(f"{target} is down")
        secret = bytes.fromhex(token) if token else None
        answer = await self._world.at(target, place.hub.handle(path.rsplit("/", 1)[1], secret, body))
        if answer.status == 500:
            self._world.problems.append(f"{target}: {path} failed inside")
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
    one_way: set[tuple[str, str]] = field(default_factory=set)
    crash_share: float = 0.0
    traps: dict[str, int] = field(default_factory=dict)  # label → passes until a crash
    points: dict[str, int] = field(default_factory=dict)
    crashed_at: dict[str, int] = field(default_factory=dict)
    carried: int = 0  # bytes of requests
    problems: list[str] = field(default_factory=list)
    background: set[asyncio.Task[Any]] = field(default_factory=set)
    random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        """Seed."""
        self.random.seed(self.seed)
        self.loop.set_exception_handler(self._unexpected)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every file."""
        self.run(self.close())
        self.loop.close()

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        """Run a story to its end on virtual time; a failure names the seed."""
        asyncio.set_event_loop(self.loop)
        try:
            with faults.hooked(self._point):
                return self.loop.run_until_complete(story)
        except BaseException as exc:
            exc.add_note(f"seed {self.seed}, at {self.loop.time():.3f} s, crashes {self.crashed_at}")
            raise
        finally:
            asyncio.set_event_loop(None)

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        exc = told.get("exception")
        if not isinstance(exc, (faults.Crash, asyncio.CancelledError)):
            self.problems.append(f"{told.get('message')}: {exc!r}")

    # --- weather

    def chance(self, share: float) -> bool:
        """Draw."""
        return share > 0 and self.random.random() < share

    async def delay(self) -> None:
        """Wait as long as a message travels."""
        await asyncio.sleep(self.random.uniform(*self.weather.delay_s))

    def reaches(self, one: str, other: str) -> bool:
        """Tell whether a message from one place reaches the other."""
        return frozenset((one, other)) not in self.cuts and (one, other) not in self.one_way

    def cut(self, one: str, other: str) -> None:
        """Pull the cable."""
        self.cuts.add(frozenset((one, other)))

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Put one cable back, or all."""
        if one is None or other is None:
            self.cuts.clear()
            self.one_way.clear()
        else:
            self.cuts.discard(frozenset((one, other)))

    def calm(self) -> None:
        """End all faults: good weather, whole cables, no more crashes."""
        self.weather = Weather()
        self.crash_share = 0.0
        self.traps.clear()
        self.heal()

    def later(self, work: Any, after_s: float | None = None) -> None:
        """Do something after a while: a late copy of a message, say."""
        span_s = self.random.uniform(*self.weather.late_s) if after_s is None else after_s

        async def delayed() -> None:
            await asyncio.sleep(span_s)
            with contextlib.suppress(TongbanError):
                await work()

        context = contextvars.copy_context()
        context.run(_here.set, "")
        task = self.loop.create_task(delayed(), context=context)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    # --- faults

    def _point(self, label: str) -> None:
        self.points[label] = self.points.get(label, 0) + 1
        here = _here.get()
        if not here or not self._dies(label):
            return
        self.crashed_at[label] = self.crashed_at.get(label, 0) + 1
        place = self.places.get(here)
        if place is not None:
            self.kill(place.id, label)
            self.later(lambda: self.start(place.id), self.random.uniform(*self.weather.down_s))
        raise faults.Crash(label)

    def _dies(self, label: str) -> bool:
        left = self.traps.get(label)
        if left is not None:
            self.traps[label] = left - 1
            if left <= 1:
                del self.traps[label]
                return True
        return self.chance(self.crash_share)

    async def at(self, place: str, work: Coroutine[Any, Any, T]) -> T:
        """Run work as a place's own process would; LinkError when that dies meanwhile."""
        context = contextvars.copy_context()
        context.run(_here.set, place)
        task = self.loop.create_task(work, context=context)
        owner = self.places.get(place)
        if owner is not None:
            owner.tasks.add(task)
            task.add_done_callback(owner.tasks.discard)
        try:
            return await task
        except (faults.Crash, asyncio.CancelledError) as exc:
            asked = asyncio.current_task()
            if isinstance(exc, asyncio.CancelledError) and asked is not None and asked.cancelling():
                raise
            raise LinkError(f"{place} died") from exc

    def kill(self, name: str, label: str = "killed") -> None:
        """Switch a machine off: no more of its code runs."""
        place = self.places[name]
        if not place.up:
            return
        place.up = False
        place.store.dead = True
        place.crashes.append(label)
        self.loop.call_soon(self._bury, place.store, sorted(place.tasks, key=_begun))

    def _bury(self, store: Disk, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        self.loop.create_task(store.close())

    async def stop(self, name: str) -> None:
        """Switch a machine off and wait until it lies still."""
        self.kill(name)
        await asyncio.sleep(0.01)

    async def start(self, name: str) -> None:
        """Start a machine from its disk."""
        place = self.places[name]
        if place.up:
            return
        await asyncio.sleep(0.01)  # whatever was running is buried by now
        place.store = self.disk(place.file)
        place.node = await setup.node_of(place.store, place.key, place.clock, place.entropy, Keyring(Folder(place.folder)))
        place.tasks = set()
        place.up = True
        self._wire(place)
        self._follow(place)

    async def restart_session(self, name: str) -> None:
        """Cut a machine's line for a moment, so that it meets its parent anew."""
        place = self.places[name]
        self.cut(name, place.parent or "")
        await asyncio.sleep(80.0)
        self.heal(name, place.parent or "")

    def _wire(self, place: Place) -> None:
        place.hub = Hub(place.node, place.certificate)
        place.uplink = None
        if place.parent is not None:
            place.uplink = Uplink(place.node, self.link(place.id), self.settings(place.parent))

    # --- what a larger world makes otherwise

    def disk(self, path: Path) -> Disk:
        """Open a machine's store."""
        return Disk(path)

    def link(self, here: str) -> Link:
        """Return a machine's way to all others."""
        return Link(self, here)

    def settings(self, parent: str) -> Settings:
        """Return how an uplink behaves."""
        return Settings((f"{parent}:1",), timeout_s=10.0, wait_s=50, retry_min_s=1.0, retry_max_s=60.0)

    def _follow(self, place: Place) -> None:
        if place.uplink is None:
            return
        context = contextvars.copy_context()
        context.run(_here.set, place.id)
        task = self.loop.create_task(self._live(place, place.uplink), context=context)
        place.tasks.add(task)

    async def _live(self, place: Place, uplink: Uplink) -> None:
        try:
            await uplink.run()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - the uplink never ends by itself: whatever this is, it is a finding
            if place.up:
                self.problems.append(f"{place.id}: the uplink ended: {exc!r} {_leaves(exc)}")

    # --- backups

    def back_up(self, name: str, label: str = "backup") -> None:
        """Copy a stopped machine's disk."""
        place = self.places[name]
        if place.up:
            raise AssertionError("stop it first: its file is not whole")
        _copy(place.file, place.folder / label)

    def restore(self, name: str, label: str = "backup") -> None:
        """Put an old copy back under a stopped machine."""
        place = self.places[name]
        if place.up:
            raise AssertionError("stop it first")
        _copy(place.folder / label, place.file)

    async def clone(self, name: str, twin: str) -> Place:
        """Begin a second machine with a stopped machine's key and a copy of its disk; both are off."""
        place = self.places[name]
        if place.up:
            raise AssertionError("stop it first: its file is not whole")
        folder, entropy, _, certificate, clock = self._machine(twin)
        _copy(place.file, folder / place.file.name)
        store = self.disk(folder / place.file.name)
        made = await self._settle(twin, place.parent, store, (folder, entropy, place.key, certificate, clock))
        await self.stop(twin)
        return made

    # --- founding

    def _machine(self, name: str) -> tuple[Path, SeededEntropy, keys.SigningKey, bytes, VirtualClock]:
        folder = self.folder / name
        folder.mkdir(parents=True)
        earlier = len(list(self.folder.glob(f"{name} old*")))
        entropy = SeededEntropy((self.seed, name, earlier) if earlier else (self.seed, name))
        return folder, entropy, keys.SigningKey(entropy.bytes(32)), entropy.bytes(32), VirtualClock(self.loop)

    async def found(self, name: str, title: str) -> Place:
        """Begin the network."""
        folder, entropy, key, certificate, clock = self._machine(name)
        store = self.disk(folder / "tongban.sqlite3")
        recovery = [keys.SigningKey(entropy.bytes(32)).public]
        await setup.found(store, name, title, key, keys.SealingKey(entropy.bytes(32)).public, recovery, clock, entropy)
        return await self._settle(name, None, store, (folder, entropy, key, certificate, clock))

    async def enrol(self, name: str, title: str, parent: str, *, again: bool = False) -> Place:
        """Invite a place at its parent and join it; whatever crashes on the way is done again."""
        machine = self._machine(name)
        folder, entropy, key, _, clock = machine
        seal = keys.SealingKey(entropy.bytes(32)).public
        code = await self.again(lambda: self.at(parent, self._invite(parent, name, title, again=again)))
        joined = await self.again(lambda: self.at(name, join(code, key, seal, self.link(name))))

        async def begin() -> Disk:
            for leftover in folder.glob("tongban.sqlite3*"):
                leftover.unlink()
            store = self.disk(folder / "tongban.sqlite3")
            try:
                await setup.begin(store, name, joined.network, key, joined.chain, clock, entropy)
            except BaseException:
                await store.close()
                raise
            return store

        store = await self.again(lambda: self.at(name, begin()))
        place = await self._settle(name, parent, store, machine)
        self._follow(place)
        return place

    async def rebuild(self, name: str) -> Place:
        """Give a place that is here a new machine: an empty disk, and new keys; the old one's folder stays as it was."""
        old = self.places[name]
        await self.stop(name)
        old.folder = old.folder.rename(old.folder.with_name(f"{name} old"))
        assert old.parent is not None
        return await self.enrol(name, "", old.parent, again=True)

    async def _invite(self, parent: str, name: str, title: str, *, again: bool = False) -> joincode.JoinCode:
        node = self.places[parent].node
        invited = await invite(node, name, title, parent=None, expires_h=168, addresses=(f"{parent}:1",), again=again)
        return joincode.parse_code(invited.code)

    async def again(self, work: Any) -> Any:
        """Do something until it is answered."""
        while True:
            try:
                return await work()
            except (LinkError, StoreError):
                await asyncio.sleep(5.0)

    async def _settle(self, name: str, parent: str | None, store: Disk, machine: Any) -> Place:
        folder, entropy, key, certificate, clock = machine
        node = await setup.node_of(store, key, clock, entropy, Keyring(Folder(folder)))
        place = Place(name, folder, key, clock, entropy, certificate, parent, store, node, Hub(node, certificate))
        self._wire(place)
        self.places[name] = place
        return place

    async def close(self) -> None:
        """Stop everything."""
        for task in list(self.background):
            task.cancel()
        for name in list(self.places):
            await self.stop(name)

    def __iter__(self) -> Iterator[Place]:
        """Return all places."""
        return iter(list(self.places.values()))

    # --- convergence

    async def settle(self, rounds: int = 200, step_s: float = 5.0) -> int:
        """Let time pass until all that was written is everywhere it belongs; fails when that takes too long."""
        for count in range(rounds):
            await asyncio.sleep(step_s)
            behind = [place.id for place in self if await self._behind(place)]
            if not behind:
                return count
        raise AssertionError(f"seed {self.seed}: the network does not converge; behind: {behind}; {self.problems[:5]}")

    async def settle_below(self, top: str) -> None:
        """Let a hub's children come to rest, whatever is above it."""
        for _ in range(100):
            await asyncio.sleep(5.0)
            hub = self.places[top].node
            behind = [one for one in self if one.parent == top and await hub.read(lambda conn, one=one: _size(conn, one.node.ledger.identity.log)) < await one.node.read(lambda conn, one=one: one.node.ledger.own_row(conn).size)]
            if not behind:
                return
        raise AssertionError("the children do not come to rest")

    async def settle_without(self, away: str) -> None:
        """Let all but one machine come to rest."""
        for _ in range(100):
            await asyncio.sleep(5.0)
            if not [one for one in self if one.id != away and await self._behind(one)]:
                return
        raise AssertionError("the network does not converge")

    async def _behind(self, place: Place) -> bool:
        """Tell whether a place's log is not held everywhere above it, or news for it are not pulled."""
        if not place.up:
            return True
        own = place.node.ledger.identity.log
        size = await place.node.read(lambda conn: place.node.ledger.own_row(conn).size)
        for ancestor in place.node.rules.now.ancestors(place.node.id):
            hub = self.places[ancestor]
            if not hub.up or await hub.node.read(lambda conn: _size(conn, own)) != size:
                return True
        if place.uplink is None or place.parent is None:
            return False
        parent = self.places[place.parent]
        cursors = await place.uplink.cursors()
        return await parent.hub.has_news_for(place.node.id, cursors)


def _size(conn: Connection, log: Any) -> int:
    row = logs.find_log(conn, log)
    return row.size if row else 0


def _copy(source: Path, target: Path) -> None:
    """Copy a store whose process is dead, with what its WAL still holds."""
    for ending in ("", "-wal", "-shm"):
        old, new = source.with_name(source.name + ending), target.with_name(target.name + ending)
        new.unlink(missing_ok=True)
        if old.exists():
            shutil.copy(old, new)


def _begun(task: asyncio.Task[Any]) -> int:
    """Return a task's place in the order in which they were made (asyncio numbers their names): a set has none that repeats."""
    return int(task.get_name().rpartition("-")[2])


def _leaves(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):
        return " ".join(_leaves(one) for one in exc.exceptions)
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"[{exc!r} at {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}]" if frame else f"[{exc!r}]"
