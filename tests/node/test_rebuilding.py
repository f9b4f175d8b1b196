"""Projections come from entries alone: rebuilt they are the same, and a difference is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.node import Node
from tests.node.building import EAST, Act, ask, brought_to, carry, enrol, found, furnish, hire, opened, show


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with cases of its own and one that came back from below, with a void and a late entry nowhere near."""
    node = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", node, EAST))
    case = await brought_to(east, await opened(east, "欧阳娜娜"), "notice", "supplement", "offer")
    await carry(east, node)
    await brought_to(node, case, "take", "accept")
    own = await brought_to(node, await opened(node), "accept", "dispatch", "task:社保核验", "suspend", "resume")
    await ask(node, "case.note", Act("1001", None, None, ("s-1", "note")), case=own, text="x")
    await ask(node, "case.correct", case=own, field={"applicant": "王玮"}, reason="r")
    await ask(node, "case.reclaim", case=await _late(node, east), after=None, reason="r")
    return node


async def _late(node: Node, east: Node) -> str:
    """Return a case that the hub reclaims while the station writes on."""
    case = await opened(east, "李娜")
    await carry(east, node)
    return case


async def test_rebuilt_is_the_same(city: Node) -> None:
    """Case rows, contexts, names, sources and officers are equal to those that grew entry by entry."""
    answer = await ask(city, "rebuild")
    assert answer["problems"] == []
    assert (answer["different"], answer["cases"]) == (0, 3)
    assert answer["entries"] == len(await ask(city, "export", entries=True))
    assert (await ask(city, "rebuild"))["different"] == 0


@pytest.mark.parametrize(
    ("statement", "kind", "word"),
    [
        ("UPDATE cases SET state = 'finished' WHERE id = 1", "case", "state"),
        ("UPDATE cases SET context = x'00' WHERE id = 1", "case", "context"),
        ("UPDATE cases SET salt = x'00' WHERE id = 2", "case", "salt"),
        ("DELETE FROM sources", "source", "new"),
        ("INSERT INTO names (rowid, grams) VALUES (99, '王')", "name", "gone"),
        ("DELETE FROM meta WHERE name = 'officers'", "officers", "officers"),
    ],
)
async def test_a_difference_is_told_and_mended(city: Node, statement: str, kind: str, word: str) -> None:
    """What differed is named by kind, and is right afterwards."""
    await city.write(lambda conn, _: conn.execute(statement))
    answer = await ask(city, "rebuild")
    assert [problem["kind"] for problem in answer["problems"]] == [kind]
    assert word in answer["problems"][0]["detail"]
    assert (await ask(city, "rebuild"))["different"] == 0
    assert len(await ask(city, "list", find="王")) == 1


async def test_a_failed_rebuild_leaves_everything(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rebuild is one transaction: when it fails nothing was dropped."""
    before = await ask(city, "list")

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("node.rebuilding.officers.recount", fail)
    with pytest.raises(OSError, match="disk"):
        await ask(city, "rebuild")
    assert await ask(city, "list") == before
    monkeypatch.undo()
    assert (await ask(city, "rebuild"))["different"] == 0
    assert (await show(city, before[0]["case"]))["timeline"]
