"""The node's way up: meet the parent, push what it lacks, pull what it has for us, wait for news.

The child always speaks first. One push is in flight at a time, carrying all that is pending up to the message's bound; the
next one is prepared meanwhile. Retrying never ends: the slot that the hub gives, else full jitter, capped; a local write or
any contact wakes it. No cursor moves without a verified receipt or a verified page, each in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from node import continuity, faults
from node import logs as lines
from node.acceptance import Sparse, accept_bundles, accept_set
from node.ledger import Changes, Ledger, change_set
from node.node import PROGRAM, Node
from node.office import officers
from node.ports import Transport
from node.projection import Batch
from node.rulebook import take_register
from node.store import cases, facts, logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol import errors, keys, limits, messages
from protocol.errors import (
    DecodeError,
    GapFound,
    LinkError,
    Overloaded,
    PeerError,
    ProofInvalid,
    TongbanError,
    UnknownSigner,
)
from protocol.log import Bundle, ChangeSet, LogId, decode_body, decode_checkpoint, hash_body
from protocol.register import read_register

PUSH_BYTES: Final = 256 << 10  # of entries in one push, about: a hub's writer is busy with it for some 20 ms
BACKLOG: Final = 200  # entries: so many of one log do not travel in one push with fresh changes of others
PULL_BYTES: Final = 128 << 10  # of one page: a clerk who saves waits for no more than one page to be applied
CASES_CURSOR: Final = "cases"
TEXTS_CURSOR: Final = "texts"
CONTACT: Final = "last_contact"  # in meta: ms since the epoch, decimal
CONTACT_S: Final = 30.0  # so often at most a contact without news is written down
LOOK_S: Final = 30.0  # an ancestor that helps out is left after this, for the parent if it is back
MENDED_MAX: Final = 50  # cases fetched whole in one round

# The parent has read what was sent, and will not have it; a session that ended, or a gap, is something else.
REFUSALS: Final = (
    DecodeError,
    errors.LimitExceeded,
    errors.SignatureInvalid,
    UnknownSigner,
    errors.NotPermitted,
    ProofInvalid,
    errors.ForkDetected,
)

R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the uplink behaves; spans in seconds. addresses: of the parent, tried first."""

    addresses: tuple[str, ...] = ()
    timeout_s: float = 60.0
    wait_s: int = 50
    retry_min_s: float = 1.0
    retry_max_s: float = 300.0


@dataclass(slots=True)
class Progress:
    """What one synchronisation did. Counts of entries."""

    acked: int = 0
    pulled: int = 0
    pending: int = 0


@dataclass(slots=True)
class _Session:
    address: str
    token: bytes
    hub: str


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A push made ready. sizes: log id → size that it brings the hub to. roots: (log id, size) → root."""

    body: bytes
    sizes: dict[int, int]
    entries: int
    more: bool


class Uplink:
    """One node's connection to its parent. Owner: the event loop."""

    def __init__(self, node: Node, transport: Transport, settings: Settings) -> None:
        self.node = node
        self.transport = transport
        self.settings = settings
        self.progress = Progress()
        self._session: _Session | None = None
        self._met_at = 0.0
        self._dirty = asyncio.Event()
        self._dirty.set()
        self._compared = False
        self._aside: set[int] = set()  # logs that the parent refuses; tried again in the next session
        self._mended = 0  # up to which case fetching went last time
        self._contact_s = 0.0
        node.listeners.append(self._changed)

    def _changed(self, changes: Changes) -> None:
        if changes.logs:
            self._dirty.set()

    def close(self) -> None:
        """Stop listening to the node's changes."""
        self.node.listeners.remove(self._changed)

    @property
    def connected(self) -> bool:
        """Whether a session stands."""
        return self._session is not None

    # --- the endless loop

    async def run(self) -> None:
        """Keep in step with the parent for ever; ends only when cancelled."""
        failures, failure = 0, TongbanError("")
        while True:
            try:
                await self.round()
                failures = 0
                await self._follow()
            except Exception as exc:  # noqa: BLE001 - whatever a reply makes of us: the uplink goes on
                failure = _as_ours(exc)
                self._drop(failure)
            await self._pause(failure, failures)
            failures += 1

    async def _follow(self) -> None:
        """Push on each local write and pull on each piece of news, side by side, until one fails; raises that.

        Not a TaskGroup: a group that failed leaves its task marked as cancelled (Python 3.11), as if somebody ended us.
        """
        tasks = {asyncio.ensure_future(self._push_loop()), asyncio.ensure_future(self._news_loop())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            await _end(tasks)

    async def _push_loop(self) -> None:
        while True:
            await self._dirty.wait()
            await self.push_all()

    async def _news_loop(self) -> None:
        while True:
            if await self._wait():
                await self.pull_all()
            if self._is_helped() and self.node.clock.monotonic_s() - self._met_at >= self._look_s():
                raise LinkError("an ancestor helped out; the parent is looked for again")  # compared afresh

    def _is_helped(self) -> bool:
        """Tell whether the session is with an ancestor, because the parent was away."""
        return self._session is not None and self._session.hub != self.node.parent

    def _look_s(self) -> float:
        """Return how long an ancestor helps out before the parent is looked for again."""
        return min(LOOK_S, self.settings.retry_max_s)

    async def _pause(self, exc: TongbanError, failures: int) -> None:
        """Wait before trying again: the slot that the hub gave, else full jitter; a local write may wake us."""
        if isinstance(exc, Overloaded):
            span_s = exc.retry_after_s * (1 + self.node.entropy.uniform())
        else:
            ceiling = min(self.settings.retry_max_s, self.settings.retry_min_s * 2 ** min(failures, 16))
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

    def _drop(self, exc: TongbanError) -> None:
        lines.failure("uplink.failed", exc)
        self._session = None
        self._compared = False
        self._aside.clear()

    # --- one round

    async def round(self) -> Progress:
        """Meet, compare, push everything, pull everything; raises LinkError or PeerError when it cannot."""
        await self._meet()
        if not self._compared:
            await self._compare()
        await self.push_all()
        await self.pull_all()
        await self.push_all()  # what came down may have made us state something
        return self.progress

    async def sync(self, timeout_s: float) -> Progress:
        """Do one round within a time; try again meanwhile. Raises the last error when the time is over."""
        deadline = self.node.clock.monotonic_s() + timeout_s
        failures = 0
        while True:
            try:
                return await self.round()
            except Exception as exc:  # as in `run`
                failure = _as_ours(exc)
                self._drop(failure)
                if not failure.retryable or self.node.clock.monotonic_s() >= deadline:
                    raise failure from exc
                left = deadline - self.node.clock.monotonic_s()
                await self.node.clock.sleep(min(left, 0.2 * 2 ** min(failures, 4)))
                failures += 1

    # --- meeting

    async def _meet(self) -> _Session:
        if self._session is None:
            self._session = await self._first_that_answers(await self.addresses())
            self._met_at = self.node.clock.monotonic_s()
        return self._session

    async def addresses(self) -> list[tuple[str, str]]:
        """Return (hub, address) to try: the parent's as configured, then as the topology has them, then the next ancestors'."""
        parent = self.node.parent
        if parent is None:
            raise errors.CommandRefused("this node is the root: it has no parent")
        found = [(parent, address) for address in self.settings.addresses]
        for hub in (parent, *self.node.rules.now.ancestors(parent)):
            record = self.node.rules.record(hub)
            found += [(hub, address) for address in (record.addresses if record else ()) if (hub, address) not in found]
        return found

    async def _first_that_answers(self, places: Sequence[tuple[str, str]]) -> _Session:
        failure: TongbanError = LinkError("no address of the parent is known", hint="Set [uplink] parents in config.toml.")
        for hub, address in places:
            try:
                return await self._login(hub, address)
            except (LinkError, PeerError) as exc:
                failure = exc
        raise failure

    async def _login(self, hub: str, address: str) -> _Session:
        identity = self.node.ledger.identity
        ask = messages.Greet(messages.VERSIONS, identity.network, identity.node, self.node.entropy.bytes(32))
        greeting, certificate = await self._call(address, "greet", ask, messages.Greeting)
        messages.choose_version((greeting.version,))
        record = self.node.rules.record(greeting.node)
        if greeting.network != identity.network or record is None or greeting.node not in {hub, self.node.parent}:
            raise PeerError(f"at {address} answers another node than {hub}", hint="Check [uplink] parents.")
        text = messages.greeting_text(identity.node, ask.challenge, greeting.challenge, certificate, greeting.node)
        keys.verify(record.key, greeting.signature, keys.SignedKind.GREET, identity.network, text)
        proof = messages.login_text(identity.node, greeting.challenge, certificate)
        signature = identity.key.sign(keys.SignedKind.HELLO, identity.network, proof)
        login = messages.Login(identity.node, greeting.challenge, certificate, signature, PROGRAM)
        session, _ = await self._call(address, "login", login, messages.Session)
        lines.event("uplink.met", parent=greeting.node)
        return _Session(address, session.token, greeting.node)

    async def _ask(self, name: str, ask: messages.Message, kind: type[R], timeout_s: float | None = None) -> R:
        session = await self._meet()
        reply, _ = await self._call(session.address, name, ask, kind, session.token, timeout_s)
        return reply

    async def _call(
        self,
        address: str,
        name: str,
        ask: messages.Message | bytes,
        kind: type[R],
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> tuple[R, bytes]:
        return await call(self.transport, address, name, ask, kind, token, timeout_s or self.settings.timeout_s)

    # --- comparing heads

    async def _compare(self) -> None:
        """Say hello: one digest; if it differs, learn what the hub holds and go back to the common point."""
        mine = await self.node.read(_own_heads)
        reply = await self._ask("hello", messages.Hello(messages.digest(mine.values())), messages.HelloReply)
        await self._keep_receipts(reply.receipts)
        if reply.same:
            await self._acknowledge_all(mine)
        else:
            await self._align(mine, await self._all_heads(reply, messages.digest(mine.values())))
        self._compared = True

    async def _their_heads(self) -> dict[LogId, messages.Head]:
        nothing = messages.digest(())
        reply = await self._ask("hello", messages.Hello(nothing), messages.HelloReply)
        return await self._all_heads(reply, nothing)

    async def _all_heads(self, reply: messages.HelloReply, digest: bytes) -> dict[LogId, messages.Head]:
        theirs = {head.log: head for head in reply.heads}
        while reply.more and reply.heads:
            reply = await self._ask("hello", messages.Hello(digest, reply.heads[-1].log), messages.HelloReply)
            theirs.update({head.log: head for head in reply.heads})
        return theirs

    async def _acknowledge_all(self, mine: dict[int, messages.Head]) -> None:
        def save(conn: Connection, _: Changes) -> None:
            for log_id, head in mine.items():
                logs.save_ack(conn, log_id, head.size)

        await self.node.write(save)

    async def _align(self, mine: dict[int, messages.Head], theirs: dict[LogId, messages.Head]) -> None:
        """Set each log's common point; what the parent has more of (we were restored) is fetched back."""
        behind = [head for log_id, head in mine.items() if theirs.get(head.log, head).size > head.size]
        behind_logs = {head.log for head in behind}
        unknown = [head for log, head in theirs.items() if log not in {one.log for one in mine.values()}]

        def save(conn: Connection, _: Changes) -> None:
            for log_id, head in mine.items():
                logs.save_ack(conn, log_id, self._common_size(conn, log_id, head, theirs.get(head.log)))

        await self.node.write(save)
        own = self.node.ledger.identity.log
        if own in theirs:
            await self._continue_from(theirs[own])
        returning = [theirs[log] for log in sorted(behind_logs | ({own} & theirs.keys()))]
        for head in returning + unknown:
            await self._fetch_back(head)

    def _common_size(self, conn: Connection, log_id: int, head: messages.Head, theirs: messages.Head | None) -> int:
        """Return up to which size the parent holds a log as we do; where the histories part, what it has receipted of ours."""
        if theirs is None:
            return 0
        if theirs.size > head.size:
            return head.size
        if logs.root_at(conn, logs.load_log(conn, log_id), theirs.size) == theirs.root:
            return theirs.size
        return self._receipted(conn, log_id)

    def _receipted(self, conn: Connection, log_id: int) -> int:
        hub = self._session.hub if self._session is not None else ""
        return max((size for one, size, _ in logs.receipts_of(conn, log_id) if one == hub), default=0)

    async def _continue_from(self, head: messages.Head) -> None:
        """Look whether the parent's copy of our own log is ours; if they have parted, open a new incarnation."""
        ledger = self.node.ledger
        if await self.node.store.own(lambda conn: _agrees(ledger, conn, head)):
            return
        sets = await self._fetch_copy(head)
        size, common = await self.node.store.own(
            lambda conn: (ledger.own_row(conn).size, continuity.common_size(ledger, conn, sets, 0))
        )
        if common == size:
            lines.event("log.restored", lines.WARNING, node=self.node.id, count=head.size - size)
            return  # ours is a beginning of theirs: the tail comes back as any other
        await self._reincarnate(common)

    async def _reincarnate(self, common: int) -> None:
        incarnation, now = self.node.entropy.bytes(16), self.node.clock.wall_ms()
        await self.node.write(
            lambda conn, changes: continuity.reincarnate(self.node.ledger, conn, changes, common, incarnation, now)
        )

    async def _fetch_copy(self, head: messages.Head) -> list[ChangeSet]:
        """Fetch the parent's copy of our own log, from its beginning."""
        sets: list[ChangeSet] = []
        start = 0
        while start < head.size:
            reply = await self._ask("fetch", messages.Fetch("log", head.log, start), messages.FetchReply)
            if not reply.sets:
                raise PeerError("the parent does not give back our own log", hint="Try again later.")
            sets += reply.sets
            start = decode_checkpoint(reply.sets[-1].signed.checkpoint).size
        return sets

    async def _fetch_back(self, head: messages.Head) -> None:
        """Fetch a log's tail; when that of another node does not lead on from ours, the two histories stand as they are."""
        try:
            await self._fetch_tail(head)
        except REFUSALS as exc:
            if head.log.node == self.node.id:
                raise
            lines.failure("uplink.histories_differ", exc, author=head.log.node)

            def save(conn: Connection, _: Changes) -> None:
                row = logs.find_log(conn, head.log)
                if row is not None:
                    logs.save_ack(conn, row.id, self._receipted(conn, row.id))

            await self.node.write(save)

    async def _fetch_tail(self, head: messages.Head) -> None:
        """Fetch what the parent has of a log of our subtree and we have not: after a restore, or a move."""
        while True:
            start = await self.node.read(lambda conn: row.size if (row := logs.find_log(conn, head.log)) else 0)
            if start >= head.size:
                return
            reply = await self._ask("fetch", messages.Fetch("log", head.log, start), messages.FetchReply)
            if not reply.sets:
                raise PeerError(f"the parent does not give back the log of {head.log.node}", hint="Try again later.")

            def take(conn: Connection, changes: Changes, reply: messages.FetchReply = reply) -> bool:
                ledger = self.node.ledger
                ledger.seal(conn)  # what we hold is ours (see _continue_from), and must not stand uncovered before the tail
                ledger.save_seals(conn)
                batch = Batch(conn, ledger.rules, ledger.judge)
                accepted = [accept_set(ledger, conn, batch, change) for change in reply.sets]
                ledger.finish(conn, batch, changes)
                for one in accepted:
                    if one.fork_at < 0:
                        logs.save_ack(conn, one.row.id, one.checkpoint.size)
                ledger.forget_end()
                officers.recount(conn, self.node.id)  # who may act here stands in our own log
                faults.point("uplink.tail_taken")
                return any(one.fork_at >= 0 for one in accepted)

            if await self.node.write(take):
                raise errors.ForkDetected(f"the parent holds another history of {head.log.node}; both are kept")

    # --- pushing

    async def push_all(self) -> None:
        """Push until nothing is pending; the next message is made ready while one is on its way."""
        self._dirty.clear()
        outgoing = await self._prepare({})
        while outgoing is not None:
            on_its_way = asyncio.ensure_future(self._send(outgoing))
            try:
                following = await self._prepare(outgoing.sizes) if outgoing.more else None
                await on_its_way
            except GapFound as exc:
                await self._go_back(exc)
                following = await self._prepare({})
            except REFUSALS as exc:
                await self._push_apart(outgoing, exc)
                following = await self._prepare({})
            finally:
                await _end({on_its_way})
            outgoing = following
        self.progress.pending = 0

    async def _prepare(self, assumed: dict[int, int], only: int | None = None) -> _Outgoing | None:
        return await self.node.store.own(
            lambda conn: prepare_push(self.node.ledger, conn, assumed, frozenset(self._aside), only)
        )

    async def _push_apart(self, refused: _Outgoing, exc: PeerError) -> None:
        """Push the logs of a refused message one by one, so that one bad log does not hold up the others."""
        own = await self.node.read(lambda conn: self.node.ledger.own_row(conn).id)
        if len(refused.sizes) == 1:
            await self._set_aside(next(iter(refused.sizes)), own, exc)
            return
        for log_id in sorted(refused.sizes, key=lambda one: (one != own, one)):
            alone = await self._prepare({}, only=log_id)
            try:
                if alone is not None:
                    await self._send(alone)
            except GapFound as gap:
                await self._go_back(gap)
            except REFUSALS as again:
                await self._set_aside(log_id, own, again)

    async def _set_aside(self, log_id: int, own: int, exc: PeerError) -> None:
        """Leave a refused log out for this session. Our own is never left out: it goes on in a new incarnation, or fails loudly."""
        if log_id != own:
            lines.failure("uplink.log_refused", exc)
            self._aside.add(log_id)
            return
        if not isinstance(exc, errors.ForkDetected):
            raise exc
        theirs = await self._their_heads()
        head = theirs.get(self.node.ledger.identity.log)
        await self._reincarnate(head.size if head is not None else 0)  # we showed a head that a backup has made untrue

    async def _send(self, outgoing: _Outgoing) -> None:
        faults.point("uplink.before_push")
        session = await self._meet()
        reply, _ = await self._call(session.address, "push", outgoing.body, messages.PushReply, session.token)
        await self.node.write(lambda conn, changes: self._take_receipt(conn, changes, outgoing, reply))
        faults.point("uplink.acknowledged")
        self.progress.acked += outgoing.entries
        await self._keep_receipts(reply.receipts)

    def _take_receipt(self, conn: Connection, changes: Changes, outgoing: _Outgoing, reply: messages.PushReply) -> None:
        """Believe a receipt: only what it names, with roots that are ours."""
        if reply.receipt is None:
            raise ProofInvalid("the parent acknowledged without a receipt")
        receipted = keep_receipt(self.node.ledger, conn, changes, reply.receipt)
        for log_id, size in outgoing.sizes.items():
            row = logs.load_log(conn, log_id)
            if receipted.get(row.id, 0) < size:
                raise ProofInvalid(f"the parent's receipt does not name what was sent of {row.log.node}")
            logs.save_ack(conn, log_id, size)
        self._note_contact(conn)
        changes.receipts = True

    def _note_contact(self, conn: Connection) -> None:
        """Remember when the parent was last heard, for people."""
        logs.set_meta(conn, CONTACT, str(self.node.clock.wall_ms()).encode())
        self._contact_s = self.node.clock.monotonic_s()

    async def _go_back(self, exc: GapFound) -> None:
        """The parent holds less than we thought: go back to what it names."""
        log = exc.log
        if not isinstance(log, LogId):
            raise exc

        def save(conn: Connection, _: Changes) -> None:
            row = logs.find_log(conn, log)
            if row is None or exc.size_held >= logs.acks(conn).get(row.id, 0):
                raise ProofInvalid("the parent names a gap that is none")
            logs.save_ack(conn, row.id, exc.size_held)

        await self.node.write(save)

    async def _keep_receipts(self, receipts: Sequence[Bundle]) -> None:
        """Keep receipts of hubs further up, that came with a reply."""
        if not receipts:
            return

        def keep(conn: Connection, changes: Changes) -> None:
            for bundle in receipts:
                keep_receipt(self.node.ledger, conn, changes, bundle)
            changes.receipts = True
            faults.point("uplink.receipts_kept")

        try:
            await self.node.write(keep)
        except UnknownSigner as exc:
            lines.failure("uplink.receipt_unknown", exc)  # its hub's enrolment is on its way; the parent repeats it

    # --- pulling

    async def pull_all(self) -> None:
        """Pull until nothing is left, then fetch what cases still miss."""
        more = True
        while more:
            more = await self._pull_page()
        await self._mend()

    async def cursors(self) -> messages.Cursors:
        """Return how far this node has pulled."""

        def load(conn: Connection) -> messages.Cursors:
            incarnation, position = logs.get_cursor(conn, CASES_CURSOR)
            _, texts = logs.get_cursor(conn, TEXTS_CURSOR)
            return messages.Cursors(self.node.rules.number, texts, incarnation, position)

        return await self.node.store.own(load)

    async def _pull_page(self) -> bool:
        ask = messages.Pull(await self.cursors(), PULL_BYTES)
        reply = await self._ask("pull", ask, messages.PullReply)
        await self._with_chains(lambda: self.node.write(lambda conn, changes: self._take_page(conn, changes, reply)))
        faults.point("uplink.page_saved")
        self.progress.pulled += sum(len(bundle.entries) for bundle in reply.cases)
        await self._keep_receipts(reply.receipts)
        if reply.more and await self.cursors() == ask.cursors:  # what it says of our cursors is not what we hold
            raise PeerError("the parent says more, and gives nothing", hint="Update the parent's program.")
        return reply.more

    def _take_page(self, conn: Connection, changes: Changes, reply: messages.PullReply) -> None:
        take_page(self.node.ledger, conn, changes, reply)
        self._note_contact(conn)

    async def _with_chains(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Run a step; where an author is not known yet, fetch the chain of its key and try again."""
        for _ in range(limits.DEPTH_MAX):
            try:
                return await attempt()
            except UnknownSigner as exc:
                if not exc.node or not await self._fetch_chain(exc.node):
                    raise
        raise UnknownSigner("the authors of a page are not known")

    async def _fetch_chain(self, node: str) -> bool:
        reply = await self._ask("fetch", messages.Fetch("chain", node=node), messages.FetchReply)
        if not reply.bundles:
            return False

        def take(conn: Connection, changes: Changes) -> None:
            take_bundles(self.node.ledger, conn, changes, reply.bundles)
            changes.rules = True
            faults.point("uplink.chain_taken")

        await self.node.write(take)
        return self.node.rules.record(node) is not None

    async def _mend(self) -> None:
        """Fetch whole cases in which something is missing."""
        ids = await self.node.read(lambda conn: cases.waiting_ids(conn, MENDED_MAX, self._mended))
        self._mended = ids[-1] if len(ids) == MENDED_MAX else 0
        for row in await self.node.read(lambda conn: cases.load_by_ids(conn, ids)):
            try:
                await self._fetch_case(row.key)
            except REFUSALS as exc:
                lines.failure("uplink.case_refused", exc, case=row.key)

    async def _fetch_case(self, key: bytes) -> None:
        start, more = 0, True
        while more:
            reply = await self._ask("fetch", messages.Fetch("case", key=key, start=start), messages.FetchReply)

            def take(conn: Connection, changes: Changes, reply: messages.FetchReply = reply) -> None:
                take_bundles(self.node.ledger, conn, changes, reply.bundles)

            await self._with_chains(lambda take=take: self.node.write(take))  # type: ignore[misc]
            start += sum(len(bundle.entries) for bundle in reply.bundles)
            more = reply.more and bool(reply.bundles)

    async def _wait(self) -> bool:
        span = self.settings.wait_s
        if self._is_helped():
            span = max(1, min(span, int(self._look_s())))
        ask = messages.Wait(await self.cursors(), span)
        reply = await self._ask("wait", ask, messages.WaitReply, timeout_s=span + self.settings.timeout_s)
        await self._keep_receipts(reply.receipts)
        if not reply.news and self.node.clock.monotonic_s() - self._contact_s > CONTACT_S:
            await self.node.write(lambda conn, _: self._note_contact(conn))
        return reply.news


async def call(
    transport: Transport,
    address: str,
    name: str,
    ask: messages.Message | bytes,
    kind: type[R],
    token: bytes | None,
    timeout_s: float,
) -> tuple[R, bytes]:
    """Send one message and read its reply.

    Returns:
        The reply, and the hash of the certificate that the connection showed.

    Raises:
        LinkError: no answer. PeerError: a refusal, as the peer said it.
    """
    body = ask if isinstance(ask, bytes) else messages.encode(ask)
    token_text = token.hex() if token is not None else None
    response = await transport.request(address, messages.PATH + name, body, token=token_text, timeout_s=timeout_s)
    if response.status == 200:
        return messages.decode(response.body, kind), response.certificate_hash
    raise refusal_of(response.body, response.status, response.retry_after_s)


_BY_CODE: Final = {
    kind.code: kind
    for kind in (
        errors.DecodeError,
        errors.LimitExceeded,
        errors.SignatureInvalid,
        errors.UnknownSigner,
        errors.NotPermitted,
        errors.ProofInvalid,
        errors.VersionUnsupported,
        errors.WrongNetwork,
        errors.SessionEnded,
        errors.JoinRefused,
        errors.ForkDetected,
    )
}


def refusal_of(body: bytes, status: int, retry_after_s: float | None) -> TongbanError:
    """Turn a refusal into the error that it names; what is no refusal of ours is a broken line (a captive portal, say)."""
    try:
        refusal = messages.decode(body, messages.Refusal)
    except PeerError:
        return LinkError(f"something else than a node answered (status {status})")
    if retry_after_s is not None or refusal.code == Overloaded.code:
        return Overloaded(refusal.message[:300], retry_after_s=min(retry_after_s or 1.0, 3_600.0))
    if refusal.code == GapFound.code and refusal.held:
        return GapFound(refusal.message[:300], size_held=refusal.held[0].size, log=refusal.held[0].log)
    if status >= 500:
        return LinkError(f"the hub cannot now: {refusal.message[:300]}", hint=refusal.hint[:300])
    return _BY_CODE.get(refusal.code, PeerError)(refusal.message[:300], hint=refusal.hint[:300])


# --- units of work


def _own_heads(conn: Connection) -> dict[int, messages.Head]:
    return {row.id: messages.Head(row.log, row.size, row.root) for row in logs.load_logs(conn) if _is_whole(row)}


def _agrees(ledger: Ledger, conn: Connection, head: messages.Head) -> bool:
    """Tell whether the parent's copy of our own log is a beginning of ours."""
    row = ledger.own_row(conn)
    return head.size <= row.size and logs.root_at(conn, row, head.size) == head.root


def _is_whole(row: LogRow) -> bool:
    """Tell whether a log is held from its beginning: our own or one of our subtree's, not a relayed piece."""
    return row.size > 0 and not row.branch


def prepare_push(
    ledger: Ledger, conn: Connection, assumed: dict[int, int], aside: frozenset[int] = frozenset(), only: int | None = None
) -> _Outgoing | None:
    """Make the next push ready: what is short goes first, so that a fresh change passes by another log's backlog.

    Args:
        assumed: sizes that a push on its way will bring the hub to.
        aside: logs to leave out. only: the one log to push.
    """
    ledger.seal(conn)
    acked = {**logs.acks(conn), **assumed}
    wanted = [row for row in logs.load_pending(conn) if row.id not in aside and only in {None, row.id}]
    rows = _in_order(ledger, wanted, acked)[: limits.PUSH_LOGS_MAX]
    head = ledger.newest_seal(conn)
    sets: list[ChangeSet] = []
    sizes: dict[int, int] = {}
    room, entries = PUSH_BYTES, 0
    for row in rows:
        size = max(acked.get(row.id, 0), row.start)
        if sets and row.size - size > BACKLOG:
            return _Outgoing(messages.encode(messages.Push(tuple(sets), head)), sizes, entries, more=True)
        for signed in ledger.checkpoints_from(conn, row, size):
            checkpoint = decode_checkpoint(signed.checkpoint)
            room -= logs.run_bytes(conn, row.id, checkpoint.start, checkpoint.size)
            if sets and (room < 0 or len(sets) >= limits.SETS_PER_PUSH_MAX):
                return _Outgoing(messages.encode(messages.Push(tuple(sets), head)), sizes, entries, more=True)
            sets.append(change_set(conn, row, signed, checkpoint))
            sizes[row.id] = checkpoint.size
            entries += checkpoint.size - max(checkpoint.start, size)
    if not sets:
        return None
    more = len(rows) == limits.PUSH_LOGS_MAX
    return _Outgoing(messages.encode(messages.Push(tuple(sets), head)), sizes, entries, more=more)


def _in_order(ledger: Ledger, rows: Sequence[LogRow], acked: dict[int, int]) -> list[LogRow]:
    """Return the logs with something to push, the shortest first, so that a fresh change passes by another log's backlog.

    Logs that the parent has nothing of come last, the higher node's before the lower's: their enrolments are in the others.
    """
    view = ledger.rules.now

    def place(row: LogRow) -> tuple[int, int, int]:
        depth = 0 if acked.get(row.id) else 1 + len(view.ancestors(row.log.node))
        return depth, row.size - acked.get(row.id, 0), row.id

    return sorted((row for row in rows if row.size > acked.get(row.id, 0)), key=place)


def _only_entry(ledger: Ledger, conn: Connection, bundle: Bundle) -> Sparse:
    """Take a bundle that must hold one entry, outside cases."""
    if len(bundle.entries) != 1:
        raise DecodeError("a bundle of one entry holds several, or none")
    batch = Batch(conn, ledger.rules, ledger.judge)
    taken = accept_bundles(ledger, conn, batch, [bundle])
    batch.finish()
    if len(taken) != 1:
        raise ProofInvalid("another entry is held under this place")
    return taken[0]


def keep_receipt(ledger: Ledger, conn: Connection, changes: Changes, bundle: Bundle) -> dict[int, int]:
    """Verify a receipt and keep it: its entry, and what it says of logs held here. What it says of other histories is passed over.

    Returns:
        Log id → the size receipted, of each log that it names and whose root is ours at that size.

    Raises:
        ProofInvalid, DecodeError: no receipt.
    """
    sparse = _only_entry(ledger, conn, bundle)
    header, body = sparse.entry.header, sparse.entry.body
    if header is None or header.type != "receipt" or body is None:
        raise ProofInvalid("the parent's receipt is none")
    if header.body is None or hash_body(b"", header.body[0], body) != header.body[2]:
        raise ProofInvalid("the body of a receipt is not the one that was signed")
    found: dict[int, int] = {}
    rows = []
    try:
        at = int(header.fields["at"])
        for (node, incarnation), size, root in decode_body(body)["of"]:
            row = _history(conn, LogId(node, incarnation), size, root)
            if row is None:
                continue
            rows.append((row.id, header.node, size, at, sparse.id))
            found[row.id] = size
            changes.receipted[row.id] = row.log.node
    except (KeyError, TypeError, ValueError) as exc:
        raise DecodeError("a receipt cannot be read") from exc
    logs.save_receipts(conn, rows)
    return found


def _history(conn: Connection, log: LogId, size: int, root: bytes) -> LogRow | None:
    """Return the log, or the rival branch of it, that has this root at this size; None when it is of no history held here."""
    row = logs.find_log(conn, log)
    if row is None or (size <= row.size and _root_at(conn, row, size) in {root, None}):
        return row
    for rival in logs.branches(conn, log):
        if rival.start < size <= rival.size and _root_at(conn, rival, size) == root:
            return rival
    if size <= row.size:
        lines.event("receipt.other_history", lines.WARNING, author=log.node, size=size)
    return None


def _root_at(conn: Connection, row: LogRow, size: int) -> bytes | None:
    if size == row.size:
        return row.root
    signed = logs.checkpoint_at(conn, row.id, size)
    return decode_checkpoint(signed.checkpoint).root if signed else None


def take_page(ledger: Ledger, conn: Connection, changes: Changes, reply: messages.PullReply) -> None:
    """Apply a page of news: rules first, then texts, then cases, then the cursors, in one transaction."""
    upset: set[str] = set()
    for news in reply.registers:
        upset |= _take_register(ledger, conn, changes, news)
    for leaf, body in reply.items:
        _take_text(conn, leaf, body)
    if reply.registers:
        ledger.fold_again(conn, changes, upset)
    faults.point("uplink.page_rules")
    take_bundles(ledger, conn, changes, reply.cases)
    logs.set_cursor(conn, CASES_CURSOR, reply.cursors.incarnation, reply.cursors.cases)
    logs.set_cursor(conn, TEXTS_CURSOR, b"", reply.cursors.catalogue)
    faults.point("uplink.page_taken")


def _take_register(ledger: Ledger, conn: Connection, changes: Changes, news: messages.RegisterNews) -> set[str]:
    """Fold one register; returns the nodes of whose entries it changed the order or the cut."""
    if news.number <= ledger.rules.number:
        return set()
    for bundle in news.facts:
        take_bundles(ledger, conn, changes, [bundle])
    sparse = _only_entry(ledger, conn, news.register)
    header, body = sparse.entry.header, sparse.entry.body
    if header is None or header.type != "register" or header.node != ledger.rules.root or body is None:
        raise ProofInvalid("what should be a register is none")
    if header.body is None or hash_body(b"", header.body[0], body) != header.body[2]:
        raise ProofInvalid("the body of a register is not the one that was signed")
    changes.rules = True
    return take_register(conn, ledger.rules, sparse.id, read_register(sparse.entry.leaf, header, body))


def _take_text(conn: Connection, leaf: bytes, body: bytes) -> None:
    fact = facts.find(conn, leaf)
    if fact is None or fact.header.body is None:
        return
    if hash_body(b"", fact.header.body[0], body) != fact.header.body[2]:
        raise ProofInvalid("the text of an item is not the one that its publisher signed")
    facts.save_text(conn, leaf, body)


def take_bundles(ledger: Ledger, conn: Connection, changes: Changes, bundles: Sequence[Bundle]) -> None:
    """Apply entries of cases that came in bundles: fold, feed on, write."""
    batch = Batch(conn, ledger.rules, ledger.judge)
    accept_bundles(ledger, conn, batch, bundles)
    ledger.finish(conn, batch, changes)


def _as_ours(exc: Exception) -> TongbanError:
    """Return our error for whatever was raised; what we did not foresee is written down."""
    if isinstance(exc, TongbanError):
        return exc
    lines.failure("uplink.unexpected", exc)
    return PeerError("the parent's answer could not be worked with", hint="Update both programs; look at the log.")


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is no longer of interest."""
    for one in tasks:
        one.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
