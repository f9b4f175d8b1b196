"""What is signed: headers and bodies, logs and checkpoints, and the forms in which they travel.

An *entry* is a header and an optional body. Only the header is hashed into its author's log, and it commits to the body by
hash; so a body can be withheld or erased and every proof still holds. A *log* is (node, incarnation). A *checkpoint* is
the author's signed statement of a log's root, and of the root of its newest run of entries.

Two forms travel. A `ChangeSet` is a whole run with its checkpoint, written short: what the receiver can recompute is
left out, and the root proves the rebuild. A `Bundle` is some entries of a run, their header bytes as signed, each with
its path inside the run.

    header = decode_header(raw)              # canonical or DecodeError
    link = hash_header(raw)[:16]             # how other entries name this one

The normative text is docs/PROTOCOL.md, sections 4 to 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

import msgspec
from msgspec import Meta

from protocol import codec, keys, limits, merkle
from protocol.errors import DecodeError, LimitExceeded, ProofInvalid, SignatureInvalid

FORMAT: Final = 1
SCHEME_PLAIN: Final = 0
LINK_BYTES: Final = 16
SALT_BYTES: Final = 16

NodeId = str

Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Hash8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
Signature64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Name = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)]
Millis = Annotated[int, Meta(ge=0, le=limits.TIME_MS_MAX)]
Count = Annotated[int, Meta(ge=0, le=limits.LOG_SIZE_MAX)]
Links = Annotated[tuple[Bytes16, ...], Meta(max_length=limits.LINKS_MAX)]
Basis = tuple[Count, Hash8]
Scheme = Annotated[int, Meta(ge=0, le=255)]
BodyRef = tuple[Scheme, Count, Hash32]

_sha256 = hashlib.sha256
_PLAIN: Final = frozenset({type(None), bool, int, str, bytes})
_LISTS: Final = frozenset({list, tuple})
# What reading outside bytes may raise. ValueError: bad UTF-8; TypeError: floats, extensions, keys that are no text;
# RecursionError: a thousand levels and more.
UNREADABLE: Final = (msgspec.DecodeError, TypeError, ValueError, RecursionError)


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
_encoder = msgspec.msgpack.Encoder()


def encode_header(header: Header) -> bytes:
    """Return the canonical bytes that are hashed and signed.

    Raises:
        TypeError, ValueError: a field holds what has no canonical form (a float, say), or nests too deep.
    """
    if not _is_in_order(header.fields):
        return codec.encode(msgspec.structs.astuple(header))
    try:
        return _encoder.encode(header)  # the same bytes, without a list in between (hot path)
    except OverflowError as exc:
        raise ValueError("an int is outside -2^63 … 2^64-1") from exc


def _is_in_order(fields: Mapping[str, Any]) -> bool:
    """Tell whether fields need no sorting and no search for what has no canonical form: nearly always so (hot path)."""
    last = ""
    for key, value in fields.items():
        if type(key) is not str or key < last:
            return False
        last = key
        if type(value) not in _PLAIN and (type(value) not in _LISTS or not _PLAIN.issuperset(map(type, value))):
            return False
    return True


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
        canonical = encode_header(header)
    except UNREADABLE as exc:
        raise DecodeError(f"the header cannot be read: {type(exc).__name__}") from exc
    if canonical != raw:
        raise DecodeError("the header is not in canonical form")
    return header


def hash_header(raw: bytes) -> bytes:
    """Return the leaf hash of an entry: SHA-256(0x00 ‖ header bytes)."""
    return _sha256(b"\x00" + raw).digest()


def hash_body(salt: bytes, scheme: int, body: bytes) -> bytes:
    """Return SHA-256(case salt ‖ scheme ‖ body bytes); the salt is empty outside cases."""
    return _sha256(b"%b%c%b" % (salt, scheme, body)).digest()


def encode_body(body: Mapping[str, object]) -> bytes:
    """Return a body's canonical bytes; raises LimitExceeded over `BODY_BYTES_MAX`."""
    raw = codec.encode(cast("Mapping[str, codec.Value]", dict(body)))
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
    """Return the case salt that an opening's body holds; raises DecodeError when it holds none."""
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
    except UNREADABLE as exc:
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
        SignatureInvalid: not signed by this key for this network, or it names another key.
    """
    checkpoint = decode_checkpoint(signed.checkpoint)
    keys.verify(
        public,
        signed.signature,
        keys.SignedKind.CHECKPOINT,
        network,
        signed.checkpoint,
        suite=checkpoint.suite,
    )
    if checkpoint.key != keys.key_id(public):
        raise SignatureInvalid("the checkpoint names another key than the one that signed it")
    return checkpoint


# --- change sets: a whole run, written short


class WireEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry without what its receiver can recompute.

    claimed_after: ms since the short entry before in the set (the first: since the epoch).
    basis: None = as the short entry before.
    body_ref: None = no body; a scheme = hash recomputed from the body and the case's salt; else the whole reference.
    prev: a count = so many entries back in the same log, and then the case is that entry's case.
    fields: msgpack, not read before it is found within its bound.
    """

    type: Name
    officer: Name | None
    window: Name | None
    claimed_after: int
    basis: Basis | None
    count: Count
    body_ref: int | BodyRef | None  # no bounds here: msgspec confuses those of an int with those of a tuple beside it
    case: Bytes16 | None
    epoch: Count | None
    prev: int | bytes | None
    rests: Links
    saw: Links
    fields: msgspec.Raw
    body: Annotated[bytes, Meta(max_length=limits.BODY_BYTES_MAX)] | None


class ChangeSet(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A run of consecutive entries and the checkpoint that covers it.

    entries: each a `WireEntry`, or, when the short form could not give the bytes back, msgpack of [header bytes, body | nil].
    """

    signed: Signed
    entries: Annotated[list[WireEntry | bytes], Meta(max_length=limits.SET_ENTRIES_MAX)]


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is known of an earlier entry of the same log: for names that count backwards.

    link: 16 bytes. case: the case's key. salt: the case's, if its opening is in this log and its body is here.
    """

    link: bytes
    case: bytes
    salt: bytes | None


class Rebuilt(msgspec.Struct, frozen=True, gc=False):
    """One entry as a receiver has it: bytes, leaf hash and, if it can be read, the header.

    body: None also where it is not the one that the header commits to.
    salt: the case's, where it is known by now.
    """

    raw: bytes
    body: bytes | None
    leaf: bytes
    header: Header | None
    salt: bytes | None


_fields_decoder = msgspec.msgpack.Decoder(dict[str, Any])
_whole_decoder = msgspec.msgpack.Decoder(tuple[bytes, bytes | None])
_NO_FIELDS: Final = msgspec.Raw(b"\x80")
_NO_SALTS: Final[Mapping[bytes, bytes]] = {}


def references(entries: Sequence[WireEntry | bytes], start: int) -> set[int]:
    """Return the indexes below `start` to which a set's entries count back."""
    found = set()
    for index, entry in enumerate(entries, start):
        if type(entry) is WireEntry and type(entry.prev) is int and 0 <= index - entry.prev < start:
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
        LimitExceeded: a header or body is over its bound.
    """
    run = _Run(checkpoint, known)
    return [run.take(index, entry) for index, entry in enumerate(entries, checkpoint.start)]


class _Run:
    """The entries of a set as far as they are rebuilt, and what the next ones leave out because of them."""

    __slots__ = ("basis", "checkpoint", "claimed_at", "salts", "seen")

    def __init__(self, checkpoint: Checkpoint, known: Mapping[int, Known]) -> None:
        self.checkpoint = checkpoint
        self.seen = dict(known)
        self.salts = {one.case: one.salt for one in known.values() if one.salt is not None}
        self.claimed_at = 0
        self.basis: Basis | None = None

    def take(self, index: int, entry: WireEntry | bytes) -> Rebuilt:
        """Rebuild the next entry, and remember what it says of its case."""
        one = self._whole(entry) if isinstance(entry, bytes) else self._short(index, entry)
        header = one.header
        if header is None:
            return one
        if header.case is not None:
            self.seen[index] = Known(one.leaf[:LINK_BYTES], header.case, one.salt)
        elif header.type == "open":
            key = one.leaf[:LINK_BYTES]
            self.seen[index] = Known(key, key, one.salt)
            if one.salt is not None:
                self.salts[key] = one.salt
        return one

    def _whole(self, packed: bytes) -> Rebuilt:
        try:
            raw, body = _whole_decoder.decode(packed)
        except UNREADABLE as exc:
            raise DecodeError("an entry cannot be read") from exc
        if len(raw) > limits.HEADER_BYTES_MAX or len(body or b"") > limits.BODY_BYTES_MAX:
            raise LimitExceeded("an entry is over its bound")
        return read_entry(self.checkpoint.node, raw, body, self.salts)

    def _short(self, index: int, entry: WireEntry) -> Rebuilt:
        self.claimed_at += entry.claimed_after
        self.basis = entry.basis or self.basis
        if not 0 <= self.claimed_at <= limits.TIME_MS_MAX:
            raise DecodeError(f"the time of entry {index} is out of range")
        case, prev = self._place(index, entry)
        body, reference = entry.body, entry.body_ref
        salt = _salt_for(entry.type, case, body, self.salts)
        if isinstance(reference, int):
            reference = _recomputed(index, reference, body, salt)
        else:
            body, salt = _fitting(entry.type, reference, body, salt)
        header = Header(
            FORMAT,
            self.checkpoint.suite,
            self.checkpoint.node,
            entry.type,
            entry.officer,
            entry.window,
            self.claimed_at,
            self.basis,
            entry.count,
            reference,
            case,
            entry.epoch,
            prev,
            entry.rests,
            entry.saw,
            _read_wire_fields(index, entry.fields),
        )
        raw = _encode_rebuilt(index, header)
        return Rebuilt(raw, body, _sha256(b"\x00" + raw).digest(), header, salt or None)

    def _place(self, index: int, entry: WireEntry) -> tuple[bytes | None, bytes | None]:
        """Return case and predecessor."""
        prev = entry.prev
        if isinstance(prev, int):
            before = self.seen.get(index - prev)
            if before is None or prev <= 0:
                raise DecodeError(f"entry {index} counts back to an entry that is not there")
            return before.case, before.link
        if prev is not None and len(prev) != LINK_BYTES:
            raise DecodeError(f"entry {index} names its predecessor wrongly")
        return entry.case, prev


def read_entry(node: str, raw: bytes, body: bytes | None, salts: Mapping[bytes, bytes] = _NO_SALTS) -> Rebuilt:
    """Read one entry of a node's log as it came: what cannot be read, or names another author, is kept as opaque bytes.

    A body is taken only if the header commits to it; where the case's salt is not known, by its length.

    Args:
        node: whose log it is.
        raw: header bytes.
        body: as it came, if it came.
        salts: of cases, by key, as far as they are known.
    """
    leaf = hash_header(raw)
    try:
        header = decode_header(raw)
    except (DecodeError, LimitExceeded):
        return Rebuilt(raw, None, leaf, None, None)
    if header.node != node:  # nobody states an entry for somebody else
        return Rebuilt(raw, None, leaf, None, None)
    salt = _salt_for(header.type, header.case, body, salts)
    body, salt = _fitting(header.type, header.body, body, salt)
    return Rebuilt(raw, body, leaf, header, salt or None)


def _recomputed(index: int, scheme: int, body: bytes | None, salt: bytes | None) -> BodyRef:
    """Return the reference that a short entry leaves out."""
    if body is None or salt is None:
        raise DecodeError(f"the body of entry {index}, or the salt for it, is missing")
    if scheme != SCHEME_PLAIN:
        raise DecodeError(f"the body of entry {index} is of an unknown scheme")
    return scheme, len(body), hash_body(salt, scheme, body)


def _read_wire_fields(index: int, packed: msgspec.Raw) -> dict[str, Any]:
    if packed == _NO_FIELDS:
        return {}
    if len(packed) > limits.HEADER_BYTES_MAX:
        raise LimitExceeded(f"the header of entry {index} is over its bound")
    try:
        return _fields_decoder.decode(packed)
    except UNREADABLE as exc:
        raise DecodeError(f"the fields of entry {index} cannot be read") from exc


def _encode_rebuilt(index: int, header: Header) -> bytes:
    try:
        raw = encode_header(header)
    except (TypeError, ValueError) as exc:
        raise DecodeError(f"entry {index} holds a value that no header may hold") from exc
    if len(raw) > limits.HEADER_BYTES_MAX:
        raise LimitExceeded(f"the header of entry {index} is over its bound")
    return raw


def _salt_for(kind: str, case: bytes | None, body: bytes | None, salts: Mapping[bytes, bytes]) -> bytes | None:
    """Return the salt of an entry's body: an opening's own, none outside cases, else the case's if it is known."""
    if kind == "open":
        return _opening_salt(body) if body is not None else None
    return b"" if case is None else salts.get(case)


def _fitting(
    kind: str, reference: BodyRef | None, body: bytes | None, salt: bytes | None
) -> tuple[bytes | None, bytes | None]:
    """Return body and salt without what the header does not commit to: an opening's salt is no better than its body."""
    if body is None:
        return None, salt
    if kind == "open" and salt is None:  # its salt can only be in the body
        return None, None
    if fits(reference, body, salt):
        return body, salt
    return None, None if kind == "open" else salt


def _opening_salt(body: bytes) -> bytes | None:
    try:
        return salt_of(body)
    except (DecodeError, LimitExceeded):
        return None


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One entry of a log as its holder has it, for writing it short.

    header: None if it cannot be read.
    prev_back: how many entries back in the same log its predecessor stands, if there, and if it belongs to the same case.
    salt: the case's, if the opening stands earlier in this log with its body.
    """

    raw: bytes
    body: bytes | None
    header: Header | None
    prev_back: int | None
    salt: bytes | None


def shorten(node: str, suite: int, entries: Iterable[Stored]) -> list[WireEntry | bytes]:
    """Write a run short; `rebuild` gives the same bytes back.

    What is written whole changes nothing for what follows: a receiver may be unable to read it.
    """
    claimed_at, basis = 0, None
    salts: dict[bytes, bytes] = {}  # those that the receiver knows by then
    short: list[WireEntry | bytes] = []
    for offset, entry in enumerate(entries):
        header = entry.header
        if header is None or not _can_be_short(header, node, suite):
            short.append(_encoder.encode((entry.raw, entry.body)))
            continue
        if entry.salt is not None and header.case is not None and (entry.prev_back or 0) > offset:
            salts[header.case] = entry.salt  # it looks up what stands before this run
        salt = _salt_for(header.type, header.case, entry.body, salts)
        short.append(_short_entry(entry, header, header.claimed_at - claimed_at, header.basis != basis, salt))
        if salt and header.case is None:
            salts[hash_header(entry.raw)[:LINK_BYTES]] = salt
        claimed_at, basis = header.claimed_at, header.basis
    return short


def _can_be_short(header: Header, node: str, suite: int) -> bool:
    return header.format == FORMAT and header.node == node and header.suite == suite and header.basis is not None


def _short_entry(
    entry: Stored, header: Header, claimed_after: int, basis_differs: bool, salt: bytes | None
) -> WireEntry:
    counted = entry.prev_back is not None
    return WireEntry(
        header.type,
        header.officer,
        header.window,
        claimed_after,
        header.basis if basis_differs else None,
        header.count,
        _short_body(header.body, entry.body, salt),
        None if counted else header.case,
        header.epoch,
        entry.prev_back if counted else header.prev,
        header.rests,
        header.saw,
        msgspec.Raw(_encoder.encode(header.fields)) if header.fields else _NO_FIELDS,
        entry.body,
    )


def _short_body(reference: BodyRef | None, body: bytes | None, salt: bytes | None) -> int | BodyRef | None:
    """Return the scheme alone where the receiver can compute the hash, else the whole reference."""
    if reference is None or body is None or salt is None or reference[0] != SCHEME_PLAIN:
        return reference
    return SCHEME_PLAIN if fits(reference, body, salt) else reference


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
        ProofInvalid: an entry is not in the run that the checkpoint names, stands twice, or names another author.
    """
    checkpoint = verify_checkpoint(bundle.signed, public, network)
    length = checkpoint.size - checkpoint.start
    if len({entry.index for entry in bundle.entries}) != len(bundle.entries):
        raise ProofInvalid("an entry stands twice in a bundle")
    for entry in bundle.entries:
        if not checkpoint.start <= entry.index < checkpoint.size:
            raise ProofInvalid(f"entry {entry.index} lies outside the run of its checkpoint")
        merkle.verify_inclusion(
            hash_header(entry.raw), entry.index - checkpoint.start, length, entry.path, checkpoint.run
        )
        _check_author(entry.raw, checkpoint.node)
    return checkpoint


def _check_author(raw: bytes, node: str) -> None:
    """Refuse an entry stated in the name of another node; what cannot be read names nobody."""
    try:
        header = decode_header(raw)
    except DecodeError:
        return
    if header.node != node:
        raise ProofInvalid(f"an entry in a log of {node} is in the name of {header.node}")


# --- bodies


def fits(reference: BodyRef | None, body: bytes, salt: bytes | None) -> bool:
    """Tell whether a body is the one that a header commits to.

    Args:
        reference: the header's.
        body: as it came.
        salt: the case's, empty outside cases; None where it is not known (then only the length is compared).
    """
    if reference is None or reference[1] != len(body):
        return False
    return salt is None or hash_body(salt, reference[0], body) == reference[2]


def check_body(header: Header, body: bytes, salt: bytes | None) -> None:
    """Check that a body is the one that its header commits to; raises ProofInvalid.

    Args:
        header: of the entry.
        body: as it came.
        salt: as for `fits`.
    """
    if not fits(header.body, body, salt):
        raise ProofInvalid("the body is not the one that its header names")
