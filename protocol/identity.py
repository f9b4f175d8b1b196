"""Numbers of persons and bodies: checked when typed, masked when shown.

An 18-character identity number is 6 digits of place, 8 of birth, 3 of order and a check character (GB 11643-1999, ISO 7064
MOD 11-2). Residence permits of Hong Kong, Macao and Taiwan residents (81, 82, 83 …) and of foreigners (9 …) have the same
form. The place is not looked up: districts come and go, and a person keeps the number of the place of birth.
No message here repeats the number.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from typing import Final

from protocol.errors import InputError
from protocol.text import NAME_DOT, normalise_name

ID_CHARS: Final = 18
ID_SHAPE: Final = re.compile(r"[1-9][0-9]{16}[0-9X]", re.ASCII)
ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
ID_CHECKS: Final = "10X98765432"
BIRTH_YEAR_MIN: Final = 1890
USCC_CHARS: Final = 18
USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # without I O S V Z
USCC_SHAPE: Final = re.compile(rf"[{USCC_ALPHABET}]{{2}}[0-9]{{6}}[{USCC_ALPHABET}]{{10}}", re.ASCII)
USCC_WEIGHTS: Final = tuple(pow(3, place, 31) for place in range(USCC_CHARS - 1))
MASK: Final = "*"
MOBILE_DIGITS: Final = 11
TAIL_CHARS: Final = 4
HAN_NAME_CHARS_MAX: Final = 4


def check_id_number(text: str, as_of: dt.date) -> str:
    """Check an identity number.

    Args:
        text: as typed; blanks, a small x and full-width digits are mended.
        as_of: the day on which the bearer must have been born already.

    Returns:
        18 characters.

    Raises:
        InputError: says whether length, characters, date of birth or check character is wrong, without the number.
    """
    number = _tidy(text)
    if len(number) != ID_CHARS:
        raise InputError(f"an identity number has {ID_CHARS} characters, not {len(number)}")
    if not ID_SHAPE.fullmatch(number):
        raise InputError("an identity number is 17 digits, not beginning with 0, and a digit or X")
    born = _birth(number)
    if born.year < BIRTH_YEAR_MIN or born > as_of:
        raise InputError(f"the date of birth in the identity number is not between {BIRTH_YEAR_MIN} and today")
    if number[-1] != id_check_character(number):
        raise InputError("the last character of the identity number does not fit: a digit is mistyped")
    return number


def id_check_character(number: str) -> str:
    """Return the 18th character that belongs to the first 17 digits."""
    total = sum(weight * int(digit) for weight, digit in zip(ID_WEIGHTS, number[:17], strict=True))
    return ID_CHECKS[total % 11]


def birth_date(number: str) -> dt.date:
    """Return the date of birth of a checked identity number."""
    return _birth(number)


def check_uscc(text: str) -> str:
    """Check a unified social credit code (GB 32100-2015).

    Returns:
        18 characters.

    Raises:
        InputError: says what is wrong.
    """
    code = _tidy(text)
    if len(code) != USCC_CHARS:
        raise InputError(f"a unified social credit code has {USCC_CHARS} characters, not {len(code)}")
    if not USCC_SHAPE.fullmatch(code):
        raise InputError("a unified social credit code has digits and letters without I, O, S, V, Z; 3 to 8 are digits")
    if code[-1] != uscc_check_character(code):
        raise InputError("the last character of the unified social credit code does not fit: a character is mistyped")
    return code


def uscc_check_character(code: str) -> str:
    """Return the 18th character that belongs to the first 17."""
    total = sum(weight * USCC_ALPHABET.index(char) for weight, char in zip(USCC_WEIGHTS, code[:17], strict=True))
    return USCC_ALPHABET[-total % len(USCC_ALPHABET)]


def mask_id(number: str) -> str:
    """Return a number of a certificate as lists show it: 650102********2916; shorter kinds show a quarter at each end."""
    if len(number) == ID_CHARS:
        return number[:6] + MASK * 8 + number[-4:]
    shown = len(number) // 4 if len(number) > TAIL_CHARS else 0
    return number[:shown] + MASK * (len(number) - 2 * shown) + number[len(number) - shown :]


def mask_name(name: str) -> str:
    """Return a person's name as public lists show it: 张*, 张*三, 欧**娜; 阿* for names with a dot, in Latin, or long."""
    found = normalise_name(name)
    if len(found) <= 1:
        return MASK * len(found)
    dotted = NAME_DOT in found or " " in found or found[0].isascii()
    if dotted or len(found) > HAN_NAME_CHARS_MAX or len(found) == len("张三"):
        return found[0] + MASK
    return found[0] + MASK * (len(found) - 2) + found[-1]


def mask_phone(phone: str) -> str:
    """Return a telephone number as lists show it: 138****1234; of others the last four characters."""
    found = phone.strip()
    if len(found) == MOBILE_DIGITS:
        return found[:3] + MASK * 4 + found[-TAIL_CHARS:]
    shown = TAIL_CHARS if len(found) > TAIL_CHARS + 2 else 0
    return MASK * (len(found) - shown) + found[len(found) - shown :]


def _tidy(text: str) -> str:
    """Return what was typed without blanks, in plain capitals; bounded, since it is outside text."""
    return "".join(unicodedata.normalize("NFKC", text[:100]).split()).upper()


def _birth(number: str) -> dt.date:
    try:
        return dt.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        raise InputError("the date of birth in the identity number does not exist") from None
