"""The rules as folded, and how to read them: what was so under one register, and is so for ever.

Every header names the newest register that its author held (its *basis*), and is judged by the view of that register. A
view never looks at a later one. One thing stands beside it: a node that a register has not taken in yet, or only a later
one, stands where its enrolment put it, so that a station enrolled while the root is away works at once.

    rules.at(3).above("650102000000", "650102001001")
    rules.now.allows_item("650102000000-rsj", Right.DECIDE, "residence-permit", "2026-11-21")
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from protocol import catalogue, keys, limits
from protocol.facts import Admit, CalendarHead, Genesis, Grant, ItemHead, Register, Revoke, Right


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as the rules have it: stated by its invite and enrolment. enrolment: leaf hash of the latter.

    keyed: leaf hash of the fact that made `key` the node's key: that enrolment, or a rotation or recovery since.
    """

    node: str
    name: str
    parent: str | None
    key: bytes
    seal_key: bytes
    enrolment: bytes
    rights: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    retired: bool = False
    keyed: bytes = b""


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


@dataclass(slots=True)
class GrantState:
    """A grant and the registers from which on it holds, and no longer holds."""

    grant: Grant
    author: str
    from_number: int
    to_number: int | None = None

    def holds(self, number: int, code: str, day: str) -> bool:
        """Tell whether it holds under a register, for an item ("" = not about items) and a legal date (ISO)."""
        grant = self.grant
        return (
            self.from_number <= number
            and (self.to_number is None or number < self.to_number)
            and (not code or not grant.items or code in grant.items)
            and (not grant.valid_from or grant.valid_from <= day)
            and (not grant.valid_to or day <= grant.valid_to)
        )


V = TypeVar("V")


class History(Generic[V]):
    """Values of one thing over the register's numbers, newest last."""

    __slots__ = ("numbers", "values")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.values: list[V] = []

    def put(self, number: int, value: V) -> None:
        """Set the value from `number` on; numbers never fall."""
        self.numbers.append(number)
        self.values.append(value)

    def at(self, number: int) -> V | None:
        """Return the value under a register, or None where it had none yet."""
        if self.numbers and self.numbers[-1] <= number:
            return self.values[-1]
        index = bisect_right(self.numbers, number)
        return self.values[index - 1] if index else None


@dataclass(slots=True)
class Ruleset:
    """What the registers held here say. Only `protocol.register.Rules` changes it.

    Args:
        registers: by number, without a gap.
        voids: leaf hash of a fact without effect → reason.
        network: leaf hash of the genesis.
        genesis: its fields.
        revocations: with effect, in register order; they hold whatever the basis.
        admissions: node → admissions with effect, in register order.
        closings: (node, replaced key) → incarnation → size up to which that key is trusted; of other incarnations, 0.
        distrusted: leaf hash of a revocation that no register has taken in → (node, key): it opens no session any more.
        recoveries: number of the newest recovery of the root's key that a register took in; 0 = none.
        local: nodes enrolled here that no register has taken in.
        newer: node → its records with newer keys that no register has taken in, the newest last.
        local_closings: as `closings`, of keys replaced in `newer`.
        changes: rises whenever an answer about a node may differ from before.
    """

    registers: list[Register] = field(default_factory=list)
    voids: dict[bytes, str] = field(default_factory=dict)
    network: bytes = b""
    genesis: Genesis | None = None
    revocations: list[Revoke] = field(default_factory=list)
    admissions: dict[str, list[Admit]] = field(default_factory=dict)
    closings: dict[tuple[str, bytes], dict[bytes, int]] = field(default_factory=dict)
    distrusted: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    recoveries: int = 0
    local: dict[str, NodeRecord] = field(default_factory=dict)
    newer: dict[str, list[NodeRecord]] = field(default_factory=dict)
    local_closings: dict[tuple[str, bytes], dict[bytes, int]] = field(default_factory=dict)
    changes: int = 0
    node_histories: dict[str, History[NodeRecord]] = field(default_factory=dict)
    item_histories: dict[str, History[ItemRecord]] = field(default_factory=dict)
    calendar_histories: dict[str, History[CalendarRecord]] = field(default_factory=dict)
    grants: dict[str, list[GrantState]] = field(default_factory=dict)  # by right
    lines: dict[tuple[int, str, bool], tuple[str, ...]] = field(default_factory=dict)  # a cache: ancestors

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

    def record(self, node: str) -> NodeRecord | None:
        """Return what is known of a node now, also when no register has it yet."""
        if node in self.newer:
            return self.newer[node][-1]
        history = self.node_histories.get(node)
        return history.values[-1] if history else self.local.get(node)

    def records(self, node: str) -> list[NodeRecord]:
        """Return what a node was with each of the keys that it has had, in their order."""
        history = self.node_histories.get(node)
        first = history.values if history else [self.local[node]] if node in self.local else []
        return list({record.keyed: record for record in [*first, *self.newer.get(node, ())]}.values())

    def key_of(self, node: str, key_id: bytes) -> bytes | None:
        """Return the public key of a node that has this id, the present one or an earlier one; None when it had none."""
        record = self.record(node)
        if record is None or keys.key_id(record.key) == key_id:
            return record.key if record is not None else None
        return next((one.key for one in self.records(node) if keys.key_id(one.key) == key_id), None)

    def closing_of(self, node: str, key: bytes) -> dict[bytes, int] | None:
        """Return up to where a replaced key is trusted, also when no register says so yet; None when it was not replaced."""
        return self.closings.get((node, key), self.local_closings.get((node, key)))

    def known_nodes(self) -> list[NodeRecord]:
        """Return all nodes, registered or only enrolled here."""
        known = dict.fromkeys([*self.node_histories, *self.local])
        return [record for node in known if (record := self.record(node)) is not None]

    def is_revoked(self, node: str) -> bool:
        """Tell whether the key that a node has now was revoked."""
        record = self.record(node)
        return record is not None and self.is_revoked_key(node, record.key)

    def is_distrusted(self, node: str, key: bytes) -> bool:
        """Tell whether a key opens no session: it was revoked, also if no register says so yet."""
        return (node, key) in self.distrusted.values() or self.is_revoked_key(node, key)

    def is_revoked_key(self, node: str, key: bytes) -> bool:
        """Tell whether one of a node's keys was revoked."""
        return any(one.node == node and one.key == key for one in self.revocations)


class View:
    """The rules as of one register.

    Args:
        rules: what is held.
        number: of the register.
        registered_only: leave out who is only enrolled here: what is judged for all must not hang on that.
    """

    __slots__ = ("number", "registered_only", "rules")

    def __init__(self, rules: Ruleset, number: int, *, registered_only: bool = False) -> None:
        self.rules = rules
        self.number = number
        self.registered_only = registered_only

    def node(self, node: str) -> NodeRecord | None:
        """Return a node's record, or None where it was not enrolled yet."""
        history = self.rules.node_histories.get(node)
        return history.at(self.number) if history else None

    def standing(self, node: str) -> NodeRecord | None:
        """Return a node's record; for one enrolled later than this register, the record it began with."""
        history = self.rules.node_histories.get(node)
        if history is None:
            return None if self.registered_only else self.rules.local.get(node)
        found = history.at(self.number)
        return history.values[0] if found is None and not self.registered_only else found

    def ancestors(self, node: str) -> tuple[str, ...]:
        """Return the nodes above one, parent first. A node not enrolled yet stands where its enrolment put it."""
        lines, key = self.rules.lines, (self.number, node, self.registered_only)
        found = lines.get(key)
        if found is None:
            found = self._walk(node)
            if len(lines) > limits.NODES_MAX:
                lines.clear()
            lines[key] = found
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

    def rules_over(self, author: str, node: str) -> bool:
        """Tell whether one node is another, or stands above it."""
        return author == node or self.above(author, node)

    def allows(self, node: str, right: Right) -> bool:
        """Tell whether a node has a right that does not concern items."""
        record = self.standing(node)
        if record is None or record.retired:
            return False
        return right in record.rights or self._granted(node, right, "", "")

    def allows_item(self, node: str, right: Right, code: str, day: str) -> bool:
        """Tell whether a node has a right for an item on a legal date (ISO).

        The newest version's own lists give `receive` and `decide`; who may receive or decide may also notify, verify and
        deliver.
        """
        record = self.standing(node)
        item = self.item(code)
        if record is None or record.retired or item is None:
            return False
        patterns = item.head.decide if right is Right.DECIDE else (*item.head.receive, *item.head.decide)
        return catalogue.any_matches(patterns, node, self.ancestors(node)) or self._granted(node, right, code, day)

    def _granted(self, node: str, right: Right, code: str, day: str) -> bool:
        return any(
            state.holds(self.number, code, day)
            and catalogue.pattern_matches(state.grant.to, node, self.ancestors(node))
            for state in self.rules.grants.get(right, ())
        )

    def item(self, code: str) -> ItemRecord | None:
        """Return the newest version of an item under this register."""
        history = self.rules.item_histories.get(code)
        return history.at(self.number) if history else None

    def item_version(self, code: str, version: int) -> ItemRecord | None:
        """Return one version of an item, if this register has it."""
        history = self.rules.item_histories.get(code)
        if history is None:
            return None
        for number, record in zip(history.numbers, history.values, strict=True):
            if number <= self.number and record.head.version == version:
                return record
        return None

    def items(self) -> Iterable[ItemRecord]:
        """Return the newest version of every item."""
        return (record for code in sorted(self.rules.item_histories) if (record := self.item(code)))

    def calendar(self, region: str) -> CalendarRecord | None:
        """Return the newest calendar published for exactly this region."""
        history = self.rules.calendar_histories.get(region)
        return history.at(self.number) if history else None

    def calendars(self) -> list[CalendarRecord]:
        """Return the newest calendar of every region."""
        return [record for region in sorted(self.rules.calendar_histories) if (record := self.calendar(region))]

    def nodes(self) -> list[NodeRecord]:
        """Return all nodes enrolled under this register."""
        return [record for node in sorted(self.rules.node_histories) if (record := self.node(node))]

    def children(self, node: str) -> list[NodeRecord]:
        """Return the nodes right below one."""
        return [record for record in self.nodes() if record.parent == node]
