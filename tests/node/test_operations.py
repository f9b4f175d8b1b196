"""The register of operations: names and parameters of the command line, checked before anything is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from node import operations
from node.node import Node
from node.office import Act
from protocol.errors import InputError, InputProblems
from tests.node.building import ACT, CITY, ask, brought_to, found, furnish, opened, show, size_of

CONTRACT = {
    *("officer.add", "officer.retire", "officer.list", "catalogue.publish", "catalogue.list"),
    *("calendar.publish", "calendar.list", "list", "show", "status", "verify", "rebuild", "export"),
    *(
        f"case.{step}"
        for step in (
            *("open", "accept", "refuse", "notice", "supplement", "dispatch", "task", "suspend", "resume", "extend"),
            *("decide", "finish", "revoke", "deliver", "withdraw", "correct", "note", "offer", "take", "return"),
            "reclaim",
        )
    ),
}


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


def test_the_contract_is_served() -> None:
    """Every command of a node's own use cases has its operation."""
    assert set(operations.names()) >= CONTRACT


async def test_an_unknown_operation_is_refused(city: Node) -> None:
    """Nothing is guessed from a name."""
    with pytest.raises(InputError, match=r"case\.steal"):
        await operations.run(city, "case.steal", {}, ACT)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("case.accept", {}, ["case"]),
        ("case.accept", {"case": 7}, ["case"]),
        ("case.accept", {"case": "x", "reson": "typo"}, ["reson: unknown key"]),
        ("case.refuse", {"case": "x", "kind": 6}, ["kind", "reason"]),
        ("case.notice", {"case": "x", "missing": []}, ["missing"]),
        ("case.decide", {"case": "x", "result": "yes"}, ["grant or partial or deny"]),
        ("case.extend", {"case": "x", "days": 0, "reason": "r"}, ["days"]),
        ("case.extend", {"case": "x", "days": True, "reason": "r"}, ["days"]),
        ("case.deliver", {"case": "x", "how": "pigeon"}, ["window or post"]),
        ("case.dispatch", {"case": "x", "stage": "s", "to": [["t"]]}, ["to"]),
        ("case.dispatch", {"case": "x", "stage": "s", "to": "t=n"}, ["to"]),
        ("case.dispatch", {"case": "x", "stage": "s", "to": [["t", CITY, None], ["t", CITY]]}, ["twice"]),
        ("case.correct", {"case": "x", "field": {"a": 1}, "reason": "r"}, ["field"]),
        ("case.supplement", {"case": "x", "material": [{"sha256": "zz", "bytes": 0}]}, ["name", "bytes", "sha256"]),
        ("case.note", {"case": "x", "text": "x" * 4_001}, ["text"]),
        ("show", {"case": "x", "as_of": "tomorrow"}, ["as_of"]),
        ("list", {"limit": 0}, ["limit"]),
        ("status", {"verbose": True}, ["verbose"]),
    ],
)
async def test_every_fault_of_the_parameters_is_named(
    city: Node, name: str, params: Mapping[str, Any], words: list[str]
) -> None:
    """Missing, unknown and ill-formed parameters are named together, before a case is looked for."""
    before = await size_of(city)
    with pytest.raises(InputProblems) as caught:
        await operations.run(city, name, params, ACT)
    assert all(word in " ".join(caught.value.problems) for word in words)
    assert caught.value.exit_code == 2
    assert await size_of(city) == before


async def test_nothing_given_counts_as_left_out(city: Node) -> None:
    """An option that was not given may come as nothing."""
    case = await opened(city, handler=None, phone=None)
    await ask(city, "case.note", case=case, text="x")
    assert (await show(city, case, as_of=None))["handler"] == CITY


async def test_targets_of_a_dispatch_come_in_both_forms(city: Node) -> None:
    """As a table of TASK: NODE/UNIT, or as rows of task, node, unit."""
    first, second = [await brought_to(city, await opened(city), "accept") for _ in range(2)]
    await ask(city, "case.dispatch", case=first, stage="并联核验", to={"社保核验": f"{CITY}/一科"})
    await ask(city, "case.dispatch", case=second, stage="并联核验", to=[["社保核验", CITY, "一科"]])
    units = [[task["unit"] for task in (await show(city, case))["tasks"]] for case in (first, second)]
    assert units == [["一科", None], ["一科", None]]


async def test_long_answers_stream(city: Node) -> None:
    """`list` and `export` give rows one by one; the others one value."""
    assert isinstance(await operations.run(city, "list", {}, ACT), AsyncIterator)
    assert isinstance(await operations.run(city, "export", {"entries": True}, ACT), AsyncIterator)
    assert isinstance(await operations.run(city, "officer.list", {}, ACT), list)


async def test_others_register_more(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accepting side adds its operations to the same register."""
    monkeypatch.setattr("node.operations._operations", dict(operations._operations))

    async def invite(node: Node, params: Mapping[str, Any], act: Act) -> object:
        return {"node": node.id, **params, "officer": act.officer}

    operations.register("invite", invite)
    assert await ask(city, "invite", name="n") == {"node": CITY, "name": "n", "officer": "1001"}
