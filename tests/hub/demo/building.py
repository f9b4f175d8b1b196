"""Readings as a network would give them that did everything right; tests spoil one thing each."""

from __future__ import annotations

from typing import Any

from hub.demo.story import CITY, CUT_STATIONS, LINE, PLACES, TASKS, Case, Story
from hub.demo.summary import Cut, Readings, holders


def readings(story: Story) -> Readings:
    statuses = {place.node: status(place.node, place.name, place.parent) for place in PLACES}
    cases = {case.label: {node: shown(story, case) for node in holders(story, case)} for case in story.cases}
    listed = [{"key": f"key {case.label}", "case": f"number {case.label}"} for case in story.cases]
    return Readings(
        statuses,
        cases,
        listed,
        {station: cut(story, station) for station in CUT_STATIONS},
        {"logs": len(PLACES), "entries": 400, "problems": []},
        {"cases": len(story.cases), "entries": len(story.steps), "different": 0},
    )


def status(node: str, name: str, parent: str | None) -> dict[str, Any]:
    return {"node": node, "name": name, "parent": parent, "network": "ab", "pending": 0, "safety": "second"}


def cut(story: Story, station: str) -> Cut:
    def keys(*parts: tuple[Any, ...]) -> frozenset[str]:
        steps = [step for part in parts for step in part if step.command == "case.open" and step.node == station]
        return frozenset(f"key {step.case}" for step in steps)

    place = next(place for place in PLACES if place.node == station)
    good = status(station, place.name, place.parent)
    away = {**good, "pending": len(story.during), "safety": "here"}
    return Cut(LINE, away, keys(story.before, story.during), keys(story.before), good)


def shown(story: Story, case: Case) -> dict[str, Any]:
    steps = [step for step in story.steps if step.case == case.label]
    entries = [
        {
            "type": step.command.removeprefix("case."),
            "node": step.node,
            "officer": step.officer.id,
            "officer_name": step.officer.name,
            "claimed_at": "2026-05-06T09:30:00.123+08:00",
            "received_at": {CITY: "2026-05-06T09:30:01.456+08:00"},
            "effect": "applied",
            "entry": step.id,
            "after": step.after[0] if step.after else None,
        }
        for step in steps
    ]
    across = any(step.command == "case.task" for step in steps)
    tasks = [{"node": node, "task": task, "result": "pass"} for node, task in TASKS.items()] if across else []
    ended = {"state": "finished", "outcome": case.outcome, "delivered": True, "tasks": tasks, "timeline": entries}
    who = {"item": case.item, "applicant": case.applicant, "opener": case.opener, "holder": case.holder}
    name = {"case": f"number {case.label}", "key": f"key {case.label}", "title": case.item}
    return {**name, **who, **ended, "digest": f"digest {case.label}"}
