"""The map of a replay: what it says, what is refused, and that parser, schema and examples agree."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from node import inputs
from node.replaying.mapping import Officers, check_path, parse_map
from protocol.errors import InputError, InputProblems
from tests.node.replaying.helping import RECEIPT_MAP, raw_map, small_map
from tests.sources import ROOT

SCHEMA = json.loads((ROOT / "docs" / "schemas" / "replay-map.schema.json").read_text(encoding="utf-8"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the small map with one value changed; "-" takes it away."""
    found = raw_map()
    *parents, last = path.split(".")
    at: Any = found
    for step in parents:
        at = at[int(step) if step.isdigit() else step]
    if value == "-":
        del at[int(last) if last.isdigit() else last]
    else:
        at[int(last) if last.isdigit() else last] = value
    return found


def faults(mapping: object) -> str:
    with pytest.raises(InputProblems) as told:
        parse_map(mapping, "map.toml")
    return str(told.value)


def test_a_map_is_read_whole() -> None:
    """Stations, handler, stages and the ways of each activity are there, in the order written."""
    found = small_map()
    assert found.nodes() == ["650103000000-rsj", "650103000000-mzj", "650102001001", "650102001002", "650100000000"]
    assert [way.command for way in found.rules["送达"].ways] == ["finish", "decide", "deliver", "deliver", "task"]
    assert found.rules["会商"].officer == "B-7"
    assert found.stages[0].passes_needed() == 2
    (opening,) = found.openings()
    assert (opening.item, opening.handler, dict(opening.form)) == (
        "permit",
        "650100000000",
        {"channel": ("attrs", "case", "channel")},
    )


def test_an_opening_may_have_places_of_its_own() -> None:
    """What an opening says of its own goes before the top of the map."""
    own = {"command": "open", "item": "other", "stations": ["650103001001"], "handler": "650103000000", "applicant": "某人"}
    opening = parse_map(changed("activities.0.as", [own]), "map").openings()[0]
    assert (opening.item, opening.stations, opening.handler, opening.applicant) == (
        "other",
        ("650103001001",),
        "650103000000",
        "某人",
    )


def test_the_map_of_the_receipt_log_is_whole() -> None:
    """The map that we ship is right, and branches by activity."""
    found = parse_map(inputs.read_mapping(RECEIPT_MAP), "map")
    assert len(found.rules) == 27
    assert not any("note" in rule.commands for rule in found.rules.values())
    tasks = {name: {way.task.name for way in rule.ways if way.task} for name, rule in found.rules.items()}
    assert all(tasks[name] == {"收件确认"} for name in tasks if name[:3] in {"T02", "T03", "T04", "T05"})
    assert all(tasks[name] == {"停办意见"} for name in tasks if name[:3] >= "T06")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("format", "tongban-replay-map/2", "format: must be 'tongban-replay-map/1'"),
        ("activities", [], "activities: maps no activity"),
        ("activities.0", "-", "activities: none of them opens a case"),
        ("activities.1.name", "收件", "activities[1] (收件): name: stands twice"),
        ("activities.1.as", [], "activities[1] (审查): as: must name at least one command"),
        ("activities.1.as.0.command", "approve", "as[0]: command: must be one of accept, decide"),
        ("activities.1.as.0.by", "town", "as[0]: by: must be station or handler"),
        ("activities.1.as.1.task", "环保核验", "as[1]: task: no stage of this map has the task 环保核验"),
        ("activities.1.as.1.result", "ok", "as[1]: result: must be pass or fail"),
        ("activities.1.as.1.stage", "现场", "as[1]: stage: the task 社保核验 belongs to the stage 并联核验"),
        ("activities.3.as.0.stage", "现场", "as[0]: stage: this map has no stage 现场"),
        ("activities.3.as.0.result", "yes", "as[0]: result: must be grant or partial or deny"),
        ("activities.3.as.0.colour", "red", "as[0]: colour: unknown key"),
        ("activities.9.as.0.kind", 6, "as[0]: kind: must be from 4 to 5"),
        ("activities.7.as.0.missing", [], "as[0]: missing: must name at least one"),
        ("activities.8.as.0.materials", "-", "as[0]: materials: must name at least one"),
        ("activities.5.officer", "李 四", "activities[5] (会商): officer: officer id"),
        ("item", "-", "item: is missing, here and at the top"),
        ("stations", "-", "stations: is missing, here and at the top"),
        ("stations", ["6501"], "stations[0]: division code"),
        ("handler", "650100000001x", "handler: division code"),
        ("stages.0.tasks", [], "stages[0]: tasks: must hold at least one task"),
        ("stages.0.tasks.0.node", "rsj", "stages[0]: tasks[0]: node: division code"),
        ("stages.0.tasks.1.name", "社保核验", "stages: the task 社保核验 stands twice"),
        ("stages.0.join", 3, "stages[0]: join: must be"),
        ("log.time", "a..b", "log: time: 'a..b' is no path"),
        ("log.end", "-", "end: is given, but log.end does not say"),
        ("end.0.command", "accept", "end: the end of a case states decide and finish only"),
        ("form", {"a": ""}, "form: a: must not be empty"),
        ("form", ["a"], "form: must be a table of texts"),
        ("officers.rename", {"test": "T 1"}, "officers: rename: test: officer id"),
        ("log", "-", "log: is missing"),
        ("colour", "red", "colour: unknown key"),
    ],
)
def test_every_fault_is_named_with_its_place(path: str, value: Any, told: str) -> None:
    """File, activity and field stand in the message."""
    assert told in faults(changed(path, value))


def test_faults_are_told_all_at_once() -> None:
    """Three mistakes are three sentences."""
    wrong = changed("format", "x")
    wrong["handler"], wrong["stages"][0]["join"] = "1", "some"
    assert "3 problems" in faults(wrong)
    assert "must be a table" in faults(["x"])


def test_officers_get_ids() -> None:
    """Renamed, blanks joined, nobody is the default; what no node would take is refused."""
    officers = Officers(rename={"test": "T-1"})
    assert [officers.id_of(name) for name in ("test", "李  四", None, " ")] == ["T-1", "李-四", "replay", "replay"]
    with pytest.raises(InputError, match="rename"):
        officers.id_of("x" * 41)


def test_a_path_is_keys_with_dots() -> None:
    """Keys with colons need no quoting."""
    assert check_path("attrs.concept:instance") == ("attrs", "concept:instance")


@pytest.mark.parametrize(("path", "schema"), [("", SCHEMA), *SCHEMA["$defs"].items()])
def test_schema_lets_no_unknown_key_pass(path: str, schema: dict[str, Any]) -> None:
    """As the parser does."""
    assert schema["additionalProperties"] is False, path


def test_schema_and_parser_know_the_same_keys() -> None:
    """Each key of the schema is taken by the parser, each required one is missed."""
    top = raw_map() | {"note": "备注"}
    assert set(SCHEMA["properties"]) == set(top)
    for key in SCHEMA["required"]:
        assert f"{key}: " in faults({name: value for name, value in top.items() if name != key})
    commands = SCHEMA["$defs"]["way"]["properties"]["command"]["enum"]
    from node.replaying.mapping import COMMANDS

    assert set(commands) == COMMANDS


def test_the_documented_example_is_accepted() -> None:
    """The example in the description of the formats follows it."""
    described = (Path(__file__).resolve().parents[3] / "docs" / "FORMATS.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```toml\n(.*?)```", described, re.DOTALL) if "tongban-replay-map" in one]
    assert parse_map(tomllib.loads(block), "example").openings()
