"""What the demo's summary says: one line a fact, each judged against the plan, all words and numbers from what nodes answered.

Pure: `summarise(story, readings)` only compares values. A line that is wrong names what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hub.demo.story import ACROSS, CITY, INSTANT, PLACES, TASKS, Case, Story

DIGEST_CHARS: Final = 8
_PARENTS: Final = {place.node: place.parent for place in PLACES}

Shown = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """What could be read while all above a station was down.

    Attributes:
        down: the nodes for which nothing answered.
        status: of the station.
        here: keys of the cases that the station listed.
        above: keys of the cases that the city listed when it was stopped.
        status_after: of the station, when all was done.
    """

    down: tuple[str, ...]
    status: Shown
    here: frozenset[str]
    above: frozenset[str]
    status_after: Shown = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readings:
    """What the nodes say at the end.

    Attributes:
        statuses: by node.
        cases: by label of the story's case and node, for every node that holds the case.
        listed: the city's list of cases.
        cuts: by station.
        verified, rebuilt: the city's answers.
    """

    statuses: Mapping[str, Shown]
    cases: Mapping[str, Mapping[str, Shown]]
    listed: Sequence[Shown]
    cuts: Mapping[str, Cut]
    verified: Shown
    rebuilt: Shown


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a text's key with its values, and what in it is wrong, by name."""

    key: str
    values: Mapping[str, object]
    wrong: tuple[str, ...] = ()


def summarise(story: Story, readings: Readings) -> list[Line]:
    """Return the lines of the summary."""
    return [
        _network(readings),
        *(_cut(station, cut, readings) for station, cut in readings.cuts.items()),
        *(_case(story, case, readings) for case in story.cases),
        _counted(story, readings),
        _verified(story, readings),
    ]


def _wrong(**met: bool) -> tuple[str, ...]:
    """Return the names of what does not hold."""
    return tuple(name for name, good in met.items() if not good)


def _name(readings: Readings, node: object) -> object:
    """Return what a node says that it is called."""
    return readings.statuses.get(str(node), {}).get("name")


def _network(readings: Readings) -> Line:
    found = readings.statuses
    places = {node: (status.get("name"), status.get("parent")) for node, status in found.items()}
    pending = sum(int(status.get("pending", 0)) for status in found.values())
    networks = {status.get("network") for status in found.values()}
    return Line(
        "demo.line.network",
        {"count": len(found), "networks": len(networks), "pending": pending},
        _wrong(
            nodes=places == {place.node: (place.name, place.parent) for place in PLACES},
            network=len(networks) == 1,
            pending=pending == 0,
        ),
    )


def _cut(station: str, cut: Cut, readings: Readings) -> Line:
    taken_in = cut.here - cut.above
    listed = {row["key"] for row in readings.listed}
    above = len(taken_in & listed)
    left = int(cut.status_after.get("pending", -1))
    return Line(
        "demo.line.cut",
        {
            "station": cut.status.get("name"),
            "down": [_name(readings, node) for node in cut.down],
            "cases": len(taken_in),
            "pending": cut.status.get("pending"),
            "left": left,
            "city": _name(readings, CITY),
            "above": above,
        },
        _wrong(
            node=cut.status.get("node") == station,
            down=sorted(cut.down) == sorted(set(line_up(station)) - {station}),
            saved_here=bool(taken_in) and cut.status.get("safety") == "here",
            pending=int(cut.status.get("pending", 0)) >= len(taken_in),
            caught_up=left == 0 and cut.status_after.get("safety") == "second",
            city=above == len(taken_in),
        ),
    )


def _case(story: Story, case: Case, readings: Readings) -> Line:
    """Judge one case: how it ended, by whose hands, and that all who hold it hold the same."""
    held = readings.cases.get(case.label, {})
    shown = held.get(case.opener) or {}
    digests = {one.get("digest") for one in held.values()}
    key = {ACROSS: "demo.line.across", INSTANT: "demo.line.instant"}.get(case.label, "demo.line.street")
    values = {
        "case": shown.get("case"),
        "title": shown.get("title"),
        "opener": _name(readings, shown.get("opener")),
        "holder": _name(readings, shown.get("holder")),
        "tasks": len([task for task in shown.get("tasks", ()) if task["result"] == "pass"]),
        "outcome": shown.get("outcome"),
        "state": shown.get("state"),
        "delivered": bool(shown.get("delivered")),
        "same": len(held) if len(digests) == 1 else 0,
        "digest": str(shown.get("digest"))[:DIGEST_CHARS],
    }
    return Line(key, values, (*_wrong(**_ended(case, shown), **_alike(story, case, held)), *_tasks(case, shown)))


def _ended(case: Case, shown: Shown) -> dict[str, bool]:
    return {
        "item": shown.get("item") == case.item,
        "applicant": shown.get("applicant") == case.applicant,
        "opener": shown.get("opener") == case.opener,
        "holder": shown.get("holder") == case.holder,
        "outcome": shown.get("outcome") == case.outcome,
        "state": shown.get("state") == "finished",
        "delivered": shown.get("delivered") is True,
    }


def _alike(story: Story, case: Case, held: Mapping[str, Shown]) -> dict[str, bool]:
    """Compare what the nodes that must hold the case show with one another and with the plan's steps."""
    planned = sorted(
        (step.command.removeprefix("case."), step.node, step.officer.id)
        for step in story.steps
        if step.case == case.label
    )
    return {
        "parties": set(held) == holders(story, case),
        "digest": len({one.get("digest") for one in held.values()}) == 1,
        "steps": all(_steps(one) == planned for one in held.values()),
        "effect": all(entry["effect"] == "applied" for one in held.values() for entry in one.get("timeline", ())),
    }


def _steps(shown: Shown) -> list[tuple[str, str, str]]:
    return sorted((entry["type"], entry["node"], entry["officer"] or "") for entry in shown.get("timeline", ()))


def holders(story: Story, case: Case) -> set[str]:
    """Return the nodes that must hold a case: who works on it, and all above them."""
    return {above for step in story.steps if step.case == case.label for above in line_up(step.node)}


def line_up(node: str) -> Iterator[str]:
    """Yield a node and all above it."""
    at: str | None = node
    while at is not None:
        yield at
        at = _PARENTS[at]


def _tasks(case: Case, shown: Shown) -> tuple[str, ...]:
    """Judge the work of the departments: all passed, each behind the same dispatch, none behind the other."""
    if case.label != ACROSS:
        return ()
    results = {task["node"]: task["result"] for task in shown.get("tasks", ())}
    entries: Sequence[Any] = shown.get("timeline", ())
    given = [entry["entry"] for entry in entries if entry["type"] == "dispatch"]
    built_on = {entry["after"] for entry in entries if entry["type"] == "task"}
    return _wrong(tasks=results == dict.fromkeys(TASKS, "pass"), side_by_side=built_on == set(given))


def _counted(story: Story, readings: Readings) -> Line:
    numbers = [row["case"] for row in readings.listed]
    held = {shown["key"] for case in readings.cases.values() for shown in case.values() if "key" in shown}
    return Line(
        "demo.line.counted",
        {"city": _name(readings, CITY), "cases": len(numbers), "numbers": len(set(numbers))},
        _wrong(
            cases=len(numbers) == len(set(numbers)) == len(story.cases),
            keys={row["key"] for row in readings.listed} == held,
        ),
    )


def _verified(story: Story, readings: Readings) -> Line:
    verified, rebuilt = readings.verified, readings.rebuilt
    return Line(
        "demo.line.verified",
        {
            "city": _name(readings, CITY),
            "logs": verified.get("logs"),
            "problems": len(verified.get("problems", ())),
            "cases": rebuilt.get("cases"),
            "entries": rebuilt.get("entries"),
            "different": rebuilt.get("different"),
        },
        _wrong(
            logs=verified.get("logs") == len(PLACES),
            verify=verified.get("problems") == [],
            entries=rebuilt.get("entries") == len(story.steps),
            rebuild=rebuilt.get("cases") == len(story.cases) and rebuilt.get("different") == 0,
        ),
    )
