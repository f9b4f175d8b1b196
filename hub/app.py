"""A hub's answers: bytes in, bytes out, the same behind TLS sockets and in the simulated network.

One place decides who may ask what: joining and meeting need no session; everything else does. An error becomes a refusal
with its code, and one bounded line in the log; it never changes anything, and never touches another child.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from hub import serving
from hub.enrolment import Enrolment
from hub.feeds import Feeds, towards
from hub.intake import Intake
from hub.metrics import Meter
from hub.restoring import Restoring
from hub.sessions import Session, Sessions
from hub.witness import Witness
from node import logs as lines
from node.chains import chain_of
from node.ledger import Changes
from node.node import Node
from node.store.database import Connection, ours
from protocol import messages
from protocol.errors import DecodeError, GapFound, NotPermitted, Overloaded, SessionEnded, StoreFull, TongbanError
from protocol.log import Bundle, LogId

WAIT_MAX_S: Final = 120
RUN_BYTES: Final = 16
FULL_S: Final = 60.0  # a hub without room on its disk is asked again after this, or twice this


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. retry_after_s: the slot an overloaded hub gives."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class Hub:
    """The accepting side of one node. Owner: the event loop."""

    def __init__(self, node: Node, certificate: bytes, *, waiting_max: int = 2_048) -> None:
        self.node = node
        self.certificate = certificate
        self.sessions = Sessions(node)
        self.enrolment = Enrolment(node, self.sessions)
        self.intake = Intake(node, waiting_max)
        self.restoring = Restoring(node)
        self.meter = Meter()
        self._news: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.closing = False
        node.ledger.feed = Feeds(node.ledger, node.entropy.bytes(RUN_BYTES)).mark
        node.listeners.append(self._changed)

    # --- news for those who wait

    def _changed(self, changes: Changes) -> None:
        fed = set(self._news) if changes.rules else changes.fed & self._news.keys()
        self._wake(sorted(fed | self._owe(changes.receipted)))  # in one order: a run of virtual machines repeats

    def _owe(self, receipted: Mapping[int, str]) -> set[str]:
        """Note which children have to hear of receipts from further up, (log id → author); returns them."""
        owed: set[str] = set()
        for log_id, author in receipted.items():
            child = towards(self.node.rules.now, self.node.id, author)
            for session in self.sessions.of(child) if child is not None else ():
                if session.owed is not None:
                    session.owed.add(log_id)
                owed.add(session.node)
        return owed

    def _wake(self, children: list[str]) -> None:
        for child in children:
            self._news[child].set()

    def close(self) -> None:
        """Answer everybody who waits, so that the program can end."""
        self.closing = True
        self._wake(list(self._news))

    # --- requests

    async def handle(self, name: str, token: bytes | None, body: bytes) -> Answer:
        """Answer one request.

        Args:
            name: of the message type, the last part of the path.
            token: of the session, if one was given.
            body: the packed message.
        """
        try:
            reply = await self._answer(name, token, body)
            return Answer(200, messages.encode(reply))
        except TongbanError as exc:
            return self._refuse(name, exc)
        except Exception as exc:  # noqa: BLE001 - a mistake of ours: this child tries again, nobody else notices
            lines.failure("sync.failed", exc)
            return self._refuse(name, ours(exc))

    async def _answer(self, name: str, token: bytes | None, body: bytes) -> messages.Message:
        if name in self._OPEN:
            return await self._OPEN[name](self, body)
        handler = self._INSIDE.get(name)
        if handler is None:
            raise NotPermitted(f"nothing answers to {name[:40]!r}")
        if token is None:
            raise SessionEnded("there is no session")
        session = self.sessions.find(token)
        session.busy += 1
        try:
            return await handler(self, session, body)
        finally:
            session.busy -= 1

    def _refuse(self, name: str, exc: TongbanError) -> Answer:
        self.meter.refused[exc.code] += 1
        known = name in self._OPEN or name in self._INSIDE
        lines.failure("sync.refused", exc, command=name if known else "unknown")
        held: tuple[messages.Held, ...] = ()
        if isinstance(exc, GapFound) and isinstance(exc.log, LogId):
            held = (messages.Held(exc.log, exc.size_held),)
        refusal = messages.Refusal(exc.code, exc.message, exc.hint, exc.retryable, held)
        slot = exc.retry_after_s if isinstance(exc, Overloaded) else FULL_S if isinstance(exc, StoreFull) else None
        return Answer(exc.http_status, messages.encode(refusal), slot)

    async def _greet(self, body: bytes) -> messages.Message:
        ask = messages.decode(body, messages.Greet)
        greeting = self.sessions.greet(ask, self.certificate)
        if not ask.chain:
            return greeting
        chain = await self.node.store.own(lambda conn: chain_of(self.node.ledger, conn, self.node.id))
        return msgspec.structs.replace(greeting, chain=tuple(chain))

    async def _login(self, body: bytes) -> messages.Message:
        return await self.sessions.login(messages.decode(body, messages.Login), self.certificate)

    async def _ask(self, body: bytes) -> messages.Message:
        return await self.enrolment.ask(messages.decode(body, messages.JoinAsk), self.certificate)

    async def _join(self, body: bytes) -> messages.Message:
        return await self.enrolment.join(messages.decode(body, messages.Join), self.certificate)

    async def _hello(self, session: Session, body: bytes) -> messages.Message:
        ask = messages.decode(body, messages.Hello)
        heads, lacks = await self.node.read(lambda conn: self._compared(conn, session.node, ask))
        if ask.seen:
            await self._witness(session.node, ask)
        registers = self.restoring.asks(session.node, ask, lacks) if ask.after is None else -1
        await self.restoring.go_on()
        now = self.node.clock.wall_ms()
        receipts = await self._receipts(session)
        if ask.after is None and messages.digest(heads) == ask.digest:
            return messages.HelloReply(same=True, now=now, receipts=receipts, lacks=lacks, registers=registers)
        page, more = serving.page_of(heads, ask.after)
        return messages.HelloReply(False, now, tuple(page), more, receipts, lacks, registers)

    async def _witness(self, child: str, ask: messages.Hello) -> None:
        """Compare the heads that a child shows with the logs held here; contradictions are kept."""
        now = self.node.clock.wall_ms()
        await self.node.write(lambda conn, _: Witness(self.node.ledger, conn, now).take(child, ask.seen))

    def _compared(
        self, conn: Connection, child: str, ask: messages.Hello
    ) -> tuple[list[messages.Head], tuple[messages.Held, ...]]:
        heads = serving.heads(self.node.ledger, conn, child)
        return heads, self.restoring.lacks(conn, child, ask) if ask.after is None else ()

    async def _give(self, session: Session, body: bytes) -> messages.Message:
        give = messages.decode(body, messages.Give)
        return messages.GiveReply(await self.restoring.take(session.node, give))

    async def _push(self, session: Session, body: bytes) -> messages.Message:
        push = messages.decode(body, messages.Push)
        if not push.sets:
            raise DecodeError("the push is empty")
        taken, receipt = await self.intake.submit(session.node, push, len(body))
        self.meter.pushes += 1
        self.meter.entries += taken.added
        lines.event("push.taken", child=session.node, count=taken.added, bytes=len(body))
        if taken.forks:
            lines.event("log.forked", lines.CRITICAL, child=session.node, count=taken.forks)
        if session.node in taken.forked:
            self.sessions.end_all(session.node)  # in the next one it compares, and goes on in a new incarnation
        room = self.intake.room_for(session.node)
        return messages.PushReply(taken.held, receipt, await self._receipts(session), room)

    async def _pull(self, session: Session, body: bytes) -> messages.Message:
        ask = messages.decode(body, messages.Pull)
        reply = await self.node.store.own(lambda conn: serving.pull(self.node.ledger, conn, session.node, ask))
        return msgspec.structs.replace(reply, receipts=await self._receipts(session))

    async def _wait(self, session: Session, body: bytes) -> messages.Message:
        ask = messages.decode(body, messages.Wait)
        news = self._news[session.node]
        deadline = self.node.clock.monotonic_s() + min(ask.span_s, WAIT_MAX_S)
        while True:
            news.clear()
            found = await self.has_news_for(session.node, ask.cursors)
            receipts = await self._receipts(session)
            left = deadline - self.node.clock.monotonic_s()
            if found or receipts or left <= 0 or self.closing:
                return messages.WaitReply(found, self.node.clock.wall_ms(), receipts)
            await self._sleep_until_news(news, left)

    async def has_news_for(self, child: str, cursors: messages.Cursors) -> bool:
        """Tell whether a pull from these cursors would bring a child something."""
        ledger = self.node.ledger
        return await self.node.read(lambda conn: serving.has_news(ledger, conn, child, cursors))

    async def _sleep_until_news(self, news: asyncio.Event, span_s: float) -> None:
        sleeping = asyncio.ensure_future(self.node.clock.sleep(span_s))
        waking = asyncio.ensure_future(news.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()

    async def _fetch(self, session: Session, body: bytes) -> messages.Message:
        ask = messages.decode(body, messages.Fetch)
        return await self.node.store.own(lambda conn: serving.fetch(self.node.ledger, conn, session.node, ask))

    async def _receipts(self, session: Session) -> tuple[Bundle, ...]:
        """Return receipts from further up that this child was not told yet; what finds no room comes with the next reply."""
        owed, session.owed = session.owed, set()
        if owed is not None and not owed:
            return ()

        def collect(conn: Connection) -> tuple[list[Bundle], set[int]]:
            ledger = self.node.ledger
            wanted = owed if owed is not None else serving.logs_below(ledger, conn, session.node)
            return serving.upstream_receipts(ledger, conn, wanted)

        try:
            bundles, left = await self.node.store.own(collect)
        except BaseException:
            session.owed = None
            raise
        session.owed |= left
        return tuple(bundles)

    _OPEN: Final[dict[str, Callable[[Hub, bytes], Awaitable[messages.Message]]]] = {
        "greet": _greet,
        "login": _login,
        "ask": _ask,
        "join": _join,
    }
    _INSIDE: Final[dict[str, Callable[[Hub, Session, bytes], Awaitable[messages.Message]]]] = {
        "hello": _hello,
        "give": _give,
        "push": _push,
        "pull": _pull,
        "wait": _wait,
        "fetch": _fetch,
    }

