"""One process of the demo: its ports, its folder, its last words. Starting and stopping: test_network.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hub.demo import seats
from hub.demo.seats import HOST, LINES_SHOWN, PORTS, Seat, answers, call, free_ports, tell_to_stop, wait_until_free
from hub.demo.story import PLACES
from node.command import Command
from node.folder import ApiPlace, Folder
from node.system import SystemClock
from protocol.errors import LinkError


def test_ports_are_free_and_different() -> None:
    """A port that somebody listens on is passed over; none is of those that systems give to outgoing connections."""
    (first,) = free_ports(1, 0.5)
    with socket.socket() as taken:
        taken.bind((HOST, first))
        found = free_ports(20, 0.5)
    assert first not in found
    assert len(set(found)) == 20
    assert set(found) <= set(PORTS)
    assert PORTS[-1] < 32_768


def test_no_ports_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """More ports than there are is a failure, not a wait."""
    monkeypatch.setattr(seats, "PORTS", range(20_000, 20_002))
    with pytest.raises(LinkError, match="no free ports"):
        free_ports(3, 0.0)


def test_an_address_that_was_left_behind_is_nobody(tmp_path: Path) -> None:
    """A killed process leaves its address: no node answers there, none is told to stop, and a command fails soon."""
    folder = Folder(tmp_path)
    folder.create()
    assert not answers(folder)
    (port,) = free_ports(1, 0.3)
    folder.save_api(ApiPlace(1, f"http://{HOST}:{port}", "token"))
    assert not answers(folder)
    assert not tell_to_stop(folder)
    with pytest.raises(LinkError):
        call(folder, Command("status"))


def test_a_folder_in_use_is_not_free(tmp_path: Path) -> None:
    """A folder is free once nobody has it open; one that is not there is free."""
    folder, clock = Folder(tmp_path / "node"), SystemClock()
    assert wait_until_free(folder, clock, 0)
    folder.create()
    with folder.locked():
        assert not wait_until_free(Folder(tmp_path / "node"), clock, 0.1)
    assert wait_until_free(folder, clock, 0)


def test_the_last_words_are_the_last_lines(tmp_path: Path) -> None:
    """What a process said in the end is told, or that it said nothing."""
    seat = Seat(PLACES[0], Folder(tmp_path), tmp_path / "x.err", 1, 2)
    assert seat.last_words() == "it says nothing"
    seat.errors.write_text("\n".join(str(line) for line in range(9)), encoding="utf-8")
    assert seat.last_words() == " ".join(str(line) for line in range(9)[-LINES_SHOWN:])
    assert not seat.alive()
