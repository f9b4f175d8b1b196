"""One command in one transaction: who, when, from which event."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ledger import Changes
from node.node import Node
from node.office import Act, Answer, Desk, at_desk, counter, perform
from node.store.database import Connection
from protocol.errors import CommandRefused, InputError
from tests.node.building import ACT, EAST, ask, brought_to, carry, enrol, found, furnish, hire, opened, show, size_of


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


@pytest.mark.parametrize(
    "act",
    [
        Act(officer=""),
        Act(window="x" * 41),
        Act(at_ms=-1),
        Act(at_ms=1 << 60),
        Act(source=("", "a")),
        Act(source=("s" * 201, "a")),
    ],
)
async def test_who_and_when_are_checked_before_any_work(city: Node, act: Act) -> None:
    """An officer, window, time or event out of bounds is refused before the command looks at anything."""

    def never(_desk: Desk) -> Answer:
        raise AssertionError

    with pytest.raises(InputError):
        await at_desk(city, act, never)


async def test_an_event_of_another_system_is_taken_in_once(city: Node) -> None:
    """The same source id again gives the first answer and writes nothing, whatever the case's state is by then."""
    case = await opened(city)
    act = Act("1001", "3", None, ("ev-7", "Confirmation of receipt"))
    first = await ask(city, "case.accept", act, case=case)
    before = await size_of(city)
    again = await ask(city, "case.accept", act, case=case)
    assert again == {**first, "repeated": True}
    assert await size_of(city) == before
    (row,) = [row for row in await ask(city, "export", entries=True) if row["source_id"] is not None]
    assert (row["source_id"], row["activity"], row["type"]) == ("ev-7", "Confirmation of receipt", "accept")


async def test_an_event_taken_in_elsewhere_is_refused(tmp_path: Path) -> None:
    """An event that another node took in is in the network already."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    act = Act("1001", "3", None, ("ev-1", "receipt"))
    params = {"item": "permit", "applicant": "王伟"}
    await ask(east, "case.open", act, **params)
    await carry(east, city)
    with pytest.raises(CommandRefused, match=EAST):
        await ask(city, "case.open", act, **params)


async def test_several_commands_may_share_one_transaction(city: Node) -> None:
    """A replay works many events in one unit: all of them, or none."""
    case = await opened(city)

    def unit(conn: Connection, changes: Changes, *, fail: bool) -> None:
        perform(city, conn, changes, ACT, lambda desk: counter.accept(desk, case))
        perform(city, conn, changes, ACT, lambda desk: counter.decide(desk, case, result="grant"))
        if fail:
            raise CommandRefused("stopped")

    with pytest.raises(CommandRefused, match="stopped"):
        await city.write(lambda conn, changes: unit(conn, changes, fail=True))
    assert (await show(city, case))["state"] == "received"
    await city.write(lambda conn, changes: unit(conn, changes, fail=False))
    assert (await show(city, case))["state"] == "decided"


async def test_listeners_hear_of_every_command(city: Node) -> None:
    """After the commit whoever waits is told which logs and cases changed; a refusal tells nothing."""
    heard: list[Changes] = []
    case = await opened(city)
    city.listeners.append(heard.append)
    await brought_to(city, case, "accept")
    assert [len(changes.cases) for changes in heard] == [1]
    with pytest.raises(CommandRefused):
        await brought_to(city, case, "accept")
    assert len(heard) == 1
