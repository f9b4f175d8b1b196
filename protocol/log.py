"""What is signed: headers and bodies, logs and checkpoints, and the forms in which they travel.

An *entry* is a header and an optional body. Only the header is hashed into its author's log, and it commits to the body by
hash; so a body can be withheld or erased and every proof still holds. A *log* is (node, incarnation). A *checkpoint* is
the author's signed statement of a log's root, and of the root of its newest run of entries.

Two forms travel. A `ChangeSet` is a whole run with its checkpoint, written short: what the receiver can recompute is
left out, and the root proves the rebuild. A `Bundle` is some entries of a run, their header bytes as signed, each with
its path inside the run.

    header = decode_header(raw)              # canonical or DecodeError
    link = hash_header(raw)[:16]             # how other entries name this one

The normative text is docs/PROTOCOL.md, sections 3 to 6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NewType

import msgspec
from msgspec import Meta

from protocol import codec, keys, limits, merkle
from protocol.errors import DecodeError, LimitExceeded, ProofInvalid

FORMAT: Final = 1
SCHEME_PLAIN: Final = 0
LINK_BYTES: Final = 16
SALT_BYTES: Final = 16

NodeId = str
Link = NewType("Link", bytes)

Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Hash8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
Signature64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Name = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)]
Millis = Annotated[int, Meta(ge=0, le=limits.TIME_MS_MAX)]
Count = Annotated[int, Meta(ge=0, le=limits.LOG_SIZE_MAX)]
Links = Annotated[tuple[Bytes16, ...], Meta(max_length=limits.LINKS_MAX)]
Basis = tuple[Count, Hash8]
BodyRef = tuple[Count, Count, Hash32]

_sha256 = hashlib.sha256


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All of an entry that may be routed on, counted, clocked or used for state. On the wire: an array in this order."""

    format: int
    suite: int
    node: Name
    type: Name
    officer: Name | None
    window: Name | None
    claimed_at: Millis
    basis: Basis | None
    count: Count
    body: BodyRef | None
    case: Bytes16 | None
    epoch: Count | None
    prev: Bytes16 | None
    rests: Links
    saw: Links
    fields: dict[str, Any]


_header_decoder = msgspec.msgpack.Decoder(Header)


def encode_header(header: Header) -> bytes:
    """Return the canonical bytes that are hashed and signed."""
    return codec.encode(msgspec.structs.astuple(header))


def decode_header(raw: bytes) -> Header:
    """Read header bytes.

    Raises:
        DecodeError: wrong shape, or not the canonical bytes of what they say.
        LimitExceeded: longer than `HEADER_BYTES_MAX`.
    """
    if len(raw) > limits.HEADER_BYTES_MAX:
        raise LimitExceeded(f"a header of {len(raw)} bytes is over the bound of {limits.HEADER_BYTES_MAX}")
    try:
        header = _header_decoder.decode(raw)
        if encode_header(header) != raw:
            raise DecodeError("the header is not in canonical form")
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError, OverflowError) as exc:
        raise DecodeError(f"the header cannot be read: {type(exc).__name__}") from exc
    return header


def hash_header(raw: bytes) -> bytes:
    """Return the leaf hash of an entry: SHA-256(0x00 ‖ header bytes)."""
    return _sha256(b"\x00" + raw).digest()


def hash_body(salt: bytes, scheme: int, body: bytes) -> bytes:
    """Return SHA-256(case salt ‖ scheme ‖ body bytes); the salt is empty outside cases."""
    return _sha256(b"%b%c%b" % (salt, scheme, body)).digest()


def encode_body(body: Mapping[str, object]) -> bytes:
    """Return a body's canonical bytes; raises LimitExceeded over `BODY_BYTES_MAX`."""
    raw = codec.encode(dict(body))
    if len(raw) > limits.BODY_BYTES_MAX:
        raise LimitExceeded(f"a body of {len(raw)} bytes is over the bound of {limits.BODY_BYTES_MAX}")
    return raw


def decode_body(raw: bytes) -> dict[str, Any]:
    """Read a body's canonical bytes as a map; raises DecodeError."""
    value = codec.decode(raw, bytes_max=limits.BODY_BYTES_MAX)
    if not isinstance(value, dict):
        raise DecodeError("a body must be a map")
    return value


def salt_of(opening_body: bytes) -> bytes:
    """Return the case salt that an opening's body holds; raises DecodeError."""
    salt = decode_body(opening_body).get("salt")
    if not isinstance(salt, bytes) or len(salt) != SALT_BYTES:
        raise DecodeError("the opening of a case has no salt")
    return salt


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as its author wrote it: header bytes, and the body's if it is here."""

    raw: bytes
    body: bytes | None

    @property
    def leaf(self) -> bytes:
        """The leaf hash, 32 bytes."""
        return hash_header(self.raw)


# --- logs and checkpoints


class LogId(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """A log: its author and the 16 random bytes of one incarnation of the author's store."""

    node: Name
    incarnation: Bytes16


class Checkpoint(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The author's statement of a log: `root` over leaves [0, size), `run` over leaves [start, size) alone."""

    format: int
    suite: int
    node: Name
    incarnation: Bytes16
    start: Count
    size: Count
    root: Hash32
    run: Hash32
    key: Hash8

    @property
    def log(self) -> LogId:
        """The log that this speaks of."""
        return LogId(self.node, self.incarnation)


class Signed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A checkpoint's canonical bytes and their signature, as the author made them."""

    checkpoint: bytes
    signature: Signature64


_checkpoint_decoder = msgspec.msgpack.Decoder(Checkpoint)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the canonical bytes that are signed."""
    return codec.encode(msgspec.structs.astuple(checkpoint))


def decode_checkpoint(raw: bytes) -> Checkpoint:
    """Read a checkpoint; raises DecodeError when it is not canonical or its run is empty or over the bound."""
    try:
        checkpoint = _checkpoint_decoder.decode(raw)
    except msgspec.DecodeError as exc:
        raise DecodeError("the checkpoint cannot be read") from exc
    if encode_checkpoint(checkpoint) != raw:
        raise DecodeError("the checkpoint is not in canonical form")
    if checkpoint.format != FORMAT:
        raise DecodeError(f"checkpoint format {checkpoint.format} is not known")
    if not 0 < checkpoint.size - checkpoint.start <= limits.SET_ENTRIES_MAX:
        raise DecodeError("the checkpoint's run is empty or too long")
    return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, key: keys.SigningKey, network: bytes) -> Signed:
    """Sign a checkpoint for one network."""
    raw = encode_checkpoint(checkpoint)
    return Signed(raw, key.sign(keys.SignedKind.CHECKPOINT, network, raw))


def verify_checkpoint(signed: Signed, public: bytes, network: bytes) -> Checkpoint:
    """Check a checkpoint's signature and return what it says.

    Raises:
        DecodeError: the bytes are no checkpoint.
        SignatureInvalid: not signed by this key for this network.
    """
    keys.verify(public, signed.signature, keys.SignedKind.CHECKPOINT, network, signed.checkpoint)
    return decode_checkpoint(signed.checkpoint)


# --- change sets: a whole run, written short


class WireEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry without what its receiver can recompute.

    claimed_after: ms since the entry before in the set (the first: since the epoch).
    basis: None = as the entry before.
    body_ref: None = no body; a scheme = hash recomputed from the body and the case's salt; else the whole reference.
    prev: a count = so many entries back in the same log, and then the case is that entry's case.
    """

    type: Name
    officer: Name | None
    window: Name | None
    claimed_after: int
    basis: Basis | None
    count: Count
    body_ref: int | BodyRef | None
    case: Bytes16 | None
    epoch: Count | None
    prev: int | bytes | None
    rests: Links
    saw: Links
    fields: dict[str, Any]
    body: Annotated[bytes, Meta(max_length=limits.BODY_BYTES_MAX)] | None


class ChangeSet(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A run of consecutive entries and the checkpoint that covers it.

    entries: each a `WireEntry`, or, when the short form could not give the bytes back, msgpack of [header bytes, body | nil].
    """

    signed: Signed
    entries: Annotated[list[WireEntry | bytes], Meta(max_length=limits.SET_ENTRIES_MAX)]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an earlier entry of the same log: for names that count backwards.

    link: 16 bytes. case: the case's key. salt: the case's, if its opening is in this log and its body is here.
    """

    link: bytes
    case: bytes
    salt: bytes | None


Lookup = Callable[[Iterable[int]], Mapping[int, Known]]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One entry as rebuilt by a receiver: bytes, leaf hash and, if it can be read, the header.

    salt: the case's, where it was needed or is now known (an opening).
    """

    raw: bytes
    body: bytes | None
    leaf: bytes
    header: Header | None
    salt: bytes | None


def references(entries: Sequence[WireEntry | bytes], start: int) -> set[int]:
    """Return the indexes below `start` to which a set's entries count back."""
    found = set()
    for index, entry in enumerate(entries, start):
        if type(entry) is WireEntry and type(entry.prev) is int and index - entry.prev < start:
            found.add(index - entry.prev)
    return found


def rebuild(checkpoint: Checkpoint, entries: Sequence[WireEntry | bytes], known: Mapping[int, Known]) -> list[Rebuilt]:
    """Give back the entries of a change set, byte for byte.

    Args:
        checkpoint: decoded, not yet trusted; the caller compares the roots afterwards.
        entries: as received.
        known: what `references` asked for; an index not in it was never there, or is no case entry.

    Raises:
        DecodeError: a count leads nowhere, or a part cannot be read.
    """
    node, suite, start = checkpoint.node, checkpoint.suite, checkpoint.start
    seen = dict(known)
    claimed_at, basis = 0, None
    rebuilt = []
    for index, entry in enumerate(entries, start):
        if type(entry) is not WireEntry:
            one = _rebuild_raw(entry)
            if one.header is not None:
                claimed_at, basis = one.header.claimed_at, one.header.basis
        else:
            one = _rebuild_short(entry, index, node, suite, claimed_at + entry.claimed_after, basis, seen)
            claimed_at, basis = one.header.claimed_at, one.header.basis  # type: ignore[union-attr]
        header = one.header
        if header is not None and (header.type == "open" or header.case is not None):
            seen[index] = Known(one.leaf[:LINK_BYTES], header.case or one.leaf[:LINK_BYTES], one.salt)
        rebuilt.append(one)
    return rebuilt


def _rebuild_raw(packed: bytes) -> Rebuilt:
    try:
        raw, body = msgspec.msgpack.decode(packed, type=tuple[bytes, bytes | None])
    except msgspec.DecodeError as exc:
        raise DecodeError("an entry cannot be read") from exc
    if len(raw) > limits.HEADER_BYTES_MAX or len(body or b"") > limits.BODY_BYTES_MAX:
        raise LimitExceeded("an entry is over its bound")
    try:
        header = decode_header(raw)
    except DecodeError:
        return Rebuilt(raw, body, hash_header(raw), None, None)  # opaque: kept, void, what is behind it passes
    salt = _opening_salt(body) if header.type == "open" and body is not None else None
    return Rebuilt(raw, body, hash_header(raw), header, salt)


def _rebuild_short(
    entry: WireEntry, index: int, node: str, suite: int, claimed_at: int, basis: Basis | None, seen: Mapping[int, Known]
) -> Rebuilt:
    case, prev, salt = entry.case, entry.prev, None
    if type(prev) is int:
        before = seen.get(index - prev)
        if before is None or prev <= 0:
            raise DecodeError(f"entry {index} counts back to an entry that is not there")
        prev, case, salt = before.link, before.case, before.salt
    elif prev is not None and len(prev) != LINK_BYTES:
        raise DecodeError(f"entry {index} names its predecessor wrongly")
    reference: BodyRef | None
    if type(entry.body_ref) is int:
        if entry.body is None:
            raise DecodeError(f"the body of entry {index} is missing")
        if entry.type == "open":
            salt = salt_of(entry.body)
        if salt is None and case is not None:
            raise DecodeError(f"the salt for entry {index} is not known")
        if entry.body_ref != SCHEME_PLAIN:
            raise DecodeError(f"the body of entry {index} is of an unknown scheme")
        reference = (entry.body_ref, len(entry.body), hash_body(salt or b"", entry.body_ref, entry.body))
    else:
        reference = entry.body_ref
        if entry.type == "open" and entry.body is not None:
            salt = _opening_salt(entry.body)
    if not 0 <= claimed_at <= limits.TIME_MS_MAX:
        raise DecodeError(f"the time of entry {index} is out of range")
    header = Header(
        FORMAT,
        suite,
        node,
        entry.type,
        entry.officer,
        entry.window,
        claimed_at,
        entry.basis or basis,
        entry.count,
        reference,
        case,
        entry.epoch,
        prev,
        entry.rests,
        entry.saw,
        entry.fields,
    )
    try:
        raw = encode_header(header)
    except (TypeError, ValueError) as exc:
        raise DecodeError(f"entry {index} holds a value that no header may hold") from exc
    if len(raw) > limits.HEADER_BYTES_MAX:
        raise LimitExceeded(f"the header of entry {index} is over its bound")
    return Rebuilt(raw, entry.body, hash_header(raw), header, salt)


def _opening_salt(body: bytes) -> bytes | None:
    try:
        return salt_of(body)
    except DecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Stored:
    """One entry of a log as its holder has it, for writing it short.

    header: None if it cannot be read. case: its case's key, if it belongs to one.
    prev_back: how many entries back in the same log its predecessor stands, if there, and if it belongs to the same case.
    salt: the case's, if the opening stands earlier in this log with its body.
    """

    raw: bytes
    body: bytes | None
    header: Header | None
    prev_back: int | None
    salt: bytes | None


def shorten(node: str, suite: int, entries: Iterable[Stored]) -> list[WireEntry | bytes]:
    """Write a run short; `rebuild` gives the same bytes back."""
    claimed_at, basis = 0, None
    short: list[WireEntry | bytes] = []
    for entry in entries:
        header = entry.header
        if header is None or header.format != FORMAT or header.node != node or header.suite != suite or header.basis is None:
            short.append(msgspec.msgpack.encode((entry.raw, entry.body)))
            if header is not None:
                claimed_at, basis = header.claimed_at, header.basis
            continue
        counted = entry.prev_back is not None
        short.append(
            WireEntry(
                header.type,
                header.officer,
                header.window,
                header.claimed_at - claimed_at,
                None if header.basis == basis else header.basis,
                header.count,
                _short_body(header, entry, counted),
                None if counted else header.case,
                header.epoch,
                entry.prev_back if counted else header.prev,
                header.rests,
                header.saw,
                header.fields,
                entry.body,
            )
        )
        claimed_at, basis = header.claimed_at, header.basis
    return short


def _short_body(header: Header, entry: Stored, counted: bool) -> int | BodyRef | None:
    reference = header.body
    if reference is None or entry.body is None:
        return reference
    if header.type == "open":
        salt = _opening_salt(entry.body)
    elif header.case is None:
        salt = b""
    else:
        salt = entry.salt if counted else None
    if salt is None or reference[0] != SCHEME_PLAIN or reference[1] != len(entry.body):
        return reference
    return reference[0] if hash_body(salt, reference[0], entry.body) == reference[2] else reference


# --- bundles: some entries of a run, each with its path


class BundleEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One entry with its place in the log and its path inside the run (32-byte hashes, leaf level first)."""

    index: Count
    raw: Annotated[bytes, Meta(max_length=limits.HEADER_BYTES_MAX)]
    body: Annotated[bytes, Meta(max_length=limits.BODY_BYTES_MAX)] | None
    path: Annotated[tuple[Hash32, ...], Meta(max_length=limits.PROOF_HASHES_MAX)]


class Bundle(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A checkpoint, some entries of its run, and their paths inside the run. Relayed as it came."""

    signed: Signed
    entries: Annotated[tuple[BundleEntry, ...], Meta(max_length=limits.SET_ENTRIES_MAX)]


def verify_bundle(bundle: Bundle, public: bytes, network: bytes) -> Checkpoint:
    """Check a bundle's signature and every path.

    Raises:
        SignatureInvalid, DecodeError: as `verify_checkpoint`.
        ProofInvalid: an entry is not in the run that the checkpoint names.
    """
    checkpoint = verify_checkpoint(bundle.signed, public, network)
    length = checkpoint.size - checkpoint.start
    for entry in bundle.entries:
        if not checkpoint.start <= entry.index < checkpoint.size:
            raise ProofInvalid(f"entry {entry.index} lies outside the run of its checkpoint")
        merkle.verify_inclusion(
            hash_header(entry.raw), entry.index - checkpoint.start, length, entry.path, checkpoint.run
        )
    return checkpoint


def check_body(header: Header, body: bytes, salt: bytes | None) -> None:
    """Check that a body is the one that its header commits to; raises ProofInvalid.

    Args:
        salt: the case's; None where it is not known (then only the length is checked).
    """
    reference = header.body
    if reference is None or reference[1] != len(body):
        raise ProofInvalid("the body is not the one that its header names")
    if salt is not None and hash_body(salt, reference[0], body) != reference[2]:
        raise ProofInvalid("the body is not the one that its header names")
