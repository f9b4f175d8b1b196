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
    NodeKey,
    Recovery,
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
from protocol.rekeying import verify_recovery, verify_rotation
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
    newest_recovery: int = 0  # number of the newest recovery known, registered or not

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
        root = NodeRecord(
            fields.node, fields.name, None, fields.key, fields.seal_key, genesis.leaf, rights, keyed=genesis.leaf
        )
        self._put_node(0, root)

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
            self.distrusted.pop(fact.leaf, None)
            if reason is not None:
                self.voids.setdefault(fact.leaf, reason)
                self._forget_local(fact)

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
        if enrolment.leaf in self.voids and (held is None or fields.again):
            raise DecodeError(f"the enrolment of {name} was found void: {self.voids[enrolment.leaf]}")
        if held is None:
            self.local[found.node] = held = found
            self._changed()
        elif fields.again and not self.has_keyed(found.node, enrolment.leaf):
            held = self._note_newer(_rekeyed(held, found))
        return held

    def note_rotation(self, rotation: Fact) -> NodeRecord:
        """Keep a node's new key that no register has taken in yet.

        Raises:
            DecodeError: it does not follow the key that the node has, or one of the two did not sign.
        """
        fields, node = read_fields(rotation.header), rotation.header.node
        held = self.record(node)
        if self.has_keyed(node, rotation.leaf) and held is not None:
            return held
        reason = self.voids.get(rotation.leaf) or self._rotation_fault(held, fields)
        if reason or held is None or not isinstance(fields, NodeKey):
            raise DecodeError(f"the new key of {node} does not hold: {reason or 'unknown_node'}")
        self.local_closings[node, held.key] = dict(fields.closes)
        return self._note_newer(_with_key(held, fields, rotation.leaf))

    def note_recovery(self, recovery: Fact) -> NodeRecord:
        """Keep a new key of the root, signed by recovery keys, that no register has taken in yet.

        Raises:
            DecodeError: too few of the genesis' keys signed, or it is older than what is known.
        """
        fields, held = read_fields(recovery.header), self.record(self.root)
        if held is not None and self.has_keyed(self.root, recovery.leaf):
            return held
        reason = self.voids.get(recovery.leaf) or self._recovery_fault(recovery, fields, self.newest_recovery)
        if reason or held is None or not isinstance(fields, Recovery):
            raise DecodeError(f"the recovery of the root's key does not hold: {reason or 'unknown_node'}")
        self.local_closings[self.root, held.key] = dict(fields.closes)
        self.newest_recovery = fields.number
        return self._note_newer(_with_key(held, fields, recovery.leaf))

    def note_revocation(self, revocation: Fact) -> None:
        """Distrust a key that a node above its owner revokes, before a register says so; what it signed is judged by that."""
        fields = read_fields(revocation.header)
        if isinstance(fields, Revoke) and revocation.leaf not in self._taken and self.now.above(revocation.header.node, fields.node):
            self.distrusted[revocation.leaf] = (fields.node, fields.key)

    def has_keyed(self, node: str, leaf: bytes) -> bool:
        """Tell whether a fact gave a node one of the keys that are known of it."""
        return any(record.keyed == leaf for record in self.records(node))

    def _note_newer(self, record: NodeRecord) -> NodeRecord:
        self.newer.setdefault(record.node, []).append(record)
        self._changed()
        return record

    def _rotation_fault(self, held: NodeRecord | None, fields: msgspec.Struct) -> str | None:
        """Return why a node's key cannot be replaced as `fields` say; held: the node as it is."""
        if held is None or not isinstance(fields, NodeKey):
            return "malformed" if held is not None else "unknown_node"
        if fields.old != held.key:
            return "not_its_key"
        if any(record.key == fields.key for record in self.records(held.node)):
            return "key_used"
        try:
            verify_rotation(fields, held.node, self.network)
        except (SignatureInvalid, DecodeError):
            return "bad_proof"
        return None

    def _recovery_fault(self, recovery: Fact, fields: msgspec.Struct, newest: int) -> str | None:
        """Return why the root's key cannot be recovered as `fields` say; newest: number of the recovery before."""
        if not isinstance(fields, Recovery) or self.genesis is None or recovery.header.node != self.root:
            return "malformed"
        if fields.number <= newest:
            return "not_newer"
        if any(record.key == fields.key for record in self.records(self.root)):
            return "key_used"
        try:
            verify_recovery(fields, self.genesis, self.network)
        except (SignatureInvalid, DecodeError):
            return "bad_proof"
        return None

    def _provisional_fault(self, inviter: str, invite: Invite) -> str | None:
        """Return why an invitation cannot hold, by what is known here. Rights granted later may not be known yet."""
        view = self.now
        if self.record(invite.parent) is None or not view.rules_over(inviter, invite.parent):
            return "not_above"
        held = self.record(invite.node)
        if invite.again and (held is None or held.parent != invite.parent):
            return "unknown_node"
        if self.is_revoked(inviter):
            return "author_revoked"
        if inviter in self.node_histories and not view.allows(inviter, Right.ENROL):
            return "no_right"
        return "bad_node_id" if not divisions.is_node_id(invite.node) else None

    @property
    def enrolled(self) -> int:
        """How many nodes are known, registered or only enrolled here, and newer keys: it rises when a key becomes known."""
        return len(self.node_histories) + len(self.local) + sum(map(len, self.newer.values()))

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
        self._keep_newer(record.node, {record.keyed})
        self._changed()

    def _keep_newer(self, node: str, dropped: set[bytes]) -> None:
        """Drop newer keys that a register has judged; those left keep what else is known of the node by now."""
        history = self.node_histories.get(node)
        base = history.values[-1] if history else self.local.get(node)
        left = [one for one in self.newer.pop(node, ()) if one.keyed not in dropped]
        if left and base is not None:
            self.newer[node] = [_rekeyed(base, one) for one in left]

    def _forget_local(self, fact: Fact) -> None:
        """Drop what a fact that was found void gave a node: everybody knows as much of it from now on."""
        for node, record in self.local.items():
            if record.enrolment == fact.leaf:
                del self.local[node]
                self._changed()
                break
        node = next((node for node, newer in self.newer.items() if any(one.keyed == fact.leaf for one in newer)), "")
        if node:
            self._forget_newer(node, fact.leaf)

    def _forget_newer(self, node: str, leaf: bytes) -> None:
        """Drop a newer key, and those that follow it; what it was to close is open again."""
        known = self.records(node)
        at = next(index for index, record in enumerate(known) if record.keyed == leaf)
        for record in known[max(at - 1, 0) :]:
            self.local_closings.pop((node, record.key), None)
        self.newest_recovery = self.recoveries
        self._keep_newer(node, {record.keyed for record in known[at:]})
        self._changed()

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
        if author.retired or self.is_revoked_key(author.node, author.key):
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
        held = view.node(invite.node)
        if invite.again:
            return None if held is not None and held.parent == invite.parent else "unknown_node"
        if held is not None:
            return "node_exists"
        if len(view.ancestors(invite.parent)) + 2 > limits.DEPTH_MAX:
            return "too_deep"
        return "too_many" if len(self.node_histories) >= limits.NODES_MAX else None

    def _fold_enrol(self, view: View, fact: Fact, fields: Enrol) -> str | None:
        invited = self._invites.get(fields.invite)
        if invited is None or fields.invite in self._used_invites:
            return "no_invite" if invited is None else "invite_used"
        held, again = view.node(fields.node), invited[1].again
        if held is not None and not again:
            return "node_exists"
        parent = view.node(invited[1].parent)
        if parent is None or parent.retired:
            return "parent_retired"
        record = self._enrolled(fields.invite, invited[0], invited[1], fact)
        if isinstance(record, str):
            return record
        if held is not None and any(one.key == record.key for one in self.node_histories[held.node].values):
            return "key_used"
        self._used_invites.add(fields.invite)
        self._put_node(view.number, record if held is None else _rekeyed(held, record))
        return None

    def _fold_key(self, view: View, fact: Fact, fields: NodeKey) -> str | None:
        held = view.node(fact.header.node)
        assert held is not None  # `_fold` asked
        reason = self._registered_only(held.node, lambda: self._rotation_fault(held, fields))
        if reason is None:
            self._close(held, fields)
            self._put_node(view.number, _with_key(held, fields, fact.leaf))
        return reason

    def _fold_recovery(self, view: View, fact: Fact, fields: Recovery) -> str | None:
        """The root's key, by the threshold of recovery keys. What the key before signed is trusted as far as it says."""
        held = view.node(self.root)
        assert held is not None  # the genesis made it
        reason = self._registered_only(
            held.node, lambda: self._recovery_fault(fact, fields, self.recoveries)
        )
        if reason is None:
            self.recoveries = fields.number
            self.newest_recovery = max(self.newest_recovery, fields.number)
            self._close(held, fields)
            self._put_node(view.number, _with_key(held, fields, fact.leaf))
        return reason

    def _close(self, held: NodeRecord, fields: NodeKey | Recovery) -> None:
        """Trust a node's key no further than its successor says."""
        self.closings[held.node, held.key] = dict(fields.closes)
        self.local_closings.pop((held.node, held.key), None)

    def _registered_only(self, node: str, judge: Callable[[], str | None]) -> str | None:
        """Judge without the newer keys known here only: everybody must come to the same verdict."""
        newer = self.newer.pop(node, None)
        try:
            return judge()
        finally:
            if newer is not None:
                self.newer[node] = newer

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
            fields.node,
            invite.name,
            invite.parent,
            fields.key,
            fields.seal_key,
            fact.leaf,
            tuple(invite.rights),
            keyed=fact.leaf,
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


def _with_key(held: NodeRecord, fields: NodeKey | Recovery, leaf: bytes) -> NodeRecord:
    """Return a node with its new keys."""
    return dataclasses.replace(held, key=fields.key, seal_key=fields.seal_key, keyed=leaf)


def _rekeyed(held: NodeRecord, newer: NodeRecord) -> NodeRecord:
    """Return a node with the keys of a newer record: name, parent and rights stay what the rules say."""
    return dataclasses.replace(
        held, key=newer.key, seal_key=newer.seal_key, enrolment=newer.enrolment, keyed=newer.keyed
    )


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
    "node.key": Rules._fold_key,  # noqa: SLF001
    "network.recovery": Rules._fold_recovery,  # noqa: SLF001
    "node.address": Rules._fold_address,  # noqa: SLF001
    "node.retire": Rules._fold_retire,  # noqa: SLF001
    "node.admit": Rules._fold_admit,  # noqa: SLF001
    "node.revoke": Rules._fold_revoke,  # noqa: SLF001
    "rights.grant": Rules._fold_grant,  # noqa: SLF001
    "rights.end": Rules._fold_grant_end,  # noqa: SLF001
    "catalogue.item": Rules._fold_item,  # noqa: SLF001
    "calendar.publish": Rules._fold_calendar,  # noqa: SLF001
}
