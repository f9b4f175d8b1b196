"""Merkle trees over logs: roots, proofs and compact ranges.

Hashing of RFC 9162, 2.1: a leaf is SHA-256(0x00 ‖ bytes), an inner node SHA-256(0x01 ‖ left ‖ right), so neither can
pass for the other. All functions except `hash_leaf` work on leaf *hashes* of 32 bytes. Trees are built level by level,
the last node of an odd level going up unchanged; that gives the tree of the RFC at one hash a leaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias

from protocol.errors import DecodeError, ProofInvalid
from protocol.limits import LOG_SIZE_MAX, PROOF_HASHES_MAX

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

Proof: TypeAlias = "tuple[bytes, ...]"


# --- hashing


def hash_leaf(data: bytes) -> bytes:
    """Return the hash of one leaf's bytes."""
    return sha256(b"\x00" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two nodes."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes; `EMPTY_ROOT` for none."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = leaf_hashes
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def _parents(level: Sequence[bytes]) -> list[bytes]:
    """Return the next level; an odd last node goes up as it is."""
    parents = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
    if len(level) & 1:
        parents.append(level[-1])
    return parents


def _levels(leaf_hashes: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Return all levels, leaves first; node k of level j covers leaves [k·2^j, (k+1)·2^j), cut at the end."""
    levels = [leaf_hashes]
    while len(levels[-1]) > 1:
        levels.append(_parents(levels[-1]))
    return levels


# --- inclusion


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> Proof:
    """Return the siblings from one leaf up to the root, leaf level first.

    Raises:
        IndexError: no such leaf.
    """
    return paths(leaf_hashes, (index,))[0]


def paths(leaf_hashes: Sequence[bytes], indexes: Iterable[int]) -> list[Proof]:
    """Return the inclusion proofs of several leaves; the levels are computed once.

    Raises:
        IndexError: no such leaf.
    """
    levels = _levels(leaf_hashes)
    return [_path(levels, index) for index in indexes]


def _path(levels: list[Sequence[bytes]], index: int) -> Proof:
    if not 0 <= index < len(levels[0]):
        raise IndexError(f"leaf {index} of {len(levels[0])}")
    siblings = []
    for level in levels[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            siblings.append(level[sibling])
        index >>= 1
    return tuple(siblings)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the tree of `size` leaves with this root holds a leaf at an index.

    Args:
        leaf_hash: 32 bytes, from `hash_leaf`.
        index: zero-based; below `size`.
        size: leaves of the tree, 1 or more.
        proof: sibling hashes of 32 bytes, leaf level first.
        root: 32 bytes, from a verified checkpoint.

    Raises:
        ProofInvalid: wrong length, index out of range, or root mismatch.

    Source: RFC 9162, 2.1.3.2.
    """
    _check_proof(proof, (leaf_hash, root), size)
    if not 0 <= index < size:
        raise ProofInvalid(f"A proof is for leaf {index} of a tree of {size}.")
    node, last, here = index, size - 1, leaf_hash
    for sibling in proof:
        if not last:
            raise ProofInvalid("An inclusion proof is too long.")
        if node & 1 or node == last:
            here = hash_children(sibling, here)
            node, last = _skip_edge(node, last)
        else:
            here = hash_children(here, sibling)
        node, last = node >> 1, last >> 1
    if last or here != root:
        raise ProofInvalid("An inclusion proof does not lead to the root.")


# --- consistency


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> Proof:
    """Return the nodes that show the first `old_size` leaves to be the start of this tree; none for 0 or all.

    Raises:
        ValueError: `old_size` is not within the tree.

    Source: RFC 9162, 2.1.4.1.
    """
    if not 0 <= old_size <= len(leaf_hashes):
        raise ValueError(f"size {old_size} of a tree of {len(leaf_hashes)}")
    if old_size in (0, len(leaf_hashes)):
        return ()
    levels, depth = _levels(leaf_hashes), 0
    node, last = old_size - 1, len(leaf_hashes) - 1
    while node & 1:  # up to the largest whole subtree at the end of the old tree
        node, last, depth = node >> 1, last >> 1, depth + 1
    proof = [levels[depth][node]] if node else []  # with node 0 it is the old root, which the verifier holds
    while last:
        if node & 1 or node < last:
            proof.append(levels[depth][node ^ 1])
        node, last, depth = node >> 1, last >> 1, depth + 1
    return tuple(proof)


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `new_size` begins with the tree of `old_size`.

    Every tree continues the empty one: for `old_size` 0 the old root must be `EMPTY_ROOT` and the proof empty.

    Raises:
        ProofInvalid: sizes out of order, wrong length, or either root mismatches.

    Source: RFC 9162, 2.1.4.2.
    """
    _check_proof(proof, (old_root, new_root), new_size, size_min=0)
    if not 0 <= old_size <= new_size:
        raise ProofInvalid(f"A tree of {new_size} cannot continue one of {old_size}.")
    if old_size in (0, new_size):
        differ = old_size == new_size and old_root != new_root
        if proof or differ or (old_size == 0 and old_root != EMPTY_ROOT):
            raise ProofInvalid("Equal sizes, or a start from nothing, need an empty proof and fitting roots.")
        return
    # A whole old tree is itself the first node; the proof leaves it out.
    nodes = (old_root, *proof) if old_size & (old_size - 1) == 0 else tuple(proof)
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    if _rebuild(nodes, node, last) != (old_root, new_root):
        raise ProofInvalid("A consistency proof does not lead to both roots.")


def _rebuild(nodes: Sequence[bytes], node: int, last: int) -> tuple[bytes, bytes]:
    """Return the old and the new root that follow from the nodes of a consistency proof."""
    if not nodes:
        raise ProofInvalid("A consistency proof is too short.")
    old = new = nodes[0]
    for sibling in nodes[1:]:
        if not last:
            raise ProofInvalid("A consistency proof is too long.")
        if node & 1 or node == last:
            old, new = hash_children(sibling, old), hash_children(sibling, new)
            node, last = _skip_edge(node, last)
        else:
            new = hash_children(new, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofInvalid("A consistency proof is too short.")
    return old, new


def _skip_edge(node: int, last: int) -> tuple[int, int]:
    """Go up through the levels where the last node of an odd level has no sibling."""
    while node and not node & 1:
        node, last = node >> 1, last >> 1
    return node, last


def _check_proof(proof: Sequence[bytes], ends: tuple[bytes, bytes], size: int, *, size_min: int = 1) -> None:
    """Check the shape of a proof and of what it joins, before any hashing."""
    if not size_min <= size <= LOG_SIZE_MAX:
        raise ProofInvalid(f"A tree of {size} leaves is out of bounds.")
    if len(proof) > PROOF_HASHES_MAX:
        raise ProofInvalid("A proof is too long.")
    if any(len(node) != HASH_BYTES for node in (*ends, *proof)):
        raise ProofInvalid(f"A proof holds something else than hashes of {HASH_BYTES} bytes.")


# --- compact ranges


@dataclass(frozen=True, slots=True)
class CompactRange:
    """The roots of the whole subtrees that a log consists of: enough to append and to compute the root.

    Attributes:
        size: leaves so far.
        hashes: one for each bit set in `size`, lowest bit first, that is from the right end of the log to the left.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append_many(self, leaf_hashes: Sequence[bytes]) -> CompactRange:
        """Return the range with leaves appended, at about one hash a leaf."""
        nodes, size, held = list(leaf_hashes), self.size, 0
        peaks: list[bytes] = []
        while nodes:
            if size & 1:  # the subtree held at this level is the left neighbour of the first new node
                nodes.insert(0, self.hashes[held])
                held += 1
            if len(nodes) & 1:
                peaks.append(nodes.pop())
            nodes, size = _parents(nodes), size >> 1
        return CompactRange(self.size + len(leaf_hashes), (*peaks, *self.hashes[held:]))

    def root(self) -> bytes:
        """Return the root of the log; `EMPTY_ROOT` for none."""
        if not self.hashes:
            return EMPTY_ROOT
        here = self.hashes[0]
        for left in self.hashes[1:]:
            here = hash_children(left, here)
        return here

    def encode(self) -> bytes:
        """Return the hashes one after another; the size is kept elsewhere."""
        return b"".join(self.hashes)

    @classmethod
    def decode(cls, size: int, data: bytes) -> CompactRange:
        """Read what `encode` gave for a log of `size` leaves.

        Raises:
            DecodeError: size out of bounds, or not one hash for each bit set in it.
        """
        if not 0 <= size <= LOG_SIZE_MAX or len(data) != HASH_BYTES * size.bit_count():
            raise DecodeError(f"The bytes are not the compact range of a log of {size} leaves.")
        return cls(size, tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)))
