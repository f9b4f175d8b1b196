"""Signatures by domain, weak keys, sealing: a second Ed25519 in plain Python judges what the library makes and takes."""

from __future__ import annotations

import itertools
import json
from hashlib import sha512
from typing import TypeAlias

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from protocol import keys
from protocol.errors import DecodeError, SignatureInvalid
from protocol.keys import SealingKey, SignedKind, SigningKey
from tests.vectors.generate_primitives import FOLDER, render

NETWORK, OTHER_NETWORK = keys.sha256(b"one network"), keys.sha256(b"another network")
KEY = SigningKey(b"\x01" * 32)
SEALING = SealingKey(b"\x02" * 32)
MESSAGE = b"the bytes of a checkpoint"

# --- Ed25519 by RFC 8032, 5.1, slow and plain

Point: TypeAlias = tuple[int, int]
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
IDENTITY: Point = (0, 1)


def add(one: Point, two: Point) -> Point:
    (x1, y1), (x2, y2) = one, two
    twist = D * x1 * x2 * y1 * y2 % P
    x3 = (x1 * y2 + x2 * y1) * pow(1 + twist, -1, P)
    return x3 % P, (y1 * y2 + x1 * x2) * pow(1 - twist, -1, P) % P


def times(factor: int, point: Point) -> Point:
    total = IDENTITY
    while factor:
        if factor & 1:
            total = add(total, point)
        point, factor = add(point, point), factor >> 1
    return total


def point_of(y: int, *, odd: bool = False) -> Point:
    """Return the point with a y coordinate and a parity of x; ValueError if there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square:
        raise ValueError("not on the curve")
    return (P - x if x & 1 != odd else x) % P, y % P


def packed(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def unpacked(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    return point_of(number & (1 << 255) - 1, odd=bool(number >> 255))


def scalar(*parts: bytes) -> int:
    return int.from_bytes(sha512(b"".join(parts)).digest(), "little") % L


BASE = point_of(4 * pow(5, -1, P))


def holds(public: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether S·B = R + k·A, as RFC 8032 asks without the cofactor."""
    s = int.from_bytes(signature[32:], "little")
    right = add(unpacked(signature[:32]), times(scalar(signature[:32], public, data), unpacked(public)))
    return s < L and times(s, BASE) == right


def small_order_points() -> list[Point]:
    """Return all eight points whose order divides 8, found by multiplying points by L."""
    found: set[Point] = set()
    for y in itertools.count(2):
        try:
            torsion = times(L, point_of(y))
        except ValueError:
            continue
        found.update(times(factor, torsion) for factor in range(8))
        if len(found) == 8:
            return sorted(found)
    raise AssertionError


def weak_spellings() -> list[bytes]:
    """Return every 32 bytes that any decoder could read as a small-order point, canonical or not."""
    ys = {y for _, y in small_order_points()}
    numbers = [y for y in (*ys, *(y + P for y in ys)) if y < 2**255]
    return [(y | sign << 255).to_bytes(32, "little") for y in numbers for sign in (0, 1)]


# --- signing


def test_public_keys_are_those_of_the_rfc() -> None:
    """Seeds of RFC 8032 (7.1, test 1) and RFC 7748 (5.2, first round) give their public keys."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert SigningKey(seed).public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    public = SealingKey(b"\x09" + bytes(31)).public
    assert public.hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"


def test_vectors_are_up_to_date() -> None:
    """The file of vectors is what the generator builds."""
    assert (FOLDER / "keys.json").read_text(encoding="utf-8") == render("keys")


def test_vectors_hold_for_another_implementation() -> None:
    """Each signature covers exactly the documented bytes, by a verifier that shares no code with ours."""
    vectors = json.loads((FOLDER / "keys.json").read_text(encoding="utf-8"))
    public, network, message = (bytes.fromhex(vectors[name]) for name in ("public", "network_id", "message"))
    assert set(vectors["signatures"]) == {kind.value.decode() for kind in SignedKind}
    for kind, signature in vectors["signatures"].items():
        covered = b"tongban/1/" + kind.encode() + b"/" + network + b"\0" + message
        assert holds(public, bytes.fromhex(signature), covered)


def test_signing_is_deterministic() -> None:
    """A checkpoint that was lost after the commit is signed again with the same bytes."""
    signatures = {SigningKey(b"\x01" * 32).sign(SignedKind.CHECKPOINT, NETWORK, MESSAGE) for _ in range(3)}
    assert len(signatures) == 1


@given(st.binary(min_size=32, max_size=32), st.sampled_from(SignedKind), st.binary(max_size=100))
def test_what_is_signed_verifies(seed: bytes, kind: SignedKind, message: bytes) -> None:
    """Any key, kind and message verify; the key id is 8 bytes of a hash in its own domain."""
    key = SigningKey(seed)
    keys.verify(key.public, key.sign(kind, NETWORK, message), kind, NETWORK, message)
    assert key.id == keys.key_id(key.public) == keys.sha256(b"tongban/1/key/" + key.public)[:8]


def test_a_signature_fits_one_kind_and_one_network_only() -> None:
    """Every kind of signed thing, offered as every other and in another network, is refused."""
    for made, shown, network in itertools.product(SignedKind, SignedKind, (NETWORK, OTHER_NETWORK)):
        signature = KEY.sign(made, NETWORK, MESSAGE)
        if (made, network) == (shown, NETWORK):
            keys.verify(KEY.public, signature, shown, network, MESSAGE)
            continue
        with pytest.raises(SignatureInvalid):
            keys.verify(KEY.public, signature, shown, network, MESSAGE)


def test_domains_cannot_run_into_each_other() -> None:
    """No kind holds the bytes that end it, and none begins as another, so no input can be read in two ways."""
    kinds = [kind.value for kind in SignedKind]
    assert all(kind.isalpha() for kind in kinds)
    assert len({keys.signed_input(kind, NETWORK, MESSAGE) for kind in SignedKind}) == len(kinds)
    with pytest.raises(ValueError, match="32 bytes"):
        keys.signed_input(SignedKind.JOIN, NETWORK + b"\0", MESSAGE)


def test_another_key_or_message_is_refused() -> None:
    """A signature fits its author's key and its message only."""
    signature = KEY.sign(SignedKind.CHECKPOINT, NETWORK, MESSAGE)
    other = SigningKey(b"\x03" * 32).public
    for public, message in ((other, MESSAGE), (KEY.public, MESSAGE + b"\0"), (KEY.public, MESSAGE[1:])):
        with pytest.raises(SignatureInvalid, match="checkpoint signature"):
            keys.verify(public, signature, SignedKind.CHECKPOINT, NETWORK, message)


def test_every_flipped_bit_is_refused() -> None:
    """No bit of a signature is free."""
    signature = int.from_bytes(KEY.sign(SignedKind.HELLO, NETWORK, MESSAGE), "little")
    for bit in range(512):
        with pytest.raises(SignatureInvalid):
            keys.verify(KEY.public, (signature ^ 1 << bit).to_bytes(64, "little"), SignedKind.HELLO, NETWORK, MESSAGE)


@given(st.binary(max_size=70), st.binary(max_size=70))
def test_random_keys_and_signatures_raise_our_error_only(public: bytes, signature: bytes) -> None:
    """Whatever a peer sends as key and signature is refused by one kind of error."""
    with pytest.raises(SignatureInvalid):
        keys.verify(public, signature, SignedKind.GREET, NETWORK, MESSAGE)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_random_keys_of_the_right_length_raise_our_error_only(public: bytes, signature: bytes) -> None:
    """Points off the curve and wild scalars are refused by the same error."""
    with pytest.raises(SignatureInvalid):
        keys.verify(public, signature, SignedKind.GREET, NETWORK, MESSAGE)


def test_an_unknown_suite_is_refused() -> None:
    """A suite that this program does not have verifies nothing and enrols nothing."""
    signature = KEY.sign(SignedKind.CHECKPOINT, NETWORK, MESSAGE)
    with pytest.raises(SignatureInvalid, match="suite 2"):
        keys.verify(KEY.public, signature, SignedKind.CHECKPOINT, NETWORK, MESSAGE, suite=2)
    with pytest.raises(SignatureInvalid, match="suite 2"):
        keys.check_public(KEY.public, suite=2)


# --- keys and signatures made to deceive


def test_the_small_order_points_are_eight() -> None:
    """The search is complete: eight points, and every spelling of them is among those tried below."""
    points = small_order_points()
    assert all(times(8, point) == IDENTITY for point in points)
    assert {packed(point) for point in points} <= set(weak_spellings())


def test_a_small_order_key_is_never_enrolled() -> None:
    """All spellings of the eight weak points are refused, at enrolment and when verifying."""
    for public in weak_spellings():
        with pytest.raises(SignatureInvalid, match="small order"):
            keys.check_public(public)
        with pytest.raises(SignatureInvalid, match="small order"):
            keys.verify(public, packed(IDENTITY) + bytes(32), SignedKind.CHECKPOINT, NETWORK, MESSAGE)


def test_one_signature_for_all_messages_is_refused() -> None:
    """Under the identity as key, R = identity and S = 0 fit every message: the library accepts it, we do not."""
    public, signature = packed(IDENTITY), packed(IDENTITY) + bytes(32)
    for message in (b"grant", b"deny"):
        covered = keys.signed_input(SignedKind.CHECKPOINT, NETWORK, message)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, covered)  # the trap is real
        with pytest.raises(SignatureInvalid):
            keys.verify(public, signature, SignedKind.CHECKPOINT, NETWORK, message)


def test_a_second_spelling_of_a_key_is_refused() -> None:
    """Two numbers, y and y + p, name one point; only the canonical one may be enrolled."""
    for y in range(P, 2**255):
        for sign in (0, 1):
            with pytest.raises(SignatureInvalid):
                keys.check_public((y | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    """A public key has 32 bytes."""
    with pytest.raises(SignatureInvalid, match="32 bytes"):
        keys.check_public(bytes(length))


def test_a_signature_has_one_spelling() -> None:
    """S + L would verify too if it were not refused; so one checkpoint has one signature."""
    signature = KEY.sign(SignedKind.CHECKPOINT, NETWORK, MESSAGE)
    s = int.from_bytes(signature[32:], "little")
    for wrong in (s + L, s + 2 * L, s | 1 << 255):
        forged = signature[:32] + wrong.to_bytes(32, "little")
        with pytest.raises(SignatureInvalid):
            keys.verify(KEY.public, forged, SignedKind.CHECKPOINT, NETWORK, MESSAGE)


def test_a_key_with_a_hidden_small_part_fits_no_second_message() -> None:
    """A key plus a small-order point (speccheck cases) may sign, but never gives one signature for two messages."""
    secret = 0x1234567890ABCDEF
    public = packed(add(times(secret, BASE), small_order_points()[3]))
    keys.check_public(public)
    accepted = 0
    for number in range(32):
        message = bytes([number])
        once = times(number + 1, BASE)
        covered = keys.signed_input(SignedKind.CHECKPOINT, NETWORK, message)
        s = (number + 1 + scalar(packed(once), public, covered) * secret) % L
        signature = packed(once) + s.to_bytes(32, "little")
        good = holds(public, signature, covered)
        try:
            keys.verify(public, signature, SignedKind.CHECKPOINT, NETWORK, message)
        except SignatureInvalid:
            assert not good
            continue
        assert good
        accepted += 1
        with pytest.raises(SignatureInvalid):
            keys.verify(public, signature, SignedKind.CHECKPOINT, NETWORK, message + b"\0")
    assert 0 < accepted < 32  # the check without cofactor: about one in the order of the small part


# --- what we get wrong ourselves


@pytest.mark.parametrize("length", [0, 31, 33])
def test_seeds_entropy_and_network_ids_have_32_bytes(length: int) -> None:
    """A wrong length of what we draw or hold ourselves is a programmer error."""
    for wrong in (
        lambda: SigningKey(bytes(length)),
        lambda: SealingKey(bytes(length)),
        lambda: keys.seal(SEALING.public, b"", bytes(length)),
        lambda: KEY.sign(SignedKind.HELLO, bytes(length), b""),
        lambda: keys.verify(KEY.public, bytes(64), SignedKind.HELLO, bytes(length), b""),
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            wrong()


def test_private_keys_do_not_show_themselves() -> None:
    """What lands in a log or a traceback names the key and not the seed."""
    for shown in (repr(KEY), str(KEY), repr(SEALING), str(SEALING)):
        assert ("01" * 8) not in shown
        assert ("02" * 8) not in shown
        assert "\\x0" not in shown
    assert KEY.id.hex() in repr(KEY)


# --- sealing


@given(st.binary(max_size=300), st.binary(min_size=32, max_size=32), st.binary(max_size=40))
def test_what_is_sealed_opens(plaintext: bytes, entropy: bytes, aad: bytes) -> None:
    """The holder of the key reads what was sealed, which is 48 bytes longer."""
    sealed = keys.seal(SEALING.public, plaintext, entropy, aad)
    assert SEALING.open(sealed, aad) == plaintext
    assert len(sealed) == len(plaintext) + keys.SEAL_OVERHEAD_BYTES


def test_sealed_vectors_open() -> None:
    """The sealed message of the vectors opens with its seed."""
    vector = json.loads((FOLDER / "keys.json").read_text(encoding="utf-8"))["seal"]
    parts = {name: bytes.fromhex(text) for name, text in vector.items()}
    assert SealingKey(parts["seed"]).open(parts["sealed"], parts["aad"]) == parts["plaintext"]


def test_only_the_addressee_opens_and_only_unchanged() -> None:
    """Another key, other aad, a flipped bit anywhere or a missing byte are refused."""
    sealed = keys.seal(SEALING.public, b"name and id", b"e" * 32, b"carry")
    refused = [
        (SealingKey(b"\x04" * 32), sealed, b"carry"),
        (SEALING, sealed, b""),
        (SEALING, sealed + b"\0", b"carry"),
    ]
    # The top bit of an X25519 key is ignored by the curve, but it is in the salt.
    refused += [
        (SEALING, bytes([*sealed[:at], sealed[at] ^ 128, *sealed[at + 1 :]]), b"carry") for at in range(len(sealed))
    ]
    refused += [(SEALING, sealed[:size], b"carry") for size in range(len(sealed))]
    for key, data, aad in refused:
        with pytest.raises(DecodeError):
            key.open(data, aad)


@given(st.binary(max_size=120))
def test_random_sealed_bytes_raise_our_error_only(data: bytes) -> None:
    """Whatever arrives as sealed is refused by one kind of error."""
    with pytest.raises(DecodeError):
        SEALING.open(data)


def test_entropy_used_twice_gives_two_keys() -> None:
    """A broken source of entropy does not let two texts share a key: the one-time keys differ."""
    texts = [(b"one", b""), (b"two", b""), (b"one", b"aad")]
    once = {keys.seal(SEALING.public, text, b"e" * 32, aad)[:32] for text, aad in texts}
    assert len(once) == len(texts)


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_a_sealing_key_that_makes_no_secret_is_refused(public: bytes) -> None:
    """Points with which every secret is zero, and wrong lengths, are refused at enrolment and when sealing."""
    with pytest.raises(DecodeError):
        keys.check_sealing_public(public)
    with pytest.raises(DecodeError):
        keys.seal(public, b"text", b"e" * 32)
    with pytest.raises(DecodeError):
        SEALING.open(public + bytes(40))


# --- under a passphrase


def test_a_piece_opens_at_its_place_with_its_key_only() -> None:
    """Another passphrase, salt, place or mark of the end, a changed or cut piece: refused as ours."""
    key = keys.passphrase_key("eine lange Passphrase", b"s" * 16)
    sealed = keys.seal_piece(key, 3, b"piece", last=True)
    assert len(sealed) == 5 + keys.PIECE_OVERHEAD_BYTES
    assert keys.open_piece(key, 3, sealed) == (b"piece", True)
    assert keys.open_piece(key, 3, keys.seal_piece(key, 3, b"piece", last=False)) == (b"piece", False)
    others = [keys.passphrase_key("eine lange Passphrasf", b"s" * 16), keys.passphrase_key("eine lange Passphrase", b"t" * 16)]
    for other, index, piece in [*((one, 3, sealed) for one in others), (key, 2, sealed), (key, 3, sealed[:-1]), (key, 3, b""), (key, 3, b"x" + sealed[1:])]:
        with pytest.raises(DecodeError):
            keys.open_piece(other, index, piece)
