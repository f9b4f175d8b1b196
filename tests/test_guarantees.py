"""What docs/FAULTS.md and docs/GUARANTEES.md name is there: rows, tests, places in the program, deliberate bugs."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from typing import Final

import pytest

from tests.simulation import mutants
from tests.sources import PACKAGES, ROOT

PAGES: Final = ("docs/FAULTS.md", "docs/GUARANTEES.md")
ROWS: Final = {"S": 15, "N": 13, "H": 12, "C": 15, "A": 12, "F": 4}
IDS: Final = [f"{group}{number:02d}" for group, last in ROWS.items() for number in range(1, last + 1)]
INVARIANTS: Final = [f"I{number}" for number in range(1, 13)]
TEST: Final = re.compile(r"\b(tests/[\w/]+\.py)::(\w+)")
FILE: Final = re.compile(r"(?<![\w/])((?:tests|protocol|node|hub)/[\w/]+\.py)")
PLACE: Final = re.compile(rf"\b((?:{'|'.join(PACKAGES)})/[\w/]+\.py) `(\w+)`")
MUTANT: Final = re.compile(r"\*\*(\w+_\w+)\*\*")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of every table, heads and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


@cache
def functions(file: str) -> frozenset[str]:
    """Return the names of all functions that a file defines, whatever decorates them; none where it is not there."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(text: str) -> list[str]:
    """Return what a text names and the repository does not have: files, tests, functions of the program."""
    files = [file for file in FILE.findall(text) if not (ROOT / file).is_file()]
    named = [*TEST.findall(text), *PLACE.findall(text)]
    return files + [f"{file}::{name}" for file, name in named if name not in functions(file)]


@pytest.mark.parametrize("name", PAGES)
def test_what_the_pages_name_is_there(name: str) -> None:
    """Every test, file and function that either page names exists; who renames one finds the page."""
    assert missing(page(name)) == []


def test_a_renamed_test_is_noticed() -> None:
    """The check above looks at something: wrong files, tests and functions are found, right ones are not."""
    mine, other = "tests/test_guarantees.py::test_a_renamed_test_is_noticed", "tests/test_guarantees.py::test_that_is_gone"
    assert missing(f"`{mine}`, `{other}`") == [other]
    assert missing("`tests/test_gone.py`") == ["tests/test_gone.py"]
    assert missing("node/ledger.py `seal`: as was; node/ledger.py `unseal`") == ["node/ledger.py::unseal"]


def test_each_fault_has_its_row() -> None:
    """S01 to F04 and the invariants stand in docs/FAULTS.md once each, in order, with every cell filled."""
    found = [row for row in rows(page(PAGES[0])) if re.fullmatch(r"[SNHCAF]\d\d", row[0])]
    assert [row[0] for row in found] == IDS
    for ident, *cells in found:
        assert len(cells) == 4, ident
        assert all(cells), ident
        assert TEST.search(cells[1]), f"{ident} names no test"
        assert re.search(r"\.py|as [SNHCAF]\d\d", cells[2]), f"{ident} names no change"
    held = [row for row in rows(page(PAGES[0])) if re.fullmatch(r"I\d+", row[0])]
    assert [row[0] for row in held] == INVARIANTS
    assert all(len(row) == 3 for row in held)


def test_each_promise_is_a_sentence_with_tests() -> None:
    """A promise ends with a full stop and names at least one test; none is made twice."""
    promises = [row for row in rows(page(PAGES[1])) if row[0] != "promise"]
    assert len(promises) > 40
    for row in promises:
        assert len(row) == 2, row[0]
        assert row[0].endswith("."), row[0]
        assert TEST.search(row[1]), row[0]
    assert [one for one, count in Counter(row[0] for row in promises).items() if count > 1] == []


def test_the_deliberate_bugs_are_listed() -> None:
    """docs/FAULTS.md lists the mutants of the simulation, by name, in their order; no row names another."""
    listed = [name.strip("`") for name, *_ in rows(page(PAGES[0]).partition("## Deliberate bugs")[2])][1:]
    assert listed == list(mutants.NAMES), "tests/simulation/mutants.py and the last table of docs/FAULTS.md differ"
    assert set(MUTANT.findall(page(PAGES[0]))) <= set(mutants.NAMES)


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_can_be_found(name: str) -> None:
    """README and the map lead to both pages, and the links on them lead somewhere."""
    file = name.rpartition("/")[2]
    assert f"]({name})" in page("README.md")
    assert f"]({file})" in page("docs/ARCHITECTURE.md")
    text = page(name)
    heads = {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines() if line.startswith("#")}
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        assert (ROOT / "docs" / target).exists() if target else anchor in heads, (target, anchor)
