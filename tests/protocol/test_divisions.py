"""Division codes, node ids and division files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.inputs import load_divisions
from protocol.divisions import (
    COLUMNS,
    NATION,
    Division,
    Tier,
    check_node_id,
    is_node_id,
    parse_divisions,
    parse_node_id,
    parse_region,
    region_of,
    region_prefix,
    tier_of,
    within,
)
from protocol.errors import InputError, InputProblems

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "urumqi_6501.csv"
CITY = {"code12": "650100000000", "name": "乌鲁木齐市", "tier": "1", "parent12": ""}
DISTRICT = {"code12": "650102000000", "name": "天山区", "tier": "2", "parent12": "650100000000"}
STREET = {"code12": "650102002000", "name": "燕儿窝街道", "tier": "3", "parent12": "650102000000"}


def faults(*rows: dict[str, str]) -> list[str]:
    with pytest.raises(InputProblems) as caught:
        parse_divisions(enumerate(rows, start=2), "d.csv")
    return list(caught.value.problems)


def test_zeros_tell_the_tier() -> None:
    """Province, city, district, township and village are told apart by trailing zeros."""
    codes = ["650000000000", "650100000000", "650102000000", "650102002000", "650102002005"]
    assert [tier_of(code) for code in codes] == list(Tier)


def test_a_round_code_keeps_its_tier() -> None:
    """Zeros that belong to the code itself (10 of a city, 110 of a township) do not lift it."""
    assert tier_of("361000000000") is Tier.CITY
    assert tier_of("650102110000") is Tier.TOWNSHIP
    assert tier_of("650102002200") is Tier.VILLAGE


def test_a_city_without_districts_has_townships() -> None:
    """Dongguan's towns stand directly under the city; their region is the city itself."""
    assert tier_of("441900003000") is Tier.TOWNSHIP
    assert region_of("441900003001") == "441900000000"


def test_node_id_is_code_and_suffix() -> None:
    """A department has the code of its district and a suffix, and is written back as it was read."""
    node = parse_node_id("650102000000-rsj")
    assert (node.code, node.suffix, node.tier, str(node)) == ("650102000000", "rsj", Tier.DISTRICT, "650102000000-rsj")
    assert str(parse_node_id("650102000000")) == "650102000000"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("65010200000", "11 digits"),
        ("6501020000000", "13 digits"),
        ("65010200000a", "digits only"),
        ("６５０１０２００００００", "digits only"),
        ("", "digits only"),
        ("050102000000", "begins with 0"),
        ("650102000000-", "suffix"),
        ("650102000000-RSJ", "suffix"),
        ("650102000000-rsj-1", "suffix"),
        ("650102000000-toolongsuffix", "suffix"),
        ("650102000000\n", "digits only"),
    ],
)
def test_a_wrong_node_id_is_refused_by_what_is_wrong(text: str, named: str) -> None:
    """The message says which part of the id breaks which rule."""
    with pytest.raises(InputError) as caught:
        check_node_id(text)
    assert named in caught.value.message
    assert not is_node_id(text)


@pytest.mark.parametrize(
    ("node", "region"),
    [
        ("650102002005", "650102000000"),
        ("650102002000", "650102000000"),
        ("650103000000-mzj", "650103000000"),
        ("650100000000", "650100000000"),
        ("650000000000", "650000000000"),
    ],
)
def test_region_is_the_district(node: str, region: str) -> None:
    """A case is handled in the district of its node; in the city or province where the node stands there."""
    assert region_of(node) == region


def test_regions_hold_their_codes() -> None:
    """A region holds what begins with its significant digits; the country holds all."""
    assert within("650102002005", "650000000000")
    assert within("650102002005", "650102000000")
    assert within("350205000000", NATION)
    assert not within("350205000000", "650000000000")
    assert region_prefix("650102002000") == "650102002"
    assert parse_region(NATION) == NATION


@given(st.text(max_size=30))
def test_no_text_breaks_the_prefix_or_the_check(text: str) -> None:
    """What stands in another's entry as a region or node id may be anything."""
    assert text == NATION or region_prefix(text)  # only the country is everywhere
    assert isinstance(is_node_id(text), bool)


def test_rows_become_divisions() -> None:
    """A good file gives its divisions in the order of its rows; the top has no parent."""
    found = parse_divisions(enumerate([CITY, DISTRICT, STREET], start=2), "d.csv")
    assert found[0] == Division("650100000000", "乌鲁木齐市", Tier.CITY, None)
    assert [division.parent12 for division in found] == [None, "650100000000", "650102000000"]


@pytest.mark.parametrize(
    ("change", "place", "named"),
    [
        ({"code12": "65010200200"}, "line 4: code12", "11 digits"),
        ({"code12": ""}, "line 4: code12", "missing"),
        ({"name": " "}, "line 4: name", "missing"),
        ({"name": "a\x07b"}, "line 4: name", "U+0007"),
        ({"tier": "2"}, "line 4: tier", "zeros show tier 3"),
        ({"tier": "x"}, "line 4: tier", "'x'"),
        ({"parent12": "650103000000"}, "line 4: parent12", "not in this file"),
        ({"parent12": "650102002000"}, "line 4: parent12", "itself"),
        ({"code12": "650102000000", "tier": "2", "parent12": "650100000000"}, "line 4: code12", "line 3 already"),
        ({"code12": "650105000000", "tier": "2", "parent12": "650102000000"}, "line 4: parent12", "not above tier 2"),
    ],
)
def test_a_wrong_row_is_named_by_line_and_field(change: dict[str, str], place: str, named: str) -> None:
    """Each fault of a division file says in which line and column it stands, and what is wrong."""
    (fault,) = faults(CITY, DISTRICT, STREET | change)
    assert fault.startswith(place)
    assert named in fault


def test_a_circle_is_named_once() -> None:
    """Parents that lead back to themselves are one fault that shows the way round."""
    other = STREET | {"code12": "650102003000", "parent12": "650102002000"}
    found = faults(CITY, DISTRICT, STREET | {"parent12": "650102003000"}, other)
    assert found == ["line 4: parent12: the parents run in a circle: 650102002000 → 650102003000 → 650102002000"]


def test_all_faults_come_at_once() -> None:
    """A file with three wrong lines is refused with three sentences."""
    found = faults(CITY | {"tier": "9"}, DISTRICT | {"code12": "1"}, STREET | {"name": ""})
    assert [fault.split(":")[0] for fault in found] == ["line 2", "line 3", "line 4"]


@given(st.permutations([CITY, DISTRICT, STREET]))
def test_rows_may_stand_in_any_order(rows: list[dict[str, str]]) -> None:
    """A parent may come after its children."""
    assert {division.code12 for division in parse_divisions(enumerate(rows), "d")} == {row["code12"] for row in rows}


SAMPLE = (ROOT / "configs" / "divisions" / "urumqi-sample.csv", 16, ["650103014498"])
WHOLE_CITY = (SHARED, 1246, ["650103014498", "650106015498", "650106198000"])


@pytest.mark.parametrize(("path", "count", "hidden"), [SAMPLE, *([WHOLE_CITY] if SHARED.exists() else [])])
def test_real_files_are_accepted(path: Path, count: int, hidden: list[str]) -> None:
    """The sample, and the whole city where its file is at hand, follow the rules and show which units are no stations."""
    found = load_divisions(path)
    assert len(found) == count
    assert sorted(division.code12 for division in found if division.hidden) == hidden


def test_schema_and_parser_ask_for_the_same_columns() -> None:
    """The row schema requires exactly the columns that the parser reads, and the tiers that it knows."""
    schema = json.loads((ROOT / "docs" / "schemas" / "division-row.schema.json").read_text(encoding="utf-8"))
    assert tuple(schema["required"]) == tuple(schema["properties"]) == COLUMNS
    assert schema["properties"]["tier"]["enum"] == [str(tier.value) for tier in Tier]
