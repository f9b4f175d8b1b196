"""An evidence file: two heads that one key has signed, and that cannot both be true. Anybody can check it, without a network.

It holds all that is needed: the network's id (which is pinned elsewhere), the chain of keys from the genesis down to the signer,
both signed checkpoints of one log, and, where these do not contradict each other at sight, the data that shows it:

    both of one size, with two roots              nothing more is needed
    the same place, with two entries              each leaf with its path inside its checkpoint's run
    one continues what the other never signed     the root that the longer has at the shorter's size, with its consistency proof

What it proves is that the *key* signed two histories: its holder lied, was cloned, or was put back to an old backup. Normative:
docs/PROTOCOL.md, section 6.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocol import limits, merkle
from protocol.chain import CHAIN_BUNDLES_MAX, verify_chain
from protocol.errors import DecodeError, LimitExceeded, PeerError, ProofInvalid, UnknownSigner
from protocol.log import UNREADABLE, Bundle, Checkpoint, Count, Hash32, Signed, decode_checkpoint, verify_checkpoint
from protocol.register import Rules

FORMAT: Final = "tongban-evidence/1"
FILE_BYTES_MAX: Final = 8 << 20

Path = Annotated[tuple[Hash32, ...], Meta(max_length=limits.PROOF_HASHES_MAX)]


class TwoEntries(msgspec.Struct, frozen=True):
    """Two leaves under one index, each with its path inside its checkpoint's run."""

    index: Count
    first_leaf: Hash32
    first_path: Path
    second_leaf: Hash32
    second_path: Path


class OtherBeginning(msgspec.Struct, frozen=True):
    """The root that the longer history has at the shorter one's size, and the proof that it does."""

    root: Hash32
    proof: Path


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file. Bytes are written in base64."""

    format: str
    network: Hash32
    first: Signed
    second: Signed
    chain: Annotated[tuple[Bundle, ...], Meta(max_length=CHAIN_BUNDLES_MAX)]
    entries: TwoEntries | None = None
    beginning: OtherBeginning | None = None


class How(enum.StrEnum):
    """What contradicts what."""

    ROOTS = "roots"
    RUNS = "runs"
    ENTRIES = "entries"
    BEGINNING = "beginning"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a file proves: that the key of this node, in this network, signed two histories of one log. sizes: of both heads."""

    network: bytes
    node: str
    incarnation: bytes
    sizes: tuple[int, int]
    how: How


def encode(evidence: Evidence) -> bytes:
    """Return the file's bytes: JSON that a person can look into."""
    return msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n"


def decode(data: bytes) -> Evidence:
    """Read a file; raises DecodeError, LimitExceeded."""
    if len(data) > FILE_BYTES_MAX:
        raise LimitExceeded(f"an evidence file of {len(data)} bytes is over the bound of {FILE_BYTES_MAX}")
    try:
        evidence = msgspec.json.decode(data, type=Evidence)
    except UNREADABLE as exc:
        raise DecodeError("this is no evidence file") from exc
    if evidence.format != FORMAT:
        raise DecodeError(f"the file's format {evidence.format[:40]!r} is not known")
    return evidence


def verify(data: bytes) -> Finding:
    """Check a file.

    Raises:
        ProofInvalid: it proves nothing; the message says why.
    """
    try:
        evidence = decode(data)
        rules = verify_chain(evidence.network, evidence.chain)
        first, second = (_signed_by(rules, evidence.network, one) for one in (evidence.first, evidence.second))
        how = contradiction(first, second, evidence.entries, evidence.beginning)
    except PeerError as exc:
        raise ProofInvalid(f"the file proves nothing: {exc.message}") from exc
    return Finding(evidence.network, first.node, first.incarnation, (first.size, second.size), how)


def _signed_by(rules: Rules, network: bytes, signed: Signed) -> Checkpoint:
    stated = decode_checkpoint(signed.checkpoint)
    key = rules.key_of(stated.node, stated.key)
    if key is None:
        raise UnknownSigner(f"the chain of keys does not lead to the one of {stated.node} that signed")
    return verify_checkpoint(signed, key, network)


def contradiction(
    first: Checkpoint, second: Checkpoint, entries: TwoEntries | None = None, beginning: OtherBeginning | None = None
) -> How:
    """Return how two checkpoints contradict each other; raises ProofInvalid where it is not shown that they do."""
    if first.log != second.log:
        raise ProofInvalid("the two heads are of different logs")
    if first.size == second.size and first.root != second.root:
        return How.ROOTS
    if (first.start, first.size) == (second.start, second.size) and first.run != second.run:
        return How.RUNS
    if entries is not None:
        _check_entries(first, second, entries)
        return How.ENTRIES
    if beginning is not None:
        _check_beginning(first, second, beginning)
        return How.BEGINNING
    raise ProofInvalid("the two heads may both be true")


def _check_entries(first: Checkpoint, second: Checkpoint, shown: TwoEntries) -> None:
    if shown.first_leaf == shown.second_leaf:
        raise ProofInvalid("the two entries are one")
    _check_entry(first, shown.index, shown.first_leaf, shown.first_path)
    _check_entry(second, shown.index, shown.second_leaf, shown.second_path)


def _check_entry(checkpoint: Checkpoint, index: int, leaf: bytes, path: Sequence[bytes]) -> None:
    length = checkpoint.size - checkpoint.start
    merkle.verify_inclusion(leaf, index - checkpoint.start, length, path, checkpoint.run)


def _check_beginning(first: Checkpoint, second: Checkpoint, shown: OtherBeginning) -> None:
    short, long = sorted((first, second), key=lambda one: one.size)
    if shown.root == short.root:
        raise ProofInvalid("the longer history begins with the shorter one")
    merkle.verify_consistency(short.size, shown.root, long.size, long.root, shown.proof)
