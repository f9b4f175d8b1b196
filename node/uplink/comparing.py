"""Comparing with the parent: one digest, then heads, then each log goes back to the size that both hold.

What the parent has more of comes back. Its copy of our own log tells whether this store goes on where it ended, was
restored, or has parted from what it once signed: then a new incarnation is opened (`node.continuity`).
"""

from __future__ import annotations

from functools import partial

from node import continuity, faults
from node import logs as lines
from node.acceptance import accept_set
from node.ledger import Changes, Ledger
from node.office import officers
from node.projection import Batch
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from node.uplink.bundles import keep_receipts
from node.uplink.calling import REFUSALS, Line
from node.uplink.returning import Cursor, newest_above
from node.uplink.returning import page as returned
from protocol import errors, messages
from protocol.errors import PeerError
from protocol.log import ChangeSet, LogId, decode_checkpoint


class Comparing:
    """Says hello once a session. done: both copies were compared."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.node = line.node
        self.done = False

    async def compare(self) -> None:
        """Say hello: one digest; if it differs, learn what the hub holds and go back to the common point."""
        mine, seen = await self.node.read(lambda conn: (_own_heads(conn), newest_above(self.node.ledger, conn)))
        hello = messages.Hello(messages.digest(mine.values()), seen=seen, registers=self.node.rules.number)
        reply = await self.line.ask("hello", hello, messages.HelloReply)
        await keep_receipts(self.node, reply.receipts)
        if reply.lacks or reply.registers >= 0:
            await self._give_back(reply)
        if reply.same:
            await self._acknowledge_all(mine)
        else:
            await self._align(mine, await self._all_heads(reply, messages.digest(mine.values())))
        while await self.node.read(lambda conn: continuity.is_to_restate(self.node.ledger, conn)):
            await self.node.write(lambda conn, changes: continuity.restate(self.node.ledger, conn, changes))
        self.done = True

    async def _give_back(self, reply: messages.HelloReply) -> None:
        """Give a restored hub what it lost, page by page; one that will not have it goes on without."""
        ledger, more = self.node.ledger, True
        cursor = Cursor(reply.registers if reply.registers >= 0 else self.node.rules.number)
        try:
            while more:
                give, cursor = await self.node.store.own(partial(returned, ledger, lacks=reply.lacks, cursor=cursor))
                await self.line.ask("give", give, messages.GiveReply)
                more = give.more
        except REFUSALS as exc:
            lines.failure("uplink.give_refused", exc)

    async def _their_heads(self) -> dict[LogId, messages.Head]:
        nothing = messages.digest(())
        reply = await self.line.ask("hello", messages.Hello(nothing), messages.HelloReply)
        return await self._all_heads(reply, nothing)

    async def _all_heads(self, reply: messages.HelloReply, digest: bytes) -> dict[LogId, messages.Head]:
        theirs = {head.log: head for head in reply.heads}
        while reply.more and reply.heads:
            reply = await self.line.ask("hello", messages.Hello(digest, reply.heads[-1].log), messages.HelloReply)
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
        if theirs.size > head.size:  # whether it is ours at all its copy will tell: until then what was receipted counts
            return self._receipted(conn, log_id)
        if logs.root_at(conn, logs.load_log(conn, log_id), theirs.size) == theirs.root:
            return theirs.size
        return self._receipted(conn, log_id)

    def _receipted(self, conn: Connection, log_id: int) -> int:
        hub = self.line.session.hub if self.line.session is not None else ""
        return logs.receipted_by(conn, log_id, hub)

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

    async def go_on_anew(self) -> None:
        """Open a new incarnation behind what the parent holds of our own log: we showed a head that a backup has made untrue."""
        theirs = await self._their_heads()
        head = theirs.get(self.node.ledger.identity.log)
        await self._reincarnate(head.size if head is not None else 0)

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
            reply = await self.line.ask("fetch", messages.Fetch("log", head.log, start), messages.FetchReply)
            if not reply.sets:
                raise PeerError("the parent does not give back our own log", hint="Try again later.")
            sets += reply.sets
            start = decode_checkpoint(reply.sets[-1].signed.checkpoint).size
        return sets

    async def _fetch_back(self, head: messages.Head) -> None:
        """Fetch a log's tail; when it does not lead on from what is here, the two histories stand as they are.

        So too of an older incarnation of our own: another machine of our name may have gone on with it.
        """
        try:
            await self._fetch_tail(head)
        except REFUSALS as exc:
            if head.log == self.node.ledger.identity.log:
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
            reply = await self.line.ask("fetch", messages.Fetch("log", head.log, start), messages.FetchReply)
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


def _own_heads(conn: Connection) -> dict[int, messages.Head]:
    return {row.id: messages.Head(row.log, row.size, row.root) for row in logs.load_logs(conn) if _is_whole(row)}


def _agrees(ledger: Ledger, conn: Connection, head: messages.Head) -> bool:
    """Tell whether the parent's copy of our own log is a beginning of ours."""
    row = ledger.own_row(conn)
    return head.size <= row.size and logs.root_at(conn, row, head.size) == head.root


def _is_whole(row: LogRow) -> bool:
    """Tell whether a log is held from its beginning: our own or one of our subtree's, not a relayed piece."""
    return row.size > 0 and not row.branch
