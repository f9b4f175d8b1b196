"""The printed number of a case: a label that a station makes offline and that nobody changes later.

    650102001001-20261121-00012X          650103000000-RSJ-20261121-00001Q
    node code  [-SUFFIX] - date - serial of at least five digits and one check character

The node's id stands in it whole, so two nodes never print the same number. The check character is ISO 7064 MOD 37,36 over
all letters and digits before it: it finds every single wrong character and nearly every swap of neighbours. People may
type the number in small letters, with blanks, other dashes, full-width characters or, with a serial of five digits, no dashes.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from protocol.divisions import check_node_id, parse_node_id
from protocol.errors import InputError

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NUMBER_CHARS_MAX: Final = 50  # GB/T 39046-2020, 办件编号: an..50
SERIAL_DIGITS: Final = 5
SERIAL_MAX: Final = 999_999_999
YEARS: Final = range(1970, 2200)  # a village PC without a battery starts in 1970 and must still print a number
DASHES: Final = str.maketrans("", "", "-‐‑‒–—−－_ \t\u3000")
NUMBER: Final = re.compile(r"([0-9]{12})(?:-([0-9A-Z]{1,8}))?-([0-9]{8})-([0-9]{5,9})([0-9A-Z])", re.ASCII)
PACKED: Final = re.compile(r"([0-9]{12})([0-9A-Z]{1,8})?([0-9]{8})([0-9]{5})([0-9A-Z])", re.ASCII)


@dataclass(frozen=True, slots=True)
class CaseNumber:
    """A case number in its parts; `node` is the id of the node that printed it, `serial` counts from 1 on each day."""

    node: str
    day: dt.date
    serial: int


def make_number(node_id: str, day: dt.date, serial: int) -> str:
    """Return the number that a node prints.

    Args:
        node_id: the node that opens the case.
        day: the legal date of the opening, by the node's clock.
        serial: 1 to 999,999,999; the node never uses one twice on a day.

    Raises:
        InputError: not a node id.
        ValueError: day or serial out of range.
    """
    if not 1 <= serial <= SERIAL_MAX or day.year not in YEARS:
        raise ValueError(f"no number for serial {serial} on {day}")
    code, _, suffix = check_node_id(node_id).upper().partition("-")
    parts = [code, suffix, f"{day:%Y%m%d}", f"{serial:0{SERIAL_DIGITS}d}"]
    text = "-".join(part for part in parts if part)
    return text + check_character(text.replace("-", ""))


def check_number(text: str) -> str:
    """Return a typed number in its printed form.

    Raises:
        InputError: the shape, the date or the check character is wrong.
    """
    number, check = _parse(text)
    printed = make_number(number.node, number.day, number.serial)
    if printed[-1] != check:
        raise InputError(
            "the check character of the case number does not fit: a character is mistyped",
            hint="Compare the number with the printed receipt, or search by name.",
        )
    return printed


def parse_number(text: str) -> CaseNumber:
    """Return the parts of a typed number; raises InputError as `check_number` does."""
    return _parse(check_number(text))[0]


def check_character(text: str) -> str:
    """Return the ISO 7064 MOD 37,36 check character of letters A–Z and digits.

    Source: ISO/IEC 7064:2003, 9 (hybrid systems).
    """
    modulus = len(ALPHABET)
    product = modulus
    for char in text:
        total = (product + ALPHABET.index(char)) % modulus or modulus
        product = 2 * total % (modulus + 1)
    return ALPHABET[(modulus + 1 - product) % modulus]


def _parse(text: str) -> tuple[CaseNumber, str]:
    """Read the shape; the check character is returned unchecked."""
    if len(text) > 2 * NUMBER_CHARS_MAX:
        raise InputError(f"a case number has at most {NUMBER_CHARS_MAX} characters")
    typed = unicodedata.normalize("NFKC", text).upper()
    match = NUMBER.fullmatch(_even_dashes(typed)) or PACKED.fullmatch(typed.translate(DASHES))
    if match is None:
        raise InputError(
            "this is not a case number",
            hint="A case number looks like 650102001001-20261121-00012X; the key works too.",
        )
    code, suffix, day, serial, check = match.groups()
    node = str(parse_node_id(f"{code}-{suffix.lower()}" if suffix else code))
    return CaseNumber(node, _day(day), _serial(serial)), check


def _even_dashes(text: str) -> str:
    """Return the text with one plain dash for every kind of dash, and no blanks."""
    return "".join("-" if char in "-‐‑‒–—−_" else char for char in text if not char.isspace())


def _day(digits: str) -> dt.date:
    try:
        day = dt.datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007 - a legal date has no zone
    except ValueError:
        day = dt.date.min
    if day.year not in YEARS:
        raise InputError(f"the case number holds {digits}, which is no date")
    return day


def _serial(digits: str) -> int:
    serial = int(digits)
    if serial == 0 or (len(digits) > SERIAL_DIGITS and digits.startswith("0")):
        raise InputError(f"the case number holds the serial {digits}, which no node prints")
    return serial
