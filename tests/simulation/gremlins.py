"""What happens to the network: each kind of fault comes at its own rate, from the seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from node.ledger import Changes, Draft
from node.office import Act
from node.registrar import take_in
from node.store.database import Connection
from protocol.errors import LinkError, StoreError, TongbanError
from tests.simulation import clerks, scene
from tests.simulation.arena import Arena, Image
from tests.simulation.clerks import Case, noted
from tests.simulation.liar import Liar
from tests.simulation.swarm import HOUR_S, Size
from tests.world import Place

HOUR_MS: Final = 3_600_000
ACT: Final = Act(officer="1001", window="3")


class Gremlins:
    """All faults of one run, as tasks on virtual time. `mend` puts right what would not end by itself."""

    def __init__(self, arena: Arena, size: Size) -> None:
        self.arena, self.size = arena, size
        self.random = random.Random(f"gremlins {arena.seed}")
        self.names = [scene.CITY, *(name for name, _ in size.tree)]
        self.hubs = sorted(set(arena.oracle.parents.values()))
        self.leaves = [name for name in self.names if name not in self.hubs]
        self.images: dict[str, list[Image]] = {}
        self.free: list[Callable[[], None]] = []
        self.busy: set[str] = set()  # machines in somebody's hands
        self.versions = 1
        swarm = arena.swarm
        kinds: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (swarm.cuts, self.cut),
            (swarm.one_way, self.cut_one_way),
            (swarm.power_cuts, self.cut_power),
            (swarm.disk_full, self.fill_disk),
            (swarm.clock_jumps, self.jump_clock),
            (swarm.away, self.go_away),
            (swarm.restores, self.restore_node),
            (swarm.hub_restores, self.restore_hub),
            (swarm.root_restores, self.restore_root),
            (swarm.clones, self.clone),
            (swarm.replacements, self.replace_hub),
            (swarm.thefts, self.steal),
            (swarm.rules, self.change_rules),
            (swarm.rogues, self.go_rogue),
        )
        self._tasks = [arena.loop.create_task(self._come(rate, act)) for rate, act in kinds if rate]
        if swarm.restores or swarm.hub_restores or swarm.root_restores:
            self._tasks.append(arena.loop.create_task(self._copy_disks()))
        if swarm.nights_off:
            self._tasks += [arena.loop.create_task(self._sleep_at_night(name)) for name in self.leaves if self.random.random() < swarm.nights_off]
        self.twins: list[Case] = []
        old = {name for name in self.names if self.random.random() < swarm.old_programs}
        arena.old |= old
        arena.fired["older program"] += len(old)
        if swarm.liar:
            self._begin_lying(swarm.liar)

    async def _come(self, rate: float, act: Callable[[], Awaitable[None]]) -> None:
        """Let one kind of fault come again and again; several may be under way at once."""
        under_way: set[asyncio.Task[Any]] = set()
        try:
            while True:
                await asyncio.sleep(self.random.expovariate(rate) * HOUR_S)
                task = self.arena.loop.create_task(act())  # type: ignore[arg-type]
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        finally:
            for task in under_way:
                task.cancel()

    async def close(self) -> None:
        """Let nothing more happen."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def mend(self) -> None:
        """Free the disks, and make the liar honest."""
        for free in self.free:
            free()
        if self.arena.liar is not None:
            self.arena.liar.honest = True
            self.arena.fired.update(self.arena.liar.fired)

    def some(self, among: list[str]) -> str:
        """Pick a machine that nobody else has in hand."""
        free = [name for name in among if name not in self.busy]
        return self.random.choice(free or among)

    def log_span(self, low_s: float, high_s: float) -> float:
        """Draw a span between two, the short ones as often as the long ones."""
        return float(low_s * (high_s / low_s) ** self.random.random())

    # --- lines

    async def cut(self) -> None:
        """Cut a machine off from its parent, or from everybody, and heal it later."""
        name, parent = self.random.choice(self.size.tree)
        others = [parent] if self.random.random() < 0.5 else [one for one in self.names if one != name]
        self.arena.fired["link cut"] += 1
        for other in others:
            self.arena.cut(name, other)
        await asyncio.sleep(self.log_span(10, 4 * HOUR_S))
        self.arena.fired["link healed"] += 1
        for other in others:
            self.arena.heal(name, other)

    async def cut_one_way(self) -> None:
        """Let requests through and no answers, or the other way round."""
        pair = self.random.choice(self.size.tree)
        way = pair if self.random.random() < 0.5 else (pair[1], pair[0])
        self.arena.fired["link cut one way"] += 1
        self.arena.one_way.add(way)
        await asyncio.sleep(self.log_span(10, HOUR_S))
        self.arena.one_way.discard(way)

    # --- machines

    async def cut_power(self) -> None:
        """Switch off without warning."""
        await self.arena.power_cut(self.some(self.names), self.log_span(1, 600))

    async def fill_disk(self) -> None:
        """Fill a disk for a while."""
        name = self.some(self.names)
        if not self.arena.places[name].up:
            return
        free = self.arena.fill_disk(name)
        self.free.append(free)
        await asyncio.sleep(self.log_span(60, HOUR_S))
        free()

    async def jump_clock(self) -> None:
        """Move a clock by seconds, hours or years."""
        name = self.some(self.names)
        span = self.random.choice((10_000, HOUR_MS, 24 * HOUR_MS, 3 * 365 * 24 * HOUR_MS))
        self.arena.jump_clock(name, self.random.choice((-1, 1)) * self.random.randint(1, span))

    async def go_away(self) -> None:
        """Let a hub be gone for hours: its children go on, and an ancestor helps out."""
        name = self.some([one for one in self.hubs if one != scene.CITY])
        self.arena.fired["parent away"] += 1
        self.busy.add(name)
        await self.arena.stop(name)
        await asyncio.sleep(self.log_span(600, 6 * HOUR_S))
        self.busy.discard(name)
        await self.arena.start(name)

    async def _sleep_at_night(self, name: str) -> None:
        """Switch a counter off at six and on at eight: the world begins at eight."""
        while True:
            await asyncio.sleep(10 * HOUR_S + self.random.uniform(0, HOUR_S))
            self.arena.fired["off at night"] += 1
            await self.arena.stop(name)
            await asyncio.sleep(12 * HOUR_S + self.random.uniform(0, HOUR_S))
            await self.arena.start(name)

    # --- old copies

    async def _copy_disks(self) -> None:
        """Copy disks now and then: what is put back later is one of these."""
        while True:
            await asyncio.sleep(self.random.uniform(0.1, 0.2) * self.size.trouble_s)
            for name in self.random.sample(self.names, max(1, len(self.names) // 3)):
                if not self.arena.places[name].store.torn:  # type: ignore[attr-defined]
                    kept = self.images.setdefault(name, [])
                    kept.append(self.arena.image_of(name))
                    del kept[:-2]

    async def _restore(self, among: list[str], what: str) -> None:
        copied = [name for name in among if name in self.images and name not in self.busy]
        if not copied:
            return
        name = self.random.choice(copied)
        self.arena.fired[what] += 1
        self.busy.add(name)
        alone = self.names if self.random.random() < 0.5 else []  # it writes on before anybody tells it that it was put back
        for other in alone:
            self.arena.cut(name, other)
        await self.arena.put_back(name, self.random.choice(self.images[name]))
        if alone:
            self.arena.fired["restored, and without a line"] += 1
            await asyncio.sleep(self.log_span(600, 2 * HOUR_S))
        for other in alone:
            self.arena.heal(name, other)
        self.busy.discard(name)

    async def restore_node(self) -> None:
        """Put an old copy of its disk under a counter."""
        await self._restore(self.leaves, "node restored from an old copy")

    async def restore_hub(self) -> None:
        """Put an old copy of its disk under a hub."""
        await self._restore([one for one in self.hubs if one != scene.CITY], "hub restored from an old copy")

    async def restore_root(self) -> None:
        """Put an old copy of its disk under the root."""
        await self._restore([scene.CITY], "root restored from an old copy")

    # --- other machines under the same name

    async def clone(self) -> None:
        """Start a copy of a counter's disk beside it; clerks work at both, and after a while somebody chooses."""
        arena, name = self.arena, self.some(self.leaves)
        twin = f"{name}@2"
        if name in self.busy or twin in arena.places:
            return
        arena.fired["disk cloned"] += 1
        self.busy.add(name)
        arena.oracle.forkers.add(name)
        arena.oracle.lossy.add(name)  # one event may be stated at both
        await arena.stop(name)
        await arena.clone(name, twin)
        await arena.start(name)
        await arena.start(twin)
        self.twins = [Case(arena, f"twin{number}", twin) for number in range(3)]
        work = [arena.loop.create_task(noted(case)) for case in self.twins]
        try:
            await asyncio.sleep(self.log_span(600, 4 * HOUR_S))
            await self.choose()
        finally:
            for task in work:
                task.cancel()

    async def choose(self) -> None:
        """Let the operator say at each of two machines under one name which goes on, as soon as they say that there are two."""
        for twin in [one for one in self.arena.places if "@" in one]:
            await self._choose(self.arena.oracle.node_of(twin), "clones.keep")
            await self._choose(twin, "clones.retire")

    async def _choose(self, name: str, command: str) -> None:
        for _ in range(30):
            place = self.arena.places[name]
            try:
                if place.up and (await self.arena.at(name, clerks.ask(place, "clones", ACT)))["fenced"]:
                    await self.arena.at(name, clerks.ask(place, command, ACT))
                    self.arena.fired[command] += 1
                    return
            except (LinkError, StoreError):
                pass
            await asyncio.sleep(60.0)

    async def replace_hub(self) -> None:
        """Put a new machine with an empty disk in a hub's place: it has the key, and the chain of its enrolment from the root."""
        arena = self.arena
        name = self.some([one for one in self.hubs if one != scene.CITY])
        if name in self.busy or not arena.places[scene.CITY].up or (arena.liar and arena.liar.hub == name):
            return
        arena.fired["hub replaced, its disk empty"] += 1
        self.busy.add(name)
        await arena.replace(name, scene.CITY)
        self.busy.discard(name)

    async def steal(self) -> None:
        """Take a counter's machine away for ever; its parent revokes the key, from what it holds by now."""
        arena, name = self.arena, self.some([one for one in self.leaves if "-" not in one])
        if name in self.busy:
            return
        self.busy.add(name)
        arena.fired["machine stolen"] += 1
        await arena.lose(name)
        hub = arena.oracle.parents[name]
        while True:
            place = arena.places[hub]
            if place.up:
                try:
                    await arena.at(hub, place.node.write(lambda conn, changes, place=place: self._revoke(place, name, conn, changes)))
                except (LinkError, StoreError):
                    pass
                else:
                    arena.fired["key revoked"] += 1
                    return
            await asyncio.sleep(60.0)

    def _revoke(self, place: Place, name: str, conn: Connection, changes: Changes) -> None:
        rows = conn.execute("SELECT incarnation, size, root FROM logs WHERE node = ? AND branch = x'' AND size > 0", (name,))
        cuts = [[bytes(incarnation), size, bytes(root)] for incarnation, size, root in rows]
        ledger, now = place.node.ledger, place.node.clock.wall_ms()
        fields = {"node": name, "key": self.arena.places[name].key.public, "cuts": cuts}
        ledger.append(conn, [Draft("node.revoke", now, fields)], changes)
        take_in(ledger, conn, changes, now)

    # --- rules and people

    async def change_rules(self) -> None:
        """Publish a new version of every item."""
        self.versions += 1
        version = self.versions
        while True:
            place = self.arena.places[scene.CITY]
            if place.up:
                try:
                    await self.arena.at(scene.CITY, clerks.ask(place, "catalogue.publish", Act("1001", "3"), items=scene.items(version)))
                except (LinkError, StoreError):
                    pass
                except TongbanError:
                    return
                else:
                    self.arena.fired["rules changed"] += 1
                    return
            await asyncio.sleep(60.0)

    async def go_rogue(self) -> None:
        """Let a program that obeys nobody state what its node has no right to."""
        name = self.some(self.names)
        place = self.arena.places[name]
        if not place.up:
            return
        try:
            raw = await self.arena.at(name, place.node.write(lambda conn, changes: self._state(name, conn, changes)))
        except (LinkError, StoreError):
            return
        if raw is not None:
            self.arena.fired["rogue entry"] += 1
            self.arena.oracle.rogue(raw)

    def _state(self, name: str, conn: Connection, changes: Changes) -> bytes | None:
        node = self.arena.places[name].node
        found = conn.execute("SELECT key FROM cases WHERE holder <> ? AND state <> 'waiting' ORDER BY id DESC LIMIT 20", (name,)).fetchall()
        if not found:
            return None
        key = bytes(self.random.choice(found)[0])
        stands = self._tip(conn, key)
        if stands is None:
            return None
        link, epoch, offered = stands
        kind = self.random.choice(("decide", "finish", "accept", "take", "take", "suspend"))
        if kind == "take" and (offered == name):
            return None
        fields: dict[str, Any] = {"result": "grant"} if kind == "decide" else {}
        draft = Draft(kind, node.clock.wall_ms(), fields, None, "1001", "3", case=key, epoch=epoch + (kind == "take"), prev=link)
        (placed,) = node.ledger.append(conn, [draft], changes)
        take_in(node.ledger, conn, changes, node.clock.wall_ms())
        return placed.raw

    def _tip(self, conn: Connection, key: bytes) -> tuple[bytes, int, str | None] | None:
        """Return (link, epoch, offered to) of the last spine entry of a case by its place, read from the bytes."""
        rows = conn.execute("SELECT e.raw FROM entries e JOIN cases c ON c.id = e.case_id WHERE c.key = ? ORDER BY e.id DESC", (key,))
        facts = [self.arena.oracle._read(bytes(raw)) for (raw,) in rows]
        spine = [one for one in facts if one.type in {"open", "accept", "offer", "take"} and one.leaf not in self.arena.oracle.voids]
        if not spine:
            return None
        last = spine[0]
        return last.link, last.epoch or 0, last.fields.get("to")

    # --- lies

    def _begin_lying(self, lie: str) -> None:
        hub = self.random.choice([one for one in self.hubs if one != scene.CITY])
        place = self.arena.places[hub]
        children = [name for name, parent in self.size.tree if parent == hub]
        victims = frozenset(self.random.sample(self.names, len(self.names) // 3)) | {self.random.choice(children)}
        self.arena.oracle.forkers.add(hub)
        self.arena.oracle.liars.add(hub)
        self.arena.liar = Liar(
            hub, lie, place.key, place.node.ledger.identity.network, random.Random(f"liar {self.arena.seed}"), victims=victims
        )
