"""Change sets and bundles in a file that travels by hand, sealed to its target (docs/PROTOCOL.md, section 19).

A file is an *opening* in the clear (magic, version, network, from whom, for whom) and *pieces*, one behind the other:

    opening = magic(12) ‖ version(2) ‖ length(2) ‖ canonical [network, from, to, made_at, id, key id, sealing key id]
    piece   = length(4) ‖ sealed( signature(64) ‖ kind(1) ‖ message )

Each piece is sealed to the target's sealing key, bound to the opening and to its place in the file, and signed by the sender; it
is opened, checked and taken in on its own, so that a file of any length needs the memory of one piece. Messages are those of the
network (§13), in the same packed form. The last piece is of the kind END: a file without it is cut off.

    writer = Writer(head, signing_key, target_sealing_key)
    file = writer.opening + writer.piece(0, Kind.STATE, packed, entropy) + …
    kind, packed = open_piece(opening, 0, sealed, sealing_key, sender_key)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocol import codec, keys, limits
from protocol.errors import DecodeError, LimitExceeded, VersionUnsupported
from protocol.log import UNREADABLE, Bundle, Bytes16, Count, Hash8, Hash32, Millis, Name
from protocol.messages import Cursors, Message, PullReply, decode

MAGIC: Final = b"\x89TBCARRY\r\n\x1a\n"  # shows at once that a program on the way took it for text
VERSION: Final = 1
START_BYTES: Final = len(MAGIC) + 4  # up to the opening's length
LENGTH_BYTES: Final = 4  # before each piece
NOT_A_FILE: Final = "Choose a file that `tongban carry out` wrote."
DAMAGED: Final = "The file was damaged or cut off on its way: have it written and copied again."

_SIGNED_BYTES: Final = keys.SIGNATURE_BYTES + 1  # signature, kind


class Kind(IntEnum):
    """What a piece holds."""

    STATE = 1  # how far the sender has come with its parent: `State`
    PUSH = 2  # `messages.Push`
    PAGE = 3  # `Page`
    RECEIPTS = 4  # `Receipts`
    END = 5  # `End`
    KEYS = 6  # `Keys`


class State(Message, frozen=True):
    """How far a child has come with its parent's news, so that the parent's file begins there; and cases in which something is missing."""

    cursors: Cursors
    program: Name = ""
    waiting: Annotated[tuple[Bytes16, ...], Meta(max_length=limits.LISTED_MAX)] = ()


class Page(Message, frozen=True):
    """What a pull from the cursors `after` gives; chains: of the keys of authors that no register names yet."""

    after: Cursors
    page: PullReply
    chains: tuple[Bundle, ...] = ()


class Receipts(Message, frozen=True):
    """Receipts, each a bundle: the sender's own, and those of the hubs above it."""

    bundles: tuple[Bundle, ...]


class Keys(Message, frozen=True):
    """The chain of keys from the genesis down to the sender's: the first piece of a file by a node that had other keys before."""

    chain: tuple[Bundle, ...]


class End(Message, frozen=True):
    """The end of the file. entries: how many the pieces hold."""

    entries: Count = 0


class Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file says in the clear: no names of people, nothing of a case.

    made_at: the sender's clock, ms. id: random. key: id of the key that signs the pieces. lock: id of the target's sealing key.
    """

    network: Hash32
    sender: Name
    target: Name
    made_at: Millis
    id: Bytes16
    key: Hash8
    lock: Hash8


# --- the opening


def encode_opening(head: Head) -> bytes:
    """Return the bytes with which a file begins."""
    packed = codec.encode(msgspec.structs.astuple(head))
    return MAGIC + VERSION.to_bytes(2, "big") + len(packed).to_bytes(2, "big") + packed


def opening_bytes(start: bytes) -> int:
    """Return how many bytes the opening has.

    Args:
        start: the first `START_BYTES` of the file.

    Raises:
        DecodeError: no file of this kind. VersionUnsupported: a newer program wrote it.
    """
    if len(start) < START_BYTES or not start.startswith(MAGIC):
        raise DecodeError("this is no carry file, or it was changed on its way", hint=NOT_A_FILE)
    version = int.from_bytes(start[len(MAGIC) : len(MAGIC) + 2], "big")
    if version != VERSION:
        raise VersionUnsupported(f"the carry file is of version {version}, this program reads {VERSION}")
    return START_BYTES + int.from_bytes(start[START_BYTES - 2 : START_BYTES], "big")


def decode_opening(opening: bytes) -> Head:
    """Read an opening.

    Raises:
        DecodeError: cut off, or damaged. VersionUnsupported: a newer program wrote it.
    """
    if opening_bytes(opening[:START_BYTES]) != len(opening):
        raise DecodeError("the carry file is cut off", hint=DAMAGED)
    packed = opening[START_BYTES:]
    try:
        head = msgspec.msgpack.decode(packed, type=Head)
        canonical = encode_opening(head)
    except UNREADABLE as exc:
        raise DecodeError("the beginning of the carry file is damaged", hint=DAMAGED) from exc
    if canonical != opening:
        raise DecodeError("the beginning of the carry file is not canonical", hint=DAMAGED)
    return head


# --- pieces


def piece_bytes(prefix: bytes) -> int:
    """Return how many sealed bytes follow a piece's length.

    Raises:
        DecodeError: cut off, or no length that a piece can have.
    """
    size = int.from_bytes(prefix, "big")
    if len(prefix) != LENGTH_BYTES or not keys.SEAL_OVERHEAD_BYTES + _SIGNED_BYTES < size <= limits.CARRY_PIECE_BYTES_MAX:
        raise DecodeError("the carry file is damaged or cut off", hint=DAMAGED)
    return size


@dataclass(frozen=True, slots=True)
class Writer:
    """Seals and signs the pieces of one file. public: the target's sealing key."""

    head: Head
    key: keys.SigningKey
    public: bytes

    @property
    def opening(self) -> bytes:
        """The bytes with which the file begins."""
        return encode_opening(self.head)

    def piece(self, index: int, kind: Kind, packed: bytes, entropy: bytes) -> bytes:
        """Return one piece with its length.

        Args:
            index: its place in the file, from 0.
            packed: the message, as it travels on a line.
            entropy: 32 fresh random bytes.

        Raises:
            LimitExceeded: longer than a piece may be.
        """
        opening = self.opening
        signature = self.key.sign(keys.SignedKind.CARRY, self.head.network, _signed_text(opening, index, kind, packed))
        plain = signature + bytes([kind]) + packed
        sealed = keys.seal(self.public, plain, entropy, _bound_to(opening, index))
        if len(sealed) > limits.CARRY_PIECE_BYTES_MAX:
            raise LimitExceeded(f"a piece of {len(sealed)} bytes is over the bound of {limits.CARRY_PIECE_BYTES_MAX}")
        return len(sealed).to_bytes(LENGTH_BYTES, "big") + sealed


def open_piece(opening: bytes, index: int, sealed: bytes, key: keys.SealingKey, sender: bytes) -> tuple[Kind, bytes]:
    """Open a piece and check who made it, for which file, and for which place in it.

    Args:
        opening: of the file, as it stands there.
        index: the piece's place, from 0.
        sealed: without its length.
        key: ours.
        sender: the public key that must have signed.

    Returns:
        The kind, and the message, packed.

    Raises:
        DecodeError: for another key, changed, cut off, or from another place or file.
        SignatureInvalid: not made by that sender.
        VersionUnsupported: of a kind that only newer programs know.
    """
    signature, number, packed = _unsealed(opening, index, sealed, key)
    text = _signed_text(opening, index, number, packed)
    keys.verify(sender, signature, keys.SignedKind.CARRY, decode_opening(opening).network, text)
    if number not in set(Kind):
        raise VersionUnsupported("the carry file holds what only a newer program can read")
    return Kind(number), packed


def peek_keys(opening: bytes, sealed: bytes, key: keys.SealingKey) -> Keys | None:
    """Return the chain of keys with which a file may begin, whoever wrote it: a chain proves itself, from the network's id on.

    Args:
        sealed: the first piece.

    Raises:
        DecodeError, LimitExceeded: as `open_piece`.
    """
    _, number, packed = _unsealed(opening, 0, sealed, key)
    return decode(packed, Keys) if number == Kind.KEYS else None


def _unsealed(opening: bytes, index: int, sealed: bytes, key: keys.SealingKey) -> tuple[bytes, int, bytes]:
    """Return signature, kind and message of a piece; who made it is not checked yet."""
    plain = key.open(sealed, _bound_to(opening, index))
    if len(plain) <= _SIGNED_BYTES:
        raise DecodeError("a piece of the carry file is empty", hint=DAMAGED)
    return plain[: keys.SIGNATURE_BYTES], plain[keys.SIGNATURE_BYTES], plain[_SIGNED_BYTES:]


def _bound_to(opening: bytes, index: int) -> bytes:
    """Return what a piece is sealed together with: its file, and its place."""
    return codec.encode([keys.sha256(opening), index])


def _signed_text(opening: bytes, index: int, kind: int, packed: bytes) -> bytes:
    """Return what the sender signs; the opening names the target, so that nobody can pass it on as meant for himself."""
    return codec.encode([keys.sha256(opening), index, int(kind), keys.sha256(packed)])
