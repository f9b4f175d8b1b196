"""The connection's own certificate. It keeps a line private; it is not what nodes trust.

Trust is in the node keys: in `hello` both sides sign the challenge together with the hash of the certificate that this
connection showed. A village PC may boot in 1970 and a hub may be replaced overnight, so nobody checks dates, names or
authorities of certificates, and a lost one is simply made anew.
"""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node.folder import write_private
from protocol.errors import StoreError

NOT_BEFORE: Final = datetime(1970, 1, 1, tzinfo=UTC)
NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280, 4.1.2.5: no well-defined end


def ensure_certificate(path: Path, name: str) -> bytes:
    """Return the node's certificate, made and written first when there is none.

    Args:
        path: of the PEM file that holds certificate and key.
        name: the node id, for people who look at the certificate.

    Returns:
        The certificate, DER.

    Raises:
        StoreError: the file is damaged or cannot be written.
    """
    if not path.exists():
        write_private(path, make_certificate(name))
    return load_certificate(path)


def make_certificate(name: str) -> bytes:
    """Make a key and a certificate signed by itself, both PEM, in one file as `ssl` reads it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + secret


def load_certificate(path: Path) -> bytes:
    """Read the certificate of a PEM file.

    Returns:
        DER.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise _damaged(path) from exc
    return certificate.public_bytes(serialization.Encoding.DER)


def ends_at_s(der: bytes) -> float:
    """Return until when a certificate is dated, seconds since 1970."""
    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()


def certificate_hash(der: bytes) -> bytes:
    """Return the 32 bytes that both sides of a connection sign in `hello`."""
    return hashlib.sha256(der).digest()


def server_context(path: Path) -> ssl.SSLContext:
    """Return the settings of the accepting side.

    Raises:
        StoreError: certificate or key missing or damaged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(path)
    except (OSError, ssl.SSLError) as exc:
        raise _damaged(path) from exc
    return context


def client_context() -> ssl.SSLContext:
    """Return the settings of the calling side: private, but any certificate will do (see the top of this file)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path}: missing or damaged", hint="Delete it: a new one is made at the next start.")
