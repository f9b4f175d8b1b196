"""Giving the rules their one order: the root's registers, and the fold of the facts that they take in.

A register numbers a step: it names the one before it and the facts it takes in, in their order. `Rules` folds them; a fact
that breaks a rule is void there, once, for all, with a reason (`Rules.voids`). What is judged here hangs on registers alone,
never on what this node happens to know besides.

    rules = Rules()
    rules.open(genesis)                      # number 0
    rules.take(register, facts)
    rules.at(3).above("650102000000", "650102001001")

The normative text is docs/PROTOCOL.md, section 9.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from protocol import calendar, catalogue, divisions, keys, limits
from protocol.errors import DecodeError, InputError, SignatureInvalid
from protocol.facts import (
    HUB_RIGHTS,
    ITEM_RIGHTS,
    RULE_TYPES,
    Address,
    Admit,
    CalendarHead,
    Enrol,
    Fact,
    Genesis,
    Grant,
    GrantEnd,
    Invite,
    ItemHead,
    Register,
    RegisterBody,
    Retire,
    Revoke,
    Right,
    join_message,
    read_fields,
    read_register,
)
from protocol.log import decode_body
from protocol.ruleset import CalendarRecord, GrantState, History, ItemRecord, NodeRecord, Ruleset, View

__all__ = [
    "HUB_RIGHTS",
    "ITEM_RIGHTS",
    "RULE_TYPES",
    "CalendarHead",
    "CalendarRecord",
    "Enrol",
    "Fact",
    "Genesis",
    "Grant",
    "Invite",
    "ItemHead",
    "ItemRecord",
    "NodeRecord",
    "Register",
    "RegisterBody",
    "Revoke",
    "Right",
    "Rules",
    "View",
    "join_message",
    "read_fields",
    "read_register",
]

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(slots=True)
class Rules(Ruleset):
    """All that the registers held here say. One owner changes it: the store's writer."""

    _invites: dict[bytes, tuple[str, Invite]] = field(default_factory=dict)
    _used_invites: set[bytes] = field(default_factory=set)
    _granted: dict[bytes, GrantState] = field(default_factory=dict)
    _taken: set[bytes] = field(default_factory=set)

    def open(self, genesis: Fact) -> None:
        """Begin with the genesis: register 0.

        Raises:
            DecodeError: it is none, or a network has begun here already.
            SignatureInvalid: one of its keys is weak.
        """
        fields = read_fields(genesis.header)
        if self.registers or not isinstance(fields, Genesis) or genesis.header.node != fields.node:
            raise DecodeError("the network's first entry is no genesis")
        _check_genesis(fields)
        self.network, self.genesis = genesis.leaf, fields
        self.registers.append(Register(0, genesis.leaf, b"", (genesis.leaf,), fields.node))
        self._taken.add(genesis.leaf)
        rights = tuple(str(right) for right in Right)
        self._put_node(0, NodeRecord(fields.node, fields.name, None, fields.key, fields.seal_key, genesis.leaf, rights))

    def take(self, register: Register, facts: Sequence[Fact]) -> None:
        """Fold the next register.

        Args:
            register: its number must follow the newest held.
            facts: those it lists, in its order.

        Raises:
            DecodeError: not the root's, a number is left out, the chain is broken, or a listed fact is not given whole.
                Nothing was changed.
        """
        if not self.registers or register.author != self.root:
            raise DecodeError("a register that is not the root's")
        if register.number != self.number + 1 or register.before != self.registers[-1].leaf:
            raise DecodeError(f"register {register.number} does not follow register {self.number}")
        if tuple(fact.leaf for fact in facts) != register.facts or not all(map(_is_whole, facts)):
            raise DecodeError(f"facts of register {register.number} are missing")
        self.registers.append(register)
        for fact in facts:
            reason = self._fold(register.number, fact)
            if reason is not None:
                self.voids.setdefault(fact.leaf, reason)
                self._forget_local(fact.leaf)

    def note_enrolment(self, invite: Fact, enrolment: Fact) -> NodeRecord:
        """Keep an enrolment that no register has taken in yet: it makes its node's key known, until a register says more.

        Returns:
            What is held of the node now.

        Raises:
            DecodeError: not an invite and its enrolment, the joining code's seed did not sign it, or not its author's to say.
        """
        fields = read_fields(invite.header)
        name = enrolment.header.fields.get("node")
        if not isinstance(fields, Invite):
            raise DecodeError("an enrolment names no invitation")
        inviter = invite.header.node
        found = self._provisional_fault(inviter, fields) or self._enrolled(invite.link, inviter, fields, enrolment)
        if isinstance(found, str):
            raise DecodeError(f"the enrolment of {name} does not hold: {found}")
        held = self.record(found.node)
        if held is None and enrolment.leaf not in self.voids:
            held = self.local[found.node] = found
            self._changed()
        if held is None:
            raise DecodeError(f"the enrolment of {name} was found void: {self.voids[enrolment.leaf]}")
        return held

    def _provisional_fault(self, inviter: str, invite: Invite) -> str | None:
        """Return why an invitation cannot hold, by what is known here. Rights granted later may not be known yet."""
        view = self.now
        if self.record(invite.parent) is None or not view.rules_over(inviter, invite.parent):
            return "not_above"
        if self.is_revoked(inviter):
            return "author_revoked"
        if inviter in self.node_histories and not view.allows(inviter, Right.ENROL):
            return "no_right"
        return "bad_node_id" if not divisions.is_node_id(invite.node) else None

    @property
    def enrolled(self) -> int:
        """How many nodes are known, registered or only enrolled here: it rises when a key becomes known."""
        return len(self.node_histories) + len(self.local)

    def invite(self, link: bytes) -> tuple[str, Invite] | None:
        """Return a registered invite and its author."""
        return self._invites.get(link)

    # --- changing

    def _changed(self) -> None:
        """Drop what was worked out from the nodes as they were."""
        self.lines.clear()
        self.changes += 1

    def _put_node(self, number: int, record: NodeRecord) -> None:
        self.node_histories.setdefault(record.node, History()).put(number, record)
        self.local.pop(record.node, None)
        self._changed()

    def _forget_local(self, enrolment: bytes) -> None:
        """Drop a node whose enrolment was found void: everybody knows as much of it from now on."""
        for node, record in self.local.items():
            if record.enrolment == enrolment:
                del self.local[node]
                self._changed()
                return

    # --- folding one fact: None, or why it has no effect

    def _fold(self, number: int, fact: Fact) -> str | None:
        if fact.leaf in self._taken:
            return None  # counted at its first place
        self._taken.add(fact.leaf)
        folder = _FOLDERS.get(fact.header.type)
        if folder is None:
            return "unknown_type"
        view = View(self, number, registered_only=True)
        author = view.node(fact.header.node)
        if author is None:
            return "unknown_author"
        if author.retired or self.is_revoked(author.node):
            return "author_retired" if author.retired else "author_revoked"
        try:
            fields = read_fields(fact.header)
        except DecodeError:
            return "malformed"
        return folder(self, view, fact, fields)

    def _fold_invite(self, view: View, fact: Fact, fields: Invite) -> str | None:
        author, parent = fact.header.node, view.node(fields.parent)
        if not divisions.is_node_id(fields.node):
            return "bad_node_id"
        if parent is None or not view.rules_over(author, fields.parent):
            return "not_above"
        if parent.retired:
            return "parent_retired"
        if not view.allows(author, Right.ENROL) or not _may_pass_on(view, author, fields.rights):
            return "no_right"
        reason = self._place_fault(view, fields)
        if reason is None:
            self._invites[fact.link] = (author, fields)
        return reason

    def _place_fault(self, view: View, invite: Invite) -> str | None:
        """Return why an invited node cannot come to stand where it shall."""
        if view.node(invite.node) is not None:
            return "node_exists"
        if len(view.ancestors(invite.parent)) + 2 > limits.DEPTH_MAX:
            return "too_deep"
        return "too_many" if len(self.node_histories) >= limits.NODES_MAX else None

    def _fold_enrol(self, view: View, fact: Fact, fields: Enrol) -> str | None:
        invited = self._invites.get(fields.invite)
        if invited is None or fields.invite in self._used_invites:
            return "no_invite" if invited is None else "invite_used"
        if view.node(fields.node) is not None:
            return "node_exists"
        parent = view.node(invited[1].parent)
        if parent is None or parent.retired:
            return "parent_retired"
        record = self._enrolled(fields.invite, invited[0], invited[1], fact)
        if isinstance(record, str):
            return record
        self._used_invites.add(fields.invite)
        self._put_node(view.number, record)
        return None

    def _enrolled(self, link: bytes, inviter: str, invite: Invite, fact: Fact) -> NodeRecord | str:
        """Return the node that an enrolment makes, or why it makes none."""
        fields = read_fields(fact.header)
        if not isinstance(fields, Enrol):
            return "malformed"
        if fields.invite != link or fields.node != invite.node or fact.header.node not in {invite.parent, inviter}:
            return "not_this_invite"
        if fact.header.claimed_at > invite.expires:
            return "expired"
        message = join_message(fields.node, fields.key, fields.seal_key, fields.challenge, fields.certificate)
        try:
            keys.check_public(fields.key, suite=fields.suite)
            keys.check_sealing_public(fields.seal_key)
            keys.verify(invite.key, fields.proof, keys.SignedKind.JOIN, self.network, message)
        except (SignatureInvalid, DecodeError):
            return "bad_proof"
        return NodeRecord(
            fields.node, invite.name, invite.parent, fields.key, fields.seal_key, fact.leaf, tuple(invite.rights)
        )

    def _fold_address(self, view: View, fact: Fact, fields: Address) -> str | None:
        record = view.node(fact.header.node)
        assert record is not None  # `_fold` asked
        self._put_node(view.number, dataclasses.replace(record, addresses=fields.addresses))
        return None

    def _fold_retire(self, view: View, fact: Fact, fields: Retire) -> str | None:
        record = view.node(fields.node)
        if record is None:
            return "unknown_node"
        if not view.above(fact.header.node, fields.node):
            return "not_above"
        self._put_node(view.number, dataclasses.replace(record, retired=True))
        return None

    def _fold_admit(self, view: View, fact: Fact, fields: Admit) -> str | None:
        """The first admission of an incarnation counts. Nobody stands above the root: it admits its own."""
        is_roots = fact.header.node == fields.node == self.root
        if not is_roots and not view.above(fact.header.node, fields.node):
            return "not_above"
        older = [incarnation for incarnation, _ in fields.sizes]
        if fields.incarnation in older or len(set(older)) < len(older):
            return "malformed"
        admitted = self.admissions.setdefault(fields.node, [])
        if any(one.incarnation == fields.incarnation for one in admitted):
            return "admitted_before"
        admitted.append(fields)
        return None

    def _fold_revoke(self, view: View, fact: Fact, fields: Revoke) -> str | None:
        if not view.above(fact.header.node, fields.node):
            return "not_above"
        self.revocations.append(fields)
        return None

    def _fold_grant(self, view: View, fact: Fact, fields: Grant) -> str | None:
        if not _is_well_formed_grant(fields) or view.node(_top(fields.to)) is None:
            return "malformed"
        if not self._may_grant(view, fact.header.node, fields):
            return "no_right"
        state = self._granted[fact.link] = GrantState(fields, fact.header.node, view.number)
        self.grants.setdefault(fields.right, []).append(state)
        self._changed()
        return None

    def _may_grant(self, view: View, author: str, fields: Grant) -> bool:
        if author == self.root:
            return True
        if fields.right not in ITEM_RIGHTS:
            return view.above(author, _top(fields.to)) and view.allows(author, Right(fields.right))
        items = [view.item(code) for code in fields.items]
        return bool(items) and all(item is not None and view.rules_over(author, item.head.owner) for item in items)

    def _fold_grant_end(self, view: View, fact: Fact, fields: GrantEnd) -> str | None:
        state = self._granted.get(fields.grant)
        if state is None:
            return "no_such_grant"
        if not view.rules_over(fact.header.node, state.author):
            return "not_above"
        if state.to_number is None:
            state.to_number = view.number
            self._changed()
        return None

    def _fold_item(self, view: View, fact: Fact, fields: ItemHead) -> str | None:
        author, before = fact.header.node, view.item(fields.code)
        if fact.header.body is None or not all(map(_is_pattern, (*fields.receive, *fields.decide))):
            return "malformed"
        if not view.allows(author, Right.PUBLISH) or not view.rules_over(author, fields.owner):
            return "no_right"
        if before is None and len(self.item_histories) >= limits.ITEMS_MAX:
            return "too_many"
        if before is not None and before.head.version >= fields.version:
            return "not_newer"
        if before is not None and not view.rules_over(author, before.head.owner):
            return "not_owner"
        self.item_histories.setdefault(fields.code, History()).put(view.number, ItemRecord(fields, fact.leaf))
        self._changed()
        return None

    def _fold_calendar(self, view: View, fact: Fact, fields: CalendarHead) -> str | None:
        author, before = fact.header.node, view.calendar(fields.region)
        if fact.body is None or not _is_calendar(fact.body, fields):
            return "malformed"
        within = divisions.within(fields.region, author[:12])
        if author != self.root and not (view.allows(author, Right.PUBLISH) and within):
            return "no_right"
        if before is not None and before.head.version >= fields.version:
            return "not_newer"
        record = CalendarRecord(fields, fact.leaf, fact.body)
        self.calendar_histories.setdefault(fields.region, History()).put(view.number, record)
        return None


def _check_genesis(fields: Genesis) -> None:
    """Raise where a genesis does not hold together."""
    if not divisions.is_node_id(fields.node):
        raise DecodeError("the genesis names no node")
    keys.check_public(fields.key)
    keys.check_sealing_public(fields.seal_key)
    for key in fields.recovery:
        keys.check_public(key)
    if not 1 <= fields.threshold <= len(set(fields.recovery)) or len(set(fields.recovery)) < len(fields.recovery):
        raise DecodeError("the genesis asks for a threshold that its recovery keys cannot reach")


def _is_whole(fact: Fact) -> bool:
    """Tell whether a fact is here with all that its verdict hangs on: of a calendar the days, too."""
    return fact.body is not None or fact.header.body is None or fact.header.type != "calendar.publish"


def _may_pass_on(view: View, author: str, rights: Sequence[str]) -> bool:
    """Tell whether an inviter has all hub rights that it gives; rights for items are granted, not invited."""
    known = [right for right in HUB_RIGHTS if right in rights]
    return len(known) == len(rights) and all(view.allows(author, right) for right in known)


def _is_well_formed_grant(fields: Grant) -> bool:
    """Tell whether a grant names a known right; hub rights have neither items nor dates."""
    if fields.right not in ITEM_RIGHTS:
        return fields.right in HUB_RIGHTS and not (fields.items or fields.valid_from or fields.valid_to)
    return all(not day or _DAY.fullmatch(day) is not None for day in (fields.valid_from, fields.valid_to))


def _top(pattern: str) -> str:
    return pattern.removesuffix(catalogue.BELOW)


def _is_pattern(text: str) -> bool:
    try:
        catalogue.check_pattern(text)
    except InputError:
        return False
    return True


def _is_calendar(body: bytes, head: CalendarHead) -> bool:
    """Tell whether a body is a calendar, and the one that its header speaks of."""
    try:
        found = calendar.from_body(decode_body(body))
    except DecodeError:
        return False
    return calendar.header_fields(found) == msgspec.structs.asdict(head)


_Folder = Callable[..., "str | None"]  # (rules, view, fact, fields of that type)

_FOLDERS: Final[dict[str, _Folder]] = {
    "node.invite": Rules._fold_invite,  # noqa: SLF001 - a table of this class's own methods
    "node.enrol": Rules._fold_enrol,  # noqa: SLF001
    "node.address": Rules._fold_address,  # noqa: SLF001
    "node.retire": Rules._fold_retire,  # noqa: SLF001
    "node.admit": Rules._fold_admit,  # noqa: SLF001
    "node.revoke": Rules._fold_revoke,  # noqa: SLF001
    "rights.grant": Rules._fold_grant,  # noqa: SLF001
    "rights.end": Rules._fold_grant_end,  # noqa: SLF001
    "catalogue.item": Rules._fold_item,  # noqa: SLF001
    "calendar.publish": Rules._fold_calendar,  # noqa: SLF001
}
