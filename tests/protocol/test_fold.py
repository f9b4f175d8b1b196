"""Tests of the fold: one result for one set, the choice at a fork, verdicts, and the fast path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.cases import Held, state_word
from protocol.fold import Effect, Folded, Verdict, advance, fold
from protocol.limits import CASE_ENTRIES_MAX, CASE_FRESH_MAX
from protocol.transitions import SIDE_TYPES, TRANSITIONS, Reason, State, is_well_formed
from tests.protocol.histories import (
    BASIS,
    BASIS_2,
    BASIS_UNKNOWN,
    CITY,
    DAY,
    EAST,
    EAST_DEPT,
    EAST_OTHER,
    EAST_TOWN,
    EAST_VILLAGE,
    HOUR,
    JUDGE,
    OPENING_FIELDS,
    START,
    STRANGER,
    WEST,
    WEST_DEPT,
    WEST_DEPT_2,
    WEST_TOWN,
    WEST_VILLAGE,
    Script,
    TreeJudge,
    hostile,
    shuffled,
)

many = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def verdict_of(folded: Folded, held: Held) -> tuple[str, str]:
    """Return an entry's effect and reason as two words."""
    verdict = folded.verdicts[held.link]
    return str(verdict.effect), str(verdict.reason)


APPLIED = ("applied", "")
LATE = ("late", "not_chosen")


# --- one result for one set


@many
@given(st.data(), hostile())
def test_order_and_repetition_change_nothing(data: st.DataObject, entries: list[Held]) -> None:
    """Any order of arrival and any repetition of the same entries, however hostile, give the same result."""
    assert fold(data.draw(shuffled(entries)), JUDGE) == fold(entries, JUDGE)


@many
@given(hostile())
def test_every_entry_has_a_verdict_and_the_line_is_a_path(entries: list[Held]) -> None:
    """Nothing is dropped without a word; the line runs from the opening, each entry naming the one before."""
    folded = fold(entries, JUDGE)
    assert set(folded.verdicts) == {held.link for held in entries}
    by_link = {held.link: held for held in entries}
    for before, after in zip(folded.line, folded.line[1:], strict=False):
        assert by_link[after].header.prev == before
    for link in folded.line:
        assert folded.verdicts[link].effect in {Effect.APPLIED, Effect.VOID}
    if folded.line:
        assert folded.line[0] == folded.key


@many
@given(st.data(), hostile(times=False, gaps=False))
def test_parties_only_grow(data: st.DataObject, entries: list[Held]) -> None:
    """What arrives later never takes a party away."""
    some = [held for held in entries if data.draw(st.booleans())]
    if some:
        assert set(fold(some, JUDGE).parties) <= set(fold(entries, JUDGE).parties)


@many
@given(st.data(), hostile(times=False, gaps=False))
def test_what_is_void_stays_without_effect(data: st.DataObject, entries: list[Held]) -> None:
    """Nothing shown as refused gains effect by a later arrival: what may still change is waiting or late."""
    some = [held for held in entries if data.draw(st.booleans())]
    before = fold(some, JUDGE).verdicts if some else {}
    after = fold(entries, JUDGE).verdicts
    for link, verdict in before.items():
        if verdict.effect is Effect.VOID and verdict.reason not in {Reason.REVOKED, Reason.ADOPTED}:
            assert after[link].effect is not Effect.APPLIED
            assert after[link].effect is not Effect.WAITING


@many
@given(st.data(), hostile(gaps=False))
def test_waiting_ends_when_everything_is_here(data: st.DataObject, entries: list[Held]) -> None:
    """An entry waits only for what is not held, and what it waits for is listed as missing."""
    known = TreeJudge(known=frozenset({BASIS, BASIS_2, BASIS_UNKNOWN}))
    some = [held for held in entries if data.draw(st.booleans())] or entries
    folded = fold(some, known)
    held_links = {held.link for held in some}
    reasons = {verdict.reason for verdict in folded.verdicts.values() if verdict.effect is Effect.WAITING}
    assert reasons <= {Reason.PREV_MISSING, Reason.RESTS_MISSING, Reason.NEWER_PROGRAM}
    assert folded.waiting == bool(reasons)
    if reasons - {Reason.NEWER_PROGRAM}:
        assert folded.missing
    assert not held_links.intersection(folded.missing)


# --- the model of DESIGN §6, recursive and slow, written apart from the code


class Model:
    """`place`, `best` and `choose` word for word, for histories without side entries that anything rests on."""

    def __init__(self, entries: Sequence[Held], judge: TreeJudge) -> None:
        self.judge = judge
        self.spine = [held for held in entries if held.header.type not in SIDE_TYPES]
        self.after: dict[bytes, dict[str, Any]] = {}
        self.effect: dict[bytes, bool] = {}
        opening = entries[0]
        if judge.knows(opening.header) and opening.header.format == 1:
            start = {"state": State.RECEIVED, "holder": opening.header.node, "epoch": 0, "offered": None}
            self._put(opening, {**start, "awaited": set(), "tasks": 0, "parties": 1}, effect=True)

    def _put(self, held: Held, context: dict[str, Any], *, effect: bool) -> None:
        self.after[held.link], self.effect[held.link] = context, effect
        for child in self.spine:
            header = child.header
            known = header.format == 1 and header.type not in {"open", "prophecy"} and self.judge.knows(header)
            if known and header.prev == held.link and self._placed(header, context):
                after, effect = self._step(header, context)
                self._put(child, after, effect=effect)

    def _placed(self, header: Any, x: Mapping[str, Any]) -> bool:
        if header.type in {"take", "return"}:
            return bool(header.node == x["offered"] and header.epoch == x["epoch"] + 1)
        if header.type == "reclaim":
            return self.judge.above(header, header.node, x["holder"]) and header.epoch == x["epoch"] + 1
        return bool(x["offered"] is None and header.node == x["holder"] and header.epoch == x["epoch"])

    def _step(self, header: Any, x: dict[str, Any]) -> Any:
        after = TRANSITIONS[x["state"]].get(header.type)
        if after is None or self.judge.refusal(header, None, header.claimed_at) or not self._guarded(header, x):  # type: ignore[arg-type]
            return x, False
        y = {**x, "state": after}
        fields = header.fields
        if header.type in {"take", "reclaim"}:
            y |= {"holder": header.node, "epoch": header.epoch, "offered": None}
        elif header.type == "return":
            y |= {"epoch": header.epoch + 1, "offered": None}
        elif header.type == "offer":
            y |= {"offered": fields["to"]}
        elif header.type == "notice":
            y |= {"awaited": set(fields["missing"])}
        elif header.type == "dispatch":
            y |= {"tasks": len(fields["tasks"])}
        return y, True

    def _guarded(self, header: Any, x: Mapping[str, Any]) -> bool:
        fields = header.fields
        if header.type == "accept":
            return bool(x["awaited"] <= set(fields.get("lacking", [])))
        if header.type == "decide":
            return bool(x["tasks"] == 0)  # nothing is rested on here: no result of any task
        return header.type != "offer" or bool(fields["to"] != x["holder"])

    def line(self) -> list[Held]:
        roots = [held for held in self.spine if held.header.type == "open" and held.link in self.after]
        return self._best(roots[0]) if roots else []

    def _best(self, held: Held) -> list[Held]:
        children = [child for child in self.spine if child.header.prev == held.link and child.link in self.after]
        whole = [held, *self._choose([line for line in map(self._best, children) if line])]
        takes = [
            i for i, one in enumerate(whole) if one.header.type == "take" and not one.cut and self.effect[one.link]
        ]
        vouched = takes[-1] if takes else -1
        cuts = [i for i, one in enumerate(whole) if one.cut and i > vouched]
        return whole[: cuts[0]] if cuts else whole

    def _choose(self, lines: list[list[Held]]) -> list[Held]:
        ordinary = [line for line in lines if line[0].header.type != "reclaim"]
        reclaims = [line for line in lines if line[0].header.type == "reclaim"]
        winner = self._sorted(ordinary)[0] if ordinary else []
        for line in self._sorted(reclaims):
            if not winner or self._displaces(line, winner):
                winner = line
        return winner

    def _sorted(self, lines: list[list[Held]]) -> list[list[Held]]:
        first: dict[str, Held] = {}
        for line in sorted(lines, key=lambda line: (line[0].order, line[0].leaf)):
            first.setdefault(line[0].header.node, line[0])
        return sorted(
            lines,
            key=lambda line: (
                -self.judge.depth(first[line[0].header.node].header),
                line[0].header.node,
                line[0].order,
                line[0].leaf,
            ),
        )

    def _displaces(self, line: list[Held], winner: list[Held]) -> bool:
        header = line[0].header
        with_effect = [held for held in winner if self.effect[held.link]]
        nodes = {
            held.header.node
            for held in with_effect
            if held.header.node != header.node or held.order < line[0].order  # its own later entries shield nothing
        }
        nodes |= {self.after[winner[-1].link]["offered"]} - {None}
        return self.effect[line[0].link] and all(self.judge.above(header, header.node, node) for node in nodes)


# Some who may move custody by their place lack the right: then their entries are void on the tree.
WITHOUT_RIGHTS = TreeJudge(
    refused=frozenset({(CITY, "reclaim"), (WEST, "take"), (EAST_TOWN, "offer"), (EAST, "accept")})
)


@settings(many, max_examples=200)
@given(
    st.sampled_from([JUDGE, WITHOUT_RIGHTS]),
    hostile(length=35, rests=False, times=False, gaps=False).filter(lambda entries: not odd_fields(entries)),
)
def test_the_line_is_that_of_the_design(judge: TreeJudge, entries: list[Held]) -> None:
    """The fold chooses the same line, with the same entries applied, as the design's rules taken word for word."""
    model = Model(entries, judge)
    folded = fold(entries, judge)
    line = model.line()
    assert list(folded.line) == [held.link for held in line]
    assert [folded.verdicts[link].effect is Effect.APPLIED for link in folded.line] == [
        model.effect[held.link] for held in line
    ]
    if line:
        assert folded.context is not None
        after = model.after[line[-1].link]
        got = (folded.context.state, folded.context.holder, folded.context.epoch, folded.context.offered)
        assert got == (after["state"], after["holder"], after["epoch"], after["offered"])


def odd_fields(entries: Sequence[Held]) -> bool:
    """Tell whether a history has garbage fields, which the model leaves out."""
    return not all(
        held.header.type == "prophecy" or is_well_formed(held.header.type, held.header.fields) for held in entries
    )


# --- the fast path


@many
@given(hostile(length=12))
def test_advance_is_the_fold_or_nothing(entries: list[Held]) -> None:
    """Whenever the fast path answers, it answers what the full fold says; and it never answers for a repeat."""
    context = None
    for count, held in enumerate(entries, 1):
        if count == 1 or context is not None:
            advanced = advance(context, held, JUDGE)
            folded = fold(entries[:count], JUDGE)
            if advanced is not None:
                assert advanced == folded.context
                assert folded.simple
                assert not folded.missing
                assert not folded.conflicts
                assert sorted(advanced.parties) == list(folded.parties)
                assert set(folded.verdicts.values()) == {Verdict(Effect.APPLIED)}
                assert advance(advanced, held, JUDGE) is None
        context = fold(entries[:count], JUDGE).context


@st.composite
def honest(draw: st.DrawFn) -> list[Held]:
    """Draw a history in which every author does what it may, each spine entry listing the sides that are new."""
    script = Script()
    script.open()
    for _ in range(draw(st.integers(0, 14))):
        context = fold(script.entries, JUDGE).context
        assert context is not None
        fresh = [side.link for side in context.fresh]
        move = draw(st.sampled_from(_moves(script, context)))
        if draw(st.integers(0, 2)) == 0:
            move = draw(st.sampled_from(_side_moves(context)))
            script.write(move[0], move[1], **move[2])
        else:
            relied = draw(st.integers(0, len(fresh)))
            script.write(move[0], move[1], rests=fresh[:relied], saw=fresh[relied:], **move[2])
    return script.entries


def _moves(script: Script, context: Any) -> list[tuple[str, str, dict[str, Any]]]:
    if context.offered is not None:
        return [(context.offered, "take", {}), (context.offered, "return", {}), (CITY, "reclaim", {})][
            : 2 + (context.holder != CITY)
        ]
    stage = [["a", WEST_DEPT, None], ["b", EAST_DEPT, "u"]]
    fields: dict[str, dict[str, Any]] = {
        "notice": {"missing": ["photo", "form"]},
        "accept": {"lacking": ["photo", "form"]},
        "refuse": {"kind": 5},
        "offer": {"to": next(node for node in (WEST, EAST_TOWN) if node != context.holder)},
        "dispatch": {"stage": "s", "tasks": stage, "join": 1},
        "extend": {"days": 3},
        "decide": {"result": "deny"},
    }
    own = [kind for kind in TRANSITIONS[context.state] if kind not in {"take", "return", "reclaim", "adopt"}]
    moves = [(context.holder, kind, fields.get(kind, {})) for kind in own]
    if context.stage is not None:
        moves = [move for move in moves if move[1] != "decide"]
    return moves or [(context.holder, "note", {})]


def _side_moves(context: Any) -> list[tuple[str, str, dict[str, Any]]]:
    moves: list[tuple[str, str, dict[str, Any]]] = [(context.parties[-1], "note", {}), (CITY, "card", {})]
    moves.append((context.parties[0], "material", {"materials": ["photo"]}))
    if context.decision is not None:
        moves.append((context.parties[0], "deliver", {"how": "post"}))
    if context.stage is not None:
        task = {"dispatch": context.stage.dispatch, "task": "a", "result": "pass"}
        moves.append((WEST_DEPT, "task", task))
    return moves


@settings(many, max_examples=60)
@given(honest())
def test_advance_carries_an_honest_case_from_end_to_end(entries: list[Held]) -> None:
    """An honest history needs no full fold: the fast path gives the same context at each prefix."""
    context = None
    for count, held in enumerate(entries, 1):
        context = advance(context, held, JUDGE)
        assert context is not None, held.header
        assert context == fold(entries[:count], JUDGE).context


@pytest.mark.parametrize(
    "spoil",
    [
        lambda case, _: case.write(EAST_VILLAGE, "accept", cut=True),
        lambda case, _: case.write(EAST_VILLAGE, "accept", header={"basis": BASIS_UNKNOWN}),
        lambda case, _: case.write(EAST_VILLAGE, "accept", header={"format": 2}),
        lambda case, _: case.write(EAST_VILLAGE, "accept", header={"prev": bytes(16)}),
        lambda case, _: case.write(EAST_VILLAGE, "accept", header={"epoch": 1}),
        lambda case, _: case.write(EAST_VILLAGE, "accept", rests=[bytes(16)]),
        lambda case, _: case.write(EAST_VILLAGE, "accept", saw=[bytes(16)]),
        lambda case, _: case.write(EAST_VILLAGE, "adopt", of=[bytes(16)]),
        lambda case, _: case.write(EAST_VILLAGE, "decide", result="grant"),
        lambda case, _: case.write(EAST_VILLAGE, "refuse", kind=6),
        lambda case, _: case.write(WEST, "accept"),
        lambda case, _: case.write(EAST_VILLAGE, "prophecy"),
        lambda case, tip: case.write(EAST_TOWN, "time", of=tip.link, at=START),
        lambda case, _: case.write(STRANGER, "note"),
        lambda case, tip: case.write(EAST_VILLAGE, "task", dispatch=tip.link, task="a", result="pass"),
        lambda case, _: case.write(EAST_VILLAGE, "material", materials=[str(n) for n in range(CASE_FRESH_MAX)]),
        lambda case, _: case.write(EAST_VILLAGE, "open", case=case.key),
        lambda case, _: case.write(EAST_VILLAGE, "accept", case=bytes(16)),
    ],
)
def test_advance_leaves_whatever_is_odd_to_the_fold(spoil: Callable[[Script, Held], Held]) -> None:
    """Cut, waiting, void, off the tree, dated or over a bound: the fast path does not answer."""
    case = Script()
    opening = case.open()
    context = fold(case.entries, JUDGE).context
    assert advance(context, spoil(case, opening), JUDGE) is None


@pytest.mark.parametrize(
    "options",
    [
        {"fields": {"table": 2}},
        {"fields": {"limits": []}},
        {"saw": [bytes(16)]},
        {"cut": True},
        {"case": bytes(16)},
        {"header": {"basis": BASIS_UNKNOWN}},
    ],
)
def test_advance_leaves_an_odd_opening_to_the_fold(options: dict[str, Any]) -> None:
    """A first entry that is no plain opening with effect is not for the fast path."""
    plain = {**OPENING_FIELDS, **options.pop("fields", {})}
    odd = {"case": None, "prev": None, "epoch": None, **options}
    assert advance(None, Script().write(EAST_VILLAGE, "open", **odd, **plain), JUDGE) is None
    assert advance(None, Script().write(EAST_VILLAGE, "note", case=None), JUDGE) is None


# --- custody


def test_hand_over_by_offer_and_take() -> None:
    """An offer closes the epoch: the target takes the case in the next one, and the old holder writes no more."""
    case = Script()
    case.open()
    offer = case.write(EAST_VILLAGE, "offer", to=WEST)
    early = case.write(EAST_VILLAGE, "accept")
    case.back_to(offer)
    case.write(WEST, "take")
    after = case.write(WEST, "accept")
    late = case.write(EAST_VILLAGE, "accept", prev=after.link)
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, early) == ("void", "offered_away")
    assert verdict_of(folded, after) == APPLIED
    assert verdict_of(folded, late) == ("void", "not_holder")
    assert folded.context is not None
    assert (folded.context.holder, folded.context.epoch, folded.context.offered) == (WEST, 1, None)


def test_a_return_gives_the_case_back_two_epochs_on() -> None:
    """A return opens and closes an epoch: the offerer holds the one after, and an old epoch number is refused."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "offer", to=WEST)
    back = case.write(WEST, "return")
    wrong = case.write(EAST_VILLAGE, "accept", epoch=0)
    case.back_to(back, epoch=2)
    right = case.write(EAST_VILLAGE, "accept")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, wrong) == ("void", "wrong_epoch")
    assert verdict_of(folded, right) == APPLIED
    assert folded.context is not None
    assert (folded.context.holder, folded.context.epoch) == (EAST_VILLAGE, 2)
    assert folded.parties == tuple(sorted([EAST_VILLAGE, WEST]))


@pytest.mark.parametrize("kind", ["take", "return"])
def test_only_the_target_answers_an_offer(kind: str) -> None:
    """A01: nobody but the node that was offered the case takes or returns it, and only in the next epoch."""
    case = Script()
    case.open()
    nothing_offered = case.write(WEST, kind, epoch=1)
    case.back_to(case.entries[0])
    offer = case.write(EAST_VILLAGE, "offer", to=WEST)
    stranger = case.write(EAST_TOWN, kind)
    case.back_to(offer)
    wrong = case.write(WEST, kind, epoch=2)
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, nothing_offered) == ("void", "not_offered")
    assert verdict_of(folded, stranger) == ("void", "not_offered")
    assert verdict_of(folded, wrong) == ("void", "wrong_epoch")
    assert folded.context is not None
    assert folded.context.offered == WEST


def test_a01_write_without_custody() -> None:
    """A01: an authentic entry of a node that does not hold the case is kept, told, and without effect; nothing changes."""
    case = Script()
    case.open()
    honest_result = fold(case.entries, JUDGE)
    forged = case.write(EAST_TOWN, "accept")
    behind = case.write(EAST_TOWN, "decide", result="grant")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, forged) == ("void", "not_holder")
    assert verdict_of(folded, behind) == ("void", "builds_on_void_place")
    assert folded.line == honest_result.line
    assert folded.parties == honest_result.parties


def test_a02_a_sleeping_holder_is_fenced_by_the_epoch() -> None:
    """A02: a holder that slept while its district reclaimed the case writes in an old epoch: late, not applied."""
    case = Script()
    opening = case.open()
    case.write(EAST_VILLAGE, "accept")
    reclaim = case.write(EAST, "reclaim")
    decided = case.write(EAST, "decide", result="grant")
    case.back_to(case.entries[1])
    asleep = case.write(EAST_VILLAGE, "decide", result="deny")
    on_top = case.write(EAST_VILLAGE, "finish", prev=decided.link)
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, asleep) == LATE
    assert verdict_of(folded, on_top) == ("void", "not_holder")
    assert folded.line == (opening.link, case.entries[1].link, reclaim.link, decided.link)
    assert folded.context is not None
    assert folded.context.outcome == "grant"
    assert folded.parties == tuple(sorted([EAST_VILLAGE, EAST]))  # who reclaims is a party


def test_a03_two_offers_of_a_cloned_holder() -> None:
    """A03: of two offers at one place the first in the holder's order stands; the other line is kept as late."""
    case = Script()
    opening = case.open()
    first = case.write(EAST_VILLAGE, "offer", to=WEST, order=(0, 5))
    taken = case.write(WEST, "take")
    case.back_to(opening)
    second = case.write(EAST_VILLAGE, "offer", to=EAST_TOWN, order=(1, 2))
    also = case.write(EAST_TOWN, "take")
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (first, taken)] == [APPLIED, APPLIED]
    assert [verdict_of(folded, held) for held in (second, also)] == [LATE, LATE]
    assert folded.parties == tuple(sorted([EAST_VILLAGE, WEST, EAST_TOWN]))  # who was named on a late line is told too


def test_a03_a_hash_decides_between_clones_only() -> None:
    """A03: two entries that claim one place are clones; the smaller hash stands, at every node."""
    case = Script()
    opening = case.open()
    one = case.write(EAST_VILLAGE, "accept", order=(0, 1))
    case.back_to(opening)
    other = case.write(EAST_VILLAGE, "refuse", kind=4, order=(0, 1))
    small, big = sorted([one, other], key=lambda held: held.leaf)
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, small) == APPLIED
    assert verdict_of(folded, big) == LATE


def test_a03_take_and_reclaim_at_the_same_time() -> None:
    """A03: the other district's take stands against the village's own district, and falls to the common ancestor."""
    case = Script()
    case.open()
    offer = case.write(EAST_VILLAGE, "offer", to=WEST)
    take = case.write(WEST, "take")
    case.back_to(offer)
    own_district = case.write(EAST, "reclaim")
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (take, own_district)] == [APPLIED, LATE]
    case.back_to(offer)
    common = case.write(CITY, "reclaim")
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (take, own_district, common)] == [LATE, LATE, APPLIED]
    assert folded.context is not None
    assert folded.context.holder == CITY


def test_a04_an_offer_nobody_takes_is_reclaimed_by_the_common_ancestor() -> None:
    """A04: the offer waits; the offerer's district cannot take it from the target, the common ancestor can."""
    case = Script()
    case.open()
    offer = case.write(EAST_VILLAGE, "offer", to=WEST)
    waiting = fold(case.entries, JUDGE)
    assert waiting.context is not None
    assert (waiting.context.holder, waiting.context.offered) == (EAST_VILLAGE, WEST)
    reclaim = case.write(CITY, "reclaim")
    onward = case.write(CITY, "offer", to=EAST)
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (offer, reclaim, onward)] == [APPLIED] * 3
    assert folded.context is not None
    assert (folded.context.holder, folded.context.offered, folded.context.epoch) == (CITY, EAST, 1)


def test_a_reclaim_does_not_displace_a_line_that_is_offered_to_another_district() -> None:
    """A station's district overrules the station, but not a line at whose end the case is offered elsewhere."""
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept")
    case.back_to(opening)
    reclaim = case.write(EAST, "reclaim")
    assert verdict_of(fold(case.entries, JUDGE), reclaim) == APPLIED  # only the village wrote there
    case.back_to(accept)
    offer = case.write(EAST_VILLAGE, "offer", to=WEST)
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (accept, offer, reclaim)] == [APPLIED, APPLIED, LATE]


def test_of_two_reclaims_the_higher_stands() -> None:
    """Concurrent reclaims at several levels: the highest one, whatever their order of arrival."""
    case = Script()
    opening = case.open()
    reclaims = []
    for node in (EAST, CITY, EAST_TOWN):
        case.back_to(opening)
        reclaims.append(case.write(node, "reclaim"))
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in reclaims] == [LATE, APPLIED, LATE]


def test_a_reclaim_needs_the_authority_of_its_own_basis() -> None:
    """Ancestry is judged under the basis that the reclaim names: the same verdict everywhere, whatever came later."""
    for basis, expected in ((BASIS, ("void", "not_above")), (BASIS_2, APPLIED)):
        case = Script()
        case.open(WEST_VILLAGE)
        reclaim = case.write(EAST, "reclaim", header={"basis": basis})
        assert verdict_of(fold(case.entries, JUDGE), reclaim) == expected


def test_a_reclaim_without_the_right_displaces_nothing() -> None:
    """A void reclaim moves no custody, so the line it wanted to displace stands."""
    judge = TreeJudge(refused=frozenset({(EAST, "reclaim")}))
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept")
    case.back_to(opening)
    reclaim = case.write(EAST, "reclaim")
    folded = fold(case.entries, judge)
    assert [verdict_of(folded, held) for held in (accept, reclaim)] == [APPLIED, LATE]


def test_a_line_without_effect_is_no_shield_against_a_reclaim() -> None:
    """Only who wrote with effect protects a line: a void reclaim of the city's does not keep the district out."""
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept")
    void = case.write(CITY, "reclaim")
    case.back_to(opening)
    reclaim = case.write(EAST, "reclaim")
    folded = fold(case.entries, WITHOUT_RIGHTS)
    assert [verdict_of(folded, held) for held in (accept, void, reclaim)] == [LATE, LATE, APPLIED]
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (accept, void, reclaim)] == [APPLIED, APPLIED, LATE]


def test_a11_a_restored_holder_writes_again_in_an_old_epoch() -> None:
    """A11: what a restored store writes anew has a later place in its node's order and loses to the earlier fact."""
    case = Script()
    opening = case.open()
    before = case.write(EAST_VILLAGE, "accept", order=(0, 1))
    case.back_to(opening)
    again = case.write(EAST_VILLAGE, "refuse", kind=5, order=(1, 0), header={"basis": BASIS_2})
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (before, again)] == [APPLIED, LATE]
    assert state_word(folded.context) == "accepted"  # type: ignore[arg-type]


def test_a11_a_restored_hub_reclaims_again_on_top_of_what_its_first_reclaim_displaced() -> None:
    """A11: the later reclaim of the same hub does not displace its acknowledged earlier one, wherever it stands."""
    case = Script()
    opening = case.open()
    first = case.write(EAST, "reclaim", order=(0, 1))
    case.back_to(opening)
    accept = case.write(EAST_VILLAGE, "accept")
    second = case.write(EAST, "reclaim", order=(1, 0))
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (first, accept, second)] == [APPLIED, LATE, LATE]


def test_a_later_basis_does_not_bring_an_author_s_later_entry_forward() -> None:
    """A node that moved deeper does not displace its own earlier reclaim by a second one under the new basis."""
    case = Script()
    opening = case.open(WEST_VILLAGE)
    first = case.write(WEST, "reclaim", header={"basis": BASIS})
    case.back_to(opening)
    second = case.write(WEST, "reclaim", header={"basis": BASIS_2})  # one level deeper there
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (first, second)] == [APPLIED, LATE]


def test_a10_another_case_s_entries_are_passed_over() -> None:
    """A10: a case key is the hash of its opening; entries naming another key, and a second opening, change nothing."""
    case, other = Script(), Script()
    case.open()
    other.open(EAST_OTHER)
    stray = other.write(EAST_OTHER, "accept")
    squatter = case.write(WEST, "open", case=case.key)
    case.tip = case.key
    case.write(EAST_VILLAGE, "accept")
    alone = fold(case.entries, JUDGE)
    assert verdict_of(alone, squatter) == ("void", "second_opening")
    smaller = min(case.key, other.key)  # type: ignore[type-var]
    mixed = fold([*case.entries, *other.entries], JUDGE)
    assert mixed == fold(case.entries if smaller == case.key else other.entries, JUDGE)
    assert (stray.link in mixed.verdicts) == (smaller == other.key)


# --- void on the tree


def test_a_void_entry_keeps_the_chain_and_changes_nothing() -> None:
    """No right, not in the table, or malformed: the chain runs through the entry, state and custody stay."""
    judge = TreeJudge(refused=frozenset({(EAST_VILLAGE, "withdraw")}))
    case = Script()
    case.open()
    no_right = case.write(EAST_VILLAGE, "withdraw")
    not_in_table = case.write(EAST_VILLAGE, "finish")
    malformed = case.write(EAST_VILLAGE, "offer", to="the west")
    applied = case.write(EAST_VILLAGE, "accept")
    folded = fold(case.entries, judge)
    assert verdict_of(folded, no_right) == ("void", "no_right:not_granted")
    assert verdict_of(folded, not_in_table) == ("void", "not_in_table")
    assert verdict_of(folded, malformed) == ("void", "malformed")
    assert verdict_of(folded, applied) == APPLIED
    assert len(folded.line) == 5
    assert not folded.simple


@pytest.mark.parametrize(
    ("judge", "fields", "reason"),
    [
        (TreeJudge(refused=frozenset({(EAST_VILLAGE, "open")})), {}, "no_right:not_granted"),
        (JUDGE, {"limits": "soon"}, "malformed"),
    ],
)
def test_nothing_behind_a_void_opening_has_effect(judge: TreeJudge, fields: dict[str, Any], reason: str) -> None:
    """An opening without the right, or malformed, opens nothing: no state, no party, and all behind it is void."""
    case = Script()
    opening = case.open(**fields)
    behind = case.write(EAST_VILLAGE, "accept")
    reclaim = case.write(EAST, "reclaim")
    folded = fold(case.entries, judge)
    assert verdict_of(folded, opening) == ("void", reason)
    assert verdict_of(folded, behind) == ("void", "not_in_table")
    assert verdict_of(folded, reclaim) == ("void", "not_in_table")
    assert folded.context is not None
    assert folded.context.state is State.UNOPENED
    assert folded.parties == ()


# --- waiting


def test_whatever_builds_on_something_that_is_not_here_waits() -> None:
    """A missing predecessor, and all that builds on what waits: never shown as refused, and listed as missing."""
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept")
    decide = case.write(EAST_VILLAGE, "decide", result="grant")
    note = case.write(STRANGER, "note")  # would be void, if it could be judged
    folded = fold([opening, decide, note], JUDGE)
    assert verdict_of(folded, decide) == ("waiting", "prev_missing")
    assert verdict_of(folded, note) == ("waiting", "prev_missing")
    assert folded.missing == (accept.link,)
    assert folded.waiting
    assert not folded.simple
    assert state_word(folded.context) == "received"  # type: ignore[arg-type]


def test_a_case_without_its_opening_waits_whole() -> None:
    """Without the opening there is no context, only what to fetch."""
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept")
    folded = fold([accept], JUDGE)
    assert folded.context is None
    assert folded.line == ()
    assert folded.missing == (opening.link,)
    assert verdict_of(folded, accept) == ("waiting", "prev_missing")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"header": {"basis": BASIS_UNKNOWN}}, "basis_missing"),
        ({"header": {"format": 2}}, "newer_program"),
        ({"type_": "prophecy"}, "newer_program"),
        ({"rests": [bytes(16)]}, "rests_missing"),
    ],
)
def test_reasons_to_wait(change: dict[str, Any], reason: str) -> None:
    """A basis not held, a newer format or type, something rested on that is not here: the entry and its followers wait."""
    case = Script()
    case.open()
    entry = case.write(EAST_VILLAGE, change.pop("type_", "accept"), **change)
    case.tip = entry.link
    follower = case.write(EAST_VILLAGE, "decide", result="grant")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, entry) == verdict_of(folded, follower) == ("waiting", reason)


def test_a_case_of_a_newer_table_waits_whole() -> None:
    """A table that this program does not know is a newer program's: the whole case waits."""
    case = Script()
    opening = case.open(table=2)
    accept = case.write(EAST_VILLAGE, "accept")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, opening) == verdict_of(folded, accept) == ("waiting", "newer_program")
    assert folded.context is None


def test_what_was_only_seen_is_fetched_without_waiting() -> None:
    """A side entry that a spine entry saw and we lack is missing, but nothing waits for it."""
    case = Script()
    case.open()
    accept = case.write(EAST_VILLAGE, "accept", saw=[b"s" * 16])
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, accept) == APPLIED
    assert folded.missing == (b"s" * 16,)
    assert not folded.simple


def test_entries_that_name_each_other_only_wait() -> None:
    """A circle is impossible by hashing; forged into the store it waits and harms nobody."""
    case = Script()
    opening = case.open()
    one = Held(b"1" * 32, case.write(EAST_VILLAGE, "accept", prev=b"2" * 16).header, (0, 1))
    two = Held(b"2" * 32, case.write(EAST_VILLAGE, "accept", prev=b"1" * 16).header, (0, 2))
    folded = fold([opening, one, two], JUDGE)
    assert verdict_of(folded, one) == verdict_of(folded, two) == ("waiting", "prev_missing")
    assert folded.line == (opening.link,)


# --- cuts and adoption


def test_what_is_behind_a_cut_has_no_effect() -> None:
    """The first cut entry trims the line, with everything behind it."""
    case = Script()
    opening = case.open()
    stolen = case.write(EAST_VILLAGE, "accept", cut=True)
    offer = case.write(EAST_VILLAGE, "offer", to=STRANGER, cut=True)
    folded = fold(case.entries, JUDGE)
    assert folded.line == (opening.link,)
    assert verdict_of(folded, stolen) == verdict_of(folded, offer) == ("void", "revoked")
    assert STRANGER in folded.parties  # parties never shrink
    reclaim = case.write(EAST, "reclaim")
    assert verdict_of(fold(case.entries, JUDGE), reclaim) == ("void", "revoked")  # not cut itself, but built on it


def test_an_uncut_take_vouches_for_what_it_builds_on() -> None:
    """A node that was not cut took the case over: what it took stands, whatever the cut says."""
    case = Script()
    case.open(cut=True)
    case.write(EAST_VILLAGE, "offer", to=WEST, cut=True)
    take = case.write(WEST, "take")
    case.write(WEST, "offer", to=EAST_VILLAGE)
    case.write(EAST_VILLAGE, "take", cut=True)  # the thief's own take vouches for nothing
    behind = case.write(EAST_VILLAGE, "accept", cut=True)
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held)[0] for held in case.entries] == ["applied"] * 4 + ["void"] * 2
    assert verdict_of(folded, take) == APPLIED
    assert verdict_of(folded, behind) == ("void", "revoked")
    assert folded.context is not None
    assert (folded.context.holder, folded.context.offered) == (WEST, EAST_VILLAGE)
    assert not fold(case.entries[:4], JUDGE).simple


def test_a_void_take_vouches_for_nothing() -> None:
    """Who had no right to take the case did not take it over."""
    case = Script()
    opening = case.open()
    offer = case.write(EAST_VILLAGE, "offer", to=WEST, cut=True)
    take = case.write(WEST, "take")
    folded = fold(case.entries, WITHOUT_RIGHTS)
    assert folded.line == (opening.link,)
    assert verdict_of(folded, offer) == verdict_of(folded, take) == ("void", "revoked")


def test_a_cut_branch_gives_way_to_one_that_is_not() -> None:
    """A cut entry that is first in its author's order does not shadow the owner's honest one at the same place."""
    case = Script()
    opening = case.open()
    stolen = case.write(EAST_VILLAGE, "refuse", kind=4, order=(0, 1), cut=True)
    case.back_to(opening)
    honest_entry = case.write(EAST_VILLAGE, "accept", order=(1, 1))
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, stolen) == ("void", "revoked")
    assert verdict_of(folded, honest_entry) == APPLIED


def test_a_case_opened_behind_a_cut_is_not_open() -> None:
    """A trimmed opening leaves a case with no line and no state; its parties are still told."""
    case = Script()
    case.open(cut=True)
    case.write(EAST_VILLAGE, "accept")
    folded = fold(case.entries, JUDGE)
    assert folded.line == ()
    assert folded.context is not None
    assert folded.context.state is State.UNOPENED
    assert folded.parties == (EAST_VILLAGE,)


def test_adopt_marks_late_and_cut_entries() -> None:
    """The holder may adopt what a late or cut line says: it is marked, and no state changes by it."""
    case = Script()
    opening = case.open()
    late = case.write(EAST_VILLAGE, "accept")
    case.back_to(opening)
    case.write(EAST, "reclaim")
    note = case.write(EAST_VILLAGE, "note", cut=True)
    adopt = case.write(EAST, "adopt", of=[late.link, note.link, opening.link])
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, late) == ("late", "adopted")
    assert verdict_of(folded, note) == ("void", "adopted")
    assert verdict_of(folded, opening) == verdict_of(folded, adopt) == APPLIED
    assert state_word(folded.context) == "received"  # type: ignore[arg-type]


# --- side entries


def test_only_parties_and_who_stands_above_them_write_beside_a_case() -> None:
    """Nobody names himself in: a stranger's note is void, and makes no party of it; a hub above a party may write."""
    case = Script()
    case.open()
    stranger = case.write(STRANGER, "note")
    hub = case.write(EAST, "card")
    before = case.write(WEST, "note")
    offer = case.write(EAST_VILLAGE, "offer", to=WEST)
    after = case.write(WEST, "note")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, stranger) == verdict_of(folded, before) == ("void", "not_a_party")
    assert verdict_of(folded, hub) == verdict_of(folded, after) == APPLIED
    assert folded.parties == tuple(sorted([EAST_VILLAGE, WEST]))
    assert folded.verdicts[offer.link].effect is Effect.APPLIED


def test_a_side_entry_stands_whichever_line_is_chosen() -> None:
    """Its author was a party where it wrote: that the line there was not chosen does not undo a note."""
    case = Script()
    opening = case.open()
    case.write(EAST_VILLAGE, "offer", to=WEST)
    note = case.write(WEST, "note")
    case.back_to(opening)
    case.write(CITY, "reclaim")
    folded = fold(case.entries, JUDGE)
    assert folded.line[1:] == (case.entries[3].link,)
    assert verdict_of(folded, note) == APPLIED


def test_a_side_entry_off_the_tree_is_void_and_behind_what_waits_it_waits() -> None:
    """What names a void place has no place; what names something not here waits."""
    case = Script()
    case.open()
    off = case.write(EAST_TOWN, "accept")
    void = case.write(EAST_VILLAGE, "note", prev=off.link)
    on_side = case.write(EAST_VILLAGE, "note", prev=void.link)
    nowhere = case.write(EAST_VILLAGE, "note", prev=None)
    waits = case.write(EAST_VILLAGE, "note", prev=b"x" * 16)
    folded = fold(case.entries, JUDGE)
    for held in (void, on_side, nowhere):
        assert verdict_of(folded, held) == ("void", "builds_on_void_place")
    assert verdict_of(folded, waits) == ("waiting", "prev_missing")


def test_a_side_entry_needs_its_right_and_its_form() -> None:
    """Rights and forms hold beside the case too."""
    judge = TreeJudge(refused=frozenset({(EAST_VILLAGE, "payment")}))
    case = Script()
    case.open()
    payment = case.write(EAST_VILLAGE, "payment")
    material = case.write(EAST_VILLAGE, "material", materials=[])
    folded = fold(case.entries, judge)
    assert verdict_of(folded, payment) == ("void", "no_right:not_granted")
    assert verdict_of(folded, material) == ("void", "malformed")


def dispatched(join: str | int = "all") -> tuple[Script, Held]:
    """Return a case with two departments at work side by side."""
    case = Script()
    case.open(WEST_TOWN)
    case.write(WEST_TOWN, "accept")
    tasks = [["a", WEST_DEPT, None], ["b", WEST_DEPT_2, "window 3"]]
    return case, case.write(WEST_TOWN, "dispatch", stage="review", tasks=tasks, join=join)


def test_task_results_come_from_their_assignees() -> None:
    """A result counts from the node that the dispatch gave the task to, and for a dispatch with effect."""
    case, dispatch = dispatched()
    good = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="pass")
    swapped = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="b", result="pass")
    unknown = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="z", result="pass")
    no_dispatch = case.write(WEST_DEPT, "task", dispatch=case.entries[1].link, task="a", result="pass")
    stranger = case.write(STRANGER, "task", dispatch=dispatch.link, task="a", result="pass")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, good) == APPLIED
    assert verdict_of(folded, swapped) == verdict_of(folded, unknown) == ("void", "not_assigned")
    assert verdict_of(folded, no_dispatch) == ("void", "not_dispatched")
    assert verdict_of(folded, stranger) == ("void", "not_a_party")


def test_a_task_result_stands_with_its_dispatch() -> None:
    """When the dispatch is not on the line, the result is late; when it is not here, the result waits."""
    case, dispatch = dispatched()
    result = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="pass")
    waits = fold([held for held in case.entries if held is not dispatch], JUDGE)
    assert verdict_of(waits, result) == ("waiting", "prev_missing")
    elsewhere = case.write(WEST_DEPT, "task", prev=case.key, dispatch=b"d" * 16, task="a", result="pass")
    assert verdict_of(fold(case.entries, JUDGE), elsewhere) == ("waiting", "rests_missing")
    case.back_to(case.entries[1])
    case.write(CITY, "reclaim")
    folded = fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (dispatch, result)] == [LATE, LATE]
    assert {WEST_DEPT, WEST_DEPT_2} <= set(folded.parties)


def test_an_earlier_stage_s_result_stands_but_joins_nothing() -> None:
    """A result for an earlier dispatch on the line is applied; the join asks for the present stage's."""
    case, first = dispatched("any")
    again = case.write(WEST_TOWN, "dispatch", stage="again", tasks=[["a", WEST_DEPT, None]], join="all")
    old = case.write(WEST_DEPT, "task", dispatch=first.link, task="a", result="pass")
    decide = case.write(WEST_TOWN, "decide", result="grant", rests=[old])
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, again) == verdict_of(folded, old) == APPLIED
    assert verdict_of(folded, decide) == ("void", "guard:join")


def test_resting_on_what_has_no_effect_is_void() -> None:
    """`rests` names side entries with effect: a void one, a spine entry, or another line's task make the entry void."""
    case, dispatch = dispatched()
    bad = case.write(STRANGER, "note")
    rests_on_void = case.write(WEST_TOWN, "extend", days=1, rests=[bad])
    rests_on_spine = case.write(WEST_TOWN, "extend", days=1, rests=[dispatch])
    result = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="pass", prev=dispatch.link)
    case.back_to(case.entries[1])
    case.write(CITY, "reclaim")
    other_line = case.write(CITY, "extend", days=1, rests=[result])
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, other_line) == ("void", "guard:rests")
    without = fold(case.entries[:-2], JUDGE)
    assert verdict_of(without, rests_on_void) == verdict_of(without, rests_on_spine) == ("void", "guard:rests")


def test_a_cut_side_entry_stands_only_where_the_line_relies_on_it() -> None:
    """What a revoked department said is void, except what an uncut holder's entry rests on: that one vouches."""
    case, dispatch = dispatched("any")
    relied = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="pass", cut=True)
    other = case.write(WEST_DEPT, "note", cut=True)
    decide = case.write(WEST_TOWN, "decide", result="grant", rests=[relied], saw=[other])
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, decide) == verdict_of(folded, relied) == APPLIED
    assert verdict_of(folded, other) == ("void", "revoked")


def test_delivery_sets_a_flag_not_the_state() -> None:
    """A result is delivered once there is one; before a decision there is nothing to deliver."""
    case = Script()
    case.open()
    early = case.write(EAST_VILLAGE, "deliver", how="window")
    case.write(EAST_VILLAGE, "accept")
    case.write(EAST_VILLAGE, "decide", result="grant")
    assert not fold(case.entries, JUDGE).delivered
    deliver = case.write(EAST_VILLAGE, "deliver", how="window")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, early) == ("void", "guard:no_result")
    assert verdict_of(folded, deliver) == APPLIED
    assert folded.delivered
    assert folded.conflicts == ()
    assert state_word(folded.context) == "decided"  # type: ignore[arg-type]


def test_a_delivered_decision_that_does_not_stand_is_a_conflict() -> None:
    """A decision that was delivered and then lost its line is named, to be settled by people."""
    case = Script()
    opening = case.open()
    case.write(EAST_VILLAGE, "accept")
    decide = case.write(EAST_VILLAGE, "decide", result="grant")
    deliver = case.write(EAST_VILLAGE, "deliver", how="window")
    case.back_to(opening)
    case.write(EAST, "reclaim")
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, decide) == LATE
    assert verdict_of(folded, deliver) == APPLIED
    assert folded.conflicts == (decide.link,)
    assert not folded.delivered


# --- legal time


def test_a_time_entry_of_the_lowest_hub_replaces_the_claim() -> None:
    """H11: a claim outside the evidence is replaced by the first hub's receive time, also for the case's clocks."""
    case = Script()
    case.open()
    accept = case.write(EAST_VILLAGE, "accept", claimed=START - 30 * DAY)
    claimed = fold(case.entries, JUDGE)
    assert claimed.context is not None
    assert claimed.context.clock.accepted_at == START - 30 * DAY
    higher = case.write(CITY, "time", of=accept.link, at=START + 9 * DAY)
    lower = case.write(EAST_TOWN, "time", of=accept.link, at=START + HOUR)
    own = case.write(EAST_VILLAGE, "time", of=accept.link, at=START)
    beside = case.write(WEST, "time", of=accept.link, at=START)
    folded = fold(case.entries, JUDGE)
    assert folded.context is not None
    assert folded.context.clock.accepted_at == START + HOUR
    assert verdict_of(folded, lower) == APPLIED
    assert verdict_of(folded, higher) == LATE
    assert verdict_of(folded, own) == verdict_of(folded, beside) == ("void", "not_above")
    assert verdict_of(folded, accept) == APPLIED  # no verdict hangs on a clock


def test_the_first_time_of_one_hub_counts() -> None:
    """A hub that dates an entry twice changes nothing by the second, under whatever basis."""
    case = Script()
    case.open(WEST_VILLAGE)
    accept = case.write(WEST_VILLAGE, "accept")
    case.write(WEST, "time", of=accept.link, at=START + HOUR)
    case.write(WEST, "time", of=accept.link, at=START + DAY, header={"basis": BASIS_2})
    folded = fold(case.entries, JUDGE)
    assert folded.context is not None
    assert folded.context.clock.accepted_at == START + HOUR


def test_hubs_of_equal_depth_go_by_id_and_no_second_entry_changes_that() -> None:
    """Neither a hash that one can grind for, nor an author's own later entry under a deeper basis, brings it forward."""
    case = Script()
    case.open(WEST_VILLAGE)
    accept = case.write(WEST_VILLAGE, "accept")
    case.write(WEST, "time", of=accept.link, at=START + HOUR, order=(0, 0))
    case.write(WEST, "time", of=accept.link, at=START + DAY, order=(0, 1), header={"basis": BASIS_2})  # deeper there
    east = case.write(EAST, "time", of=accept.link, at=START + 2 * DAY, order=(0, 5), header={"basis": BASIS_2})
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, east) == APPLIED
    assert folded.context is not None
    assert folded.context.clock.accepted_at == START + 2 * DAY


def test_entries_recorded_afterwards_keep_their_claimed_time() -> None:
    """补录 counts from its claimed date: a `time` for it is void."""
    case = Script()
    case.open()
    accept = case.write(EAST_VILLAGE, "accept", claimed=START - 30 * DAY, afterwards=True)
    time = case.write(EAST_TOWN, "time", of=accept.link, at=START)
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, time) == ("void", "guard:afterwards")
    assert folded.context is not None
    assert folded.context.clock.accepted_at == START - 30 * DAY


def test_a_time_without_its_entry_waits_and_a_cut_one_is_void() -> None:
    """A `time` waits for the entry that it dates; behind a cut it dates nothing."""
    case = Script()
    case.open()
    waits = case.write(EAST_TOWN, "time", of=b"n" * 16, at=START)
    cut = case.write(EAST_TOWN, "time", of=case.entries[0].link, at=START, cut=True)
    malformed = case.write(EAST_TOWN, "time", of="opening", at=START)
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, waits) == ("waiting", "rests_missing")
    assert verdict_of(folded, cut) == ("void", "revoked")
    assert verdict_of(folded, malformed) == ("void", "malformed")
    assert folded.context is not None
    assert folded.context.clock.opened_at == case.entries[0].header.claimed_at


def test_a_right_that_had_ended_by_legal_time_is_no_right() -> None:
    """Dated rights are judged by legal time: backdating an entry into one's term of office does not help."""
    judge = TreeJudge(ends={(EAST_VILLAGE, "accept"): START + 5 * DAY})
    case = Script()
    case.open()
    accept = case.write(EAST_VILLAGE, "accept", claimed=START + DAY)
    assert verdict_of(fold(case.entries, judge), accept) == APPLIED
    case.write(EAST_TOWN, "time", of=accept.link, at=START + 6 * DAY)
    assert verdict_of(fold(case.entries, judge), accept) == ("void", "no_right:ended")


# --- facts and bounds


def test_a_fact_counts_once_at_its_first_place() -> None:
    """The same bytes at a later place of a restored log are the same fact, at its first place, cut or not."""
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept", order=(0, 1))
    case.back_to(opening)
    refuse = case.write(EAST_VILLAGE, "refuse", kind=4, order=(1, 0))
    restated = [Held(held.leaf, held.header, (2, index), cut=True) for index, held in enumerate(case.entries)]
    folded = fold([*restated, *case.entries], JUDGE)
    assert folded == fold(case.entries, JUDGE)
    assert [verdict_of(folded, held) for held in (accept, refuse)] == [APPLIED, LATE]


def test_a_flood_cannot_crowd_out_what_others_wrote() -> None:
    """Over the bound, every author's first entries come first: the flooder's last are left out, nobody else's."""
    case = Script()
    opening = case.open()
    flood = [case.write(EAST_VILLAGE, "note") for _ in range(CASE_ENTRIES_MAX + 10)]
    reclaim = case.write(EAST, "reclaim")
    notes = [case.write(EAST_TOWN, "note", prev=opening.link) for _ in range(3)]
    case.write(EAST, "extend", days=1, saw=[flood[-1]])  # what is left out here is not fetched again and again
    folded = fold(reversed(case.entries), JUDGE)
    assert len(folded.verdicts) == len(case.entries)
    assert [verdict_of(folded, held) for held in (opening, reclaim, *notes)] == [APPLIED] * 5
    left_out = [held for held in flood if verdict_of(folded, held) == ("void", "too_long")]
    assert left_out == flood[-16:]
    assert not folded.simple
    assert folded.missing == ()
    assert folded.context is not None
    assert folded.context.count == CASE_ENTRIES_MAX


def test_a_case_as_long_as_the_bound_folds_without_recursion() -> None:
    """4,096 spine entries, forked at each step or in one line, are no deeper than any others; `advance` ends there."""
    case = Script()
    case.open(WEST_TOWN)
    case.write(WEST_TOWN, "accept")
    while len(case.entries) < CASE_ENTRIES_MAX:
        tip = case.write(WEST_TOWN, "extend", days=1)
        case.write(WEST_TOWN, "extend", days=2, prev=tip.header.prev)
        case.back_to(tip)
    folded = fold(case.entries, JUDGE)
    assert len(folded.line) == CASE_ENTRIES_MAX // 2 + 1
    line = Script()
    line.open()
    for _ in range(CASE_ENTRIES_MAX - 1):
        line.write(EAST_VILLAGE, "notice", missing=["photo"])
    full = fold(line.entries, JUDGE)
    assert len(full.line) == CASE_ENTRIES_MAX
    assert full.simple
    assert advance(full.context, line.write(EAST_VILLAGE, "accept", lacking=["photo"]), JUDGE) is None


def test_two_leaves_under_one_link_do_not_make_arrival_count() -> None:
    """If ever two entries share a link, the smaller leaf stands at every node."""
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept")
    twin = Held(
        accept.link + b"\x00" * 16, case.write(EAST_VILLAGE, "refuse", kind=4, prev=opening.link).header, (0, 0)
    )
    pair = [accept, twin]
    assert fold([opening, *pair], JUDGE) == fold([opening, *reversed(pair)], JUDGE)
    assert fold([opening, *pair], JUDGE).context.state is State.REFUSED  # type: ignore[union-attr]


def test_no_entries_are_no_case() -> None:
    """Folding nothing is a programmer's error."""
    with pytest.raises(ValueError, match="without entries"):
        fold([], JUDGE)


def test_what_is_no_opening_opens_nothing() -> None:
    """An entry without a case key that is not an opening stands alone, void."""
    case = Script()
    note = case.write(EAST_VILLAGE, "note", case=None)
    folded = fold(case.entries, JUDGE)
    assert verdict_of(folded, note) == ("void", "malformed")
    assert folded.context is None
