"""What rule entries say: genesis, topology, rights, items, calendars, keys, revocations; and the registers that order them.

Hubs state rules as *facts*: entries of their own logs, with the fields described here. The root's `register` entries give
them one order. Nothing here judges; `protocol.register` does.

    fact = Fact(leaf, decode_header(raw), body)
    read_fields(fact.header)                 # Invite(...), or DecodeError
    read_register(leaf, header, body)        # Register(number=3, ...)

The normative text is docs/PROTOCOL.md, section 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocol import codec, limits
from protocol.errors import DecodeError
from protocol.log import LINK_BYTES, UNREADABLE, Bytes16, Count, Hash32, Header, LogId, Millis, Name, Signature64


class Right(StrEnum):
    """What a node may be allowed, beyond its own cases."""

    RECEIVE = "receive"  # 收件受理权
    NOTIFY = "notify"  # 一次性告知权
    VERIFY = "verify"  # 原件核验权
    DELIVER = "deliver"  # 审批结果送达权
    DECIDE = "decide"
    ENROL = "enrol"
    SUPERVISE = "supervise"
    PUBLISH = "publish"


ITEM_RIGHTS: Final = frozenset({Right.RECEIVE, Right.NOTIFY, Right.VERIFY, Right.DELIVER, Right.DECIDE})
HUB_RIGHTS: Final = (Right.ENROL, Right.SUPERVISE, Right.PUBLISH)

Items = Annotated[tuple[Name, ...], Meta(max_length=limits.LIST_ITEMS_MAX)]
Patterns = Annotated[tuple[Name, ...], Meta(max_length=limits.PATTERNS_MAX)]
Sizes = Annotated[tuple[tuple[Bytes16, Count], ...], Meta(max_length=limits.INCARNATIONS_MAX)]
Cuts = Annotated[tuple[tuple[Bytes16, Count, Hash32], ...], Meta(max_length=limits.INCARNATIONS_MAX)]
Addresses = Annotated[tuple[Name, ...], Meta(max_length=limits.ADDRESSES_MAX)]


# --- fields of rule entries


class Genesis(msgspec.Struct, frozen=True):
    """`network.genesis`: the root's first entry; its leaf hash is the network id."""

    name: Name
    node: Name
    key: Hash32
    seal_key: Hash32
    recovery: Annotated[tuple[Hash32, ...], Meta(max_length=limits.RECOVERY_KEYS_MAX)]
    threshold: Annotated[int, Meta(ge=1, le=limits.RECOVERY_KEYS_MAX)]


class Invite(msgspec.Struct, frozen=True):
    """`node.invite`: the public half of a joining code. `key`: of the seed. `expires`: ms since the epoch.

    again: for a node that is enrolled already and gets a new key: its machine died, or its key was stolen.
    """

    node: Name
    name: Name
    parent: Name
    key: Hash32
    expires: Millis
    rights: Annotated[tuple[Name, ...], Meta(max_length=len(Right))]
    again: bool = False


class Enrol(msgspec.Struct, frozen=True):
    """`node.enrol`: the keys that a machine made when it joined, signed by the seed of its invite."""

    node: Name
    invite: Bytes16
    key: Hash32
    seal_key: Hash32
    suite: Annotated[int, Meta(ge=1, le=255)]
    challenge: Hash32
    certificate: Hash32
    proof: Signature64


class NodeKey(msgspec.Struct, frozen=True):
    """`node.key`: a node's new key, signed by the old one and by itself.

    closes: (incarnation, size) of the node's logs under the old key: what it signs behind that has no effect.
    """

    old: Hash32
    key: Hash32
    seal_key: Hash32
    suite: Annotated[int, Meta(ge=1, le=255)]
    closes: Sizes
    by_old: Signature64
    by_new: Signature64


class Recovery(msgspec.Struct, frozen=True):
    """`network.recovery`: the root's new key, signed by itself and by enough of the genesis' recovery keys.

    number: 1 for the network's first; only a higher one than any before counts. closes: as in `NodeKey`, of all keys that
    the root had. signatures: (public recovery key, its signature).
    """

    number: Annotated[int, Meta(ge=1, le=limits.LOG_SIZE_MAX)]
    key: Hash32
    seal_key: Hash32
    suite: Annotated[int, Meta(ge=1, le=255)]
    closes: Sizes
    proof: Signature64
    signatures: Annotated[tuple[tuple[Hash32, Signature64], ...], Meta(max_length=limits.RECOVERY_KEYS_MAX)]


class Address(msgspec.Struct, frozen=True):
    """`node.address`: where a hub can be reached, as host:port, best first."""

    addresses: Addresses


class Retire(msgspec.Struct, frozen=True):
    """`node.retire`: the node takes no more part; what it wrote stands."""

    node: Name


class Admit(msgspec.Struct, frozen=True):
    """`node.admit`: a new incarnation goes on from the sizes then held of the older ones, in the order of `sizes`."""

    node: Name
    incarnation: Bytes16
    sizes: Sizes


class Revoke(msgspec.Struct, frozen=True):
    """`node.revoke`: a key is trusted up to a size for each incarnation named, and 0 for every other."""

    node: Name
    key: Hash32
    cuts: Cuts


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """`rights.grant`: a right for one node or a subtree, for items or all, from day to day (ISO dates, legal time)."""

    to: Name
    right: Name
    items: Items = ()
    valid_from: str = ""
    valid_to: str = ""


class GrantEnd(msgspec.Struct, frozen=True):
    """`rights.end`: ends a grant, for everything with a later basis."""

    grant: Bytes16


class ItemHead(msgspec.Struct, frozen=True):
    """`catalogue.item`: what every node holds of an item; the text is the body."""

    code: Name
    version: Count
    title: Name
    owner: Name
    receive: Patterns
    decide: Patterns


class CalendarHead(msgspec.Struct, frozen=True):
    """`calendar.publish`: which region's calendar, which version; the days are the body."""

    region: Name
    version: Count
    valid_from: str
    valid_through: str


_FIELDS: Final[dict[str, type[msgspec.Struct]]] = {
    "network.genesis": Genesis,
    "node.invite": Invite,
    "node.enrol": Enrol,
    "node.key": NodeKey,
    "network.recovery": Recovery,
    "node.address": Address,
    "node.retire": Retire,
    "node.admit": Admit,
    "node.revoke": Revoke,
    "rights.grant": Grant,
    "rights.end": GrantEnd,
    "catalogue.item": ItemHead,
    "calendar.publish": CalendarHead,
}
RULE_TYPES: Final = frozenset(_FIELDS)


def read_fields(header: Header) -> msgspec.Struct:
    """Return a rule entry's fields as a value; raises DecodeError when one is missing or of another type."""
    kind = _FIELDS.get(header.type)
    if kind is None:
        raise DecodeError("the entry states no rule")
    try:
        return msgspec.convert(header.fields, kind, strict=True)
    except UNREADABLE as exc:
        raise DecodeError(f"the fields of a {header.type} entry cannot be read") from exc


def join_message(node: str, key: bytes, seal_key: bytes, challenge: bytes, certificate: bytes) -> bytes:
    """Return what the seed of a joining code signs."""
    return codec.encode([node, key, seal_key, challenge, certificate])


# --- facts and registers


@dataclass(frozen=True, slots=True)
class Fact:
    """A rule entry as held: its leaf hash, its header, and its body if it is here."""

    leaf: bytes
    header: Header
    body: bytes | None = None

    @property
    def link(self) -> bytes:
        """How other entries name this one."""
        return self.leaf[:LINK_BYTES]


class RegisterBody(msgspec.Struct, frozen=True):
    """The body of a `register` entry: the logs it takes in, with their heads, and the facts, in order, by leaf hash."""

    logs: tuple[tuple[LogId, Count, Hash32], ...]
    facts: tuple[Hash32, ...]


@dataclass(frozen=True, slots=True)
class Register:
    """A numbered step of the rules.

    Args:
        number: 0 is the genesis.
        leaf: hash of the root's entry.
        before: leaf hash of the register before; empty for number 0.
        facts: leaf hashes, in the order in which they are folded.
        author: node that states it; only the root's counts.
    """

    number: int
    leaf: bytes
    before: bytes
    facts: tuple[bytes, ...]
    author: str


_register_decoder = msgspec.msgpack.Decoder(RegisterBody)


def read_register(leaf: bytes, header: Header, body: bytes) -> Register:
    """Read a `register` entry; raises DecodeError."""
    number, before = header.fields.get("number"), header.fields.get("before")
    if header.type != "register" or type(number) is not int or type(before) is not bytes:
        raise DecodeError("the entry is no register")
    if not 1 <= number <= limits.LOG_SIZE_MAX or len(before) != len(leaf):
        raise DecodeError("a register has a number from 1 on, and names the one before")
    try:
        content = _register_decoder.decode(body)
    except UNREADABLE as exc:
        raise DecodeError("the body of a register cannot be read") from exc
    return Register(number, leaf, before, content.facts, header.node)
