"""Names and short texts: made clean, compared, and cut into grams that a full-text index can find.

SQLite's `unicode61` takes a whole Chinese name for one token, and `trigram` cannot find two characters, which is the usual
length. So a name is indexed as its single characters followed by its overlapping pairs, and asked for as a phrase:

    grams("王伟明")        == ["王", "伟", "明", "王伟", "伟明"]
    query_phrase("伟")     == '"伟"'
    query_phrase("王伟明") == '"王伟 伟明"'

Dots, blanks and letter case do not count, so 买买提 and 木买 both find 阿不都热依木·买买提.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Final

from protocol import limits
from protocol.errors import InputError

NAME_DOT: Final = "·"
# • bullet, ‧ hyphenation point, ・ and ･ katakana dots, ∙ bullet operator, ⋅ dot operator, ． full-width stop
DOTS: Final = str.maketrans(dict.fromkeys("•‧・･∙⋅．", NAME_DOT))
# Marks that turn the direction of what follows: they make text on screen read as what it is not.
BIDI_CONTROLS: Final = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Cn", "Zl", "Zp"})
LINE_CHARS: Final = frozenset("\n\t")
BMP_MAX: Final = "\uffff"


def clean(text: str, chars_max: int = limits.TEXT_CHARS_MAX, *, lines: bool = False) -> str:
    """Return typed text in normal form C, trimmed.

    Args:
        text: from a person or a file.
        chars_max: most characters of the result.
        lines: whether line breaks and tabs may stand inside; Windows line ends become one line feed.

    Raises:
        InputError: too long, or a character that no text needs (controls, direction marks, halves of pairs).
    """
    if len(text) > 4 * chars_max:  # before any work on it; composition shortens by less
        raise InputError(f"is longer than {chars_max} characters")
    found = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()
    allowed = LINE_CHARS if lines else frozenset()
    for char in found:
        if char not in allowed and not is_plain(char):
            raise InputError(f"holds the character U+{ord(char):04X}, which text may not hold")
    if len(found) > chars_max:
        raise InputError(f"is longer than {chars_max} characters")
    return found


def is_plain(char: str) -> bool:
    """Tell whether a character may stand in text.

    Unassigned characters are refused only inside the planes' ends (noncharacters): a name may use an ideograph that is
    newer than this program's tables.
    """
    category = unicodedata.category(char)
    if category == "Cn":
        return ord(char) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(char) <= 0xFDEF  # Unicode 23.7
    return category not in REFUSED_CATEGORIES and char not in BIDI_CONTROLS


def normalise_name(text: str) -> str:
    """Return a name as it is stored and compared: form C, trimmed, one blank at most, `·` for every kind of name dot.

    A full stop counts as a name dot only beside a letter outside ASCII (买买提.艾力), so `Co., Ltd.` stays as it is.
    """
    found = " ".join(unicodedata.normalize("NFC", text).split()).translate(DOTS)
    found = "".join(_name_dot(found, place) for place in range(len(found)))
    return NAME_DOT.join(part.strip() for part in found.split(NAME_DOT))


def grams(text: str) -> list[str]:
    """Return the tokens under which a name is found: its characters, then its overlapping pairs, both in order."""
    chars = _search_chars(text)
    return chars + _pairs(chars)


def index_text(text: str) -> str:
    """Return the value of the full-text column for a name."""
    return " ".join(grams(text))


def query_phrase(text: str) -> str:
    """Return an FTS5 query, one quoted phrase, that finds what `index_text` wrote for names that contain the text.

    Only letters, digits and blanks are left between the quotes, so nothing typed can become query syntax. Text without
    any letter or digit gives the empty phrase, which finds nothing.
    """
    chars = _search_chars(text[: limits.NAME_CHARS_MAX])
    return '"' + " ".join(_pairs(chars) or chars) + '"'


def _name_dot(text: str, place: int) -> str:
    if text[place] != ".":
        return text[place]
    beside = text[max(0, place - 1) : place] + text[place + 1 : place + 2]
    return NAME_DOT if any(char.isalpha() and not char.isascii() for char in beside) else "."


def _search_chars(text: str) -> list[str]:
    """Return letters and digits, case folded, each as one token that `unicode61` leaves alone.

    Characters beyond the first plane (rare ideographs) are written as `u` and their code: SQLite's tables are older than
    some of them and would take them for blanks.
    """
    if all("一" <= char <= "鿿" or char == NAME_DOT for char in text):
        return [char for char in text if char != NAME_DOT]  # the common case: nothing to fold
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = (char for char in folded if unicodedata.category(char)[0] in "LN" or _beyond_tables(char))
    return [char if char <= BMP_MAX else f"u{ord(char):x}" for char in kept]


def _beyond_tables(char: str) -> bool:
    """Tell whether a character is private or newer than our tables: taken for a letter, since old name systems use such."""
    return unicodedata.category(char) in {"Co", "Cn"} and is_plain(char)


def _pairs(chars: list[str]) -> list[str]:
    return [left + right for left, right in pairwise(chars)]
