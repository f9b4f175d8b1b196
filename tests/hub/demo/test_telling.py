"""Steps on a real node: given twice, written once; what never comes is named. Whole stories: test_demo.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hub.demo import samples, telling
from hub.demo.network import Network
from hub.demo.screen import Screen
from hub.demo.story import CITY, INSTANT, PLACES, Officer, Step, Story, plan
from hub.demo.telling import Telling
from node.system import SystemClock
from protocol.errors import TongbanError

pytestmark = pytest.mark.processes

CLOCK = SystemClock()
OFFICER = Officer(CITY, "1001", "王明", "窗口")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), CLOCK, threading.Event(), PLACES[:1]) as made:
        made.found()
        made.ask(CITY, "catalogue.publish", {"items": samples.catalogue()})
        made.ask(CITY, "officer.add", {"id": OFFICER.id, "name": OFFICER.name})
        yield made


@pytest.fixture
def steps() -> tuple[Step, ...]:
    """The case that is decided at once, told at the city's own counter."""
    found = [step for step in plan(3).steps if step.case == INSTANT]
    return tuple(replace(step, node=CITY, officer=OFFICER) for step in found)


def tell(network: Network, story: Story) -> Telling:
    return Telling(network, story, Screen("en", aside=True), CLOCK)


def test_a_step_given_twice_is_written_once(network: Network, steps: tuple[Step, ...]) -> None:
    """Whoever repeats a step after a restart gets the same case, and no second entry."""
    first, told = tell(network, plan(3)), tell(network, plan(3))
    first._do(steps[:3])
    told._do(steps)
    key = told._keys[INSTANT]
    assert first._keys[INSTANT] == key
    shown = told._shown(CITY, key)
    assert shown is not None
    assert [entry["type"] for entry in shown["timeline"]] == ["open", "accept", "decide", "finish", "deliver"]
    assert (shown["state"], shown["delivered"]) == ("finished", True)


def test_a_step_that_never_comes_is_named(
    network: Network, steps: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step waits for in vain ends the demo, with node and reason."""
    monkeypatch.setattr(telling, "SEEN_S", 0.2)
    told = tell(network, plan(3))
    with pytest.raises(TongbanError, match=f"{CITY}.*waiting for the steps before"):
        told._do([steps[0], replace(steps[1], after=("never",))])


def test_a_refused_step_ends_the_demo(network: Network, steps: tuple[Step, ...]) -> None:
    """A node's refusal is told in its own words, not tried for a minute."""
    told = tell(network, plan(3))
    stranger = replace(steps[0], id="other", officer=replace(OFFICER, id="9"))
    with pytest.raises(TongbanError, match="no officer 9"):
        told._do([stranger])


def test_a_case_that_is_not_here_is_none(network: Network) -> None:
    """Reading back distinguishes what a node lacks from a failure."""
    assert tell(network, plan(3))._shown(CITY, "ab" * 16) is None
