"""Bytes that are almost right: signatures for another thing, spellings, numbers at their ends, decoders that might disagree, newer words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.ledger import Draft
from node.store.database import Connection
from protocol import codec, keys, limits, messages
from protocol.errors import SignatureInvalid
from protocol.keys import SignedKind
from protocol.log import LogId, Signed, decode_checkpoint, encode_checkpoint
from tests.attacks.scene import Scene, key_of, scene, states
from tests.hub.calling import Caller, city_and_child, dump
from tests.node.building import EAST, hire, opened, show
from tests.protocol.test_codec import reference_takes, takes
from tests.protocol.test_keys import (
    BASE,
    IDENTITY,
    KEY,
    MESSAGE,
    NETWORK,
    L,
    P,
    add,
    holds,
    packed,
    scalar,
    small_order_points,
    times,
)

CASES = 20_000
DEEP_CASES = 1_000_000


@pytest.fixture
async def child(tmp_path: Path) -> Caller:
    """A child that has logged in and has a case to push."""
    caller = await city_and_child(tmp_path)
    await opened(await hire(caller.node))
    return caller


# --- C01


def test_the_one_verifier_is_strict_about_every_part_of_a_signature() -> None:
    """C01: small-order and re-spelled R and A, S of 0, L and above, and honest ones: taken exactly when the strict rule takes them."""
    weak = small_order_points()
    spelled = {packed(point) for point in weak}
    secret, nonce = 0x1234567890ABCDEF, 0x77
    honest = times(secret, BASE)
    publics = [packed(honest), *(packed(point) for point in weak[:4]), *(packed(add(honest, point)) for point in weak[1:3]), _respelled(IDENTITY)]
    commitments = [packed(times(nonce, BASE)), *(packed(point) for point in weak[:2]), _respelled(IDENTITY)]
    verdicts = {True: 0, False: 0}
    covered = keys.signed_input(SignedKind.CHECKPOINT, NETWORK, MESSAGE)
    for public in publics:
        for once in commitments:
            s = (nonce + scalar(once, public, covered) * secret) % L
            for number in (s, s + L, 0, L):
                signature = once + number.to_bytes(32, "little")
                strict = public not in spelled and _is_canonical(public) and _is_canonical(once) and holds(public, signature, covered)
                assert _taken(public, signature) is strict
                verdicts[strict] += 1
    assert verdicts[True] >= 1
    assert verdicts[False] > 80


def _respelled(point: tuple[int, int]) -> bytes:
    """Return the second spelling of a point: y + p."""
    return (point[1] + P).to_bytes(32, "little")


def _is_canonical(data: bytes) -> bool:
    return int.from_bytes(data, "little") & (1 << 255) - 1 < P


def _taken(public: bytes, signature: bytes) -> bool:
    try:
        keys.verify(public, signature, SignedKind.CHECKPOINT, NETWORK, MESSAGE)
    except SignatureInvalid:
        return False
    return True


# --- C02


@pytest.mark.parametrize("kind", list(SignedKind))
async def test_a_signature_for_another_thing_or_network_opens_nothing(child: Caller, kind: SignedKind) -> None:
    """C02: every kind of signature, of this network and of another, where a login and a checkpoint are asked for: only the right one passes."""
    identity = child.node.ledger.identity
    push = await child.next_push()
    raw = push.sets[0].signed.checkpoint
    for network in (identity.network, bytes(32)):
        if (kind, network) != (SignedKind.HELLO, identity.network):
            greeting = await child.ask("greet", child.greet(), messages.Greeting)
            proof = messages.login_text(EAST, greeting.challenge, child.hub.certificate)
            await child.refused("login", child.login_to(greeting, signature=identity.key.sign(kind, network, proof)), "signature")
        if (kind, network) != (SignedKind.CHECKPOINT, identity.network):
            signed = Signed(raw, identity.key.sign(kind, network, raw))
            first = msgspec.structs.replace(push.sets[0], signed=signed)
            await child.refused("push", msgspec.structs.replace(push, sets=(first,), head=None), "signature")
    await child.push(push)


def test_our_own_key_signs_what_the_table_tries() -> None:
    """C02: the signatures above fail for their kind, not because they are none."""
    for kind in SignedKind:
        keys.verify(KEY.public, KEY.sign(kind, NETWORK, MESSAGE), kind, NETWORK, MESSAGE)


# --- C05


def test_two_decoders_never_disagree(request: pytest.FixtureRequest) -> None:
    """C05: whatever is done to messages, the reader in C and the pure one give one verdict and one value; a million with --deep."""
    draw = random.Random(20_261_121)
    goods = [codec.encode(_value(draw, 3)) for _ in range(300)]
    taken = 0
    count = DEEP_CASES if request.config.getoption("--deep") else CASES
    for _ in range(count):
        data = _twisted(draw, draw.choice(goods))
        verdict = takes(data)
        assert verdict == reference_takes(data), data.hex()
        taken += verdict
    assert count // 100 < taken < count


def _value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(8 if depth else 6)
    match kind:
        case 0:
            return draw.choice((None, True, False))
        case 1 | 2:
            return draw.choice((draw.randrange(-40, 200), 1 << draw.randrange(64), -(1 << draw.randrange(63)), (1 << draw.randrange(1, 65)) - 1))
        case 3 | 4:
            return "".join(draw.choice("ab字🀄\0") for _ in range(draw.randrange(40)))
        case 5:
            return draw.randbytes(draw.randrange(40))
        case 6:
            return [_value(draw, depth - 1) for _ in range(draw.randrange(5))]
        case _:
            return {draw.choice("abcdefgh字"): _value(draw, depth - 1) for _ in range(draw.randrange(5))}


def _twisted(draw: random.Random, good: bytes) -> bytes:
    """Return a message with bytes exchanged, taken out, doubled or put in; often with marks of the format."""
    data = bytearray(good)
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0:
                data[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                del data[place : place + draw.randrange(1, 4)]
            case 2:
                data[place:place] = data[place : place + draw.randrange(1, 6)]
            case 3:
                data[place:place] = bytes([draw.choice((0xC0, 0xC4, 0xCA, 0xCB, 0xCC, 0xD4, 0xD9, 0xDC, 0xDE, 0x80, 0x90, 0xA1, 0xC1))])
            case _:
                pass
    return bytes(data)


# --- C06


async def test_newer_words_pass_through_an_older_hub(tmp_path: Path) -> None:
    """C06: an entry of a type and with fields that nobody here knows is kept and handed on byte for byte; its hash and proofs stand."""
    made: Scene = await scene(tmp_path)
    note = Draft("note", made.east.clock.wall_ms(), {"mood": {"of": ["tomorrow"]}}, {"text": "x"}, case=made.key, epoch=0, prev=made.key)
    newer = Draft("hologram", made.east.clock.wall_ms(), {"beam": 7}, case=made.key, epoch=0, prev=made.key)
    await states(made.east, note, newer)
    pages = await made.everywhere()
    rows = [await one.read(lambda conn: _raws_of(conn, made.key)) for one in (made.east, made.city, made.west)]
    assert rows[0] == rows[1] == rows[2]
    assert [(one["type"], one["effect"], one["reason"]) for one in pages[1]["timeline"][1:]] == [
        ("note", "applied", None),
        ("hologram", "waiting", "newer_program"),
    ]
    assert (await show(made.west, made.case))["digest"] == pages[1]["digest"]
    for one in (made.east, made.city, made.west):
        await one.close()


def _raws_of(conn: Connection, key: bytes) -> list[bytes]:
    rows = conn.execute("SELECT e.raw FROM entries e JOIN cases c ON c.id = e.case_id WHERE c.key = ?", (key,)).fetchall()
    return sorted(row[0] for row in rows)


async def test_messages_with_unknown_fields_are_read(child: Caller) -> None:
    """C06: a newer program says more in a message: what is known is read, the rest is passed over."""
    greeting = msgspec.to_builtins(child.greet(), builtin_types=(bytes,)) | {"mood": [1, {"a": None}]}
    body = codec.compress(msgspec.msgpack.encode(greeting))
    assert (await child.send("greet", body)).status == 200


# --- C08

ENDS = (2**31, 2**32, 2**48 + 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.mark.parametrize("number", ENDS)
async def test_numbers_at_their_ends_are_refused_or_answered(child: Caller, number: int) -> None:
    """C08: sizes, starts, cursors and spans of 2^31 to 2^64: refused by name or answered, never a failure, nothing written."""
    log = child.node.ledger.identity.log
    before = await dump(child.hub.node)
    for name, ask in {
        "fetch": messages.Fetch("log", log, number),
        "pull": messages.Pull(messages.Cursors(number, number, b"", number), number),
        "wait": messages.Wait(messages.Cursors(number, number, bytes(16), number), 0),
        "hello": messages.Hello(bytes(32), LogId("9" * 12, bytes(16))),
    }.items():
        answer = await child.send(name, ask)
        assert answer.status != 500, (name, number)
    assert await dump(child.hub.node) == before


@pytest.mark.parametrize("number", ENDS)
async def test_a_checkpoint_of_an_absurd_size_is_refused(child: Caller, number: int) -> None:
    """C08: a signed head over more leaves than a log may have, or over a run that cannot be: refused, bounded."""
    identity, push = child.node.ledger.identity, await child.next_push()
    honest = decode_checkpoint(push.sets[0].signed.checkpoint)
    for fields in ({"size": number}, {"start": number, "size": number + 1}, {"start": number - 1, "size": number}):
        try:
            raw = encode_checkpoint(msgspec.structs.replace(honest, **fields))
        except (ValueError, OverflowError):
            continue  # no such bytes
        signed = Signed(raw, identity.key.sign(SignedKind.CHECKPOINT, identity.network, raw))
        first = msgspec.structs.replace(push.sets[0], signed=signed)
        answer = await child.send("push", msgspec.structs.replace(push, sets=(first,), head=None))
        assert answer.status in {400, 409, 413}, fields
        head = await child.send("push", msgspec.structs.replace(push, head=signed))
        assert head.status in {200, 400, 409, 413}
    assert limits.LOG_SIZE_MAX < 2**48 + 1


async def test_an_entry_that_names_itself_or_what_is_to_come_hangs_nowhere(child: Caller) -> None:
    """C08: a predecessor that is the entry itself cannot be written; one that does not exist waits; neither grows without bound."""
    case = await opened(child.node, "乙")
    key = await key_of(child.node, case)
    nowhere = Draft("accept", child.node.clock.wall_ms(), {}, case=key, epoch=0, prev=b"\xff" * 16)
    await states(child.node, nowhere)
    await child.push()
    page = await show(child.hub.node, case)
    assert [(one["type"], one["effect"], one["reason"]) for one in page["timeline"]] == [
        ("open", "applied", None),
        ("accept", "waiting", "prev_missing"),
    ]
    assert page["state"] == "received"
