"""A replay put together: log and map checked whole, parts that fit into commands, and the operation of a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node import operations, replay
from node.command import COMMAND_BYTES_MAX, Command, decode_command, encode_command
from node.office import Act
from node.replaying.reading import LoggedCase
from protocol.errors import InputError, InputProblems
from tests.node.replaying.helping import CIVIL, LOG, MAP, SOCIAL, STATIONS, case, network, raw_map


def small() -> replay.Replay:
    return replay.load(LOG, MAP)


def test_the_summary_says_what_would_be_stated() -> None:
    """Counts by activity are those of the log; each event has one command."""
    found: Any = small().summary()
    lines = [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]
    for activity, count in found["by_activity"].items():
        assert count == sum(line["activity"] == activity for line in lines)
    assert sum(found["by_command"].values()) == found["events"] == len(lines)
    assert sum(found["by_node"].values()) == found["events"] + sum(found["besides"].values())
    assert found["notes"] == 1


def test_activities_without_a_way_are_listed(tmp_path: Path) -> None:
    """The map does not cover the log: each lacking activity with its events and its first line."""
    raw = raw_map()
    raw["activities"] = [one for one in raw["activities"] if one["name"] not in {"会商", "撤销"}]
    path = tmp_path / "map.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(InputProblems) as error:
        replay.load(LOG, path)
    first, second = error.value.problems
    assert first.startswith("activities: 会商: not mapped: 36 events, the first on line ")
    assert second.startswith("activities: 撤销: not mapped: 1 events")


def test_cases_that_cannot_be_placed_are_listed(tmp_path: Path) -> None:
    """All of them, with their lines."""
    raw = raw_map()
    next(one for one in raw["activities"] if one["name"] == "会商")["as"].pop(1)
    path = tmp_path / "map.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(InputProblems) as error:
        replay.load(LOG, path)
    assert len(error.value.problems) > 5
    assert all("会商: none of accept is possible" in problem for problem in error.value.problems)


def test_each_node_gets_the_cases_in_which_it_has_a_part() -> None:
    """A department no case that never came to it."""
    found = small()
    assert len(found.share_of(STATIONS[0])) + len(found.share_of(STATIONS[1])) == 31
    assert all(any(step.node == CIVIL for step in found.plans[one.name]) for one in found.share_of(CIVIL))
    assert found.share_of("650199000000") == []
    assert {SOCIAL, CIVIL} < set(found.nodes())


def test_parts_fit_into_commands() -> None:
    """All cases once, in order, each part within what a node takes."""
    found = small()
    huge = [
        LoggedCase(f"c{number}", case("c", "收件").events, None, {"text": "文" * 8_000}) for number in range(200)
    ]
    for cases in (found.log.cases, huge):
        parts = list(found.parts(cases))
        assert [one[0] for part in parts for one in part["cases"]] == [one.name for one in cases]
        assert all(len(encode_command(Command("replay", part))) < COMMAND_BYTES_MAX for part in parts)
        assert all(len(part["cases"]) <= replay.CASES_PART for part in parts)
    assert len(list(found.parts(huge))) > 5
    assert list(found.parts([])) == []


async def test_a_node_takes_its_share_as_any_command(tmp_path: Path) -> None:
    """By name and plain values, as they come over the local API."""
    peers = await network(tmp_path)
    (part,) = small().parts(small().log.cases)
    command = decode_command(encode_command(Command("replay", part)))
    answer: Any = await operations.run(peers[1].place, command.name, command.params, Act())
    assert answer["taken"] > 10
    assert answer["problems"] == []


@pytest.mark.parametrize(
    "params",
    [{}, {"map": {}}, {"map": {}, "cases": []}, {"map": {}, "cases": [], "more": 1}, {"map": raw_map(), "cases": "x"}],
)
async def test_wrong_parameters_are_input_faults(params: dict[str, Any], tmp_path: Path) -> None:
    """A command from outside is judged like a file."""
    peers = await network(tmp_path)
    with pytest.raises(InputError):
        await operations.run(peers[1].place, "replay", params, Act())
