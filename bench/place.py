"""One node in a process of its own, told what to do by lines of JSON: `python -m bench.place FOLDER`.

It is put together of the product's own parts, as `tongban run` does it, with a clock that the bench may move. Each line in is
{"do": NAME, …}, each line out {"done": …} or {"failed": …}. Methods whose name begins with `do_` are what can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import io
import json
import os
import pstats
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import bulk
from bench.clock import BenchClock
from bench.counter import Counter
from bench.wire import CountedTransport
from bench.workload import load
from hub import serving
from hub.app import Hub
from hub.enrolment import chain_of, invite
from hub.guard import Bounds
from hub.server import Server, serve
from node import local_api, setup
from node.command import Command, carry_out
from node.config import Config, Local, join_address
from node.folder import Folder
from node.joining import join
from node.ledger import Changes
from node.node import Node
from node.office.desk import Act, at_desk
from node.office.publishing import publish_catalogue
from node.store.database import Database
from node.system import SystemEntropy
from node.tls import certificate_hash, ensure_certificate
from node.uplink import Settings, Uplink
from protocol import catalogue, joincode, keys, messages

HOST: Final = "127.0.0.1"
BOUNDS: Final = Bounds(per_host=4_096)  # the whole network of a bench calls from one address
TIMEOUT_S: Final = 120.0


class Place:
    """One node at work. Owner: the event loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = Folder(folder)
        self.clock = BenchClock()
        self.entropy = SystemEntropy()
        self.transport = CountedTransport()
        self.profile = cProfile.Profile()
        self.leaving = contextlib.AsyncExitStack()
        self.node: Node
        self.counter: Counter
        self.uplink: Uplink
        self.hub: Hub | None = None
        self.task: asyncio.Task[None] | None = None
        self.acked_at_s = 0.0

    # --- beginning

    async def do_clock(self, offset_ms: int) -> None:
        """Move the clock: this much later than true time."""
        self.clock.offset_ms = offset_ms

    async def do_found(self, node: str, name: str) -> None:
        """Found the network."""
        self.folder.create()
        signing, sealing = self._keys()
        store = await Database.open(self.folder.store)
        recovery = [keys.SigningKey(seed).public for seed in setup.new_recovery(self.entropy)]
        await setup.found(store, node, name, signing, sealing.public, recovery, self.clock, self.entropy)
        await store.close()

    async def do_join(self, code: str) -> None:
        """Join the network with a code."""
        self.folder.create()
        signing, sealing = self._keys()
        joined = await join(joincode.parse_code(code), signing, sealing.public, self.transport, TIMEOUT_S)
        store = await Database.open(self.folder.store)
        await setup.begin(store, joined.node, joined.network, signing, joined.chain, self.clock, self.entropy)
        await store.close()

    def _keys(self) -> tuple[keys.SigningKey, keys.SealingKey]:
        for name in ("signing", "sealing"):
            self.folder.save_seed(name, self.entropy.bytes(32))
        return keys.SigningKey(self.folder.load_seed("signing")), keys.SealingKey(self.folder.load_seed("sealing"))

    async def do_open(self, parent: str = "", wait_s: int = 50) -> None:
        """Open the node's store; `parent` is the address of the hub above."""
        self.node = await setup.open_node(self.folder, self.clock, self.entropy)
        self.leaving.push_async_callback(self.node.close)
        self.counter = Counter(self.node, self.clock)
        self.node.listeners.append(self._changed)
        if parent:
            self.uplink = Uplink(self.node, self.transport, Settings((parent,), TIMEOUT_S, wait_s))
            self.leaving.push_async_callback(self.transport.close)

    def _changed(self, changes: Changes) -> None:
        if changes.receipts:
            self.acked_at_s = time.monotonic()

    async def do_serve(self, waiting_max: int = Config().limits.intake_waiting_max) -> dict[str, str]:
        """Accept children, and serve the local API; returns where."""
        certificate = certificate_hash(ensure_certificate(self.folder.tls, self.node.id))
        self.hub = Hub(self.node, certificate, waiting_max=waiting_max)
        server: Server = await serve(self.hub, self.folder.tls, HOST, 0, bounds=BOUNDS)
        self.leaving.push_async_callback(server.stop)

        async def answer(command: Command) -> object:
            return await carry_out(self.node, command)

        place = await self.leaving.enter_async_context(
            local_api.serving(answer, self.folder, Local(), self.clock, self.entropy)
        )
        return {"address": join_address(HOST, server.port), "url": place.url, "token": place.token}

    # --- rules

    async def do_invite(self, node: str, name: str, address: str) -> str:
        """Invite a node; returns its joining code."""
        return (await invite(self.node, node, name, parent=None, expires_h=24 * 300, addresses=(address,))).code

    async def do_publish(self, codes: list[str]) -> None:
        """Publish items that every counter may take in and decide."""
        items = catalogue.parse_catalogue(bulk.catalogue_of(codes, self.node.id), "bench")
        await at_desk(self.node, Act(), lambda desk: publish_catalogue(desk, items, "bench"))

    async def do_papers(self, path: str, count: int) -> None:
        """Enrol many stations, and write down what they need to begin."""
        from bench import stations  # noqa: PLC0415 - it obeys lines by `obey` of this module

        stations.allow_files()
        names = stations.ids(count)
        ask = messages.Pull(messages.Cursors(0, 0, b"", 0))
        page = await self.node.store.own(lambda conn: serving.pull(self.node.ledger, conn, self.node.id, ask))
        await self.node.write(lambda conn, changes: stations.enrol_all(self.node, conn, changes, names))
        chains = await self.node.store.own(
            lambda conn: {name: chain_of(self.node.ledger, conn, name) for name in names}
        )
        papers = stations.Papers(self.node.ledger.identity.network, page, chains)
        Path(path).write_bytes(msgspec.msgpack.encode(papers))  # noqa: ASYNC240 - nothing else runs here now

    async def do_officers(self, names: list[str]) -> None:
        """State who works here."""
        await self.counter.add_officers(names)

    # --- work

    async def do_write(self, path: str, begin: int = 0, end: int | None = None) -> float:
        """Write a part of a workload file to the own store; returns seconds."""
        changes, start = load(Path(path))[begin:end], time.monotonic()
        await self.counter.write(changes)
        return time.monotonic() - start

    async def do_save(self, change: dict[str, Any]) -> dict[str, Any]:
        """Write one change now; returns the case, its number of entries, and when it began and was durable (monotonic s)."""
        began = time.monotonic()
        key, steps = await self.counter.save(change)
        return {"key": key, "steps": steps, "began_s": began, "durable_s": time.monotonic()}

    async def do_save_many(self, path: str, begin: int, end: int, pause_s: float = 0.0) -> list[float]:
        """Write changes one by one, each durable; returns the ms of each."""
        spans = []
        for change in load(Path(path))[begin:end]:
            start = time.perf_counter()
            await self.counter.save(change)
            spans.append((time.perf_counter() - start) * 1000)
            await asyncio.sleep(pause_s)
        return spans

    async def do_commits(self, count: int) -> list[float]:
        """Time bare durable commits through aiosqlite, in a file beside the store; returns the ms of each."""
        return await bulk.bare_commits(self.folder.root / "bare.sqlite3", count)

    async def do_offer_all(self, to: str) -> None:
        """Offer every case opened here to another node: it becomes a party, and gets them whole."""
        await bulk.offer_all(self.node, self.counter, to)

    async def do_fill(self, entries: int) -> float:
        """Bring the store to so many entries by direct calls of the ledger; returns seconds."""
        return await bulk.fill(self.node, entries)

    # --- the line

    async def do_sync(self) -> dict[str, float]:
        """Do one whole round with the parent; returns spans in seconds, to its end and to the last acknowledgement."""
        began, before = time.monotonic(), self.uplink.progress.pulled
        await self.uplink.round()
        ended = time.monotonic()
        return {
            "acked_s": max(self.acked_at_s - began, 0.0),
            "whole_s": ended - began,
            "pulled": self.uplink.progress.pulled - before,
        }

    async def do_follow(self) -> None:
        """Keep in step with the parent from now on."""
        self.task = asyncio.create_task(self.uplink.run())

    async def do_rest(self) -> None:
        """Stop following."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    async def do_pull_while_saving(self, path: str, begin: int, end: int) -> dict[str, Any]:
        """Pull everything, and save changes meanwhile; returns how long each took, ms, and the pull, s."""
        changes, spans = iter(load(Path(path))[begin:end]), []
        pulling = asyncio.create_task(self.do_sync())
        while not pulling.done():
            change = next(changes, None)
            if change is None:
                break
            start = time.perf_counter()
            await self.counter.save(change)
            spans.append((time.perf_counter() - start) * 1000)
            await asyncio.sleep(0.02)
        return {"ms": spans, "sync": await pulling}

    # --- looking

    async def do_counts(self) -> dict[str, int]:
        """Count what the store holds."""
        return await self.node.read(bulk.counts)

    async def do_wire(self) -> dict[str, int]:
        """Return what went over this node's connections to its parent so far."""
        return self.transport.counted()

    async def do_usage(self) -> dict[str, float]:
        """Return CPU so far (µs), the high-water mark of memory (MB), and the folder's size (MB)."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        disk = sum(path.stat().st_size for path in self.folder.root.glob("tongban.sqlite3*"))
        cpu = (used.ru_utime + used.ru_stime) * 1e6
        return {"cpu_us": cpu, "rss_mb": _memory_mb(), "disk_mb": disk / 1e6}

    async def do_profile(self, *, on: bool, lines: int = 30) -> str:
        """Profile the database thread; switching it off returns the functions by own time."""
        if on:
            await self.node.store.own(lambda _: self.profile.enable())
            return ""
        await self.node.store.own(lambda _: self.profile.disable())
        text = io.StringIO()
        stats = pstats.Stats(self.profile, stream=text).sort_stats("tottime").print_stats(lines)
        stats.print_callers("verify|sha256|decode_header|find_log|load_log")
        self.profile = cProfile.Profile()
        return text.getvalue()

    async def do_stop(self) -> None:
        """Stop whatever runs, and close the store."""
        await self.do_rest()
        if self.hub is not None:
            self.hub.close()
        await self.leaving.aclose()


def _memory_mb() -> float:
    """Return the most that this program has held; `ru_maxrss` would remember the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def obey(place: object) -> None:
    """Do what the lines say, one after the other, until `stop` or the end of input."""
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        told = json.loads(line)
        name = told.pop("do")
        try:
            answer: dict[str, Any] = {"done": await getattr(place, f"do_{name}")(**told)}
        except Exception:  # noqa: BLE001 - the bench shows what failed in its process
            answer = {"failed": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if name == "stop":
            return


def main() -> None:
    """Run a place until it is told to stop."""
    asyncio.run(obey(Place(Path(sys.argv[1]))))
    os._exit(0)  # threads of a profile or a pool must not hold the bench up


if __name__ == "__main__":
    main()
