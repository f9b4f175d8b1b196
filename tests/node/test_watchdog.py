"""Words to the service manager, heard on a real socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from node.watchdog import Notifier


def heard(at: socket.socket) -> bytes:
    at.settimeout(5.0)
    return at.recv(100)


@pytest.mark.parametrize("abstract", [False, True])
def test_each_word_is_one_datagram(tmp_path: Path, abstract: bool) -> None:
    """Ready, alive, stopping, as systemd reads them, by a file's name or one without a file."""
    name = f"@tongban-{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        notifier = Notifier.of({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "120000000"})
        assert notifier.beat_s == 40.0
        notifier.ready()
        notifier.beat()
        notifier.stopping()
        assert [heard(manager) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "120000000"}, {"WATCHDOG_USEC": "soon"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    """Started by hand, or on Windows: nobody listens, nobody waits."""
    notifier = Notifier.of(environ)
    notifier.ready()
    assert notifier.beat_s is None


def test_a_manager_that_does_not_listen_stops_nobody(tmp_path: Path) -> None:
    """A socket that is gone, or full, costs the message only."""
    Notifier(str(tmp_path / "gone"), 1.0).beat()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "full"))
        for _ in range(5_000):
            Notifier(str(tmp_path / "full"), 1.0).beat()
