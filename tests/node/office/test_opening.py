"""Taking in: what is checked, what is not, and the number that is printed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from node.node import Node
from node.office.opening import checked_name, checked_number
from protocol import numbers
from protocol.errors import CommandRefused, InputError, NotFound
from tests.node.building import (
    CITY,
    DAY_MS,
    EAST,
    ID_NUMBER,
    WEST_CIVIL,
    Act,
    ask,
    brought_to,
    carry,
    enrol,
    found,
    furnish,
    hire,
    item,
    opened,
    show,
)

TODAY = dt.date(2025, 11, 25)


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


async def test_the_number_counts_each_day_from_one(city: Node) -> None:
    """A number holds node, legal date and a serial that begins again each day; a day gone by counts on."""
    first, second = await opened(city), await opened(city)
    city.clock.at_ms += DAY_MS  # type: ignore[attr-defined] # the virtual clock
    third = await opened(city)
    past = await ask(
        city, "case.open", Act("1001", None, city.clock.wall_ms() - DAY_MS), item="permit", applicant="李", id_number=ID_NUMBER
    )
    parsed = [numbers.parse_number(str(number)) for number in (first, second, third, past["case"])]
    assert [(one.day.day, one.serial) for one in parsed] == [(25, 1), (25, 2), (26, 1), (25, 3)]
    assert {one.node for one in parsed} == {CITY}


async def test_a_number_in_the_store_is_not_printed_again(city: Node) -> None:
    """A store brought back from a backup has forgotten its serial, not its cases."""
    number = await opened(city)
    await city.write(lambda conn, _: conn.execute("DELETE FROM meta WHERE name LIKE 'serial.%'"))
    assert await opened(city) != number


async def test_a_case_pins_item_version_and_limits(city: Node) -> None:
    """What the item said on the day stays with the case."""
    case = await opened(city, field={"phone": "13800001234", "问题": "自由填写"})
    await ask(city, "catalogue.publish", items=[item(version=2, limits={"promised_days": 1, "statutory_days": 1})])
    await brought_to(city, case, "accept")
    shown = await show(city, case)
    assert (shown["item"], shown["version"], shown["title"]) == ("permit", 1, "就业困难人员认定")
    assert shown["due"]["date"] == "2025-12-02"
    assert shown["form"] == {"phone": "13800001234", "问题": "自由填写"}
    assert shown["id_number"] == "110105********002X"


async def test_required_form_fields_do_not_stop_intake(city: Node) -> None:
    """What a form still lacks is asked for later; the applicant is not sent away."""
    assert (await show(city, await opened(city)))["form"] == {}


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"item": "nothing"}, NotFound),
        ({"id_number": "11010519491231002X"[::-1]}, InputError),
        ({"id_number": "110105194912310021"}, InputError),
        ({"id_number": "110105"}, InputError),
        ({"applicant": "\u202e王伟"}, InputError),
        ({"handler": EAST}, NotFound),
        ({"handler": "1"}, InputError),
        ({"field": {"a": "x" * 5_000}}, InputError),
    ],
)
async def test_a_wrong_value_is_refused_and_uses_no_number(
    city: Node, params: dict[str, object], error: type[Exception]
) -> None:
    """A refused intake writes nothing: the next one gets the first serial."""
    with pytest.raises(error):
        await opened(city, **{"applicant": "王伟", **params})
    assert numbers.parse_number(await opened(city)).serial == 1


async def test_an_identity_number_is_asked_for(city: Node) -> None:
    """Only what comes from another system may lack it."""
    with pytest.raises(InputError, match="number is missing"):
        await ask(city, "case.open", item="permit", applicant="王伟")
    act = Act("1001", None, None, ("log-1", "Confirmation of receipt"))
    assert (await ask(city, "case.open", act, item="permit", applicant="王伟"))["case"]


async def test_a_node_without_the_right_is_told_who_has_it(tmp_path: Path) -> None:
    """A counter that may not take an item in names those that may."""
    city = await furnish(await found(tmp_path / "city"), item(receive=[CITY]))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    with pytest.raises(CommandRefused, match="no right to take in") as caught:
        await opened(east)
    assert CITY in caught.value.hint


async def test_an_item_whose_text_is_not_here_can_wait(city: Node) -> None:
    """Where only the item's head has come, the command says to sync and try again."""
    await city.write(
        lambda conn, _: conn.execute(
            "UPDATE entries SET body = NULL WHERE id IN (SELECT entry FROM facts WHERE number = 1)"
        )
    )
    with pytest.raises(CommandRefused) as caught:
        await opened(city)
    assert (caught.value.retryable, caught.value.exit_code) == (True, 3)


@pytest.mark.parametrize(
    ("decide", "handler"),
    [
        ([f"{CITY}/*"], EAST),
        ([CITY, f"{CITY}/*"], CITY),
        ([WEST_CIVIL], WEST_CIVIL),
        (["659999999999", CITY], CITY),
        ([f"{WEST_CIVIL}/*"], WEST_CIVIL),
    ],
)
async def test_who_handles_a_case_by_default(tmp_path: Path, decide: list[str], handler: str) -> None:
    """The first node named outright, else this one if it may decide, else the top of a subtree that may."""
    city = await furnish(await found(tmp_path / "city"), item(decide=decide, stages=[]))
    civil = await enrol(tmp_path / "civil", city, WEST_CIVIL, seed=3)
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    shown = await show(east, await opened(east))
    assert (shown["handler"], shown["region"]) == (handler, handler[:12])
    assert civil.id == WEST_CIVIL


async def test_a_handler_must_be_able_to_decide(tmp_path: Path) -> None:
    """A node that may not decide the item cannot be named as its handler."""
    city = await furnish(await found(tmp_path / "city"))
    await enrol(tmp_path / "civil", city, WEST_CIVIL)
    with pytest.raises(CommandRefused, match="may not decide"):
        await opened(city, handler=WEST_CIVIL)


async def test_intake_goes_on_without_a_line(tmp_path: Path) -> None:
    """A station takes cases in for weeks alone; the city has them once its log arrives."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    cases = []
    for _ in range(3):
        east.clock.at_ms += 7 * DAY_MS  # type: ignore[attr-defined] # the virtual clock
        cases.append(await opened(east))
    await carry(east, city)
    assert sorted(row["case"] for row in await ask(city, "list")) == sorted(cases)


def test_numbers_of_persons_and_of_bodies() -> None:
    """A person's number or a credit code is taken; a mistyped person's number is never taken for a credit code."""
    assert checked_number(" 11010519491231002x ", TODAY) == ID_NUMBER
    assert checked_number("91350100M000100Y43", TODAY) == "91350100M000100Y43"
    mistyped = [ID_NUMBER[:place] + digit + ID_NUMBER[place + 1 :] for place in range(14, 18) for digit in "0123456789"]
    taken = []
    for number in mistyped:
        try:
            taken.append(checked_number(number, TODAY))
        except InputError as error:
            assert number not in error.message  # noqa: PT017 - a number of a person stands in no message
    assert set(taken) == {ID_NUMBER}


def test_names_are_stored_in_one_form() -> None:
    """Kinds of dots and blanks do not make two persons."""
    assert checked_name(" 阿不都热依木•买买提 ") == "阿不都热依木·买买提"
