"""The judge of the demo: quiet about a network that did right, and sure about each thing that went wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hub.demo.story import ACROSS, CITY, OTHER_DISTRICT, RELIEF, STATION, plan
from hub.demo.summary import Readings, line_up, summarise
from tests.hub.demo.building import readings

STORY = plan(11)
Spoil = Callable[[Any], None]


def wrong(found: Readings) -> dict[str, tuple[str, ...]]:
    return {line.key: line.wrong for line in summarise(STORY, found) if line.wrong}


def across(found: Any) -> Any:
    """What the first counter shows of the case that crossed districts."""
    case = next(case for case in STORY.cases if case.label == ACROSS)
    return found.cases[ACROSS][case.opener]


@pytest.mark.parametrize("seed", range(20))
def test_a_good_network_is_called_good(seed: int) -> None:
    """Nothing is wrong where all went as planned, whatever the seed."""
    story = plan(seed)
    lines = summarise(story, readings(story))
    assert [line.wrong for line in lines] == [()] * len(lines)


@pytest.mark.parametrize(
    ("spoil", "key", "name"),
    [
        (lambda found: found.statuses[RELIEF].update(pending=1), "demo.line.network", "pending"),
        (lambda found: found.statuses[RELIEF].update(network="cd"), "demo.line.network", "network"),
        (lambda found: found.statuses[RELIEF].update(parent=CITY), "demo.line.network", "nodes"),
        (lambda found: found.cuts[STATION].status.update(safety="parent"), "demo.line.cut", "saved_here"),
        (lambda found: found.cuts[STATION].status.update(pending=0), "demo.line.cut", "pending"),
        (lambda found: found.cuts[STATION].status_after.update(pending=1), "demo.line.cut", "caught_up"),
        (lambda found: across(found).update(state="decided"), "demo.line.across", "state"),
        (lambda found: across(found).update(delivered=False), "demo.line.across", "delivered"),
        (lambda found: across(found).update(outcome="deny"), "demo.line.across", "outcome"),
        (lambda found: across(found).update(holder=STATION), "demo.line.across", "holder"),
        (lambda found: across(found).update(digest="other"), "demo.line.across", "digest"),
        (lambda found: across(found)["tasks"][0].update(result="fail"), "demo.line.across", "tasks"),
        (lambda found: across(found)["timeline"][-1].update(effect="void"), "demo.line.across", "effect"),
        (lambda found: across(found)["timeline"][-1].update(officer="9"), "demo.line.across", "steps"),
        (lambda found: found.cases[ACROSS].pop(RELIEF), "demo.line.across", "parties"),
        (lambda found: found.listed.append(found.listed[0]), "demo.line.counted", "cases"),
        (lambda found: found.listed[0].update(key="else"), "demo.line.counted", "keys"),
        (lambda found: found.verified["problems"].append({}), "demo.line.verified", "verify"),
        (lambda found: found.rebuilt.update(different=1), "demo.line.verified", "rebuild"),
        (lambda found: found.rebuilt.update(entries=1), "demo.line.verified", "entries"),
    ],
)
def test_what_went_wrong_is_named(spoil: Spoil, key: str, name: str) -> None:
    """One thing that does not fit spoils its line, and the line names it."""
    found = copy.deepcopy(readings(STORY))
    spoil(found)
    assert name in wrong(found)[key]


def test_a_task_that_waited_for_another_is_seen() -> None:
    """Departments work side by side only if each built on the dispatch alone."""
    found = copy.deepcopy(readings(STORY))
    for shown in found.cases[ACROSS].values():
        tasks = [entry for entry in shown["timeline"] if entry["type"] == "task"]
        tasks[1].update(after=tasks[0]["entry"])
    assert wrong(found) == {"demo.line.across": ("side_by_side",)}


def test_a_line_that_was_not_cut_is_seen() -> None:
    """What a station saved counts as offline only when nothing above it answered."""
    found = readings(STORY)
    cut = replace(found.cuts[STATION], down=found.cuts[STATION].down[1:])
    assert wrong(replace(found, cuts={STATION: cut}))["demo.line.cut"] == ("down",)


def test_a_network_that_says_nothing_is_no_success() -> None:
    """Where nothing can be read, no line of a case or of the city is right."""
    silent = Readings({}, {}, [], {}, {}, {})
    assert all(line.wrong for line in summarise(STORY, silent))


def test_the_line_up_ends_at_the_root() -> None:
    """A node's ancestors are those of the plan."""
    assert list(line_up(RELIEF)) == [RELIEF, OTHER_DISTRICT, CITY]
