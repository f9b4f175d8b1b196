"""The plan of the demo: the same for a seed, another for another, and always one that can be told."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.demo.story import (
    ACROSS,
    CITY,
    CUT_STATIONS,
    INSTANT,
    LINE,
    PAUSE_MS,
    PLACES,
    STATIONS,
    TASKS,
    Story,
    plan,
)
from node.inputs import load_divisions, load_file
from protocol.catalogue import parse_catalogue
from protocol.divisions import Tier, parse_node_id
from protocol.identity import check_id_number
from tests.sources import ROOT

SEEDS = st.integers(0, 1 << 32)


def test_places_are_real() -> None:
    """Codes and names are those of the division file; departments belong to a district of it."""
    rows = load_divisions(ROOT / "configs" / "divisions" / "urumqi-sample.csv")
    known = {row.code12: (row.name, row.parent12) for row in rows}
    assert len(PLACES) == 10
    for place in PLACES:
        if parse_node_id(place.node).suffix:
            assert place.parent == place.node.partition("-")[0]
        else:
            assert known[place.node] == (place.name, place.parent)


def test_parents_come_before_their_children() -> None:
    """Who reads the list from its beginning knows each parent already."""
    for number, place in enumerate(PLACES):
        assert place.parent in {None, *(one.node for one in PLACES[:number])}


@given(SEEDS)
def test_a_seed_says_all(seed: int) -> None:
    """The same seed gives the same story."""
    assert plan(seed) == plan(seed)


def test_seeds_differ() -> None:
    """Another seed changes names, order and the times of the cut."""
    stories = [plan(seed) for seed in range(20)]
    assert len({tuple(officer.name for officer in story.officers) for story in stories}) == 20
    assert len({tuple((step.command, step.node) for step in story.steps) for story in stories}) == 20
    assert len({story.pause_s for story in stories}) > 10
    assert len({(len(story.before), len(story.during)) for story in stories}) > 5
    assert {PAUSE_MS[0] <= story.pause_s * 1000 < PAUSE_MS[1] for story in stories} == {True}


@given(SEEDS)
def test_each_step_follows_what_it_builds_on(seed: int) -> None:
    """Ids are unique, and what a step waits for was done before it, in the same case."""
    seen: dict[str, str] = {}
    for step in plan(seed).steps:
        assert step.id not in seen
        assert {seen.get(one) for one in step.after} <= {step.case}
        assert bool(step.after) == (step.command != "case.open")
        seen[step.id] = step.case


@given(SEEDS)
def test_while_the_line_is_cut_only_counters_below_work(seed: int) -> None:
    """Nothing is asked of a node that is down; both stations take a case in meanwhile."""
    story = plan(seed)
    assert {step.node for step in story.during} <= set(STATIONS)
    opened = {step.node for step in story.during if step.command == "case.open"}
    assert opened >= set(CUT_STATIONS)
    done = {step.id for step in story.before}
    for step in story.during:
        assert set(step.after) <= done
        done.add(step.id)
    assert CITY in LINE


@given(SEEDS)
def test_every_case_is_told_to_its_end(seed: int) -> None:
    """Each case is opened and delivered at one counter; the one across districts has both departments at work."""
    story = plan(seed)
    for case in story.cases:
        steps = [step for step in story.steps if step.case == case.label]
        assert (steps[0].command, steps[0].node) == ("case.open", case.opener)
        assert (steps[-1].command, steps[-1].node) == ("case.deliver", case.opener)
        assert {step.node for step in steps if step.command == "case.finish"} == {case.holder}
    assert {ACROSS, INSTANT} < {case.label for case in story.cases}
    tasks = [step for step in story.steps if step.command == "case.task"]
    assert {step.node: step.params["task"] for step in tasks} == TASKS
    assert len({step.after for step in tasks}) == 1


@pytest.mark.parametrize("seed", range(30))
def test_people_are_plausible(seed: int) -> None:
    """Numbers stand every check of the counter, and officers work where they act."""
    story = plan(seed)
    for step in story.steps:
        if step.command == "case.open":
            check_id_number(step.params["id_number"], dt.date(2026, 1, 1))
        assert step.officer.node == step.node
        assert step.officer in story.officers


def test_items_are_of_the_sample_catalogue() -> None:
    """What the story takes in is in the catalogue that the city publishes, with its stage and tasks."""
    items = {item.code: item for item in load_file(ROOT / "configs/catalogue/demo.toml", parse_catalogue)}
    story: Story = plan(1)
    assert {case.item for case in story.cases} <= items.keys()
    (stage,) = items[next(case.item for case in story.cases if case.label == ACROSS)].stages
    assert {task.node: task.name for task in stage.tasks} == TASKS
    dispatch = next(step for step in story.steps if step.command == "case.dispatch")
    assert dispatch.params["stage"] == stage.name
    assert {parse_node_id(node).tier for node in STATIONS} == {Tier.VILLAGE}
