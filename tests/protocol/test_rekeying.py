"""A key is replaced by both keys' signatures, or at the root by enough recovery keys; by nothing less."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, keys
from protocol.errors import DecodeError, PeerError, SignatureInvalid
from protocol.facts import NodeKey, Recovery
from protocol.rekeying import recovery_message, rotate_message, verify_recovery, verify_rotation
from tests.protocol.network import CITY, EAST, WEST, Net, key_of, recovery_fields, rotation_fields, seal_key_of

A = b"a" * 16
CLOSES = ((A, 3),)
NET = Net()
NETWORK = NET.root.network
GENESIS = NET.rules.genesis
assert GENESIS is not None


def rotation(**changes: Any) -> NodeKey:
    return msgspec.convert({**rotation_fields(NET, EAST, "old", "new", CLOSES), **changes}, NodeKey)


def recovery(**changes: Any) -> Recovery:
    given = {key: changes.pop(key) for key in ("number", "signers") if key in changes}
    return msgspec.convert({**recovery_fields(NET, "new", CLOSES, **given), **changes}, Recovery)


def test_messages_are_canonical_and_name_all_that_counts() -> None:
    """Node, both keys and the lists of what is closed; the recovery names its number instead of the old key."""
    old, new, seal_key = b"o" * 32, b"n" * 32, b"s" * 32
    assert rotate_message(EAST, old, new, seal_key, CLOSES) == codec.encode([EAST, old, new, seal_key, [[A, 3]]])
    assert recovery_message(CITY, 2, new, seal_key, CLOSES) == codec.encode([CITY, 2, new, seal_key, [[A, 3]]])


def test_a_rotation_with_both_signatures_holds() -> None:
    """The old key lets go, the new one is there."""
    verify_rotation(rotation(), EAST, NETWORK)


@pytest.mark.parametrize(
    "changes",
    [
        {"by_old": bytes(64)},
        {"by_new": bytes(64)},
        {"by_old": rotation().by_new},
        {"by_new": rotation().by_old},
        {"key": key_of("thief").public},
        {"seal_key": seal_key_of("thief")},
        {"closes": [[A, 4]]},
        {"closes": []},
        {"old": key_of("other").public},
        {"key": key_of("old").public, "by_new": rotation().by_old},
        {"key": b"\1" + b"\0" * 31},
        {"suite": 2},
    ],
)
def test_a_rotation_with_less_is_refused(changes: dict[str, Any]) -> None:
    """One signature only, swapped ones, another key, longer lists, a key that follows itself, a weak one, an unknown suite."""
    with pytest.raises(SignatureInvalid):
        verify_rotation(rotation(**changes), EAST, NETWORK)


def test_a_rotation_fits_one_node_of_one_network() -> None:
    """Neither another node's nor another network's; nor does a signature of another kind."""
    for node, network in ((WEST, NETWORK), (EAST, bytes(32))):
        with pytest.raises(SignatureInvalid):
            verify_rotation(rotation(), node, network)
    message = rotate_message(EAST, key_of("old").public, key_of("new").public, seal_key_of("new"), CLOSES)
    for kind in set(keys.SignedKind) - {keys.SignedKind.ROTATE}:
        with pytest.raises(SignatureInvalid):
            verify_rotation(rotation(by_old=key_of("old").sign(kind, NETWORK, message)), EAST, NETWORK)


def test_an_unusable_sealing_key_is_refused() -> None:
    """Nothing could be sealed for such a node."""
    fields = rotation_fields(NET, EAST, "old", "new", CLOSES)
    message = rotate_message(EAST, fields["old"], fields["key"], bytes(32), CLOSES)
    for name, signer in (("by_old", "old"), ("by_new", "new")):
        fields[name] = key_of(signer).sign(keys.SignedKind.ROTATE, NETWORK, message)
    with pytest.raises(DecodeError):
        verify_rotation(msgspec.convert({**fields, "seal_key": bytes(32)}, NodeKey), EAST, NETWORK)


@pytest.mark.parametrize("signers", [["recovery 0", "recovery 1"], ["recovery 2", "recovery 0"], ["recovery 0", "recovery 1", "recovery 2"]])
def test_enough_recovery_keys_replace_the_roots_key(signers: list[str]) -> None:
    """Any of them, in any order, from the threshold on."""
    verify_recovery(recovery(signers=signers), GENESIS, NETWORK)


@pytest.mark.parametrize(
    "signers",
    [[], ["recovery 0"], ["recovery 1"] * 2, ["recovery 0", "recovery 9"], [CITY, "recovery 0"], ["recovery 0", "recovery 1", "thief"]],
)
def test_fewer_or_other_keys_recover_nothing(signers: list[str]) -> None:
    """Below the threshold, one key twice, the root's own key, another network's recovery keys beside one of ours."""
    with pytest.raises(SignatureInvalid):
        verify_recovery(recovery(signers=signers), GENESIS, NETWORK)


@pytest.mark.parametrize("changes", [{"key": key_of("thief").public}, {"closes": [[A, 9]]}, {"proof": bytes(64)}, {"seal_key": seal_key_of("x")}])
def test_a_changed_recovery_is_refused(changes: dict[str, Any]) -> None:
    """Its keys and lists are what was signed, and the new key itself signed."""
    with pytest.raises(SignatureInvalid):
        verify_recovery(recovery(**changes), GENESIS, NETWORK)
    with pytest.raises(SignatureInvalid):
        verify_recovery(msgspec.structs.replace(recovery(), number=2), GENESIS, NETWORK)
    with pytest.raises(SignatureInvalid):
        verify_recovery(recovery(), GENESIS, bytes(32))


@given(st.sampled_from(["old", "key", "seal_key", "by_old", "by_new"]), st.integers(0, 511), st.booleans())
def test_any_flipped_bit_refuses_a_rotation(name: str, bit: int, also: bool) -> None:
    """Whatever is changed in a rotation, it holds no longer, and the refusal is one of ours."""
    value = bytearray(getattr(rotation(), name))
    value[bit // 8 % len(value)] ^= 1 << bit % 8
    changes: dict[str, Any] = {name: bytes(value), **({"closes": []} if also else {})}
    with pytest.raises(PeerError):
        verify_rotation(rotation(**changes), EAST, NETWORK)
