"""A file that travels by hand: what its target reads is what the sender wrote, in its place, and nobody else reads anything."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import carry, keys, limits, messages
from protocol.carry import Kind
from protocol.errors import DecodeError, LimitExceeded, PeerError, SignatureInvalid, VersionUnsupported

SENDER, TARGET = keys.SigningKey(bytes([1]) * 32), keys.SealingKey(bytes([2]) * 32)
NETWORK = keys.sha256(b"network")
HEAD = carry.Head(NETWORK, "650103001001", "650103001000", 1_795_305_600_000, bytes(range(16)), SENDER.id, keys.key_id(TARGET.public))
NAME = "王小明".encode()
STATE = messages.encode(carry.State(messages.Cursors(3, 3, b"r" * 16, 40), "tongban/0.1"))


def writer(head: carry.Head = HEAD, key: keys.SigningKey = SENDER) -> carry.Writer:
    return carry.Writer(head, key, TARGET.public)


def sealed(index: int = 0, kind: Kind = Kind.STATE, packed: bytes = STATE, **who: object) -> bytes:
    """Return one piece without its length."""
    return writer(**who).piece(index, kind, packed, bytes(32))[carry.LENGTH_BYTES :]  # type: ignore[arg-type]


def opened(piece: bytes, index: int = 0, opening: bytes | None = None) -> tuple[Kind, bytes]:
    return carry.open_piece(opening or writer().opening, index, piece, TARGET, SENDER.public)


def test_a_file_says_who_wrote_it_for_whom_and_no_more() -> None:
    """The opening reads back; of what is inside nothing stands in the clear."""
    opening = writer().opening
    assert carry.opening_bytes(opening[: carry.START_BYTES]) == len(opening)
    assert carry.decode_opening(opening) == HEAD
    piece = writer().piece(0, Kind.PUSH, NAME * 9, bytes(32))
    assert carry.piece_bytes(piece[: carry.LENGTH_BYTES]) == len(piece) - carry.LENGTH_BYTES
    assert NAME not in opening + piece
    assert opened(piece[carry.LENGTH_BYTES :]) == (Kind.PUSH, NAME * 9)


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_reads_back(kind: Kind) -> None:
    """What goes in comes out, at its place."""
    assert opened(sealed(7, kind), 7) == (kind, STATE)
    assert messages.decode(STATE, carry.State).cursors.cases == 40


def test_a_piece_counts_only_in_its_file_and_at_its_place() -> None:
    """Pieces that were exchanged, repeated, or taken from another file are refused."""
    piece = sealed(1)
    other = msgspec.structs.replace(HEAD, id=bytes(16))
    for index, opening in ((0, None), (2, None), (1, writer(other).opening)):
        with pytest.raises(DecodeError):
            opened(piece, index, opening)


def test_only_the_target_opens_and_only_the_sender_signs() -> None:
    """A finder reads nothing; whoever knows the target's key cannot write as somebody else."""
    with pytest.raises(DecodeError, match="not for this key"):
        carry.open_piece(writer().opening, 0, sealed(), keys.SealingKey(bytes([3]) * 32), SENDER.public)
    with pytest.raises(SignatureInvalid):
        opened(sealed(key=keys.SigningKey(bytes([4]) * 32)))
    elsewhere = msgspec.structs.replace(HEAD, network=bytes(32))
    plain = TARGET.open(sealed(head=elsewhere), carry._bound_to(writer(elsewhere).opening, 0))
    again = keys.seal(TARGET.public, plain, bytes(32), carry._bound_to(writer().opening, 0))
    with pytest.raises(SignatureInvalid):  # the target cannot pass it on under another opening
        opened(again)


def test_newer_files_are_said_to_be_newer() -> None:
    """A version or a kind that only later programs know is named, and nothing is taken for damage."""
    opening = writer().opening
    with pytest.raises(VersionUnsupported, match="version 2"):
        carry.opening_bytes(opening[:12] + b"\x00\x02" + opening[14 : carry.START_BYTES])
    with pytest.raises(VersionUnsupported, match="newer program"):
        opened(sealed(kind=99))  # type: ignore[arg-type]


def test_pieces_are_bounded() -> None:
    """No piece is longer than a message with its seal, and no length makes a reader wait for more."""
    writer().piece(0, Kind.PUSH, bytes(limits.MESSAGE_BYTES_MAX), bytes(32))
    with pytest.raises(LimitExceeded):
        writer().piece(0, Kind.PUSH, bytes(limits.CARRY_PIECE_BYTES_MAX), bytes(32))
    for length in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x71", b"\0\0"):
        with pytest.raises(DecodeError):
            carry.piece_bytes(length)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    """Flipped bits, cuts and additions anywhere in opening or piece are refused, with an error of ours."""
    opening, piece = writer().opening, sealed(3)
    file = bytearray(opening + piece)
    how = data.draw(st.sampled_from(["flip", "cut", "add"]))
    place = data.draw(st.integers(0, len(file) - 1))
    if how == "flip":
        file[place] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del file[place:]
    else:
        file[place:place] = data.draw(st.binary(min_size=1, max_size=40))
    if bytes(file) == opening + piece:
        return
    with pytest.raises(PeerError):
        start = bytes(file[: carry.START_BYTES])
        length = carry.opening_bytes(start)
        head = carry.decode_opening(bytes(file[:length]))
        assert head == HEAD or bytes(file[:length]) != opening
        opened(bytes(file[length:]), 3, bytes(file[:length]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_raise_errors_of_ours_only(junk: bytes, after_magic: bool) -> None:
    """Whatever lies on a stick, a reader answers with one of our errors."""
    found = carry.MAGIC + b"\x00\x01" + len(junk).to_bytes(2, "big") + junk if after_magic else junk
    for read in (carry.opening_bytes, carry.decode_opening, carry.piece_bytes, opened):
        with contextlib.suppress(PeerError):
            read(found)
