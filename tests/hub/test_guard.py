"""What a hub bears: lines, requests and time, each with its bound; decided with plain numbers, no clock and no socket."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import guard as guard_module
from hub.guard import BURST, Bounds, Guard, Line, peer_of

BOUNDS = Bounds(lines=8, per_host=3, per_node=2, requests_per_node=5, head_s=10.0, idle_s=55.0)


class Calls:
    """A guard, and which of its lines were closed."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.guard = Guard(bounds)
        self.closed: list[str] = []

    def come(self, address: str, name: str = "", now_s: float = 0.0) -> Line | None:
        return self.guard.admit(address, now_s, lambda: self.closed.append(name or address))

    def child(self, node: str, name: str, number: int) -> Line:
        line = self.come(f"10.0.{number}.1", name)
        assert line is not None
        self.guard.know(line, node)
        return line


def test_the_longest_silent_stranger_gives_way() -> None:
    """An address has so many strangers' lines; a new one ends the oldest on which no whole request came."""
    calls = Calls()
    first = calls.come("10.0.0.1", "first")
    assert first is not None
    calls.guard.work(first)  # it is being answered
    for name in ("second", "third", "fourth"):
        assert calls.come("10.0.0.1", name)
    assert calls.closed == ["second"]
    assert len(calls.guard.lines) == 3
    assert calls.come("10.0.0.2")  # another address is not touched
    assert calls.closed == ["second"]


def test_where_all_are_being_answered_the_new_line_has_to_go() -> None:
    """What came whole is answered; a newcomer has to come again."""
    calls = Calls()
    for _ in range(3):
        line = calls.come("10.0.0.1")
        assert line is not None
        calls.guard.work(line)
    assert calls.come("10.0.0.1") is None
    assert calls.closed == []


def test_who_showed_a_session_is_counted_as_that_node() -> None:
    """Many stations behind one address have their lines; each node's own are bounded, its oldest ends."""
    calls = Calls()
    for number in range(4):
        line = calls.come("10.0.0.1", now_s=float(number))
        assert line is not None
        calls.guard.know(line, f"node{number}")
    assert calls.come("10.0.0.1", now_s=9.0)
    assert calls.closed == []
    for name in ("a", "b", "c"):
        calls.child("flooder", name, 7)
    assert calls.closed == ["a"]


def test_all_lines_together_are_bounded_and_children_stay() -> None:
    """At the bound a stranger makes room for the next caller; with children only, nobody else comes in."""
    calls = Calls()
    for number in range(7):
        calls.child(f"node{number}", f"child{number}", number)
    assert calls.come("10.1.0.1", "stranger")
    assert calls.come("10.1.0.2", "next")
    assert calls.closed == ["stranger"]
    calls.guard.know(list(calls.guard.lines)[-1], "node8")
    assert calls.come("10.1.0.3") is None
    assert len(calls.guard.lines) == 8


def test_a_line_is_closed_when_its_request_is_overdue() -> None:
    """Strangers have the time of a head, children that of an idle line; what is being answered has no end."""
    calls = Calls()
    stranger, child = calls.come("10.0.0.1", "stranger"), calls.child("node", "child", 2)
    working = calls.child("other", "working", 3)
    assert stranger is not None
    for line in (child, working):
        calls.guard.begin(line)
    assert working.due_s == math.inf
    calls.guard.finish(child, 5.0, 0)
    assert calls.guard.sweep(9.9) == 0
    assert calls.guard.sweep(10.0) == 1
    assert calls.guard.sweep(59.9) == 0
    assert calls.guard.sweep(60.0) == 1
    assert calls.guard.sweep(1e9) == 0
    assert calls.closed == ["stranger", "child"]


def test_a_long_answer_gets_the_time_to_be_read() -> None:
    """A megabyte at a kilobyte a second takes 1,024 s: the line of a slow child is not cut meanwhile, nor for ever kept."""
    calls = Calls()
    line = calls.child("node", "slow", 1)
    calls.guard.finish(line, 0.0, 1 << 20)
    assert calls.guard.sweep(1_000.0) == 0
    assert calls.guard.sweep(1_080.0) == 1


def test_new_lines_of_an_address_are_paid_for() -> None:
    """A storm of connections from one address ends before TLS; it fills again with time."""
    calls = Calls(Bounds(per_host=3))
    admitted = sum(calls.come("10.0.0.1") is not None for _ in range(1_000))
    assert admitted == 3 * BURST
    assert calls.come("10.0.0.2") is not None
    assert sum(calls.come("10.0.0.1", now_s=1.0) is not None for _ in range(10)) == 3


def test_requests_are_paid_by_whom_they_concern() -> None:
    """A flooding node empties its own bucket, a stranger that of its address; the wait is told."""
    calls = Calls()
    flooder, honest = calls.child("flooder", "a", 1), calls.child("honest", "b", 2)
    stranger = calls.come("10.0.1.1")
    assert stranger is not None
    waits = [calls.guard.pay(flooder, flooder.node, 0.0) for _ in range(100)]
    assert waits.count(0.0) == 5 * BURST
    assert max(waits) <= 1 / 5
    assert calls.guard.pay(honest, honest.node, 0.0) == 0.0
    assert calls.guard.pay(stranger, None, 0.0) == 0.0
    assert calls.guard.pay(flooder, flooder.node, 0.0) > 0
    assert calls.guard.pay(flooder, flooder.node, 0.21) == 0.0


def test_callers_without_number_are_forgotten_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million addresses cost no more memory than the bound."""
    monkeypatch.setattr(guard_module, "BUCKETS_MAX", 10)
    calls = Calls(Bounds())
    for number in range(100):
        line = calls.come(f"10.0.{number}.1")
        assert line is not None
        calls.guard.pay(line, None, 0.0)
        calls.guard.forget(line)
    assert len(calls.guard._new_lines.held) == 10
    assert len(calls.guard._strange_requests.held) == 10
    assert not calls.guard._strangers


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_one_caller_is_one_address_or_one_subscribers_network(address: str, peer: str) -> None:
    """An IPv6 subscriber has 2^64 addresses: they are one caller."""
    assert peer_of(address) == peer


@given(st.lists(st.tuples(st.sampled_from(["admit", "know", "begin", "work", "finish", "forget", "sweep"]), st.integers(0, 5))))
def test_the_books_agree_after_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Every line stands in exactly one file, no bound is passed, and nothing of ended lines is left."""
    calls = Calls()
    now_s = 0.0
    for step, number in steps:
        held = list(calls.guard.lines)
        now_s += 1.0
        if step == "admit":
            calls.come(f"10.0.0.{number % 2}", now_s=now_s)
        elif step == "sweep":
            calls.guard.sweep(now_s + number)
        elif held:
            line = held[number % len(held)]
            match step:
                case "know":
                    calls.guard.know(line, f"node{number % 2}")
                case "finish":
                    calls.guard.finish(line, now_s, 0)
                case _:
                    getattr(calls.guard, step)(line)
        _check(calls.guard)


def _check(guard: Guard) -> None:
    filed = [line for files in (guard._strangers, guard._nodes) for some in files.values() for line in some]
    assert sorted(map(id, filed)) == sorted(map(id, guard.lines))
    assert all(some for files in (guard._strangers, guard._nodes) for some in files.values())
    assert len(guard.lines) <= guard.bounds.lines
    assert all(len(some) <= guard.bounds.per_host for some in guard._strangers.values())
    assert all(len(some) <= guard.bounds.per_node for some in guard._nodes.values())
