"""What a child and its parent say to each other: a few message types, each one request and one reply.

A message is msgpack of a map, in one zstd frame; at most `limits.MESSAGE_BYTES_MAX` bytes unpacked. Unknown keys are
ignored, so that a newer program may say more. Nothing here is trusted for being said: logs are signed by their authors,
receipts by the hubs that issue them. The normative text is docs/PROTOCOL.md, section 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from protocol import codec, keys, limits, trail
from protocol.errors import DecodeError, LimitExceeded, VersionUnsupported
from protocol.log import UNREADABLE, Bundle, Bytes16, ChangeSet, Count, Hash32, LogId, Name, Signature64, Signed

VERSIONS: Final = (1,)
CAPABILITIES: Final = ("bundles", "attachments-reserved", "zstd")
PATH: Final = "/sync/1/"

# Asking for a file by hash, and handing one up: not answered yet. Attachment references in headers are.
RESERVED: Final = ("file.get", "file.put")

Position = Annotated[int, Meta(ge=-1, le=limits.LOG_SIZE_MAX)]  # -1: nothing yet
Versions = Annotated[tuple[int, ...], Meta(max_length=limits.LISTED_MAX)]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all messages: a map with text keys."""


class Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A log's size and root, as held by the speaker."""

    log: LogId
    size: Count
    root: Hash32


# --- meeting


class Greet(Message, frozen=True):
    """A child's first words: which versions it speaks, and a challenge for the hub to sign."""

    versions: Versions
    network: Hash32
    node: Name
    challenge: Hash32
    chain: bool = False  # send the enrolment chain of your key, too


class Greeting(Message, frozen=True):
    """The hub's answer: its signature over both challenges and the certificate it shows, and its own challenge."""

    version: int
    capabilities: Annotated[tuple[Name, ...], Meta(max_length=limits.LISTED_MAX)]
    network: Hash32
    node: Name
    challenge: Hash32
    signature: Signature64
    chain: tuple[Bundle, ...] = ()


class Login(Message, frozen=True):
    """The child's signature over the hub's challenge and the certificate that the child saw.

    last: the mark of the machine's last session here (`protocol.trail`). own: the head of its own log. choice: what
    somebody chose there about a suspected clone, `keep` or `retire`. chain: of the child's keys, for a hub that does not know the
    present one: it was put back from an older copy, or began anew.
    """

    node: Name
    challenge: Hash32
    certificate: Hash32
    signature: Signature64
    program: Name = ""
    last: Annotated[bytes, Meta(max_length=trail.MARK_BYTES)] = b""
    own: Head | None = None
    choice: Name = ""
    chain: tuple[Bundle, ...] = ()


class Session(Message, frozen=True):
    """A session: its token, how long it lasts if unused, and the hub's clock (ms since the epoch).

    suspect: since when, ms, two machines seem to be at work under this node's name; 0 = they do not.
    """

    token: Bytes16
    idle_s: int
    now: Count
    suspect: Count = 0


# --- comparing


class Held(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How much of a log the hub now holds."""

    log: LogId
    size: Count


class Hello(Message, frozen=True):
    """One digest over the heads of the child's subtree. after: to page through the hub's heads.

    seen: the newest checkpoints that the child holds of the logs of nodes above it. registers: the newest one held.
    """

    digest: Hash32
    after: LogId | None = None
    seen: Annotated[tuple[Signed, ...], Meta(max_length=limits.LISTED_MAX)] = ()
    registers: Position = -1


class HelloReply(Message, frozen=True):
    """Whether the digests are equal; if not, a page of the hub's heads for the child's subtree.

    lacks: how much the hub holds of those logs of which the child showed more: it was restored, and asks for them back.
    registers: the hub's newest register, if that is older than the child's; else -1.
    """

    same: bool
    now: Count
    heads: tuple[Head, ...] = ()
    more: bool = False
    receipts: tuple[Bundle, ...] = ()
    lacks: Annotated[tuple[Held, ...], Meta(max_length=limits.LISTED_MAX)] = ()
    registers: Position = -1


# --- upward


class Push(Message, frozen=True):
    """Change sets, each log's in order, the sender's own log first.

    head: the sender's newest signed head, also of entries that come in later pushes: it dates what it commits to.
    """

    sets: Annotated[tuple[ChangeSet, ...], Meta(max_length=limits.SETS_PER_PUSH_MAX)]
    head: Signed | None = None


class PushReply(Message, frozen=True):
    """The hub's receipt as a bundle, what it now holds of each log named, and newer receipts from further up.

    room: bytes of entries that the hub would take in the next push, about; 0 = it does not say.
    """

    held: tuple[Held, ...]
    receipt: Bundle | None = None
    receipts: tuple[Bundle, ...] = ()
    room: Count = 0


# --- downward


class Cursors(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How far a child has come: newest register held, register up to which item texts came, (hub incarnation, position) of cases."""

    registers: Position
    catalogue: Position
    incarnation: Annotated[bytes, Meta(max_length=16)]
    cases: Count


class Pull(Message, frozen=True):
    """Ask for what is new for the child's subtree."""

    cursors: Cursors
    bytes_max: Count = limits.MESSAGE_BYTES_MAX // 2


class RegisterNews(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A register and the facts that it takes in."""

    number: Count
    register: Bundle
    facts: tuple[Bundle, ...]


class Give(Message, frozen=True):
    """What a restored hub lacks, given back by a child in pages: registers in order, then entries of nodes above the child.

    proofs: checkpoints of the logs lacked, the longest held and the longest that the hub can compare. more: another page follows.
    """

    proofs: Annotated[tuple[Signed, ...], Meta(max_length=2 * limits.LISTED_MAX)] = ()
    registers: tuple[RegisterNews, ...] = ()
    bundles: tuple[Bundle, ...] = ()
    more: bool = False


class GiveReply(Message, frozen=True):
    """How many entries were new to the hub."""

    taken: Count


class PullReply(Message, frozen=True):
    """News in the order of their priority, and the cursors to go on from. more: ask again at once."""

    cursors: Cursors
    registers: tuple[RegisterNews, ...] = ()
    items: tuple[tuple[Hash32, bytes], ...] = ()  # (leaf hash of the fact, body)
    cases: tuple[Bundle, ...] = ()
    receipts: tuple[Bundle, ...] = ()
    more: bool = False


class Wait(Message, frozen=True):
    """Long poll: answer when something is new, or after the span."""

    cursors: Cursors
    span_s: Annotated[int, Meta(ge=0, le=300)] = 50


class WaitReply(Message, frozen=True):
    """Whether something is new; receipts from further up come along."""

    news: bool
    now: Count
    receipts: tuple[Bundle, ...] = ()


class Fetch(Message, frozen=True):
    """Ask for one thing: what = "log", "case", "chain", "item" (by leaf hash) or "register"."""

    what: Name
    log: LogId | None = None
    start: Count = 0
    key: bytes = b""
    node: Name = ""


class FetchReply(Message, frozen=True):
    """What was asked for; empty when it is not here."""

    sets: tuple[ChangeSet, ...] = ()
    bundles: tuple[Bundle, ...] = ()
    body: bytes | None = None
    more: bool = False


# --- joining


class JoinAsk(Message, frozen=True):
    """A new machine asks for the hub's challenge. invite: public key of the joining code's seed."""

    network: Hash32
    node: Name
    invite: Hash32


class JoinChallenge(Message, frozen=True):
    """The hub's challenge, and its key's chain from the genesis on."""

    challenge: Hash32
    hub: Name
    signature: Signature64
    chain: tuple[Bundle, ...]


class Join(Message, frozen=True):
    """The keys that the new machine made, signed by the seed."""

    network: Hash32
    node: Name
    invite: Hash32
    key: Hash32
    seal_key: Hash32
    challenge: Hash32
    certificate: Hash32
    proof: Signature64


class JoinReply(Message, frozen=True):
    """The enrolment, and the chain of keys from the genesis down to it."""

    chain: tuple[Bundle, ...]
    parent: Name


class Refusal(Message, frozen=True):
    """Why a request was refused; see `errors` for the codes. held: for a gap, what the hub holds."""

    code: Name
    message: str
    hint: str = ""
    retryable: bool = False
    held: tuple[Held, ...] = ()


M = TypeVar("M", bound=msgspec.Struct)

_decoders: dict[type, Any] = {}


def encode(message: Message, level: int = codec.ZSTD_LEVEL) -> bytes:
    """Return a message's wire bytes; raises LimitExceeded over the bound."""
    raw = msgspec.msgpack.encode(message)
    if len(raw) > limits.MESSAGE_BYTES_MAX:
        raise LimitExceeded(f"a message of {len(raw)} bytes is over the bound of {limits.MESSAGE_BYTES_MAX}")
    return codec.compress(raw, level)


def decode(data: bytes, kind: type[M]) -> M:
    """Read a message.

    Raises:
        DecodeError: cut off, damaged, or not of this kind. LimitExceeded: too large unpacked.
    """
    raw = codec.decompress(data, bytes_max=limits.MESSAGE_BYTES_MAX)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        message: M = decoder.decode(raw)
    except UNREADABLE as exc:
        raise DecodeError(f"the message is no {kind.__name__}") from exc
    return message


def about_bytes(change: ChangeSet) -> int:
    """Return at least how many bytes a change set takes in a message."""
    return len(msgspec.msgpack.encode(change.entries)) + 400


def choose_version(theirs: Sequence[int]) -> int:
    """Return the highest version that both speak; raises VersionUnsupported."""
    common = set(theirs) & set(VERSIONS)
    if not common:
        raise VersionUnsupported(f"the other side speaks versions {sorted(theirs)[:8]}, this program {list(VERSIONS)}")
    return max(common)


def digest(heads: Iterable[Head]) -> bytes:
    """Return the digest of some heads, in the order of their logs."""
    ordered = sorted(heads, key=lambda head: head.log)
    return keys.sha256(codec.encode([[head.log.node, head.log.incarnation, head.size, head.root] for head in ordered]))


def greeting_text(child: str, theirs: bytes, mine: bytes, certificate: bytes, hub: str) -> bytes:
    """Return what a hub signs when greeted."""
    return codec.encode([child, theirs, mine, certificate, hub])


def login_text(child: str, challenge: bytes, certificate: bytes) -> bytes:
    """Return what a child signs to log in."""
    return codec.encode([child, challenge, certificate])
