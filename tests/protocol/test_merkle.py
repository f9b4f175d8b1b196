"""Roots, proofs and compact ranges: published values, a second implementation straight from the RFC, and attacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import merkle
from protocol.errors import DecodeError, PeerError, ProofInvalid
from protocol.limits import LOG_SIZE_MAX
from protocol.merkle import EMPTY_ROOT, CompactRange, hash_children, hash_leaf
from tests.vectors.generate_primitives import FOLDER, LEAVES, render

CT_LEAVES = [hash_leaf(bytes.fromhex(leaf)) for leaf in LEAVES]
# Published with the reference implementation of certificate transparency.
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MANY = [hash_leaf(str(number).encode()) for number in range(1_100)]
EDGE_SIZES = sorted({max(0, 2**power + by) for power in range(11) for by in (-1, 0, 1)})
sizes = st.integers(0, 140)


def rfc_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + rfc_root(leaves[:split]) + rfc_root(leaves[split:])).digest()


def rfc_path(index: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """PATH of RFC 9162, 2.1.3.1, word for word."""
    if len(leaves) == 1:
        return ()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return (*rfc_path(index, leaves[:split]), rfc_root(leaves[split:]))
    return (*rfc_path(index - split, leaves[split:]), rfc_root(leaves[:split]))


def rfc_subproof(old: int, leaves: Sequence[bytes], *, whole: bool = True) -> tuple[bytes, ...]:
    """SUBPROOF of RFC 9162, 2.1.4.1, word for word."""
    if old == len(leaves):
        return () if whole else (rfc_root(leaves),)
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return (*rfc_subproof(old, leaves[:split], whole=whole), rfc_root(leaves[split:]))
    return (*rfc_subproof(old - split, leaves[split:], whole=False), rfc_root(leaves[:split]))


# --- values that others published


def test_roots_are_the_published_ones() -> None:
    """The eight leaves of the CT tests give the published roots, and no leaf gives the hash of nothing."""
    assert [merkle.root(CT_LEAVES[:size]).hex() for size in range(9)] == CT_ROOTS


def test_proofs_are_the_published_ones() -> None:
    """Inclusion of leaf 5 in 8 and consistency of 6 with 8 are the published proofs."""
    left, whole = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0", CT_ROOTS[4]
    inclusion = [node.hex() for node in merkle.inclusion_proof(CT_LEAVES, 5)]
    consistency = [node.hex() for node in merkle.consistency_proof(CT_LEAVES, 6)]
    assert inclusion == ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b", left, whole]
    assert consistency == ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", left, whole]


def test_vectors_are_up_to_date() -> None:
    """The file of vectors is what the generator builds."""
    assert (FOLDER / "merkle.json").read_text(encoding="utf-8") == render("merkle")


def test_vectors_verify() -> None:
    """Every proof of the vectors is accepted for its roots."""
    vectors = json.loads((FOLDER / "merkle.json").read_text(encoding="utf-8"))
    roots = [bytes.fromhex(root) for root in vectors["roots"]]
    for case in vectors["inclusion"]:
        proof = [bytes.fromhex(node) for node in case["proof"]]
        merkle.verify_inclusion(CT_LEAVES[case["index"]], case["index"], case["size"], proof, roots[case["size"]])
    for case in vectors["consistency"]:
        proof = [bytes.fromhex(node) for node in case["proof"]]
        merkle.verify_consistency(case["old"], roots[case["old"]], case["new"], roots[case["new"]], proof)


# --- against the definitions of the RFC


@pytest.mark.parametrize("size", EDGE_SIZES)
def test_root_at_the_edges_of_powers_of_two(size: int) -> None:
    """The level-wise root is MTH of the RFC at 0, 1 and around every power of two."""
    assert merkle.root(MANY[:size]) == rfc_root(MANY[:size])
    assert merkle.root(tuple(MANY[:size])) == rfc_root(MANY[:size])


def test_every_inclusion_proof_of_small_trees() -> None:
    """Every path of every tree up to 40 leaves is PATH of the RFC, and leads to the root."""
    for size in range(1, 41):
        leaves = MANY[:size]
        for index, proof in enumerate(merkle.paths(leaves, range(size))):
            assert proof == rfc_path(index, leaves) == merkle.inclusion_proof(leaves, index)
            merkle.verify_inclusion(leaves[index], index, size, proof, rfc_root(leaves))


def test_every_consistency_proof_of_small_trees() -> None:
    """Every pair of sizes up to 40 gives SUBPROOF of the RFC, and verifies."""
    for new in range(1, 41):
        for old in range(1, new + 1):
            proof = merkle.consistency_proof(MANY[:new], old)
            assert proof == rfc_subproof(old, MANY[:new])
            merkle.verify_consistency(old, rfc_root(MANY[:old]), new, rfc_root(MANY[:new]), proof)


def test_every_tree_continues_the_empty_one() -> None:
    """From size 0 the proof is empty and the old root is that of nothing; anything else is refused."""
    root = merkle.root(MANY[:5])
    assert merkle.consistency_proof(MANY[:5], 0) == ()
    merkle.verify_consistency(0, EMPTY_ROOT, 5, root, ())
    merkle.verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, ())
    for old_root, proof in ((root, ()), (EMPTY_ROOT, (root,))):
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(0, old_root, 5, root, proof)
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(0, EMPTY_ROOT, 0, root, ())


def test_a_path_of_a_change_set_is_short() -> None:
    """A run of 1,024 entries needs paths of 10 hashes."""
    assert {len(path) for path in merkle.paths(MANY[:1024], range(0, 1024, 37))} == {10}


def test_asking_for_what_is_not_there_is_a_programmer_error() -> None:
    """Making a proof for a leaf or size outside the tree raises IndexError or ValueError."""
    for index in (-1, 3):
        with pytest.raises(IndexError):
            merkle.inclusion_proof(MANY[:3], index)
    for size in (-1, 4):
        with pytest.raises(ValueError, match="of a tree of 3"):
            merkle.consistency_proof(MANY[:3], size)


# --- attacks


def test_a_node_cannot_pass_for_a_leaf() -> None:
    """The bytes of two children, offered as a leaf, hash to something else than their parent."""
    children = CT_LEAVES[0] + CT_LEAVES[1]
    assert hash_leaf(children) != hash_children(CT_LEAVES[0], CT_LEAVES[1])
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(hash_leaf(children), 0, 1, (), merkle.root(CT_LEAVES[:2]))


def test_a_doubled_last_leaf_changes_the_root() -> None:
    """Unlike trees that pad with the last leaf (CVE-2012-2459), 3 leaves and the same with the third twice differ."""
    assert merkle.root(MANY[:3]) != merkle.root([*MANY[:3], MANY[2]])


def test_an_altered_inclusion_proof_is_refused() -> None:
    """Any change of leaf, index, size, root, or of a proof's length, order or content is refused."""
    for size in (1, 2, 3, 7, 8, 9, 33):
        leaves, root = MANY[:size], merkle.root(MANY[:size])
        for index in range(size):
            proof = merkle.inclusion_proof(leaves, index)
            good = (leaves[index], index, size, proof, root)
            merkle.verify_inclusion(*good)
            longer = (*proof, root), (root, *proof), proof + proof if proof else (root,)
            shorter = [proof[:-1], proof[1:]] if proof else []
            swapped = [proof[::-1]] if len(proof) > 1 else []
            wrong = [(*good[:3], other, root) for other in (*longer, *shorter, *swapped)]
            wrong += [(MANY[99], *good[1:]), (*good[:4], MANY[99])]
            wrong += [(leaves[index], other, *good[2:]) for other in (index - 1, index + 1, index ^ 1, index + size)]
            for case in wrong:
                with pytest.raises(ProofInvalid):
                    merkle.verify_inclusion(*case)


@pytest.mark.parametrize("size", [-1, 0, LOG_SIZE_MAX + 1, 2**64])
def test_a_size_out_of_bounds_is_refused(size: int) -> None:
    """No leaf is in an empty, negative or absurdly large tree."""
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(MANY[0], 0, size, (), MANY[0])
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(1, MANY[0], size, MANY[0], (MANY[0],))


def test_an_altered_consistency_proof_is_refused() -> None:
    """Swapped sizes, foreign roots and proofs of another length or content are refused."""
    for old, new in ((1, 2), (3, 7), (4, 8), (6, 8), (7, 8), (8, 9), (5, 33)):
        old_root, new_root = merkle.root(MANY[:old]), merkle.root(MANY[:new])
        proof = merkle.consistency_proof(MANY[:new], old)
        merkle.verify_consistency(old, old_root, new, new_root, proof)
        wrong = [
            (new, new_root, old, old_root, proof),
            (old, MANY[99], new, new_root, proof),
            (old, old_root, new, MANY[99], proof),
            (old, old_root, new, new_root, ()),
            (old, old_root, new, new_root, proof[:-1]),
            (old, old_root, new, new_root, (*proof, MANY[99])),
            (old, old_root, new, new_root, (MANY[99], *proof[1:])),
            (old, old_root, old, new_root, ()),
        ]
        for case in wrong:
            with pytest.raises(ProofInvalid):
                merkle.verify_consistency(*case)


def test_a_root_is_not_taken_for_another_size() -> None:
    """A good proof shown for a larger or smaller tree than the root's is refused, and so is a tree that shrinks."""
    roots = {size: merkle.root(MANY[:size]) for size in (2, 4, 8)}
    for size in (5, 6, 7, 8, 16):
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(2, roots[2], size, roots[4], merkle.consistency_proof(MANY[:4], 2))
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(8, roots[8], 4, roots[8], ())
    for size in (-1, LOG_SIZE_MAX + 1):
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(size, roots[8], size, roots[8], ())


def test_a_rewritten_past_is_refused() -> None:
    """No proof of an honest tree covers one in which an early leaf was exchanged."""
    forged = [MANY[500], *MANY[1:8]]
    for old in range(1, 8):
        proof = merkle.consistency_proof(forged, old)
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(old, merkle.root(MANY[:old]), 8, merkle.root(forged), proof)


def test_what_is_no_hash_is_refused() -> None:
    """Proofs of 65 hashes, and hashes of 0, 31 or 33 bytes, are refused before any hashing."""
    for bad in (b"", bytes(31), bytes(33)):
        with pytest.raises(ProofInvalid):
            merkle.verify_inclusion(bad, 0, 1, (), bad)
        with pytest.raises(ProofInvalid):
            merkle.verify_inclusion(MANY[0], 0, 2, (bad,), MANY[0])
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(1, MANY[0], 2, MANY[1], (bad,))
    with pytest.raises(ProofInvalid, match="A proof is too long"):
        merkle.verify_inclusion(MANY[0], 0, LOG_SIZE_MAX, MANY[:65], MANY[0])


hashes = st.binary(min_size=31, max_size=33)


@given(st.integers(-2, 2**65), st.integers(-2, 2**65), hashes, hashes, st.lists(hashes, max_size=70))
def test_random_proofs_raise_our_error_only(
    number: int, size: int, first: bytes, second: bytes, proof: list[bytes]
) -> None:
    """Whatever a peer sends as a proof, the answer is yes or one of our errors."""
    for check in (
        lambda: merkle.verify_inclusion(first, number, size, proof, second),
        lambda: merkle.verify_consistency(number, first, size, second, proof),
        lambda: CompactRange.decode(number, b"".join(proof)),
    ):
        try:
            check()
        except PeerError:
            continue


# --- compact ranges


def test_a_range_gives_the_root_however_it_was_appended() -> None:
    """For all splits of all logs up to 70 leaves, the range is the same and its root is the tree's."""
    for size in range(71):
        whole = CompactRange().append_many(MANY[:size])
        assert whole.root() == rfc_root(MANY[:size])
        assert len(whole.hashes) == size.bit_count()
        for split in range(size + 1):
            assert CompactRange().append_many(MANY[:split]).append_many(MANY[split:size]) == whole


@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_range_grows_in_any_steps(steps: list[int]) -> None:
    """Any sequence of batches gives the range and the root of the whole."""
    grown, size = CompactRange(), 0
    for step in steps:
        grown = grown.append_many(MANY[size : size + step])
        size += step
    assert grown == CompactRange().append_many(MANY[:size])
    assert grown.root() == merkle.root(MANY[:size])


def test_a_range_holds_its_subtrees_from_right_to_left() -> None:
    """The first hash is the smallest subtree, at the right end."""
    grown = CompactRange().append_many(MANY[:7])
    assert grown.hashes == (MANY[6], merkle.root(MANY[4:6]), merkle.root(MANY[:4]))


@given(sizes)
def test_a_range_survives_its_bytes(size: int) -> None:
    """Encoding and decoding give the same range, and the same bytes."""
    grown = CompactRange().append_many(MANY[:size])
    assert CompactRange.decode(size, grown.encode()) == grown
    assert CompactRange.decode(size, grown.encode()).encode() == grown.encode()


@pytest.mark.parametrize(("size", "length"), [(0, 32), (1, 0), (1, 31), (1, 33), (3, 32), (4, 64), (-1, 32)])
def test_a_range_that_does_not_fit_its_size_is_refused(size: int, length: int) -> None:
    """There is one hash of 32 bytes for each bit of the size, not more, not fewer."""
    with pytest.raises(DecodeError):
        CompactRange.decode(size, bytes(length))
