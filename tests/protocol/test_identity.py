"""Identity numbers and masks. All numbers here are synthetic: births before 1900, or no person at all."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InputError
from protocol.identity import (
    ID_CHECKS,
    birth_date,
    check_id_number,
    check_uscc,
    id_check_character,
    mask_id,
    mask_name,
    mask_phone,
    uscc_check_character,
)

TODAY = dt.date(2026, 11, 21)
GOOD = "650102189101010015"


def whole(first: str) -> str:
    return first + id_check_character(first)


def refused(number: str) -> str:
    with pytest.raises(InputError) as caught:
        check_id_number(number, TODAY)
    assert number not in caught.value.message
    return caught.value.message


def test_a_good_number_passes() -> None:
    """The published synthetic number is accepted, and its date is read."""
    assert check_id_number(GOOD, TODAY) == GOOD
    assert birth_date(GOOD) == dt.date(1891, 1, 1)


def test_typing_habits_are_mended() -> None:
    """Blanks, full-width digits and a small x are no mistakes."""
    number = next(found for order in range(1000) if (found := whole(f"65010218910101{order:03d}")).endswith("X"))
    assert check_id_number(f" {number[:6]} {number[6:14]} {number[14:].lower()}", TODAY) == number
    assert check_id_number("６５０１０２" + GOOD[6:], TODAY) == GOOD


@pytest.mark.parametrize("place", ["650152", "350205", "350203", "110101", "810000", "820000", "830000", "911156"])
def test_every_place_is_accepted(place: str) -> None:
    """Old and unknown districts, and permits of 81, 82, 83 and 9…, are as good as today's districts."""
    number = whole(f"{place}18950615001")
    assert check_id_number(number, TODAY) == number


@given(st.dates(dt.date(1890, 1, 1), dt.date(1899, 12, 31)), st.integers(100000, 999999), st.integers(0, 999))
def test_any_birth_with_its_check_character_passes(born: dt.date, place: int, order: int) -> None:
    """Place, date, order and the right last character are all that is asked."""
    number = whole(f"{place}{born.year:04d}{born:%m%d}{order:03d}")
    assert birth_date(check_id_number(number, TODAY)) == born


@given(st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_found(place: int, shift: int) -> None:
    """Every single mistyped digit is refused."""
    wrong = str((int(GOOD[place]) + shift) % 10)
    refused(GOOD[:place] + wrong + GOOD[place + 1 :])


@pytest.mark.parametrize("last", [char for char in ID_CHECKS if char != GOOD[-1]])
def test_one_wrong_last_character_is_found(last: str) -> None:
    """Only one of the eleven last characters fits."""
    assert "last character" in refused(GOOD[:-1] + last)


@pytest.mark.parametrize(
    ("number", "named"),
    [
        (GOOD[:-1], "18 characters, not 17"),
        (GOOD + "1", "18 characters, not 19"),
        ("65010218910101001A", "17 digits"),
        ("050102189101010015", "17 digits"),
        (whole("65010218910230001"), "does not exist"),
        (whole("65010219000229001"), "does not exist"),
        (whole("65010218891231001"), "between 1890 and today"),
        (whole("65010220261122001"), "between 1890 and today"),
    ],
)
def test_each_fault_is_named(number: str, named: str) -> None:
    """Length, characters, date and birth in the future are told apart, and the number is not repeated."""
    assert named in refused(number)


def test_born_today_is_born() -> None:
    """The day asked for is still allowed; the day after is not."""
    number = whole("65010220261121001")
    assert check_id_number(number, TODAY) == number
    with pytest.raises(InputError):
        check_id_number(number, TODAY - dt.timedelta(days=1))


@pytest.mark.parametrize("code", ["11650102MB00000013", "11350205MB0000002J", "55650102MB0000003Q"])
def test_good_credit_codes_pass(code: str) -> None:
    """The published synthetic codes are accepted, in small letters too."""
    assert check_uscc(code.lower()) == code
    assert uscc_check_character(code) == code[-1]


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("11650102MB0000001", "not 17"),
        ("11650102MI00000013", "without I"),
        ("116501A2MB00000013", "3 to 8"),
        ("11650102MB00000014", "last character"),
    ],
)
def test_wrong_credit_codes_are_refused(code: str, named: str) -> None:
    """Length, alphabet, place digits and check character are told apart."""
    with pytest.raises(InputError) as caught:
        check_uscc(code)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("张三", "张*"),
        ("王小明", "王*明"),
        ("欧阳娜娜", "欧**娜"),
        ("阿不都热依木·买买提", "阿*"),
        ("阿里•木沙", "阿*"),
        ("John Smith", "J*"),
        ("𠮷田", "𠮷*"),
        ("张", "*"),
        ("", ""),
    ],
)
def test_names_are_masked(name: str, shown: str) -> None:
    """A public list shows the family name, and the last character of three or more."""
    assert mask_name(name) == shown


@given(st.text(min_size=1, max_size=30))
def test_a_masked_name_hides_something(name: str) -> None:
    """No name with more than blanks in it comes out whole."""
    assert "*" in mask_name(name) or not name.strip()


@pytest.mark.parametrize(
    ("number", "shown"),
    [(GOOD, "650102********0015"), ("E12345678", "E1*****78"), ("1234", "****"), ("", "")],
)
def test_numbers_are_masked(number: str, shown: str) -> None:
    """Of an identity number six and four are shown, of a shorter one a quarter at each end, of the shortest nothing."""
    assert mask_id(number) == shown


@pytest.mark.parametrize(
    ("phone", "shown"), [("13800001234", "138****1234"), ("0991-2345678", "********5678"), ("12345", "*****"), ("", "")]
)
def test_phones_are_masked(phone: str, shown: str) -> None:
    """Of a mobile number three and four are shown, of another the last four, of a short one nothing."""
    assert mask_phone(phone) == shown
