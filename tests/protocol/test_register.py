"""One order for all rules: what has effect, what is void and why, and that nothing later changes what was so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, keys, limits
from protocol.calendar import header_fields, parse_calendar, to_body
from protocol.errors import DecodeError, SignatureInvalid
from protocol.facts import Right
from protocol.log import Header
from protocol.register import Fact, Register, Rules, join_message, read_register
from tests.protocol.network import (
    CITY,
    EAST,
    START,
    TOWN,
    VILLAGE,
    WEST,
    WEST_DEPT,
    Log,
    Net,
    city,
    genesis_fields,
    key_of,
    recovery_fields,
    rotation_fields,
    seal_key_of,
    successor,
)

OTHER = "650102001002"
STRANGER = "650104000000"


# --- genesis


def genesis(**changes: Any) -> Fact:
    return Log(CITY, key_of(CITY)).state("network.genesis", genesis_fields(**changes)).fact


def test_genesis_is_register_zero() -> None:
    """Its leaf hash is the network id, its node the root with all rights."""
    rules = Rules()
    rules.open(genesis())
    assert rules.basis == (0, genesis().leaf[:8])
    assert rules.root == CITY
    assert all(rules.now.allows(CITY, Right(right)) for right in ("enrol", "supervise", "publish"))


@pytest.mark.parametrize(
    "changes",
    [
        {"node": EAST},
        {"node": "nobody"},
        {"threshold": 0},
        {"threshold": 4},
        {"recovery": []},
        {"recovery": [key_of("r").public] * 2},
        {"recovery": [key_of("r").public] * 17},
        {"seal_key": b"\0" * 32},
    ],
)
def test_a_genesis_that_cannot_hold_is_refused(changes: dict[str, Any]) -> None:
    """Another author, no node, a threshold out of reach, one key twice, a dead sealing key."""
    rules = Rules()
    with pytest.raises(DecodeError):
        rules.open(genesis(**changes))
    assert not rules.registers


@pytest.mark.parametrize("changes", [{"key": b"\1" + b"\0" * 31}, {"recovery": [b"\0" * 32], "threshold": 1}])
def test_a_genesis_with_a_weak_key_is_refused(changes: dict[str, Any]) -> None:
    """With a key of small order one signature would fit everything."""
    with pytest.raises(SignatureInvalid):
        Rules().open(genesis(**changes))


def test_a_network_begins_once() -> None:
    """A second genesis, or another entry in its place, begins nothing."""
    net = Net()
    with pytest.raises(DecodeError):
        net.rules.open(genesis(name="二"))
    with pytest.raises(DecodeError):
        Rules().open(Fact(b"l" * 32, net.root.state("node.retire", {"node": CITY}).header))
    net.waiting.append(net.root.entries[0].fact)
    net.register()
    assert net.rules.voids == {}  # the genesis again: counted at its first place


# --- the chain of registers


def taken(net: Net, number: int, before: bytes, facts: list[Fact], author: str = CITY) -> Register:
    stated = net.write_register(number, before, facts, author)
    return read_register(stated.leaf, stated.header, stated.entry.body or b"")


def test_registers_follow_one_another() -> None:
    """A number left out or repeated, a broken chain, a fact missing, a stranger's register: refused, nothing changed."""
    net = city()
    net.item("a", CITY)
    fact = net.waiting[0]
    number, leaf = net.rules.number, net.rules.registers[-1].leaf
    before = (net.rules.number, net.rules.changes, dict(net.rules.voids))
    wrong = [
        (taken(net, number + 2, leaf, [fact]), [fact]),
        (taken(net, number, net.rules.registers[-2].leaf, [fact]), [fact]),
        (taken(net, number + 1, b"x" * 32, [fact]), [fact]),
        (taken(net, number + 1, leaf, [fact]), []),
        (taken(net, number + 1, leaf, [fact]), [fact, fact]),
        (taken(net, number + 1, leaf, []), [fact]),
        (taken(net, number + 1, leaf, [fact], author=EAST), [fact]),
    ]
    for register, facts in wrong:
        with pytest.raises(DecodeError):
            net.rules.take(register, facts)
    assert (net.rules.number, net.rules.changes, dict(net.rules.voids)) == before
    net.rules.take(taken(net, number + 1, leaf, [fact]), [fact])
    assert net.rules.now.item("a") is not None
    with pytest.raises(DecodeError):
        Rules().take(taken(net, 1, leaf, []), [])


def test_a_fact_counts_once() -> None:
    """A register that lists an ended grant again revives nothing, and no earlier view changes."""
    net = city()
    net.item("a", WEST)
    net.register()
    grant = net.fact(WEST, "rights.grant", {"to": STRANGER, "right": "receive", "items": ["a"]})
    assert net.void(grant) == "malformed"  # to a node that is not there
    grant = net.fact(WEST, "rights.grant", {"to": EAST, "right": "decide", "items": ["a"]})
    assert net.void(grant) == ""
    end = net.fact(WEST, "rights.end", {"grant": grant.link})
    assert net.void(end) == ""
    number = net.rules.number
    net.register([grant])
    assert [
        net.rules.at(n).allows_item(EAST, Right.DECIDE, "a", "2026-01-01") for n in range(number - 2, number + 2)
    ] == [
        False,
        True,
        False,
        False,
    ]


def test_unknown_types_and_authors_are_void() -> None:
    """What a later program states, or a node that no register knows, has no effect here."""
    net = city()
    assert net.void(net.fact(CITY, "node.rename", {"node": EAST})) == "unknown_type"
    assert net.void(net.fact(CITY, "node.retire", {"nobody": 1})) == "malformed"
    net.logs[STRANGER] = Log(STRANGER, key_of(STRANGER), net.root.network)
    assert net.void(net.fact(STRANGER, "node.retire", {"node": EAST})) == "unknown_author"


# --- invitations and enrolments


@pytest.mark.parametrize(
    ("author", "changes", "reason"),
    [
        (TOWN, {}, ""),
        (EAST, {}, ""),
        (CITY, {}, ""),
        (WEST, {}, "not_above"),
        (VILLAGE, {}, "not_above"),
        (VILLAGE, {"parent": VILLAGE}, "no_right"),
        (TOWN, {"parent": STRANGER}, "not_above"),
        (TOWN, {"node": "nobody"}, "bad_node_id"),
        (TOWN, {"node": VILLAGE}, "node_exists"),
        (TOWN, {"node": TOWN}, "node_exists"),
        (TOWN, {"rights": ["decide"]}, "no_right"),
        (TOWN, {"rights": ["enrol", "enrol"]}, "no_right"),
        (TOWN, {"expires": -1}, "malformed"),
    ],
)
def test_who_may_invite(author: str, changes: dict[str, Any], reason: str) -> None:
    """The parent or who stands above it, with the right to enrol, gives no more than it has."""
    net = city()
    invite = net.invite(OTHER, TOWN, author=author, **changes)
    assert net.void(invite.fact) == reason


def test_nobody_gives_rights_that_it_lacks() -> None:
    """A hub that may only enrol cannot make a node that may publish."""
    net = city()
    net.join(STRANGER, CITY, rights=["enrol"])
    net.register()
    assert net.void(net.invite("650104001000", STRANGER, rights=["publish"]).fact) == "no_right"
    assert net.void(net.invite("650104001000", STRANGER, rights=["enrol"]).fact) == ""


def test_the_tree_has_a_depth() -> None:
    """Sixteen tiers are enough for any country."""
    net = Net()
    above, parent = [CITY], CITY
    for level in range(limits.DEPTH_MAX):
        node = f"6501{level + 2:02}000000"
        invite = net.invite(node, parent)
        reason = net.void(invite.fact)
        if reason:
            assert (reason, len(above)) == ("too_deep", limits.DEPTH_MAX)
            return
        net.logs[node] = Log(node, key_of(node), net.root.network)
        assert net.void(net.enrol(node, invite).fact) == ""
        parent = node
        above.append(node)
    pytest.fail("no bound")


def test_the_first_enrolment_for_an_invitation_holds() -> None:
    """Two machines with one code: the second is void, and so is a second invitation's for the same node."""
    net = city()
    first, second = net.invite(OTHER, TOWN), net.invite(OTHER, TOWN, author=EAST)
    net.register()
    held = net.enrol(OTHER, first)
    again = net.enrol(OTHER, first, key=key_of("thief").public)
    rival = net.enrol(OTHER, second)
    net.register()
    assert net.rules.voids == {again.leaf: "invite_used", rival.leaf: "node_exists"}
    assert net.rules.record(OTHER).enrolment == held.leaf  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": key_of("thief").public}, "bad_proof"),
        ({"proof": b"p" * 64}, "bad_proof"),
        ({"certificate": b"c" * 32}, "bad_proof"),
        ({"challenge": b"c" * 32}, "bad_proof"),
        ({"seal_key": b"\0" * 32}, "bad_proof"),
        ({"suite": 2}, "bad_proof"),
        ({"key": b"\1" + b"\0" * 31}, "bad_proof"),
        ({"node": STRANGER}, "not_this_invite"),
        ({"invite": b"i" * 16}, "no_invite"),
        ({"proof": b"short"}, "malformed"),
    ],
)
def test_a_forged_enrolment_is_void(changes: dict[str, Any], reason: str) -> None:
    """The code's seed signs node, keys, challenge and certificate; nothing of it can be exchanged."""
    net = city()
    invite = net.invite(OTHER, TOWN)
    net.register()
    assert net.void(net.enrol(OTHER, invite, **changes).fact) == reason
    assert net.rules.record(OTHER) is None


def test_an_enrolment_is_the_inviters_or_the_parents_to_state() -> None:
    """Another hub, or a code whose time is over, enrols nobody."""
    net = city()
    invite = net.invite(OTHER, TOWN, author=CITY)
    late = net.invite("650102001003", TOWN, expires=START)
    net.register()
    assert net.void(net.enrol(OTHER, invite, author=EAST).fact) == "not_this_invite"
    assert net.void(net.enrol("650102001003", late).fact) == "expired"
    assert net.void(net.enrol(OTHER, invite, author=CITY).fact) == ""


def test_nobody_joins_below_a_retired_node() -> None:
    """Neither by a new invitation nor by one given before; and a retired node states no rules."""
    net = city()
    invite = net.invite(OTHER, TOWN, author=EAST)
    net.register()
    net.fact(EAST, "node.retire", {"node": TOWN})
    net.register()
    assert net.void(net.enrol(OTHER, invite, author=EAST).fact) == "parent_retired"
    assert net.void(net.invite(OTHER, TOWN, author=EAST).fact) == "parent_retired"
    assert net.void(net.invite(OTHER, TOWN).fact) == "author_retired"


def test_a_node_cannot_stand_below_itself() -> None:
    """A parent must be there before its child, so no circle can arise."""
    net = city()
    assert net.void(net.invite(OTHER, OTHER, author=CITY).fact) == "not_above"
    one, two = net.invite(OTHER, "650102001003", author=CITY), net.invite("650102001003", OTHER, author=CITY)
    net.register()
    assert set(net.rules.voids.values()) == {"not_above"}
    for invite in (one, two):
        with pytest.raises(DecodeError, match="not_above"):
            net.rules.note_enrolment(invite.fact, net.enrol(invite.header.fields["node"], invite, author=CITY).fact)


# --- enrolments that no register has yet


def test_an_enrolment_is_known_before_its_register() -> None:
    """Its key counts at once; the register then says the same."""
    net = city()
    invite = net.invite(OTHER, TOWN)
    enrolment = net.enrol(OTHER, invite)
    before = net.rules.changes
    record = net.rules.note_enrolment(invite.fact, enrolment.fact)
    assert net.rules.record(OTHER) == record == net.rules.note_enrolment(invite.fact, enrolment.fact)
    assert net.rules.changes == before + 1
    net.register()
    assert net.rules.record(OTHER) == record
    assert net.rules.local == {}
    assert net.rules.note_enrolment(invite.fact, enrolment.fact) == record


def test_what_a_register_found_void_is_forgotten() -> None:
    """A hub without the right enrols provisionally at most; all nodes agree once it is numbered."""
    net = city()
    net.fact(CITY, "rights.grant", {"to": VILLAGE, "right": "enrol"})
    net.register()
    invite = net.invite(OTHER, VILLAGE)
    enrolment = net.enrol(OTHER, invite)
    net.rules.note_enrolment(invite.fact, enrolment.fact)
    grant = net.registers[-1][1][0]
    end = net.fact(CITY, "rights.end", {"grant": grant.link})
    net.waiting.insert(0, net.waiting.pop())  # the end arrived first
    net.register()
    assert net.rules.voids == {invite.leaf: "malformed"} | {invite.leaf: "no_right", enrolment.leaf: "no_invite"}
    assert end.leaf not in net.rules.voids
    assert net.rules.record(OTHER) is None
    with pytest.raises(DecodeError, match="no_right"):
        net.rules.note_enrolment(invite.fact, enrolment.fact)


def test_a_provisional_enrolment_is_checked_too() -> None:
    """Not an invitation, a wrong proof, an inviter beside the parent or revoked: the key stays unknown."""
    net = city()
    invite = net.invite(OTHER, TOWN)
    enrolment = net.enrol(OTHER, invite)
    with pytest.raises(DecodeError):
        net.rules.note_enrolment(enrolment.fact, enrolment.fact)
    with pytest.raises(DecodeError, match="malformed"):
        net.rules.note_enrolment(invite.fact, net.fact(TOWN, "node.retire", {"node": OTHER}))
    with pytest.raises(DecodeError, match="bad_proof"):
        net.rules.note_enrolment(invite.fact, net.enrol(OTHER, invite, code="guess").fact)
    beside = net.invite(OTHER, TOWN, author=WEST)
    with pytest.raises(DecodeError, match="not_above"):
        net.rules.note_enrolment(beside.fact, net.enrol(OTHER, beside).fact)
    weak = net.invite(OTHER, VILLAGE)
    with pytest.raises(DecodeError, match="no_right"):
        net.rules.note_enrolment(weak.fact, net.enrol(OTHER, weak).fact)
    net.waiting.clear()
    revoke(net, TOWN, EAST)
    with pytest.raises(DecodeError, match="author_revoked"):
        net.rules.note_enrolment(invite.fact, enrolment.fact)
    assert net.rules.record(OTHER) is None


def test_registers_are_judged_by_registers_alone() -> None:
    """Two nodes, one of which heard of an enrolment early, come to the same verdicts."""
    net = city()
    invite = net.invite(OTHER, TOWN)
    enrolment = net.enrol(OTHER, invite)
    net.waiting.clear()
    net.logs[OTHER] = Log(OTHER, key_of(OTHER), net.root.network)
    early = Rules()
    early.open(net.root.entries[0].fact)
    for register, facts in net.registers:
        early.take(register, facts)
    early.note_enrolment(invite.fact, enrolment.fact)
    assert early.now.allows(OTHER, Right.PUBLISH)
    fact = net.item("a", OTHER)
    net.register()
    early.take(*net.registers[-1])
    assert early.voids == net.rules.voids == {fact.leaf: "unknown_author"}


# --- addresses, retirement, admission, revocation


def test_addresses_are_the_nodes_own() -> None:
    """A node states where it is reached; the newest counts, older views keep the older."""
    net = city()
    net.fact(EAST, "node.address", {"addresses": ["10.0.0.1:1"]})
    net.register()
    number = net.rules.number
    net.fact(EAST, "node.address", {"addresses": ["10.0.0.2:1", "10.0.0.3:1"]})
    net.register()
    assert net.rules.at(number).node(EAST).addresses == ("10.0.0.1:1",)  # type: ignore[union-attr]
    assert net.rules.record(EAST).addresses == ("10.0.0.2:1", "10.0.0.3:1")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("author", "node", "reason"),
    [
        (EAST, VILLAGE, ""),
        (WEST, VILLAGE, "not_above"),
        (VILLAGE, VILLAGE, "not_above"),
        (CITY, STRANGER, "unknown_node"),
    ],
)
def test_who_may_retire(author: str, node: str, reason: str) -> None:
    """A node above; never the node itself or a neighbour."""
    net = city()
    assert net.void(net.fact(author, "node.retire", {"node": node})) == reason
    assert net.rules.record(VILLAGE).retired == (not reason)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("author", "node", "sizes", "reason"),
    [
        (TOWN, VILLAGE, [(b"A" * 16, 3)], ""),
        (CITY, CITY, [(b"A" * 16, 3)], ""),
        (VILLAGE, VILLAGE, [], "not_above"),
        (WEST, VILLAGE, [], "not_above"),
        (TOWN, VILLAGE, [(b"B" * 16, 3)], "malformed"),
        (TOWN, VILLAGE, [(b"A" * 16, 3), (b"A" * 16, 4)], "malformed"),
        (TOWN, VILLAGE, [(b"A" * 16, -1)], "malformed"),
    ],
)
def test_who_may_admit(author: str, node: str, sizes: list[tuple[bytes, int]], reason: str) -> None:
    """An ancestor, and the root its own; the older incarnations each once."""
    net = city()
    fields = {"node": node, "incarnation": b"B" * 16, "sizes": [list(one) for one in sizes]}
    assert net.void(net.fact(author, "node.admit", fields)) == reason
    assert len(net.rules.admissions.get(node, ())) == (not reason)


def test_the_first_admission_counts() -> None:
    """A second one of the same incarnation changes no order."""
    net = city()
    for author, reason in ((TOWN, ""), (EAST, "admitted_before")):
        fields = {"node": VILLAGE, "incarnation": b"B" * 16, "sizes": []}
        assert net.void(net.fact(author, "node.admit", fields)) == reason


def revoke(net: Net, node: str, author: str) -> str:
    record = net.rules.record(node)
    assert record is not None
    return net.void(net.fact(author, "node.revoke", {"node": node, "key": record.key, "cuts": []}))


def test_who_may_revoke() -> None:
    """Only a node above; and whose key is revoked states no rules any more."""
    net = city()
    assert revoke(net, VILLAGE, WEST) == "not_above"
    assert revoke(net, VILLAGE, VILLAGE) == "not_above"
    assert not net.rules.revocations
    assert revoke(net, EAST, CITY) == ""
    assert net.void(net.invite(OTHER, TOWN, author=EAST).fact) == "author_revoked"
    assert net.void(net.invite(OTHER, TOWN).fact) == ""


# --- rights


@pytest.mark.parametrize(
    ("author", "fields", "reason"),
    [
        (WEST, {"to": f"{EAST}/*", "right": "receive", "items": ["a"]}, ""),
        (CITY, {"to": f"{EAST}/*", "right": "receive", "items": ["a"]}, ""),
        (CITY, {"to": EAST, "right": "receive"}, ""),
        (WEST, {"to": EAST, "right": "receive"}, "no_right"),
        (EAST, {"to": EAST, "right": "receive", "items": ["a"]}, "no_right"),
        (WEST_DEPT, {"to": EAST, "right": "receive", "items": ["a"]}, "no_right"),
        (WEST, {"to": EAST, "right": "receive", "items": ["a", "none"]}, "no_right"),
        (WEST, {"to": WEST_DEPT, "right": "publish"}, ""),
        (WEST, {"to": WEST, "right": "publish"}, "no_right"),
        (WEST, {"to": VILLAGE, "right": "publish"}, "no_right"),
        (WEST, {"to": WEST_DEPT, "right": "publish", "items": ["a"]}, "malformed"),
        (WEST, {"to": WEST_DEPT, "right": "publish", "valid_to": "2026-12-31"}, "malformed"),
        (WEST, {"to": EAST, "right": "rule", "items": ["a"]}, "malformed"),
        (WEST, {"to": STRANGER, "right": "receive", "items": ["a"]}, "malformed"),
        (WEST, {"to": EAST, "right": "receive", "items": ["a"], "valid_from": "tomorrow"}, "malformed"),
    ],
)
def test_who_may_grant(author: str, fields: dict[str, Any], reason: str) -> None:
    """Who rules over the items' owners grants for them; hub rights go down only, from who has them, without dates."""
    net = city()
    net.item("a", WEST)
    net.register()
    assert net.void(net.fact(author, "rights.grant", fields)) == reason


def test_a_grant_holds_from_its_register_to_its_end() -> None:
    """Dates are legal dates; an end holds for later bases only, and is the granter's or a node's above it."""
    net = city()
    net.item("a", WEST, receive=[], decide=[WEST])
    net.register()
    fields = {
        "to": f"{EAST}/*",
        "right": "receive",
        "items": ["a"],
        "valid_from": "2026-02-01",
        "valid_to": "2026-02-28",
    }
    grant = net.fact(WEST, "rights.grant", fields)
    net.register()
    number = net.rules.number
    assert net.void(net.fact(EAST, "rights.end", {"grant": grant.link})) == "not_above"
    assert net.void(net.fact(CITY, "rights.end", {"grant": b"x" * 16})) == "no_such_grant"
    assert net.void(net.fact(CITY, "rights.end", {"grant": grant.link})) == ""
    assert net.void(net.fact(WEST, "rights.end", {"grant": grant.link})) == ""  # again: the first end counts
    ended = net.rules.number - 1
    days = ("2026-01-31", "2026-02-01", "2026-02-28", "2026-03-01")
    assert [net.rules.at(number).allows_item(VILLAGE, Right.RECEIVE, "a", day) for day in days] == [
        False,
        True,
        True,
        False,
    ]
    allowed = [
        net.rules.at(n).allows_item(VILLAGE, Right.RECEIVE, "a", "2026-02-10") for n in range(net.rules.number + 1)
    ]
    assert allowed == [number <= n < ended for n in range(net.rules.number + 1)]


# --- items and calendars


@pytest.mark.parametrize(
    ("author", "changes", "reason"),
    [
        (WEST, {"version": 2}, ""),
        (CITY, {"version": 2}, ""),
        (CITY, {"version": 2, "owner": EAST}, ""),
        (EAST, {"version": 2, "owner": EAST}, "not_owner"),
        (WEST, {"version": 1}, "not_newer"),
        (WEST, {"version": 2, "owner": EAST}, "no_right"),
        (WEST_DEPT, {"version": 2, "owner": WEST_DEPT}, "no_right"),
        (EAST, {"code": "b", "owner": STRANGER}, "no_right"),
        (WEST, {"version": 2, "receive": ["nobody/*"]}, "malformed"),
    ],
)
def test_who_may_publish_an_item(author: str, changes: dict[str, Any], reason: str) -> None:
    """With the right to publish, for oneself or below, and only who ruled over the item before."""
    net = city()
    net.item("a", WEST)
    net.register()
    assert net.void(net.item("a", WEST, author=author, **changes)) == reason


def test_an_item_has_a_text() -> None:
    """A head without a body could never be shown."""
    net = city()
    good = net.item("a", WEST)
    assert net.void(net.fact(WEST, "catalogue.item", good.header.fields)) == "malformed"


CALENDAR = {
    "format": "tongban-calendar/1",
    "region": EAST,
    "version": 1,
    "name": "东区",
    "valid_from": "2026-01-01",
    "valid_through": "2026-12-31",
    "weekday_off": ["2026-01-01"],
    "weekend_work": [],
}


def publish(net: Net, author: str, *, head: dict[str, Any] | None = None, **changes: Any) -> str:
    calendar = parse_calendar({**CALENDAR, **changes}, "test")
    fact = net.fact(author, "calendar.publish", {**header_fields(calendar), **(head or {})}, to_body(calendar))
    return net.void(fact)


def test_who_may_publish_a_calendar() -> None:
    """A node with the right, for its own region; newer versions only, and days that are what the header says."""
    net = city()
    assert publish(net, EAST) == ""
    assert publish(net, EAST) == "not_newer"
    assert publish(net, EAST, version=2) == ""
    assert publish(net, EAST, region=WEST) == "no_right"
    assert publish(net, WEST, version=3) == "no_right"
    assert publish(net, VILLAGE, region=VILLAGE) == "no_right"
    assert publish(net, CITY, region="000000000000") == ""
    assert publish(net, EAST, version=9, head={"version": 4}) == "malformed"
    assert (
        net.void(net.fact(EAST, "calendar.publish", {**header_fields(parse_calendar(CALENDAR, "")), "version": 9}))
        == "malformed"
    )
    assert [record.head.region for record in net.rules.now.calendars()] == ["000000000000", EAST]
    assert net.rules.now.calendar(EAST).head.version == 2  # type: ignore[union-attr]


def test_a_calendar_whose_days_are_not_here_waits() -> None:
    """A verdict never hangs on what a relay left out: the register is refused until all is there."""
    net = city()
    calendar = parse_calendar(CALENDAR, "")
    fact = net.fact(EAST, "calendar.publish", header_fields(calendar), to_body(calendar))
    register = taken(net, net.rules.number + 1, net.rules.registers[-1].leaf, [fact])
    with pytest.raises(DecodeError, match="missing"):
        net.rules.take(register, [Fact(fact.leaf, fact.header)])
    net.rules.take(register, [fact])
    assert net.rules.now.calendar(EAST) is not None


# --- the rule above all


def answers(rules: Rules, number: int) -> list[object]:
    """Return everything that a view says of the nodes that were there."""
    view = rules.at(number)
    nodes = [CITY, EAST, WEST, WEST_DEPT, TOWN, VILLAGE]
    found: list[object] = [view.node(node) for node in nodes]
    found += [view.ancestors(node) for node in nodes]
    found += [view.allows(node, right) for node in nodes for right in (Right.ENROL, Right.SUPERVISE, Right.PUBLISH)]
    days = ("2026-01-15", "2026-02-15")
    found += [view.allows_item(node, right, "a", day) for node in nodes for right in Right for day in days]
    return [*found, view.item("a"), view.item_version("a", 2), [record.node for record in view.nodes()]]


@given(st.lists(st.tuples(st.sampled_from("gfreinpad"), st.sampled_from([CITY, EAST, WEST, TOWN])), max_size=8))
def test_a_view_never_changes(steps: list[tuple[str, str]]) -> None:
    """Whatever later registers take in, every earlier view says what it said."""
    net = city()
    seen = {number: answers(net.rules, number) for number in range(net.rules.number + 1)}
    for step, author in steps:
        _state_something(net, step, author)
        net.register()
        seen[net.rules.number] = answers(net.rules, net.rules.number)
        for number, said in seen.items():
            assert answers(net.rules, number) == said


def _state_something(net: Net, step: str, author: str) -> None:
    if step == "g":
        net.fact(
            author, "rights.grant", {"to": f"{EAST}/*", "right": "decide", "items": ["a"], "valid_to": "2026-01-31"}
        )
    elif step == "f":
        net.fact(author, "rights.grant", {"to": f"{TOWN}", "right": "publish"})
    elif step == "r":
        net.fact(author, "node.retire", {"node": TOWN})
    elif step == "e":
        for _, facts in net.registers:
            for fact in facts:
                if fact.header.type == "rights.grant":
                    net.fact(author, "rights.end", {"grant": fact.link})
    elif step == "i":
        net.item("a", WEST, author=author, version=net.rules.number)
    elif step == "n":
        node = f"65010{5 + net.rules.number % 5}000000"
        invite = net.invite(node, author)
        net.enrol(node, invite)
    elif step == "p":
        net.waiting += [fact for _, facts in net.registers for fact in facts][:3]
    elif step == "a":
        net.fact(author, "node.address", {"addresses": [f"10.0.0.{net.rules.number}:1"]})
    else:
        net.fact(author, "node.revoke", {"node": VILLAGE, "key": key_of(VILLAGE).public, "cuts": []})


@given(st.sampled_from(["node.invite", "rights.grant", "catalogue.item", "node.admit", "calendar.publish"]), st.data())
def test_hostile_facts_never_break_the_fold(type_: str, data: st.DataObject) -> None:
    """Any fields that a header may hold are folded or void."""
    anything = st.none() | st.integers(-1, 5) | st.text(max_size=4) | st.binary(max_size=33) | st.just([f"{EAST}/*"])
    fields = data.draw(
        st.dictionaries(st.sampled_from(["node", "to", "right", "items", "owner", "region", "sizes"]), anything)
    )
    net = city()
    net.void(net.fact(EAST, type_, fields, data.draw(st.none() | st.just({"a": 1}))))
    assert net.rules.number == 6


def test_facts_are_values() -> None:
    """A fact is named by the first half of its leaf hash."""
    header = Header(1, 1, CITY, "x", None, None, 0, None, 0, None, None, None, None, (), (), {})
    assert Fact(b"a" * 16 + b"b" * 16, header).link == b"a" * 16
    assert codec.encode([]) == b"\x90"


# --- keys: rotation, re-enrolment, recovery


def rotated(net: Net, node: str, old: str, new: str) -> Fact:
    """Let a node state its new key as the last entry of its log, and go on in another."""
    log = net.logs[node]
    fields = rotation_fields(net, node, old, new, [(log.incarnation, len(log.entries) + 1)])
    fact = net.fact(node, "node.key", fields)
    net.logs[node] = successor(log, new)
    return fact


def key_names(rules: Rules, node: str) -> list[bytes]:
    return [record.key for record in rules.records(node)]


def test_a_new_key_is_known_before_and_after_its_register() -> None:
    """At once where it arrives, everywhere once a register has it; the old one stays known for what it signed."""
    net = city()
    fact = rotated(net, TOWN, TOWN, "town 2")
    for _ in range(2):
        assert net.rules.note_rotation(fact).key == key_of("town 2").public
    assert not net.rules.closings
    net.register()
    assert net.rules.newer == {}
    assert key_names(net.rules, TOWN) == [key_of(TOWN).public, key_of("town 2").public]
    for name in (TOWN, "town 2"):
        assert net.rules.key_of(TOWN, key_of(name).id) == key_of(name).public
    assert net.rules.key_of(TOWN, key_of("thief").id) is None
    assert net.rules.closings == {(TOWN, key_of(TOWN).public): {Log(TOWN, key_of(TOWN)).incarnation: 3}}
    record = net.rules.record(TOWN)
    assert record is not None
    assert (record.parent, record.seal_key, record.rights) == (EAST, seal_key_of("town 2"), net.rules.at(0).standing(TOWN).rights)  # type: ignore[union-attr]


def test_a_stolen_old_key_rotates_nothing() -> None:
    """Rolled back to the old key, forked from it, or signed by one key only: void, and the key stands."""
    net = city()
    log = net.logs[TOWN]
    rotated(net, TOWN, TOWN, "town 2")
    net.register()
    net.logs[TOWN] = log  # the thief goes on where the old key was
    for old, new, reason in (
        (TOWN, "thief", "not_its_key"),
        ("town 2", TOWN, "key_used"),
        ("thief", "town 2", "not_its_key"),
    ):
        fact = net.fact(TOWN, "node.key", rotation_fields(net, TOWN, old, new, []))
        with pytest.raises(DecodeError, match=reason):
            net.rules.note_rotation(fact)
        assert net.void(fact) == reason
    half = {**rotation_fields(net, TOWN, "town 2", "thief", []), "by_old": bytes(64)}
    assert net.void(net.fact(TOWN, "node.key", half)) == "bad_proof"
    assert net.rules.record(TOWN).key == key_of("town 2").public  # type: ignore[union-attr]


def test_of_two_rotations_the_registers_first_holds() -> None:
    """Two nodes that heard different ones first agree once the register is there; what hung on the other is forgotten."""
    net = city()
    log = net.logs[TOWN]
    mine, theirs = rotated(net, TOWN, TOWN, "town 2"), net.fact(TOWN, "node.key", rotation_fields(net, TOWN, "town 2", "town 3", []))
    net.logs[TOWN] = log
    rival = net.fact(TOWN, "node.key", rotation_fields(net, TOWN, TOWN, "rival", []))
    assert net.rules.note_rotation(rival).key == key_of("rival").public
    with pytest.raises(DecodeError, match="not_its_key"):
        net.rules.note_rotation(mine)
    net.waiting.clear()
    net.register([mine, rival])
    assert net.rules.voids[rival.leaf] == "not_its_key"
    assert (net.rules.newer, net.rules.local_closings) == ({}, {})
    assert net.rules.note_rotation(theirs).key == key_of("town 3").public
    with pytest.raises(DecodeError, match="not_its_key"):
        net.rules.note_rotation(rival)


def test_what_a_register_says_of_a_node_reaches_its_newer_key() -> None:
    """An address stated meanwhile is not lost, and the key stays the newer one until its own register."""
    net = city()
    net.rules.note_rotation(rotated(net, TOWN, TOWN, "town 2"))
    waiting, net.waiting = net.waiting, []
    net.fact(TOWN, "node.address", {"addresses": ["10.0.0.9:9527"]})
    net.register()
    record = net.rules.record(TOWN)
    assert record is not None
    assert (record.addresses, record.key) == (("10.0.0.9:9527",), key_of("town 2").public)
    net.register(waiting)
    assert net.rules.record(TOWN) == record
    assert net.rules.newer == {}


def test_a_revoked_key_rotates_nothing() -> None:
    """What a thief states after the revocation has no effect, whoever else signed."""
    net = city()
    net.fact(EAST, "node.revoke", {"node": TOWN, "key": key_of(TOWN).public, "cuts": []})
    net.register()
    assert net.void(rotated(net, TOWN, TOWN, "thief")) == "author_revoked"


def again(net: Net, node: str, new: str, **changes: Any) -> Fact:
    """Invite a node once more and enrol its new machine."""
    author = net.rules.record(node).parent  # type: ignore[union-attr]
    invite = net.invite(node, changes.pop("parent", author), author=changes.pop("author", author), again=True, **changes)
    fields = net.enrol_fields(node, invite.link, f"code of {node}")
    public, seal_key = key_of(new).public, seal_key_of(new)
    message = join_message(node, public, seal_key, fields["challenge"], fields["certificate"])
    proof = key_of(f"code of {node}").sign(keys.SignedKind.JOIN, net.root.network, message)
    return net.fact(invite.header.node, "node.enrol", {**fields, "key": public, "seal_key": seal_key, "proof": proof})


def test_a_rebuilt_machine_is_enrolled_again() -> None:
    """Same id, place, name and rights; a new key. A revoked one before does not hinder."""
    net = city()
    before = net.rules.record(TOWN)
    net.fact(EAST, "node.revoke", {"node": TOWN, "key": key_of(TOWN).public, "cuts": []})
    fact = again(net, TOWN, "town 2", name="别名", rights=[])
    net.register()
    record = net.rules.record(TOWN)
    assert net.rules.voids == {}
    assert before is not None
    assert record is not None
    assert (record.key, record.enrolment, record.keyed) == (key_of("town 2").public, fact.leaf, fact.leaf)
    assert (record.name, record.parent, record.rights) == (before.name, before.parent, before.rights)
    assert not net.rules.is_revoked(TOWN)
    assert net.void(net.fact(TOWN, "node.address", {"addresses": ["a:1"]})) == ""


def test_an_enrolment_again_is_known_at_once() -> None:
    """While the root is away, at the parent that enrolled it."""
    net = city()
    fact = again(net, TOWN, "town 2")
    invite = net.waiting[-2]
    for _ in range(2):
        assert net.rules.note_enrolment(invite, fact).key == key_of("town 2").public
    assert net.rules.enrolled == len(net.rules.node_histories) + 1
    net.register()
    assert net.rules.newer == {}
    assert net.rules.record(TOWN).key == key_of("town 2").public  # type: ignore[union-attr]


def test_nobody_is_enrolled_again_elsewhere_or_with_an_old_key() -> None:
    """Only under its own parent, only a node that is there, never with a key that it had, and never without saying so."""
    net = city()
    assert net.void(net.invite(STRANGER, EAST, again=True).fact) == "unknown_node"
    assert net.void(net.invite(TOWN, WEST, author=CITY, again=True).fact) == "unknown_node"
    assert net.void(net.invite(TOWN, EAST, author=WEST, again=True).fact) == "not_above"
    assert net.void(net.invite(TOWN, EAST).fact) == "node_exists"
    fact = again(net, TOWN, TOWN)
    net.register()
    assert net.rules.voids[fact.leaf] == "key_used"


def recovered(net: Net, new: str, **changes: Any) -> Fact:
    """State a recovery in the root's next log, under its new key."""
    log = net.root
    fields = recovery_fields(net, new, [(log.incarnation, len(log.entries))], **changes)
    net.logs[CITY] = successor(log, new)
    return net.fact(CITY, "network.recovery", fields)


def test_recovery_keys_give_the_root_a_new_key() -> None:
    """Registers go on under it; what the old key signs behind the lists is closed."""
    net = city()
    old = net.root
    fact = recovered(net, "root 2")
    assert net.rules.note_recovery(fact).key == key_of("root 2").public
    net.register()
    assert net.rules.record(CITY).key == key_of("root 2").public  # type: ignore[union-attr]
    assert net.rules.recoveries == 1
    assert net.rules.closings == {(CITY, key_of(CITY).public): {old.incarnation: len(old.entries)}}


def test_a_recovery_below_the_threshold_or_older_is_void() -> None:
    """One key of two, another network's keys, the number of one before, a key that the root had."""
    net = city()
    for changes in ({"signers": ["recovery 1"]}, {"signers": ["recovery 1", "other network"]}):
        assert net.void(recovered(net, "thief", **changes)) == "bad_proof"
    first = recovered(net, "root 2")
    net.register()
    assert net.void(recovered(net, "root 3", number=1)) == "not_newer"
    with pytest.raises(DecodeError, match="not_newer"):
        net.rules.note_recovery(recovered(net, "root 4", number=1))
    net.waiting.clear()
    assert net.void(recovered(net, CITY, number=2)) == "key_used"
    assert net.void(recovered(net, "root 3", number=5)) == ""
    assert net.rules.note_recovery(first).key == key_of("root 3").public  # known, and not gone back to


def test_only_the_root_is_recovered() -> None:
    """Whoever else states the root's recovery states nothing."""
    net = city()
    fact = net.fact(EAST, "network.recovery", recovery_fields(net, "root 2", []))
    with pytest.raises(DecodeError, match="malformed"):
        net.rules.note_recovery(fact)
    assert net.void(fact) == "malformed"


@given(st.permutations(range(4)))
def test_any_order_of_hearing_ends_in_the_same_keys(order: list[int]) -> None:
    """Rotations, an enrolment again, a rival: whatever was heard first, after the register all know the same."""
    net = city()
    log = net.logs[TOWN]
    heard = [rotated(net, TOWN, TOWN, "town 2"), rotated(net, TOWN, "town 2", "town 3")]
    net.logs[TOWN] = log
    heard.append(net.fact(TOWN, "node.key", rotation_fields(net, TOWN, TOWN, "rival", [])))
    heard.append(again(net, TOWN, "town 4"))
    invite = net.waiting[-2]
    for place in order:
        try:
            if place == 3:
                net.rules.note_enrolment(invite, heard[3])
            else:
                net.rules.note_rotation(heard[place])
        except DecodeError:
            continue
    net.register()
    assert (net.rules.newer, net.rules.local_closings) == ({}, {})
    assert key_names(net.rules, TOWN) == [key_of(name).public for name in (TOWN, "town 2", "town 3", "town 4")]
    assert set(net.rules.closings) == {(TOWN, key_of(name).public) for name in (TOWN, "town 2")}


def test_a_revocation_is_heeded_before_its_register() -> None:
    """Where it arrives the key opens no session from then on, if a node above its owner says so; cases wait for the register."""
    net = city()
    public = key_of(TOWN).public
    for author, heeded in ((WEST, False), (TOWN, False), (EAST, True)):
        fact = net.fact(author, "node.revoke", {"node": TOWN, "key": public, "cuts": []})
        net.rules.note_revocation(fact)
        assert net.rules.is_distrusted(TOWN, public) == heeded
    assert not net.rules.is_revoked(TOWN)
    assert not net.rules.is_distrusted(TOWN, key_of("town 2").public)
    net.register()
    assert (net.rules.distrusted, net.rules.is_distrusted(TOWN, public)) == ({}, True)
    net.rules.note_revocation(fact)
    assert net.rules.distrusted == {}
