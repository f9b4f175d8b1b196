"""The scene of the vectors: a small network, one case that two districts handle, and all bytes fixed.

Keys, salts and incarnations are hashes of plain words (see `tests.protocol.network`), so that another implementation
can make them, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protocol import keys
from protocol.authority import RulesJudge
from protocol.calendar import header_fields, parse_calendar, to_body
from protocol.cases import Held
from protocol.standing import order_of
from tests.protocol.network import EAST, START, TOWN, VILLAGE, WEST, WEST_DEPT, Net, Stated, city

WEST_DEPT_2 = "650103000000-b"
HOUR = 3_600_000
DAY = 24 * HOUR
SALT = keys.sha256(b"salt of the vectors")[:16]
ITEM = "residence-permit"
CALENDAR = {
    "format": "tongban-calendar/1",
    "region": "650103000000",
    "version": 1,
    "name": "西区 2026",
    "valid_from": "2026-01-01",
    "valid_through": "2026-12-31",
    "weekday_off": ["2026-09-25", "2026-10-01", "2026-10-02", "2026-10-05", "2026-10-06", "2026-10-07"],
    "weekend_work": ["2026-09-20", "2026-10-10"],
}


@dataclass
class Scene:
    """The network, and the case's entries in the order in which they were written."""

    net: Net = field(default_factory=city)
    case: list[Stated] = field(default_factory=list)
    key: bytes = b""
    tip: bytes = b""
    epoch: int = 0
    now: int = START + DAY

    def spine(self, node: str, type_: str, fields: dict[str, Any] | None = None, **place: Any) -> Stated:
        """Write the next spine entry, as its holder would."""
        self.epoch += type_ in {"take", "return", "reclaim"}
        stated = self._write(node, type_, fields, prev=self.tip, epoch=self.epoch, **place)
        self.tip = stated.link
        return stated

    def side(self, node: str, type_: str, fields: dict[str, Any] | None = None, **place: Any) -> Stated:
        """Write a side entry, seen from the last spine entry."""
        return self._write(node, type_, fields, **{"prev": self.tip, "epoch": self.epoch, **place})

    def open(self) -> Stated:
        """Write the opening."""
        fields = {
            "item": ITEM,
            "version": 1,
            "number": "650102001001-20260922-00013P",
            "handler": WEST_DEPT,
            "region": WEST,
            "table": 1,
            "limits": [5, 20],
            "kind": 2,
        }
        body = {"applicant": "王小明", "id_number": "650102199001011234", "form": {"address": "和平路12号"}}
        opening = self._write(VILLAGE, "open", fields, body=body, case=None, epoch=0)
        self.key = self.tip = opening.link
        return opening

    def _write(
        self, node: str, type_: str, fields: dict[str, Any] | None, body: dict[str, object] | None = None, **place: Any
    ) -> Stated:
        self.now += HOUR
        header = {
            "officer": "01",
            "window": "1",
            "claimed_at": self.now,
            "basis": self.net.rules.basis,
            "case": self.key or None,
        }
        said = {"officer_name": "李四"} if body is None else body
        stated = self.net.logs[node].state(type_, fields, said, salt=SALT, **{**header, **place})
        self.case.append(stated)
        return stated

    def held(self) -> list[Held]:
        """Return the case's entries as the fold takes them."""
        return [
            Held(one.leaf, one.header, order_of(self.net.rules, self.net.logs[one.header.node].id, b"", one.index))
            for one in self.case
        ]

    @property
    def judge(self) -> RulesJudge:
        return RulesJudge(self.net.rules)


def scene() -> Scene:
    """Return the whole scene."""
    made = Scene()
    _rules(made.net)
    _first_half(made)
    _second_half(made)
    return made


def _rules(net: Net) -> None:
    """Publish an item and a calendar, let a hub try what it may not, enrol one node more, and end a grant."""
    net.item(ITEM, WEST, receive=[f"{EAST}/*", f"{WEST}/*"], decide=[WEST_DEPT])
    calendar = parse_calendar(CALENDAR, "vectors")
    net.fact(WEST, "calendar.publish", header_fields(calendar), to_body(calendar))
    net.register()
    net.fact(EAST, "catalogue.item", {**net.registers[-1][1][0].header.fields, "version": 2}, {"text": "theirs"})
    grant = net.fact(
        WEST, "rights.grant", {"to": VILLAGE, "right": "notify", "items": [ITEM], "valid_to": "2026-12-31"}
    )
    net.join(WEST_DEPT_2, WEST, rights=[])
    net.register()
    net.fact(WEST, "rights.end", {"grant": grant.link})
    net.fact(TOWN, "node.address", {"addresses": ["10.1.0.1:9527"]})
    net.register()


def _first_half(made: Scene) -> None:
    """Take in, tell once, take in what lacked, accept, hand over; with side entries of all shades."""
    opening = made.open()
    made.spine(VILLAGE, "notice", {"missing": ["户口簿"]})
    material = made.side(VILLAGE, "material", {"materials": ["户口簿"]})
    made.spine(VILLAGE, "accept", {}, rests=(material.link,))
    made.side(TOWN, "time", {"of": opening.link, "at": opening.header.claimed_at + 2 * HOUR})
    made.spine(VILLAGE, "offer", {"to": WEST_DEPT})
    offered = made.tip
    made.side(VILLAGE, "decide", {"result": "deny"}, prev=offered, epoch=0)  # it is offered away: off the tree
    made.spine(WEST_DEPT, "take")
    made.side(EAST, "accept", {}, prev=offered, epoch=0)  # never the holder


def _second_half(made: Scene) -> None:
    """Two departments side by side, a suspension, a decision, a rival line, and the result at the first counter."""
    tasks = [["审查", WEST_DEPT, None], ["核验", WEST_DEPT_2, "户政科"]]
    dispatch = made.spine(WEST_DEPT, "dispatch", {"stage": "办理", "tasks": tasks, "join": "all"})
    results = [
        made.side(node, "task", {"dispatch": dispatch.link, "task": task, "result": "pass"}) for task, node, _ in tasks
    ]
    made.side(WEST_DEPT, "decide", {"result": "grant"}, prev=dispatch.link, epoch=1)  # void: the join is not met
    decision_place = made.tip = made.case[-1].link
    suspend = made.spine(WEST_DEPT, "suspend", {"kind": "评审"})
    made.now += 2 * DAY
    made.spine(WEST_DEPT, "resume")
    made.spine(WEST_DEPT, "decide", {"result": "grant"}, rests=tuple(one.link for one in results))
    made.side(
        WEST_DEPT, "extend", {"days": 3}, prev=suspend.link, epoch=1
    )  # a clone's: a second line, later in its log
    made.spine(WEST_DEPT, "offer", {"to": VILLAGE})
    made.spine(VILLAGE, "take")
    made.spine(VILLAGE, "finish")
    made.side(VILLAGE, "deliver", {"how": "window"})
    made.side(VILLAGE, "note", prev=b"\x09" * 16)  # its predecessor is not here: it waits
    made.side(VILLAGE, "prophecy")  # of a newer program
    made.side(WEST, "note", prev=decision_place)  # stands above a party
