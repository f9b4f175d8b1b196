"""Inviting and enrolling: how a new machine becomes a node of the network.

`invite` draws a seed and states its public key with the node's id, parent, rights and expiry; the joining code carries the
seed. A machine that joins signs the keys it made with the seed; the seed never travels. The first enrolment for an invite
holds; the same machine asking again (its answer was lost) gets the same enrolment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hub.sessions import Sessions
from node import faults
from node.chains import chain_of
from node.ledger import Changes, Draft, Ledger
from node.node import Node
from node.registrar import take_in
from node.rulebook import is_behind, may_invite
from node.store import facts, logs
from node.store.database import Connection
from protocol import divisions, joincode, keys, limits, messages, register
from protocol.errors import CommandRefused, DecodeError, JoinRefused, SignatureInvalid, UnknownSigner, WrongNetwork
from protocol.log import Header, decode_header, hash_header
from protocol.register import Fact, Invite, NodeRecord, Right, Rules

HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Invited:
    """A new invitation. expires: ms since the epoch."""

    node: str
    parent: str
    code: str
    expires: int


async def invite(
    node: Node,
    invited: str,
    name: str | None,
    *,
    parent: str | None,
    expires_h: int,
    addresses: tuple[str, ...],
    officer: str | None = None,
    again: bool = False,
) -> Invited:
    """State an invitation and return its joining code.

    Args:
        addresses: of this hub, beside those that it announced; only for children of its own.
        again: for a node that is enrolled here and has a new machine; it keeps name, place and rights.

    Raises:
        CommandRefused: not a node id, there already (or not there, of one invited again), not ours to invite, or a parent
            whose address nobody knows.
    """
    held = node.rules.record(invited) if again else None
    parent = parent or (held.parent if held is not None and held.parent is not None else node.id)
    _check_invitation(node, invited, parent, again=again)
    addresses = _addresses(node, parent, addresses)
    seed = node.entropy.bytes(keys.SEED_BYTES)
    now = node.clock.wall_ms()
    expires = now + expires_h * HOUR_MS
    fields = {
        "node": invited,
        "name": held.name if held is not None else name,
        "parent": parent,
        "key": keys.SigningKey(seed).public,
        "expires": expires,
        "rights": list(held.rights) if held is not None else [str(right) for right in rights_of(invited)],
        **({"again": True} if again else {}),
    }

    def state(conn: Connection, changes: Changes) -> None:
        node.ledger.append(conn, [Draft("node.invite", now, fields, officer=officer)], changes)
        take_in(node.ledger, conn, changes, now)

    await node.write(state)
    code = joincode.JoinCode(node.ledger.identity.network, invited, addresses, seed)
    return Invited(invited, parent, joincode.format_code(code), expires)


def rights_of(node: str) -> tuple[Right, ...]:
    """Return what a new node may do by its place: villages and departments enrol nobody."""
    place = divisions.parse_node_id(node)
    return () if place.tier is divisions.Tier.VILLAGE or place.suffix else register.HUB_RIGHTS


def _check_invitation(node: Node, invited: str, parent: str, *, again: bool) -> None:
    if not divisions.is_node_id(invited):
        raise CommandRefused(f"{invited!r} is not a node id", hint="12 digits, with -suffix for a department.")
    held = node.rules.record(invited)
    if held is not None and not again:
        raise CommandRefused(
            f"node {invited} is enrolled already", hint="`tongban status` shows the network; --again for its new machine."
        )
    if again and (held is None or held.parent != parent):
        raise CommandRefused(f"node {invited} is not enrolled below {parent}", hint="Leave --again out for a new node.")
    view = node.rules.now
    if node.rules.record(parent) is None or (parent != node.id and not view.above(node.id, parent)):
        raise CommandRefused(f"{parent} does not stand at or below this node", hint="Invite at the hub above it.")
    if not view.allows(node.id, Right.ENROL):
        raise CommandRefused(f"node {node.id} has no right to enrol", hint="Invite at the hub above.")


def _addresses(node: Node, parent: str, own: tuple[str, ...]) -> tuple[str, ...]:
    """Return where the new machine finds the hub that enrols it: its parent."""
    record = node.rules.record(parent)
    known = record.addresses if record is not None else ()
    found = tuple(dict.fromkeys((*known, *own) if parent == node.id else known))
    if not found and parent != node.id:
        raise CommandRefused(
            f"no address of {parent} is known here: the code would lead nowhere",
            hint=f"Start {parent} once with `tongban run`, sync, then invite again; or invite there.",
        )
    if not found:
        raise CommandRefused(
            "this hub has no address that a new machine could call",
            hint="Start it once with `tongban run`, or set [advertise] address in config.toml.",
        )
    return found[: joincode.ADDRESSES_MAX]


class Enrolment:
    """Answers machines that want to join. Owner: the event loop."""

    def __init__(self, node: Node, sessions: Sessions) -> None:
        self._node = node
        self._sessions = sessions

    async def ask(self, ask: messages.JoinAsk, certificate: bytes) -> messages.JoinChallenge:
        """Give a challenge, and prove our key for this connection."""
        identity = self._node.ledger.identity
        if ask.network != identity.network:
            raise WrongNetwork("this hub belongs to another network", hint="The joining code is for another city.")
        chain = await self._node.store.own(lambda conn: chain_of(self._node.ledger, conn, identity.node))
        challenge = self._sessions.challenge()
        text = messages.greeting_text(ask.node, ask.invite, challenge, certificate, identity.node)
        signature = identity.key.sign(keys.SignedKind.GREET, identity.network, text)
        return messages.JoinChallenge(challenge, identity.node, signature, tuple(chain))

    async def join(self, ask: messages.Join, certificate: bytes) -> messages.JoinReply:
        """Enrol a machine: durable when this returns.

        Raises:
            JoinRefused: no such invitation here, used by another machine, expired, or the seed's signature is wrong.
        """
        if ask.network != self._node.ledger.identity.network:
            raise WrongNetwork("this hub belongs to another network")
        self._sessions.spend(ask.challenge)
        if ask.certificate != certificate:
            raise SignatureInvalid("the machine saw another certificate than this hub's")
        await self._node.write(lambda conn, changes: self._enrol(conn, changes, ask))
        faults.point("enrolment.committed")
        chain = await self._node.store.own(lambda conn: chain_of(self._node.ledger, conn, ask.node))
        return messages.JoinReply(tuple(chain), self._node.id)

    def _enrol(self, conn: Connection, changes: Changes, ask: messages.Join) -> None:
        ledger, now = self._node.ledger, self._node.clock.wall_ms()
        found = _find_invite(conn, ledger.rules, ask)
        if found is None:
            self._check_unknown(conn, ask, now)
            raise UnknownSigner(
                "this hub does not know the invitation (yet)",
                hint="If the code was made elsewhere, wait until this hub has synced, then join again; else ask for a new one.",
            )
        fact, invite = found
        known = ledger.rules.record(ask.node)
        if known is not None and known.key == ask.key:
            return  # the answer was lost: the same machine gets the same enrolment
        if known is not None and (not invite.again or _is_used(ledger, conn, ask.node, fact.link)):
            raise JoinRefused("the joining code was used by another machine")
        if invite.again and any(record.key == ask.key for record in ledger.rules.records(ask.node)):
            raise JoinRefused("the machine comes with a key that it had before", hint="Join with an empty --data folder.")
        if now > invite.expires:
            raise JoinRefused("the joining code has expired")
        if ask.node != invite.node or invite.parent != self._node.id:
            raise JoinRefused("the joining code is for another place")
        _check_inviter(ledger, fact)
        _check_proof(ledger, invite, ask)
        fields = {
            "node": ask.node,
            "invite": fact.link,
            "key": ask.key,
            "seal_key": ask.seal_key,
            "suite": keys.SUITE_ED25519,
            "challenge": ask.challenge,
            "certificate": ask.certificate,
            "proof": ask.proof,
        }
        cut = _cut_at_held(ledger, conn, known, now) if known is not None else []
        ledger.append(conn, [*cut, Draft("node.enrol", now, fields)], changes)
        faults.point("enrolment.stated")
        take_in(ledger, conn, changes, now)
        changes.rules = True


    def _check_unknown(self, conn: Connection, ask: messages.Join, now: int) -> None:
        """Refuse a code whose invitation is not here, where another one for its node is open: no newer one is on its way."""
        for fact, invite in _invites_with(conn, self._node.rules, ask.node.encode()):
            is_open = invite.node == ask.node and invite.parent == self._node.id and now <= invite.expires
            if is_open and may_invite(self._node.rules, fact):
                raise JoinRefused("the joining code is not genuine: this node was invited with another one")


def _is_used(ledger: Ledger, conn: Connection, node: str, invite: bytes) -> bool:
    """Tell whether one of a node's keys came by this invitation."""
    enrolments = (facts.find(conn, record.enrolment) for record in ledger.rules.records(node))
    return any(fact is not None and fact.header.fields.get("invite") == invite for fact in enrolments)


def _cut_at_held(ledger: Ledger, conn: Connection, known: NodeRecord, now: int) -> list[Draft]:
    """Return the revocation of the key that a new machine replaces: it is trusted as far as its logs are here."""
    if ledger.rules.is_revoked_key(known.node, known.key):
        return []  # by hand, before; where its cuts stand was somebody's choice
    rows = [row for row in logs.logs_of(conn, [known.node]) if row.key == known.key and row.size and not row.branch]
    cuts = [[row.log.incarnation, row.size, row.root] for row in rows[-limits.INCARNATIONS_MAX :]]
    return [Draft("node.revoke", now, {"node": known.node, "key": known.key, "cuts": cuts})]


def _check_inviter(ledger: Ledger, fact: Fact) -> None:
    """Refuse an invitation that its author had no right to: any node may write one into its log."""
    if not may_invite(ledger.rules, fact):
        raise JoinRefused(f"the joining code was made by {fact.header.node}, which may not invite here")


def _check_proof(ledger: Ledger, invite: Invite, ask: messages.Join) -> None:
    message = register.join_message(ask.node, ask.key, ask.seal_key, ask.challenge, ask.certificate)
    try:
        keys.check_public(ask.key)
        keys.check_sealing_public(ask.seal_key)
        keys.verify(invite.key, ask.proof, keys.SignedKind.JOIN, ledger.identity.network, message)
    except (SignatureInvalid, DecodeError) as exc:
        raise JoinRefused("the joining code is not genuine") from exc


def _find_invite(conn: Connection, rules: Rules, ask: messages.Join) -> tuple[Fact, Invite] | None:
    return next((one for one in _invites_with(conn, rules, ask.invite) if one[1].key == ask.invite), None)


def _invites_with(conn: Connection, rules: Rules, part: bytes) -> Iterator[tuple[Fact, Invite]]:
    """Yield the invitations whose header holds these bytes, the newest first; none that a replaced or revoked key signed."""
    rows = conn.execute(
        "SELECT e.raw FROM facts f JOIN entries e ON e.id = f.entry WHERE instr(e.raw, ?) ORDER BY f.entry DESC", (part,)
    )
    for (raw,) in rows.fetchall():
        header = decode_header(raw)
        fields = _read_invite(header) if header.type == "node.invite" else None
        if fields is not None and not is_behind(conn, rules, hash_header(raw)):
            yield Fact(hash_header(raw), header), fields


def _read_invite(header: Header) -> Invite | None:
    try:
        fields = register.read_fields(header)
    except DecodeError:
        return None  # kept, without effect
    return fields if isinstance(fields, Invite) else None
