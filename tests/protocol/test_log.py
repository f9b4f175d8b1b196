"""Headers, checkpoints, change sets and bundles: bytes come back as they were signed, and nothing false is taken."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import codec, keys, limits, log, merkle
from protocol.errors import DecodeError, LimitExceeded, ProofInvalid, SignatureInvalid, TongbanError
from protocol.log import (
    Bundle,
    ChangeSet,
    Checkpoint,
    Header,
    Rebuilt,
    Signed,
    Stored,
    WireEntry,
    decode_checkpoint,
    decode_header,
    encode_checkpoint,
    encode_header,
    hash_body,
    read_entry,
    rebuild,
    references,
    salt_of,
    shorten,
    verify_bundle,
    verify_checkpoint,
)
from tests.protocol.network import START, VILLAGE, WEST, Log, Stated, key_in, key_of

NETWORK, OTHER = keys.sha256(b"a network"), keys.sha256(b"another network")
OPENING = {"item": "i", "version": 1, "limits": [5, 20], "number": "n"}

# --- strategies

names = st.text(max_size=8) | st.just("办" * limits.NAME_CHARS_MAX)
links = st.binary(min_size=16, max_size=16)
counts = st.integers(0, limits.LOG_SIZE_MAX) | st.sampled_from([0, 1, limits.LOG_SIZE_MAX])
times = st.integers(0, limits.TIME_MS_MAX) | st.sampled_from([0, limits.TIME_MS_MAX])
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=20)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
field_maps = st.dictionaries(st.text(max_size=6), values, max_size=4)
headers = st.builds(
    Header,
    st.integers(0, 3) | st.integers(0, 2**40),
    st.integers(0, 3),
    names,
    names,
    st.none() | names,
    st.none() | names,
    times,
    st.none() | st.tuples(counts, st.binary(min_size=8, max_size=8)),
    counts,
    st.none() | st.tuples(st.integers(0, 255), counts, st.binary(min_size=32, max_size=32)),
    st.none() | links,
    st.none() | counts,
    st.none() | links,
    st.lists(links, max_size=3).map(tuple),
    st.lists(links, max_size=3).map(tuple),
    field_maps,
)


@st.composite
def histories(draw: st.DrawFn) -> Log:
    """Draw a log: several cases, predecessors anywhere, foreign openings, withheld bodies, unknown formats, opaque leaves."""
    written = Log(VILLAGE, key_of(VILLAGE), NETWORK)
    bases = [(draw(st.integers(0, 3)), b"register")]
    salts: dict[bytes, bytes] = {b"F" * 16: b"S" * 16}  # a case opened elsewhere
    for _ in range(draw(st.integers(1, 14))):
        if not draw(st.integers(0, 3)):
            bases.append((bases[-1][0] + 1, b"register"))
        header: dict[str, Any] = {"claimed_at": draw(times), "basis": bases[-1], "count": draw(st.integers(0, 3))}
        _state(draw, written, salts, header)
    return written


def _state(draw: st.DrawFn, written: Log, salts: dict[bytes, bytes], header: dict[str, Any]) -> None:
    kind = draw(st.sampled_from(["open", "open", "case", "case", "case", "case", "other", "odd", "opaque"]))
    body = draw(st.none() | st.just({"text": "备注"}))
    if kind == "open":
        salt = draw(st.binary(min_size=16, max_size=16))
        stated = written.state("open", OPENING, {"applicant": "王"}, salt=salt, **header)
        salts[stated.link] = salt
        _perhaps_withhold(draw, written)
    elif kind == "case":
        key = draw(st.sampled_from(sorted(salts)))
        own = [one.link for one in written.entries if key_in(one) == key]
        prev = draw(st.sampled_from(own)) if own and draw(st.integers(0, 3)) else draw(links)
        header |= {"case": key, "prev": prev, "epoch": draw(st.none() | st.integers(0, 3))}
        header |= {"rests": tuple(draw(st.lists(links, max_size=2)))}
        written.state("note", draw(field_maps), body, salt=salts[key], **header)
        _perhaps_withhold(draw, written)
    elif kind == "other":
        written.state("officer.add", {"id": "01"}, body, **header)
    elif kind == "odd":
        odd = draw(st.sampled_from([{"format": 2}, {"basis": None}, {"suite": 2}, {"body": (7, 3, b"h" * 32)}]))
        written.state("officer.add", {}, None, **{**header, **odd})
    else:
        raw = draw(st.binary(min_size=1, max_size=30))
        made = written.state("opaque")
        written.entries[-1] = Stated(log.Entry(raw, None), made.header, made.index, b"")


def _perhaps_withhold(draw: st.DrawFn, written: Log) -> None:
    if not draw(st.integers(0, 4)):
        last = written.entries[-1]
        written.entries[-1] = Stated(log.Entry(last.entry.raw, None), last.header, last.index, last.salt)


def readable(stated: Stored) -> Stored:
    """Return a stored entry with the header that its bytes give, as a store has it."""
    try:
        header = decode_header(stated.raw)
    except TongbanError:
        return Stored(stated.raw, stated.body, None, None, None)
    return Stored(stated.raw, stated.body, header, stated.prev_back if header.format == 1 else None, stated.salt)


def travel(written: Log, start: int = 0) -> list[Rebuilt]:
    """Shorten the entries from `start` on, send them, and rebuild them at the other end."""
    sent = ChangeSet(written.seal(start), shorten(written.node, 1, map(readable, written.stored(start))))
    came = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=ChangeSet)
    known = written.known(start)
    return rebuild(
        decode_checkpoint(came.signed.checkpoint), came.entries, {i: known[i] for i in references(came.entries, start)}
    )


# --- headers


@given(headers)
def test_header_comes_back_from_its_bytes(header: Header) -> None:
    """A header's bytes give the header, and the header its bytes."""
    try:
        raw = encode_header(header)
    except ValueError:  # nested too deep for a header
        return
    if len(raw) > limits.HEADER_BYTES_MAX:
        return
    assert decode_header(raw) == decode_header(bytes(raw))
    assert encode_header(decode_header(raw)) == raw
    assert raw == codec.encode(msgspec.structs.astuple(header))  # the quick way gives the canonical bytes


@given(st.binary(max_size=300) | headers.map(msgspec.msgpack.encode), st.data())
def test_header_bytes_are_canonical_or_refused(raw: bytes, data: st.DataObject) -> None:
    """What is read encodes back to the bytes it came from; all else is refused as DecodeError."""
    if raw and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + bytes([data.draw(st.integers(0, 255))]) + raw[at + 1 :]
    try:
        header = decode_header(raw)
    except (DecodeError, LimitExceeded):
        return
    assert codec.encode(msgspec.structs.astuple(header)) == raw


GOOD = Header(1, 1, VILLAGE, "note", None, None, START, (1, b"register"), 0, None, None, None, None, (), (), {})


def with_fields(packed: bytes) -> bytes:
    """Return header bytes whose last value is the given one."""
    return encode_header(GOOD)[:-1] + packed


@pytest.mark.parametrize(
    ("why", "packed"),
    [
        ("float", b"\x81\xa1a\xcb" + b"\0" * 8),
        ("extension", b"\x81\xa1a\xd4\x05\x00"),
        ("timestamp", b"\x81\xa1a\xd6\xff\0\0\0\0"),
        ("unsorted", b"\x82\xa1b\x00\xa1a\x00"),
        ("twice", b"\x82\xa1a\x00\xa1a\x00"),
        ("int key", b"\x81\x01\x01"),
        ("list key", b"\x81\x90\x01"),
        ("map key", b"\x81\x80\x01"),
        ("long int", b"\x81\xa1a\xcc\x01"),
        ("bad text", b"\x81\xa1a\xa1\xff"),
        ("bad key", b"\x81\xa1\xff\x00"),
        ("no map", b"\x90"),
        ("16 levels", b"\x81\xa1a" + b"\x91" * 15 + b"\x90"),
        ("1,000 levels", b"\x81\xa1a" + b"\x91" * 1_000 + b"\x90"),
        ("15,000 levels", b"\x81\xa1a" + b"\x91" * 15_000 + b"\x90"),
        ("a list of 4294967295", b"\x81\xa1a\xdd\xff\xff\xff\xff"),
        ("a map of 4294967295", b"\x81\xa1a\xdf\xff\xff\xff\xff"),
        ("trailing", b"\x80\x00"),
    ],
)
def test_fields_that_no_header_may_hold_are_refused(why: str, packed: bytes) -> None:
    """Floats, extensions, bad keys, second spellings and deep nests are no header, at any size."""
    with pytest.raises(DecodeError):
        decode_header(with_fields(packed))
    set_bytes = one_entry(msgspec.Raw(packed))
    try:  # in a change set they are sorted and spelled anew, or refused; the root tells the rest
        made = rebuild(
            Log(VILLAGE, key_of(VILLAGE)).checkpoint(), [msgspec.msgpack.decode(set_bytes, type=WireEntry)], {}
        )
    except (DecodeError, msgspec.DecodeError, RecursionError, ValueError):
        return
    assert why in {"unsorted", "twice", "long int"}
    assert decode_header(made[0].raw)


def one_entry(fields: msgspec.Raw) -> bytes:
    entry = ("note", None, None, START, (1, b"register"), 0, None, None, None, None, (), (), fields, None)
    return msgspec.msgpack.encode(entry)


@pytest.mark.parametrize(
    "changes",
    [
        {"claimed_at": -1},
        {"claimed_at": limits.TIME_MS_MAX + 1},
        {"count": -1},
        {"count": limits.LOG_SIZE_MAX + 1},
        {"epoch": -1},
        {"case": b"short"},
        {"prev": b"p" * 17},
        {"basis": (1, b"short")},
        {"basis": (-1, b"register")},
        {"body": (256, 1, b"h" * 32)},
        {"body": (0, 1, b"h" * 31)},
        {"rests": (b"x" * 16,) * (limits.LINKS_MAX + 1)},
        {"saw": (b"x" * 16,) * (limits.LINKS_MAX + 1)},
        {"node": "n" * (limits.NAME_CHARS_MAX + 1)},
        {"node": None},
        {"type": 1},
        {"format": "1"},
        {"epoch": True},
    ],
)
def test_each_place_of_a_header_has_its_bound(changes: dict[str, Any]) -> None:
    """A header with one value out of its bound or type is refused."""
    with pytest.raises(DecodeError):
        decode_header(codec.encode(msgspec.structs.astuple(msgspec.structs.replace(GOOD, **changes))))


def test_header_has_a_bound() -> None:
    """A header of the bound's size is read, one byte more is refused."""
    text = encode_header(msgspec.structs.replace(GOOD, fields={"a": "x" * 16_000}))
    room = limits.HEADER_BYTES_MAX - len(text)
    assert decode_header(encode_header(msgspec.structs.replace(GOOD, fields={"a": "x" * (16_000 + room)})))
    with pytest.raises(LimitExceeded):
        decode_header(encode_header(msgspec.structs.replace(GOOD, fields={"a": "x" * (16_001 + room)})))


@pytest.mark.parametrize("value", [1.5, bytearray(b"x"), {1: 2}, object()])
def test_our_own_slips_are_not_encoded(value: object) -> None:
    """What another node would read back as something else never becomes header bytes."""
    with pytest.raises((TypeError, ValueError)):
        encode_header(msgspec.structs.replace(GOOD, fields={"a": value}))
    with pytest.raises((TypeError, ValueError)):
        encode_header(msgspec.structs.replace(GOOD, fields={"a": [value]}))


# --- bodies


def test_body_has_a_bound_and_is_a_map() -> None:
    """A body is a canonical map of at most 64 KiB."""
    assert log.decode_body(log.encode_body({"text": "x"})) == {"text": "x"}
    with pytest.raises(LimitExceeded):
        log.encode_body({"text": "x" * limits.BODY_BYTES_MAX})
    with pytest.raises(LimitExceeded):
        log.decode_body(b"x" * (limits.BODY_BYTES_MAX + 1))
    with pytest.raises(DecodeError):
        log.decode_body(b"\x90")


@pytest.mark.parametrize("body", [{}, {"salt": "text"}, {"salt": b"short"}, {"salt": b"s" * 17}, {"salt": None}])
def test_an_opening_without_a_salt_has_none(body: dict[str, object]) -> None:
    """The salt is 16 bytes under the key `salt`."""
    with pytest.raises(DecodeError):
        salt_of(log.encode_body(body))


def test_body_hash_binds_salt_scheme_and_bytes() -> None:
    """Another salt, scheme or byte gives another hash."""
    hashes = {
        hash_body(b"s" * 16, 0, b"b"),
        hash_body(b"t" * 16, 0, b"b"),
        hash_body(b"s" * 16, 1, b"b"),
        hash_body(b"", 0, b"b"),
    }
    assert len(hashes) == 4
    header = msgspec.structs.replace(GOOD, body=(0, 1, hash_body(b"", 0, b"b")))
    log.check_body(header, b"b", b"")
    log.check_body(header, b"c", None)  # without the salt, the length is all there is
    for wrong, salt in ((b"c", b""), (b"bb", b""), (b"b", b"s" * 16), (b"bb", None)):
        with pytest.raises(ProofInvalid):
            log.check_body(header, wrong, salt)
    with pytest.raises(ProofInvalid):
        log.check_body(GOOD, b"b", b"")


# --- checkpoints


def written(count: int = 5) -> Log:
    made = Log(VILLAGE, key_of(VILLAGE), NETWORK)
    for number in range(count):
        made.state("officer.add", {"id": str(number)}, {"name": "李"}, basis=(1, b"register"))
    return made


@given(st.binary(max_size=200))
def test_random_bytes_are_no_checkpoint(raw: bytes) -> None:
    """Every decoder refuses with an error of ours."""
    with pytest.raises(DecodeError):
        decode_checkpoint(raw)


@pytest.mark.parametrize(("start", "size"), [(0, 0), (5, 5), (6, 5), (0, limits.SET_ENTRIES_MAX + 1)])
def test_a_run_has_entries_and_a_bound(start: int, size: int) -> None:
    """An empty, backward or over-long run is refused."""
    checkpoint = Checkpoint(1, 1, VILLAGE, b"i" * 16, start, size, b"r" * 32, b"r" * 32, b"k" * 8)
    with pytest.raises(DecodeError):
        decode_checkpoint(encode_checkpoint(checkpoint))


def test_checkpoint_of_another_format_is_refused() -> None:
    """A newer checkpoint is not guessed at, and a second spelling is none."""
    raw = encode_checkpoint(written().checkpoint())
    assert decode_checkpoint(raw) == written().checkpoint()
    with pytest.raises(DecodeError):
        decode_checkpoint(encode_checkpoint(msgspec.structs.replace(written().checkpoint(), format=2)))
    with pytest.raises(DecodeError):
        decode_checkpoint(raw[:1] + b"\xcc\x01" + raw[2:])
    with pytest.raises(DecodeError):
        decode_checkpoint(raw.replace(VILLAGE.encode(), b"\xff" * 12))


def test_checkpoint_is_signed_for_one_network_by_one_key() -> None:
    """Another network, key, kind of thing, byte, suite or key name: refused."""
    signed, public = written().seal(), key_of(VILLAGE).public
    assert verify_checkpoint(signed, public, NETWORK) == written().checkpoint()
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(signed, public, OTHER)
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(signed, key_of(WEST).public, NETWORK)
    raw = signed.checkpoint
    for kind in set(keys.SignedKind) - {keys.SignedKind.CHECKPOINT}:
        with pytest.raises(SignatureInvalid):
            verify_checkpoint(Signed(raw, key_of(VILLAGE).sign(kind, NETWORK, raw)), public, NETWORK)
    for changes in ({"size": 4}, {"suite": 2}, {"root": b"r" * 32}):
        other = encode_checkpoint(msgspec.structs.replace(written().checkpoint(), **changes))
        with pytest.raises(SignatureInvalid):
            verify_checkpoint(Signed(other, signed.signature), public, NETWORK)
    renamed = msgspec.structs.replace(written().checkpoint(), key=b"anothers")
    with pytest.raises(SignatureInvalid, match="another key"):
        verify_checkpoint(log.sign_checkpoint(renamed, key_of(VILLAGE), NETWORK), public, NETWORK)


# --- change sets


@given(histories(), st.data())
def test_a_set_comes_back_byte_for_byte(made: Log, data: st.DataObject) -> None:
    """Whatever a log holds, its short form gives the same bytes, and the bodies that their headers commit to."""
    start = data.draw(st.integers(0, len(made.entries) - 1))
    came = travel(made, start)
    assert [one.raw for one in came] == [stated.entry.raw for stated in made.entries[start:]]
    assert merkle.root([one.leaf for one in came]) == made.checkpoint(start).run
    for one, stated in zip(came, made.entries[start:], strict=True):
        assert one.leaf == stated.leaf
        if one.header is not None:
            assert one.header == decode_header(stated.entry.raw)
            assert one.body == stated.entry.body


def simple_case() -> Log:
    made = Log(VILLAGE, key_of(VILLAGE), NETWORK)
    header: dict[str, Any] = {"basis": (1, b"register"), "officer": "01", "window": "1"}
    opening = made.state("open", OPENING, {"applicant": "王"}, salt=b"s" * 16, epoch=0, **header)
    place: dict[str, Any] = {"case": opening.link, "epoch": 0, **header}
    accept = made.state("accept", {}, {"reason": "齐"}, salt=b"s" * 16, prev=opening.link, **place)
    made.state("decide", {"result": "grant"}, {"reason": "准"}, salt=b"s" * 16, prev=accept.link, **place)
    return made


def test_what_can_be_recomputed_does_not_travel() -> None:
    """Inside one log neither links nor keys nor hashes are sent."""
    sent = simple_case().change_set().entries
    assert [entry.prev for entry in sent if isinstance(entry, WireEntry)] == [None, 1, 1]
    assert [entry.body_ref for entry in sent if isinstance(entry, WireEntry)] == [0, 0, 0]
    assert [entry.case for entry in sent if isinstance(entry, WireEntry)] == [None, None, None]
    packed = msgspec.msgpack.encode(sent)
    assert all(stated.link not in packed for stated in simple_case().entries)


def test_a_later_set_counts_back_into_earlier_ones() -> None:
    """A receiver is asked for exactly the earlier entries that a set names."""
    sent = simple_case().change_set(2).entries
    assert references(sent, 2) == {1}
    assert travel(simple_case(), 2)[0].salt == b"s" * 16


def entry_of(**changes: Any) -> WireEntry:
    entry = simple_case().change_set().entries[1]
    assert isinstance(entry, WireEntry)
    return msgspec.structs.replace(entry, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"prev": 0},
        {"prev": -1},
        {"prev": 2},
        {"prev": 2**64 - 1},
        {"prev": b"short"},
        {"body": None},
        {"body_ref": 1},
        {"body_ref": 2**63},
        {"prev": b"p" * 16, "case": b"c" * 16},
        {"claimed_after": -START * 2},
        {"claimed_after": 2**63},
    ],
)
def test_a_set_that_leads_nowhere_is_refused(changes: dict[str, Any]) -> None:
    """Counts, salts, bodies and times that are not there are named as such, never guessed."""
    entries = [simple_case().change_set().entries[0], entry_of(**changes)]
    assert references(entries, 0) == set()
    with pytest.raises(DecodeError):
        rebuild(simple_case().checkpoint(), entries, {})


def test_a_count_may_not_lead_to_an_entry_outside_cases() -> None:
    """Only an entry of a case gives its case to a follower."""
    made = written(1)
    follower = entry_of(prev=1)
    with pytest.raises(DecodeError, match="counts back"):
        rebuild(made.checkpoint(), [made.change_set().entries[0], follower], {})


def test_bombs_in_fields_cost_no_more_than_a_header() -> None:
    """A megabyte of empty maps in one entry's fields is refused unread."""
    bomb = msgspec.Raw(b"\x81\xa1a\xdd" + (10**6).to_bytes(4) + b"\x80" * 10**6)
    packed = one_entry(bomb)
    tracemalloc.start()
    entry = msgspec.msgpack.decode(packed, type=WireEntry)
    with pytest.raises(LimitExceeded):
        rebuild(simple_case().checkpoint(), [entry], {})
    assert tracemalloc.get_traced_memory()[1] < 3 << 20
    tracemalloc.stop()


def test_entries_over_a_bound_are_refused() -> None:
    """The bounds of headers and bodies hold in every form."""
    checkpoint = simple_case().checkpoint()
    too_long = msgspec.Raw(codec.encode({"a": "x" * limits.HEADER_BYTES_MAX}))
    wide = msgspec.Raw(codec.encode({"a": "x" * (limits.HEADER_BYTES_MAX - 10)}))
    for entry in (
        msgspec.msgpack.decode(one_entry(too_long), type=WireEntry),
        msgspec.msgpack.decode(one_entry(wide), type=WireEntry),
        msgspec.msgpack.encode((b"h" * (limits.HEADER_BYTES_MAX + 1), None)),
        msgspec.msgpack.encode((b"h", b"b" * (limits.BODY_BYTES_MAX + 1))),
    ):
        with pytest.raises(LimitExceeded):
            rebuild(checkpoint, [entry], {})
    many = ChangeSet(simple_case().seal(), [b""] * (limits.SET_ENTRIES_MAX + 1))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(many), type=ChangeSet)


@given(st.binary(max_size=60))
def test_random_bytes_as_a_whole_entry(packed: bytes) -> None:
    """An entry written whole is [bytes, bytes or nil]; all else is refused."""
    try:
        (one,) = rebuild(simple_case().checkpoint(), [packed], {})
    except TongbanError:
        return
    assert msgspec.msgpack.decode(packed)[0] == one.raw


@given(st.data())
@example(data=None)
def test_a_damaged_set_is_refused_or_shown_by_its_root(data: st.DataObject | None) -> None:
    """No changed byte in a set passes: it is refused, or the entries no longer give the signed run."""
    packed = msgspec.msgpack.encode(simple_case().change_set().entries)
    if data is None:
        packed = packed.replace(b"grant", b"gr\xffnt")
    else:
        at = data.draw(st.integers(0, len(packed) - 1))
        packed = packed[:at] + bytes([packed[at] ^ data.draw(st.integers(1, 255))]) + packed[at + 1 :]
    try:
        entries = msgspec.msgpack.decode(packed, type=list[WireEntry | bytes])
        came = rebuild(simple_case().checkpoint(), entries, {})
    except (msgspec.DecodeError, ValueError, RecursionError, TongbanError):
        return
    if merkle.root([one.leaf for one in came]) == simple_case().checkpoint().run:
        # a second spelling on the wire, or a body left out: what was signed is unchanged
        assert [one.raw for one in came] == [stated.entry.raw for stated in simple_case().entries]
        held = [stated.entry.body for stated in simple_case().entries]
        assert all(one.body in {None, body} for one, body in zip(came, held, strict=True))


def test_a_false_body_is_left_out() -> None:
    """A body that its header does not commit to never reaches the reader; the entry itself stands."""
    stated = written(1).entries[0]
    case = simple_case().entries
    false = log.encode_body({"name": "张"})
    assert read_entry(VILLAGE, stated.entry.raw, stated.entry.body).body == stated.entry.body
    assert read_entry(VILLAGE, stated.entry.raw, false).body is None
    assert read_entry(VILLAGE, case[0].entry.raw, log.encode_body({"salt": b"t" * 16, "applicant": "张"})).body is None
    whole = msgspec.msgpack.encode((stated.entry.raw, false))
    assert rebuild(written(1).checkpoint(), [whole], {})[0].body is None
    honest = entry_of(body_ref=case[1].header.body)
    lied = entry_of(body_ref=case[1].header.body, body=log.encode_body({"reason": "缺"}))
    opening = simple_case().change_set().entries[0]
    assert rebuild(simple_case().checkpoint(), [opening, honest], {})[1].body == case[1].entry.body
    assert rebuild(simple_case().checkpoint(), [opening, lied], {})[1].body is None


@pytest.mark.parametrize("whole", [False, True])
def test_an_opening_that_does_not_fit_gives_no_salt(whole: bool) -> None:
    """The salt in an opening's body counts only if the header commits to that body with it; a body without one is left out."""
    made = Log(WEST, key_of(WEST), NETWORK)
    case = made.state("open", OPENING, {"applicant": "a"}, salt=bytes(range(16)), epoch=0, basis=(1, bytes(8)))
    length = len(case.entry.body or b"")
    (good,) = made.change_set().entries
    assert isinstance(good, WireEntry)
    lies = [
        log.encode_body({"salt": bytes(16), "applicant": "a"}),
        log.encode_body({"salt": b"", "applicant": "a" * 17}),
        bytes(length),
    ]
    assert {len(lie) for lie in lies} == {length}
    for body in (case.entry.body, *lies):
        wire = msgspec.msgpack.encode((case.entry.raw, body))
        short = msgspec.structs.replace(good, body=body, body_ref=case.header.body)
        (one,) = rebuild(made.checkpoint(), [wire if whole else short], {})
        true = body == case.entry.body
        assert one.raw == case.entry.raw
        assert (one.body, one.salt) == ((body, case.salt) if true else (None, None))


def test_an_entry_in_the_name_of_another_is_opaque() -> None:
    """A right signature over an entry of another author makes it no entry of theirs."""
    foreign = written(1).entries[0].entry
    assert read_entry(WEST, foreign.raw, foreign.body).header is None
    thief = Log(WEST, key_of(WEST), NETWORK)
    packed = msgspec.msgpack.encode((foreign.raw, foreign.body))
    assert rebuild(thief.checkpoint(), [packed], {})[0].header is None


def test_whole_entries_change_nothing_for_what_follows() -> None:
    """A receiver that cannot read a newer entry still rebuilds what stands behind it."""
    made = written(1)
    made.state("future", {}, None, format=2, claimed_at=START * 2, basis=(9, b"register"))
    made.state("officer.add", {}, None, basis=(1, b"register"))
    sent = made.change_set().entries
    newer = msgspec.msgpack.encode((b"\x91\x02", None))  # as if unreadable
    came = rebuild(made.checkpoint(), [sent[0], newer, sent[2]], {})
    assert came[2].raw == made.entries[2].entry.raw


# --- bundles


def test_a_bundle_proves_its_entries() -> None:
    """Some entries of a run, each with its path, under one signature."""
    made = written(7)
    public = key_of(VILLAGE).public
    for indexes, start in (([2], 0), ([3, 6], 3), ([6], 6), ([], 0)):
        checkpoint = verify_bundle(made.bundle(indexes, start), public, NETWORK)
        assert (checkpoint.start, checkpoint.size) == (start, 7)
    assert made.bundle([6], 6).entries[0].path == ()


def test_a_bundle_that_proves_nothing_is_refused() -> None:
    """Path of another leaf, other run, index outside, entry twice, cut path, other key or network: refused."""
    made = written(7)
    public = key_of(VILLAGE).public
    good = made.bundle([2])
    entry = good.entries[0]
    replace = msgspec.structs.replace
    wrong = [
        Bundle(good.signed, (replace(entry, path=made.bundle([3]).entries[0].path),)),
        Bundle(good.signed, (replace(entry, index=3),)),
        Bundle(good.signed, (replace(entry, index=7),)),
        Bundle(good.signed, (replace(entry, path=entry.path[:-1]),)),
        Bundle(good.signed, (replace(entry, path=(*entry.path, b"x" * 32)),)),
        Bundle(good.signed, (replace(entry, raw=made.entries[3].entry.raw),)),
        Bundle(good.signed, (entry, entry)),
        Bundle(made.seal(1), (entry,)),
        Bundle(made.seal(3), (entry,)),
    ]
    for bundle in wrong:
        with pytest.raises(ProofInvalid):
            verify_bundle(bundle, public, NETWORK)
    with pytest.raises(SignatureInvalid):
        verify_bundle(good, key_of(WEST).public, NETWORK)
    with pytest.raises(SignatureInvalid):
        verify_bundle(good, public, OTHER)


def test_a_bundle_speaks_for_its_author_only() -> None:
    """An entry in another node's name is refused, though path and signature fit."""
    foreign = written(1).entries[0]
    thief = Log(WEST, key_of(WEST), NETWORK, entries=[foreign])
    with pytest.raises(ProofInvalid, match="in the name of"):
        verify_bundle(thief.bundle([0]), key_of(WEST).public, NETWORK)


def test_opaque_entries_travel_in_bundles() -> None:
    """What cannot be read names nobody, and passes."""
    made = Log(VILLAGE, key_of(VILLAGE), NETWORK)
    stated = made.state("x")
    made.entries[0] = Stated(log.Entry(b"\xc1", None), stated.header, 0, b"")
    verify_bundle(made.bundle([0]), key_of(VILLAGE).public, NETWORK)
    assert read_entry(VILLAGE, b"\xc1", None) == Rebuilt(b"\xc1", None, merkle.hash_leaf(b"\xc1"), None, None)
