"""The printed number of a case."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InputError
from protocol.numbers import ALPHABET, CaseNumber, check_character, check_number, make_number, parse_number

DAY = dt.date(2026, 11, 21)
NODES = st.tuples(
    st.from_regex(r"[1-9][0-9]{11}", fullmatch=True), st.from_regex(r"(-[a-z0-9]{1,8})?", fullmatch=True)
).map("".join)
PARTS = st.tuples(NODES, st.dates(dt.date(1970, 1, 1), dt.date(2199, 12, 31)), st.integers(1, 999_999_999))


def test_the_form_is_fixed() -> None:
    """Code, suffix, date, serial and check character; printed numbers must never change their form."""
    assert make_number("650102001001", DAY, 12) == "650102001001-20261121-00012L"
    assert make_number("650103000000-rsj", DAY, 1) == "650103000000-RSJ-20261121-00001A"


def test_check_character_is_iso_7064() -> None:
    """MOD 37,36 as the standard's users have it: GRid A12425GABC1234002 ends in M."""
    assert check_character("A12425GABC1234002") == "M"


@given(PARTS)
def test_a_number_reads_back(parts: tuple[str, dt.date, int]) -> None:
    """What was printed gives node, date and serial again, within 50 characters."""
    number = make_number(*parts)
    assert len(number) <= 50
    assert parse_number(number) == CaseNumber(*parts)


@given(PARTS, PARTS)
def test_two_cases_never_share_a_number(one: tuple[str, dt.date, int], other: tuple[str, dt.date, int]) -> None:
    """Equal numbers come only from the same node, day and serial, with or without their dashes."""
    if one != other:
        assert make_number(*one) != make_number(*other)


@given(NODES, st.dates(dt.date(1970, 1, 1), dt.date(2199, 12, 31)), st.integers(1, 99_999))
def test_dashes_may_be_left_out(node: str, day: dt.date, serial: int) -> None:
    """A number with a serial of five digits is understood without its dashes."""
    number = make_number(node, day, serial)
    assert check_number(number.replace("-", "")) == number


@pytest.mark.parametrize(
    "typed",
    [
        " 650103000000-rsj-20261121-00001a ",
        "650103000000—RSJ—20261121—00001A",
        "６５０１０３００００００-RSJ-20261121-00001Ａ",
        "650103000000 RSJ 20261121 00001A",
        "650103000000RSJ2026112100001A",
    ],
)
def test_typing_habits_are_mended(typed: str) -> None:
    """Small letters, blanks, other dashes and full-width characters give the printed form."""
    assert check_number(typed) == "650103000000-RSJ-20261121-00001A"


@given(PARTS, st.data())
def test_one_wrong_character_is_found(parts: tuple[str, dt.date, int], data: st.DataObject) -> None:
    """Every single mistyped letter or digit is refused."""
    number = make_number(*parts)
    place = data.draw(st.sampled_from([place for place, char in enumerate(number) if char != "-"]))
    wrong = data.draw(st.sampled_from([char for char in ALPHABET if char != number[place]]))
    with pytest.raises(InputError):
        check_number(number[:place] + wrong + number[place + 1 :])


def test_swapped_neighbours_are_found() -> None:
    """Of all swaps of two neighbours in the numbers of a day, at least 49 in 50 are refused."""
    found = missed = 0
    for serial in range(1, 300):
        number = make_number("650103014003-b2", DAY, serial)
        for place in range(len(number) - 1):
            left, right = number[place], number[place + 1]
            if left == right or "-" in (left, right):
                continue
            try:
                check_number(number[:place] + right + left + number[place + 2 :])
                missed += 1
            except InputError:
                found += 1
    assert found > 49 * missed
    assert found > 1000


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("", "not a case number"),
        ("王伟", "not a case number"),
        ("650102001001-20261121-0012L", "not a case number"),
        ("650102001001-20261321-00012L", "no date"),
        ("650102001001-20261121-00000L", "serial"),
        ("650102001001-20261121-000012L", "serial"),
        ("050102001001-20261121-00012L", "begins with 0"),
        ("1" * 10_000, "at most 50"),
    ],
)
def test_other_text_is_refused(typed: str, named: str) -> None:
    """What cannot be a case number is refused by the part that is wrong."""
    with pytest.raises(InputError) as caught:
        check_number(typed)
    assert named in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_refused_or_read(text: str) -> None:
    """No typed text gives another error, and a number that is accepted is in its printed form."""
    try:
        number = check_number(text)
    except InputError:
        return
    assert check_number(number) == number


@pytest.mark.parametrize(("day", "serial"), [(DAY, 0), (DAY, 10**9), (dt.date(1969, 12, 31), 1)])
def test_no_number_out_of_range(day: dt.date, serial: int) -> None:
    """A serial or a year that has no place in the form is a fault of the program."""
    with pytest.raises(ValueError, match="no number"):
        make_number("650102001001", day, serial)
