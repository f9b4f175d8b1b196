"""A thousand stations in one process, each with its own store, keys, log and TLS connection: `python -m bench.stations FOLDER`.

They are prepared without the clock running: enrolled, with the catalogue, with some cases written offline, and logged in. Then
all of them push at once. Stores are in memory, since the disks of stations stand elsewhere than the hub's.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.clock import BenchClock
from bench.counter import Counter
from bench.place import obey
from bench.workload import generate
from node import setup
from node.ledger import Changes, Draft
from node.node import Node
from node.registrar import take_in
from node.store.database import Connection, InlineDatabase
from node.system import SystemEntropy
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from node.uplink.pulling import take_page
from protocol import keys, messages
from protocol.errors import Overloaded
from protocol.log import Bundle
from protocol.register import join_message

FILES_MAX: Final = 16_384
TIMEOUT_S: Final = 120.0
DAY_MS: Final = 86_400_000


class Papers(msgspec.Struct):
    """What new stations need from their hub. page: the rules before the enrolments. chains: by node."""

    network: bytes
    page: messages.PullReply
    chains: dict[str, list[Bundle]]


def ids(count: int, district: str = "650102") -> list[str]:
    """Return ids of villages."""
    return [f"{district}{100 + number // 100:03d}{number % 100 + 1:03d}" for number in range(count)]


def key_of(node: str) -> keys.SigningKey:
    """Return the signing key of a station of this bench, the same in every process."""
    return keys.SigningKey(keys.sha256(f"bench {node}".encode()))


def enrol_all(hub: Node, conn: Connection, changes: Changes, nodes: list[str]) -> None:
    """Invite and enrol many stations in one transaction: what a thousand joinings leave behind."""
    now, entropy = hub.clock.wall_ms(), SystemEntropy()
    seal, certificate = keys.SealingKey(entropy.bytes(32)).public, bytes(32)
    for node in nodes:
        seed, key, challenge = keys.SigningKey(entropy.bytes(32)), key_of(node), entropy.bytes(32)
        invite = {"node": node, "name": node, "parent": hub.id, "key": seed.public, "expires": now + DAY_MS, "rights": []}
        (invited,) = hub.ledger.append(conn, [Draft("node.invite", now, invite)], changes)
        message = join_message(node, key.public, seal, challenge, certificate)
        fields = {
            "node": node,
            "invite": invited.leaf[:16],
            "key": key.public,
            "seal_key": seal,
            "suite": keys.SUITE_ED25519,
            "challenge": challenge,
            "certificate": certificate,
            "proof": seed.sign(keys.SignedKind.JOIN, hub.ledger.identity.network, message),
        }
        hub.ledger.append(conn, [Draft("node.enrol", now, fields)], changes)
    take_in(hub.ledger, conn, changes, now)


@dataclass(slots=True)
class Station:
    """One station of the crowd."""

    node: Node
    counter: Counter
    transport: HttpsTransport
    uplink: Uplink


def _in_memory(_: str, readonly: bool) -> Connection:
    del readonly
    conn = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    conn.execute("PRAGMA foreign_keys = ON")
    return conn


class Crowd:
    """Many stations; obeys lines as `bench.place` does. Owner: the event loop."""

    def __init__(self) -> None:
        self.clock = BenchClock()
        self.entropy = SystemEntropy()
        self.stations: list[Station] = []
        self.told_to_wait = 0

    async def do_prepare(self, papers: str, address: str, offset_ms: int, cases: int) -> float:
        """Set all stations up, with so many cases written in each; returns seconds."""
        self.clock.offset_ms = offset_ms
        start = time.monotonic()
        told = msgspec.msgpack.decode(await asyncio.to_thread(Path(papers).read_bytes), type=Papers)
        for number, (node, chain) in enumerate(told.chains.items()):
            station = await self._begin(node, chain, told, address)
            await self._write(station, generate(cases, number, node))
            self.stations.append(station)
        return time.monotonic() - start

    async def _begin(self, node: str, chain: list[Bundle], told: Papers, address: str) -> Station:
        store, key = InlineDatabase(Path("memory"), _in_memory), key_of(node)
        await setup.begin(store, node, told.network, key, chain, self.clock, self.entropy)
        made = await setup.node_of(store, key, self.clock, self.entropy)
        await made.write(lambda conn, changes: take_page(made.ledger, conn, changes, told.page))
        transport = HttpsTransport()
        return Station(made, Counter(made, self.clock), transport, Uplink(made, transport, Settings((address,), TIMEOUT_S)))

    async def _write(self, station: Station, changes: list[dict[str, object]]) -> None:
        """Write now, not at the times of the workload: the stations are up to date, and so are their clocks."""
        await station.node.write(lambda conn, told: station.counter.write_now(conn, told, changes))

    async def do_meet(self, at_once: int = 20) -> float:
        """Log all stations in, a few at a time; returns seconds."""
        start, gate = time.monotonic(), asyncio.Semaphore(at_once)

        async def meet(station: Station) -> None:
            async with gate:
                await _meet(station.uplink)

        await asyncio.gather(*(meet(station) for station in self.stations))
        return time.monotonic() - start

    async def do_push(self, at_once: int = 0) -> dict[str, float]:
        """Let all push, logging in first where they are not; returns seconds until the last is acknowledged.

        Args:
            at_once: so many stations are on the line together; 0 for all.
        """
        start, self.told_to_wait = time.monotonic(), 0
        gate = asyncio.Semaphore(at_once or len(self.stations))

        async def push(station: Station) -> None:
            async with gate:
                await self._push(station)

        await asyncio.gather(*(push(station) for station in self.stations))
        return {"s": time.monotonic() - start, "told_to_wait": self.told_to_wait}

    async def _push(self, station: Station) -> None:
        while True:
            try:
                if not station.uplink.connected:
                    await _meet(station.uplink)
                return await station.uplink.push_all()
            except Overloaded as exc:  # as the uplink's endless loop does it
                self.told_to_wait += 1
                await self.clock.sleep(exc.retry_after_s * (1 + self.entropy.uniform()))

    async def do_write(self, cases: int, seed: int) -> None:
        """Write more cases at each station."""
        for number, station in enumerate(self.stations):
            station.counter.keys.clear()
            await self._write(station, generate(cases, seed * 100_000 + number, station.node.id))

    async def do_part(self) -> None:
        """Drop all lines."""
        for station in self.stations:
            await station.transport.close()
            station.uplink.close()
            station.uplink = Uplink(station.node, station.transport, station.uplink.line.settings)

    async def do_stop(self) -> None:
        """Close everything."""
        for station in self.stations:
            await station.transport.close()
            await station.node.close()


async def _meet(uplink: Uplink) -> None:
    """Do the parts of a round that come before its pushing."""
    await uplink.line.meet()
    await uplink.comparing.compare()


def allow_files() -> None:
    """Let this process hold a connection for each station."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_MAX, hard), hard))


def main() -> None:
    """Be a crowd until told to stop."""
    allow_files()
    asyncio.run(obey(Crowd()))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
