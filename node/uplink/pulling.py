"""Pulling: pages of news (rules, item texts, entries of our cases), then whole cases in which something is missing.

A page is one transaction, its cursors with it. Where an author is not known yet, the chain of its key is fetched first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from node import faults
from node import logs as lines
from node.ledger import Changes, Ledger
from node.mending import forget_whole, load_bodiless
from node.rulebook import take_register
from node.store import cases, facts, logs
from node.store.database import Connection
from node.upgrades import note_listed
from node.uplink.bundles import keep_receipts, take_bundles, take_stated
from node.uplink.calling import REFUSALS, Line
from protocol import limits, messages
from protocol.errors import PeerError, ProofInvalid, UnknownSigner
from protocol.log import hash_body
from protocol.register import read_register
from protocol.standing import is_closed

PULL_BYTES: Final = 128 << 10  # of one page: a clerk who saves waits for no more than one page to be applied
CASES_CURSOR: Final = "cases"
TEXTS_CURSOR: Final = "texts"
MENDED_MAX: Final = 50  # cases fetched whole in one round


class Pulling:
    """Pulls from the parent. pulled: entries of cases that came."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.node = line.node
        self.pulled = 0
        self._mended = 0  # up to which case fetching went last time
        self._tried: set[bytes] = set()  # cases fetched for their bodies in this session

    def forget(self) -> None:
        """Begin a session: what could not be had in the last one is asked for again."""
        self._tried.clear()

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
        self.node.admit()
        ask = messages.Pull(await self.cursors(), PULL_BYTES)
        reply = await self.line.ask("pull", ask, messages.PullReply)
        await self._with_chains(lambda: self.node.write(lambda conn, changes: self._take_page(conn, changes, reply)))
        faults.point("uplink.page_saved")
        self.pulled += sum(len(bundle.entries) for bundle in reply.cases)
        await keep_receipts(self.node, reply.receipts)
        if reply.more and await self.cursors() == ask.cursors:  # what it says of our cursors is not what we hold
            raise PeerError("the parent says more, and gives nothing", hint="Update the parent's program.")
        return reply.more

    def _take_page(self, conn: Connection, changes: Changes, reply: messages.PullReply) -> None:
        take_page(self.node.ledger, conn, changes, reply)
        self.line.note_contact(conn)

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
        reply = await self.line.ask("fetch", messages.Fetch("chain", node=node), messages.FetchReply)
        if not reply.bundles:
            return False

        def take(conn: Connection, changes: Changes) -> None:
            take_bundles(self.node.ledger, conn, changes, reply.bundles)
            changes.rules = True
            faults.point("uplink.chain_taken")

        known = self.node.rules.enrolled
        await self.node.write(take)
        return self.node.rules.enrolled != known

    async def _mend(self) -> None:
        """Fetch whole cases in which something is missing: what they wait for, and once a session bodies that were lost."""
        ids = await self.node.read(lambda conn: cases.waiting_ids(conn, MENDED_MAX, self._mended))
        self._mended = ids[-1] if len(ids) == MENDED_MAX else 0
        for row in await self.node.read(lambda conn: cases.load_by_ids(conn, ids)):
            await self._try_to_fetch(row.key)
        bodiless = [key for key in await self.node.read(load_bodiless) if key not in self._tried][:MENDED_MAX]
        for key in bodiless:
            self._tried.add(key)
            await self._try_to_fetch(key)
            await self.node.write(lambda conn, _, key=key: forget_whole(conn, key))  # type: ignore[misc]

    async def _try_to_fetch(self, key: bytes) -> None:
        try:
            await self._fetch_case(key)
        except REFUSALS as exc:
            lines.failure("uplink.case_refused", exc, case=key)

    async def _fetch_case(self, key: bytes) -> None:
        start, more = 0, True
        while more:
            reply = await self.line.ask("fetch", messages.Fetch("case", key=key, start=start), messages.FetchReply)

            def take(conn: Connection, changes: Changes, reply: messages.FetchReply = reply) -> None:
                take_bundles(self.node.ledger, conn, changes, reply.bundles)

            await self._with_chains(lambda take=take: self.node.write(take))  # type: ignore[misc]
            start += sum(len(bundle.entries) for bundle in reply.bundles)
            more = reply.more and bool(reply.bundles)

    async def wait(self) -> bool:
        """Wait until the parent has news for us, or for a span; returns whether it has."""
        settings = self.line.settings
        span = settings.wait_s
        if self.line.is_helped:
            span = max(1, min(span, int(self.line.look_s)))
        ask = messages.Wait(await self.cursors(), span)
        reply = await self.line.ask("wait", ask, messages.WaitReply, timeout_s=span + settings.timeout_s)
        await keep_receipts(self.node, reply.receipts)
        if not reply.news:
            await self.line.note_quiet_contact()
        return reply.news


def take_page(ledger: Ledger, conn: Connection, changes: Changes, reply: messages.PullReply) -> None:
    """Apply a page of news: rules first, then texts, then cases, then the cursors, in one transaction."""
    upset: set[str] = set()
    for news in reply.registers:
        upset |= take_register_news(ledger, conn, changes, news)
    for leaf, body in reply.items:
        _take_text(conn, leaf, body)
    if reply.registers:
        ledger.fold_again(conn, changes, upset)
    faults.point("uplink.page_rules")
    take_bundles(ledger, conn, changes, reply.cases)
    logs.set_cursor(conn, CASES_CURSOR, reply.cursors.incarnation, reply.cursors.cases)
    logs.set_cursor(conn, TEXTS_CURSOR, b"", reply.cursors.catalogue)
    faults.point("uplink.page_taken")


def take_register_news(ledger: Ledger, conn: Connection, changes: Changes, news: messages.RegisterNews) -> set[str]:
    """Fold one register; returns the nodes of whose entries it changed the order or the cut."""
    if news.number <= ledger.rules.number:
        return set()
    for bundle in news.facts:
        take_bundles(ledger, conn, changes, [bundle])
    note_listed(conn, news.facts)
    sparse, header, body = take_stated(ledger, conn, news.register, "register")
    if header.node != ledger.rules.root:
        raise ProofInvalid("a register by another node than the root is none")
    if is_closed(ledger.rules, sparse.row.log, sparse.row.key, sparse.index):
        raise ProofInvalid("a register that the root's old key signed after it was replaced")
    changes.rules = True
    return take_register(conn, ledger.rules, sparse.id, read_register(sparse.entry.leaf, header, body))


def _take_text(conn: Connection, leaf: bytes, body: bytes) -> None:
    fact = facts.find(conn, leaf)
    if fact is None or fact.header.body is None:
        return
    if hash_body(b"", fact.header.body[0], body) != fact.header.body[2]:
        raise ProofInvalid("the text of an item is not the one that its publisher signed")
    facts.save_text(conn, leaf, body)
