"""Publishing: new, changed, unchanged; and what the register would void is refused before it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from protocol.errors import CommandRefused, InputProblems
from tests.node.building import CITY, EAST, ask, calendar, carry, enrol, found, item, size_of


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root that has published nothing."""
    return await found(tmp_path / "city")


async def test_an_item_has_effect_at_once_at_the_root(city: Node) -> None:
    """The root's register takes it in with the same transaction."""
    answer = await ask(city, "catalogue.publish", items=[item(), item("other")])
    assert [one["code"] for one in answer["published"]] == ["permit", "other"]
    assert answer["safety"] == "here"
    assert city.rules.voids == {}
    listed = await ask(city, "catalogue.list")
    assert [(one["code"], one["version"], one["registered"], one["text_here"]) for one in listed] == [
        ("other", 1, True, True),
        ("permit", 1, True, True),
    ]


async def test_publishing_again_writes_only_what_is_new(city: Node) -> None:
    """The same content again is reported as unchanged; a higher version replaces."""
    await ask(city, "catalogue.publish", items=[item(), item("other")])
    before = await size_of(city)
    again = await ask(city, "catalogue.publish", items=[item(), item("other")])
    assert (again["published"], len(again["unchanged"])) == ([], 2)
    assert await size_of(city) == before
    answer = await ask(city, "catalogue.publish", items=[item(version=2, name="新名称"), item("other")])
    assert answer["published"] == [{"code": "permit", "version": 2}]
    assert [one["title"] for one in await ask(city, "catalogue.list")] == ["就业困难人员认定", "新名称"]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (item(name="改名"), "other content"),
        (item(version=1), ""),
        (item(owner="650199000000"), "owner"),
    ],
)
async def test_a_version_is_never_changed(city: Node, changed: dict[str, object], word: str) -> None:
    """Other content under a published version, or an owner elsewhere, is a fault of the file with the item's code."""
    await ask(city, "catalogue.publish", items=[item()])
    before = await size_of(city)
    if not word:
        assert (await ask(city, "catalogue.publish", items=[changed]))["published"] == []
        return
    with pytest.raises(InputProblems, match=word) as caught:
        await ask(city, "catalogue.publish", items=[changed])
    assert "permit" in caught.value.problems[0]
    assert await size_of(city) == before


async def test_a_lower_version_is_refused(city: Node) -> None:
    """What was replaced does not come back under its old version."""
    await ask(city, "catalogue.publish", items=[item(version=3)])
    with pytest.raises(InputProblems, match="higher"):
        await ask(city, "catalogue.publish", items=[item(version=2)])


async def test_a_dry_run_writes_nothing_and_warns(city: Node) -> None:
    """`dry_run` shows what would be done, and names nodes that are not in the network yet."""
    before = await size_of(city)
    answer = await ask(city, "catalogue.publish", items=[item(decide=[EAST])], dry_run=True)
    assert (answer["dry_run"], len(answer["published"])) == (True, 1)
    assert answer["warnings"] == [f"item permit: names {EAST}, which is not in the network yet"]
    assert await size_of(city) == before
    assert "log" not in answer


async def test_a_fault_in_the_file_names_item_and_field(city: Node) -> None:
    """A file is refused whole, with every fault."""
    with pytest.raises(InputProblems) as caught:
        await ask(city, "catalogue.publish", items=[item(kind=3), item("b", receive=["x"])])
    assert len(caught.value.problems) == 2
    assert "kind" in caught.value.problems[0]


async def test_an_item_that_is_too_large_is_named(city: Node) -> None:
    """A text over the bound of a body is refused with its code, not with a stack."""
    with pytest.raises(InputProblems, match="big"):
        await ask(city, "catalogue.publish", items=[item("big", results=[f"{n}" + "件" * 190 for n in range(140)])])


async def test_only_who_may_publish_does(tmp_path: Path) -> None:
    """A node without the right is told so; a hub with it publishes for itself, and the root's register decides."""
    city = await found(tmp_path / "city")
    east = await enrol(tmp_path / "east", city, EAST, rights=())
    with pytest.raises(CommandRefused, match="no right to publish"):
        await ask(east, "catalogue.publish", items=[item(owner=EAST)])
    with pytest.raises(CommandRefused, match="no right to publish"):
        await ask(east, "calendar.publish", calendar=calendar())


async def test_a_hub_publishes_its_own_items_and_waits_for_the_root(tmp_path: Path) -> None:
    """Below the root an item waits for a register; published again meanwhile it is known."""
    city = await found(tmp_path / "city")
    east = await enrol(tmp_path / "east", city, EAST)
    with pytest.raises(InputProblems, match="owner"):
        await ask(east, "catalogue.publish", items=[item(owner=CITY)])
    await ask(east, "catalogue.publish", items=[item("east-item", owner=EAST)])
    assert [one["registered"] for one in await ask(east, "catalogue.list")] == [False]
    again = await ask(east, "catalogue.publish", items=[item("east-item", owner=EAST)])
    assert again["unchanged"] == [{"code": "east-item", "version": 1}]
    with pytest.raises(InputProblems, match="region"):
        await ask(east, "calendar.publish", calendar=calendar())
    await carry(east, city)


async def test_calendars_follow_the_same_rules(city: Node) -> None:
    """One region, one version, one content."""
    await ask(city, "calendar.publish", calendar=calendar())
    assert (await ask(city, "calendar.publish", calendar=calendar()))["unchanged"]
    with pytest.raises(InputProblems, match="other days"):
        await ask(city, "calendar.publish", calendar=calendar(weekday_off=[]))
    await ask(city, "calendar.publish", calendar=calendar(2, weekday_off=[]))
    with pytest.raises(InputProblems, match="higher"):
        await ask(city, "calendar.publish", calendar=calendar(1))
    (listed,) = await ask(city, "calendar.list")
    assert (listed["version"], listed["weekday_off"], listed["registered"]) == (2, 0, True)
