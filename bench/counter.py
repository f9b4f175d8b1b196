"""A counter at work: each change of the workload goes through the use case of a real command, in the real office.

receive → open, accept → accept, step → note, decide → decide (grant or deny), finish → finish. The claimed time is the
change's own, since the machine's clock is set to it; live, it is now. What the workload masks stays as given in the form.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.clock import BenchClock
from bench.workload import Change
from node.ledger import Changes
from node.node import Node
from node.office import counter, officers, opening
from node.office.desk import Act, Answer, Desk, at_desk, perform
from node.office.drafting import Dossier
from node.store.database import Connection
from protocol import identity

WINDOW: Final = "3"
CHANGES_PER_UNIT: Final = 200  # written in one transaction while a backlog is prepared
RESULTS: Final = {"approved": "grant", "rejected": "deny"}


def at_ms(change: Change) -> int:
    """Return the time of a change, ms since the epoch."""
    return round(dt.datetime.fromisoformat(change["at"]).timestamp() * 1000)


def whole_number(masked: str) -> str:
    """Return a number of the right form for a masked one: the office takes no other."""
    digits = f"{masked[:6]}19{50 + int(masked[-2:]) % 50}0{int(masked[-3]) % 9 + 1}1{int(masked[-4])}{masked[-4:-1]}"
    return digits + identity.id_check_character(digits)


@dataclass(slots=True)
class Counter:
    """One node's counter. keys: of the cases opened here, by the workload's own names, hex. steps: entries of each."""

    node: Node
    clock: BenchClock
    keys: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    async def write(self, changes: Sequence[Change]) -> None:
        """Write a backlog, at the times that it claims."""
        for begin in range(0, len(changes), CHANGES_PER_UNIT):
            part = changes[begin : begin + CHANGES_PER_UNIT]
            await self.node.write(lambda conn, told, part=part: self._write_all(conn, told, part))  # type: ignore[misc]
        self.clock.fixed_ms = None

    def write_now(self, conn: Connection, told: Changes, changes: Iterable[Change]) -> None:
        """Write changes as part of a unit, at the time that the clock shows."""
        for change in changes:
            self._write(conn, told, change)

    def _write_all(self, conn: Connection, told: Changes, changes: Iterable[Change]) -> None:
        for change in changes:
            self.clock.fixed_ms = at_ms(change)
            self._write(conn, told, change)

    def _write(self, conn: Connection, told: Changes, change: Change) -> None:
        self._noted(change, perform(self.node, conn, told, self._act(change), lambda desk: self._do(desk, change)))

    async def save(self, change: Change) -> tuple[str, int]:
        """Write one change now, in a transaction of its own; returns the case's key and how many entries it has then."""
        self._noted(change, await at_desk(self.node, self._act(change), lambda desk: self._do(desk, change)))
        return self.keys[change["case"]], self.steps[change["case"]]

    async def add_officers(self, names: Iterable[str]) -> None:
        """State who works here."""
        for name in sorted(set(names)):
            await at_desk(self.node, Act(), lambda desk, name=name: officers.add(desk, name, "办事员"))  # type: ignore[misc]

    def _act(self, change: Change) -> Act:
        return Act(change["officer"], WINDOW)

    def _noted(self, change: Change, answer: Answer) -> None:
        self.keys[change["case"]] = str(answer["key"])
        self.steps[change["case"]] = self.steps.get(change["case"], 0) + 1

    def _do(self, desk: Desk, change: Change) -> Answer:
        act, text = change["act"], change["remark"]
        if act == "receive":
            form = {"idno": change["idno"], "remark": text}
            return opening.open_case(desk, opening.Wish(change["item"], change["name"], whole_number(change["idno"]), form=form))
        case = self.keys[change["case"]]
        if act == "step":
            return counter.note(desk, case, text=text)
        if act == "decide":
            return counter.decide(desk, case, result=RESULTS[change["status"]], reason=text)
        # what `counter.accept` and `counter.finish` do, with the workload's remark, for which they have no option
        return Dossier.open(desk, case).spine(act, {}, {"text": text})
