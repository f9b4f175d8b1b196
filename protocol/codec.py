"""Canonical msgpack and bounded zstd: the only door to both libraries.

Rules:
    - A value has exactly one encoding: maps with text keys in code point order, shortest forms, no floats, no
      extension types.
    - `decode` takes only bytes that encode back to themselves, so that a hash or a signature never covers two
      spellings.
    - What comes from outside raises `DecodeError` or `LimitExceeded` and nothing else; what we build wrongly
      ourselves raises `TypeError` or `ValueError`.

    >>> encode({"b": 1, "a": [None, b"x"]}).hex()
    '82a16192c0c40178a16201'
    >>> decode(bytes.fromhex("82a16192c0c40178a16201"))
    {'a': [None, b'x'], 'b': 1}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, Final, TypeAlias, cast

import msgpack  # type: ignore[import-untyped]
import zstandard

from protocol.errors import DecodeError, LimitExceeded
from protocol.limits import MESSAGE_BYTES_MAX, MESSAGE_DEPTH_MAX, MESSAGE_ITEMS_MAX, ZSTD_WINDOW_BYTES_MAX

ZSTD_LEVEL: Final = 3
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BOUNDS: Final[dict[str, Any]] = {"max_array_len": MESSAGE_ITEMS_MAX, "max_map_len": MESSAGE_ITEMS_MAX}
_KEY: Final = frozenset({str})
_PLAIN: Final = frozenset({type(None), bool, int, str, bytes})

Value: TypeAlias = "bool | int | str | bytes | Sequence[Value] | Mapping[str, Value] | None"


# --- msgpack


def encode(value: Value) -> bytes:
    """Encode a value in its one canonical form.

    Args:
        value: None, bool, int from -2^63 to 2^64-1, str, bytes, and lists, tuples and str-keyed dicts of these.
            Exact types only: an Enum or a bytearray is a slip that another node would read back as something else.

    Raises:
        TypeError: a value or key of another type, floats included.
        ValueError: an int out of range, a lone surrogate, or nesting over `MESSAGE_DEPTH_MAX`.
    """
    return encode_sorted(_ordered(value, MESSAGE_DEPTH_MAX))


def encode_sorted(value: Value) -> bytes:
    """Encode a value whose maps the caller has built in key order; nothing is checked or sorted (hot path)."""
    try:
        # A new packer each time: a shared one is not reentrant, and a finaliser may run in the middle of a pack.
        return cast("bytes", msgpack.packb(value))
    except OverflowError as exc:
        raise ValueError("an int is outside -2^63 … 2^64-1") from exc


def decode(data: bytes, *, bytes_max: int = MESSAGE_BYTES_MAX) -> Value:
    """Decode canonical bytes from outside into None, bool, int, str, bytes, list and dict.

    Raises:
        LimitExceeded: more than `bytes_max` bytes or `MESSAGE_ITEMS_MAX` values.
        DecodeError: anything but the canonical encoding of one value nested at most `MESSAGE_DEPTH_MAX` deep.
    """
    if len(data) > bytes_max:
        raise LimitExceeded(f"A message of {len(data)} bytes is over the bound of {bytes_max}.")
    value = _unpack(data)
    require_canonical(data, value)
    return value


def is_canonical(data: bytes, value: Value) -> bool:
    """Tell whether `data` is the one encoding of `value`, which was decoded from it by any reader."""
    try:
        return encode(value) == data
    except (TypeError, ValueError):
        return False


def require_canonical(data: bytes, value: Value) -> None:
    """Check that `data` is the one encoding of `value`.

    Raises:
        DecodeError: another spelling, or a value that has no encoding at all (float, extension, too deep).
    """
    if not is_canonical(data, value):
        raise DecodeError("The bytes are not the canonical form of their value.")


def _ordered(value: Any, room: int) -> Any:  # noqa: ANN401 - narrowed by exact type, which mypy cannot follow
    """Return `value` with every map in key order; code point order of str equals byte order of UTF-8.

    Args:
        value: anything; types that have no canonical form are refused.
        room: levels of containers that may still open.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if not room:
        raise ValueError(f"nested deeper than {MESSAGE_DEPTH_MAX}")
    room -= 1
    if kind is list or kind is tuple:
        return [item if type(item) in _PLAIN else _ordered(item, room) for item in value]
    if kind is dict:
        if not _KEY.issuperset(map(type, value)):
            raise TypeError("a map key is not str")
        return {key: _ordered(value[key], room) for key in sorted(value)}
    raise TypeError(f"{kind.__name__} has no canonical form")


def _unpack(data: bytes) -> Value:
    """Read one msgpack value; the one place where the library's exceptions become ours."""
    # No value takes less than a byte, so short messages need no count.
    hooks = {} if len(data) <= MESSAGE_ITEMS_MAX else _Counter().hooks()
    try:
        return cast("Value", msgpack.unpackb(data, **_BOUNDS, **hooks))
    except LimitExceeded:
        raise
    # ValueError: its own errors, cut off, trailing, bad UTF-8; TypeError: a list as a map key.
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as exc:
        raise DecodeError("The bytes are not one msgpack value.") from exc


class _Counter:
    """Counts values while they are built, so that a megabyte of empty maps stops before it has filled the memory.

    Containers are seen when they close. Each counts for itself as well as for its places, because containers inside one
    that is still open would go unseen otherwise.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MESSAGE_ITEMS_MAX

    def hooks(self) -> dict[str, Any]:
        """Return the arguments of `unpackb` that let this object count."""
        return {"object_hook": self._close, "list_hook": self._close}

    def _close(self, container: Sized) -> Sized:
        self._left -= 1 + len(container)
        if self._left < 0:
            raise LimitExceeded(f"A message has more than {MESSAGE_ITEMS_MAX} values.")
        return container


# --- zstd


def compress(data: bytes, level: int = ZSTD_LEVEL) -> bytes:
    """Compress into one zstd frame that states its size.

    Raises:
        ValueError: nothing to compress; no message of ours is empty, and `decompress` refuses empty frames.
    """
    if not data:
        raise ValueError("nothing to compress")
    # A new context each time costs 10 µs; a kept one must not be used by two threads at once.
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(data)


def decompress(data: bytes, *, bytes_max: int) -> bytes:
    """Unpack exactly one zstd frame that states its size.

    The library's `max_output_size` is ignored for frames that state their size, and empty ones are not read to their
    end; so the header is judged here first, and the library then fills a buffer of exactly the stated size.

    Args:
        data: the frame and nothing behind it.
        bytes_max: bound of what comes out.

    Raises:
        LimitExceeded: the frame states more than `bytes_max`, or needs a window over `ZSTD_WINDOW_BYTES_MAX`.
        DecodeError: not a frame, no size or size 0 stated, a dictionary needed, damaged, cut off, or something behind
            it.
    """
    size = _stated_size(data, bytes_max)
    try:
        plain = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as exc:
        raise DecodeError("A compressed frame is damaged, cut off, or not alone.") from exc
    if len(plain) != size:  # the library sees to it; nothing after us would notice if it did not
        raise DecodeError("A compressed frame does not hold what it states.")
    return plain


def _stated_size(data: bytes, bytes_max: int) -> int:
    """Return the size that a frame states, once its header is found within bounds."""
    if data[:4] != _ZSTD_MAGIC:  # a skippable frame has parameters too
        raise DecodeError("The bytes are not a zstd frame.")
    try:
        frame = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError as exc:
        raise DecodeError("The header of a compressed frame is damaged or cut off.") from exc
    if frame.content_size in (0, zstandard.CONTENTSIZE_UNKNOWN) or frame.dict_id:
        raise DecodeError("A compressed frame must state its size, hold something, and need no dictionary.")
    if frame.content_size > bytes_max:
        raise LimitExceeded(f"A compressed message of {frame.content_size} bytes is over the bound of {bytes_max}.")
    if frame.window_size > max(ZSTD_WINDOW_BYTES_MAX, bytes_max):
        raise LimitExceeded(f"A compressed message needs a window over {ZSTD_WINDOW_BYTES_MAX} bytes.")
    return int(frame.content_size)
