"""From events to steps: each event exactly once, in its order, and only what the fold lets have effect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import inputs
from node.replaying.mapping import ReplayMap, parse_map
from node.replaying.planning import Step, plan_case, planned_commands
from node.replaying.reading import LoggedCase, read_log
from protocol.errors import InputError
from tests.node.replaying.helping import (
    CITY,
    CIVIL,
    LOG,
    RECEIPT_LOG,
    RECEIPT_MAP,
    SOCIAL,
    STATIONS,
    case,
    raw_map,
    small_map,
)

MAP = small_map()


def planned(*activities: str, ended: bool = True, replay_map: ReplayMap = MAP) -> list[str]:
    """Return the commands of a case's plan; those without an event in brackets."""
    plan = plan_case(replay_map, case("c-1", "收件", *activities, ended=ended))
    return [step.command if step.source else f"({step.command})" for step in plan]


HANDED = ["open", "(offer)", "(take)", "accept", "(dispatch)"]


@pytest.mark.parametrize(
    ("activities", "then"),
    [
        ("审查 核定 送达 会商 会商意见", ["task", "task", "task", "decide", "(finish)"]),
        ("会商 会商意见 审查 核定 送达", ["task", "task", "decide", "finish"]),
        ("审查 会商 会商意见 核定 送达", ["task", "task", "task", "decide", "(finish)"]),
        ("审查 退改 审查 核定 会商 会商意见", ["task", "task", "task", "task", "decide", "(finish)"]),
        ("会商 会商 审查 退改", ["task", "task", "task"]),
        ("会商 会商 审查 核定 送达 撤销", ["task", "task", "decide", "finish", "revoke"]),
        ("会商 审查 撤回 会商意见", ["task", "withdraw", "task"]),
    ],
)
def test_the_first_possible_way_is_taken(activities: str, then: list[str]) -> None:
    """Whatever the order of the branches: accepted first, decided once both passed, finished last."""
    assert planned(*activities.split()) == HANDED + then


def test_a_case_of_one_event_stays_at_its_station() -> None:
    """Nothing is handed over that nobody handled, and no end is made up."""
    assert planned() == ["open"]


def test_a_case_without_an_end_is_not_finished() -> None:
    """What would finish it is a delivery."""
    assert planned("会商", "会商意见", "审查", "核定", "送达", ended=False) == [*HANDED, "task", "task", "decide", "deliver"]


def test_a_case_that_ends_on_a_failed_task_is_not_decided() -> None:
    """The log does not say how, so nothing is stated."""
    assert planned("审查", "会商", "会商意见", "退改")[-1] == "task"


def test_steps_stand_where_the_map_says() -> None:
    """Station by case, handler, departments; time, officer, window and source are those of the event."""
    plan = plan_case(MAP, case("c-1", "收件", "会商", "会商意见", "审查", "核定"))
    nodes = [step.node for step in plan]
    assert nodes[0] in STATIONS
    assert nodes[1:] == [nodes[0], CITY, CITY, CITY, CIVIL, SOCIAL, CITY, CITY]
    assert plan[0].source == ("c-1/0/收件", "收件")
    assert plan[0].unit == "3"
    assert plan[0].params["applicant"] == "申请人 c-1"
    assert plan[4].params["to"] == {"社保核验": [SOCIAL, "社保科"], "民政核验": [CIVIL, None]}
    assert plan[-1].at_ms > plan[-2].at_ms
    opened = {plan_case(MAP, case(f"c-{number}", "收件"))[0].node for number in range(20)}
    assert opened == set(STATIONS)


def test_the_end_is_never_before_the_last_event() -> None:
    """Logs write the end of a case earlier now and then."""
    events = case("c", "收件", "会商", "会商意见", "审查", "核定").events
    plan = plan_case(MAP, LoggedCase("c", events, events[0].at_ms))
    assert [step.at_ms for step in plan[-2:]] == [events[-1].at_ms] * 2


def test_a_station_that_handles_hands_nothing_over() -> None:
    """One node may be all of them."""
    alone = parse_map({**raw_map(), "stations": [CITY]}, "map")
    assert planned("审查", replay_map=alone) == ["open", "accept"]


def test_two_stages_are_dispatched_in_turn() -> None:
    """Going back to the first dispatches it again; a decision needs the stage that it names."""
    raw = raw_map()
    raw["stages"].append({"name": "制证", "tasks": [{"name": "证件制作", "node": SOCIAL}]})
    raw["activities"].append({"name": "制作", "as": [{"command": "task", "task": "证件制作", "result": "pass"}]})
    two = parse_map(raw, "map")
    found = planned("审查", "审查", "制作", "会商", "会商意见", replay_map=two)
    assert found == [*HANDED, "task", "(dispatch)", "task", "(dispatch)", "task", "task"]
    numbers = [step.number for step in plan_case(two, case("c", "收件", "审查", "审查", "制作")) if step.command == "dispatch"]
    assert numbers == [1, 2]


def test_a_denial_needs_a_failed_task() -> None:
    """As the fold's guard does."""
    raw = raw_map()
    raw["activities"].append({"name": "驳回", "as": [{"command": "decide", "result": "deny"}]})
    denying = parse_map(raw, "map")
    assert planned("审查", "退改", "驳回", replay_map=denying)[-2:] == ["decide", "(finish)"]
    with pytest.raises(InputError, match="line 4: 驳回: none of decide is possible where the case is handling"):
        planned("审查", "核定", "驳回", replay_map=denying)


@pytest.mark.parametrize(
    ("activities", "told"),
    [
        (("收件",), "line 2: 收件: none of open is possible where the case is received"),
        (("退改",), "line 2: 退改: none of task is possible where the case is received"),
        (("审查", "恢复"), "line 3: 恢复: none of resume is possible where the case is accepted"),
        (("不予受理", "审查"), "line 3: 审查: none of accept, task is possible where the case is refused"),
        (("审查", "补正通知"), "line 3: 补正通知: none of notice"),
        (("归档",), "line 2: 归档: is not in the map"),
    ],
)
def test_what_cannot_be_placed_is_named(activities: tuple[str, ...], told: str) -> None:
    """Line, activity, state and case: enough to mend the map."""
    with pytest.raises(InputError) as error:
        planned(*activities)
    assert told in error.value.message
    assert "(case c-1)" in error.value.message or "归档" in told


def test_an_event_before_the_opening_is_named() -> None:
    """A case begins with its opening."""
    with pytest.raises(InputError, match="where the case is not open"):
        plan_case(MAP, case("c", "审查"))


def check(plan: tuple[Step, ...], logged: LoggedCase) -> None:
    """Each event once and in order; times never fall."""
    assert [step.source[0] for step in plan if step.source] == [event.source for event in logged.events]
    times = [step.at_ms for step in plan]
    assert times == sorted(times)


@given(st.lists(st.sampled_from(["审查", "退改", "核定", "送达", "会商", "会商意见", "备注"]), max_size=12), st.booleans())
def test_any_order_behind_the_acceptance_is_placed(activities: list[str], ended: bool) -> None:
    """Branches mix at will: each event gets exactly one step."""
    logged = case("c", "收件", "会商", *activities, ended=ended)
    check(plan_case(MAP, logged), logged)


def test_a_whole_log_is_placed() -> None:
    """The real log where it is at hand, else the small one: all events, no notes worth mentioning, both departments."""
    real = RECEIPT_LOG.exists()
    replay_map = parse_map(inputs.read_mapping(RECEIPT_MAP), "map") if real else MAP
    log = read_log(RECEIPT_LOG if real else LOG, replay_map)
    plans = [plan_case(replay_map, logged) for logged in log.cases]
    for plan, logged in zip(plans, log.cases, strict=True):
        check(plan, logged)
    stated, _ = planned_commands(plans)
    assert sum(stated.values()) == log.events == (8_577 if real else 185)
    assert stated.get("note", 0) * 50 < log.events
    assert min(stated[name] for name in ("open", "accept", "task", "decide", "finish")) > 5
    assert len({step.node for plan in plans for step in plan if step.command == "task"}) == 2
