"""Case histories for the fold's tests: a small network's judge, a writer of entries, and Hypothesis strategies.

case = Script(); case.open(EAST_VILLAGE); case.write(EAST_VILLAGE, "accept")
prev, epoch and basis are stated as an honest author would, unless given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


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

    def refusal(self, header: Header, terms: CaseTerms, legal_at: int) -> str | None:
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
        at: int | None = None,
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
            "claimed_at": self.now if at is None else at,
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
