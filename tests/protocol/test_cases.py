"""Tests of what one entry does to a case: guards, effects, codes, clocks and the stored form of a context."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import cases, limits
from protocol.cases import (
    EFFECTS,
    GUARDS,
    Context,
    Side,
    absorb,
    begin,
    decode_context,
    encode_context,
    is_answered,
    place,
    state_code,
    state_word,
    step,
)
from protocol.fold import Effect, Folded, fold
from protocol.transitions import SPINE_TYPES, State
from tests.protocol.histories import (
    CITY,
    DAY,
    EAST,
    EAST_DEPT,
    EAST_VILLAGE,
    HOUR,
    JUDGE,
    OPENING_FIELDS,
    START,
    WEST,
    WEST_DEPT,
    WEST_DEPT_2,
    Script,
    hostile,
)

TASKS = [["a", WEST_DEPT, None], ["b", WEST_DEPT_2, None], ["c", EAST_DEPT, "window 3"]]


def context_of(case: Script) -> Context:
    """Return the context at the end of the line."""
    context = fold(case.entries, JUDGE).context
    assert context is not None
    return context


def reason_of(case: Script) -> str:
    """Return why the newest entry is void, or "" when it is applied."""
    folded: Folded = fold(case.entries, JUDGE)
    verdict = folded.verdicts[case.entries[-1].link]
    assert verdict.effect in {Effect.APPLIED, Effect.VOID}
    return str(verdict.reason)


def accepted() -> Script:
    """Return a case that its village accepted."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "accept")
    return case


# --- states and codes


@pytest.mark.parametrize(
    ("moves", "word", "code"),
    [
        ([], "received", 1),
        ([("withdraw", {})], "withdrawn", 2),
        ([("refuse", {"kind": 4})], "refused", 4),
        ([("refuse", {"kind": 5})], "refused", 5),
        ([("notice", {"missing": ["photo"]})], "noticed", 6),
        ([("accept", {})], "accepted", 3),
        ([("accept", {}), ("suspend", {})], "suspended", 9),
        ([("accept", {}), ("suspend", {}), ("resume", {})], "accepted", 3),
        ([("accept", {}), ("dispatch", {"stage": "s", "tasks": TASKS, "join": "all"})], "handling", 8),
        (
            [("accept", {}), ("dispatch", {"stage": "s", "tasks": TASKS, "join": "all"}), ("suspend", {})],
            "suspended",
            9,
        ),
        (
            [
                ("accept", {}),
                ("dispatch", {"stage": "s", "tasks": TASKS, "join": "all"}),
                ("suspend", {}),
                ("resume", {}),
            ],
            "handling",
            8,
        ),
        ([("accept", {}), ("decide", {"result": "grant"})], "decided", 8),
        ([("accept", {}), ("decide", {"result": "grant"}), ("finish", {})], "finished", 11),
        ([("accept", {}), ("decide", {"result": "partial"}), ("finish", {})], "finished", 12),
        ([("accept", {}), ("decide", {"result": "deny"}), ("finish", {})], "finished", 13),
        ([("accept", {}), ("withdraw", {})], "withdrawn", 14),
        ([("accept", {}), ("decide", {"result": "grant"}), ("revoke", {})], "revoked", 15),
        ([("accept", {}), ("decide", {"result": "grant"}), ("finish", {}), ("revoke", {})], "revoked", 15),
    ],
)
def test_states_show_their_word_and_export_code(moves: list[tuple[str, dict[str, Any]]], word: str, code: int) -> None:
    """Words and codes of DOMAIN §2.1 for every state; refused and finished by kind and outcome."""
    case = Script()
    case.open()
    for kind, fields in moves:
        case.write(EAST_VILLAGE, kind, **fields)
        assert reason_of(case) == ""
    context = context_of(case)
    assert (state_word(context), state_code(context)) == (word, code)


@pytest.mark.parametrize("odd", [{"limits": []}, {"prev": bytes(16)}])
def test_a_void_opening_shows_no_state_of_a_case(odd: dict[str, Any]) -> None:
    """A case that was never opened has code 0; an opening builds on nothing."""
    case = Script()
    values = {"case": None, "prev": None, "epoch": None, **OPENING_FIELDS, **odd}
    case.key = case.write(EAST_VILLAGE, "open", **values).link
    assert reason_of(case) == "malformed"
    assert (state_word(context_of(case)), state_code(context_of(case))) == ("void", 0)


def test_the_notice_ends_when_all_that_was_named_is_handed_in() -> None:
    """Code 6 while a named material lacks, 7 when all were handed in, at any party's counter."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "material", materials=["photo"])  # before the notice: does not answer it
    case.write(EAST_VILLAGE, "notice", missing=["photo", "form", "form"])
    assert state_code(context_of(case)) == 6
    case.write(EAST_VILLAGE, "material", materials=["photo", "poem"])
    assert state_code(context_of(case)) == 6
    case.write(EAST, "material", materials=["form"])
    context = context_of(case)
    assert state_code(context) == 7
    assert is_answered(context)
    assert context.handed == ("form", "photo")
    assert context.handed_at == case.entries[-1].header.claimed_at


def test_a_second_notice_asks_anew() -> None:
    """A second notice replaces the list, and what was handed in before does not answer it."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "notice", missing=["photo"])
    material = case.write(EAST_VILLAGE, "material", materials=["photo"])
    case.write(EAST_VILLAGE, "notice", missing=["photo"], saw=[material])
    assert state_code(context_of(case)) == 6
    case.write(EAST_VILLAGE, "accept")
    assert reason_of(case) == "guard:materials"


# --- guards


def test_accepting_after_a_notice_needs_each_material_or_says_what_lacks() -> None:
    """After a notice each named material is rested on, by any entry since, or accepted as lacking (容缺受理)."""
    case = Script()
    case.open()
    notice = case.write(EAST_VILLAGE, "notice", missing=["photo", "form"])
    photo = case.write(EAST_VILLAGE, "material", materials=["photo"])
    form = case.write(EAST_VILLAGE, "material", materials=["form"])
    for rests, lacking, reason in [
        ([], None, "guard:materials"),
        ([photo], None, "guard:materials"),
        ([photo], ["poem"], "guard:materials"),
        ([photo], ["form"], ""),
        ([photo, form], None, ""),
        ([], ["form", "photo"], ""),
    ]:
        case.back_to(notice)
        case.write(EAST_VILLAGE, "accept", rests=rests, **({} if lacking is None else {"lacking": lacking}))
        assert reason_of(case) == reason
        case.entries.pop()


def test_seeing_a_material_is_not_relying_on_it() -> None:
    """A guard looks at `rests` only: a material in `saw` does not complete a case."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "notice", missing=["photo"])
    photo = case.write(EAST_VILLAGE, "material", materials=["photo"])
    case.write(EAST_VILLAGE, "accept", saw=[photo])
    assert reason_of(case) == "guard:materials"


def test_materials_relied_on_along_the_line_add_up() -> None:
    """What an earlier entry of the line rested on counts, also when another holder wrote it; a void one's does not."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "notice", missing=["photo", "form"])
    photo = case.write(EAST_VILLAGE, "material", materials=["photo"])
    form = case.write(EAST_VILLAGE, "material", materials=["form"])
    case.write(EAST_VILLAGE, "finish", rests=[form])  # not in the table: relies on nothing
    case.write(EAST_VILLAGE, "offer", to=WEST, rests=[photo])
    case.write(WEST, "take")
    case.write(WEST, "accept")
    assert reason_of(case) == "guard:materials"
    case.write(WEST, "accept", rests=[form])
    assert reason_of(case) == ""


@pytest.mark.parametrize(
    ("join", "results", "decision", "reason"),
    [
        ("all", ["pass", "pass", "pass"], "grant", ""),
        ("all", ["pass", "pass", None], "grant", "guard:join"),
        ("all", ["pass", "pass", "fail"], "partial", "guard:join"),
        ("all", ["pass", "pass", "pass"], "deny", ""),
        ("all", ["fail", None, None], "deny", ""),
        ("all", ["pass", None, None], "deny", "guard:join"),
        ("any", [None, "pass", None], "partial", ""),
        ("any", ["fail", None, "fail"], "grant", "guard:join"),
        ("any", [None, None, None], "grant", "guard:join"),
        (2, ["pass", None, "pass"], "grant", ""),
        (2, ["pass", "fail", None], "grant", "guard:join"),
        (1, [None, None, None], "deny", "guard:join"),
    ],
)
def test_a_decision_needs_the_join_of_the_stage(
    join: str | int, results: list[str | None], decision: str, reason: str
) -> None:
    """Granting needs as many passes as the join says; denying needs one failure, or every answer."""
    case = accepted()
    dispatch = case.write(EAST_VILLAGE, "dispatch", stage="review", tasks=TASKS, join=join)
    answers = [
        case.write(task[1], "task", dispatch=dispatch.link, task=task[0], result=result)
        for task, result in zip(TASKS, results, strict=True)
        if result is not None
    ]
    case.write(EAST_VILLAGE, "decide", result=decision, rests=answers)
    assert reason_of(case) == reason


def test_results_that_the_line_does_not_rest_on_join_nothing() -> None:
    """A result that was only seen, or that nobody listed, does not let a decision pass."""
    case = accepted()
    dispatch = case.write(EAST_VILLAGE, "dispatch", stage="review", tasks=TASKS[:1], join="all")
    answer = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="pass")
    case.write(EAST_VILLAGE, "decide", result="grant", saw=[answer])
    assert reason_of(case) == "guard:join"


def test_of_two_results_for_a_task_the_later_counts() -> None:
    """An assignee may correct itself before the decision: in one entry its last word counts, in any order of listing."""
    case = accepted()
    dispatch = case.write(EAST_VILLAGE, "dispatch", stage="review", tasks=TASKS[:1], join="all")
    first = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="pass")
    second = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="fail")
    case.write(EAST_VILLAGE, "decide", result="grant", rests=[second, first])
    assert reason_of(case) == "guard:join"


def test_a_later_result_does_not_undo_a_decision() -> None:
    """A failure that comes after the decision is shown beside it."""
    case = accepted()
    dispatch = case.write(EAST_VILLAGE, "dispatch", stage="review", tasks=TASKS[:1], join="all")
    answer = case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="pass")
    case.write(EAST_VILLAGE, "decide", result="grant", rests=[answer])
    case.write(WEST_DEPT, "task", dispatch=dispatch.link, task="a", result="fail")
    assert reason_of(case) == ""
    assert state_word(context_of(case)) == "decided"


def test_without_a_stage_a_case_is_decided_at_once() -> None:
    """即办件: no dispatch, no join."""
    case = accepted()
    case.write(EAST_VILLAGE, "decide", result="grant")
    assert reason_of(case) == ""


def test_nobody_offers_a_case_to_himself() -> None:
    """An offer names another node."""
    case = accepted()
    case.write(EAST_VILLAGE, "offer", to=EAST_VILLAGE)
    assert reason_of(case) == "guard:target"


def test_parties_of_a_case_are_bounded() -> None:
    """A dispatch or offer that would bring in too many parties is void; known parties may always be named."""
    case = accepted()
    nodes = [f"65010200{number:04d}" for number in range(limits.CASE_PARTIES_MAX - 1)]
    tasks = [[node, node] for node in nodes]
    case.write(EAST_VILLAGE, "dispatch", stage="all", tasks=tasks, join="any")
    assert reason_of(case) == ""
    assert len(context_of(case).parties) == limits.CASE_PARTIES_MAX
    case.write(EAST_VILLAGE, "offer", to=WEST)
    assert reason_of(case) == "guard:parties"
    case.write(EAST_VILLAGE, "dispatch", stage="one more", tasks=[["x", WEST]], join="any")
    assert reason_of(case) == "guard:parties"
    case.write(EAST_VILLAGE, "offer", to=nodes[0])
    assert reason_of(case) == ""
    case.write(CITY, "reclaim")  # a flood of parties does not keep a case from its ancestors
    assert reason_of(case) == ""


def test_stages_spans_and_extensions_are_bounded() -> None:
    """A context stays small: so many stages, suspensions and answered notices on a line, and no limit without end."""
    case = accepted()
    case.write(EAST_VILLAGE, "extend", days=limits.WORKING_DAYS_MAX)
    assert reason_of(case) == "guard:days"
    for _ in range(limits.CASE_SPANS_MAX):
        case.write(EAST_VILLAGE, "suspend")
        case.write(EAST_VILLAGE, "resume")
    case.write(EAST_VILLAGE, "suspend")
    assert reason_of(case) == "guard:spans"
    for _ in range(limits.CASE_STAGES_MAX):
        case.write(EAST_VILLAGE, "dispatch", stage="s", tasks=TASKS, join="any")
        assert reason_of(case) == ""
    case.write(EAST_VILLAGE, "dispatch", stage="s", tasks=TASKS, join="any")
    assert reason_of(case) == "guard:stages"
    noticed = Script()
    noticed.open()
    for _ in range(limits.CASE_SPANS_MAX):
        noticed.write(EAST_VILLAGE, "notice", missing=["photo"])
        assert reason_of(noticed) == ""
        material = noticed.write(EAST_VILLAGE, "material", materials=["photo"])
        noticed.write(EAST_VILLAGE, "offer", to=WEST, rests=[material])
        noticed.write(WEST, "return")
    noticed.write(EAST_VILLAGE, "notice", missing=["photo"])
    assert reason_of(noticed) == "guard:spans"


def test_guards_and_effects_belong_to_spine_types() -> None:
    """No guard and no effect hangs on a name that is never written."""
    assert set(GUARDS) | set(EFFECTS) <= SPINE_TYPES


# --- clocks


def test_clocks_keep_the_legal_times_of_the_line() -> None:
    """Receipt, acceptance, suspensions, extensions and the decision stand in the context, in ms."""
    case = Script()
    opening = case.open()
    accept = case.write(EAST_VILLAGE, "accept", claimed=START + DAY)
    case.write(EAST_VILLAGE, "suspend", claimed=START + 2 * DAY)
    case.write(EAST_VILLAGE, "resume", claimed=START + 4 * DAY)
    case.write(EAST_VILLAGE, "extend", days=3)
    case.write(EAST_VILLAGE, "extend", days=4)
    case.write(EAST_VILLAGE, "suspend", claimed=START + 6 * DAY)
    case.write(EAST_VILLAGE, "resume", claimed=START + 5 * DAY)  # a clock that was set back
    case.write(EAST_VILLAGE, "decide", result="grant", claimed=START + 9 * DAY)
    clock = context_of(case).clock
    assert clock.opened_at == opening.header.claimed_at
    assert clock.accepted_at == accept.header.claimed_at
    assert clock.decided_at == START + 9 * DAY
    assert clock.extension_days == 7
    assert clock.suspensions == ((START + 2 * DAY, START + 4 * DAY), (START + 6 * DAY, START + 6 * DAY))


def test_the_supplement_span_ends_with_the_material_that_the_next_entry_rests_on() -> None:
    """Not when the holder writes, and not by material that nobody relied on: at the legal time of the relied-on material."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "notice", missing=["photo", "form"], claimed=START + DAY)
    early = case.write(EAST_VILLAGE, "material", materials=["form"], claimed=START + 2 * DAY)
    handed = case.write(EAST, "material", materials=["photo"], claimed=START + 3 * DAY)
    ignored = case.write(EAST, "material", materials=["poem"], claimed=START + 5 * DAY)
    note = case.write(EAST, "note", claimed=START + 5 * DAY)
    case.write(EAST_VILLAGE, "offer", to=WEST, saw=[ignored], claimed=START + 6 * DAY)
    assert context_of(case).clock.notices == ((START + DAY, None),)
    case.write(WEST, "take", rests=[handed, early, note], claimed=START + 7 * DAY)
    assert context_of(case).clock.notices == ((START + DAY, START + 3 * DAY),)
    case.write(WEST, "accept", claimed=START + 8 * DAY)
    assert context_of(case).clock.notices == ((START + DAY, START + 3 * DAY),)


@pytest.mark.parametrize("kind", ["accept", "refuse", "withdraw"])
def test_what_ends_a_notice_ends_its_span(kind: str) -> None:
    """Accepted as lacking, refused or withdrawn: the span ends there, and nothing is awaited."""
    case = Script()
    case.open()
    case.write(EAST_VILLAGE, "notice", missing=["photo"])
    fields: dict[str, Any] = {"accept": {"lacking": ["photo"]}, "refuse": {"kind": 5}}.get(kind, {})
    end = case.write(EAST_VILLAGE, kind, **fields)
    context = context_of(case)
    assert context.clock.notices == ((end.header.claimed_at - HOUR, end.header.claimed_at),)
    assert (context.notice, context.asked, context.awaited) == (None, (), ())


# --- the context


def test_fresh_lists_what_the_next_entry_has_to_name() -> None:
    """Side entries with effect that no entry of the line has listed; listed ones leave it, void ones never enter."""
    case = accepted()
    one = case.write(EAST_VILLAGE, "note")
    two = case.write(EAST, "card")
    case.write(WEST, "note")  # not a party
    assert {side.link for side in context_of(case).fresh} == {one.link, two.link}
    case.write(EAST_VILLAGE, "extend", days=1, saw=[one])
    assert [side.link for side in context_of(case).fresh] == [two.link]
    case.write(EAST_VILLAGE, "extend", days=1, rests=[two])
    assert context_of(case).fresh == ()


def test_fresh_is_bounded() -> None:
    """A context keeps so many unlisted side entries; over that the case is no longer simple, but folds."""
    case = accepted()
    for _ in range(limits.CASE_FRESH_MAX):
        case.write(EAST_VILLAGE, "note")
    assert context_of(case).simple
    case.write(EAST_VILLAGE, "note")
    context = context_of(case)
    assert len(context.fresh) == limits.CASE_FRESH_MAX
    assert not context.simple


@settings(max_examples=60, deadline=None)
@given(hostile())
def test_contexts_survive_the_store(entries: list[cases.Held]) -> None:
    """What is stored is read back equal, and is the same bytes again."""
    context = fold(entries, JUDGE).context
    if context is not None:
        raw = encode_context(context)
        assert decode_context(raw) == context
        assert encode_context(decode_context(raw)) == raw


@given(st.binary(max_size=60))
def test_bytes_that_are_no_context_are_refused(raw: bytes) -> None:
    """A damaged projection raises one kind of error, so that it can be rebuilt."""
    with pytest.raises(msgspec.DecodeError):
        decode_context(raw)


def test_a_simple_case_s_context_is_slim() -> None:
    """A finished case with no stage takes less than a quarter of a KiB in the state row."""
    case = accepted()
    case.write(EAST_VILLAGE, "decide", result="grant")
    case.write(EAST_VILLAGE, "finish")
    assert len(encode_context(context_of(case))) < 280


def test_step_and_place_look_at_nothing_else() -> None:
    """The pieces work alone: an opening begins, custody is asked, a step follows, side entries are absorbed."""
    case = Script()
    opening = case.open()
    context, void = begin(opening, START, JUDGE)
    assert (void, context.state, context.holder) == ("", State.RECEIVED, EAST_VILLAGE)
    notice = case.write(EAST_VILLAGE, "notice", missing=["photo"])
    assert place(context, notice.header, JUDGE) == ""
    after, void = step(context, notice, START, [], JUDGE)
    assert (void, after.state, after.tip, after.awaited) == ("", State.NOTICED, notice.link, ("photo",))
    unchanged, void = step(after, notice, START, None, JUDGE)
    assert (void, unchanged.awaited) == ("guard:rests", ("photo",))
    assert absorb(after, [Side(bytes(16), START, ("photo",))]).awaited == ()
    assert absorb(context, [Side(bytes(16), START)]) is context
