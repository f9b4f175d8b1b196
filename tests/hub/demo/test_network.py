"""The demo's processes: enrolled, asked through restarts, left alone when they are not ours, named when they do not start."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.demo.network import Network
from hub.demo.seats import wait_until_free
from hub.demo.story import CITY, DISTRICT, PLACES
from node.folder import Folder
from node.system import SystemClock
from protocol.errors import TongbanError

CLOCK = SystemClock()
TWO = tuple(place for place in PLACES if place.node in {CITY, DISTRICT})


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def network(tmp_path: Path, stop: threading.Event) -> Iterator[Network]:
    with Network(tmp_path / "net", CLOCK, stop, TWO) as made:
        yield made


def pid(network: Network, node: str) -> int:
    found = {row["node"]: row["pid"] for row in network.rows()}[node]
    assert isinstance(found, int)
    return found


@pytest.mark.processes
def test_a_node_is_enrolled_and_asked_through_its_death(network: Network) -> None:
    """What dies is started again on the way, on the same port, and the command is done."""
    network.found()
    network.enrol(TWO[1])
    status = network.ask(DISTRICT, "status")
    assert (status["name"], status["parent"]) == (TWO[1].name, CITY)
    before, rows = pid(network, DISTRICT), network.rows()
    network._seats[DISTRICT].process.kill()  # type: ignore[union-attr]
    again = network.ask(DISTRICT, "status")
    assert (again["listen"], again["incarnation"]) == (status["listen"], status["incarnation"])
    assert pid(network, DISTRICT) != before
    assert [row["url"] for row in network.rows()] == [row["url"] for row in rows]
    network.stop(DISTRICT)
    assert not network.answers(DISTRICT)
    network.tend()
    assert not network.answers(DISTRICT)


@pytest.mark.processes
def test_a_process_that_somebody_else_started_is_left_alone(network: Network) -> None:
    """Who kills a node and starts it by hand finds it at work for the demo, which starts no second one and stops it in the end."""
    network.found()
    network.stop(CITY)
    folder = Folder(network.root / CITY)
    line = [sys.executable, "-m", "hub.cli", "--data", str(folder.root), "run"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        network.start(CITY)
        assert pid(network, CITY) == other.pid
        network.close()
        assert other.wait(10) == 0
    assert wait_until_free(folder, CLOCK, 0)


@pytest.mark.processes
def test_a_node_that_does_not_start_is_named(network: Network) -> None:
    """Its own last words are told; nothing is tried for ever."""
    network.found()
    network.stop(CITY)
    (network.root / CITY / "config.toml").write_text("[listen]\nprot = 1\n", encoding="utf-8")
    with pytest.raises(TongbanError, match=f"{CITY} does not start.*prot"):
        network.start(CITY)


def test_who_is_asked_to_stop_begins_nothing(network: Network, stop: threading.Event) -> None:
    """After a signal the next step is not taken."""
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        network.ask(CITY, "status")


def test_a_failure_ends_the_other_threads(network: Network, stop: threading.Event) -> None:
    """Where one node cannot be enrolled, those beside it give up."""
    with pytest.raises(ValueError, match="one"), network.abandoned_on_failure():
        raise ValueError("one")
    assert stop.is_set()
