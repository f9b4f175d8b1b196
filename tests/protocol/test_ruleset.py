"""Reading the rules as of a register: the same answer for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.facts import Grant, Right
from protocol.ruleset import GrantState, History
from tests.protocol.network import CITY, EAST, HUB, TOWN, VILLAGE, WEST, WEST_DEPT, Net, city

DAY = "2026-11-21"


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(-1, 10))
def test_history_gives_the_last_value_up_to_a_number(numbers: list[int], asked: int) -> None:
    """Values put in rising order are found by the newest number not above the one asked for."""
    history: History[int] = History()
    for value, number in enumerate(sorted(numbers)):
        history.put(number, value)
    due = [value for value, number in enumerate(sorted(numbers)) if number <= asked]
    assert history.at(asked) == (due[-1] if due else None)


def test_ancestry_is_stated_not_guessed() -> None:
    """Parents come from enrolments, whatever the digits of codes say."""
    now = city().rules.now
    assert now.ancestors(VILLAGE) == (TOWN, EAST, CITY)
    assert now.above(EAST, VILLAGE)
    assert not now.above(WEST, VILLAGE)
    assert not now.above(VILLAGE, VILLAGE)
    assert now.rules_over(VILLAGE, VILLAGE)
    assert [record.node for record in now.children(WEST)] == [WEST_DEPT]
    assert now.ancestors("440000000000") == ()


def test_basis_names_the_newest_register() -> None:
    """A basis holds here only with its own hash."""
    rules = city().rules
    number, mark = rules.basis
    assert rules.holds((number, mark))
    assert not rules.holds((number + 1, mark))
    assert not rules.holds((number, b"another!"))
    assert not rules.holds((number - 1, mark))


def test_a_node_only_enrolled_here_stands_where_its_enrolment_put_it() -> None:
    """A station enrolled while the root is away works at once, and no register is judged by that."""
    net = city()
    other = "650102001002"
    invite = net.invite(other, TOWN)
    net.rules.note_enrolment(invite.fact, net.enrol(other, invite).fact)
    assert net.rules.now.ancestors(other) == (TOWN, EAST, CITY)
    assert net.rules.now.allows(other, Right.ENROL)
    assert net.rules.now.node(other) is None
    strict = type(net.rules.now)(net.rules, net.rules.number, registered_only=True)
    assert strict.ancestors(other) == ()
    assert not strict.allows(other, Right.ENROL)
    assert {record.node for record in net.rules.known_nodes()} == {CITY, EAST, WEST, WEST_DEPT, TOWN, VILLAGE, other}


def test_a_node_enrolled_later_stands_under_older_registers_too() -> None:
    """Its first record counts under a basis that is older than its enrolment."""
    net = city()
    view = net.rules.at(0)
    assert view.node(VILLAGE) is None
    assert view.ancestors(VILLAGE) == (TOWN, EAST, CITY)


def test_rights_of_places_do_not_flow() -> None:
    """Hub rights are those of the enrolment; a village has none, a retired node neither."""
    net = city()
    assert all(net.rules.now.allows(EAST, Right(right)) for right in HUB)
    assert not any(net.rules.now.allows(VILLAGE, Right(right)) for right in HUB)
    net.fact(EAST, "node.retire", {"node": TOWN})
    before = net.rules.number
    net.register()
    assert not net.rules.now.allows(TOWN, Right.ENROL)
    assert net.rules.at(before).allows(TOWN, Right.ENROL)


def items(net: Net) -> None:
    net.item("a", WEST, receive=[f"{EAST}/*"], decide=[WEST_DEPT])
    net.register()


def test_an_items_lists_give_rights() -> None:
    """`receive` and `decide` are the item's own; who has one may notify, verify and deliver."""
    net = city()
    items(net)
    now = net.rules.now
    assert now.allows_item(VILLAGE, Right.RECEIVE, "a", DAY)
    assert now.allows_item(VILLAGE, Right.DELIVER, "a", DAY)
    assert not now.allows_item(VILLAGE, Right.DECIDE, "a", DAY)
    assert now.allows_item(WEST_DEPT, Right.DECIDE, "a", DAY)
    assert now.allows_item(WEST_DEPT, Right.RECEIVE, "a", DAY)
    assert not now.allows_item(WEST, Right.RECEIVE, "a", DAY)
    assert not now.allows_item(VILLAGE, Right.RECEIVE, "b", DAY)
    assert not net.rules.at(1).allows_item(VILLAGE, Right.RECEIVE, "a", DAY)


def test_versions_of_items_stay() -> None:
    """The newest version holds for new cases; an older one is still found, from its register on."""
    net = city()
    items(net)
    first = net.rules.number
    net.item("a", WEST, version=3, decide=[WEST])
    net.register()
    assert [net.rules.at(n).item("a").head.version for n in (first, first + 1)] == [1, 3]  # type: ignore[union-attr]
    assert net.rules.now.item_version("a", 1) is not None
    assert net.rules.at(first).item_version("a", 3) is None
    assert net.rules.now.item_version("a", 2) is None
    assert net.rules.now.item_version("b", 1) is None
    assert [record.head.code for record in net.rules.now.items()] == ["a"]


def test_a_grant_holds_for_its_items_days_and_registers() -> None:
    """From and through its dates, from its register until the one that ends it."""
    state = GrantState(
        Grant(to=EAST, right="receive", items=("a",), valid_from="2026-02-01", valid_to="2026-03-01"), CITY, 3, 5
    )
    assert [state.holds(number, "a", "2026-02-15") for number in (2, 3, 4, 5)] == [False, True, True, False]
    days = ("2026-01-31", "2026-02-01", "2026-03-01", "2026-03-02")
    assert [state.holds(3, "a", day) for day in days] == [False, True, True, False]
    assert not state.holds(3, "b", "2026-02-15")


def test_revoked_keys_are_known() -> None:
    """A revocation names the key that a node has."""
    net = city()
    record = net.rules.record(VILLAGE)
    assert record is not None
    assert not net.rules.is_revoked(VILLAGE)
    net.fact(TOWN, "node.revoke", {"node": VILLAGE, "key": b"k" * 32, "cuts": []})
    net.register()
    assert not net.rules.is_revoked(VILLAGE)
    net.fact(TOWN, "node.revoke", {"node": VILLAGE, "key": record.key, "cuts": []})
    net.register()
    assert net.rules.is_revoked(VILLAGE)
    assert not net.rules.is_revoked("440000000000")
