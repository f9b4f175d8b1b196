"""The small log and its map, and the five nodes that they name, in one process, with a courier between."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node import faults, inputs, operations
from node import replay as _replay  # noqa: F401 - registers the operation
from node.node import Node
from node.office import Act
from node.replaying.mapping import ReplayMap, parse_map
from node.replaying.reading import Event, LoggedCase
from tests.node import building
from tests.sources import ROOT

LOG = ROOT / "tests" / "data" / "replay-log.jsonl"
MAP = ROOT / "tests" / "data" / "replay-map.toml"
RECEIPT_MAP = ROOT / "configs" / "replay" / "receipt-map.toml"
RECEIPT_LOG = ROOT.parent / "shared" / "data" / "receipt.jsonl.gz"

CITY = building.CITY
STATIONS = ("650102001001", "650102001002")
SOCIAL, CIVIL = building.WEST_SOCIAL, building.WEST_CIVIL
STAGE = {"name": "并联核验", "join": "all", "tasks": [{"name": "社保核验"}, {"name": "民政核验"}]}
MINUTE_MS = 60_000


def raw_map() -> dict[str, Any]:
    return copy.deepcopy(inputs.read_mapping(MAP))


def small_map(**changes: Any) -> ReplayMap:
    return parse_map({**raw_map(), **changes}, "map")


def case(name: str, *activities: str, ended: bool = True) -> LoggedCase:
    """Return a case of the small log's kind, an event a minute."""
    begin = building.START_MS - 1_000 * MINUTE_MS
    events = tuple(
        Event(f"{name}/{place}/{activity}", activity, begin + place * MINUTE_MS, None, place + 1)
        for place, activity in enumerate(activities)
    )
    return LoggedCase(name, events, begin + 900 * MINUTE_MS if ended else None)


@dataclass(frozen=True)
class Here:
    """A node of this process, asked as the driver asks."""

    place: Node
    city: Node

    @property
    def node(self) -> str:
        return self.place.id

    @property
    def parent(self) -> str | None:
        return self.place.parent

    async def ask(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if name == "sync":
            await building.carry(self.place, self.city)
            await building.carry(self.city, self.place)
            return {}
        answer = await operations.run(self.place, name, params, Act())
        assert isinstance(answer, dict)
        return answer

    async def rows(self, name: str, params: Mapping[str, Any], take: Callable[[Mapping[str, Any]], None]) -> None:
        for row in await building.ask(self.place, name, **params):
            take(row)


async def network(folder: Path) -> list[Here]:
    """Found the city, and two stations and two departments right below it."""
    city = await building.found(folder / "city")
    item = building.item(stages=[STAGE], decide=[CITY])
    await building.ask(city, "catalogue.publish", items=[item])
    peers = [Here(city, city)]
    for number, node in enumerate((*STATIONS, SOCIAL, CIVIL)):
        peers.append(Here(await building.enrol(folder / node, city, node, seed=10 + number), city))
    for peer in peers[1:]:
        await building.carry(city, peer.place)  # those enrolled first learn of the others
    return peers


@contextmanager
def dying(label: str, passes: int) -> Iterator[None]:
    """Let the program stop at the nth pass of a point."""
    left = [passes]

    def point(found: str) -> None:
        left[0] -= found == label
        if found == label and not left[0]:
            raise faults.Crash(label)

    with faults.hooked(point):
        yield
