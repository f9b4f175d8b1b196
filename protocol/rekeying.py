"""How a key is replaced: by itself and its successor (rotation), or, at the root, by the recovery keys of the genesis.

Both facts prove themselves: nothing but the old key (or the genesis) is needed to check them, wherever they stand. They name
the *logs that the old key closes*, with their sizes: a thief of the old key can neither lengthen these lists nor state
another successor without the new key.

The normative text is docs/PROTOCOL.md, section 9.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol import codec, keys
from protocol.errors import SignatureInvalid
from protocol.facts import Genesis, NodeKey, Recovery


def rotate_message(node: str, old: bytes, key: bytes, seal_key: bytes, closes: Iterable[tuple[bytes, int]]) -> bytes:
    """Return what the old and the new key of a node sign."""
    return codec.encode([node, old, key, seal_key, [[incarnation, size] for incarnation, size in closes]])


def recovery_message(
    node: str, number: int, key: bytes, seal_key: bytes, closes: Iterable[tuple[bytes, int]]
) -> bytes:
    """Return what recovery keys and the root's new key sign."""
    return codec.encode([node, number, key, seal_key, [[incarnation, size] for incarnation, size in closes]])


def verify_rotation(fields: NodeKey, node: str, network: bytes) -> None:
    """Check that both keys signed a rotation, and that the new one may be used.

    Raises:
        SignatureInvalid: one did not, or the new key is weak. DecodeError: the new sealing key is unusable.
    """
    keys.check_public(fields.key, suite=fields.suite)
    keys.check_sealing_public(fields.seal_key)
    message = rotate_message(node, fields.old, fields.key, fields.seal_key, fields.closes)
    if fields.key == fields.old:
        raise SignatureInvalid("a key cannot follow itself")
    for public, signature in ((fields.old, fields.by_old), (fields.key, fields.by_new)):
        keys.verify(public, signature, keys.SignedKind.ROTATE, network, message)


def verify_recovery(fields: Recovery, genesis: Genesis, network: bytes) -> None:
    """Check that enough recovery keys of the genesis signed for the root's new key, and that key itself.

    Raises:
        SignatureInvalid: too few, one that the genesis does not have, one twice, a wrong signature, a weak key.
        DecodeError: the new sealing key is unusable.
    """
    keys.check_public(fields.key, suite=fields.suite)
    keys.check_sealing_public(fields.seal_key)
    message = recovery_message(genesis.node, fields.number, fields.key, fields.seal_key, fields.closes)
    signers = [public for public, _ in fields.signatures]
    if len(set(signers)) < len(signers) or not set(signers) <= set(genesis.recovery):
        raise SignatureInvalid("a recovery is signed by a key that the genesis does not name, or by one twice")
    if len(signers) < genesis.threshold:
        raise SignatureInvalid(f"a recovery needs {genesis.threshold} recovery keys; {len(signers)} signed")
    for public, signature in ((fields.key, fields.proof), *fields.signatures):
        keys.verify(public, signature, keys.SignedKind.RECOVERY, network, message)
