"""Who is on the line: challenges given out, and sessions of children that proved their keys.

Kept in memory only; losing them costs each child one greeting.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from node import clones, faults
from node import logs as lines
from node.node import Node
from node.store.database import Connection
from node.uplink.bundles import learn_chain
from protocol import keys, messages, trail
from protocol.chain import verify_chain
from protocol.errors import NotPermitted, Overloaded, SessionEnded, SignatureInvalid, UnknownSigner, WrongNetwork
from protocol.trail import Outcome

CHALLENGES_MAX: Final = 20_000
CHALLENGE_S: Final = 60.0
SESSIONS_MAX: Final = 20_000
SESSIONS_PER_NODE_MAX: Final = 4  # the program that runs, commands beside it, and one left over from a lost line
REQUESTS_MAX: Final = 8  # of one session at once
IDLE_S: Final = 600


@dataclass(slots=True)
class Session:
    """One child's session. Owner: the event loop.

    mark: names the session on disks; shown: the mark for which it was given; used: its answer arrived.
    owed: logs (by id) of whose receipts from further up it was not told yet; None = all of its subtree.
    busy: requests under way.
    """

    node: str
    key: bytes
    mark: bytes
    shown: bytes
    used_at_s: float
    used: bool = False
    owed: set[int] | None = None
    busy: int = 0


class Sessions:
    """Challenges and sessions of one hub. Owner: the event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._challenges: OrderedDict[bytes, float] = OrderedDict()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._tokens: dict[str, list[bytes]] = {}
        self.programs: dict[str, str] = {}  # by node: what it said it runs when it last met us

    def challenge(self) -> bytes:
        """Give out a challenge, good once and for a minute."""
        value = self._node.entropy.bytes(32)
        self._challenges[value] = self._node.clock.monotonic_s()
        while len(self._challenges) > CHALLENGES_MAX:
            self._challenges.popitem(last=False)
        return value

    def spend(self, challenge: bytes) -> None:
        """Take a challenge back; raises SessionEnded when it is not one of ours, used, or too old."""
        given_at = self._challenges.pop(challenge, None)
        if given_at is None or self._node.clock.monotonic_s() - given_at > CHALLENGE_S:
            raise SessionEnded("the challenge is unknown or too old")

    def greet(self, ask: messages.Greet, certificate: bytes) -> messages.Greeting:
        """Answer a greeting: prove our key over both challenges and the certificate shown."""
        identity = self._node.ledger.identity
        if ask.network != identity.network:
            raise WrongNetwork("this hub belongs to another network", hint="Check the address of the parent.")
        version = messages.choose_version(ask.versions)
        mine = self.challenge()
        text = messages.greeting_text(ask.node, ask.challenge, mine, certificate, identity.node)
        signature = identity.key.sign(keys.SignedKind.GREET, identity.network, text)
        return messages.Greeting(version, messages.CAPABILITIES, identity.network, identity.node, mine, signature)

    def check(self, ask: messages.Login, certificate: bytes) -> bytes:
        """Return the key of a child that proves it for this very connection.

        Raises:
            SessionEnded, UnknownSigner, NotPermitted, SignatureInvalid.
        """
        self._check_connection(ask, certificate)
        return self._check_key(ask)

    def _check_connection(self, ask: messages.Login, certificate: bytes) -> None:
        self.spend(ask.challenge)
        if ask.certificate != certificate:
            raise SignatureInvalid(
                "the child saw another certificate than this hub's",
                hint="Something on the way opens the connection (a proxy, TLS inspection): let it pass unopened.",
            )

    def _check_key(self, ask: messages.Login) -> bytes:
        record = self._node.rules.record(ask.node)
        if record is None:
            raise UnknownSigner(f"node {ask.node} is not enrolled here")
        self._check_trusted(ask.node, record.key)
        self._verify(ask, record.key)
        self.programs[ask.node] = ask.program
        return record.key

    def _verify(self, ask: messages.Login, key: bytes) -> None:
        text = messages.login_text(ask.node, ask.challenge, ask.certificate)
        keys.verify(key, ask.signature, keys.SignedKind.HELLO, self._node.ledger.identity.network, text)

    async def _learn(self, ask: messages.Login) -> None:
        """Learn the present key of a node below from the chain that it shows: this store is an older copy, or began anew.

        Nothing is kept for who has not the key, or stands elsewhere.

        Raises:
            UnknownSigner, ProofInvalid, SignatureInvalid, DecodeError.
        """
        shown = verify_chain(self._node.ledger.identity.network, ask.chain)
        record = shown.record(ask.node)
        if record is None or self._node.id not in shown.now.ancestors(ask.node):
            raise UnknownSigner(f"the chain shown does not lead from here to {ask.node}")
        self._verify(ask, record.key)
        known = self._node.rules.record(ask.node)
        if known is None or known.key != record.key:
            await learn_chain(self._node, ask.chain)
            lines.event("session.chain_learnt", lines.WARNING, child=ask.node)

    async def login(self, ask: messages.Login, certificate: bytes) -> messages.Session:
        """Begin a session for a child, and write down when it came and what it showed.

        A child that shows an older mark than that of its newest session is alone from then on: if another machine had that
        session it must log in anew, and shows by it that there are two. Raises as `check`, and what `protocol.chain` raises.
        """
        self._check_connection(ask, certificate)
        if ask.chain:
            await self._learn(ask)
        key = self._check_key(ask)
        token, now = self._node.entropy.bytes(16), self._node.clock.wall_ms()
        seen = await self._node.store.write(lambda conn: self._visited(conn, ask, trail.mark_of(token), now))
        if seen.alone:
            self.end_all(ask.node)
            level = lines.CRITICAL if seen.outcome is Outcome.CLONE else lines.WARNING
            lines.event("session.trail", level, child=ask.node, reason=seen.outcome.value)
        self._begin(token, Session(ask.node, key, trail.mark_of(token), ask.last, self._node.clock.monotonic_s()))
        return messages.Session(token, IDLE_S, now, seen.suspect)

    def _visited(self, conn: Connection, ask: messages.Login, mark: bytes, now: int) -> trail.Visit:
        """Note a child's contact and what it showed: a unit of work. A crash here costs the child another login.

        Raises:
            NotPermitted: this machine was retired; the one that was kept serves its children.
        """
        if clones.state(conn).choice == trail.RETIRE:
            raise NotPermitted("this machine was retired", hint="Let the hub's address lead to the machine that was kept.")
        found = conn.execute("SELECT trail FROM contacts WHERE node = ?", (ask.node,)).fetchone()
        used = tuple(one.mark for one in self.of(ask.node) if one.used)
        own = ask.own
        incarnation, size = (own.log.incarnation, own.size) if own is not None else (b"", 0)
        shown = trail.Showing(ask.last, now, used, incarnation, size, ask.choice)
        seen = trail.visit(trail.decode(found[0] if found else None), shown, mark)
        conn.execute(
            "INSERT INTO contacts (node, at, trail) VALUES (?,?,?) "
            "ON CONFLICT (node) DO UPDATE SET at = excluded.at, trail = excluded.trail",
            (ask.node, now, trail.encode(seen.trail)),
        )
        faults.point("sessions.visited")
        return seen

    def _check_trusted(self, node: str, key: bytes) -> None:
        if not self._is_trusted(node, key):
            raise NotPermitted(f"the key of node {node} was revoked", hint="Join again with a new code.")

    def _is_trusted(self, node: str, key: bytes) -> bool:
        return not self._node.rules.is_distrusted(node, key)

    def _begin(self, token: bytes, session: Session) -> None:
        """Begin a session; one node's many sessions never push out another's."""
        self._sessions[token] = session
        mine = self._tokens.setdefault(session.node, [])
        mine.append(token)
        for old in mine[:-SESSIONS_PER_NODE_MAX]:
            self._end(old)
        while len(self._sessions) > SESSIONS_MAX:
            self._end(next(iter(self._sessions)))

    def end_all(self, node: str) -> None:
        """End a child's sessions: whoever has one logs in anew, and compares."""
        for token in list(self._tokens.get(node, ())):
            self._end(token)

    def _end(self, token: bytes) -> None:
        session = self._sessions.pop(token, None)
        if session is not None:
            self._tokens[session.node].remove(token)
            if not self._tokens[session.node]:
                del self._tokens[session.node]

    def owner_of(self, token: bytes | None) -> str | None:
        """Return the node whose session a token is, if it is trusted still: asked before a request's body is read."""
        session = self._sessions.get(token) if token is not None else None
        return session.node if session is not None and self._is_trusted(session.node, session.key) else None

    @property
    def count(self) -> int:
        """How many children have a session."""
        return len(self._tokens)

    def of(self, node: str) -> list[Session]:
        """Return a child's sessions."""
        return [self._sessions[token] for token in self._tokens.get(node, ())]

    def find(self, token: bytes) -> Session:
        """Return the session of a token.

        Raises:
            SessionEnded: unknown, idle for too long, or another machine's with it. NotPermitted: its key was revoked meanwhile.
            Overloaded: the child asks too many things at once.
        """
        session = self._sessions.get(token)
        now = self._node.clock.monotonic_s()
        if session is None or now - session.used_at_s > IDLE_S:
            self._end(token)
            raise SessionEnded("the session is over")
        self._check_trusted(session.node, session.key)
        record = self._node.rules.record(session.node)
        if record is None or record.key != session.key:
            self._end(token)
            raise SessionEnded("the key of this session was replaced: greet again")
        if session.busy >= REQUESTS_MAX:
            raise Overloaded("this node asks too many things at once", retry_after_s=1.0)
        if not session.used and any(one.used and one.shown == session.shown != b"" for one in self.of(session.node)):
            self._end(token)  # two answers to one mark have both arrived: not at one machine
            raise SessionEnded("another session was begun from the same place")
        session.used, session.used_at_s = True, now
        self._sessions.move_to_end(token)
        return session
