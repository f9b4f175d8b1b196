"""Who is on the line: challenges given out, and sessions of children that proved their keys.

Kept in memory only; losing them costs each child one greeting.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from node.node import Node
from protocol import keys, messages
from protocol.errors import NotPermitted, SessionEnded, SignatureInvalid, UnknownSigner, WrongNetwork

CHALLENGES_MAX: Final = 20_000
CHALLENGE_S: Final = 60.0
SESSIONS_MAX: Final = 20_000
IDLE_S: Final = 600


@dataclass(slots=True)
class Session:
    """One child's session. told: newest receipts from further up that it was sent, (log id, hub) → size."""

    node: str
    used_at_s: float
    told: dict[tuple[int, str], int] = field(default_factory=dict)


class Sessions:
    """Challenges and sessions of one hub. Owner: the event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._challenges: OrderedDict[bytes, float] = OrderedDict()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

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
        if any(one.node == ask.node and one.key == record.key for one in self._node.rules.revocations):
            raise NotPermitted(f"the key of node {ask.node} was revoked", hint="Join again with a new code.")
        text = messages.login_text(ask.node, ask.challenge, ask.certificate)
        keys.verify(record.key, ask.signature, keys.SignedKind.HELLO, self._node.ledger.identity.network, text)
        token = self._node.entropy.bytes(16)
        self._sessions[token] = Session(ask.node, self._node.clock.monotonic_s())
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return messages.Session(token, IDLE_S, self._node.clock.wall_ms())

    def find(self, token: bytes) -> Session:
        """Return the session of a token; raises SessionEnded."""
        session = self._sessions.get(token)
        now = self._node.clock.monotonic_s()
        if session is None or now - session.used_at_s > IDLE_S:
            self._sessions.pop(token, None)
            raise SessionEnded("the session is over")
        session.used_at_s = now
        self._sessions.move_to_end(token)
        return session
