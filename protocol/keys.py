"""Keys, signatures and sealing: the only door to the cryptography library's primitives.

Every signed thing has its own domain and every network its own id, so that a signature never fits anything else:
the input is `"tongban/1/" + kind + "/" + network id + NUL + message`, where kinds hold neither "/" nor NUL.

A suite joins a signature scheme with a hash. Suite 1 is Ed25519 + SHA-256; it is fixed for a log and named in every
signed header, so that SM2 + SM3 can come beside it as suite 2.

Nothing here draws randomness: seeds and entropy are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from hashlib import sha256 as _sha256
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from protocol.errors import DecodeError, SignatureInvalid

SUITE_ED25519: Final = 1
SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KEY_ID_BYTES: Final = 8
NETWORK_ID_BYTES: Final = 32
SALT_BYTES: Final = 16  # of a passphrase
PIECE_OVERHEAD_BYTES: Final = 16  # tag
SEAL_OVERHEAD_BYTES: Final = 32 + 16  # one-time public key, tag

_KEYS_CACHED: Final = 4_096
_FIELD_PRIME: Final = 2**255 - 19
# The y coordinates of the eight points whose order divides 8: with such a key one signature fits every message.
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _FIELD_PRIME - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)


class SignedKind(Enum):
    """What a signature is for; one domain each."""

    CHECKPOINT = b"checkpoint"
    HELLO = b"hello"
    GREET = b"greet"
    JOIN = b"join"
    ROTATE = b"rotate"
    RECOVERY = b"recovery"
    CARRY = b"carry"


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of bytes."""
    return _sha256(data).digest()


def key_id(public: bytes) -> bytes:
    """Return the 8 bytes that name a public key in checkpoints and on paper."""
    return sha256(b"tongban/1/key/" + public)[:KEY_ID_BYTES]


def signed_input(kind: SignedKind, network_id: bytes, message: bytes) -> bytes:
    """Return the bytes that a signature covers.

    Raises:
        ValueError: `network_id` is not 32 bytes.
    """
    if len(network_id) != NETWORK_ID_BYTES:
        raise ValueError(f"a network id has {NETWORK_ID_BYTES} bytes")
    return b"tongban/1/" + kind.value + b"/" + network_id + b"\0" + message


# --- suites


@dataclass(frozen=True, slots=True)
class Suite:
    """A signature scheme and its hash.

    Attributes:
        id: the number in signed headers.
        name: for people.
        load_private: seed → (public key, function that signs bytes).
        load_public: public key → function (signature, bytes) that raises `SignatureInvalid`; it refuses weak keys.
    """

    id: int
    name: str
    load_private: Callable[[bytes], tuple[bytes, Callable[[bytes], bytes]]]
    load_public: Callable[[bytes], Callable[[bytes, bytes], None]]


def _load_private_ed25519(seed: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return private.public_key().public_bytes_raw(), private.sign


@lru_cache(maxsize=_KEYS_CACHED)
def _load_public_ed25519(public: bytes) -> Callable[[bytes, bytes], None]:
    _check_point(public)
    return Ed25519PublicKey.from_public_bytes(public).verify


def _check_point(public: bytes) -> None:
    """Refuse keys under which one signature fits every message, and second spellings of a point; OpenSSL takes both."""
    if len(public) != PUBLIC_BYTES:
        raise SignatureInvalid(f"A public key has {PUBLIC_BYTES} bytes, not {len(public)}.")
    y = int.from_bytes(public, "little") & (1 << 255) - 1  # without the sign of x
    if y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
        raise SignatureInvalid("A public key is of small order or not in canonical form.")


_SUITES: Final = {
    SUITE_ED25519: Suite(SUITE_ED25519, "Ed25519 + SHA-256", _load_private_ed25519, _load_public_ed25519),
}


def _suite(suite_id: int) -> Suite:
    try:
        return _SUITES[suite_id]
    except KeyError:
        raise SignatureInvalid(f"Signature suite {suite_id} is not known to this program.") from None


def check_public(public: bytes, *, suite: int = SUITE_ED25519) -> None:
    """Check a public key before it is enrolled.

    Raises:
        SignatureInvalid: unknown suite, wrong length, small order, or a second spelling of a point.
    """
    _suite(suite).load_public(public)


# --- signing


class SigningKey:
    """A private signing key; `public` (32 bytes) and `id` (8 bytes) may be shown, the seed is never given out again."""

    __slots__ = ("_sign", "id", "public", "suite")

    def __init__(self, seed: bytes, *, suite: int = SUITE_ED25519) -> None:
        """Derive the key pair from 32 bytes of entropy.

        Raises:
            ValueError: the seed has another length.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        self.suite = suite
        self.public, self._sign = _suite(suite).load_private(seed)
        self.id = key_id(self.public)

    def __repr__(self) -> str:
        """Name the key without giving it away."""
        return f"SigningKey({self.id.hex()})"

    def sign(self, kind: SignedKind, network_id: bytes, message: bytes) -> bytes:
        """Sign a message for one kind of thing in one network; equal input gives an equal signature.

        Returns:
            64 bytes.

        Raises:
            ValueError: `network_id` is not 32 bytes.
        """
        return self._sign(signed_input(kind, network_id, message))


def verify(
    public: bytes,
    signature: bytes,
    kind: SignedKind,
    network_id: bytes,
    message: bytes,
    *,
    suite: int = SUITE_ED25519,
) -> None:
    """Check a signature over a message of one kind in one network.

    Raises:
        SignatureInvalid: wrong key, signature, kind, network or message; a weak key; an unknown suite.
        ValueError: `network_id`, which is ours and not the peer's, is not 32 bytes.
    """
    covered = signed_input(kind, network_id, message)
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureInvalid(f"A signature has {SIGNATURE_BYTES} bytes, not {len(signature)}.")
    try:
        _suite(suite).load_public(public)(signature, covered)
    except InvalidSignature as exc:
        raise SignatureInvalid(f"The {kind.name.lower()} signature does not fit key {key_id(public).hex()}.") from exc


# --- sealing


class SealingKey:
    """A private X25519 key that opens what was sealed for its `public` (32 bytes)."""

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        """Derive the key pair from 32 bytes of entropy; never the seed of a signing key.

        Raises:
            ValueError: the seed has another length.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        self._private = X25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        """Name the key without giving it away."""
        return f"SealingKey({key_id(self.public).hex()})"

    def open(self, sealed: bytes, aad: bytes = b"") -> bytes:
        """Open what `seal` made for this key.

        Raises:
            DecodeError: sealed for another key or with other `aad`, changed, or cut off. That it opens does not show
                who sealed it.
        """
        if len(sealed) < SEAL_OVERHEAD_BYTES:
            raise DecodeError("A sealed message is cut off.")
        once, text = sealed[:PUBLIC_BYTES], sealed[PUBLIC_BYTES:]
        key, nonce = _seal_keys(self._private, once, once + self.public)
        try:
            return ChaCha20Poly1305(key).decrypt(nonce, text, aad)
        except InvalidTag as exc:
            raise DecodeError("A sealed message is not for this key, or was changed.") from exc


def check_sealing_public(public: bytes) -> None:
    """Check a sealing key before it is enrolled.

    Raises:
        DecodeError: wrong length, or a point with which every secret would be zero.
    """
    _agree(X25519PrivateKey.from_private_bytes(sha256(b"tongban/1/probe")), public)


def seal(public: bytes, plaintext: bytes, entropy: bytes, aad: bytes = b"") -> bytes:
    """Encrypt for the holder of a sealing key: X25519, HKDF-SHA256, ChaCha20-Poly1305.

    Args:
        public: 32 bytes, the receiver's.
        plaintext: what only the receiver may read.
        entropy: 32 fresh random bytes. The one-time key also hangs on all else that goes in, so bytes used twice by
            mistake do not give two texts one key.
        aad: bytes that the opener must give too; not encrypted, not contained.

    Returns:
        One-time public key of 32 bytes, then text and tag: `SEAL_OVERHEAD_BYTES` more than the plaintext.

    Raises:
        DecodeError: the public key is unusable.
        ValueError: `entropy` has another length.
    """
    if len(entropy) != SEED_BYTES:
        raise ValueError(f"entropy has {SEED_BYTES} bytes")
    seed = sha256(b"tongban/1/seal/once" + entropy + public + sha256(aad) + sha256(plaintext))
    private = X25519PrivateKey.from_private_bytes(seed)
    once = private.public_key().public_bytes_raw()
    key, nonce = _seal_keys(private, public, once + public)
    return once + ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


# --- under a passphrase


def passphrase_key(passphrase: str, salt: bytes) -> bytes:
    """Return the 32-byte key that a passphrase and a random salt give: scrypt, some 0.1 s and 32 MiB a guess."""
    return Scrypt(salt=salt, length=32, n=1 << 15, r=8, p=1).derive(passphrase.encode("utf-8"))


def seal_piece(key: bytes, index: int, piece: bytes, *, last: bool) -> bytes:
    """Encrypt one piece of a file under a key used for this file only; `PIECE_OVERHEAD_BYTES` more than the piece."""
    return ChaCha20Poly1305(key).encrypt(_piece_nonce(index, last), piece, b"tongban/1/piece")


def open_piece(key: bytes, index: int, sealed: bytes) -> tuple[bytes, bool]:
    """Open the piece at a place; returns it, and whether it is the last.

    Raises:
        DecodeError: another key, another place, changed, or cut off.
    """
    for last in (False, True):
        try:
            return ChaCha20Poly1305(key).decrypt(_piece_nonce(index, last), sealed, b"tongban/1/piece"), last
        except (InvalidTag, ValueError):
            continue
    raise DecodeError("A piece of a sealed file does not open.")


def _piece_nonce(index: int, last: bool) -> bytes:
    return index.to_bytes(11) + bytes([last])


def _seal_keys(private: X25519PrivateKey, public: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Return key (32 bytes) and nonce (12 bytes) for one sealed message; both public keys are bound in as the salt."""
    secret = _agree(private, public)
    stream = HKDF(algorithm=SHA256(), length=44, salt=salt, info=b"tongban/1/seal").derive(secret)
    return stream[:32], stream[32:]


def _agree(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as exc:  # wrong length, or an all-zero secret
        raise DecodeError("A sealing key is unusable.") from exc
