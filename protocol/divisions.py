"""Administrative divisions and the node ids made of them.

A division code has 12 digits: 2 province, 2 city, 2 district or county, 3 township or street, 3 village or community; the
trailing zeros tell the tier. A node id is such a code, with `-suffix` for a department or a second site:
`650102000000` is the district 天山区, `650102000000-rsj` its department of human resources.

The code never tells the parent: codes change, townships merge, and some cities have no districts. Parents are stated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from protocol import limits
from protocol.errors import InputError
from protocol.problems import Problems, clip
from protocol.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CODE_DIGITS: Final = 12
NATION: Final = "000000000000"  # the region of what holds everywhere; no node has it
SUFFIX_CHARS_MAX: Final = 8
DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)
SUFFIX: Final = re.compile(r"[a-z0-9]{1,8}", re.ASCII)
COLUMNS: Final = ("code12", "name", "tier", "parent12")
# Rows that statistics need and that no counter stands in: "directly under the district", virtual communities.
HIDDEN_WORDS: Final = ("虚拟", "直辖")
HIDDEN_ENDINGS: Final = ("498", "598")


class Tier(IntEnum):
    """The level of a division; the number is the one of division files (1 city to 4 village)."""

    PROVINCE = 0
    CITY = 1
    DISTRICT = 2
    TOWNSHIP = 3
    VILLAGE = 4


DIGITS_OF_TIER: Final = {Tier.PROVINCE: 2, Tier.CITY: 4, Tier.DISTRICT: 6, Tier.TOWNSHIP: 9, Tier.VILLAGE: 12}


@dataclass(frozen=True, slots=True)
class NodeId:
    """A node id in its parts.

    Args:
        code: 12 digits.
        suffix: 1 to 8 of a–z and 0–9, or "" for the division's own node.
    """

    code: str
    suffix: str = ""

    def __str__(self) -> str:
        """Return the id as it is written everywhere."""
        return f"{self.code}-{self.suffix}" if self.suffix else self.code

    @property
    def tier(self) -> Tier:
        """The tier of the division in which the node works."""
        return tier_of(self.code)


@dataclass(frozen=True, slots=True)
class Division:
    """One row of a division file.

    Args:
        code12: 12 digits.
        name: the division's name.
        tier: equal to the tier that the code shows.
        parent12: the code above, or None at the top of the file.
    """

    code12: str
    name: str
    tier: Tier
    parent12: str | None

    @property
    def hidden(self) -> bool:
        """Whether this is a unit of statistics only, not to be offered where a station is chosen."""
        if any(word in self.name for word in HIDDEN_WORDS):
            return True
        return self.tier is Tier.VILLAGE and self.code12.endswith(HIDDEN_ENDINGS)


def parse_code(text: str) -> str:
    """Check a division code.

    Returns:
        The 12 digits.

    Raises:
        InputError: not 12 digits, or no province; says which.
    """
    if not DIGITS.fullmatch(text):
        raise InputError(f"division code {clip(text)!r} must be digits only")
    if len(text) != CODE_DIGITS:
        raise InputError(f"division code {clip(text)} has {len(text)} digits; it must have {CODE_DIGITS}")
    if text.startswith("0"):
        raise InputError(f"division code {text} begins with 0; the first two digits name a province")
    return text


def parse_region(text: str) -> str:
    """Check a region: a division code, or twelve zeros for the whole country."""
    return text if text == NATION else parse_code(text)


def parse_node_id(text: str) -> NodeId:
    """Take a node id apart.

    Raises:
        InputError: the code or the suffix is wrong; says which.
    """
    code, dash, suffix = text.partition("-")
    parse_code(code)
    if dash and not SUFFIX.fullmatch(suffix):
        raise InputError(f"node id {clip(text)}: the suffix must be 1 to {SUFFIX_CHARS_MAX} of a-z and 0-9")
    return NodeId(code, suffix)


def check_node_id(text: str) -> str:
    """Return the text itself if it is a node id; raises InputError as `parse_node_id` does."""
    return str(parse_node_id(text))


def is_node_id(text: str) -> bool:
    """Tell whether a text is a node id."""
    try:
        parse_node_id(text)
    except InputError:
        return False
    return True


def tier_of(code: str) -> Tier:
    """Return the tier of a valid code by its trailing zeros."""
    return next(tier for tier, digits in DIGITS_OF_TIER.items() if not code[digits:].strip("0"))


def region_prefix(region: str) -> str:
    """Return the digits that all codes of a region begin with: "65" for a province, "" for the country.

    Never raises: a text that is no region is its own prefix, so a rule that names one holds for no code.
    """
    try:
        parse_region(region)
    except InputError:
        return region or "-"  # nothing must not be read as everywhere
    return "" if region == NATION else region[: DIGITS_OF_TIER[tier_of(region)]]


def within(code: str, region: str) -> bool:
    """Tell whether a code lies in a region by its digits; for calendars and prices, never for rights."""
    return code.startswith(region_prefix(region))


def region_of(node_id: str) -> str:
    """Return the 12-digit district that a node acts for; at the city or the province that one.

    Raises:
        InputError: not a node id.
    """
    return parse_node_id(node_id).code[: DIGITS_OF_TIER[Tier.DISTRICT]].ljust(CODE_DIGITS, "0")


def parse_divisions(rows: Iterable[tuple[int, Mapping[str, str]]], where: str) -> list[Division]:
    """Check the rows of a division file.

    Args:
        rows: (line number, cells by column name), the columns being `COLUMNS`.
        where: the file, for messages.

    Returns:
        The divisions in the order of the rows.

    Raises:
        InputProblems: every fault with its line and field.
    """
    problems = Problems(where)
    lines: dict[str, int] = {}
    found: list[Division] = []
    for line, cells in rows:
        if len(found) >= limits.DIVISIONS_MAX:
            problems.add(f"line {line}", f"more than {limits.DIVISIONS_MAX} divisions")
            break
        division = _parse_row(line, cells, problems)
        if division is None:
            continue
        if division.code12 in lines:
            problems.add(f"line {line}: code12", f"{division.code12} stands in line {lines[division.code12]} already")
            continue
        lines[division.code12] = line
        found.append(division)
    _check_parents(found, lines, problems)
    problems.check()
    return found


def _parse_row(line: int, cells: Mapping[str, str], problems: Problems) -> Division | None:
    before = len(problems)
    values = {column: (cells.get(column) or "").strip() for column in COLUMNS}
    code = _checked_code(values["code12"], f"line {line}: code12", problems)
    parent = _checked_code(values["parent12"], f"line {line}: parent12", problems) if values["parent12"] else None
    name = _checked_name(values["name"], f"line {line}: name", problems)
    tier = _checked_tier(values["tier"], code, f"line {line}: tier", problems)
    if code and code == parent:
        problems.add(f"line {line}: parent12", f"{code} names itself as its parent")
    return Division(code, name, tier, parent) if len(problems) == before else None


def _checked_code(text: str, place: str, problems: Problems) -> str:
    try:
        return parse_code(text) if text else _missing(place, problems)
    except InputError as error:
        problems.add(place, error.message)
        return ""


def _checked_name(text: str, place: str, problems: Problems) -> str:
    try:
        return clean(text, limits.NAME_CHARS_MAX) or _missing(place, problems)
    except InputError as error:
        problems.add(place, error.message)
        return ""


def _checked_tier(text: str, code: str, place: str, problems: Problems) -> Tier:
    if text not in {str(tier.value) for tier in Tier}:
        problems.add(place, f"must be from {min(Tier)} to {max(Tier)}, not {clip(text)!r}")
    elif code and tier_of(code) != int(text):
        problems.add(place, f"{text} does not fit {code}, whose zeros show tier {tier_of(code)}")
    else:
        return Tier(int(text))
    return Tier.VILLAGE


def _missing(place: str, problems: Problems) -> str:
    problems.add(place, "is missing")
    return ""


def _check_parents(divisions: list[Division], lines: Mapping[str, int], problems: Problems) -> None:
    """Check that each parent is in the file and stands above, and that no line of parents runs in a circle."""
    by_code = {division.code12: division for division in divisions}
    circling = _note_circles(by_code, lines, problems)
    for division in divisions:
        place = f"line {lines[division.code12]}: parent12"
        parent = by_code.get(division.parent12 or "")
        if division.parent12 and parent is None:
            problems.add(place, f"{division.parent12} is not in this file")
        elif parent and parent.tier >= division.tier and division.code12 not in circling:
            problems.add(place, f"{parent.code12} is of tier {parent.tier}, not above tier {division.tier}")


def _note_circles(by_code: Mapping[str, Division], lines: Mapping[str, int], problems: Problems) -> set[str]:
    """Note each circle once, at its first line; return the codes that stand in one."""
    settled: set[str] = set()  # codes whose way up was walked already
    circling: set[str] = set()
    for division in by_code.values():
        way = _way_up(division, by_code, settled)
        settled.update(way)
        circle = way[way.index(way[-1]) :]  # the last step repeats an earlier one, or the circle is that step alone
        if len(circle) > 1:
            circling.update(circle)
            problems.add(f"line {lines[circle[0]]}: parent12", f"the parents run in a circle: {' → '.join(circle[:8])}")
    return circling


def _way_up(division: Division, by_code: Mapping[str, Division], settled: set[str]) -> list[str]:
    """Return the codes from a division up to the top, to a settled code, or to the first code that comes again."""
    way: dict[str, None] = {}
    step: Division | None = division
    while step is not None and step.code12 not in way:
        way[step.code12] = None
        if step.code12 in settled:
            break
        step = by_code.get(step.parent12 or "")
    again = [step.code12] if step is not None and step.code12 not in settled else []
    return [*way, *again]
