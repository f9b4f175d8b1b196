"""Who may state what in a case: each type under the rights of its basis, at every node the same."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.authority import NEEDED, RulesJudge, legal_day
from protocol.cases import CaseTerms, Held
from protocol.fold import Effect, fold
from protocol.limits import TIME_MS_MAX
from protocol.log import Header
from protocol.register import Rules
from protocol.transitions import KNOWN_TYPES
from tests.protocol.network import CITY, EAST, START, TOWN, VILLAGE, WEST, WEST_DEPT, Net, city

STRANGER = "650104000000"
TERMS = CaseTerms("a", 1, "n", VILLAGE, WEST_DEPT, WEST, (5, 20), None, 1)
BOTH = frozenset({"open", "accept", "refuse", "notice", "dispatch", "finish", "deliver"})  # receivers and deciders
DECIDERS = frozenset({"suspend", "resume", "extend", "decide", "revoke"})


def with_item(**changes: Any) -> Net:
    net = city()
    net.item("a", WEST, **{"receive": [f"{EAST}/*"], "decide": [WEST_DEPT], **changes})
    net.register()
    return net


def header(net: Net, node: str, type_: str, number: int | None = None, **fields: Any) -> Header:
    number = net.rules.number if number is None else number
    basis = (
        (number, net.rules.registers[number].leaf[:8]) if number < len(net.rules.registers) else (number, b"newer!!!")
    )
    return Header(1, 1, node, type_, None, None, START, basis, 0, None, None, None, None, (), (), fields)


def refusal(net: Net, node: str, type_: str, at: int = START, number: int | None = None) -> str | None:
    return RulesJudge(net.rules).refusal(header(net, node, type_, number), TERMS, at)


@pytest.mark.parametrize("type_", sorted(KNOWN_TYPES))
def test_each_type_asks_for_its_right(type_: str) -> None:
    """Receivers take in, tell, send on, finish and hand out; only deciders decide and stop clocks; the rest is custody."""
    net = with_item()
    free = type_ not in NEEDED
    assert free == (type_ not in BOTH | DECIDERS)
    assert refusal(net, VILLAGE, type_) == (None if free or type_ in BOTH else "no_right")
    assert refusal(net, WEST_DEPT, type_) is None
    assert refusal(net, WEST, type_) == (None if free else "no_right")


def test_an_opening_needs_its_item_under_its_basis() -> None:
    """An item that the author's register did not have cannot be taken in."""
    net = with_item()
    assert refusal(net, VILLAGE, "open") is None
    assert refusal(net, VILLAGE, "open", number=net.rules.number - 1) == "no_such_item"
    other = CaseTerms("a", 2, "n", VILLAGE, WEST_DEPT, WEST, (5, 20), None, 1)
    assert RulesJudge(net.rules).refusal(header(net, VILLAGE, "open"), other, START) == "no_such_item"


@pytest.mark.parametrize(
    ("right", "types"),
    [
        ("receive", BOTH),
        ("notify", {"notice"}),
        ("verify", set()),
        ("deliver", {"deliver"}),
        ("decide", (BOTH | DECIDERS) - {"open"}),
    ],
)
def test_a_granted_right_allows_its_types_only(right: str, types: set[str]) -> None:
    """The rights that places grant one another, one by one, within their dates."""
    net = with_item()
    fields = {"to": CITY, "right": right, "items": ["a"], "valid_from": "2026-01-01", "valid_to": "2026-12-31"}
    net.fact(WEST, "rights.grant", fields)
    net.register()
    assert not net.rules.voids
    assert {type_ for type_ in NEEDED if refusal(net, CITY, type_) is None} == types
    late = START + 365 * 86_400_000
    assert all(refusal(net, CITY, type_, late) == "no_right" for type_ in NEEDED)
    assert all(refusal(net, CITY, type_, number=net.rules.number - 1) == "no_right" for type_ in NEEDED)


def test_a_retired_node_may_nothing_under_later_bases() -> None:
    """What it wrote under older rules stands."""
    net = with_item()
    before = net.rules.number
    net.fact(TOWN, "node.retire", {"node": VILLAGE})
    net.register()
    assert refusal(net, VILLAGE, "accept") == "no_right"
    assert refusal(net, VILLAGE, "accept", number=before) is None


def test_what_is_not_here_is_not_known() -> None:
    """A newer or foreign basis, no basis at all, or an author nobody enrolled: the entry waits."""
    net = with_item()
    judge = RulesJudge(net.rules)
    assert judge.knows(header(net, VILLAGE, "accept"))
    assert not judge.knows(header(net, VILLAGE, "accept", net.rules.number + 1))
    assert not judge.knows(header(net, STRANGER, "accept"))
    foreign = header(net, VILLAGE, "accept")
    assert not judge.knows(
        type(foreign)(*[getattr(foreign, n) if n != "basis" else (1, b"foreign!") for n in foreign.__struct_fields__])
    )
    assert not judge.knows(
        type(foreign)(*[getattr(foreign, n) if n != "basis" else None for n in foreign.__struct_fields__])
    )


def test_ancestry_is_that_of_the_basis() -> None:
    """Above and depth are read from the tree as it was stated."""
    net = with_item()
    judge = RulesJudge(net.rules)
    assert judge.above(header(net, EAST, "reclaim"), EAST, VILLAGE)
    assert not judge.above(header(net, WEST, "reclaim"), WEST, VILLAGE)
    assert judge.depth(header(net, VILLAGE, "take")) == 3
    assert judge.depth(header(net, CITY, "take")) == 0


def test_answers_do_not_go_stale() -> None:
    """An answer given before an enrolment was known is not kept once it is."""
    net = with_item()
    judge = RulesJudge(net.rules)
    node = "650102001009"
    early = header(net, node, "accept")
    assert judge.refusal(early, TERMS, START) == "no_right"
    invite = net.invite(node, TOWN)
    net.rules.note_enrolment(invite.fact, net.enrol(node, invite).fact)
    assert judge.knows(early)
    assert judge.refusal(early, TERMS, START) is None
    net.waiting.clear()


def test_answers_are_the_same_before_and_after_later_registers() -> None:
    """A judge that learned the rules step by step says what one says that learned them at once."""
    net = with_item()
    judge = RulesJudge(net.rules)
    numbers = range(net.rules.number + 1)
    nodes = (CITY, EAST, WEST, WEST_DEPT, TOWN, VILLAGE)

    def said(by: RulesJudge) -> list[object]:
        return [
            by.refusal(header(net, node, type_, n), TERMS, START) for n in numbers for node in nodes for type_ in NEEDED
        ]

    before = said(judge)
    net.fact(WEST, "rights.grant", {"to": f"{CITY}/*", "right": "decide", "items": ["a"]})
    net.fact(EAST, "node.retire", {"node": TOWN})
    net.item("a", WEST, version=2, receive=[], decide=[CITY])
    net.register()
    later = Rules()
    later.open(net.root.entries[0].fact)
    for register, facts in net.registers:
        later.take(register, facts)
    assert said(judge) == before == said(RulesJudge(later))


def test_the_fold_reads_these_rules() -> None:
    """An opening and a decision under real rules: applied where there is the right, void where there is none."""
    net = with_item()
    fields = {
        "item": "a", "version": 1, "number": "n", "handler": WEST_DEPT, "region": WEST,
        "table": 1,
        "limits": [5, 20],
    }
    log, basis = net.logs[VILLAGE], net.rules.basis
    opening = log.state("open", fields, {"applicant": "王"}, salt=b"s" * 16, basis=basis, epoch=0)
    place: dict[str, Any] = {"case": opening.link, "basis": basis, "epoch": 0}
    accept = log.state("accept", prev=opening.link, **place)
    decide = log.state("decide", {"result": "grant"}, prev=accept.link, **place)
    held = [Held(one.leaf, one.header, (0, one.index)) for one in (opening, accept, decide)]
    verdicts = fold(held, RulesJudge(net.rules)).verdicts
    assert [verdicts[one.link].effect for one in held] == [Effect.APPLIED, Effect.APPLIED, Effect.VOID]
    assert verdicts[decide.link].reason == "no_right:no_right"


def test_legal_days_are_those_of_one_zone() -> None:
    """+08:00, at every bound of time."""
    assert legal_day(0) == "1970-01-01"
    assert legal_day(16 * 3_600_000 - 1) == "1970-01-01"
    assert legal_day(16 * 3_600_000) == "1970-01-02"
    assert legal_day(TIME_MS_MAX) == "9999-12-31"
