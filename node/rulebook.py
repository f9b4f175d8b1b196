"""The rules in the store: what makes `protocol.register.Rules` from entries, at start and as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node.store import facts, logs
from node.store.database import Connection
from protocol import limits
from protocol.errors import PeerError
from protocol.log import Header
from protocol.register import RULE_TYPES, Fact, Register, Right, Rules, read_register
from protocol.standing import is_closed, is_cut

REPLACING: Final = frozenset({"node.key", "network.recovery"})
KEYING: Final = REPLACING | {"node.enrol", "node.revoke"}  # they make keys known, or known as not to be trusted
ENROLLING: Final = KEYING | {"node.invite"}
AGAIN_MAX: Final = 1_000  # enrolments without effect that are looked at again at a time: a signature each, at worst
UPSETTING: Final = frozenset({"node.admit", "node.revoke"})  # they change how older entries stand


def note_facts(conn: Connection, rules: Rules, entries: Sequence[tuple[int, bytes, Header]]) -> None:
    """Remember rule entries among new ones: they wait for a register; an enrolment or rotation makes its key known at once.

    An enrolment whose invitation comes later makes it known then.

    Args:
        entries: (entry id, leaf hash, header).
    """
    stated = [one for one in entries if one[2].type in RULE_TYPES]
    if not stated:
        return
    facts.save(conn, [(entry_id, leaf) for entry_id, leaf, _ in stated])
    if any(header.type in ENROLLING for _, _, header in stated):
        note_enrolments(conn, rules)


def note_enrolments(conn: Connection, rules: Rules) -> None:
    """Make known whatever keys enrolments, rotations and recoveries give that no register took in yet, oldest first.

    One may rest on another that stands behind it; so it goes on until a round brings nothing, at most one round for each
    level of the tree. Of those without effect the oldest are tried again, up to a bound; the others wait for a register.
    """
    waiting = [one for one in facts.unregistered_facts(conn) if one.header.type in KEYING]
    for _ in range(limits.DEPTH_MAX):
        idle = [one for one in waiting if not rules.has_keyed(_keyed_node(one), one.leaf)]
        known = rules.enrolled
        for one in idle[:AGAIN_MAX]:
            _note_key(conn, rules, one)
        waiting = idle
        if rules.enrolled == known:
            return


def _keyed_node(fact: Fact) -> str:
    return str(fact.header.fields.get("node")) if fact.header.type == "node.enrol" else fact.header.node


def _note_key(conn: Connection, rules: Rules, fact: Fact) -> None:
    if is_behind(conn, rules, fact.leaf):
        return  # whoever signed this had the key no longer
    try:
        if fact.header.type == "node.revoke":
            rules.note_revocation(fact)
        elif fact.header.type == "node.key":
            rules.note_rotation(fact)
        elif fact.header.type == "network.recovery":
            rules.note_recovery(fact)
        else:
            _note_enrolment(conn, rules, fact)
    except PeerError:
        return  # kept, without effect; the register says why


def _note_enrolment(conn: Connection, rules: Rules, enrolment: Fact) -> None:
    invite = facts.find_by_link(conn, enrolment.header.fields.get("invite"))
    if invite is None:
        return  # it comes later, or the register brings both
    again = invite.header.fields.get("again") is True
    if (not again and rules.record(_keyed_node(enrolment)) is not None) or is_behind(conn, rules, invite.leaf):
        return
    if may_invite(rules, invite):
        rules.note_enrolment(invite, enrolment)


def is_behind(conn: Connection, rules: Rules, leaf: bytes) -> bool:
    """Tell whether a rule entry stands where its author's key was revoked or replaced, wherever it stands here."""
    place = facts.place_of(conn, leaf)
    if place is None:
        return False
    row, index = logs.load_log(conn, place[0]), place[1]
    return is_cut(rules, row.log, row.key, index, row.branch) or is_closed(rules, row.log, row.key, index)


def may_invite(rules: Rules, invite: Fact) -> bool:
    """Tell whether an invitation's author may enrol at the parent that it names: any node can write one into its log."""
    author, parent = invite.header.node, invite.header.fields.get("parent")
    if invite.leaf in rules.voids or not isinstance(parent, str):
        return False
    view = rules.now
    return (author == parent or view.above(author, parent)) and view.allows(author, Right.ENROL)


def take_register(conn: Connection, rules: Rules, entry_id: int, found: Register) -> set[str]:
    """Fold a register whose facts are all here, and remember that they are taken in.

    Returns:
        The nodes of whose entries the order or the cut may have changed.

    Raises:
        DecodeError: it does not follow the newest one held, or a fact is missing.
    """
    stated = [fact for leaf in found.facts if (fact := facts.find(conn, leaf)) is not None]
    rules.take(found, stated)
    facts.save_register(conn, found.number, entry_id, found.facts)
    note_enrolments(conn, rules)  # it may have brought the right of an inviter
    upset = {str(fact.header.fields.get("node")) for fact in stated if fact.header.type in UPSETTING}
    replaced = {fact.header.node for fact in stated if fact.header.type in REPLACING}
    return upset | {node for node in replaced if _has_cut_entries(conn, rules, node)}


def _has_cut_entries(conn: Connection, rules: Rules, node: str) -> bool:
    """Tell whether entries are here that a node's replaced key signed behind its end: seldom so, and then cases change."""
    return any(
        is_cut(rules, row.log, row.key, logs.last_index(conn, row.id), row.branch)
        for row in logs.logs_of(conn, [node])
    )


def load_rules(conn: Connection) -> Rules:
    """Fold what the store holds: the genesis, every register in order, then enrolments not registered yet."""
    rules = Rules()
    for number, entry in facts.load_registers(conn):
        if number == 0:
            rules.open(entry)
            continue
        found = read_register(entry.leaf, entry.header, entry.body or b"")
        rules.take(found, [fact for leaf in found.facts if (fact := facts.find(conn, leaf)) is not None])
    note_enrolments(conn, rules)
    return rules
