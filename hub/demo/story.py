"""What the demo tells, planned from a seed: places, people, cases, their steps, and when a line is cut. Pure.

    story = plan(7)
    story.before, story.during, story.after      # steps; for those of `during` nothing above the stations runs

Places and their codes are real, people and their numbers are invented. The same seed gives the same plan on every machine.
Each step has an id of its own, which goes along as the source of its entry: a step given twice is written once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from protocol.identity import id_check_character

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the demo."""

    node: str
    name: str
    parent: str | None


CITY: Final = "650100000000"
DISTRICT: Final = "650102000000"
OTHER_DISTRICT: Final = "650103000000"
EMPLOYMENT: Final = "650103000000-rsj"
RELIEF: Final = "650103000000-mzj"
STREET: Final = "650102002000"
OTHER_STREET: Final = "650103001000"
STATION: Final = "650102002002"
SECOND_STATION: Final = "650102002005"
OTHER_STATION: Final = "650103001001"

PLACES: Final = (
    Place(CITY, "乌鲁木齐市", None),
    Place(DISTRICT, "天山区", CITY),
    Place(OTHER_DISTRICT, "沙依巴克区", CITY),
    Place(EMPLOYMENT, "沙依巴克区人力资源和社会保障局", OTHER_DISTRICT),
    Place(RELIEF, "沙依巴克区民政局", OTHER_DISTRICT),
    Place(STREET, "燕儿窝街道", DISTRICT),
    Place(OTHER_STREET, "长江路街道", OTHER_DISTRICT),
    Place(STATION, "燕儿窝南社区居委会", STREET),
    Place(SECOND_STATION, "红雁池社区居委会", STREET),
    Place(OTHER_STATION, "经一路社区居委会", OTHER_STREET),
)
STATIONS: Final = (STATION, SECOND_STATION, OTHER_STATION)
CUT_STATIONS: Final = (STATION, SECOND_STATION)
# Stopped together: with the street alone down its stations would find the district, and soon the city.
LINE: Final = (STREET, DISTRICT, CITY)

WINDOW_POST: Final = "窗口"
DECIDING_POST: Final = "审批"
DECIDING: Final = frozenset({"case.decide", "case.finish"})
STAGE: Final = "并联核验"
TASKS: Final[Mapping[str, str]] = {EMPLOYMENT: "就业失业情况核验", RELIEF: "家庭困难情况核验"}

ACROSS: Final = "across"
INSTANT: Final = "instant"
ITEMS: Final[Mapping[str, str]] = {
    ACROSS: "employment-hardship",
    INSTANT: "senior-allowance-check",
    "street": "temporary-relief-small",
}
PAUSE_MS: Final = (300, 1_200)  # how long the line stays down after the last step, at least and below

_POSTS: Final[Mapping[str, tuple[str, ...]]] = {
    OTHER_DISTRICT: (WINDOW_POST, DECIDING_POST),
    STREET: (WINDOW_POST, DECIDING_POST),
    EMPLOYMENT: (WINDOW_POST,),
    RELIEF: (WINDOW_POST,),
    **dict.fromkeys(STATIONS, (WINDOW_POST,)),
}
_FAMILY: Final = tuple("王李张刘陈杨赵黄周吴马白")
_GIVEN: Final = ("建国", "秀英", "志强", "桂兰", "文静", "海燕", "明", "丽", "永福", "雪梅", "晓东", "玉珍")
_WITH_DOT: Final = (
    *("买买提·艾力", "阿依古丽·吐尔逊", "热依汗·肉孜", "木拉提·哈山", "古丽娜尔·库尔班", "艾合买提·玉素甫"),
    *("巴哈尔古丽·阿不都拉", "叶尔兰·马合木提"),
)
_CAUSES: Final = ("突发疾病", "家庭失火", "主要劳动力受伤", "突遭意外")
_REASONS: Final[Mapping[str, str]] = {"grant": "情况属实，符合条件", "partial": "情况部分属实", "deny": "不符合条件"}
_OUTCOMES: Final = ("grant", "grant", "partial", "deny")


@dataclass(frozen=True, slots=True)
class Officer:
    """Who works where. id: of the officer at that node."""

    node: str
    id: str
    name: str
    post: str


@dataclass(frozen=True, slots=True)
class Step:
    """One command at one counter.

    Attributes:
        id: its own in the whole story; the source of the entry that it makes.
        case: label of the case.
        node: where it is given.
        command: of `node.operations`.
        params: of the command, without the case.
        officer: who gives it.
        after: ids of the steps that must be seen at the node before.
    """

    id: str
    case: str
    node: str
    command: str
    params: Mapping[str, Any]
    officer: Officer
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A case and how it must end."""

    label: str
    item: str
    applicant: str
    opener: str
    holder: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Story:
    """The whole plan; `during`: the steps taken while all of `LINE` is down, which stays so `pause_s` longer."""

    seed: int
    officers: tuple[Officer, ...]
    cases: tuple[Case, ...]
    before: tuple[Step, ...]
    during: tuple[Step, ...]
    after: tuple[Step, ...]
    pause_s: float

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in their order."""
        return (*self.before, *self.during, *self.after)


def plan(seed: int) -> Story:
    """Return the story of a seed."""
    draw = _Draw(seed)
    writer = _Writer(draw, _officers(draw))
    street = [writer.street(f"street/{at}", at) for at in CUT_STATIONS]
    street += [writer.street(f"again/{at}", at) for at in CUT_STATIONS if draw.number(f"again/{at}", 0, 2)]
    more = writer.street("more", draw.pick("more", CUT_STATIONS))
    across = writer.across(draw.pick("across", CUT_STATIONS))
    instant = writer.instant(draw.pick("instant", STATIONS))
    parts: dict[str, list[list[Step]]] = {"before": [], "during": [counter for counter, _ in street], "after": []}
    for label, chain in (("more", more[0]), (ACROSS, across[0]), (INSTANT, instant)):
        parts[draw.pick(f"when/{label}", tuple(parts))].append(chain)
    rest = draw.merge("rest", [above for _, above in (*street, more, across)])
    return Story(
        seed,
        tuple(writer.officers.values()),
        tuple(writer.cases),
        draw.merge("before", parts["before"]),
        draw.merge("during", parts["during"]),
        (*draw.merge("after", parts["after"]), *rest),
        draw.number("pause", *PAUSE_MS) / 1000,
    )


@dataclass(frozen=True, slots=True)
class _Draw:
    """Choices that follow from the seed and a label alone, the same in every Python."""

    seed: int

    def number(self, label: str, low: int, end: int) -> int:
        """Return a number in [low, end)."""
        drawn = hashlib.sha256(f"tongban demo/{self.seed}/{label}".encode()).digest()
        return low + int.from_bytes(drawn[:8], "big") % (end - low)

    def pick(self, label: str, options: Sequence[T]) -> T:
        """Return one of several."""
        return options[self.number(label, 0, len(options))]

    def order(self, label: str, options: Sequence[T]) -> list[T]:
        """Return all of them, shuffled."""
        left, found = list(options), []
        while left:
            found.append(left.pop(self.number(f"{label}/{len(left)}", 0, len(left))))
        return found

    def merge(self, label: str, chains: Sequence[Sequence[Step]]) -> tuple[Step, ...]:
        """Mix chains, each in its own order."""
        left = [list(chain) for chain in chains if chain]
        found: list[Step] = []
        while left:
            chain = left[self.number(f"{label}/{len(found)}", 0, len(left))]
            found.append(chain.pop(0))
            left = [one for one in left if one]
        return tuple(found)


def _officers(draw: _Draw) -> dict[tuple[str, str], Officer]:
    wanted = [(node, post) for node, posts in _POSTS.items() for post in posts]
    names = _names(draw, "officer", len(wanted))
    numbers = draw.order("numbers", range(1001, 1001 + len(wanted)))
    return {
        (node, post): Officer(node, str(number), name, post)
        for (node, post), number, name in zip(wanted, numbers, names, strict=True)
    }


def _names(draw: _Draw, label: str, count: int) -> list[str]:
    han = [family + given for family in _FAMILY for given in _GIVEN]
    return draw.order(label, [*draw.order(f"{label}/han", han)[:count], *_WITH_DOT])[:count]


@dataclass(slots=True)
class _Writer:
    """Writes cases as chains of steps: those of the first counter, and what follows further up."""

    draw: _Draw
    officers: dict[tuple[str, str], Officer]
    cases: list[Case] = field(default_factory=list)

    def street(self, label: str, station: str) -> tuple[list[Step], list[Step]]:
        """A case that the street decides."""
        outcome = self.draw.pick(f"{label}/outcome", _OUTCOMES)
        form = {"cause": self.draw.pick(f"{label}/cause", _CAUSES)}
        opening = self._open(label, "street", station, STREET, outcome, form=form)
        offer = self._step(opening, "offer", station)
        take = self._step(offer, "take", STREET)
        accept = self._step(take, "accept", STREET)
        decide = self._step(accept, "decide", STREET, result=outcome, reason=_REASONS[outcome])
        finish = self._step(decide, "finish", STREET)
        return [opening, offer], [take, accept, decide, finish, self._step(finish, "deliver", station, how="window")]

    def across(self, station: str) -> tuple[list[Step], list[Step]]:
        """A case that two departments of the other district work on side by side."""
        form = {"address": "燕儿窝路 1 号"}
        opening = self._open(ACROSS, ACROSS, station, OTHER_DISTRICT, "grant", handler=OTHER_DISTRICT, form=form)
        papers = [{"name": name} for name in ("居民身份证", "就业困难人员认定申请表")]
        supplement = self._step(opening, "supplement", station, material=papers)
        offer = self._step(supplement, "offer", station)
        take = self._step(offer, "take", OTHER_DISTRICT)
        accept = self._step(take, "accept", OTHER_DISTRICT)
        dispatch = self._step(accept, "dispatch", OTHER_DISTRICT, stage=STAGE)
        tasks = [
            self._step(dispatch, "task", node, task=TASKS[node], result="pass", text="经核验，情况属实")
            for node in self.draw.order("tasks", tuple(TASKS))
        ]
        decide = self._step(tasks, "decide", OTHER_DISTRICT, result="grant", reason=_REASONS["grant"])
        finish = self._step(decide, "finish", OTHER_DISTRICT)
        deliver = self._step(finish, "deliver", station, how="window")
        return [opening, supplement, offer], [take, accept, dispatch, *tasks, decide, finish, deliver]

    def instant(self, station: str) -> list[Step]:
        """A case that the station decides at once (即办件)."""
        opening = self._open(INSTANT, INSTANT, station, station, "grant", form={})
        accept = self._step(opening, "accept", station)
        decide = self._step(accept, "decide", station, result="grant", reason=_REASONS["grant"])
        finish = self._step(decide, "finish", station)
        return [opening, accept, decide, finish, self._step(finish, "deliver", station, how="window")]

    def _open(self, label: str, kind: str, station: str, holder: str, outcome: str, **params: Any) -> Step:  # noqa: ANN401 - as `Step.params`
        number = len(self.cases)
        (applicant,) = _names(self.draw, f"applicant/{number}", 1)
        self.cases.append(Case(label, ITEMS[kind], applicant, station, holder, outcome))
        person = {
            "applicant": applicant,
            "id_number": _id_number(self.draw, label, kind),
            "phone": f"1390991{number:04}",
        }
        first = Step("", label, station, "", {}, self._officer(station, ""))
        return self._step(first, "open", station, item=ITEMS[kind], **person, **params)

    def _step(self, before: Step | Sequence[Step], name: str, node: str, **params: Any) -> Step:  # noqa: ANN401 - the same
        previous = [before] if isinstance(before, Step) else list(before)
        command, label = f"case.{name}", previous[0].case
        ident = f"demo-{self.draw.seed}-{label}-{name}" + (f"-{node}" if name == "task" else "")
        after = tuple(one.id for one in previous if one.id)
        return Step(ident, label, node, command, params, self._officer(node, command), after)

    def _officer(self, node: str, command: str) -> Officer:
        post = DECIDING_POST if command in DECIDING else WINDOW_POST
        return self.officers.get((node, post)) or self.officers[node, WINDOW_POST]


def _id_number(draw: _Draw, label: str, kind: str) -> str:
    """Return an invented number: of somebody old where the item is for the old."""
    first, last = (1931, 1943) if kind == INSTANT else (1968, 1995)
    born = f"{draw.number(f'{label}/year', first, last)}{draw.number(f'{label}/month', 1, 13):02}"
    digits = f"650102{born}{draw.number(f'{label}/day', 1, 29):02}{draw.number(f'{label}/serial', 1, 1000):03}"
    return digits + id_check_character(digits)
