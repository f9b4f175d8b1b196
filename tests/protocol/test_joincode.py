"""Joining codes survive paper, phones and typing, and nothing else passes for one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, keys
from protocol.errors import JoinRefused
from protocol.joincode import ADDRESSES_MAX, TEXT_CHARS_MAX, JoinCode, format_code, parse_code
from tests.protocol.network import EAST, VILLAGE

CODE = JoinCode(b"n" * 32, VILLAGE, ("10.0.0.1:9527", "hub.example:443"), b"s" * 32)
addresses = st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=ADDRESSES_MAX).map(tuple)


@given(st.binary(min_size=32, max_size=32), addresses, st.binary(min_size=32, max_size=32))
def test_a_code_comes_back(network: bytes, places: tuple[str, ...], seed: bytes) -> None:
    """What `invite` prints is what `join` reads."""
    code = JoinCode(network, EAST, places, seed)
    try:
        text = format_code(code)
    except ValueError:  # too long for a slip
        return
    assert parse_code(text) == code


@given(st.randoms(use_true_random=False))
def test_case_spaces_and_dashes_do_not_matter(random: object) -> None:
    """A code is read off paper, in groups, by people."""
    text = format_code(CODE)
    chosen = "".join(one.lower() if random.random() < 0.5 else one for one in text)  # type: ignore[attr-defined]
    assert parse_code(chosen.replace("-", " ")) == CODE
    assert parse_code(f"  {chosen.replace('-', '')}\n") == CODE
    assert parse_code("\n".join(chosen.split("-"))) == CODE


@given(st.integers(0, 10**6), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_slip_of_the_pen_is_noticed(at: int, letter: str) -> None:
    """One wrong letter, two exchanged, one missing: refused, with what to do."""
    text = format_code(CODE).replace("-", "")
    at = 3 + at % (len(text) - 4)
    wrong = [
        text[:at] + letter + text[at + 1 :],
        text[:at] + text[at + 1] + text[at] + text[at + 2 :],
        text[:at] + text[at + 1 :],
    ]
    for one in wrong:
        if one != text:
            with pytest.raises(JoinRefused) as caught:
                parse_code(one)
            assert caught.value.hint


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: "TB1-" + base64.b32encode(raw).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    """Every text is a code or refused as one."""
    with pytest.raises(JoinRefused):
        parse_code(text)


def packed(value: codec.Value) -> str:
    raw = codec.encode(value)
    return "TB1" + base64.b32encode(raw + keys.sha256(b"tongban/1/joincode/" + raw)[:4]).decode().rstrip("=")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"network": 1},
        [b"n" * 31, VILLAGE, ["a:1"], b"s" * 32],
        [b"n" * 32, "nobody", ["a:1"], b"s" * 32],
        [b"n" * 32, VILLAGE, [], b"s" * 32],
        [b"n" * 32, VILLAGE, ["a:1"] * 9, b"s" * 32],
        [b"n" * 32, VILLAGE, [1], b"s" * 32],
        [b"n" * 32, VILLAGE, "a:1", b"s" * 32],
        [b"n" * 32, VILLAGE, ["a:1"], b"s" * 31],
        [b"n" * 32, 7, ["a:1"], b"s" * 32],
    ],
)
def test_a_well_spelt_code_of_something_else_is_refused(value: codec.Value) -> None:
    """Right check bytes over wrong content."""
    assert parse_code(packed([b"n" * 32, VILLAGE, ["a:1"], b"s" * 32])).addresses == ("a:1",)
    with pytest.raises(JoinRefused):
        parse_code(packed(value))


def test_a_code_has_a_bound() -> None:
    """What would not fit a slip is not made, and not read."""
    with pytest.raises(ValueError, match="addresses"):
        format_code(CODE._replace(addresses=()))
    with pytest.raises(ValueError, match="addresses"):
        format_code(CODE._replace(addresses=("a:1",) * (ADDRESSES_MAX + 1)))
    with pytest.raises(JoinRefused):
        parse_code("TB1-" + "A" * 3 * TEXT_CHARS_MAX)
