"""The uplink's life: one round after the other, for ever.

One push is in flight at a time. Retrying never ends: the slot that the hub gives, else full jitter, capped; a local write or
any contact wakes it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from node import logs as lines
from node.ledger import Changes
from node.node import Node
from node.ports import Transport
from node.uplink.auditing import Auditing
from node.uplink.calling import Line, Settings, as_ours, ended
from node.uplink.comparing import Comparing
from node.uplink.pulling import Pulling
from node.uplink.pushing import Pushing
from protocol import messages
from protocol.errors import LinkError, Overloaded, SessionEnded, TongbanError

COMPARE_S: Final = 3_600.0  # so often heads are compared with the parent's, however long a session lasts


@dataclass(frozen=True, slots=True)
class Progress:
    """What the uplink has done so far. Counts of entries."""

    acked: int
    pulled: int


class Uplink:
    """One node's connection to its parent. Owner: the event loop."""

    def __init__(self, node: Node, transport: Transport, settings: Settings) -> None:
        self.node = node
        self.line = Line(node, transport, settings)
        self.comparing = Comparing(self.line)
        self.pushing = Pushing(self.line, self.comparing)
        self.pulling = Pulling(self.line)
        self.auditing = Auditing(self.line)
        self._dirty = asyncio.Event()
        self._dirty.set()
        self._anew = False  # the session is to be begun anew: the parent has to be told something
        node.listeners.append(self._changed)

    def _changed(self, changes: Changes) -> None:
        self._anew |= changes.anew
        if changes.logs or changes.anew:
            self._dirty.set()

    def close(self) -> None:
        """Stop listening to the node's changes."""
        self.node.listeners.remove(self._changed)

    @property
    def connected(self) -> bool:
        """Whether a session stands."""
        return self.line.session is not None

    @property
    def progress(self) -> Progress:
        """What was done so far."""
        return Progress(self.pushing.acked, self.pulling.pulled)

    # --- the endless loop

    async def run(self) -> None:
        """Keep in step with the parent for ever; ends only when cancelled."""
        failures = 0
        while True:
            try:
                await self.round()
                failures = 0
                await self._follow()
                self.comparing.done = False
            except Exception as exc:  # noqa: BLE001 - whatever a reply makes of us: the uplink goes on
                failure = as_ours(exc)
                self.drop(failure)
                await self.pause(failure, failures)
                failures += 1

    async def _follow(self) -> None:
        """Push on each local write and pull on each piece of news, side by side, until heads are to be compared again.

        When one of the two fails, raises that.

        Not a TaskGroup: a group that failed leaves its task marked as cancelled (Python 3.11), as if somebody ended us.
        """
        tasks = (asyncio.ensure_future(self._push_loop()), asyncio.ensure_future(self._news_loop()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in tasks:
                if one in done:
                    one.result()
        finally:
            await ended(tasks)

    async def _push_loop(self) -> None:
        while True:
            if not self._anew:
                await self._dirty.wait()
            if self._anew:
                raise SessionEnded("what somebody chose here is told to the parent")
            await self.push_all()

    async def _news_loop(self) -> None:
        """Wait for news for `COMPARE_S`. A session may last for weeks; what came to light above meanwhile shows in the heads only."""
        until_s = self.node.clock.monotonic_s() + COMPARE_S
        while self.node.clock.monotonic_s() < until_s:
            if await self.pulling.wait():
                await self.pulling.pull_all()
            await self.auditing.look_if_due()
            if self.line.is_to_look:
                raise LinkError("an ancestor helped out; the parent is looked for again")  # compared afresh

    async def pause(self, exc: TongbanError, failures: int) -> None:
        """Wait before trying again: the slot that the hub gave, else full jitter; a local write may wake us."""
        settings = self.line.settings
        if isinstance(exc, Overloaded):
            span_s = exc.retry_after_s * (1 + self.node.entropy.uniform())
        else:
            ceiling = min(settings.retry_max_s, settings.retry_min_s * 2 ** min(failures, 16))
            span_s = max(ceiling * self.node.entropy.uniform(), 0.05)
        self._dirty.clear()
        sleeping = asyncio.ensure_future(self.node.clock.sleep(span_s))
        waking = asyncio.ensure_future(self._dirty.wait())
        try:
            # a local write shortens a long pause, but never to a busy loop
            await asyncio.wait({sleeping, waking} if failures < 3 else {sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()
            self._dirty.set()

    def drop(self, exc: TongbanError) -> None:
        """Give the session up after a failure: the next one compares afresh. A hub that has too much to do keeps it."""
        lines.failure("uplink.failed", exc)
        if isinstance(exc, Overloaded):
            return
        self._anew = False
        self.line.drop()
        self.comparing.done = False
        self.pushing.aside.clear()
        self.pulling.forget()

    # --- one round

    async def round(self) -> Progress:
        """Meet, compare, push everything, pull everything; raises LinkError or PeerError when it cannot."""
        await self.line.meet()
        if not self.comparing.done:
            await self.comparing.compare()
        await self.push_all()
        await self.pulling.pull_all()
        await self.push_all()  # what came down may have made us state something
        return self.progress

    async def push_all(self) -> None:
        """Push until nothing is pending."""
        self._dirty.clear()
        await self.pushing.push_all()

    async def cursors(self) -> messages.Cursors:
        """Return how far this node has pulled."""
        return await self.pulling.cursors()

    async def sync(self, timeout_s: float) -> Progress:
        """Do one round within a time; try again meanwhile. Raises the last error when the time is over."""
        deadline = self.node.clock.monotonic_s() + timeout_s
        failures = 0
        while True:
            try:
                return await self.round()
            except Exception as exc:  # as in `run`
                failure = as_ours(exc)
                self.drop(failure)
                if not failure.retryable or self.node.clock.monotonic_s() >= deadline:
                    raise failure from exc
                left = deadline - self.node.clock.monotonic_s()
                await self.node.clock.sleep(min(left, 0.2 * 2 ** min(failures, 4)))
                failures += 1
