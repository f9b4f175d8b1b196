"""Carries the demo's story out on running nodes, and reads back what they made of it.

Every step is given with its own source id, so that it may be given again after a restart; before it the node must show the
steps that it builds on, which came to it through the network alone. What the summary says comes from `Readings`, never from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from hub.demo.network import Network
from hub.demo.screen import Screen
from hub.demo.seats import POLL_S
from hub.demo.story import CITY, CUT_STATIONS, LINE, PLACES, Step, Story
from hub.demo.summary import Cut, Readings, Shown, line_up
from node.command import Claim
from node.ports import Clock
from node.system import block_s
from protocol.errors import TongbanError

SEEN_S: Final = 150.0  # until what was done elsewhere is seen at a node
SETTLE_S: Final = 30.0  # until nothing is on its way any more
WINDOW: Final = "1"


class Telling:
    """One telling of a story.

    Args:
        network: founded, with all nodes enrolled.
        story: what to do.
        screen: told of every step.
        clock: the machine's.
    """

    def __init__(self, network: Network, story: Story, screen: Screen, clock: Clock) -> None:
        self._network = network
        self._story = story
        self._screen = screen
        self._clock = clock
        self._keys: dict[str, str] = {}  # of the cases, by label: how commands name them
        self._cuts: dict[str, Cut] = {}

    # --- preparing

    def publish(self, items: Sequence[Shown], calendars: Sequence[Shown]) -> None:
        """Let the city publish items and calendars, and each node state its officers; wait until all have heard."""
        self._network.ask(CITY, "catalogue.publish", {"items": list(items)})
        for calendar in calendars:
            self._network.ask(CITY, "calendar.publish", {"calendar": dict(calendar)})
        for officer in self._story.officers:
            told = {"id": officer.id, "name": officer.name, "post": officer.post}
            self._network.ask(officer.node, "officer.add", told)
        for place in PLACES:
            self._wait("demo.wait.rules", place.node, lambda node=place.node: self._has_heard(node))  # type: ignore[misc] # a default binds the node

    def _has_heard(self, node: str) -> bool:
        newest = self._network.ask(CITY, "status")["basis"]
        if self._network.ask(node, "status")["basis"] != newest:
            return False
        known = {item["code"] for item in self._network.ask(node, "catalogue.list") if item["text_here"]}
        works = {step.params["item"] for step in self._story.steps if step.node == node and "item" in step.params}
        return known >= works

    # --- telling

    def tell(self) -> Readings:
        """Do every step, cut the line in between, and read the outcome back."""
        self._do(self._story.before)
        for station in CUT_STATIONS:
            self._wait("demo.wait.acked", station, lambda node=station: self._pending(node) == 0)  # type: ignore[misc] # the same
        told = frozenset(self._keys.values())  # a parent may have them, and the city not yet: they would count as taken in meanwhile
        self._wait("demo.wait.acked", CITY, lambda: told <= self._cases_at(CITY))
        known = self._cases_at(CITY)
        self._network.stop(*LINE)
        self._screen.say("demo.cut", names=self._line())
        self._do(self._story.during)
        self._cuts = {station: self._cut_at(station, known) for station in CUT_STATIONS}
        block_s(self._story.pause_s)
        self._network.start(*LINE)
        self._screen.say("demo.mended", names=self._line())
        self._catch_up()
        self._do(self._story.after)
        self._settle()
        return self._read()

    def _do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.after:
                self._wait("demo.wait.step", step.node, lambda step=step: self._sees(step))  # type: ignore[misc] # the same
            case = {"case": self._keys[step.case]} if step.case in self._keys else {}
            claim = Claim(step.officer.id, WINDOW, None, (step.id, step.command))
            answer = self._network.ask(step.node, step.command, {**case, **step.params}, claim)
            self._keys[step.case] = answer["key"]
            self._screen.step(self._clock.wall_ms(), _name(step.node), step, answer)

    def _sees(self, step: Step) -> bool:
        """Tell whether a node shows, in effect, all that a step builds on."""
        shown = self._shown(step.node, self._keys[step.case])
        seen = {
            entry["details"]["source"][0]
            for entry in (shown["timeline"] if shown is not None else ())
            if entry["effect"] == "applied" and "source" in entry["details"]
        }
        return seen >= set(step.after)

    def _cut_at(self, station: str, above: frozenset[str]) -> Cut:
        return Cut(
            tuple(node for node in LINE if not self._network.answers(node)),
            self._network.ask(station, "status"),
            self._cases_at(station),
            above,
        )

    def _line(self) -> str:
        return self._screen.listing(_name(node) for node in LINE)

    def _catch_up(self) -> None:
        """Watch the stations send, by themselves, what they took in; nobody tells them to."""
        waiting = {station: self._pending(station) for station in CUT_STATIONS}
        with self._screen.bar("demo.bar.catch_up", sum(waiting.values())) as advance:
            for station in CUT_STATIONS:
                self._wait("demo.wait.acked", station, lambda node=station: self._pending(node) == 0)  # type: ignore[misc] # the same
                advance(waiting[station])

    # --- reading back

    def _settle(self) -> None:
        """Wait until nothing is on its way; what then still differs, the summary shows."""
        ends_at = self._clock.monotonic_s() + SETTLE_S
        while not self._is_settled() and self._clock.monotonic_s() < ends_at:
            block_s(POLL_S)

    def _is_settled(self) -> bool:
        if any(self._pending(place.node) for place in PLACES):
            return False
        if any(self._network.ask(station, "status")["safety"] != "second" for station in CUT_STATIONS):
            return False  # the receipts of the hub behind the parent are still on their way down
        return all(
            len({shown.get("digest") for shown in self._holders(key).values()}) == 1 for key in self._keys.values()
        )

    def _holders(self, key: str) -> dict[str, Shown]:
        """Read a case at its parties and at all nodes above them; {} where it is not."""
        parties = self._network.ask(CITY, "show", {"case": key})["parties"]
        nodes = sorted({above for party in parties for above in line_up(party)})
        return {node: self._shown(node, key) or {} for node in nodes}

    def _read(self) -> Readings:
        statuses = {place.node: self._network.ask(place.node, "status") for place in PLACES}
        after = {station: self._network.ask(station, "status") for station in self._cuts}
        with self._screen.bar("demo.bar.verify", 2) as advance:
            verified = self._network.ask(CITY, "verify")
            advance(1)
            rebuilt = self._network.ask(CITY, "rebuild")
            advance(1)
        return Readings(
            statuses,
            {label: self._holders(key) for label, key in self._keys.items()},
            self._list(CITY),
            {node: replace(cut, status_after=after[node]) for node, cut in self._cuts.items()},
            verified,
            rebuilt,
        )

    def _list(self, node: str) -> list[Shown]:
        return list(self._network.ask(node, "list") or ())

    def _cases_at(self, node: str) -> frozenset[str]:
        return frozenset(row["key"] for row in self._list(node))

    def _pending(self, node: str) -> int:
        return int(self._network.ask(node, "status")["pending"])

    def _shown(self, node: str, key: str) -> Shown | None:
        try:
            shown: Shown = self._network.ask(node, "show", {"case": key})
        except TongbanError as exc:
            if exc.code == "not_found":
                return None
            raise
        return shown

    def _wait(self, what: str, node: str, met: Callable[[], bool]) -> None:
        """Wait until a node shows something.

        Raises:
            TongbanError: it does not in a long time; names node and thing.
        """
        ends_at = self._clock.monotonic_s() + SEEN_S
        while not met():
            if self._clock.monotonic_s() >= ends_at:
                raise TongbanError(f"{node} {_name(node)}: {self._screen.text(what)}: not within {SEEN_S:g} s")
            block_s(POLL_S)


def _name(node: str) -> str:
    return next(place.name for place in PLACES if place.node == node)
