"""From a case's events to the steps that state them. Pure: the same map and case give the same steps at every node.

Each event becomes one step, by the first way of its activity that is possible at its place:

    open      the case has none yet
    task      after the acceptance; its stage is dispatched first
    decide    the table allows it, the stage's tasks have passed, and what follows in the log may follow a decision
    finish    after a decision, when the case ended, and only deliveries and notes follow
    deliver   after a decision or refusal
    others    when the transition table allows them

Between them stand the steps that no log has: the hand-over from the station to the handler, and the dispatch of a stage. They
carry no source. What the log says of a case's end may add a decision and the finish.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.replaying.mapping import STATION, Opening, ReplayMap, Rule, Stage, Way
from node.replaying.reading import Event, LoggedCase
from protocol import limits
from protocol.errors import InputError
from protocol.transitions import SIDE_TYPES, TRANSITIONS, State

AFTER_DECISION: Final = frozenset({"finish", "deliver", "note", "revoke"})
AFTER_FINISH: Final = AFTER_DECISION - {"finish"}
FREE: Final = frozenset({"note", "supplement"})  # side entries of any time
REASONED: Final = frozenset({"refuse", "suspend", "extend", "decide", "revoke", "withdraw"})
_ENTRY: Final[Mapping[str, str]] = {"supplement": "material"}


@dataclass(frozen=True, slots=True)
class Step:
    """What one node states at one place of a case.

    Args:
        command: name of the step.
        node: who states it.
        at_ms: claimed time.
        params: its values.
        officer: as the log names him; None: nobody.
        unit: the window.
        source: (source id, activity); None for what no event of the log says.
        number: of a dispatch: which one of the case, from 1.
    """

    command: str
    node: str
    at_ms: int
    params: Mapping[str, Any]
    officer: str | None = None
    unit: str | None = None
    source: tuple[str, str] | None = None
    number: int = 0

    @property
    def is_side(self) -> bool:
        """Whether it needs no custody."""
        return _ENTRY.get(self.command, self.command) in SIDE_TYPES


@dataclass(slots=True)
class _Course:
    """A case while it is planned."""

    case: LoggedCase
    station: str = ""
    handler: str = ""
    holder: str = ""
    state: State = State.UNOPENED
    is_decided: bool = False
    stage: Stage | None = None
    results: dict[str, str] = field(default_factory=dict)
    dispatches: int = 0
    steps: list[Step] = field(default_factory=list)


def plan_case(replay_map: ReplayMap, case: LoggedCase) -> tuple[Step, ...]:
    """Return the steps of one case, in their order.

    Raises:
        InputError: an event has no way that is possible; the message names case, line and activity.
    """
    course = _Course(case)
    for place, event in enumerate(case.events):
        rule = replay_map.rules.get(event.activity)
        way = _chosen(replay_map, course, rule, place) if rule else None
        if rule is None or way is None:
            raise InputError(f"line {event.line}: {event.activity}: {_why(course, rule)} (case {case.name})")
        _state(course, way, event, rule)
    if case.ended_at is not None:
        for way in replay_map.ending:
            if _is_possible(replay_map, course, way, len(case.events)):
                _end(course, way, max(case.ended_at, case.events[-1].at_ms))
    return tuple(course.steps)


def planned_commands(plans: Iterable[Sequence[Step]]) -> tuple[dict[str, int], dict[str, int]]:
    """Count the commands that state events, and those besides."""
    stated: Counter[str] = Counter()
    besides: Counter[str] = Counter()
    for plan in plans:
        for step in plan:
            (besides if step.source is None else stated)[step.command] += 1
    return dict(stated.most_common()), dict(besides.most_common())


def _why(course: _Course, rule: Rule | None) -> str:
    if rule is None:
        return "is not in the map"
    ways = ", ".join(way.command for way in rule.ways)
    state = "not open" if course.state is State.UNOPENED else course.state.name.lower()
    return f"none of {ways} is possible where the case is {state}; add a way to the map"


# --- choosing


def _chosen(replay_map: ReplayMap, course: _Course, rule: Rule, place: int) -> Way | None:
    return next((way for way in rule.ways if _is_possible(replay_map, course, way, place + 1)), None)


def _is_possible(replay_map: ReplayMap, course: _Course, way: Way, following: int) -> bool:
    """Tell whether a way is possible; `following`: index of the case's next event."""
    if way.command == "open":
        return course.state is State.UNOPENED
    if course.state is State.UNOPENED or not _is_in_hands(course, way):
        return False
    if way.command in _ANY_STATE:
        return _ANY_STATE[way.command](course, way)
    if way.command not in TRANSITIONS[course.state]:
        return False
    rest = course.case.events[following:]
    if way.command == "decide":
        return _may_decide(course, way) and _all_may_follow(replay_map, rest, AFTER_DECISION)
    return way.command != "finish" or _may_finish(replay_map, course, rest)


def _is_in_hands(course: _Course, way: Way) -> bool:
    """Tell whether who is to state it has the case, or can get it; side entries of a party are always possible."""
    if way.by == STATION and way.command != "task":
        return course.holder == course.station or way.command in SIDE_TYPES or way.command in FREE
    return course.holder == course.handler or "offer" in TRANSITIONS[course.state]


def _may_answer(course: _Course, way: Way) -> bool:
    if course.state in {State.RECEIVED, State.NOTICED}:
        return False
    if course.stage is not None and way.stage is not None and course.stage.name == way.stage.name:
        return True
    return "dispatch" in TRANSITIONS[course.state] and course.dispatches < limits.CASE_STAGES_MAX


def _may_decide(course: _Course, way: Way) -> bool:
    """Keep the fold's guard: a grant needs the stage's passes, a denial one that failed, or all answers."""
    stage = course.stage
    if way.stage is not None and (stage is None or stage.name != way.stage.name):
        return False
    if stage is None:
        return True
    results = [course.results.get(task.name, "") for task in stage.tasks]
    if way.params["result"] == "deny":
        return "fail" in results or all(results)
    return results.count("pass") >= stage.passes_needed()


def _may_finish(replay_map: ReplayMap, course: _Course, rest: Sequence[Event]) -> bool:
    ended = not replay_map.log.end or course.case.ended_at is not None
    return ended and _all_may_follow(replay_map, rest, AFTER_FINISH)


def _all_may_follow(replay_map: ReplayMap, rest: Sequence[Event], allowed: frozenset[str]) -> bool:
    return all(event.activity in replay_map.rules and replay_map.rules[event.activity].commands & allowed for event in rest)


# Side entries ask no state of the table.
_ANY_STATE: Final[Mapping[str, Callable[[_Course, Way], bool]]] = {
    "task": _may_answer,
    "deliver": lambda course, _way: course.is_decided,
    **dict.fromkeys(FREE, lambda _course, _way: True),
}


# --- stating


def _state(course: _Course, way: Way, event: Event, rule: Rule) -> None:
    if way.opening is not None:
        _open(course, way.opening)
    node = _prepared(course, way, event.at_ms)
    params = _params(course, way, event)
    step = Step(way.command, node, event.at_ms, params, event.officer, rule.unit, (event.source, event.activity))
    course.steps.append(step)
    _follow(course, way)


def _end(course: _Course, way: Way, at_ms: int) -> None:
    """State what the end of the case says; no event says it, so it carries no source."""
    node = _prepared(course, way, at_ms)
    params = {"reason": "办结", **way.params} if way.command in REASONED else dict(way.params)
    course.steps.append(Step(way.command, node, at_ms, params))
    _follow(course, way)


def _open(course: _Course, opening: Opening) -> None:
    # By the case's name alone, so that a longer log later finds each case where it was.
    stations = opening.stations
    course.station = stations[zlib.crc32(course.case.name.encode("utf-8")) % len(stations)]
    course.handler = opening.handler
    course.holder = course.station


def _params(course: _Course, way: Way, event: Event) -> dict[str, Any]:
    if way.opening is not None:
        return {
            "item": way.opening.item,
            "handler": way.opening.handler,
            "applicant": way.opening.applicant.replace("{case}", course.case.name)[: limits.NAME_CHARS_MAX],
            "form": course.case.form,
        }
    if way.task is not None:
        return {"task": way.task.name, **way.params}
    return {"reason": event.activity, **way.params} if way.command in REASONED else dict(way.params)


def _prepared(course: _Course, way: Way, at_ms: int) -> str:
    """Add the hand-over and the dispatch that a way needs; return who states it."""
    if way.command == "open":
        return course.station
    if way.by == STATION and way.command != "task":
        return course.station
    if course.holder != course.handler:
        course.steps.append(Step("offer", course.station, at_ms, {"to": course.handler}))
        course.steps.append(Step("take", course.handler, at_ms, {}))
        course.holder = course.handler
    if way.task is None or way.stage is None:
        return course.handler
    if course.stage is None or course.stage.name != way.stage.name:
        _dispatch(course, way.stage, at_ms)
    return way.task.node


def _dispatch(course: _Course, stage: Stage, at_ms: int) -> None:
    course.dispatches += 1
    to = {task.name: [task.node, task.unit] for task in stage.tasks}
    params = {"stage": stage.name, "to": to}
    course.steps.append(Step("dispatch", course.handler, at_ms, params, number=course.dispatches))
    course.state = TRANSITIONS[course.state]["dispatch"]
    course.stage, course.results = stage, {}


def _follow(course: _Course, way: Way) -> None:
    """Bring the case to where it is after a step."""
    if way.command == "open":
        course.state = State.RECEIVED
    elif way.task is not None:
        course.results[way.task.name] = way.params["result"]
    elif way.command in TRANSITIONS[course.state]:
        course.state = TRANSITIONS[course.state][way.command]
        course.is_decided = course.is_decided or way.command in {"decide", "refuse"}
