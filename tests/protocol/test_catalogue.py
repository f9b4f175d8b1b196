"""Catalogue items, their files, and the patterns that name nodes."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.inputs import load_divisions, load_file
from protocol.catalogue import (
    Task,
    any_matches,
    check_pattern,
    from_body,
    header_fields,
    joined,
    parse_catalogue,
    pattern_matches,
    to_body,
)
from protocol.errors import DecodeError, InputError, InputProblems

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
DEMO = load_file(ROOT / "configs" / "catalogue" / "demo.toml", parse_catalogue)

GOOD: dict[str, Any] = {
    "code": "A-01",
    "version": 3,
    "name": "就业困难人员认定",
    "owner": "650102000000-rsj",
    "kind": 2,
    "limits": {"promised_days": 10, "statutory_days": 20},
    "receive": ["650100000000/*"],
    "decide": ["650103000000/*", "650103000000-mzj"],
    "materials": [{"name": "居民身份证", "required": True, "form": "原件核验", "origin": "公安机关核发"}],
    "form": [{"name": "phone", "label": "联系电话", "required": True}],
    "stages": [
        {
            "name": "并联核验",
            "join": "all",
            "tasks": [{"name": "甲", "node": "650103000000-rsj", "unit": "一窗"}, {"name": "乙"}],
        }
    ],
    "results": ["认定表"],
    "basis": "示例",
}


def parse(*items: object) -> Any:
    return parse_catalogue({"format": "tongban-catalogue/1", "items": list(items)}, "c.toml")


def faults(*items: object) -> tuple[str, ...]:
    with pytest.raises(InputProblems) as caught:
        parse(*items)
    return caught.value.problems


def put(item: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy of an item with one value changed; a path is keys and places with dots between."""
    changed = copy.deepcopy(item)
    *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
    inner: Any = changed
    for step in way:
        inner = inner[step]
    inner[last] = value
    return changed


def test_a_file_becomes_items() -> None:
    """A good file gives its items whole; what may be left out has a sensible value."""
    (item,) = parse(GOOD)
    assert (item.code, item.version, item.kind, item.limits.promised_days) == ("A-01", 3, 2, 10)
    assert item.stages[0].tasks == (Task("甲", "650103000000-rsj", "一窗"), Task("乙"))
    assert item.region == "650102000000"  # the owner's district
    (bare,) = parse(
        {key: GOOD[key] for key in ("code", "version", "name", "owner", "kind", "limits", "receive", "decide")}
    )
    assert (bare.materials, bare.form, bare.stages, bare.results, bare.basis) == ((), (), (), (), "")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("code", "事项一", "code: item code '事项一' must be"),
        ("code", "a" * 65, "code: item code"),
        ("version", 0, "version: must be from 1"),
        ("version", True, "version: must be a whole number"),
        ("version", 1.5, "version: must be a whole number, not a decimal number"),
        ("name", "", "name: must not be empty"),
        ("owner", "65", "owner: division code 65 has 2 digits"),
        ("kind", 3, "kind: must be 1 (即办件), 2 (承诺件) or 9 (其他), not 3"),
        ("limits", 20, "limits: must be a table"),
        ("limits.promised_days", 21, "limits: promised_days: 21 is more than statutory_days, 20"),
        ("limits.statutory_days", -1, "limits: statutory_days: must be from 0"),
        ("receive", [], "receive: must name at least one node"),
        ("receive", ["650100000000/"], "receive[0]: division code '650100000000/'"),
        ("decide", ["6501*"], "decide[0]: division code '6501*'"),
        ("decide", ["650103000000", "650103000000"], "decide[1]: 650103000000 stands in the list twice"),
        ("region", "65", "region: division code 65"),
        ("materials.0.required", "yes", "materials[0]: required: must be true or false"),
        ("materials.0.nmae", "x", "materials[0]: nmae: unknown key"),
        ("form.0.name", "Phone", "form[0]: name: field name 'Phone'"),
        ("stages.0.join", "some", 'stages[0]: join: must be "all", "any" or a number from 1 to the number of tasks, 2'),
        ("stages.0.join", 3, "stages[0]: join: must be"),
        ("stages.0.join", 0, "stages[0]: join: must be"),
        ("stages.0.join", True, "stages[0]: join: must be"),
        ("stages.0.tasks", [], "stages[0]: tasks: must hold at least one task"),
        ("stages.0.tasks.0.node", "rsj", "stages[0]: tasks[0]: node: division code 'rsj'"),
        ("stages.0.tasks.1.name", "甲", "stages: tasks: the name 甲 is used twice"),
        ("fee", 3, "fee: unknown key"),
    ],
)
def test_each_fault_names_item_and_field(path: str, value: object, expected: str) -> None:
    """A wrong value is refused with the item's code, the field, and what is wrong; nothing else is complained of."""
    (fault,) = faults(put(GOOD, path, value))
    assert fault.startswith("items[0] (")
    assert expected in fault


def test_all_faults_of_all_items_come_at_once() -> None:
    """Two items with two faults each are refused with four sentences."""
    bad = put(put(GOOD, "kind", 7), "version", "1")
    found = faults(bad, put(bad, "code", "B-01"))
    assert [fault.split(":")[0] for fault in found] == ["items[0] (A-01)"] * 2 + ["items[1] (B-01)"] * 2


def test_an_item_fits_its_entry() -> None:
    """An item whose texts would not fit one entry is refused when it is read, not when it is written."""
    materials = [{"name": f"材料{number}" + "长" * 190, "required": False} for number in range(200)]
    (fault,) = faults(put(GOOD, "materials", materials))
    assert "is larger than 64 KiB" in fault


def test_one_version_of_an_item_stands_in_a_file() -> None:
    """The same code twice would leave it to chance which holds."""
    assert faults(GOOD, put(GOOD, "version", 4)) == ("item A-01: code: stands in this file twice; keep one version",)


@pytest.mark.parametrize(
    "mapping", [None, [], {}, {"format": "tongban-catalogue/1"}, {"format": "x", "items": [3]}, {"items": {"a": 1}}]
)
def test_another_value_is_no_catalogue(mapping: object) -> None:
    """Whatever a file holds instead of a catalogue is refused, not crashed on."""
    with pytest.raises(InputProblems):
        parse_catalogue(mapping, "c.toml")


def test_patterns_follow_the_stated_parents() -> None:
    """`ID` is that node alone, `ID/*` that node and all below it; the digits of a code decide nothing."""
    above = ["650102002000", "650102000000", "650100000000"]
    assert pattern_matches("650102002005", "650102002005", above)
    assert pattern_matches("650102000000/*", "650102002005", above)
    assert pattern_matches("650102000000/*", "650102000000", above[2:])
    assert not pattern_matches("650102000000", "650102002005", above)
    assert not pattern_matches("650103000000/*", "650102002005", above)
    assert not pattern_matches("650102000000/*", "650102009001", ["650103000000", "650100000000"])
    assert any_matches(["650103000000", "650100000000/*"], "650102002005", above)
    assert not any_matches([], "650102002005", above)


def test_a_department_is_not_its_district() -> None:
    """A node with a suffix is another node, and below the district only by its parent."""
    assert not pattern_matches("650103000000", "650103000000-rsj", ["650103000000"])
    assert pattern_matches("650103000000/*", "650103000000-rsj", ["650103000000"])
    assert pattern_matches("650103000000-rsj/*", "650103000000-rsj", [])


@given(st.text(max_size=20))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    """No text makes the check fail in another way."""
    with suppress(InputError):
        assert check_pattern(text) == text


def test_join_rules() -> None:
    """All is every task, any is one, a number is that many."""
    assert [joined(rule, 3) for rule in ("all", "any", 2)] == [3, 1, 2]


@pytest.mark.parametrize("item", DEMO, ids=lambda item: item.code)
def test_a_body_reads_back(item: Any) -> None:
    """The body of an item entry holds plain values only and gives the same item again, also from a newer program."""
    body = to_body(item)
    assert json.loads(json.dumps(body)) == body
    assert from_body(body) == item
    newer = {**body, "added_later": 1, "stages": [{**stage, "later": 1} for stage in body["stages"]]}  # type: ignore[attr-defined]
    assert from_body(newer) == item


def test_the_header_tells_rights_only() -> None:
    """What goes to every node is code, version, title, owner and the two lists of patterns."""
    (item,) = parse(GOOD)
    assert header_fields(item) == {
        "code": "A-01",
        "version": 3,
        "title": "就业困难人员认定",
        "owner": "650102000000-rsj",
        "receive": ["650100000000/*"],
        "decide": ["650103000000/*", "650103000000-mzj"],
    }


@pytest.mark.parametrize("body", [None, {}, {"code": "A"}, put(GOOD, "limits.promised_days", 99)])
def test_a_wrong_body_is_a_decode_error(body: object) -> None:
    """A body from another node that breaks the format is its author's fault, not our user's."""
    with pytest.raises(DecodeError):
        from_body(body)


# --- what we ship and what we document


def test_the_demo_catalogue_has_its_six_items() -> None:
    """The demo needs one item decided in the village, one by two departments side by side, and one to replay under."""
    found = {item.code: item for item in DEMO}
    assert len(found) == 6
    assert found["senior-allowance-check"].kind == 1
    assert found["senior-allowance-check"].decide == ("650100000000/*",)
    nodes = [task.node for task in found["employment-hardship"].stages[0].tasks]
    assert nodes == ["650103000000-rsj", "650103000000-mzj"]
    assert len(found["env-permit-receipt"].stages[0].tasks) == 2
    assert all("示例" in item.note and "示例" in item.basis for item in DEMO)


def test_the_demo_catalogue_names_real_divisions() -> None:
    """Every node of the sample catalogue stands in the sample of divisions."""
    codes = {found.code12 for found in load_divisions(ROOT / "configs" / "divisions" / "urumqi-sample.csv")}
    named = {pattern.removesuffix("/*") for item in DEMO for pattern in (*item.receive, *item.decide, item.owner)}
    assert {node[:12] for node in named} <= codes


def objects(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """List the object schemas inside one, each with the path of an instance in GOOD."""
    found = [(path, schema)] if schema["type"] == "object" else []
    for key, inner in schema.get("properties", {}).items():
        at = f"{path}.{key}".strip(".")
        if inner.get("type") == "object":
            found += objects(inner, at)
        elif inner.get("type") == "array" and inner["items"].get("type") == "object":
            found += objects(inner["items"], f"{at}.0")
    return found


def item_schema() -> dict[str, Any]:
    schema = json.loads((SCHEMAS / "catalogue.schema.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = schema["properties"]["items"]["items"]
    return found


def get(value: Any, path: str) -> Any:
    for step in path.split(".") if path else ():
        value = value[int(step) if step.isdigit() else step]
    return value


@pytest.mark.parametrize(("path", "schema"), objects(item_schema()))
def test_schema_and_parser_ask_for_the_same_keys(path: str, schema: dict[str, Any]) -> None:
    """What the schema requires the parser misses, what it leaves free the parser does too, and it knows every key."""
    full = {**GOOD, "region": "650100000000", "note": "备注"}
    table = get(full, path)
    assert set(table) == set(schema["properties"])
    for key in table:
        changed = copy.deepcopy(full)
        del get(changed, path)[key]
        if key in schema["required"]:
            assert any(f"{key}: is missing" in fault or f"{key}: must" in fault for fault in faults(changed))
        else:
            assert parse(changed)
    assert not schema["additionalProperties"]


def test_schema_and_parser_know_the_same_file_keys() -> None:
    """The keys of the file itself are the same in schema and parser."""
    schema = json.loads((SCHEMAS / "catalogue.schema.json").read_text(encoding="utf-8"))
    whole = {"format": "tongban-catalogue/1", "note": "备注", "items": [GOOD]}
    assert set(schema["properties"]) == set(whole)
    assert parse_catalogue(whole, "c")
    for key in schema["required"]:
        with pytest.raises(InputProblems, match=key):
            parse_catalogue({name: value for name, value in whole.items() if name != key}, "c")
