"""Order of one author's entries over its stores' lives, and what a revocation cuts off."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from protocol.facts import Admit, Revoke
from protocol.log import LogId
from protocol.register import Rules
from protocol.standing import is_closed, is_cut, order_of
from tests.protocol.network import VILLAGE, WEST

A, B, C, D = (bytes([n]) * 16 for n in (9, 7, 8, 1))  # not in the order of their lives
KEY = b"k" * 32


def rules_with(*admissions: tuple[bytes, list[tuple[bytes, int]]]) -> Rules:
    rules = Rules()
    rules.admissions[VILLAGE] = [Admit(VILLAGE, incarnation, tuple(sizes)) for incarnation, sizes in admissions]
    return rules


def in_order(rules: Rules, places: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    shuffled = list(places)
    random.Random(7).shuffle(shuffled)
    return sorted(shuffled, key=lambda place: order_of(rules, LogId(VILLAGE, place[0]), b"", place[1]))


def test_one_incarnation_goes_by_index() -> None:
    """The usual life of a store."""
    assert in_order(Rules(), [(A, n) for n in range(5)]) == [(A, n) for n in range(5)]


def test_what_was_held_comes_first_then_the_new_then_what_turned_up() -> None:
    """DESIGN §4: held at the admission, the new incarnation, then the tail of the older one, then what nobody admitted."""
    rules = rules_with((B, [(A, 2)]))
    places = [(A, 0), (A, 1), (B, 0), (B, 1), (A, 2), (A, 3), (D, 0)]
    assert in_order(rules, places) == places


def test_several_lives_follow_one_another() -> None:
    """Two restores: each admission closes the ones before it."""
    rules = rules_with((B, [(A, 2)]), (C, [(B, 2), (A, 3)]))
    places = [(A, 0), (A, 1), (B, 0), (B, 1), (A, 2), (C, 0), (C, 1), (B, 2), (A, 3), (D, 0)]
    found = in_order(rules, places)
    assert found[:7] == places[:7]
    assert set(found[7:9]) == {(B, 2), (A, 3)}
    assert found[9] == (D, 0)


def test_older_incarnations_do_not_mix() -> None:
    """Two that one admission names stand one after the other, as it lists them."""
    rules = rules_with((C, [(A, 2), (B, 2)]))
    assert in_order(rules, [(A, 0), (A, 1), (B, 0), (B, 1)]) == [(A, 0), (A, 1), (B, 0), (B, 1)]


def test_a_rival_branch_comes_last() -> None:
    """A second history of a log displaces nothing of the first, admitted or not."""
    for rules in (Rules(), rules_with((B, [(A, 2)]))):
        rival = order_of(rules, LogId(VILLAGE, A), b"x" * 16, 0)
        assert all(order_of(rules, LogId(VILLAGE, one), b"", 9) < rival for one in (A, B, D))
        assert rival != order_of(rules, LogId(VILLAGE, A), b"y" * 16, 0)


@given(st.lists(st.tuples(st.sampled_from([A, B, C, D]), st.integers(0, 4)), min_size=2, unique=True), st.data())
def test_an_order_is_total_and_keeps_each_log_in_order(places: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """No two places are equal, and inside one log a smaller index is earlier."""
    sizes = st.lists(
        st.tuples(st.sampled_from([A, B, C, D]), st.integers(0, 4)), max_size=3, unique_by=lambda one: one[0]
    )
    admissions = data.draw(
        st.lists(st.tuples(st.sampled_from([B, C, D]), sizes), max_size=3, unique_by=lambda one: one[0])
    )
    rules = rules_with(*admissions) if admissions else Rules()
    orders = {place: order_of(rules, LogId(VILLAGE, place[0]), b"", place[1]) for place in places}
    assert len(set(orders.values())) == len(places)
    for incarnation in (A, B, C, D):
        if any(incarnation in dict(listed) for _, listed in admissions):
            continue  # cut in two by an admission: its tail may stand behind other logs, never before its own head
        own = sorted(index for one, index in places if one == incarnation)
        assert sorted(own, key=lambda index: orders[incarnation, index]) == own


def test_no_revocation_cuts_nothing() -> None:
    """Nor does one of another node or another key."""
    rules = Rules()
    assert not is_cut(rules, LogId(VILLAGE, A), KEY, 0)
    rules.revocations += [Revoke(WEST, KEY, ()), Revoke(VILLAGE, b"o" * 32, ())]
    assert not is_cut(rules, LogId(VILLAGE, A), KEY, 0)


def test_a_revocation_trusts_up_to_its_size() -> None:
    """Up to the size named for an incarnation; nothing of one not named, also future ones; the strictest of several counts."""
    rules = Rules()
    rules.revocations.append(Revoke(VILLAGE, KEY, ((A, 3, b"r" * 32),)))
    assert [is_cut(rules, LogId(VILLAGE, A), KEY, index) for index in range(5)] == [False, False, False, True, True]
    assert is_cut(rules, LogId(VILLAGE, B), KEY, 0)
    rules.revocations.append(Revoke(VILLAGE, KEY, ((A, 1, b"r" * 32),)))
    assert [is_cut(rules, LogId(VILLAGE, A), KEY, index) for index in range(3)] == [False, True, True]


def test_a_replaced_key_is_trusted_as_far_as_its_successor_says() -> None:
    """Up to the size named for an incarnation, nothing of others; for cases only once a register says so."""
    rules = Rules()
    for closings in (rules.local_closings, rules.closings):
        closings[VILLAGE, KEY] = {A: 2}
        assert [is_closed(rules, LogId(VILLAGE, A), KEY, index) for index in range(4)] == [False, False, True, True]
        assert is_closed(rules, LogId(VILLAGE, B), KEY, 0)
        assert not is_closed(rules, LogId(VILLAGE, B), b"o" * 32, 0)
        cut = [is_cut(rules, LogId(VILLAGE, A), KEY, index) for index in range(4)]
        assert cut == ([False, False, True, True] if closings is rules.closings else [False] * 4)
    assert not is_cut(rules, LogId(WEST, A), KEY, 9)
    rules.revocations.append(Revoke(VILLAGE, KEY, ((A, 1, b"r" * 32),)))
    assert is_cut(rules, LogId(VILLAGE, A), KEY, 1)  # the stricter of both
