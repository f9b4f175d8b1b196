"""Looking past the parent: once a day a node asks the hub above its parent what it holds, and shows it what the parent signed.

A hub that keeps an author back, or shows its children another history than its own parent, is found by it: what that hub
lacks of our log, though our parent receipted it a day ago, is said in `tongban status`; heads that contradict each other become
evidence there (`hub.witness`). Nothing waits for this, and a hub that cannot be reached is tried again the next day.
"""

from __future__ import annotations

from typing import Final

from node import audit
from node import logs as lines
from node.ledger import Changes
from node.store.database import Connection
from node.uplink.calling import Line
from node.uplink.returning import newest_above
from protocol import limits, messages
from protocol.errors import LinkError, PeerError
from protocol.log import LogId

EVERY_S: Final = 24 * 3_600.0


class Auditing:
    """Visits the hub above the parent. Owner: the event loop."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.node = line.node
        self._last_s = line.node.clock.monotonic_s()

    async def look_if_due(self) -> None:
        """Look once a day; how it went is written down."""
        now_s = self.node.clock.monotonic_s()
        if now_s - self._last_s < EVERY_S:
            return
        self._last_s = now_s
        try:
            await self.look()
        except (LinkError, PeerError) as exc:
            lines.failure("audit.unreachable", exc)

    async def look(self) -> None:
        """Ask the hub above the parent for what it holds of our own log, and show it what we hold of the hubs above us.

        Raises:
            LinkError, PeerError: it is not to be reached, or refuses.
        """
        places = self.line.addresses_above()
        if not places:
            return
        session = await self.line.login(*places[0])
        seen = await self.node.store.own(lambda conn: newest_above(self.node.ledger, conn))
        own = self.node.ledger.identity.log
        ask = messages.Hello(messages.digest(()), None, seen, self.node.rules.number)
        head = None
        for _ in range(limits.NODES_MAX):
            reply = await self.line.ask_at(session, "hello", ask, messages.HelloReply)
            head = next((one for one in reply.heads if one.log == own), None)
            if head is not None or not reply.more or not reply.heads:
                break
            ask = messages.Hello(messages.digest(()), reply.heads[-1].log)
        await self.node.write(lambda conn, changes: self._note(conn, changes, session.hub, own, head))

    def _note(
        self, conn: Connection, _changes: Changes, hub: str, own: LogId, head: messages.Head | None
    ) -> None:
        audit.note(self.node, conn, hub, own, head)
        withheld = audit.withheld(self.node, conn)
        if withheld is not None:
            lines.event("audit.withheld", lines.ERROR, parent=self.node.parent, size=withheld.size, size_held=withheld.above)
