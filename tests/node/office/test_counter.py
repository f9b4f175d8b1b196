"""The steps of a case at one node: the whole story, and every refusal with its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from protocol.errors import CommandRefused, InputError, NotFound, TongbanError, TransitionRefused
from tests.node.building import (
    CITY,
    DAY_MS,
    EAST,
    WEST_CIVIL,
    Act,
    ask,
    brought_to,
    calendar,
    carry,
    effects,
    enrol,
    found,
    furnish,
    hire,
    item,
    opened,
    show,
    size_of,
)


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


async def refused(node: Node, error: type[TongbanError], name: str, /, **params: object) -> TongbanError:
    """Give a command that must be refused with nothing written, and return why."""
    before = await size_of(node)
    with pytest.raises(error) as caught:
        await ask(node, name, **params)
    assert await size_of(node) == before
    return caught.value


async def test_a_case_from_intake_to_delivery(city: Node) -> None:
    """A case goes through every step of its life at one counter, each applied and named with officer and time."""
    case = await opened(city)
    await brought_to(city, case, "notice", "supplement", "accept", "dispatch", "task:社保核验", "task:民政核验")
    await brought_to(city, case, "decide", "finish", "deliver")
    shown = await show(city, case)
    assert (shown["state"], shown["state_code"], shown["delivered"]) == ("finished", 11, True)
    assert [kind for kind, _ in effects(shown)] == [
        *("open", "notice", "supplement", "accept", "dispatch", "task", "task", "decide", "finish", "deliver")
    ]
    assert {effect for _, effect in effects(shown)} == {"applied"}
    assert {step["officer_name"] for step in shown["timeline"]} == {"张三"}
    assert {step["window"] for step in shown["timeline"]} == {"3"}
    assert [(task["task"], task["result"]) for task in shown["tasks"]] == [("社保核验", "pass"), ("民政核验", "pass")]


async def test_an_answer_says_where_the_entry_stands(city: Node) -> None:
    """Every writing command answers with case, key, place in the log, and how safe it is."""
    answer = await ask(city, "case.note", case=await opened(city), text="来电询问")
    assert set(answer) == {"case", "key", "log", "safety"}
    assert answer["log"] == {
        "node": CITY,
        "incarnation": city.ledger.identity.incarnation.hex(),
        "index": await size_of(city) - 1,
    }
    assert answer["safety"] == "here"


async def test_a_step_out_of_order_names_the_state(city: Node) -> None:
    """What the table does not allow is refused with the state, the holder and what is possible."""
    case = await opened(city)
    error = await refused(city, TransitionRefused, "case.decide", case=case, result="grant", reason="r")
    assert "received" in error.message
    assert "held by this node" in error.message
    assert "accept" in error.hint


@pytest.mark.parametrize("step", ["refuse", "withdraw"])
async def test_a_case_that_is_over_takes_no_more_steps(city: Node, step: str) -> None:
    """Behind a terminal state every spine command is refused."""
    case = await brought_to(city, await opened(city), step)
    for command in ("accept", "take", "finish", "offer"):
        await refused(city, TransitionRefused, f"case.{command}", case=case, **({"to": CITY} if command == "offer" else {}))


async def test_accepting_needs_the_materials(city: Node) -> None:
    """After a notice a case is accepted once what was missing is here, or named as lacking."""
    case = await brought_to(city, await opened(city), "notice")
    error = await refused(city, TransitionRefused, "case.accept", case=case)
    assert "申请表" in error.message
    await ask(city, "case.accept", case=case, lacking=["申请表"])
    assert (await show(city, case))["state"] == "accepted"


async def test_other_materials_do_not_answer_a_notice(city: Node) -> None:
    """Only what the notice asked for ends it."""
    case = await brought_to(city, await opened(city), "notice")
    await ask(city, "case.supplement", case=case, material=[{"name": "户口簿"}])
    assert (await show(city, case))["state_code"] == 6
    await refused(city, TransitionRefused, "case.accept", case=case)
    await brought_to(city, case, "supplement")
    assert (await show(city, case))["state_code"] == 7


async def test_deciding_needs_the_join_rule(city: Node) -> None:
    """A grant waits for all tasks and names those without a result; results listed by other steps count."""
    case = await brought_to(city, await opened(city), "accept", "dispatch", "task:社保核验", "suspend", "resume")
    error = await refused(city, TransitionRefused, "case.decide", case=case, result="grant", reason="r")
    assert "民政核验: no result yet" in error.message
    assert "社保核验: pass" in error.message
    await brought_to(city, case, "task:民政核验", "decide")
    assert (await show(city, case))["state"] == "decided"


async def test_a_failed_task_allows_a_denial(city: Node) -> None:
    """A denial needs one failed task, and does not wait for the others."""
    case = await brought_to(city, await opened(city), "accept", "dispatch")
    await ask(city, "case.task", case=case, task="社保核验", result="fail", text="未参保")
    await ask(city, "case.decide", case=case, result="deny", reason="不符合条件")
    assert (await show(city, case))["outcome"] == "deny"


async def test_a_stage_is_that_of_the_pinned_version(city: Node) -> None:
    """A case keeps the version under which it was opened, whatever is published later."""
    case = await brought_to(city, await opened(city), "accept")
    await ask(city, "catalogue.publish", items=[item(version=2, stages=[])])
    await ask(city, "case.dispatch", case=case, stage="并联核验")
    assert len((await show(city, case))["tasks"]) == 2


async def test_dispatch_takes_departments_from_the_command(city: Node) -> None:
    """`to` replaces the node and unit of a task; unknown stages, tasks and nodes are refused with the known ones."""
    case = await brought_to(city, await opened(city), "accept")
    assert "并联核验" in (await refused(city, NotFound, "case.dispatch", case=case, stage="不存在")).hint
    error = await refused(city, InputError, "case.dispatch", case=case, stage="并联核验", to={"消防": CITY})
    assert "社保核验" in error.hint
    await refused(city, NotFound, "case.dispatch", case=case, stage="并联核验", to={"社保核验": EAST})
    await ask(city, "case.dispatch", case=case, stage="并联核验", to={"民政核验": f"{CITY}/救助科"})
    assert [task["unit"] for task in (await show(city, case))["tasks"]] == ["社保科", "救助科"]


async def test_a_task_without_a_department_is_asked_for(tmp_path: Path) -> None:
    """A task that the catalogue gives to nobody must be given to somebody."""
    stage = {"name": "核验", "join": "any", "tasks": [{"name": "核"}]}
    city = await furnish(await found(tmp_path), item(stages=[stage]))
    case = await brought_to(city, await opened(city), "accept")
    error = await refused(city, InputError, "case.dispatch", case=case, stage="核验")
    assert "--to" in error.hint


async def test_a_task_needs_a_stage_and_its_assignee(city: Node) -> None:
    """A result answers the stage under way, by the node to which the task was given."""
    case = await brought_to(city, await opened(city), "accept")
    await refused(city, TransitionRefused, "case.task", case=case, task="社保核验", result="pass")
    await brought_to(city, case, "dispatch")
    error = await refused(city, CommandRefused, "case.task", case=case, task="消防", result="pass")
    assert "社保核验" in error.hint


async def test_delivery_needs_a_result(city: Node) -> None:
    """Nothing is delivered before a decision or refusal; by post it keeps its tracking number."""
    case = await opened(city)
    await refused(city, TransitionRefused, "case.deliver", case=case, how="post", tracking="EA1")
    await brought_to(city, case, "accept", "decide")
    await ask(city, "case.deliver", case=case, how="post", tracking="EA123456789CN")
    shown = await show(city, case)
    assert (shown["state"], shown["delivered"]) == ("decided", True)
    assert shown["timeline"][-1]["details"]["tracking"] == "EA123456789CN"


async def test_suspending_and_extending_move_the_limit(city: Node) -> None:
    """A suspension stops the clock, an extension adds working days."""
    case = await brought_to(city, await opened(city), "accept")
    before = (await show(city, case))["due"]
    await ask(city, "case.extend", case=case, days=2, reason="案情复杂")
    assert before == {"date": "2025-12-02", "provisional": False, "basis": "promised"}
    assert (await show(city, case))["due"]["date"] == "2025-12-04"
    await brought_to(city, case, "suspend")
    assert (await show(city, case))["due"]["provisional"] is True
    await refused(city, TransitionRefused, "case.extend", case=case, days=1, reason="r")
    await brought_to(city, case, "resume")


async def test_a_correction_keeps_the_old_value(city: Node) -> None:
    """A typing error is corrected by a new entry: the page shows the new value, the step both."""
    case = await opened(city, form={"phone": "1380000"})
    await ask(city, "case.correct", case=case, field={"applicant": "王玮", "phone": "13800001234"}, reason="录入错误")
    shown = await show(city, case)
    assert (shown["applicant"], shown["phone"]) == ("王玮", "138****1234")
    details = shown["timeline"][-1]["details"]
    assert (details["old"]["applicant"], details["new"]["applicant"]) == ("王伟", "王玮")
    assert details["names"] == ["applicant", "phone"]
    await refused(city, InputError, "case.correct", case=case, field={"id_number": "1"}, reason="r")
    await refused(city, InputError, "case.correct", case=case, field={}, reason="r")


async def test_a_file_is_referred_to_by_its_hash(city: Node) -> None:
    """The header names hash, size and type; the name that its owner gave it stays in the body."""
    case = await brought_to(city, await opened(city), "notice")
    file = {"sha256": "ab" * 32, "bytes": 120, "type": "application/pdf", "name": "张三的申请.pdf"}
    await ask(city, "case.supplement", case=case, material=[{"name": "申请表", "file": file}])
    details = (await show(city, case))["timeline"][-1]["details"]
    assert details["files"] == [["ab" * 32, 120, "application/pdf", "B"]]
    await refused(city, InputError, "case.supplement", case=case, material=[{"name": "申请表", "sha256": "ab", "bytes": 1}])
    await refused(city, InputError, "case.supplement", case=case, material=[])


async def test_an_offer_to_oneself_is_refused(city: Node) -> None:
    """A case goes to another node, or stays."""
    case = await opened(city)
    assert "--to" in (await refused(city, TransitionRefused, "case.offer", case=case)).hint
    await refused(city, TransitionRefused, "case.offer", case=case, to=CITY)


async def test_a_withdrawal_elsewhere_is_a_request(tmp_path: Path) -> None:
    """At a counter that is not the holder the applicant's wish becomes a request; at the holder it ends the case."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await brought_to(east, case, "offer")
    await carry(east, city)
    await ask(city, "case.take", case=case)
    await carry(city, east)
    answer = await ask(east, "case.withdraw", case=case, reason="不办了")
    assert answer["request"] is True
    await carry(east, city)
    assert effects(await show(city, case))[-1] == ("withdraw", "applied")
    assert (await show(city, case))["state"] == "received"
    assert "request" not in await ask(city, "case.withdraw", case=case, reason="不办了")
    assert (await show(city, case))["state"] == "withdrawn"


async def test_custody_goes_from_hand_to_hand(tmp_path: Path) -> None:
    """Offered, returned, offered again, taken: only the holder advances, and every refusal says who has the case."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    assert "not offered" not in (await refused(east, TransitionRefused, "case.take", case=case)).message
    await brought_to(east, case, "offer")
    error = await refused(east, TransitionRefused, "case.accept", case=case)
    assert f"offered to {CITY}" in error.message
    await carry(east, city)
    assert "case take" in (await refused(city, TransitionRefused, "case.accept", case=case)).hint
    await ask(city, "case.return", case=case, reason="材料不齐")
    await carry(city, east)
    await brought_to(east, case, "notice", "supplement", "offer")
    await carry(east, city)
    await brought_to(city, case, "take", "accept")
    await carry(city, east)
    error = await refused(east, TransitionRefused, "case.decide", case=case, result="grant", reason="r")
    assert f"held by {CITY}" in error.message
    mine, theirs = await show(east, case), await show(city, case)
    assert mine["digest"] == theirs["digest"]
    assert [(one["type"], one["effect"], one["entry"]) for one in mine["timeline"]] == [
        (one["type"], one["effect"], one["entry"]) for one in theirs["timeline"]
    ]
    assert mine["parties"] == [CITY, EAST]


async def test_a_hub_reclaims_what_a_node_below_holds(tmp_path: Path) -> None:
    """The node above takes a case back; the one below writes no more, and below nobody reclaims from above."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await carry(east, city)
    await ask(city, "case.reclaim", case=case, reason="站点停电")
    await carry(city, east)
    await refused(east, TransitionRefused, "case.accept", case=case)
    error = await refused(east, TransitionRefused, "case.reclaim", case=case, reason="r")
    assert "above" in error.hint
    assert (await show(east, case))["holder"] == CITY


async def test_a_reclaim_behind_an_earlier_entry_leaves_the_rest_late(tmp_path: Path) -> None:
    """`after` names the entry behind which the hub goes on; what the old holder wrote behind it is shown as late."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await brought_to(east, case, "notice")
    await carry(east, city)
    opening = (await show(city, case))["timeline"][0]["entry"]
    await ask(city, "case.reclaim", case=case, after=opening[:12], reason="误发告知")
    shown = await show(city, case)
    assert effects(shown) == [("open", "applied"), ("reclaim", "applied"), ("notice", "late")]
    assert shown["state"] == "received"
    await refused(city, NotFound, "case.reclaim", case=case, after="00000000", reason="r")


async def test_departments_elsewhere_answer_their_tasks(tmp_path: Path) -> None:
    """A task's assignee becomes a party, states its result at its own node, and the holder decides on it."""
    stage = {"name": "核验", "join": "all", "tasks": [{"name": "民政核验", "node": WEST_CIVIL}]}
    city = await furnish(await found(tmp_path / "city"), item(stages=[stage]))
    civil = await hire(await enrol(tmp_path / "civil", city, WEST_CIVIL, rights=()))
    case = await brought_to(city, await opened(city), "accept")
    await ask(city, "case.dispatch", case=case, stage="核验")
    await refused(city, CommandRefused, "case.task", case=case, task="民政核验", result="pass")
    await carry(city, civil)
    await ask(civil, "case.task", case=case, task="民政核验", result="pass")
    assert (await show(civil, case))["tasks"][0]["result"] == "pass"
    await carry(civil, city)
    await brought_to(city, case, "decide")
    assert (await show(city, case))["timeline"][-1]["effect"] == "applied"


async def test_a_stranger_may_not_write_to_a_case(tmp_path: Path) -> None:
    """A node that no entry names is no party, whatever it holds."""
    city = await furnish(await found(tmp_path / "city"))
    civil = await hire(await enrol(tmp_path / "civil", city, WEST_CIVIL))
    case = await opened(city)
    await carry(city, civil)
    assert "no party" in (await refused(civil, CommandRefused, "case.note", case=case, text="看看")).message


async def test_a_case_that_is_not_here_whole_waits(tmp_path: Path) -> None:
    """Without its opening's rules a case shows as waiting, and a command says to sync and try later."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    await ask(city, "calendar.publish", calendar=calendar(version=2))
    case = await opened(city)
    await city.write(lambda conn, _: conn.execute("UPDATE cases SET context = NULL, state = 'waiting'"))
    error = await refused(city, CommandRefused, "case.accept", case=case)
    assert (error.retryable, error.exit_code) == (True, 3)
    assert east.id == EAST


async def test_a_void_entry_of_a_retired_right_is_not_written(tmp_path: Path) -> None:
    """A node without the right to decide is told so, with the way out."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    case = await opened(east)
    await brought_to(east, case, "accept")
    error = await refused(east, CommandRefused, "case.decide", case=case, result="grant", reason="r")
    assert "no right" in error.message
    assert "Offer" in error.hint


async def test_a_past_time_is_recorded_afterwards(city: Node) -> None:
    """What is entered for a past time counts from then and is marked; a future time is refused."""
    city.clock.at_ms += 3 * DAY_MS  # type: ignore[attr-defined] # the virtual clock
    past = Act("1001", "3", city.clock.wall_ms() - 2 * DAY_MS)
    answer = await ask(city, "case.open", past, item="permit", applicant="王伟", id_number="11010519491231002X")
    shown = await show(city, answer["case"])
    assert shown["recorded_afterwards"] is True
    assert shown["timeline"][0]["recorded_afterwards"] is True
    assert shown["timeline"][0]["claimed_at"] == "2025-11-26T10:00:00.000+08:00"
    assert "20251126" in answer["case"]
    with pytest.raises(InputError, match="future"):
        await ask(city, "case.note", Act("1001", "3", city.clock.wall_ms() + 1), case=answer["case"], text="x")
