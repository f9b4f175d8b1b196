"""A node states its share: what it can now, once, and refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node import faults
from node.replaying.mapping import ReplayMap
from node.replaying.planning import plan_case
from node.replaying.reading import LoggedCase, read_log
from node.replaying.stating import state_share
from protocol.errors import CommandRefused, InputError, NotFound
from tests.node import building
from tests.node.replaying.helping import (
    CITY,
    CIVIL,
    LOG,
    SOCIAL,
    STATIONS,
    Here,
    case,
    dying,
    network,
    raw_map,
    small_map,
)

MAP = small_map()
MAIN = case("c-1", "收件", "审查", "核定", "会商", "会商意见")


async def turn(peers: list[Here], *cases: LoggedCase, replay_map: ReplayMap = MAP) -> dict[str, Any]:
    """Let each node state its share once, in the order given, with a sync behind each."""
    found = {}
    for peer in peers:
        found[peer.node] = await state_share(peer.place, replay_map, cases)
        await peer.ask("sync", {})
    return found


def station_of(peers: list[Here]) -> Here:
    """Return the station that opens the case of these tests."""
    node = plan_case(MAP, MAIN)[0].node
    return next(peer for peer in peers if peer.node == node)


async def test_each_node_states_what_it_can_now(tmp_path: Path) -> None:
    """Station, handler, departments, handler again: four turns, and every entry has effect."""
    peers = await network(tmp_path)
    city, station = peers[0], station_of(peers)
    answer = await state_share(city.place, MAP, [MAIN])
    assert (answer["taken"], answer["left"]) == (0, ["c-1"])
    assert (await state_share(station.place, MAP, [MAIN]))["taken"] == 1
    await station.ask("sync", {})
    answer = await state_share(city.place, MAP, [MAIN])
    assert (answer["taken"], answer["besides"], answer["left"]) == (1, 2, ["c-1"])
    for peer in peers[3:]:
        await peer.ask("sync", {})
        answer = await state_share(peer.place, MAP, [MAIN])
        assert (answer["taken"], answer["left"]) == (1, [])
        await peer.ask("sync", {})
    answer = await state_share(city.place, MAP, [MAIN])
    assert (answer["taken"], answer["besides"], answer["left"]) == (1, 1, [])
    rows = await building.ask(city.place, "export", entries=True)
    assert [row["type"] for row in rows] == ["open", "offer", "take", "accept", "dispatch", "task", "task", "decide", "finish"]
    assert {row["effect"] for row in rows} == {"applied"}
    assert all(row["recorded_afterwards"] for row in rows)
    sources = [row["source_id"] for row in rows if row["source_id"]]
    assert sorted(sources) == sorted(event.source for event in MAIN.events)


async def test_what_was_stated_is_not_stated_again(tmp_path: Path) -> None:
    """The same cases again, at every node: all repeated, no log grows."""
    peers = await network(tmp_path)
    for _ in range(4):
        await turn(peers, MAIN)
    sizes = [await building.size_of(peer.place) for peer in peers]
    answers = await turn(peers, MAIN)
    assert sum(answer["repeated"] for answer in answers.values()) == 5
    assert all(answer["taken"] == answer["besides"] == 0 for answer in answers.values())
    assert [await building.size_of(peer.place) for peer in peers] == sizes


async def test_officers_of_the_log_are_added_once(tmp_path: Path) -> None:
    """Named, renamed or nobody: each step has an officer of its node."""
    peers = await network(tmp_path)
    log = read_log(LOG, MAP)
    await turn(peers, *log.cases)
    for peer in peers[1:3]:
        found = {row["officer"]: row["name"] for row in await building.ask(peer.place, "officer.list")}
        assert found["replay"] == "日志回放"
        assert set(found) <= {"replay", "T-1", "admin", "李-四", "Resource07", "Resource26"}
        assert found.get("T-1", "test") == "test"
    rows = await building.ask(peers[0].place, "export", entries=True)
    assert all(row["officer"] for row in rows)


@pytest.mark.parametrize("passes", [1, 7, 30])
async def test_a_crash_keeps_whole_batches_only(passes: int, tmp_path: Path) -> None:
    """What a batch had stated before the crash is not there; given again, it is there once."""
    peers = await network(tmp_path)
    station = peers[1]
    cases = read_log(LOG, MAP).cases
    before = await building.size_of(station.place)
    with dying("ledger.appended", passes), pytest.raises(faults.Crash):
        await state_share(station.place, MAP, cases)
    assert await building.size_of(station.place) == before
    answer = await state_share(station.place, MAP, cases)
    assert answer["repeated"] == 0
    assert answer["taken"] > 10


async def test_a_refused_case_does_not_stop_the_others(tmp_path: Path) -> None:
    """The refusal is told with case, event and words; the batch goes on."""
    peers = await network(tmp_path)
    city, station = peers[0], station_of(peers)
    for peer in (station, city):
        await state_share(peer.place, MAP, [MAIN])
        await peer.ask("sync", {})
    number = (await building.ask(city.place, "list"))[0]["case"]
    await building.ask(city.place, "case.withdraw", building.Act("replay"), case=number, reason="撤回")
    other = case("c-2", "收件", "审查", "核定", "会商", "会商意见")
    for _ in range(4):
        answers = await turn(peers, MAIN, other)
    assert answers[CITY]["left"] == ["c-1"]
    (problem,) = answers[CITY]["problems"]
    assert (problem["case"], problem["event"], problem["node"]) == ("c-1", "会商意见", CITY)
    assert "withdrawn" in problem["message"]
    assert answers[CITY]["refused"] == 1


async def test_a_map_that_does_not_fit_is_refused_before_anything(tmp_path: Path) -> None:
    """Item, stage, task and nodes are checked against what the node holds, once."""
    peers = await network(tmp_path)
    place = peers[1].place
    for changes, error, told in (
        ({"item": "nothing"}, NotFound, "item nothing of the map"),
        ({"handler": "650104000000"}, NotFound, "node 650104000000 of the map"),
        ({"stages": [{"name": "核验", "tasks": raw_map()["stages"][0]["tasks"]}]}, CommandRefused, "has no task 社保核验 in a stage"),
    ):
        activities = [{"name": "收件", "as": [{"command": "open"}]}]
        fitting = small_map(**changes, activities=activities, end=[])
        with pytest.raises(error, match=told):
            await state_share(place, fitting, [case("c-1", "收件")])
    assert await building.ask(place, "list") == []


async def test_events_of_the_future_are_refused(tmp_path: Path) -> None:
    """By the clock of the node that would state them."""
    peers = await network(tmp_path)
    late = case("c-1", "收件")
    event = late.events[0]
    tomorrow = type(event)(event.source, event.activity, building.START_MS + building.DAY_MS, None, 1)
    answer = await state_share(station_of(peers).place, MAP, [LoggedCase("c-1", (tomorrow,))])
    assert "lies in the future" in answer["problems"][0]["message"]


async def test_a_case_that_cannot_be_placed_is_an_input_fault(tmp_path: Path) -> None:
    """The node plans itself: a batch made by another program is judged alike."""
    peers = await network(tmp_path)
    with pytest.raises(InputError, match="none of open"):
        await state_share(peers[1].place, MAP, [case("c-1", "收件", "收件")])


def test_the_five_places_are_those_of_the_map() -> None:
    """The test's network and the small map name the same nodes."""
    assert set(MAP.nodes()) == {CITY, *STATIONS, SOCIAL, CIVIL}
