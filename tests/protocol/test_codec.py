"""Canonical bytes and bounded frames: one spelling for each value, and no input that costs more than it may."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import tracemalloc
from enum import IntEnum, StrEnum

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from msgpack import fallback  # type: ignore[import-untyped]

from protocol import codec
from protocol.codec import Value
from protocol.errors import DecodeError, LimitExceeded, PeerError
from protocol.limits import MESSAGE_BYTES_MAX, MESSAGE_DEPTH_MAX, MESSAGE_ITEMS_MAX, ZSTD_WINDOW_BYTES_MAX
from tests.vectors.generate_primitives import FOLDER, REFUSED, VALUES, as_json, render

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text | st.binary(max_size=300)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=6), max_leaves=30
)


def sized(number: int, forms: list[tuple[int, int, str]]) -> bytes:
    """Return the shortest form of a number: forms are (first number too large, tag, struct format)."""
    for limit, tag, form in forms:
        if number < limit:
            return bytes([tag]) + struct.pack(">" + form, number)
    raise ValueError(number)


def reference(value: object) -> bytes:
    """The canonical encoding straight from the msgpack specification, sharing nothing with the library."""
    match value:
        case None | True | False:
            return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
        case int() if value >= 0:
            forms = [(2**8, 0xCC, "B"), (2**16, 0xCD, "H"), (2**32, 0xCE, "I"), (2**64, 0xCF, "Q")]
            return bytes([value]) if value < 128 else sized(value, forms)
        case int() if value >= -32:
            return struct.pack("b", value)
        case int():
            bits = next(bits for bits in (8, 16, 32, 64) if value >= -(2 ** (bits - 1)))
            return {8: b"\xd0", 16: b"\xd1", 32: b"\xd2", 64: b"\xd3"}[bits] + value.to_bytes(
                bits // 8, "big", signed=True
            )
        case str():
            data = value.encode()
            forms = [(2**8, 0xD9, "B"), (2**16, 0xDA, "H"), (2**32, 0xDB, "I")]
            return (bytes([0xA0 | len(data)]) if len(data) < 32 else sized(len(data), forms)) + data
        case bytes():
            return sized(len(value), [(2**8, 0xC4, "B"), (2**16, 0xC5, "H"), (2**32, 0xC6, "I")]) + value
        case list() | tuple():
            head = (
                bytes([0x90 | len(value)])
                if len(value) < 16
                else sized(len(value), [(2**16, 0xDC, "H"), (2**32, 0xDD, "I")])
            )
            return head + b"".join(map(reference, value))
        case dict():
            head = (
                bytes([0x80 | len(value)])
                if len(value) < 16
                else sized(len(value), [(2**16, 0xDE, "H"), (2**32, 0xDF, "I")])
            )
            pairs = sorted(value.items(), key=lambda pair: pair[0].encode())
            return head + b"".join(reference(key) + reference(item) for key, item in pairs)
    raise TypeError(type(value))


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def reference_takes(data: bytes) -> bool:
    """Tell by the pure-Python reader and the reference encoding whether bytes are canonical."""
    try:
        value = fallback.unpackb(data)
        return depth(value) <= MESSAGE_DEPTH_MAX and reference(value) == data
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def takes(data: bytes) -> bool:
    """Tell whether our decoder takes the bytes; anything but our own errors goes through and fails the test."""
    try:
        value = codec.decode(data)
    except PeerError:
        return False
    assert codec.encode(value) == data
    return True


# --- one value, one spelling


@given(values)
def test_every_value_survives_its_bytes(value: Value) -> None:
    """Decoding what was encoded gives the value again, and its bytes are those of the specification."""
    data = codec.encode(value)
    assert data == reference(value)
    assert codec.decode(data) == value


@given(st.binary(max_size=60))
@example(b"\xd6\xff\x00\x00\x00\x00")
@example(b"\x81\x90\x00")
def test_random_bytes_raise_our_errors_only(data: bytes) -> None:
    """Any bytes are either taken and encode to themselves, or refused by our own errors; as the reference says."""
    assert takes(data) == reference_takes(data)


def test_mutated_values_are_judged_as_the_reference_judges() -> None:
    """20,000 changes of one byte in good messages (C05): the C reader and the pure-Python one agree on each."""
    draw = random.Random(1)
    goods = [bytearray(codec.encode(value)) for value in VALUES if len(codec.encode(value)) < 60]
    taken = 0
    for _ in range(20_000):
        data = bytearray(draw.choice(goods))
        data[draw.randrange(len(data))] = draw.choice((draw.randrange(256), 0xC0, 0xCB, 0xD6, 0x80, 0x90))
        verdict = takes(bytes(data))
        assert verdict == reference_takes(bytes(data)), data.hex()
        taken += verdict
    assert 1_000 < taken < 19_000


def test_vectors_are_up_to_date() -> None:
    """The file of vectors is what the generator builds."""
    assert (FOLDER / "codec.json").read_text(encoding="utf-8") == render("codec")


def test_vectors_decode_and_encode() -> None:
    """Each hex of the vectors decodes to its value."""
    vectors = json.loads((FOLDER / "codec.json").read_text(encoding="utf-8"))
    for vector in vectors["encodings"]:
        data = bytes.fromhex(vector["hex"])
        assert as_json(codec.decode(data)) == vector["value"]
        assert data == codec.encode(codec.decode(data))


@pytest.mark.parametrize("why", REFUSED)
def test_other_spellings_are_refused(why: str) -> None:
    """Long forms, unsorted or doubled keys, floats, extensions, bad text and cut-off bytes are not of this format (C04)."""
    data = bytes.fromhex(REFUSED[why])
    with pytest.raises(DecodeError):
        codec.decode(data)
    if data and "levels" not in why:
        with pytest.raises(DecodeError):
            codec.decode(b"\x91" + data)


def test_keys_are_sorted_whatever_order_they_came_in() -> None:
    """Maps built in any order, at any level, give one encoding; the value passed in is left alone."""
    value: dict[str, Value] = {"b": [{"d": 1, "c": 2}], "a": ({"f": {"h": 1, "g": 2}},)}
    same: dict[str, Value] = {"a": [{"f": {"g": 2, "h": 1}}], "b": [{"c": 2, "d": 1}]}
    assert codec.encode(value) == codec.encode(same) == codec.encode_sorted(same)
    assert list(value) == ["b", "a"]


def test_key_order_is_that_of_utf8_bytes() -> None:
    """U+FFFF comes before U+10000, unlike in UTF-16."""
    assert codec.encode({"\U00010000": 1, "\uffff": 2}) == bytes.fromhex("82a3efbfbf02a4f090808001")


class _Number(IntEnum):
    ONE = 1


class _Word(StrEnum):
    A = "a"


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        bytearray(b"x"),
        memoryview(b"x"),
        {1},
        _Number.ONE,
        _Word.A,
        object(),
        {1: 2},
        {b"a": 1},
        {None: 1},
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_a_programmer_error(value: object) -> None:
    """Floats, Enums, mutable bytes, sets and keys that are not str raise TypeError, at any level."""
    for shown in (value, [value], {"a": value}, [[value]]):
        with pytest.raises(TypeError):
            codec.encode(shown)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {"\udfff": 1}], ids=ascii)
def test_what_does_not_fit_is_a_programmer_error(value: Value) -> None:
    """Ints beyond 64 bits and lone surrogates raise ValueError."""
    with pytest.raises(ValueError):
        codec.encode([value])


# --- bounds


def nested(levels: int) -> Value:
    value: Value = None
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_has_a_bound() -> None:
    """16 levels pass, 17 are refused on both sides (C09)."""
    data = codec.encode(nested(MESSAGE_DEPTH_MAX))
    assert codec.decode(data) == nested(MESSAGE_DEPTH_MAX)
    with pytest.raises(DecodeError):
        codec.decode(b"\x91" + data)
    with pytest.raises(ValueError, match="nested deeper"):
        codec.encode(nested(MESSAGE_DEPTH_MAX + 1))


@pytest.mark.parametrize("levels", [1_000, 100_000, MESSAGE_BYTES_MAX - 1])
@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa0", b"\x92\xc0", b"\xdd\x00\x00\x00\x01"], ids=bytes.hex)
def test_depth_bombs_are_refused(levels: int, opener: bytes) -> None:
    """Up to a million levels of lists or maps neither crash nor recurse (C09)."""
    with pytest.raises(DecodeError):
        codec.decode((opener * levels)[: MESSAGE_BYTES_MAX - 1] + b"\xc0")


def test_bytes_have_a_bound() -> None:
    """The size is judged before a byte is read; the caller may set a tighter bound."""
    for data in (bytes(MESSAGE_BYTES_MAX + 1), b"\x80" * 10_000_000):
        with pytest.raises(LimitExceeded):
            codec.decode(data)
    assert codec.decode(b"\x01", bytes_max=1) == 1
    with pytest.raises(LimitExceeded):
        codec.decode(b"\x91\x01", bytes_max=1)


def test_items_have_a_bound() -> None:
    """A list within the count passes, one of more is refused although its bytes are few."""
    good = codec.encode([0] * 150_000 + ["x" * 60_000])
    assert len(good) > MESSAGE_ITEMS_MAX
    assert codec.encode(codec.decode(good)) == good
    with pytest.raises(PeerError):
        codec.decode(codec.encode([0] * (MESSAGE_ITEMS_MAX + 1)))
    with pytest.raises(LimitExceeded):
        codec.decode(codec.encode([[0] * 150_000, [0] * 150_000]))


def array_of(count: int, item: bytes) -> bytes:
    return b"\xdd" + struct.pack(">I", count) + item * count


BOMBS = {
    "empty maps": array_of(1_000_000, b"\x80"),
    "empty lists": array_of(1_000_000, b"\x90"),
    "empty maps in open lists": b"".join(b"\xdd" + struct.pack(">I", 190_000) + b"\x80" * 189_999 for _ in range(5))
    + b"\xc0",
    "small maps": array_of(190_000, b"\x81\xa0\xc0"),
    "small maps in lists": array_of(10, array_of(34_000, b"\x81\xa0\xc0")),
    "short texts": array_of(190_000, b"\xa2\xc2\x80"),
    "short bytes": array_of(190_000, b"\xc4\x02ab"),
    "small ints": array_of(190_000, b"\xcd\x01\x01"),
    "small maps, few": array_of(66_000, b"\x81\xa0\xc0"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_megabyte_of_small_values_stays_small(name: str) -> None:
    """Messages that blow up in memory are stopped below 50 MB, taken or not (C10)."""
    data = BOMBS[name]
    assert len(data) <= MESSAGE_BYTES_MAX
    tracemalloc.start()
    try:
        takes(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000


# --- require_canonical


def test_bytes_are_held_against_a_value_that_another_reader_made() -> None:
    """The typed readers decode by themselves; what they hand over must have these bytes as its encoding."""
    codec.require_canonical(b"\x91\x01", [1])
    codec.require_canonical(b"\x91\x01", (1,))
    assert codec.is_canonical(b"\x81\xa1a\x01", {"a": 1})
    for data, value in ((b"\x91\xcc\x01", [1]), (b"\x91\x01", [2]), (b"\xca\x3f\x80\x00\x00", 1.0), (b"", None)):
        assert not codec.is_canonical(data, value)  # type: ignore[arg-type]
        with pytest.raises(DecodeError):
            codec.require_canonical(data, value)  # type: ignore[arg-type]


def test_true_is_not_one() -> None:
    """Python holds True equal to 1; their bytes differ and so do values."""
    assert codec.is_canonical(b"\xc3", True)
    assert not codec.is_canonical(b"\xc3", 1)
    assert codec.decode(b"\xc3") is True


# --- zstd


def rle_frame(size: int, blocks: list[int], *, window_log: int = 17) -> bytes:
    """Build a frame by hand: it states a size and a window, and holds runs of one byte of the given lengths."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0x80, (window_log - 10) << 3]) + struct.pack("<I", size)
    runs = [
        struct.pack("<I", length << 3 | 1 << 1 | (at == len(blocks) - 1))[:3] + b"a" for at, length in enumerate(blocks)
    ]
    return head + b"".join(runs)


@given(st.binary(min_size=1, max_size=3_000), st.sampled_from([1, 3, 19]))
def test_what_is_compressed_unpacks(data: bytes, level: int) -> None:
    """Any bytes come back, at any level, within a bound of exactly their size."""
    assert codec.decompress(codec.compress(data, level), bytes_max=len(data)) == data


def test_a_message_of_full_size_passes() -> None:
    """The largest message passes, random or uniform, and one byte more does not."""
    for data in (bytes(MESSAGE_BYTES_MAX), random.Random(2).randbytes(MESSAGE_BYTES_MAX)):
        assert codec.decompress(codec.compress(data), bytes_max=MESSAGE_BYTES_MAX) == data
        with pytest.raises(LimitExceeded):
            codec.decompress(codec.compress(data + b"x"), bytes_max=MESSAGE_BYTES_MAX)


def test_the_frames_built_by_hand_are_good_ones() -> None:
    """The attacks below differ from this accepted frame in one thing each."""
    assert codec.decompress(rle_frame(1_500, [1_000, 500]), bytes_max=1_500) == b"a" * 1_500


@given(st.binary(max_size=60))
def test_random_frames_raise_our_errors_only(data: bytes) -> None:
    """Any bytes behind the magic number of zstd are refused by our own errors or unpack within the bound."""
    for frame in (data, b"\x28\xb5\x2f\xfd" + data):
        try:
            assert len(codec.decompress(frame, bytes_max=1_000)) <= 1_000
        except (DecodeError, LimitExceeded):
            continue


def test_a_frame_cut_off_or_changed_is_refused() -> None:
    """Each shorter part of a frame is refused; a changed byte never gives more than the bound, nor another error."""
    good = codec.compress(b"".join(str(number).encode() for number in range(300)))
    for size in range(len(good)):
        with pytest.raises(DecodeError):
            codec.decompress(good[:size], bytes_max=2_000)
    for at in range(len(good)):
        try:
            assert (
                len(codec.decompress(bytes([*good[:at], good[at] ^ 0x55, *good[at + 1 :]]), bytes_max=2_000)) <= 2_000
            )
        except (DecodeError, LimitExceeded):
            continue


def test_something_behind_the_frame_is_refused() -> None:
    """One frame and nothing else: no trailing byte, second frame or skippable frame, in front or behind."""
    good, skippable = codec.compress(b"hello" * 100), b"\x50\x2a\x4d\x18\x00\x00\x00\x00"
    filled = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
    for data in (
        filled,
        filled + good,
        good + b"\0",
        good + good,
        good * 1_000,
        good + skippable,
        skippable + good,
        skippable,
        b"",
    ):
        with pytest.raises(DecodeError):
            codec.decompress(data, bytes_max=MESSAGE_BYTES_MAX)


def test_a_frame_must_state_its_size_and_hold_something() -> None:
    """Frames of unknown size and empty ones, which the library does not read to their end, are refused."""
    nameless = zstandard.ZstdCompressor(write_content_size=False).compress(b"hello" * 100)
    empty = zstandard.ZstdCompressor().compress(b"")
    for data in (nameless, empty, empty[:-1], rle_frame(0, [0]), rle_frame(0, [1 << 20])):
        with pytest.raises(DecodeError):
            codec.decompress(data, bytes_max=MESSAGE_BYTES_MAX)
    with pytest.raises(ValueError, match="nothing"):
        codec.compress(b"")


@pytest.mark.parametrize(
    ("size", "blocks"), [(1_000, [999]), (1_000, [1_001]), (1_000, [100_000] * 10_000), (70_000, [1])]
)
def test_a_frame_that_lies_about_its_size_is_refused(size: int, blocks: list[int]) -> None:
    """The stated size is what comes out, not a byte less or more, however much is behind it."""
    with pytest.raises(DecodeError):
        codec.decompress(rle_frame(size, blocks), bytes_max=MESSAGE_BYTES_MAX)


@pytest.mark.parametrize("window_log", [23, 27, 31, 41])
def test_a_frame_that_needs_a_large_window_is_refused(window_log: int) -> None:
    """A window over the bound would take its memory before the first byte comes out."""
    assert codec.decompress(rle_frame(10, [10], window_log=22), bytes_max=10) == b"a" * 10
    assert ZSTD_WINDOW_BYTES_MAX == 1 << 22
    with pytest.raises(PeerError):
        codec.decompress(rle_frame(10, [10], window_log=window_log), bytes_max=10)


@pytest.mark.parametrize("size", [2**40, 2**63, 2**64 - 2, 2**64 - 1])
def test_absurd_sizes_are_refused(size: int) -> None:
    """A stated size that no memory holds is refused, even by a caller with no bound to speak of."""
    frame = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + rle_frame(10, [10])[-4:]
    for bytes_max in (MESSAGE_BYTES_MAX, 2**70):
        with pytest.raises(PeerError):
            codec.decompress(frame, bytes_max=bytes_max)


def test_a_frame_that_needs_a_dictionary_is_refused() -> None:
    """We have no dictionaries, and a frame that names one is not ours."""
    samples: list[bytes | bytearray | memoryview[int]] = [
        f"sample {number} of a text that repeats {number % 7}".encode() for number in range(2_000)
    ]
    dictionary = zstandard.train_dictionary(2_000, samples)
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(samples[0])
    with pytest.raises(DecodeError):
        codec.decompress(frame, bytes_max=1_000)


BOMB_SCRIPT = """
import resource, sys, zstandard
from protocol import codec
from protocol.errors import PeerError
packer, piece = zstandard.ZstdCompressor().compressobj(size=1 << 30), bytes(1 << 20)
bomb = b"".join(packer.compress(piece) for _ in range(1 << 10)) + packer.flush()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def refuse(function, *args, **options):
    try:
        function(*args, **options)
    except PeerError:
        return
    sys.exit("taken")
refuse(codec.decompress, bomb, bytes_max=1 << 20)
refuse(codec.decode, b"\\xdd\\x00\\x98\\x96\\x80" + b"\\x80" * 10_000_000)
refuse(codec.decode, b"\\xdd\\x00\\x0f\\x42\\x40" + b"\\x80" * 1_000_000)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(bomb), grown)
"""


@pytest.mark.processes
def test_bombs_do_not_grow_the_process() -> None:
    """32 KB that state 1 GiB, and 10 MB of empty maps, leave a fresh process within 50 MB of where it was (C10, C11)."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", BOMB_SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    bomb_bytes, grown_kib = map(int, done.stdout.split())
    assert bomb_bytes < 40_000
    assert grown_kib < 50_000
