"""Case histories for the fold's tests: a small network's judge, a writer of entries, and Hypothesis strategies.

case = Script(); case.open(EAST_VILLAGE); case.write(EAST_VILLAGE, "accept")
prev, epoch and basis are stated as an honest author would, unless given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from protocol.cases import CaseTerms, Held
from protocol.log import Header, encode_header
from protocol.transitions import KNOWN_TYPES, SIDE_TYPES

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
        if type_ not in SIDE_TYPES and type_ in KNOWN_TYPES:
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

_FIELDS: Mapping[str, st.SearchStrategy[dict[str, Any]]] = {
    "refuse": st.fixed_dictionaries({"kind": st.sampled_from([4, 5])}),
    "notice": st.fixed_dictionaries({"missing": st.lists(st.sampled_from("abc"), min_size=1, max_size=3)}),
    "accept": st.one_of(
        st.just({}), st.fixed_dictionaries({"lacking": st.lists(st.sampled_from("abc"), min_size=1, max_size=3)})
    ),
    "extend": st.fixed_dictionaries({"days": st.integers(1, 10)}),
    "decide": st.fixed_dictionaries({"result": st.sampled_from(["grant", "partial", "deny"])}),
    "offer": st.fixed_dictionaries({"to": st.sampled_from(NODES)}),
    "dispatch": st.fixed_dictionaries(
        {
            "stage": st.just("s"),
            "tasks": st.sampled_from([[["t", WEST_DEPT, None]], [["t", WEST_DEPT, "u"], ["u", WEST_DEPT_2]]]),
            "join": st.sampled_from(["all", "any", 1]),
        }
    ),
    "material": st.fixed_dictionaries({"materials": st.lists(st.sampled_from("abc"), min_size=1, max_size=3)}),
    "deliver": st.fixed_dictionaries({"how": st.sampled_from(["window", "post"])}),
    "correct": st.just({"names": ["applicant"]}),
}
_garbage = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 40) | st.text(max_size=3) | st.binary(max_size=17),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_FIELD_NAMES = ["to", "of", "at", "kind", "days", "stage", "tasks", "join", "missing", "dispatch", "task", "result"]
garbage_fields = st.dictionaries(st.sampled_from(_FIELD_NAMES), _garbage, max_size=4)


@dataclass
class _Guess:
    """What the generator believes of a spine entry's place; good enough to build deep trees."""

    holder: str
    epoch: int
    offered: str | None


def _fields_for(draw: st.DrawFn, type_: str, entries: Sequence[Held]) -> dict[str, Any]:
    links = st.sampled_from([held.link for held in entries])
    if type_ == "task":
        dispatches = [held.link for held in entries if held.header.type == "dispatch"]
        target = draw(st.sampled_from(dispatches) if dispatches else links)
        result = draw(st.sampled_from(["pass", "fail"]))
        return {"dispatch": target, "task": draw(st.sampled_from("tu")), "result": result}
    if type_ == "time":
        return {"of": draw(links), "at": START + draw(st.integers(0, 30)) * DAY}
    if type_ == "adopt":
        return {"of": draw(st.lists(links, min_size=1, max_size=2))}
    return dict(draw(_FIELDS.get(type_, st.just({}))))


def _sides(draw: st.DrawFn, entries: Sequence[Held]) -> tuple[list[Held], list[Held]]:
    """Choose what a spine entry rests on and what else it saw."""
    sides = [held for held in entries if held.header.type in SIDE_TYPES]
    chosen = draw(st.lists(st.sampled_from(sides), unique_by=lambda held: held.link, max_size=4)) if sides else []
    cut = draw(st.integers(0, len(chosen)))
    return chosen[:cut], chosen[cut:]


_SPINE = ["accept", "refuse", "notice", "suspend", "resume", "extend", "dispatch", "decide", "finish", "revoke"]
_SPINE += ["withdraw", "offer", "offer", "take", "take", "return", "reclaim", "reclaim", "adopt"]
_SIDE = ["task", "task", "material", "note", "deliver", "withdrawal", "correct", "rating"]


@st.composite
def hostile(
    draw: st.DrawFn, *, length: int = 18, rests: bool = True, times: bool = True, cuts: bool = True, gaps: bool = True
) -> list[Held]:
    """Draw a history with everything that can go wrong: forks, clones, rival reclaims, cuts, strangers, wrong epochs,
    unknown types and bases, garbage fields, side entries anywhere, and entries that are not here.
    """
    script = Script()
    opening = script.open(cut=cuts and draw(st.integers(0, 15)) == 0)
    guesses = {opening.link: _Guess(EAST_VILLAGE, 0, None)}
    for _ in range(draw(st.integers(0, length))):
        _draw_entry(draw, script, guesses, rests=rests, times=times, cuts=cuts)
    if not gaps:
        return script.entries
    lost = draw(st.sets(st.integers(0, len(script.entries) - 1), max_size=2))
    kept = [held for index, held in enumerate(script.entries) if index not in lost]
    return kept or [opening]


def _draw_entry(
    draw: st.DrawFn, script: Script, guesses: dict[bytes, _Guess], *, rests: bool, times: bool, cuts: bool
) -> None:
    spine = [held for held in script.entries if held.link in guesses]
    # mostly at the newest end, so that trees grow deep; else a fork anywhere
    prev = spine[-1] if draw(st.integers(0, 2)) else draw(st.sampled_from(spine))
    guess = guesses[prev.link]
    is_side = draw(st.integers(0, 3)) == 0
    kinds = (_SIDE + ["time"] * 2 * times) if is_side else _SPINE
    type_ = draw(st.sampled_from(kinds))
    if not is_side and guess.offered is not None and draw(st.integers(0, 4)):
        type_ = draw(st.sampled_from(["take", "take", "return", "reclaim"]))
    author = {"take": guess.offered, "return": guess.offered, "reclaim": None}.get(type_, guess.holder)
    if is_side or author is None or not draw(st.integers(0, 9)):
        author = draw(st.sampled_from(NODES))
    fields = _fields_for(draw, type_, script.entries)
    moves = type_ in {"take", "return", "reclaim"}
    epoch = guess.epoch + moves
    basis = draw(st.sampled_from([BASIS] * 6 + [BASIS_2] * 2))
    oddity = draw(st.integers(0, 39))
    header: dict[str, Any] = {"basis": basis}
    if oddity == 0:
        fields = draw(garbage_fields)
    elif oddity == 1:
        type_ = "prophecy"
    elif oddity == 2:
        header["basis"] = BASIS_UNKNOWN
    elif oddity == 3:
        epoch += draw(st.sampled_from([-1, 1, 2])) if epoch else 1
    elif oddity == 4:
        header["format"] = 2
    elif oddity == 5:
        header["prev"] = draw(st.one_of(st.none(), st.binary(min_size=16, max_size=16)))
    elif oddity == 6:
        fields["afterwards"] = True
    # hostile fields go in whole, so that none is taken for an option of `write`
    header["fields"] = fields
    relied, seen = _sides(draw, script.entries) if rests and draw(st.booleans()) else ([], [])
    count = script.counts.get(author, 0)
    # a clone writes at a place that is taken; a restored store may restate in another order
    order = (0, draw(st.integers(0, count))) if not draw(st.integers(0, 7)) else (0, count)
    script.tip = prev.link
    held = script.write(
        author,
        type_,
        rests=relied if not is_side else (),
        saw=seen if not is_side else (),
        order=order,
        cut=cuts and not draw(st.integers(0, 7)),
        header={"prev": prev.link, **header, "epoch": epoch},
    )
    if not is_side:
        guesses[held.link] = _after(guess, author, type_, epoch, fields)


def _after(guess: _Guess, author: str, type_: str, epoch: int, fields: Mapping[str, Any]) -> _Guess:
    if type_ in {"take", "reclaim"}:
        return _Guess(author, epoch, None)
    if type_ == "return":
        return _Guess(guess.holder, epoch + 1, None)
    if type_ == "offer" and isinstance(fields.get("to"), str):
        return _Guess(guess.holder, guess.epoch, fields["to"])
    return guess


@st.composite
def shuffled(draw: st.DrawFn, entries: Sequence[Held]) -> list[Held]:
    """Draw the same entries in another order, some of them more than once."""
    repeats = draw(st.lists(st.sampled_from(list(entries)), max_size=5))
    return draw(st.permutations([*entries, *repeats]))
