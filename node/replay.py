"""Replay: a real event log of another system taken in through the nodes that the map names.

    replay = load(Path("log.jsonl.gz"), Path("map.toml"))     # both files checked whole, or refused with line and field
    replay.parts(cases)                                       # what one command carries
    "replay" in operations.names()                            # a node states its own share, by name as any command

The parts are in `node.replaying`; who drives several nodes is `hub.replay`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from node import inputs, operations
from node.command import COMMAND_BYTES_MAX
from node.node import Node
from node.office import Act
from node.replaying.mapping import ReplayMap, parse_map
from node.replaying.planning import Step, plan_case, planned_commands
from node.replaying.reading import EventLog, LoggedCase, decode_cases, read_log
from node.replaying.stating import state_share
from protocol.errors import InputError
from protocol.problems import Problems

CASES_PART: Final = 40  # of one command: about 200 steps, one commit
PART_BYTES_MAX: Final = COMMAND_BYTES_MAX // 4  # one unit of work at the node; the rest is room for the map


@dataclass(frozen=True, slots=True)
class Replay:
    """A log and a map that fit. raw: the map as read, for the nodes. plans: the steps of each case, by its name."""

    raw: Mapping[str, Any]
    map: ReplayMap
    log: EventLog
    plans: Mapping[str, tuple[Step, ...]]

    def share_of(self, node: str) -> list[LoggedCase]:
        """Return the cases in which a node states something."""
        return [case for case in self.log.cases if any(step.node == node for step in self.plans[case.name])]

    def nodes(self) -> list[str]:
        """Return the nodes that state something."""
        return sorted({step.node for plan in self.plans.values() for step in plan})

    def parts(self, cases: Iterable[LoggedCase]) -> Iterator[dict[str, Any]]:
        """Yield the parameters of commands that carry these cases."""
        part: list[LoggedCase] = []
        size = 0
        for case in cases:
            case_bytes = len(msgspec.json.encode(case))
            if part and (len(part) >= CASES_PART or size + case_bytes > PART_BYTES_MAX):
                yield self._command(part)
                part, size = [], 0
            part.append(case)
            size += case_bytes
        if part:
            yield self._command(part)

    def _command(self, cases: list[LoggedCase]) -> dict[str, Any]:
        return {"map": dict(self.raw), "cases": [msgspec.to_builtins(case) for case in cases]}

    def summary(self) -> dict[str, object]:
        """Return what would be stated."""
        stated, besides = planned_commands(self.plans.values())
        nodes = Counter(step.node for plan in self.plans.values() for step in plan)
        return {
            "events": self.log.events,
            "cases": len(self.log.cases),
            "by_activity": self.log.by_activity(),
            "by_command": stated,
            "besides": besides,
            "by_node": dict(sorted(nodes.items())),
            "notes": stated.get("note", 0),
            "unmapped": [],
        }


def load(log_file: Path, map_file: Path) -> Replay:
    """Read and check a log and its map.

    Raises:
        InputProblems: every fault with line or activity, and field; activities that the map lacks with their counts.
        InputError: a file cannot be read.
    """
    raw = inputs.read_mapping(map_file)
    found = parse_map(raw, str(map_file))
    log = read_log(log_file, found)
    _check_mapped(log, map_file)
    return Replay(raw, found, log, _plans(found, log, log_file))


def _check_mapped(log: EventLog, map_file: Path) -> None:
    problems = Problems(str(map_file))
    for activity, (count, line) in sorted(log.unmapped.items(), key=lambda one: -one[1][0]):
        problems.add("activities", f"{activity}: not mapped: {count} events, the first on line {line} of the log")
    problems.check()


def _plans(replay_map: ReplayMap, log: EventLog, log_file: Path) -> dict[str, tuple[Step, ...]]:
    problems = Problems(str(log_file))
    plans: dict[str, tuple[Step, ...]] = {}
    for case in log.cases:
        try:
            plans[case.name] = plan_case(replay_map, case)
        except InputError as error:
            problems.add("", error.message)
    problems.check()
    return plans


async def _replay(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    """State this node's share of some cases: `map` as a map file has it, `cases` as `Replay.parts` writes them."""
    unknown = params.keys() - {"map", "cases"}
    if unknown or "map" not in params or "cases" not in params:
        raise InputError("replay: needs map and cases, nothing else")
    return await state_share(node, _known_map(msgspec.json.encode(params["map"], order="sorted")), decode_cases(params["cases"]))


@lru_cache(maxsize=4)
def _known_map(encoded: bytes) -> ReplayMap:
    """Read a map once for all batches that carry it."""
    return parse_map(msgspec.json.decode(encoded), "map")


operations.register("replay", _replay)
