"""The rules of the network in their one order: genesis, topology, rights, items, calendars, keys, revocations.

Hubs state rules as entries of their own logs. The root's `register` entries number them: a register lists the logs, and
the facts in them, that it takes in. `Rules` folds the facts in that order; what breaks a rule is void there, once, for
all. Every header names the newest register its author held (its *basis*), and is judged by `Rules.at(number)`: the same
view at every node, never changed afterwards. Outside the basis stand only keys and revocations.

    rules = Rules()
    rules.take(register, facts)              # number 0 is the genesis itself
    rules.at(3).above("650102000000", "650102001001")
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import msgspec

from protocol import catalogue, codec, divisions, keys, limits
from protocol.errors import DecodeError, SignatureInvalid
from protocol.log import Bytes16, Hash32, Header, LogId

RULE_TYPES: Final = frozenset(
    {
        "network.genesis",
        "node.invite",
        "node.enrol",
        "node.address",
        "node.retire",
        "node.admit",
        "node.revoke",
        "rights.grant",
        "rights.end",
        "catalogue.item",
        "calendar.publish",
    }
)


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


# --- fields of rule entries


class Genesis(msgspec.Struct, frozen=True):
    """`network.genesis`: the root's first entry; its leaf hash is the network id."""

    name: str
    node: str
    key: Hash32
    seal_key: Hash32
    recovery: tuple[Hash32, ...]
    threshold: int


class Invite(msgspec.Struct, frozen=True):
    """`node.invite`: the public half of a joining code. `key`: of the seed. `expires`: ms since the epoch."""

    node: str
    name: str
    parent: str
    key: Hash32
    expires: int
    rights: tuple[str, ...]


class Enrol(msgspec.Struct, frozen=True):
    """`node.enrol`: the keys that a machine made when it joined, signed by the seed of its invite."""

    node: str
    invite: Bytes16
    key: Hash32
    seal_key: Hash32
    suite: int
    challenge: Hash32
    certificate: Hash32
    proof: bytes


class Address(msgspec.Struct, frozen=True):
    """`node.address`: where a hub can be reached, as host:port, best first."""

    addresses: tuple[str, ...]


class Retire(msgspec.Struct, frozen=True):
    """`node.retire`: the node takes no more part; what it wrote stands."""

    node: str


class Admit(msgspec.Struct, frozen=True):
    """`node.admit`: a new incarnation goes on from the sizes then held of the older ones."""

    node: str
    incarnation: Bytes16
    sizes: tuple[tuple[Bytes16, int], ...]


class Revoke(msgspec.Struct, frozen=True):
    """`node.revoke`: a key is trusted up to a size for each incarnation named, and 0 for every other."""

    node: str
    key: Hash32
    cuts: tuple[tuple[Bytes16, int, Hash32], ...]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """`rights.grant`: a right for one node or a subtree, for items or all, from day to day (ISO dates, legal time)."""

    to: str
    right: str
    items: tuple[str, ...] = ()
    valid_from: str = ""
    valid_to: str = ""


class GrantEnd(msgspec.Struct, frozen=True):
    """`rights.end`: ends a grant, for everything with a later basis."""

    grant: Bytes16


class ItemHead(msgspec.Struct, frozen=True):
    """`catalogue.item`: what every node holds of an item; the text is the body."""

    code: str
    version: int
    title: str
    owner: str
    receive: tuple[str, ...]
    decide: tuple[str, ...]


class CalendarHead(msgspec.Struct, frozen=True):
    """`calendar.publish`: which region's calendar, which version; the days are the body."""

    region: str
    version: int
    valid_from: str
    valid_through: str


_FIELDS: Final[dict[str, type[msgspec.Struct]]] = {
    "network.genesis": Genesis,
    "node.invite": Invite,
    "node.enrol": Enrol,
    "node.address": Address,
    "node.retire": Retire,
    "node.admit": Admit,
    "node.revoke": Revoke,
    "rights.grant": Grant,
    "rights.end": GrantEnd,
    "catalogue.item": ItemHead,
    "calendar.publish": CalendarHead,
}


def read_fields(header: Header) -> msgspec.Struct:
    """Return a rule entry's fields as a value; raises DecodeError when one is missing or of another type."""
    try:
        return msgspec.convert(header.fields, _FIELDS[header.type], strict=True)
    except (KeyError, msgspec.ValidationError) as exc:
        raise DecodeError(f"the fields of a {header.type} entry cannot be read") from exc


def join_message(node: str, key: bytes, seal_key: bytes, challenge: bytes, certificate: bytes) -> bytes:
    """Return what the seed of a joining code signs."""
    return codec.encode([node, key, seal_key, challenge, certificate])


# --- registers


class RegisterBody(msgspec.Struct, frozen=True):
    """The body of a `register` entry: the logs it takes in, with their heads, and the facts, in order, by leaf hash."""

    logs: tuple[tuple[LogId, int, Hash32], ...]
    facts: tuple[Hash32, ...]


@dataclass(frozen=True, slots=True)
class Register:
    """A numbered step of the rules. leaf: hash of the root's entry; number 0 is the genesis."""

    number: int
    leaf: bytes
    before: bytes
    facts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A rule entry as held: its leaf hash, its header, and its body if it is here."""

    leaf: bytes
    header: Header
    body: bytes | None = None

    @property
    def link(self) -> bytes:
        """How other entries name this one."""
        return self.leaf[:16]


def read_register(leaf: bytes, header: Header, body: bytes) -> Register:
    """Read a `register` entry; raises DecodeError."""
    try:
        number, before = header.fields["number"], header.fields["before"]
        content = msgspec.msgpack.decode(body, type=RegisterBody)
    except (KeyError, msgspec.DecodeError) as exc:
        raise DecodeError("a register cannot be read") from exc
    if not isinstance(number, int) or not isinstance(before, bytes) or number < 1:
        raise DecodeError("a register cannot be read")
    return Register(number, leaf, before, content.facts)


# --- the folded rules


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as the rules have it: stated by its invite and enrolment."""

    node: str
    name: str
    parent: str | None
    key: bytes
    seal_key: bytes
    enrolment: bytes
    rights: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    retired: bool = False


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """An item's version as the rules have it; the text is fetched by the fact's leaf hash."""

    head: ItemHead
    leaf: bytes


@dataclass(frozen=True, slots=True)
class CalendarRecord:
    """A calendar's version and the fact that carries its days."""

    head: CalendarHead
    leaf: bytes
    body: bytes


V = TypeVar("V")


class History(Generic[V]):
    """Values of one thing over the register's numbers, newest last."""

    __slots__ = ("numbers", "values")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.values: list[V] = []

    def put(self, number: int, value: V) -> None:
        """Set the value from `number` on."""
        self.numbers.append(number)
        self.values.append(value)

    def at(self, number: int) -> V | None:
        """Return the value under a register, or None where it had none yet."""
        if self.numbers and self.numbers[-1] <= number:
            return self.values[-1]
        index = bisect_right(self.numbers, number)
        return self.values[index - 1] if index else None


@dataclass(slots=True)
class _GrantState:
    grant: Grant
    author: str
    from_number: int
    to_number: int | None = None


@dataclass(slots=True)
class Rules:
    """All that the registers held here say. One owner changes it: the store's writer."""

    registers: list[Register] = field(default_factory=list)
    voids: dict[bytes, str] = field(default_factory=dict)  # leaf hash of a fact without effect → reason
    network: bytes = b""
    genesis: Genesis | None = None
    revocations: list[Revoke] = field(default_factory=list)
    admissions: dict[str, list[Admit]] = field(default_factory=dict)
    _nodes: dict[str, History[NodeRecord]] = field(default_factory=dict)
    _items: dict[str, History[ItemRecord]] = field(default_factory=dict)
    _calendars: dict[str, History[CalendarRecord]] = field(default_factory=dict)
    _invites: dict[bytes, tuple[str, Invite]] = field(default_factory=dict)
    _grants: dict[bytes, _GrantState] = field(default_factory=dict)
    _used_invites: set[bytes] = field(default_factory=set)
    _local: dict[str, NodeRecord] = field(default_factory=dict)
    _ancestors: dict[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The newest register held, -1 before the genesis."""
        return len(self.registers) - 1

    @property
    def basis(self) -> tuple[int, bytes]:
        """What a header written now names."""
        newest = self.registers[-1]
        return newest.number, newest.leaf[:8]

    @property
    def root(self) -> str:
        """The root node's id."""
        return self.genesis.node if self.genesis else ""

    def holds(self, basis: tuple[int, bytes]) -> bool:
        """Tell whether this very basis is held here."""
        number, mark = basis
        return number < len(self.registers) and self.registers[number].leaf[:8] == mark

    def at(self, number: int) -> View:
        """Return the rules as of a register."""
        return View(self, number)

    @property
    def now(self) -> View:
        """Return the newest rules held."""
        return View(self, self.number)

    def open(self, genesis: Fact) -> None:
        """Begin with the genesis: register 0. Raises DecodeError when it is none."""
        fields = read_fields(genesis.header)
        if not isinstance(fields, Genesis) or genesis.header.node != fields.node:
            raise DecodeError("the network's first entry is no genesis")
        keys.check_public(fields.key)
        for key in fields.recovery:
            keys.check_public(key)
        if not 1 <= fields.threshold <= len(fields.recovery) <= limits.RECOVERY_KEYS_MAX:
            raise DecodeError("the genesis asks for a threshold that its recovery keys cannot reach")
        self.network, self.genesis = genesis.leaf, fields
        self.registers.append(Register(0, genesis.leaf, b"", (genesis.leaf,)))
        rights = tuple(str(right) for right in Right)
        self._put_node(0, NodeRecord(fields.node, fields.name, None, fields.key, fields.seal_key, genesis.leaf, rights))

    def take(self, register: Register, facts: Sequence[Fact]) -> None:
        """Fold the next register.

        Args:
            register: its number must follow the newest held.
            facts: those it lists, in its order.

        Raises:
            DecodeError: a number is left out, the chain is broken, or a listed fact is not given.
        """
        if register.number != self.number + 1 or register.before != self.registers[-1].leaf:
            raise DecodeError(f"register {register.number} does not follow register {self.number}")
        if tuple(fact.leaf for fact in facts) != register.facts:
            raise DecodeError(f"facts of register {register.number} are missing")
        self.registers.append(register)
        for fact in facts:
            reason = self._fold(register.number, fact)
            if reason is not None:
                self.voids[fact.leaf] = reason

    def note_enrolment(self, invite: Fact, enrolment: Fact) -> NodeRecord:
        """Keep an enrolment that no register has taken in yet: it makes its node's key known.

        Raises:
            DecodeError: not an invite and its enrolment.
            SignatureInvalid: the joining code's seed did not sign it.
        """
        record = self._enrolled(invite.link, invite.header.node, read_fields(invite.header), enrolment)
        if isinstance(record, str):
            raise DecodeError(f"the enrolment of {enrolment.header.fields.get('node')} does not hold: {record}")
        if record.node not in self._nodes:
            self._local.setdefault(record.node, record)
        return record

    def record(self, node: str) -> NodeRecord | None:
        """Return what is known of a node now, also when no register has it yet."""
        history = self._nodes.get(node)
        return history.values[-1] if history else self._local.get(node)

    def known_nodes(self) -> list[NodeRecord]:
        """Return all nodes, registered or only enrolled here."""
        found = [history.values[-1] for history in self._nodes.values()]
        return found + [record for node, record in self._local.items() if node not in self._nodes]

    def invite(self, link: bytes) -> tuple[str, Invite] | None:
        """Return a registered invite and its author."""
        return self._invites.get(link)

    # --- folding one fact: None, or why it has no effect

    def _fold(self, number: int, fact: Fact) -> str | None:
        try:
            fields = read_fields(fact.header)
        except DecodeError:
            return "malformed"
        handler = _FOLDERS.get(fact.header.type)
        return handler(self, number, fact, fields) if handler else "unknown_type"

    def _put_node(self, number: int, record: NodeRecord) -> None:
        self._nodes.setdefault(record.node, History()).put(number, record)
        self._local.pop(record.node, None)
        self._ancestors.clear()

    def _rules_over(self, number: int, author: str, node: str) -> bool:
        return author == node or View(self, number).above(author, node)

    def _fold_invite(self, number: int, fact: Fact, fields: Invite) -> str | None:
        author, view = fact.header.node, View(self, number)
        if not divisions.is_node_id(fields.node):
            return "bad_node_id"
        if view.node(fields.parent) is None or not self._rules_over(number, author, fields.parent):
            return "not_above"
        if not view.allows(author, Right.ENROL):
            return "no_right"
        if view.node(fields.node) is not None:
            return "node_exists"
        if len(view.ancestors(fields.parent)) + 2 > limits.DEPTH_MAX:
            return "too_deep"
        self._invites[fact.link] = (author, fields)
        return None

    def _fold_enrol(self, number: int, fact: Fact, fields: Enrol) -> str | None:
        invited = self._invites.get(fields.invite)
        if invited is None or fields.invite in self._used_invites:
            return "no_invite" if invited is None else "invite_used"
        record = self._enrolled(fields.invite, invited[0], invited[1], fact)
        if isinstance(record, str):
            return record
        if View(self, number).node(record.node) is not None:
            return "node_exists"
        self._used_invites.add(fields.invite)
        self._put_node(number, record)
        return None

    def _enrolled(self, link: bytes, inviter: str, invite: msgspec.Struct, fact: Fact) -> NodeRecord | str:
        fields = read_fields(fact.header)
        if not isinstance(invite, Invite) or not isinstance(fields, Enrol):
            return "malformed"
        if fields.invite != link or fields.node != invite.node or fact.header.node not in {invite.parent, inviter}:
            return "not_this_invite"
        message = join_message(fields.node, fields.key, fields.seal_key, fields.challenge, fields.certificate)
        try:
            keys.check_public(fields.key)
            keys.verify(invite.key, fields.proof, keys.SignedKind.JOIN, self.network, message)
        except SignatureInvalid:
            return "bad_proof"
        return NodeRecord(
            fields.node, invite.name, invite.parent, fields.key, fields.seal_key, fact.leaf, tuple(invite.rights)
        )

    def _fold_address(self, number: int, fact: Fact, fields: Address) -> str | None:
        record = View(self, number).node(fact.header.node)
        if record is None:
            return "unknown_node"
        if len(fields.addresses) > limits.DEPTH_MAX:
            return "malformed"
        self._put_node(number, _replace(record, addresses=fields.addresses))
        return None

    def _fold_retire(self, number: int, fact: Fact, fields: Retire) -> str | None:
        record = View(self, number).node(fields.node)
        if record is None:
            return "unknown_node"
        if not View(self, number).above(fact.header.node, fields.node):
            return "not_above"
        self._put_node(number, _replace(record, retired=True))
        return None

    def _fold_admit(self, number: int, fact: Fact, fields: Admit) -> str | None:
        if not View(self, number).above(fact.header.node, fields.node):
            return "not_above"
        admitted = self.admissions.setdefault(fields.node, [])
        if all(one.incarnation != fields.incarnation for one in admitted):
            admitted.append(fields)
        return None

    def _fold_revoke(self, number: int, fact: Fact, fields: Revoke) -> str | None:
        if not View(self, number).above(fact.header.node, fields.node):
            return "not_above"
        self.revocations.append(fields)
        return None

    def _fold_grant(self, number: int, fact: Fact, fields: Grant) -> str | None:
        author, view = fact.header.node, View(self, number)
        if fields.right not in set(Right) or view.node(fields.to.removesuffix("/*")) is None:
            return "malformed"
        if not self._may_grant(view, author, fields):
            return "no_right"
        self._grants[fact.link] = _GrantState(fields, author, number)
        return None

    def _may_grant(self, view: View, author: str, fields: Grant) -> bool:
        if author == self.root:
            return True
        if fields.right not in ITEM_RIGHTS:
            return view.above(author, fields.to.removesuffix("/*")) and view.allows(author, Right(fields.right))
        return bool(fields.items) and all(
            self._rules_over(view.number, author, item.head.owner) if (item := view.item(code)) else False
            for code in fields.items
        )

    def _fold_grant_end(self, number: int, fact: Fact, fields: GrantEnd) -> str | None:
        state = self._grants.get(fields.grant)
        if state is None:
            return "no_such_grant"
        if not self._rules_over(number, fact.header.node, state.author):
            return "not_above"
        if state.to_number is None:
            state.to_number = number
        return None

    def _fold_item(self, number: int, fact: Fact, fields: ItemHead) -> str | None:
        author, view = fact.header.node, View(self, number)
        if not view.allows(author, Right.PUBLISH) or not self._rules_over(number, author, fields.owner):
            return "no_right"
        before = view.item(fields.code)
        if before is not None and before.head.version >= fields.version:
            return "not_newer"
        if before is not None and not self._rules_over(number, author, before.head.owner):
            return "not_owner"
        if before is None and len(self._items) >= limits.ITEMS_MAX:
            return "too_many"
        self._items.setdefault(fields.code, History()).put(number, ItemRecord(fields, fact.leaf))
        return None

    def _fold_calendar(self, number: int, fact: Fact, fields: CalendarHead) -> str | None:
        author, view = fact.header.node, View(self, number)
        own = divisions.region_prefix(fields.region)
        if author != self.root and not (view.allows(author, Right.PUBLISH) and own.startswith(_code_prefix(author))):
            return "no_right"
        before = view.calendar(fields.region)
        if before is not None and before.head.version >= fields.version:
            return "not_newer"
        if fact.body is None:
            return "malformed"
        history = self._calendars.setdefault(fields.region, History())
        history.put(number, CalendarRecord(fields, fact.leaf, fact.body))
        return None


_FOLDERS: Final[dict[str, Any]] = {
    "node.invite": Rules._fold_invite,
    "node.enrol": Rules._fold_enrol,
    "node.address": Rules._fold_address,
    "node.retire": Rules._fold_retire,
    "node.admit": Rules._fold_admit,
    "node.revoke": Rules._fold_revoke,
    "rights.grant": Rules._fold_grant,
    "rights.end": Rules._fold_grant_end,
    "catalogue.item": Rules._fold_item,
    "calendar.publish": Rules._fold_calendar,
}


def _replace(record: NodeRecord, **changes: Any) -> NodeRecord:
    values = {name: getattr(record, name) for name in NodeRecord.__slots__}
    return NodeRecord(**{**values, **changes})


def _code_prefix(node: str) -> str:
    return divisions.region_prefix(node[:12])


@dataclass(frozen=True, slots=True)
class View:
    """The rules as of one register."""

    rules: Rules
    number: int

    def node(self, node: str) -> NodeRecord | None:
        """Return a node's record, or None where it was not enrolled yet."""
        history = self.rules._nodes.get(node)
        return history.at(self.number) if history else None

    def standing(self, node: str) -> NodeRecord | None:
        """Return a node's record; for one enrolled later than this register, the record it began with."""
        history = self.rules._nodes.get(node)
        if history is None:
            return self.rules._local.get(node)
        return history.at(self.number) or history.values[0]

    def ancestors(self, node: str) -> tuple[str, ...]:
        """Return the nodes above one, parent first. A node not enrolled yet stands where its enrolment put it."""
        cache, key = self.rules._ancestors, (self.number, node)
        found = cache.get(key)
        if found is None:
            found = self._walk(node)
            if len(cache) > limits.NODES_MAX:
                cache.clear()
            cache[key] = found
        return found

    def _walk(self, node: str) -> tuple[str, ...]:
        found: list[str] = []
        record = self.standing(node)
        while record is not None and record.parent is not None and len(found) < limits.DEPTH_MAX:
            found.append(record.parent)
            record = self.standing(record.parent)
        return tuple(found)

    def above(self, ancestor: str, node: str) -> bool:
        """Tell whether one node stands strictly above another."""
        return ancestor in self.ancestors(node)

    def allows(self, node: str, right: Right) -> bool:
        """Tell whether a node has a right that does not concern items."""
        record = self.standing(node)
        if record is None or record.retired:
            return False
        return right in record.rights or self._granted(node, right, "", "")

    def allows_item(self, node: str, right: Right, code: str, day: str) -> bool:
        """Tell whether a node has a right for an item on a legal date (ISO).

        The item's own lists give `receive` and `decide`; who may receive or decide may also notify, verify and deliver.
        """
        record = self.standing(node)
        item = self.item(code)
        if record is None or record.retired or item is None:
            return False
        above = self.ancestors(node)
        patterns = item.head.decide if right is Right.DECIDE else (*item.head.receive, *item.head.decide)
        if any(catalogue.pattern_matches(pattern, node, above) for pattern in patterns):
            return True
        return self._granted(node, right, code, day)

    def _granted(self, node: str, right: Right, code: str, day: str) -> bool:
        return any(
            state.grant.right == right
            and state.from_number <= self.number
            and (state.to_number is None or self.number < state.to_number)
            and (not code or not state.grant.items or code in state.grant.items)
            and (not state.grant.valid_from or state.grant.valid_from <= day)
            and (not state.grant.valid_to or day <= state.grant.valid_to)
            and catalogue.pattern_matches(state.grant.to, node, self.ancestors(node))
            for state in self.rules._grants.values()
        )

    def item(self, code: str) -> ItemRecord | None:
        """Return the newest version of an item under this register."""
        history = self.rules._items.get(code)
        return history.at(self.number) if history else None

    def item_version(self, code: str, version: int) -> ItemRecord | None:
        """Return one version of an item, if this register has it."""
        history = self.rules._items.get(code)
        if history is None:
            return None
        for number, record in zip(history.numbers, history.values, strict=True):
            if number <= self.number and record.head.version == version:
                return record
        return None

    def items(self) -> Iterable[ItemRecord]:
        """Return the newest version of every item."""
        return (record for code in sorted(self.rules._items) if (record := self.item(code)))

    def calendar(self, region: str) -> CalendarRecord | None:
        """Return the newest calendar published for exactly this region."""
        history = self.rules._calendars.get(region)
        return history.at(self.number) if history else None

    def calendars(self) -> list[CalendarRecord]:
        """Return the newest calendar of every region."""
        return [record for region in sorted(self.rules._calendars) if (record := self.calendar(region))]

    def nodes(self) -> list[NodeRecord]:
        """Return all nodes enrolled under this register."""
        return [record for node in sorted(self.rules._nodes) if (record := self.node(node))]

    def children(self, node: str) -> list[NodeRecord]:
        """Return the nodes right below one."""
        return [record for record in self.nodes() if record.parent == node]
