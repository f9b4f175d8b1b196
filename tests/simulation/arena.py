"""The world of the simulation: machines that crash, lose power, fill up, have wrong clocks, are restored, cloned and replaced.

A process dies at a fault point in one of two ways. *failed*: what was under way is rolled back. *persisted*: it runs on to its
next commit, and dies behind that, before anybody hears of it. A *power cut* besides loses what the disk had not synced: the
store's WAL is cut back to where it was when `synchronous` last let a commit return; during a commit it is torn in the middle.

Each commit of each machine is shown to the oracle, which looks at the file and never asks the program.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from hub.enrolment import chain_of
from node import faults, setup
from node.ports import Response
from node.store.database import Connection, InlineDatabase, Unit, connect
from node.uplink import Settings
from protocol.errors import LinkError, StoreError, TongbanError
from tests.simulation.liar import Liar
from tests.simulation.oracle import Oracle
from tests.simulation.swarm import Swarm
from tests.world import Disk, Link, Place, World
from tests.world import _here as here_now

FAILED: Final = "failed"
PERSISTED: Final = "persisted"
TORN: Final = "torn"
WAL_BYTES_MAX: Final = 16 << 20
WAIT_S: Final = 290  # of one long poll: fewer of them make virtual days cheap
YEARS_10_MS: Final = 10 * 365 * 86_400_000
ENDINGS: Final = ("", "-wal")

T = TypeVar("T")
Image = dict[str, bytes]


class SimDisk(Disk):
    """A store that shows its commits to the oracle, and knows what a power cut would leave of it."""

    def __init__(self, path: Path, oracle: Oracle) -> None:
        self.file, self.name, self._oracle = path, path.parent.name, oracle
        self.dead = self.torn = False
        self._syncs = True
        InlineDatabase.__init__(self, path, self._connect)
        self._synced = self._wal_bytes()
        oracle.opened(self.name, self.connection)

    def _connect(self, path: str, readonly: bool) -> Connection:
        conn = connect(path, readonly)
        self._syncs = conn.execute("PRAGMA synchronous").fetchone()[0] >= 2
        conn.execute("PRAGMA synchronous = OFF")  # what the platter would hold is counted, not waited for
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        self.connection = conn
        return conn

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit; whatever is committed afterwards the oracle sees, also when nobody else heard of it."""
        self._check()
        try:
            return await InlineDatabase.write(self, unit)
        finally:
            if not self.torn:
                self._note()

    def _note(self) -> None:
        size = self._wal_bytes()
        if self._syncs:
            self._synced = size
        self._oracle.committed(self.name, self.connection)
        if size > WAL_BYTES_MAX:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._synced = 0

    def _wal_bytes(self) -> int:
        wal = self._beside("-wal")
        return wal.stat().st_size if wal.exists() else 0

    def _beside(self, ending: str) -> Path:
        return self.file.with_name(self.file.name + ending)

    def image(self) -> Image:
        """Return the file as a copy of the disk would have it, between two units."""
        return {one: self._beside(one).read_bytes() for one in ENDINGS if self._beside(one).exists()}

    def lose_power(self, draw: random.Random) -> None:
        """Leave on the disk what was synced; of what was being written a part, perhaps garbled."""
        left = self.image()
        self.connection.close()
        wal = left.get("-wal", b"")
        torn = bytearray(wal[: draw.randint(min(self._synced, len(wal)), len(wal))])
        if len(torn) > self._synced + 64 and draw.random() < 0.5:
            torn[draw.randrange(self._synced, len(torn))] ^= 0x40
        put(self.file, {**left, "-wal": bytes(torn)})


def put(file: Path, image: Image) -> None:
    """Lay a copy of a disk down under a stopped machine."""
    for ending in ("", "-wal", "-shm"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
    for ending, content in image.items():
        if content or not ending:
            file.with_name(file.name + ending).write_bytes(content)


@dataclass(slots=True)
class Armed:
    """A fault point that waits for somebody to pass. passes: so many are left."""

    label: str
    mode: str
    passes: int


class SimLink(Link):
    """One machine's way to all others, in this seed's weather; every event is counted, and a liar answers for itself."""

    _world: Arena

    async def request(
        self, address: str, path: str, body: bytes, *, token: str | None = None, timeout_s: float
    ) -> Response:
        """Carry one request and its answer."""
        world, target, swarm = self._world, address.rsplit(":", 1)[0], self._world.swarm
        await world.travel()
        if not world.reaches(self._here, target):
            world.fired["message into a cut link"] += 1
            return await self._silence(address, timeout_s)
        if world.draws(swarm.lost, "request lost"):
            return await self._silence(address, timeout_s)
        world.carried += len(body)
        if world.draws(swarm.repeated, "request repeated later"):
            world.later(lambda: self._deliver(target, path, body, token))
        if world.draws(swarm.reordered, "request overtaken"):
            await asyncio.sleep(world.random.uniform(0.5, 30.0))
        lost = world.draws(swarm.answer_lost, "answer lost")
        if lost and world.draws(swarm.hung_up, "caller hung up"):
            return await self._hang_up(target, path, body, token)
        response = await self._deliver(target, path, body, token)
        await world.travel()
        if lost or not world.reaches(target, self._here):
            return await self._silence(address, timeout_s)
        return response

    async def _silence(self, address: str, timeout_s: float) -> Response:
        await asyncio.sleep(timeout_s)
        raise LinkError(f"{address} does not answer")

    async def _deliver(self, target: str, path: str, body: bytes, token: str | None) -> Response:
        if target not in self._world.places:
            raise LinkError(f"{target} is not there")
        response = await super()._deliver(target, path, body, token)
        liar = self._world.liar
        if liar is not None and liar.hub == target:
            told = liar.twist(self._here, path.rsplit("/", 1)[1], response)
            self._world.oracle.lied(liar.shown)
            return told
        return response


@dataclass(slots=True)
class Arena(World):
    """A world of places with a swarm's faults. `oracle` sees every commit; `fired` counts what happened."""

    swarm: Swarm = field(default_factory=Swarm)
    oracle: Oracle = field(default_factory=Oracle)
    fired: Counter[str] = field(default_factory=Counter)
    died: Counter[tuple[str, str]] = field(default_factory=Counter)  # (label, way) → times
    refused: Counter[str] = field(default_factory=Counter)  # what clerks were told
    armed: list[Armed] = field(default_factory=list)
    liar: Liar | None = None
    old: set[str] = field(default_factory=set)  # whose program is older
    stolen: set[str] = field(default_factory=set)
    trace: Any = field(default_factory=hashlib.sha256)
    _dying: dict[str, Armed] = field(default_factory=dict)

    # --- what a place is made of

    def disk(self, path: Path) -> SimDisk:
        """Open a machine's store under the oracle's eyes. One that is still being founded begins again from nothing."""
        if path.parent.name not in self.places:
            self.oracle.forget(path.parent.name)
        return SimDisk(path, self.oracle)

    def link(self, here: str) -> SimLink:
        """Return a machine's way to all others."""
        return SimLink(self, here)

    def settings(self, parent: str) -> Settings:
        """Return how an uplink behaves."""
        return Settings((f"{parent}:1",), timeout_s=10.0, wait_s=WAIT_S, retry_min_s=1.0, retry_max_s=120.0)

    def _machine(self, name: str) -> Any:
        made = World._machine(self, name)
        if self.random.random() < self.swarm.clocks_wrong:
            made[-1].offset_ms = self.random.randint(-YEARS_10_MS, YEARS_10_MS)
            self.fired["clock wrong from the beginning"] += 1
        return made

    # --- weather

    async def travel(self) -> None:
        """Wait as long as a message travels."""
        await asyncio.sleep(self.random.uniform(0.001, self.swarm.delay_s))

    def draws(self, share: float, what: str) -> bool:
        """Draw, and count what happens."""
        if share > 0 and self.random.random() < share:
            self.fired[what] += 1
            return True
        return False

    def note(self, *what: object) -> None:
        """Add to the trace: two runs of one seed have equal traces."""
        self.trace.update(repr((round(self.loop.time(), 6), *what)).encode())

    # --- dying

    def _point(self, label: str) -> None:
        self.points[label] = self.points.get(label, 0) + 1
        here = here_now.get()
        if not here:
            return
        waiting = self._dying.get(here)
        if waiting is not None and label == "store.committed":
            del self._dying[here]
            self._die(here, waiting)
        trap = self._sprung(label)
        if trap is None:
            return
        if trap.mode == FAILED or label == "store.committed":
            self._die(here, trap)
        self._dying.setdefault(here, trap)

    def _sprung(self, label: str) -> Armed | None:
        for trap in self.armed:
            if trap.label == label:
                trap.passes -= 1
                if trap.passes <= 0:
                    self.armed.remove(trap)
                    return trap
                return None
        if self.swarm.crash_share and self.random.random() < self.swarm.crash_share:
            return Armed(label, self.random.choice((FAILED, PERSISTED)), 0)
        return None

    def _die(self, here: str, trap: Armed) -> None:
        place = self.places.get(here)
        mode = trap.mode
        if place is not None and place.up:
            if trap.label == "store.committed" or mode == PERSISTED:
                mode = self._maybe_torn(place, trap.mode)
            self.later(lambda: self.start(here), self.random.uniform(*self.weather.down_s))
            self.kill(here, trap.label)
        self.died[trap.label, mode] += 1
        self.note("died", here, trap.label, mode)
        raise faults.Crash(trap.label)

    def _maybe_torn(self, place: Place, mode: str) -> str:
        """Let the power fail while the commit is on its way to the platter: then it has not happened."""
        if not self.draws(self.swarm.torn, "power cut in the middle of a commit"):
            return mode
        disk = place.store
        assert isinstance(disk, SimDisk)
        disk.torn = True
        disk.lose_power(self.random)
        return TORN

    async def start(self, name: str) -> None:
        """Start a machine from its disk; what is cut short while starting is tried again."""
        while not self.places[name].up and name not in self.stolen:
            try:
                await World.start(self, name)
            except (StoreError, faults.Crash):
                await asyncio.sleep(5.0)

    async def power_cut(self, name: str, down_s: float) -> None:
        """Switch a machine's power off and, after a while, on."""
        place = self.places[name]
        if not place.up:
            return
        disk = place.store
        assert isinstance(disk, SimDisk)
        self.fired["power cut"] += 1
        self.note("power cut", name)
        self.kill(name, "power")
        disk.lose_power(self.random)
        await asyncio.sleep(down_s)
        await self.start(name)

    # --- copies of disks

    def image_of(self, name: str) -> Image:
        """Copy a machine's disk, running or not."""
        disk = self.places[name].store
        assert isinstance(disk, SimDisk)
        return disk.image()

    async def put_back(self, name: str, image: Image) -> None:
        """Put an old copy of its disk under a machine, and start it again."""
        await self.stop(name)
        await asyncio.sleep(1.0)
        if self.places[name].up:
            await self.stop(name)
        self.oracle.restoring(name)
        self.note("restored", name, hashlib.sha256(image[""]).hexdigest())
        put(self.places[name].file, image)
        await self.start(name)

    async def replace(self, name: str, source: str) -> None:
        """Put a new machine with an empty disk in a hub's place: with its key, and the chain of its enrolment from another machine."""
        place = self.places[name]
        await self.stop(name)
        await asyncio.sleep(1.0)
        root = self.places[source].node
        try:
            chain = await self.at(source, root.store.own(lambda conn: chain_of(root.ledger, conn, name)))
        except (LinkError, StoreError):
            chain = []
        if not chain or place.up:
            return await self.start(name)
        self.oracle.restoring(name)
        self.note("replaced", name)
        put(place.file, {})
        store = self.disk(place.file)
        await setup.begin(store, name, root.ledger.identity.network, place.key, chain, place.clock, place.entropy)
        await store.close()
        return await self.start(name)

    async def lose(self, name: str) -> None:
        """Take a machine away for ever."""
        self.stolen.add(name)
        await self.stop(name)
        self.oracle.gone(name)

    async def again(self, work: Any) -> Any:
        """Do something until it is answered: whoever joins a machine gives the command again when that may help."""
        while True:
            try:
                return await work()
            except TongbanError as exc:
                if not (exc.retryable or isinstance(exc, (LinkError, StoreError))):
                    raise
                await asyncio.sleep(5.0)

    # --- clocks and space

    def jump_clock(self, name: str, span_ms: int) -> None:
        """Move a machine's clock."""
        clock = self.places[name].clock
        clock.offset_ms = max(-YEARS_10_MS, min(YEARS_10_MS, clock.offset_ms + span_ms))
        self.fired["clock jumped"] += 1

    def fill_disk(self, name: str) -> Callable[[], None]:
        """Leave a machine's disk no free page; returns what frees it."""
        disk = self.places[name].store
        assert isinstance(disk, SimDisk)
        conn = disk.connection
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
        conn.execute(f"PRAGMA max_page_count = {pages}")
        self.fired["disk full"] += 1

        def free() -> None:
            if not disk.dead:
                conn.execute("PRAGMA max_page_count = 1073741823")

        return free

    def alive(self) -> list[Place]:
        """Return all machines that nobody took away."""
        return [place for place in self if place.id not in self.stolen]
