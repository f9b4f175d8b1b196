"""Names and texts: clean, comparable, and found by SQLite's own full-text search."""

from __future__ import annotations

import sqlite3
import unicodedata
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InputError
from protocol.text import clean, grams, index_text, is_plain, normalise_name, query_phrase

NAMES = (
    "王伟",
    "王伟明",
    "李王",
    "阿不都热依木·买买提",
    "Müller Ann-Marie",
    "𠮷田茂",
    "ئەلى ۋەلى",
    "𰻝面馆",
    "企業２０２６",
)


def found(query: str, names: tuple[str, ...] = NAMES) -> set[str]:
    """Index names as the store does and ask SQLite."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE names USING fts5(name UNINDEXED, grams, tokenize='unicode61')")
        db.executemany("INSERT INTO names VALUES (?, ?)", [(name, index_text(name)) for name in names])
        return {name for (name,) in db.execute("SELECT name FROM names WHERE grams MATCH ?", [query_phrase(query)])}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("王", {"王伟", "王伟明", "李王"}),
        ("王伟", {"王伟", "王伟明"}),
        ("伟明", {"王伟明"}),
        ("王伟明", {"王伟明"}),
        ("王明", set()),
        ("买买提", {"阿不都热依木·买买提"}),
        ("木•买", {"阿不都热依木·买买提"}),
        ("阿不都热依木.买买提", {"阿不都热依木·买买提"}),
        ("提买", set()),
        ("MÜLLER", {"Müller Ann-Marie"}),
        ("ann marie", {"Müller Ann-Marie"}),
        ("𠮷田", {"𠮷田茂"}),
        ("𠮷", {"𠮷田茂"}),
        ("𰻝", {"𰻝面馆"}),
        ("ۋەلى", {"ئەلى ۋەلى"}),
        ("2026", {"企業２０２６"}),
    ],
)
def test_names_are_found_by_any_part(query: str, names: set[str]) -> None:
    """One, two, three or more characters from anywhere inside find the name, and only names that hold them."""
    assert found(query) == names


@pytest.mark.parametrize("query", ["", " ", "·", '"', "***", "🙂"])
def test_a_query_without_letters_finds_nothing(query: str) -> None:
    """Text without a letter or digit is no error and finds no name."""
    assert found(query) == set()


@pytest.mark.parametrize(
    "query", ['"王" OR "李', "王* NEAR(伟)", "grams:王", "王 AND 伟", "王 NOT 李", "{a b}:王", "'; DROP--"]
)
def test_query_syntax_is_only_text(query: str) -> None:
    """Nothing typed acts as an operator: what finds nothing as text finds nothing."""
    assert found(query) == set()


@given(st.text(max_size=50))
def test_no_typed_text_breaks_a_query(text: str) -> None:
    """SQLite accepts the phrase of any text; between the quotes stand only letters, digits and blanks."""
    found(text)
    inner = query_phrase(text)[1:-1]
    assert all(char == " " or unicodedata.category(char)[0] in "LN" or not char.isascii() for char in inner)


@given(st.text(st.sampled_from("王伟明李买提阿·aB𠮷é田 "), min_size=1, max_size=8), st.data())
def test_every_part_finds_its_name(name: str, data: st.DataObject) -> None:
    """Whatever name is stored, each run of its characters that holds a letter finds it."""
    start = data.draw(st.integers(0, len(name) - 1))
    part = name[start : data.draw(st.integers(start + 1, len(name)))]
    assert found(part, (name,)) == ({name} if grams(part) else set())


def test_grams_are_characters_then_pairs() -> None:
    """The column holds the single characters and the overlapping pairs, each in the name's order."""
    assert grams("王伟明") == ["王", "伟", "明", "王伟", "伟明"]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("  阿里  • 木沙 ", "阿里·木沙"),
        ("买买提.艾力", "买买提·艾力"),
        ("买买提．艾力", "买买提·艾力"),
        ("买买提・艾力", "买买提·艾力"),
        ("Acme Co., Ltd.", "Acme Co., Ltd."),
        ("Mu\u0308ller", "Müller"),
        ("", ""),
    ],
)
def test_name_dots_become_one(typed: str, name: str) -> None:
    """All kinds of name dot become `·` without blanks; a full stop of Latin text stays."""
    assert normalise_name(typed) == name


@given(st.text(max_size=30))
def test_a_normal_name_stays(text: str) -> None:
    """To normalise twice is to normalise once."""
    assert normalise_name(normalise_name(text)) == normalise_name(text)


def test_clean_trims_and_composes() -> None:
    """Text is stored in form C without outer blanks; Windows line ends become one."""
    assert clean(" e\u0301 ", 10) == "é"
    assert clean("一\r\n二", 10, lines=True) == "一\n二"


@pytest.mark.parametrize(
    "text",
    ["a\0b", "a\nb", "a\x1b[2J", "a\u202eb", "a\u2066b", "a\u2028b", "a\ud800", "a\ufffe", "a\U0001ffff", "a\x85b"],
)
def test_characters_that_no_text_needs_are_refused(text: str) -> None:
    """Controls, direction marks, halves of pairs and noncharacters are refused by their code."""
    with pytest.raises(InputError) as caught:
        clean(text, 10)
    assert "U+" in caught.value.message


@pytest.mark.parametrize("text", ["\U0003106c", "\ue000", "نا\u200cم", "🙂", "㐀"])
def test_rare_characters_may_stand(text: str) -> None:
    """Ideographs newer than our tables, private ones, joiners and symbols are text."""
    assert clean(text, 10) == text
    assert is_plain(text[-1])


def test_length_is_bounded_before_work() -> None:
    """Too long is too long, however much it would shrink."""
    assert clean("字" * 10, 10) == "字" * 10
    for text in ("字" * 11, " " * 10_000_000):
        with pytest.raises(InputError, match="longer than 10"):
            clean(text, 10)
