"""The joining code: all that a new machine needs to find its hub and to prove that it was invited.

    TB1-<base32 of canonical msgpack [network, node, [addresses], seed] and 4 check bytes>, in groups of five

It is given as text and as a QR code. The seed is the invitation's private key: whoever has the code can join once.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

from protocol import codec, divisions, keys
from protocol.errors import DecodeError, JoinRefused

PREFIX: Final = "TB1-"
CHECK_BYTES: Final = 4
TEXT_CHARS_MAX: Final = 2_000
ADDRESSES_MAX: Final = 8


class JoinCode(NamedTuple):
    """network: 32 bytes. addresses: host:port of the hub, best first. seed: 32 bytes."""

    network: bytes
    node: str
    addresses: tuple[str, ...]
    seed: bytes


def format_code(code: JoinCode) -> str:
    """Return the code as text."""
    raw = codec.encode([code.network, code.node, list(code.addresses), code.seed])
    text = base64.b32encode(raw + _check(raw)).decode().rstrip("=")
    return PREFIX + "-".join(text[begin : begin + 5] for begin in range(0, len(text), 5))


def parse_code(text: str) -> JoinCode:
    """Read a code as typed or scanned: case, spaces and dashes do not matter.

    Raises:
        JoinRefused: not a joining code, or mistyped.
    """
    plain = "".join(text.split()).upper()
    if not plain.startswith(PREFIX) or len(plain) > TEXT_CHARS_MAX:
        raise JoinRefused("this is no joining code", hint="It begins with TB1-; copy the whole of it.")
    plain = plain.removeprefix(PREFIX).replace("-", "")
    try:
        packed = base64.b32decode(plain + "=" * (-len(plain) % 8))
        raw, check = packed[:-CHECK_BYTES], packed[-CHECK_BYTES:]
        if _check(raw) != check:
            raise JoinRefused("the joining code is mistyped or cut off", hint="Copy or scan the whole of it again.")
        network, node, addresses, seed = codec.decode(raw)  # type: ignore[misc]
        code = JoinCode(network, divisions.check_node_id(node), tuple(addresses), seed)  # type: ignore[arg-type]
    except (binascii.Error, DecodeError, ValueError, TypeError) as exc:
        raise JoinRefused("the joining code is mistyped or cut off", hint="Copy or scan the whole of it again.") from exc
    if len(code.network) != 32 or len(code.seed) != keys.SEED_BYTES or not 1 <= len(code.addresses) <= ADDRESSES_MAX:  # noqa: PLR2004
        raise JoinRefused("the joining code does not hold what it should")
    return code


def _check(raw: bytes) -> bytes:
    return keys.sha256(b"tongban/1/joincode/" + raw)[:CHECK_BYTES]
