"""Asking the parent: one message and its reply, the session around it, and whose address answers.

The parent's addresses come first; while it is silent the next ancestor helps out. Both sides sign when they meet; what
answers otherwise (a captive portal, another node) is no parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from node import clones
from node import logs as lines
from node.chains import chain_of
from node.node import PROGRAM, Node
from node.ports import Transport
from node.store import logs
from node.store.database import Connection
from node.uplink.bundles import learn_chain
from protocol import errors, keys, limits, messages
from protocol.errors import GapFound, LinkError, Overloaded, PeerError, TongbanError
from protocol.log import Bundle

CONTACT: Final = "last_contact"  # in meta: ms since the epoch, decimal
SKEW: Final = "clock_skew"  # in meta: ms, decimal: how far this clock was ahead at the last meeting
CONTACT_S: Final = 30.0  # so often at most a contact without news is written down
LOOK_S: Final = 30.0  # an ancestor that helps out is left after this, for the parent if it is back

# The parent has read what was sent, and will not have it; a session that ended, or a gap, is something else.
REFUSALS: Final = (
    errors.DecodeError,
    errors.LimitExceeded,
    errors.SignatureInvalid,
    errors.UnknownSigner,
    errors.NotPermitted,
    errors.ProofInvalid,
    errors.ForkDetected,
)
_BY_CODE: Final = {
    kind.code: kind
    for kind in (
        *REFUSALS,
        errors.VersionUnsupported,
        errors.WrongNetwork,
        errors.SessionEnded,
        errors.JoinRefused,
    )
}

R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the uplink behaves; spans in seconds. addresses: of the parent, tried first."""

    addresses: tuple[str, ...] = ()
    timeout_s: float = 60.0
    wait_s: int = 50
    retry_min_s: float = 1.0
    retry_max_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Session:
    """A session that stands. hub: who answers there."""

    address: str
    token: bytes
    hub: str


class Line:
    """A node's line to its parent. Owner: the event loop."""

    def __init__(self, node: Node, transport: Transport, settings: Settings) -> None:
        self.node = node
        self.transport = transport
        self.settings = settings
        self.session: Session | None = None
        self._met_at = 0.0
        self._contact_s = 0.0
        self.skew_ms = 0  # how much later this clock is than the parent's, as of the last meeting

    @property
    def is_helped(self) -> bool:
        """Whether the session is with an ancestor, because the parent was away."""
        return self.session is not None and self.session.hub != self.node.parent

    @property
    def look_s(self) -> float:
        """How long an ancestor helps out before the parent is looked for again."""
        return min(LOOK_S, self.settings.retry_max_s)

    @property
    def is_to_look(self) -> bool:
        """Whether an ancestor has helped out for long enough."""
        return self.is_helped and self.node.clock.monotonic_s() - self._met_at >= self.look_s

    def drop(self) -> None:
        """Forget the session."""
        self.session = None

    # --- when the parent was last heard, for people

    def note_contact(self, conn: Connection) -> None:
        """Write down that the parent was heard now: part of a unit of work."""
        logs.set_meta(conn, CONTACT, str(self.node.clock.wall_ms()).encode())
        self._contact_s = self.node.clock.monotonic_s()

    async def note_quiet_contact(self) -> None:
        """Write down now and then that the parent was heard, though it had no news."""
        if self.node.clock.monotonic_s() - self._contact_s > CONTACT_S:
            await self.node.write(lambda conn, _: self.note_contact(conn))

    # --- meeting

    async def meet(self) -> Session:
        """Return the session; meets whoever answers first if there is none. Raises LinkError, PeerError."""
        if self.session is None:
            self.session = await self._first_that_answers(await self.addresses())
            self._met_at = self.node.clock.monotonic_s()
        return self.session

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

    async def _first_that_answers(self, places: Sequence[tuple[str, str]]) -> Session:
        failure: TongbanError = LinkError("no address of the parent is known", hint="Set [uplink] parents in config.toml.")
        for hub, address in places:
            try:
                return await self.login(hub, address)
            except (LinkError, PeerError) as exc:
                failure = exc
        raise failure

    def addresses_above(self) -> list[tuple[str, str]]:
        """Return (hub, address) of the hub above the parent; empty where the parent is the root, or none is known."""
        parent = self.node.parent
        above = self.node.rules.now.ancestors(parent)[:1] if parent is not None else ()
        records = [(hub, self.node.rules.record(hub)) for hub in above]
        return [(hub, address) for hub, record in records if record is not None for address in record.addresses]

    async def login(self, hub: str, address: str) -> Session:
        """Begin a session with the hub at an address. Raises LinkError, PeerError.

        With the present key, or with one before it while the hub has not heard that it was replaced. A hub that knows none of
        them, since it was put back from an older copy or began anew, is shown the chain that leads to the present one.
        """
        *newer, oldest = self.node.ledger.speaking()
        for key in newer:
            try:
                return await self._login_with(key, hub, address)
            except (errors.SignatureInvalid, errors.NotPermitted) as exc:
                lines.failure("uplink.key_unknown", exc, parent=hub)
        try:
            return await self._login_with(oldest, hub, address)
        except (errors.UnknownSigner, errors.SignatureInvalid) as exc:
            lines.failure("uplink.key_unknown", exc, parent=hub)
        ledger = self.node.ledger
        chain = await self.node.store.own(lambda conn: chain_of(ledger, conn, ledger.identity.node))
        return await self._login_with(ledger.identity.key, hub, address, tuple(chain))

    async def _login_with(self, key: keys.SigningKey, hub: str, address: str, chain: tuple[Bundle, ...] = ()) -> Session:
        identity = self.node.ledger.identity
        greeting, certificate = await self._greet(hub, address)
        proof = messages.login_text(identity.node, greeting.challenge, certificate)
        signature = key.sign(keys.SignedKind.HELLO, identity.network, proof)
        me = await self.node.read(lambda conn: clones.introduce(self.node.ledger, conn, greeting.node))
        login = messages.Login(
            identity.node, greeting.challenge, certificate, signature, PROGRAM, me.last, me.own, me.choice, chain
        )
        session, _ = await self._call(address, "login", login, messages.Session)
        self._compare_clocks(greeting.node, session.now)
        await self.node.write(lambda conn, _: self._note_session(conn, greeting.node, session))
        lines.event("uplink.met", parent=greeting.node)
        return Session(address, session.token, greeting.node)

    def _note_session(self, conn: Connection, hub: str, session: messages.Session) -> None:
        clones.note_session(conn, hub, session.token, session.suspect)
        logs.set_meta(conn, SKEW, str(self.skew_ms).encode())

    def _compare_clocks(self, hub: str, now: int) -> None:
        """Notice a clock here, or there, that is off: nothing hangs on it but people's times, and they are told."""
        self.skew_ms = self.node.clock.wall_ms() - now
        if abs(self.skew_ms) > limits.CLAIM_SLACK_MS:
            lines.event("clock.off", lines.WARNING, parent=hub, skew_ms=self.skew_ms)

    async def _greet(self, hub: str, address: str) -> tuple[messages.Greeting, bytes]:
        """Exchange greetings; a hub that speaks with a key unknown here shows the chain that leads to it."""
        for chain in (False, True):
            identity = self.node.ledger.identity
            ask = messages.Greet(messages.VERSIONS, identity.network, identity.node, self.node.entropy.bytes(32), chain)
            greeting, certificate = await self._call(address, "greet", ask, messages.Greeting)
            messages.choose_version((greeting.version,))
            if greeting.network != identity.network or greeting.node not in {hub, self.node.parent}:
                raise PeerError(f"at {address} answers another node than {hub}", hint="Check [uplink] parents.")
            if chain:
                await learn_chain(self.node, greeting.chain)
            text = messages.greeting_text(identity.node, ask.challenge, greeting.challenge, certificate, greeting.node)
            record = self.node.rules.record(greeting.node)
            try:
                keys.verify(record.key if record is not None else b"", greeting.signature, keys.SignedKind.GREET, identity.network, text)
            except errors.SignatureInvalid:
                if chain:
                    raise
                continue
            break
        return greeting, certificate

    # --- asking

    async def ask(self, name: str, ask: messages.Message | bytes, kind: type[R], timeout_s: float | None = None) -> R:
        """Ask within the session, which is begun if there is none. Raises as `call`."""
        return await self.ask_at(await self.meet(), name, ask, kind, timeout_s)

    async def ask_at(
        self, session: Session, name: str, ask: messages.Message | bytes, kind: type[R], timeout_s: float | None = None
    ) -> R:
        """Ask within a session. Raises as `call`."""
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


def as_ours(exc: Exception) -> TongbanError:
    """Return our error for whatever was raised; what we did not foresee is written down."""
    if isinstance(exc, TongbanError):
        return exc
    lines.failure("uplink.unexpected", exc)
    return PeerError("the parent's answer could not be worked with", hint="Update both programs; look at the log.")


async def ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is no longer of interest."""
    for one in tasks:
        one.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
