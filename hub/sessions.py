"""Who is on the line: challenges given out, and sessions of children that proved their keys.

Kept in memory only; losing them costs each child one greeting.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from node.node import Node
from protocol import keys, messages
from protocol.errors import NotPermitted, Overloaded, SessionEnded, SignatureInvalid, UnknownSigner, WrongNetwork

CHALLENGES_MAX: Final = 20_000
CHALLENGE_S: Final = 60.0
SESSIONS_MAX: Final = 20_000
SESSIONS_PER_NODE_MAX: Final = 4  # the program that runs, commands beside it, and one left over from a lost line
REQUESTS_MAX: Final = 8  # of one session at once
IDLE_S: Final = 600


@dataclass(slots=True)
class Session:
    """One child's session. Owner: the event loop.

    owed: logs (by id) of whose receipts from further up it was not told yet; None = all of its subtree.
    busy: requests under way.
    """

    node: str
    key: bytes
    used_at_s: float
    owed: set[int] | None = None
    busy: int = 0


class Sessions:
    """Challenges and sessions of one hub. Owner: the event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._challenges: OrderedDict[bytes, float] = OrderedDict()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._tokens: dict[str, list[bytes]] = {}

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

    def login(self, ask: messages.Login, certificate: bytes) -> messages.Session:
        """Begin a session for a child that proves its key for this very connection.

        Raises:
            SessionEnded, UnknownSigner, NotPermitted, SignatureInvalid.
        """
        self.spend(ask.challenge)
        if ask.certificate != certificate:
            raise SignatureInvalid(
                "the child saw another certificate than this hub's",
                hint="Something on the way opens the connection (a proxy, TLS inspection): let it pass unopened.",
            )
        record = self._node.rules.record(ask.node)
        if record is None:
            raise UnknownSigner(f"node {ask.node} is not enrolled here")
        self._check_trusted(ask.node, record.key)
        text = messages.login_text(ask.node, ask.challenge, ask.certificate)
        keys.verify(record.key, ask.signature, keys.SignedKind.HELLO, self._node.ledger.identity.network, text)
        return messages.Session(self._begin(ask.node, record.key), IDLE_S, self._node.clock.wall_ms())

    def _check_trusted(self, node: str, key: bytes) -> None:
        if not self._is_trusted(node, key):
            raise NotPermitted(f"the key of node {node} was revoked", hint="Join again with a new code.")

    def _is_trusted(self, node: str, key: bytes) -> bool:
        return not any(one.node == node and one.key == key for one in self._node.rules.revocations)

    def _begin(self, node: str, key: bytes) -> bytes:
        """Begin a session and return its token; one node's many sessions never push out another's."""
        token = self._node.entropy.bytes(16)
        self._sessions[token] = Session(node, key, self._node.clock.monotonic_s())
        mine = self._tokens.setdefault(node, [])
        mine.append(token)
        for old in mine[:-SESSIONS_PER_NODE_MAX]:
            self._end(old)
        while len(self._sessions) > SESSIONS_MAX:
            self._end(next(iter(self._sessions)))
        return token

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
            SessionEnded: unknown or idle for too long. NotPermitted: its key was revoked meanwhile.
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
        session.used_at_s = now
        self._sessions.move_to_end(token)
        return session
