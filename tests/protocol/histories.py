"""Case histories for the fold's tests: a small network's judge, a writer of entries, and Hypothesis strategies.

case = Script(); case.open(EAST_VILLAGE); case.write(EAST_VILLAGE, "accept")
prev, epoch and basis are stated as an honest author would, unless given.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from protocol.cases import CaseTerms, Held
from protocol.log import Header, encode_header
from protocol.transitions import KNOWN_TYPES, SIDE_TYPES, TRANSITIONS, State

CITY = "650100000000"
EAST = "650102000000"  # districts
WEST = "650103000000"
EAST_TOWN = "650102001000"
EAST_VILLAGE = "650102001001"
EAST_OTHER = "650102001002"
EAST_DEPT = "650102000000-a"
WEST_TOWN = "650103001000"
WEST_VILLAGE = "650103001001"
WEST_DEPT = "650103000000-a"
WEST_DEPT_2 = "650103000000-b"
STRANGER = "650999999999"  # enrolled under the city, but never named in the case

PARENTS: Mapping[str, str | None] = {
    CITY: None,
    EAST: CITY,
    WEST: CITY,
    STRANGER: CITY,
    EAST_TOWN: EAST,
    EAST_DEPT: EAST,
    WEST_TOWN: WEST,
    WEST_DEPT: WEST,
    WEST_DEPT_2: WEST,
    EAST_VILLAGE: EAST_TOWN,
    EAST_OTHER: EAST_TOWN,
    WEST_VILLAGE: WEST_TOWN,
}
NODES = tuple(PARENTS)

BASIS = (1, b"register")
BASIS_2 = (2, b"register")  # the west district stands below the east one: depths and ancestors differ
BASIS_UNKNOWN = (9, b"notheld!")

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_748_570_400_000  # 2025-05-30T10:00+08:00, a Friday


@dataclass(frozen=True)
class TreeJudge:
    """Authority in the small network.

    Args:
        known: bases held.
        refused: (node, type) without the right, under any basis.
        ends: (node, type) → legal time from which the right is over.
    """

    known: frozenset[tuple[int, bytes]] = frozenset({BASIS, BASIS_2})
    refused: frozenset[tuple[str, str]] = frozenset()
    ends: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def knows(self, header: Header) -> bool:
        return header.basis in self.known and header.node in PARENTS

    def _parent(self, header: Header, node: str) -> str | None:
        if node == WEST and header.basis == BASIS_2:
            return EAST
        return PARENTS.get(node)

    def above(self, header: Header, ancestor: str, node: str) -> bool:
        at = self._parent(header, node)
        while at is not None and at != ancestor:
            at = self._parent(header, at)
        return at is not None

    def depth(self, header: Header) -> int:
        depth, at = 0, self._parent(header, header.node)
        while at is not None:
            depth, at = depth + 1, self._parent(header, at)
        return depth

    def refusal(self, header: Header, terms: CaseTerms, legal_at: int) -> str | None:  # noqa: ARG002
        if (header.node, header.type) in self.refused:
            return "not_granted"
        if legal_at >= self.ends.get((header.node, header.type), legal_at + 1):
            return "ended"
        return None


JUDGE = TreeJudge()

OPENING_FIELDS: Mapping[str, Any] = {
    "item": "residence-permit",
    "version": 1,
    "number": "650102001001-20250530-0001-7",
    "handler": EAST_VILLAGE,
    "region": "650103000000",
    "table": 1,
    "limits": [5, 20],
    "kind": 2,
}


def leaf_of(header: Header) -> bytes:
    """Return the leaf hash of a header; of one that the codec refuses (hostile fields), a hash of its form."""
    try:
        raw = encode_header(header)
    except Exception:  # noqa: BLE001 - whatever a hostile field does to the codec is not what is tested here
        raw = repr(header).encode()
    return hashlib.sha256(b"\x00" + raw).digest()


@dataclass
class Script:
    """Writes the entries of one case, each as an honest author would unless told otherwise."""

    judge: TreeJudge = JUDGE
    entries: list[Held] = field(default_factory=list)
    key: bytes | None = None
    tip: bytes | None = None
    epoch: int = 0
    now: int = START
    counts: dict[str, int] = field(default_factory=dict)

    def open(self, node: str = EAST_VILLAGE, **fields: Any) -> Held:
        """Write the opening."""
        held = self.write(node, "open", case=None, prev=None, epoch=None, **{**OPENING_FIELDS, **fields})
        self.key = held.link
        return held

    def write(
        self,
        node: str,
        type_: str,
        *,
        rests: Sequence[Held | bytes] = (),
        saw: Sequence[Held | bytes] = (),
        order: tuple[int, ...] | None = None,
        cut: bool = False,
        claimed: int | None = None,
        header: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> Held:
        """Write one entry; `prev`, `epoch` and `case` may be given, all other keywords are its fields.

        A spine entry becomes the tip that the next entry names, with its epoch.
        """
        count = self.counts.get(node, 0)
        self.counts[node] = count + 1
        self.now += HOUR
        known = {name: overrides.pop(name) for name in ("prev", "epoch", "case") if name in overrides}
        values: dict[str, Any] = {
            "format": 1,
            "suite": 1,
            "node": node,
            "type": type_,
            "officer": "01",
            "window": "1",
            "claimed_at": self.now if claimed is None else claimed,
            "basis": BASIS,
            "count": count,
            "body": None,
            "case": self.key,
            "epoch": self._epoch(type_),
            "prev": self.tip,
            "rests": tuple(link_of(item) for item in rests),
            "saw": tuple(link_of(item) for item in saw),
            "fields": overrides,
        }
        made = Header(**{**values, **known, **(header or {})})
        held = Held(leaf_of(made), made, (0, count) if order is None else order, cut)
        self.entries.append(held)
        if made.type not in SIDE_TYPES and made.type in KNOWN_TYPES:
            self.tip = held.link
            self.epoch = (made.epoch or 0) + (type_ == "return")
        return held

    def _epoch(self, type_: str) -> int:
        return self.epoch + (type_ in {"take", "return", "reclaim"})

    def back_to(self, held: Held, epoch: int = 0) -> None:
        """Go on from an earlier entry, as a second branch."""
        self.tip, self.epoch = held.link, epoch


def link_of(item: Held | bytes) -> bytes:
    """Return the link of an entry, or the link given."""
    return item if isinstance(item, bytes) else item.link


# --- Hypothesis strategies

_garbage = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 40) | st.text(max_size=3) | st.binary(max_size=17),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_FIELD_NAMES = ["to", "of", "at", "kind", "days", "stage", "tasks", "join", "missing", "dispatch", "task", "result"]
garbage_fields = st.dictionaries(st.sampled_from(_FIELD_NAMES), _garbage, max_size=4)


@st.composite
def hostile(
    draw: st.DrawFn, *, length: int = 24, rests: bool = True, times: bool = True, cuts: bool = True, gaps: bool = True
) -> list[Held]:
    """Draw a history with everything that can go wrong.

    Forks, clones, rival reclaims, cuts, strangers, wrong epochs, unknown types and bases, garbage fields, side entries
    anywhere, and entries that are not here. Drawn from one seed, so that trees grow deep (a drawn choice for every
    detail leans to the simplest); it shrinks to the shortest beginning of a history that fails.
    """
    rng = random.Random(draw(st.integers(0, 1 << 48)))
    junk = draw(garbage_fields)
    entries = _Enemy(rng, junk, rests=rests, times=times, cuts=cuts).history(length)
    if not draw(st.booleans()):  # half of them whole
        entries = entries[: draw(st.integers(1, len(entries)))]
    if gaps and rng.random() < 0.5:
        del entries[rng.randrange(len(entries))]
    return entries or [Script().open()]


@dataclass
class _Guess:
    """What the generator believes of a spine entry's place; good enough to build deep trees."""

    state: State
    holder: str
    epoch: int
    offered: str | None = None
    stage: Held | None = None


@dataclass
class _Enemy:
    """Writes hostile histories: mostly moves that custody and the table allow, on any branch, among odd ones."""

    rng: random.Random
    junk: Mapping[str, Any]
    rests: bool
    times: bool
    cuts: bool
    script: Script = field(default_factory=Script)
    guesses: dict[bytes, _Guess] = field(default_factory=dict)

    def history(self, length: int) -> list[Held]:
        opener = self.rng.choice([EAST_VILLAGE, EAST_VILLAGE, WEST_VILLAGE, WEST_TOWN])
        opening = self.script.open(opener, cut=self.cuts and self.rng.random() < 0.05)
        self.guesses[opening.link] = _Guess(State.RECEIVED, opener, 0)
        for _ in range(length):
            self._write()
        return self.script.entries

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _write(self) -> None:
        places = list(self.guesses)
        prev = places[-1] if self._chance(0.65) else self.rng.choice(places)
        guess = self.guesses[prev]
        if self._chance(0.25):
            self._write_side(prev, guess)
        else:
            self._write_spine(prev, guess)

    def _write_side(self, prev: bytes, guess: _Guess) -> None:
        kind = self.rng.choice(["task", "task", "material", "note", "deliver", "card"] + ["time"] * 2 * self.times)
        author = self.rng.choice([guess.holder, guess.holder, *NODES])
        if kind == "task" and guess.stage is not None:
            author = self.rng.choice([WEST_DEPT, WEST_DEPT_2])
        self._put(author, kind, prev, guess, self._fields(kind, guess), moves=0)

    def _write_spine(self, prev: bytes, guess: _Guess) -> None:
        kind = self._kind(guess)
        author = guess.holder
        if kind in {"take", "return"} and guess.offered is not None:
            author = guess.offered
        elif kind == "reclaim":
            author = self.rng.choice([CITY, EAST, EAST, WEST, WEST, EAST_TOWN, WEST_TOWN])
        if self._chance(0.04):
            author = self.rng.choice(NODES)
        moves = kind in {"take", "return", "reclaim"}
        fields = self._fields(kind, guess)
        held = self._put(author, kind, prev, guess, fields, moves=int(moves))
        if held is not None and self._is_allowed(held.header, guess):
            self.guesses[held.link] = _after(guess, held, fields)

    @staticmethod
    def _is_allowed(header: Header, guess: _Guess) -> bool:
        if header.type == "reclaim":
            return JUDGE.above(header, header.node, guess.holder)
        if header.type in {"take", "return"}:
            return header.node == guess.offered
        return header.node == guess.holder and guess.offered is None

    def _kind(self, guess: _Guess) -> str:
        if guess.offered is not None and self._chance(0.85):
            return self.rng.choice(["take", "take", "take", "return", "reclaim"])
        usual = [kind for kind in TRANSITIONS[guess.state] if kind not in {"take", "return"}]
        if self._chance(0.8):  # few cases end early
            usual = [kind for kind in usual if kind not in {"withdraw", "refuse", "adopt"}]
        if not usual or self._chance(0.08):
            usual = ["accept", "finish", "take", "return", "reclaim", "revoke", "decide", "dispatch"]
        return self.rng.choice([*usual, *(["offer"] * ("offer" in usual))])

    def _fields(self, kind: str, guess: _Guess) -> dict[str, Any]:
        rng = self.rng
        some = [rng.choice("abc") for _ in range(rng.randint(1, 3))]
        links = [held.link for held in self.script.entries]
        tasks: list[list[Any]] = [["t", WEST_DEPT, None], ["u", WEST_DEPT_2]]
        dispatch = guess.stage.link if guess.stage is not None and self._chance(0.8) else rng.choice(links)
        choices: dict[str, dict[str, Any]] = {
            "accept": rng.choice([{}, {"lacking": some}, {"lacking": ["a", "b", "c"]}]),
            "refuse": {"kind": rng.choice([4, 5])},
            "notice": {"missing": some},
            "extend": {"days": rng.randint(1, 9)},
            "dispatch": {"stage": "s", "tasks": tasks[: rng.randint(1, 2)], "join": rng.choice(["all", "any", 1])},
            "decide": {"result": rng.choice(["grant", "partial", "deny"])},
            "offer": {"to": rng.choice([WEST, EAST, EAST_TOWN, WEST_TOWN, CITY, EAST_OTHER, EAST_VILLAGE])},
            "adopt": {"of": [rng.choice(links)]},
            "material": {"materials": some},
            "deliver": {"how": "post"},
            "task": {"dispatch": dispatch, "task": rng.choice("tu"), "result": rng.choice(["pass", "pass", "fail"])},
            "time": {"of": rng.choice(links), "at": START + rng.randint(0, 30) * DAY},
        }
        return choices.get(kind, {})

    def _listed(self) -> tuple[list[Held], list[Held]]:
        """Choose what a spine entry rests on and what else it saw."""
        sides = [held for held in self.script.entries if held.header.type in SIDE_TYPES]
        if not self.rests or not sides or self._chance(0.3):
            return [], []
        chosen = self.rng.sample(sides, min(len(sides), self.rng.randint(1, 3)))
        split = self.rng.randint(0, len(chosen))
        return chosen[:split], chosen[split:]

    def _put(
        self, author: str, kind: str, prev: bytes, guess: _Guess, fields: dict[str, Any], *, moves: int
    ) -> Held | None:
        """Write an entry; returns it when it may stand on the tree."""
        rng = self.rng
        header: dict[str, Any] = {
            "prev": prev,
            "epoch": guess.epoch + moves,
            "basis": rng.choice([BASIS, BASIS, BASIS_2]),
        }
        odd = self._chance(0.08)
        oddities: list[dict[str, Any]] = [
            {"basis": BASIS_UNKNOWN},
            {"epoch": guess.epoch + rng.choice([-1, 2, 5])} if guess.epoch else {"epoch": 3},
            {"format": 2},
            {"prev": rng.choice([None, rng.randbytes(16)])},
            {"type": "prophecy"},
            {"fields": dict(self.junk)},
        ]
        header |= {"fields": {**fields, **({"afterwards": True} if self._chance(0.03) else {})}}
        header |= rng.choice(oddities) if odd else {}
        is_spine = kind not in SIDE_TYPES
        relied, seen = self._listed() if is_spine else ([], [])
        count = self.script.counts.get(author, 0)
        # a clone writes at a place that is taken; a restored store restates in another order
        order = (0, rng.randint(0, count)) if self._chance(0.2) else (0, count)
        cut = self.cuts and self._chance(0.1)
        held = self.script.write(author, kind, rests=relied, saw=seen, order=order, cut=cut, header=header)
        return held if is_spine and not odd else None


def _after(guess: _Guess, held: Held, fields: Mapping[str, Any]) -> _Guess:
    """Guess the place behind an entry: as if custody and guards allowed it."""
    kind, author, epoch = held.header.type, held.header.node, held.header.epoch or 0
    state = TRANSITIONS[guess.state].get(kind, guess.state)
    stage = held if kind == "dispatch" else guess.stage
    if kind in {"take", "reclaim"}:
        return _Guess(state, author, epoch, None, stage)
    if kind == "return":
        return _Guess(state, guess.holder, epoch + 1, None, stage)
    offered = fields["to"] if kind == "offer" and fields["to"] != guess.holder else guess.offered
    return _Guess(state, guess.holder, guess.epoch, offered, stage)


@st.composite
def shuffled(draw: st.DrawFn, entries: Sequence[Held]) -> list[Held]:
    """Draw the same entries in another order, some of them more than once."""
    repeats = draw(st.lists(st.sampled_from(list(entries)), max_size=5))
    return draw(st.permutations([*entries, *repeats]))
