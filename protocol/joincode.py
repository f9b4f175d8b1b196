"""The joining code: all that a new machine needs to find its hub and to prove that it was invited.

    TB1-<base32 of canonical msgpack [network, node, [addresses], seed] and 4 check bytes>, in groups of five

It is given as text and as a QR code. The seed is the invitation's private key: whoever has the code can join once.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

import msgspec

from protocol import codec, divisions, keys, limits
from protocol.errors import DecodeError, JoinRefused, LimitExceeded
from protocol.log import UNREADABLE, Hash32, Name

PREFIX: Final = "TB1-"
CHECK_BYTES: Final = 4
TEXT_CHARS_MAX: Final = 2_000
ADDRESSES_MAX: Final = limits.ADDRESSES_MAX
_MARK: Final = PREFIX.rstrip("-")
_COPY: Final = "Copy or scan the whole of it again."


class JoinCode(NamedTuple):
    """network: 32 bytes. addresses: host:port of the hub, best first. seed: 32 bytes."""

    network: bytes
    node: str
    addresses: tuple[str, ...]
    seed: bytes


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """What the text carries."""

    network: Hash32
    node: Name
    addresses: tuple[Name, ...]
    seed: Hash32


def format_code(code: JoinCode) -> str:
    """Return the code as text.

    Raises:
        ValueError: no address, or too many, or too long: nobody could read it back.
    """
    raw = codec.encode([code.network, code.node, list(code.addresses), code.seed])
    text = base64.b32encode(raw + _check(raw)).decode().rstrip("=")
    shown = PREFIX + "-".join(text[begin : begin + 5] for begin in range(0, len(text), 5))
    if not 1 <= len(code.addresses) <= ADDRESSES_MAX or len(shown) > TEXT_CHARS_MAX:
        raise ValueError(f"a joining code carries 1 to {ADDRESSES_MAX} addresses")
    return shown


def parse_code(text: str) -> JoinCode:
    """Read a code as typed or scanned: case, spaces and dashes do not matter.

    Raises:
        JoinRefused: not a joining code, or mistyped.
    """
    plain = "".join(text.replace("-", "").split()).upper() if len(text) <= 2 * TEXT_CHARS_MAX else ""
    if not plain.startswith(_MARK):
        raise JoinRefused("this is no joining code", hint="It begins with TB1-; copy the whole of it.")
    raw = _checked(plain.removeprefix(_MARK))
    try:
        codec.decode(raw)
        packed = msgspec.msgpack.decode(raw, type=_Packed)
    except (DecodeError, LimitExceeded, *UNREADABLE) as exc:
        raise JoinRefused("the joining code does not hold what it should") from exc
    if not divisions.is_node_id(packed.node) or not 1 <= len(packed.addresses) <= ADDRESSES_MAX:
        raise JoinRefused("the joining code does not hold what it should")
    return JoinCode(packed.network, packed.node, packed.addresses, packed.seed)


def _checked(letters: str) -> bytes:
    """Return the bytes that letters and digits stand for, once their check bytes fit."""
    try:
        packed = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError) as exc:
        raise JoinRefused("the joining code is mistyped or cut off", hint=_COPY) from exc
    raw, check = packed[:-CHECK_BYTES], packed[-CHECK_BYTES:]
    if _check(raw) != check:
        raise JoinRefused("the joining code is mistyped or cut off", hint=_COPY)
    return raw


def _check(raw: bytes) -> bytes:
    return keys.sha256(b"tongban/1/joincode/" + raw)[:CHECK_BYTES]
