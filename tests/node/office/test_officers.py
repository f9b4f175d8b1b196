"""Officers: added, changed, retired; and who may act."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from node.office import officers
from protocol.errors import CommandRefused, InputError, NotFound
from tests.node.building import Act, ask, found, furnish, item, opened, size_of


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with one officer, 1001."""
    return await furnish(await found(tmp_path / "city"))


async def test_an_officer_is_an_entry_and_a_name_in_the_list(city: Node) -> None:
    """Id, name, posts and date are kept; the same again writes nothing."""
    answer = await ask(city, "officer.add", id="1002", name=" 古丽 ", posts=["综窗", "专窗"])
    assert (answer["name"], answer["posts"], answer["from"]) == ("古丽", ["综窗", "专窗"], "2025-11-25")
    before = await size_of(city)
    assert (await ask(city, "officer.add", id="1002", name="古丽", posts=["综窗", "专窗"]))["unchanged"] is True
    assert await size_of(city) == before
    listed = await ask(city, "officer.list")
    assert [(one["officer"], one["retired"]) for one in listed] == [("1001", None), ("1002", None)]


async def test_a_retired_officer_acts_no_more(city: Node) -> None:
    """After retirement steps are refused with the way back; adding again is that way."""
    await ask(city, "officer.retire", id="1001")
    with pytest.raises(CommandRefused, match="retired") as caught:
        await opened(city)
    assert "officer add 1001" in caught.value.hint
    assert (await ask(city, "officer.retire", id="1001"))["unchanged"] is True
    await ask(city, "officer.add", id="1001", name="张三")
    assert await opened(city)


async def test_an_unknown_officer_is_refused_with_the_fix(city: Node) -> None:
    """Where a node has stated its officers, nobody else acts, and nobody unnamed."""
    for act, hint in ((Act("9"), "officer add 9"), (Act(), "--officer")):
        with pytest.raises(CommandRefused) as caught:
            await ask(city, "case.open", act, item="permit", applicant="王", id_number="11010519491231002X")
        assert hint in caught.value.hint


async def test_a_node_without_officers_takes_who_is_named(tmp_path: Path) -> None:
    """A node that has stated no officers yet is not kept from work."""
    city = await found(tmp_path)
    await ask(city, "catalogue.publish", catalogue={"format": "tongban-catalogue/1", "items": [item()]})
    answer = await ask(city, "case.open", Act("7"), item="permit", applicant="王", id_number="11010519491231002X")
    shown = await ask(city, "show", case=answer["case"])
    assert (shown["timeline"][0]["officer"], shown["timeline"][0]["officer_name"]) == ("7", None)




@pytest.mark.parametrize(
    "params",
    [{"id": "", "name": "a"}, {"id": "a b", "name": "a"}, {"id": "x" * 41, "name": "a"}, {"id": "1", "name": " "}],
)
async def test_a_wrong_officer_is_refused(city: Node, params: dict[str, str]) -> None:
    """An id is one short word, a name is not empty."""
    with pytest.raises(InputError):
        await ask(city, "officer.add", **params)


async def test_retiring_nobody_is_refused(city: Node) -> None:
    """Only who was added can be retired."""
    with pytest.raises(NotFound):
        await ask(city, "officer.retire", id="77")


async def test_the_list_is_made_again_from_the_log(city: Node) -> None:
    """Losing the projection loses nothing: additions, changes and retirements are in the log."""
    await ask(city, "officer.add", id="1002", name="古丽")
    await ask(city, "officer.add", id="1002", name="古丽娜", post="专窗")
    await ask(city, "officer.retire", id="1001")
    before = await city.read(officers.load)
    await city.write(lambda conn, _: conn.execute("DELETE FROM meta WHERE name = ?", (officers.META,)))
    assert await city.read(officers.load) == {}
    await city.write(lambda conn, _: officers.recount(conn, city.id))
    assert await city.read(officers.load) == before
