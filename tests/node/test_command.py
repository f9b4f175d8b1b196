"""A command keeps its form on the way, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.command import COMMAND_BYTES_MAX, Claim, Command, Relayed, decode_command, encode_command, failure_line
from protocol.errors import InputError, InputProblems, LimitExceeded, StoreBusy

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), JSON, max_size=4), st.integers(0, 1 << 40))
def test_commands_read_back(params: dict[str, object], at_ms: int) -> None:
    """Options and claim come out as they went in."""
    command = Command("case.accept", params, Claim("A1", "3", at_ms, ("id-1", "T02")))
    assert decode_command(encode_command(command)) == command


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    """Nothing but InputError comes out, or a command."""
    try:
        decode_command(data)
    except InputError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"name":"x","who":1}',
        b'{"name":1}',
        b'{"name":"x","params":[]}',
        b'{"name":"x","act":{"at_ms":"1"}}',
        b'{"name":"x","act":{"at_ms":-1}}',
        b'{"name":"x","act":{"at_ms":253402300800000}}',
        b'{"name":"x","act":{"officer":1}}',
        b'{"name":"../x"}',
        b'{"name":"A"}',
        b'{"name":"a.b.c"}',
        b'{"name":"x","params":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
        b'{"name":"x"}\xff',
    ],
)
def test_other_forms_are_refused(data: bytes) -> None:
    """Unknown keys, wrong types, other names and endless nesting are not commands."""
    with pytest.raises(InputError):
        decode_command(data)


def test_commands_have_a_bound() -> None:
    """The same bound on both sides."""
    with pytest.raises(LimitExceeded):
        encode_command(Command("note", {"text": "x" * COMMAND_BYTES_MAX}))
    with pytest.raises(LimitExceeded):
        decode_command(b" " * (COMMAND_BYTES_MAX + 1))


def test_failures_are_relayed_whole() -> None:
    """What the node says reaches the asker with every field, and its exit code."""
    for error in (InputProblems("x.toml", ["item A: code", "item B: name"]), StoreBusy("busy")):
        line = failure_line(error)
        assert isinstance(line["error"], dict)
        assert isinstance(line["exit"], int)
        relayed = Relayed(line["error"], line["exit"])
        assert relayed.as_dict() == error.as_dict()
        assert (relayed.exit_code, relayed.retryable) == (error.exit_code, error.retryable)
        assert relayed.message == error.message
