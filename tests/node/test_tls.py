"""The connection is private; trust is elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from node import tls
from protocol.errors import StoreError


def test_a_certificate_is_made_once(tmp_path: Path) -> None:
    """A restart shows the same certificate; losing the file only makes a new one."""
    path = tmp_path / "node.pem"
    first = tls.ensure_certificate(path, "650102000000")
    assert tls.ensure_certificate(path, "650102000000") == first
    path.unlink()
    assert tls.ensure_certificate(path, "650102000000") != first


def test_a_certificate_is_valid_at_any_date() -> None:
    """A PC that boots in 1970 and one in 9999 both take it; the curve is P-256."""
    certificate = x509.load_pem_x509_certificate(tls.make_certificate("650102000000"))
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (tls.NOT_BEFORE, tls.NOT_AFTER)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights elsewhere")
def test_the_key_is_private(tmp_path: Path) -> None:
    """Only this user reads the key."""
    tls.ensure_certificate(tmp_path / "node.pem", "x")
    assert stat.S_IMODE((tmp_path / "node.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    """What to do about it is said: delete the file."""
    path = tmp_path / "node.pem"
    path.write_bytes(content)
    for load in (tls.load_certificate, tls.server_context, lambda path: tls.ensure_certificate(path, "x")):
        with pytest.raises(StoreError, match=r"node\.pem") as caught:
            load(path)
        assert "Delete" in caught.value.hint


def test_old_versions_are_refused() -> None:
    """TLS below 1.2 is not spoken."""
    assert tls.client_context().minimum_version == ssl.TLSVersion.TLSv1_2


async def test_both_ends_see_the_same_certificate_hash(tmp_path: Path) -> None:
    """The caller takes any certificate, and learns the hash that the hub signs in `hello`."""
    der = tls.ensure_certificate(tmp_path / "node.pem", "650102000000")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls.server_context(tmp_path / "node.pem"))
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client_context())
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        seen = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
    assert tls.certificate_hash(seen) == tls.certificate_hash(der) == hashlib.sha256(der).digest()
