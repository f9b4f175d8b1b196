"""The catalogue of texts is complete in both languages and fits the code."""

from __future__ import annotations

import string

import pytest

from node import texts
from node.texts import TEXTS, t
from protocol.errors import TongbanError
from tests import sources


def braces(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", TEXTS)
def test_every_text_is_there_in_both_languages(key: str) -> None:
    """Chinese and English are filled in, with the same values in braces, and Chinese is Chinese."""
    chinese, english = TEXTS[key]
    assert chinese.strip()
    assert english.strip()
    assert braces(chinese) == braces(english)
    assert english.isascii()
    assert any("\u4e00" <= c <= "\u9fff" for c in chinese)


def test_every_key_in_the_code_exists() -> None:
    """A text that is asked for by its literal key is in the catalogue."""
    unknown = [
        f"{source.at(call)}: {key}"
        for source in sources.read(*sources.PACKAGES)
        for name, call in sources.calls(source)
        if name in {"t", "texts.t"} and (key := sources.first_text(call)) is not None and key not in TEXTS
    ]
    assert not unknown


def test_every_error_code_has_a_text() -> None:
    """A failure is never shown by its code alone."""
    waiting, codes = [TongbanError], set()
    while waiting:
        kind = waiting.pop()
        codes.add(kind.code)
        waiting += kind.__subclasses__()
    assert {f"error.{code}" for code in codes} == {key for key in TEXTS if key.startswith("error.")}


def test_values_are_filled_in() -> None:
    """Values stand where the braces are; a missing one is a mistake of the program."""
    assert t("age.minutes", count=5) == "5 分钟前"
    assert t("age.minutes", "en", count=5) == "5 minutes ago"
    with pytest.raises(KeyError):
        t("age.minutes")
    with pytest.raises(KeyError):
        t("no.such.text")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({}, "zh"), ({"TONGBAN_LANG": "en"}, "en"), ({"TONGBAN_LANG": " EN_GB "}, "en"), ({"TONGBAN_LANG": "fr"}, "zh")],
)
def test_chinese_unless_english_is_asked_for(environ: dict[str, str], expected: str) -> None:
    """The counter speaks Chinese by default."""
    assert texts.language(environ) == expected
