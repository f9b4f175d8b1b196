"""The list: filters, pages, and names of one or two characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from protocol.errors import InputError, NotFound
from tests.node.building import CITY, EAST, ask, brought_to, found, furnish, item, opened

NAMES = ("王伟", "王伟明", "李娜", "欧阳娜娜", "阿不都热依木·买买提")


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with a case for each of the names."""
    node = await furnish(await found(tmp_path / "city"), item(), item("other"))
    for name in NAMES:
        await opened(node, name)
    return node


async def names(node: Node, **params: object) -> list[str]:
    """Return the applicants of a list, sorted."""
    return sorted(row["applicant"] for row in await ask(node, "list", **params))


@pytest.mark.parametrize(
    ("find", "expected"),
    [
        ("王", ["王伟", "王伟明"]),
        ("伟", ["王伟", "王伟明"]),
        ("王伟", ["王伟", "王伟明"]),
        ("伟明", ["王伟明"]),
        ("娜", ["李娜", "欧阳娜娜"]),
        ("娜娜", ["欧阳娜娜"]),
        ("买买提", ["阿不都热依木·买买提"]),
        ("木·买", ["阿不都热依木·买买提"]),
        ("伟王", []),
        ("赵", []),
        ('" OR names MATCH "王', []),
        ("*", []),
    ],
)
async def test_names_are_found_by_any_part(city: Node, find: str, expected: list[str]) -> None:
    """One or two characters find a name; nothing typed becomes query syntax."""
    assert await names(city, find=find) == sorted(expected)


async def test_filters_narrow_the_list(city: Node) -> None:
    """State, holder and item are exact."""
    accepted = await brought_to(city, await opened(city, "赵六", item="other"), "accept")
    assert [row["case"] for row in await ask(city, "list", state="accepted")] == [accepted]
    assert [row["case"] for row in await ask(city, "list", item="other")] == [accepted]
    assert await ask(city, "list", holder=EAST) == []
    assert len(await ask(city, "list", holder=CITY, state="received")) == len(NAMES)
    with pytest.raises(InputError, match="state"):
        await ask(city, "list", state="lost")


async def test_pages_join_without_gap_or_repeat(city: Node) -> None:
    """`after` goes on behind a case, by key or number; newest first."""
    whole = [row["case"] for row in await ask(city, "list")]
    assert whole == sorted(whole, reverse=True)
    first = await ask(city, "list", limit=2)
    second = await ask(city, "list", limit=2, after=first[-1]["key"])
    third = await ask(city, "list", limit=2, after=second[-1]["case"])
    assert [row["case"] for row in (*first, *second, *third)] == whole
    with pytest.raises(NotFound):
        await ask(city, "list", after="00000000")


async def test_a_long_list_comes_in_pages(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages inside the program do not show: the limit is the caller's."""
    monkeypatch.setattr("node.views.listing.PAGE", 2)
    assert len(await ask(city, "list")) == len(NAMES)
    assert len(await ask(city, "list", limit=3)) == 3


async def test_a_corrected_name_is_listed_and_both_are_found(city: Node) -> None:
    """Who remembers the old spelling still finds the case."""
    case = await opened(city, "刘阳")
    await ask(city, "case.correct", case=case, field={"applicant": "刘洋"}, reason="录入错误")
    assert await names(city, find="刘洋") == ["刘洋"]
    assert await names(city, find="刘阳") == ["刘洋"]
    assert (await ask(city, "rebuild"))["different"] == 0
    assert await names(city, find="刘洋") == ["刘洋"]


async def test_a_row_says_where_the_case_stands(city: Node) -> None:
    """A list is enough for a queue: state, code, holder, opener, time."""
    (row,) = await ask(city, "list", find="李娜")
    assert (row["state"], row["state_code"], row["delivered"]) == ("received", 1, False)
    assert (row["holder"], row["opener"], row["opened_at"]) == (CITY, CITY, "2025-11-25T10:00:00.000+08:00")
