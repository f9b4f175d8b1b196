"""When this hub is not what it was: put back from an old backup, or begun anew; its children have seen more of it than it holds.

Whatever we signed and gave out is in our children's hands: registers with their facts, receipts, entries of cases. In `hello`
each shows how far it has seen our log and those above us. Where that is further than this store goes:

    1  a new incarnation is opened before anything else is stated, so that no index is given twice (`node.continuity`);
    2  the child gives back what it holds, in pages: registers are folded in their order, so that no number is given twice;
       what our parent has not is stated again to it, byte for byte, once its own copy was compared;
    3  what no child has is named: in the log, and in `tongban status`.

The root also waits with new registers after each start, until the children that called before have called again, or for a
span: one of them may hold a register that this store has lost. Facts wait meanwhile; nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from node import continuity, faults, registrar
from node import logs as lines
from node.ledger import Changes
from node.node import Node
from node.store import facts, logs
from node.store.database import Connection
from node.store.logs import LogRow
from node.uplink.bundles import take_bundles
from node.uplink.pulling import take_register_news
from protocol import merkle, messages
from protocol.errors import NotPermitted, ProofInvalid, StoreError
from protocol.log import Checkpoint, LogId, Signed, decode_checkpoint, verify_checkpoint

LISTEN_S: Final = 120.0  # so long at most the root waits with new registers after a start
LOOK_S: Final = 10.0  # so often it looks whether it may go on
GIVING_S: Final = 600.0  # … and so long for a child that was asked, after its hello
RESTORED_S: Final = 24 * 3_600.0  # … and so long when it knows that it was restored
INCARNATION_BYTES: Final = 16
GIVEN: Final = "given/"  # in meta, with a child's id: up to where it gave back each log


class Restoring:
    """Listens for what the children have seen. Owner: the event loop; functions with a connection: the store's writer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._began_s, self._began_ms = node.clock.monotonic_s(), node.clock.wall_ms()
        self._listen_s = LISTEN_S
        self._giving: dict[str, float] = {}  # child → until when it is awaited, s
        self._heard: set[str] = set()
        self._awaited: set[str] | None = None  # children that called before this start
        self._is_sure = False
        self._is_settled = False  # … and the facts that waited were numbered
        node.ledger.is_unsure = self.is_unsure

    # --- hello

    def lacks(self, conn: Connection, child: str, ask: messages.Hello) -> tuple[messages.Held, ...]:
        """Return how much is held here of those logs of which a child has seen more, and has not given it yet.

        Raises:
            SignatureInvalid: it shows what we, or who stands above us, never signed.
        """
        given = _given(conn, child)
        found = []
        for signed in ask.seen:
            shown = decode_checkpoint(signed.checkpoint)
            held = self._held_of(conn, shown)
            if held is not None and given.get(shown.log, -1) < shown.size:
                self._verify(signed, shown)
                found.append(messages.Held(shown.log, held))
        return tuple(found)

    def _held_of(self, conn: Connection, shown: Checkpoint) -> int | None:
        """Return how much of a log to count as held, if a checkpoint of it goes further, or another way; None if not."""
        own = self._node.id
        if shown.node != own and not self._node.rules.now.above(shown.node, own):
            return None
        row = logs.find_log(conn, shown.log)
        if row is None:
            return 0
        if shown.node != own:
            newest = logs.newest_checkpoint(conn, row.id)
            size = decode_checkpoint(newest.checkpoint).size if newest is not None else 0
            return size if shown.size > size else None
        if shown.size > row.size:
            return row.size
        # another way of ours: where the two part only its entries can tell
        return None if _is_ours(conn, row, shown) else 0

    def _verify(self, signed: Signed, shown: Checkpoint) -> None:
        key = self._node.rules.key_of(shown.node, shown.key)
        if key is None:
            raise ProofInvalid(f"a checkpoint of {shown.node} is signed by a key that it never had")
        verify_checkpoint(signed, key, self._node.ledger.identity.network)

    def asks(self, child: str, ask: messages.Hello, lacks: Sequence[messages.Held]) -> int:
        """Note what a child is asked for; returns our newest register if the child's is newer, else -1."""
        is_behind = ask.registers > self._node.rules.number
        if lacks or is_behind:
            self._giving[child] = self._node.clock.monotonic_s() + GIVING_S
            self._note_restored(child, sum(one.log.node == self._node.id for one in lacks))
        else:
            self._giving.pop(child, None)
            self._heard.add(child)
        return self._node.rules.number if is_behind else -1

    def _note_restored(self, child: str, count: int) -> None:
        """Say that this store is an old one; a child may also know more of a log above us, when an ancestor helped it out."""
        if count:
            self._listen_s = RESTORED_S
            lines.event("hub.restored", lines.CRITICAL, node=self._node.id, child=child, count=count)

    async def go_on(self) -> None:
        """Number the facts that waited, if nobody has to be heard any more."""
        if self._is_settled or not self._is_root() or await self._node.read(self.is_unsure):
            return
        now = self._node.clock.wall_ms()
        await self._node.write(lambda conn, changes: registrar.go_on(self._node.ledger, conn, changes, now))
        self._is_settled = True

    async def wait_out(self) -> None:
        """Number the facts that waited, also when nobody calls any more; ends when nobody has to be heard."""
        while self._is_root() and not self._is_settled:
            await self._node.clock.sleep(LOOK_S)
            try:
                await self.go_on()
            except StoreError as exc:
                lines.failure("restoring.failed", exc)  # tried again; the next push would do it, too

    def _is_root(self) -> bool:
        return self._node.id == self._node.rules.root

    def is_unsure(self, conn: Connection) -> bool:
        """Tell whether a child may still show a register that is not here: those who called before this start, and not since."""
        now_s = self._node.clock.monotonic_s()
        if any(now_s < until_s for until_s in self._giving.values()):
            return True
        if self._is_sure:
            return False
        if self._node.rules.number == 0 and facts.genesis_log(conn) != self._node.ledger.own_row(conn).id:
            return True  # begun anew: there were registers, and nobody has given them yet
        if self._awaited is None:
            children = {record.node for record in self._node.rules.now.children(self._node.id)}
            if logs.get_meta(conn, registrar.UNHEARD) is not None:
                self._listen_s = RESTORED_S
            self._awaited = logs.called_before(conn, self._began_ms) & children
        if now_s - self._began_s < self._listen_s and self._awaited - self._heard:
            return True
        self._is_sure = True
        return False

    # --- give

    async def take(self, child: str, give: messages.Give) -> int:
        """Take back a page of what was lost: one unit of work. Returns how many entries were new.

        Raises:
            NotPermitted: it was not asked for. PeerError: it is not authentic; nothing was changed.
        """
        if child not in self._giving:
            raise NotPermitted("nothing was asked back")
        incarnation, now = self._node.entropy.bytes(INCARNATION_BYTES), self._node.clock.wall_ms()
        count = await self._node.write(lambda conn, changes: self._take(conn, changes, child, give, incarnation, now))
        faults.point("restoring.taken")
        return count

    def _take(
        self, conn: Connection, changes: Changes, child: str, give: messages.Give, incarnation: bytes, now: int
    ) -> int:
        ledger = self._node.ledger
        first = logs.next_entry_id(conn)
        shown = [self._authentic(signed) for signed in give.proofs]
        if any(one.log == ledger.identity.log and self._held_of(conn, one) is not None for one in shown):
            common = continuity.proven_size(ledger, conn, give.proofs)
            continuity.reincarnate(ledger, conn, changes, common, incarnation, now)
            first = logs.next_entry_id(conn)
        upset: set[str] = set()
        for news in give.registers:
            self._compare_number(conn, news)
            upset |= take_register_news(ledger, conn, changes, news)
        take_bundles(ledger, conn, changes, give.bundles)
        count = logs.next_entry_id(conn) - first
        if give.registers:
            ledger.fold_again(conn, changes, upset)
        for one in shown:
            if one.node == self._node.id and one.log != ledger.identity.log:
                continuity.note_seen(conn, one.log, one.size)
        changes.anew |= self._node.parent is not None and count > 0  # the parent may have lost it, too, also if it is its own
        faults.point("restoring.given")
        if not give.more:
            self._finish(conn, changes, child, shown, now)
        return count

    def _compare_number(self, conn: Connection, news: messages.RegisterNews) -> None:
        """Say it loudly when a number was given twice after all: we were restored, and the child came too late."""
        raws = [entry.raw for entry in news.register.entries]
        held = facts.find_register(conn, news.number)
        if held is not None and held not in raws:
            lines.event("register.forked", lines.CRITICAL, node=self._node.id, number=news.number)

    def _authentic(self, signed: Signed) -> Checkpoint:
        shown = decode_checkpoint(signed.checkpoint)
        self._verify(signed, shown)
        return shown

    def _finish(self, conn: Connection, changes: Changes, child: str, shown: Iterable[Checkpoint], now: int) -> None:
        """End a child's giving: the root admits its new incarnation; what nobody gave back is named."""
        ledger = self._node.ledger
        given = _given(conn, child)
        for one in shown:
            given[one.log] = max(one.size, given.get(one.log, 0))
        logs.set_meta(conn, GIVEN + child, msgspec.msgpack.encode(sorted(given.items())))
        self._giving.pop(child, None)
        self._heard.add(child)
        if self._is_root():
            registrar.admit_own(ledger, conn, changes, now)
            registrar.take_in(ledger, conn, changes, now)
        for loss in continuity.losses(ledger, conn):
            lines.event("log.lost", lines.CRITICAL, node=self._node.id, log=loss.log.incarnation, count=loss.count)


def _is_ours(conn: Connection, row: LogRow, shown: Checkpoint) -> bool:
    """Tell whether a log passes through a checkpoint, at a cost that is bounded: one not stored is compared by its run."""
    stored = logs.checkpoint_at(conn, row.id, shown.size)
    if stored is not None:
        return decode_checkpoint(stored.checkpoint).root == shown.root
    return merkle.root(logs.leaves_between(conn, row.id, shown.start, shown.size)) == shown.run


def _given(conn: Connection, child: str) -> dict[LogId, int]:
    """Return up to which size a child gave each log back."""
    packed = logs.get_meta(conn, GIVEN + child)
    return {} if packed is None else dict(msgspec.msgpack.decode(packed, type=list[tuple[LogId, int]]))
