"""A port that cannot be taken says why."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from node.listening import cannot_listen
from protocol.errors import PortTaken, StoreError


async def refusal(host: str, port: int) -> OSError:
    """Try to listen, for real."""
    with pytest.raises(OSError) as caught:
        await asyncio.start_server(lambda _reader, _writer: None, host, port)
    return caught.value


async def test_a_taken_port_is_tried_again_later() -> None:
    """Another program has it: exit code 3, and both ways out are named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = cannot_listen(await refusal("127.0.0.1", port), f"127.0.0.1:{port}", "[listen] port")
    assert isinstance(found, PortTaken)
    assert (found.exit_code, found.retryable, found.data_safe) == (3, True, True)
    assert f"127.0.0.1:{port}" in found.message
    assert "[listen] port" in found.hint


async def test_an_address_that_is_not_there_yet_is_tried_again_too() -> None:
    """A card without its cable has no address; the way to start without it is named."""
    found = cannot_listen(await refusal("203.0.113.7", 1), "203.0.113.7:1", "[listen] host")
    assert (found.exit_code, found.retryable) == (3, True)
    assert "0.0.0.0" in found.hint  # noqa: S104 - a hint to people


def test_what_a_user_may_not_do_is_no_taken_port() -> None:
    """A port below 1024 without the right to it: trying again would not help."""
    found = cannot_listen(PermissionError(errno.EACCES, "Permission denied"), "0.0.0.0:443", "[listen] port")
    assert type(found) is StoreError
    assert found.exit_code == 1
