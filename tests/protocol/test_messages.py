"""Messages come back as they were said; everything else is refused within bounds; versions are agreed on."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, keys, limits, messages
from protocol.errors import DecodeError, LimitExceeded, TongbanError, VersionUnsupported
from protocol.log import LogId
from protocol.messages import Head, Held, Message
from tests.protocol.network import CITY, EAST, VILLAGE, Net, city

H, L, S, ID = b"h" * 32, b"l" * 16, b"s" * 64, LogId(VILLAGE, b"i" * 16)


def samples() -> list[Message]:
    """Return one of every kind of message, with everything in it."""
    net: Net = city()
    log = net.root
    bundle, change = log.bundle([0]), log.change_set()
    cursors = messages.Cursors(-1, 3, b"i" * 16, 9)
    return [
        messages.Greet((1, 2), H, VILLAGE, H, chain=True),
        messages.Greeting(1, messages.CAPABILITIES, H, CITY, H, S, (bundle,)),
        messages.Login(VILLAGE, H, H, S, "tongban 1"),
        messages.Session(L, 600, 1),
        messages.Hello(H, ID, (change.signed,), 3),
        messages.HelloReply(False, 1, (Head(ID, 3, H),), True, (bundle,), (Held(ID, 2),), 1),
        messages.Give((change.signed,), (messages.RegisterNews(1, bundle, (bundle,)),), (bundle,), more=True),
        messages.GiveReply(3),
        messages.Push((change,), change.signed),
        messages.PushReply((Held(ID, 3),), bundle, (bundle,)),
        messages.Pull(cursors, 1000),
        messages.PullReply(
            cursors,
            (messages.RegisterNews(1, bundle, (bundle,)),),
            ((H, b"text"),),
            (bundle,),
            (bundle,),
            more=True,
        ),
        messages.Wait(cursors, 10),
        messages.WaitReply(news=True, now=1, receipts=(bundle,)),
        messages.Fetch("log", ID, 3, L, EAST),
        messages.FetchReply((change,), (bundle,), b"body", more=True),
        messages.JoinAsk(H, VILLAGE, H),
        messages.JoinChallenge(H, CITY, S, (bundle,)),
        messages.Join(H, VILLAGE, H, H, H, H, H, S),
        messages.JoinReply((bundle,), CITY),
        messages.Refusal("gap", "文", "做", retryable=True, held=(Held(ID, 3),)),
    ]


SAMPLES = samples()
KINDS = [type(one) for one in SAMPLES]


def test_every_kind_is_sampled() -> None:
    """No message escapes these tests."""
    known = {
        one
        for one in vars(messages).values()
        if isinstance(one, type) and issubclass(one, Message) and one is not Message
    }
    assert set(KINDS) == known


@pytest.mark.parametrize("message", SAMPLES, ids=lambda one: type(one).__name__)
def test_a_message_comes_back(message: Message) -> None:
    """Bytes give the message, and a newer program's further keys are passed over."""
    again = messages.decode(messages.encode(message), type(message))
    assert again == message
    said = msgspec.msgpack.decode(codec.decompress(messages.encode(message), bytes_max=limits.MESSAGE_BYTES_MAX))
    said["later"] = [1, {"x": 2.5}]
    assert messages.decode(codec.compress(msgspec.msgpack.encode(said)), type(message)) == message


@given(st.sampled_from(SAMPLES), st.data())
def test_damaged_messages_are_refused_as_ours(message: Message, data: st.DataObject) -> None:
    """Changed, cut or foreign bytes, inside and outside the frame: a message or an error of ours."""
    raw = msgspec.msgpack.encode(message)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw = data.draw(
        st.sampled_from(
            [raw[:at], raw[:at] + b"\xff" + raw[at + 1 :], raw[:at] + data.draw(st.binary(max_size=9)), raw + b"\0"]
        )
    )
    kind = data.draw(st.sampled_from(KINDS))
    for packed in (codec.compress(raw or b"\0"), messages.encode(message)[:at], raw):
        try:
            found = messages.decode(packed, kind)
        except TongbanError:
            continue
        assert isinstance(found, kind)


@given(st.binary(max_size=200), st.sampled_from(KINDS))
def test_random_bytes_are_no_message(raw: bytes, kind: type[Message]) -> None:
    """Random bytes are no frame, and in a frame no message unless every key may be absent."""
    with pytest.raises(DecodeError):
        messages.decode(raw, kind)
    try:
        messages.decode(codec.compress(raw or b"\0"), kind)
    except DecodeError:
        return
    assert kind is messages.FetchReply


NESTED = b"\x91" * 100_000 + b"\x90"
EMPTY_MAPS = b"\xdd" + (1_000_000).to_bytes(4) + b"\x80" * 1_000_000
CLAIMED = b"\xdd\xff\xff\xff\xff"


@pytest.mark.parametrize("bomb", [NESTED, EMPTY_MAPS, CLAIMED, b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.__name__)
def test_bombs_cost_little(kind: type[Message], bomb: bytes) -> None:
    """Deep, wide or boastful values, under an unknown key or in the place of every known one, are refused cheaply."""
    places = [b"\x81\xa1z" + bomb, bomb]
    places += [b"\x81" + msgspec.msgpack.encode(name) + bomb for name in kind.__struct_encode_fields__]
    for raw in places:
        packed = codec.compress(raw)
        tracemalloc.start()
        try:
            messages.decode(packed, kind)
        except TongbanError:
            pass
        else:
            assert kind in {messages.FetchReply, messages.Give}  # all its keys may be absent: the bomb was passed over unread
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 << 20


def test_a_message_has_a_bound() -> None:
    """At most a megabyte unpacked, both ways; a frame that states more is refused before it is unpacked."""
    with pytest.raises(LimitExceeded):
        messages.encode(messages.FetchReply(body=b"x" * limits.MESSAGE_BYTES_MAX))
    with pytest.raises(LimitExceeded):
        messages.decode(codec.compress(b"\0" * (limits.MESSAGE_BYTES_MAX + 1)), messages.FetchReply)
    fits = messages.FetchReply(body=b"x" * (limits.MESSAGE_BYTES_MAX - 20))
    assert messages.decode(messages.encode(fits), messages.FetchReply) == fits


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (messages.Wait, {"span_s": 301}),
        (messages.Wait, {"span_s": -1}),
        (messages.Pull, {"cursors": [-2, 0, b"", 0]}),
        (messages.Pull, {"cursors": [2**63, 0, b"", 0]}),
        (messages.Pull, {"cursors": [0, 2**64 - 1, b"", 0]}),
        (messages.Pull, {"cursors": [0, 0, b"x" * 17, 0]}),
        (messages.Pull, {"cursors": [0, 0, b"", -1]}),
        (messages.Pull, {"bytes_max": -1}),
        (messages.Greet, {"versions": list(range(limits.LISTED_MAX + 1))}),
        (messages.Greet, {"versions": [1.0]}),
        (messages.Greet, {"challenge": b"short"}),
        (messages.Login, {"signature": b"short"}),
        (messages.Hello, {"after": [VILLAGE, b"short"]}),
        (messages.Fetch, {"start": 2**63}),
        (messages.Fetch, {"what": "x" * 201}),
        (messages.Push, {"sets": None}),
    ],
)
def test_each_value_has_its_bound(kind: type[Message], changes: dict[str, Any]) -> None:
    """Nothing that a store or a clock could not take gets past the door."""
    good = msgspec.msgpack.decode(msgspec.msgpack.encode(SAMPLES[KINDS.index(kind)]))
    with pytest.raises(DecodeError):
        messages.decode(codec.compress(msgspec.msgpack.encode({**good, **changes})), kind)


def test_bad_text_is_refused() -> None:
    """A text that is no UTF-8 is a decode error like any other."""
    raw = msgspec.msgpack.encode(messages.JoinAsk(H, VILLAGE, H)).replace(VILLAGE.encode(), b"\xff" * 12)
    with pytest.raises(DecodeError):
        messages.decode(codec.compress(raw), messages.JoinAsk)


# --- agreeing


@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_the_highest_common_version_is_chosen(theirs: list[int]) -> None:
    """Both sides speak it, or they part with a clear word."""
    common = set(theirs) & set(messages.VERSIONS)
    if common:
        assert messages.choose_version(tuple(theirs)) == max(common)
        return
    with pytest.raises(VersionUnsupported) as caught:
        messages.choose_version(tuple(theirs))
    assert len(str(caught.value)) < 300


@given(
    st.lists(
        st.builds(
            Head,
            st.builds(LogId, st.sampled_from([EAST, VILLAGE]), st.binary(min_size=16, max_size=16)),
            st.integers(0, 9),
            st.just(H),
        ),
        max_size=6,
    )
)
def test_a_digest_hangs_on_heads_not_on_their_order(heads: list[Head]) -> None:
    """The same heads in any order give the same digest; one more entry gives another."""
    heads = list({head.log: head for head in heads}.values())
    assert messages.digest(heads) == messages.digest(reversed(heads))
    if heads:
        grown = [msgspec.structs.replace(heads[0], size=heads[0].size + 1), *heads[1:]]
        assert messages.digest(grown) != messages.digest(heads)


def test_texts_to_sign_bind_both_sides() -> None:
    """Child, both challenges, certificate and hub; nothing can be exchanged, and no text passes for another kind."""
    greeting = [VILLAGE, b"a" * 32, b"b" * 32, b"c" * 32, CITY]
    seen = {messages.greeting_text(*greeting)}  # type: ignore[arg-type]
    for at in range(5):
        other = [*greeting[:at], EAST if at in (0, 4) else b"x" * 32, *greeting[at + 1 :]]
        seen.add(messages.greeting_text(*other))  # type: ignore[arg-type]
    seen |= {messages.login_text(VILLAGE, b"a" * 32, b"c" * 32), messages.login_text(VILLAGE, b"a" * 32, b"d" * 32)}
    assert len(seen) == 8
    assert keys.SignedKind.GREET is not keys.SignedKind.HELLO
