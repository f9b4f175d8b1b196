"""What stands outside the product and remembers: what counters were told, who held which entry when, and what must never be.

It reads the machines' files after each commit and never asks the program; of the program it uses no rule, no fold, no projection,
only the place of columns. It decodes headers itself. What it checks, and when:

- I1 when a child counts something as acknowledged, a hub above it had committed just that; restarts lose nothing committed
- I2 what a counter called saved is on its disk after every restart; at the end it is at the root once, or no copy was left of it
- I4 one leaf under one place of a log, but for machines that were put back or cloned, or that lie; then both are kept
- I5 in each epoch of a case one node wrote with effect; it was offered, or stands above (`custody`)
- I6 every entry anywhere was written by its author's machine; no body was changed; what had no right has no effect
- I7 receive stamps of a hub never fall
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from node.store.database import Connection

SPINE: Final = frozenset(
    (
        *("open", "accept", "refuse", "notice", "suspend", "resume", "extend", "dispatch", "decide", "finish"),
        *("revoke", "withdraw", "offer", "take", "return", "reclaim", "adopt"),
    )
)
HERE, PARENT, SECOND = 0, 1, 2
LEVELS: Final = ("here", "parent", "second")

Log = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Fact:
    """An entry, read from its bytes. place: of the header's 16 fields."""

    leaf: bytes
    node: str
    type: str
    case: bytes | None
    epoch: int | None
    prev: bytes | None
    fields: Mapping[str, Any]

    @property
    def link(self) -> bytes:
        """How other entries name it."""
        return self.leaf[:16]

    @property
    def key(self) -> bytes | None:
        """The case that it belongs to."""
        return self.link if self.type == "open" else self.case


@dataclass(slots=True)
class Seen:
    """One machine's disk, as far as it was read."""

    last_entry: int = 0
    leaves: set[bytes] = field(default_factory=set)
    logs: dict[int, tuple[str, bytes, bytes]] = field(default_factory=dict)  # id → node, incarnation, branch
    acks: dict[int, int] = field(default_factory=dict)
    receipts: int = 0


@dataclass(slots=True)
class Saved:
    """What a counter was told is saved. level: the strongest that was shown for it."""

    node: str
    source: str
    level: int = HERE


class Oracle:
    """The ledger of one run. `violations` is what was found; the run stops at the first."""

    def __init__(self) -> None:
        self.facts: dict[bytes, Fact] = {}  # leaf → entry
        self._by_raw: dict[bytes, Fact] = {}
        self.seen: dict[str, Seen] = {}
        self.saved: dict[bytes, Saved] = {}
        self.born: set[bytes] = set()
        self.ever: dict[bytes, set[str]] = {}  # leaf → machines on whose disk it was committed
        self.places: dict[tuple[str, bytes, int], bytes] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.parents: dict[str, str] = {}
        self.forkers: set[str] = set()  # who was put back, cloned or lies: a second history is no wonder
        self.liars: set[str] = set()
        self.lossy: set[str] = set()  # who lost a part of its disk by our own hand
        self.doomed: set[bytes] = set()
        self.voids: set[bytes] = set()  # entries that may never have an effect
        self.forked: set[tuple[str, bytes, int]] = set()
        self.openings: Counter[str] = Counter()
        self.violations: list[str] = []
        self.checks: Counter[str] = Counter()
        self._restoring: set[str] = set()

    def fail(self, rule: str, text: str) -> None:
        """Remember what must not be."""
        self.violations.append(f"{rule}: {text}")

    # --- who stands where

    def above(self, node: str) -> list[str]:
        """Return the nodes above one, its parent first."""
        found = []
        while node in self.parents:
            node = self.parents[node]
            found.append(node)
        return found

    @staticmethod
    def node_of(machine: str) -> str:
        """Return the node that a machine is: clones are called NODE@n."""
        return machine.partition("@")[0]

    # --- what machines commit

    def opened(self, machine: str, conn: Connection) -> None:
        """Read a disk as its machine starts from it: everything committed before is there, unless we took it."""
        before = self.seen.get(machine)
        seen = self.seen[machine] = Seen()
        self.committed(machine, conn, fresh=True)
        if before is None:
            return
        lost = before.leaves - seen.leaves
        if machine in self._restoring:
            self._restoring.discard(machine)
            self._part_with(lost)
        elif lost:
            self.checks["I2 restart"] += 1
            self.fail("I1/I2", f"{machine} started again without {len(lost)} entries that it had committed: {self._named(lost)}")
        else:
            self.checks["I2 restart"] += 1

    def forget(self, machine: str) -> None:
        """Forget a disk that was laid down and thrown away before its machine had joined."""
        self.seen.pop(machine, None)

    def restoring(self, machine: str) -> None:
        """Note that a disk is about to be put back or taken away by our own hand."""
        self._restoring.add(machine)
        self.forkers.add(self.node_of(machine))
        self.lossy.add(self.node_of(machine))

    def gone(self, machine: str) -> None:
        """Note that a machine was taken away with its disk."""
        self.lossy.add(self.node_of(machine))
        self._part_with(self.seen.pop(machine).leaves)

    def _part_with(self, lost: Iterable[bytes]) -> None:
        """Note what no disk is left for that could bring it to the root: its author's, or one above."""
        for leaf in lost:
            keepers = {self.facts[leaf].node, *self.above(self.facts[leaf].node)}
            if not any(leaf in seen.leaves for other, seen in self.seen.items() if self.node_of(other) in keepers):
                self.doomed.add(leaf)

    def committed(self, machine: str, conn: Connection, *, fresh: bool = False) -> None:
        """Look at what a machine has committed since it was looked at."""
        seen = self.seen.setdefault(machine, Seen())
        rows = conn.execute("SELECT id, log, idx, raw, body FROM entries WHERE id > ? ORDER BY id", (seen.last_entry,)).fetchall()
        receipts = fresh
        for entry_id, log_id, index, raw, body in rows:
            seen.last_entry = entry_id
            fact = self._read(raw)
            receipts |= fact.type == "receipt"
            self._take(machine, conn, log_id, index, fact, body)
        self._check_acks(machine, seen, conn, fresh=fresh)
        if receipts:
            self._check_receipts(machine, seen, conn)

    def _read(self, raw: bytes) -> Fact:
        found = self._by_raw.get(raw)
        if found is None:
            found = self._by_raw[raw] = _fact(hashlib.sha256(b"\x00" + raw).digest(), raw)
            self.facts[found.leaf] = found
        return found

    def _log(self, seen: Seen, conn: Connection, log_id: int) -> tuple[str, bytes, bytes]:
        if log_id not in seen.logs:
            rows = conn.execute("SELECT id, node, incarnation, branch FROM logs").fetchall()
            seen.logs = {row[0]: (row[1], bytes(row[2]), bytes(row[3])) for row in rows}
        return seen.logs[log_id]

    def _take(self, machine: str, conn: Connection, log_id: int, index: int, fact: Fact, body: bytes | None) -> None:
        seen, place = self.seen[machine], (log_id, index)
        node, incarnation, branch = self._log(seen, conn, log_id)
        me = self.node_of(machine)
        seen.leaves.add(fact.leaf)
        self.ever.setdefault(fact.leaf, set()).add(machine)
        if node == me and fact.leaf not in self.born:
            self.born.add(fact.leaf)
            if fact.type == "open":
                self.openings[_source(fact)] += 1
            if fact.type == "receipt":
                self._check_stamp(machine, conn, place, fact)
        self.checks["I6 author"] += 1
        if fact.leaf not in self.born:
            self.fail("I6", f"{machine} holds a {fact.type} of {node} that {node} never wrote")
        self._check_place(machine, (node, incarnation, index), branch, fact)
        self._check_body(machine, node == me, fact, body)

    def _check_place(self, machine: str, place: tuple[str, bytes, int], branch: bytes, fact: Fact) -> None:
        if branch:
            return
        self.checks["I4 place"] += 1
        if self.places.setdefault(place, fact.leaf) == fact.leaf:
            return
        self.forked.add(place)
        if place[0] not in self.forkers:
            self.fail("I4", f"{machine} holds another leaf at {place[2]} of a log of {place[0]} than was there before")

    def _check_body(self, machine: str, own: bool, fact: Fact, body: bytes | None) -> None:
        if body is None:
            return
        self.checks["I6 body"] += 1
        digest = hashlib.sha256(body).digest()
        if own:
            self.bodies.setdefault(fact.leaf, digest)
        if self.bodies.get(fact.leaf, digest) != digest:
            self.fail("I6", f"{machine} holds another body of a {fact.type} of {fact.node} than its author wrote")

    def _check_stamp(self, machine: str, conn: Connection, place: tuple[int, int], fact: Fact) -> None:
        """Compare a receive time stated anew with the one before it in the same log; restated ones keep theirs."""
        self.checks["I7 stamp"] += 1
        rows = conn.execute("SELECT raw FROM entries WHERE log = ? AND idx < ? ORDER BY idx DESC LIMIT 200", place)
        before = next((one for (raw,) in rows if (one := self._read(raw)).type == "receipt"), None)
        if before is not None and fact.fields["at"] < before.fields["at"]:
            self.fail("I7", f"{machine} stated a receive time {before.fields['at'] - fact.fields['at']} ms before its last one")

    # --- what children count on

    def _check_acks(self, machine: str, seen: Seen, conn: Connection, *, fresh: bool) -> None:
        acks = dict(conn.execute("SELECT log, size FROM acks"))
        if acks == seen.acks:
            return
        for log_id, size in acks.items():
            before = 0 if fresh else seen.acks.get(log_id, 0)
            if size > before and not fresh:
                self._check_ack(machine, self._log(seen, conn, log_id), conn, log_id, before, size)
        seen.acks = acks

    def _check_ack(self, machine: str, log: tuple[str, bytes, bytes], conn: Connection, log_id: int, low: int, high: int) -> None:
        me = self.node_of(machine)
        above = set(self.above(me))
        if not above or me in self.liars:
            return  # at the root: what it gave back to itself; a liar's children may give its lies back to it
        rows = conn.execute("SELECT raw FROM entries WHERE log = ? AND idx >= ? AND idx < ?", (log_id, low, high)).fetchall()
        for (raw,) in rows:
            fact = self._read(raw)
            self.checks["I1 ack"] += 1
            if not any(self.node_of(one) in above for one in self.ever.get(fact.leaf, ())):
                self.fail("I1", f"{machine} counts a {fact.type} of {log[0]} as acknowledged that nobody above ever committed")
            if fact.leaf in self.saved and log[0] == me:
                self.saved[fact.leaf].level = max(self.saved[fact.leaf].level, PARENT)

    def _check_receipts(self, machine: str, seen: Seen, conn: Connection) -> None:
        """Check what hubs are said to have received, up to the last leaf that each receipt names."""
        rows = conn.execute(
            "SELECT r.log, r.hub, r.size, e.raw FROM receipts r JOIN entries e ON e.log = r.log AND e.idx = r.size - 1 "
            "WHERE r.entry > ? ORDER BY r.entry",
            (seen.receipts,),
        ).fetchall()
        seen.receipts = seen.last_entry
        me = self.node_of(machine)
        for log_id, hub, _, raw in rows:
            fact = self._read(raw)
            self.checks["I1 receipt"] += 1
            if not any(self.node_of(one) == hub for one in self.ever.get(fact.leaf, ())):
                self.fail("I1", f"{machine} has a receipt of {hub} for a {fact.type} of {fact.node} that {hub} never committed")
            if self._log(seen, conn, log_id)[0] == me and hub != self.parents.get(me) and fact.leaf in self.saved:
                self.saved[fact.leaf].level = SECOND

    # --- what counters are told

    def told(self, machine: str, source: str, raw: bytes) -> None:
        """Note that a counter was told: saved."""
        fact = self._read(raw)
        if fact.leaf not in self.seen[machine].leaves:
            self.fail("I2", f"{machine} called {source} saved, and it is not on its disk")
        self.saved.setdefault(fact.leaf, Saved(self.node_of(machine), source))

    def lied(self, shown: Iterable[bytes]) -> None:
        """Note entries that a liar signed in its own name, and that its disk does not hold."""
        for raw in shown:
            self.born.add(self._read(raw).leaf)

    def rogue(self, raw: bytes) -> None:
        """Note an entry that its author had no right to: it may be anywhere, and have no effect."""
        self.voids.add(self._read(raw).leaf)

    # --- the end

    def check_end(self, root: str) -> None:
        """Check that everything saved is at the root, and every event once."""
        there = self.seen[root].leaves
        lost = [leaf for leaf in self.saved if leaf not in there and leaf not in self.doomed]
        if lost:
            self.fail("I2", f"{len(lost)} saved entries are not at the root, and copies were left: {self._named(lost)}")
        doubles = [source for source, count in self.openings.items() if count > 1 and source and not self._excused(source)]
        if doubles:
            self.fail("I2", f"events stated twice by machines that lost nothing: {doubles[:5]}")
        for machine, seen in self.seen.items():
            if self.node_of(machine) in self.parents:
                self._check_upwards(machine, seen, there)

    def _excused(self, source: str) -> bool:
        nodes = {one.node for one in self.facts.values() if one.type == "open" and _source(one) == source}
        return bool(nodes & self.lossy)

    def _check_upwards(self, machine: str, seen: Seen, there: set[bytes]) -> None:
        """Check that nothing stays below: what a machine holds the root holds."""
        missing = [leaf for leaf in seen.leaves - there if self.facts[leaf].node not in self.forkers and leaf not in self.doomed]
        self.checks["I3 upwards"] += 1
        if missing:
            self.fail("I3", f"{machine} holds {len(missing)} entries that the root has not: {self._named(missing)}")

    def levels(self) -> Counter[str]:
        """Return how many entries reached which level."""
        return Counter(LEVELS[one.level] for one in self.saved.values())

    def _named(self, leaves: Iterable[bytes]) -> str:
        return ", ".join(f"{self.facts[leaf].type} of {self.facts[leaf].node}" for leaf in sorted(leaves)[:5])


def _fact(leaf: bytes, raw: bytes) -> Fact:
    header = msgpack.unpackb(raw, strict_map_key=False)
    return Fact(leaf, header[2], header[3], header[10], header[11], header[12], header[15])


def _source(fact: Fact) -> str:
    source = fact.fields.get("source")
    return str(source[0]) if source else ""


# --- custody


def custody(facts: Mapping[bytes, Fact], applied: Iterable[bytes], above: Mapping[str, list[str]]) -> list[str]:
    """Walk the entries of one case that had effect, and say what breaks the rules of custody.

    Args:
        facts: link → entry, all of the case. applied: links of the spine entries with effect. above: node → nodes above it.
    """
    line = [facts[link] for link in applied if facts[link].type in SPINE]
    by_link = {one.link: one for one in line}
    faults = []
    for one in line:
        if one.type == "open":
            continue
        holder, epoch, offered = _stand(_before(one, facts, by_link), facts, by_link)
        if one.type == "take" and (offered != one.node or one.epoch != epoch + 1):
            faults.append(f"{one.node} took in epoch {one.epoch} what was offered to {offered} in {epoch}")
        elif one.type == "return" and (offered != one.node or one.epoch != epoch + 1):
            faults.append(f"{one.node} returned what was offered to {offered}")
        elif one.type == "reclaim" and (one.node not in above.get(holder, []) or one.epoch != epoch + 1):
            faults.append(f"{one.node} reclaimed from {holder}")
        elif one.type not in {"take", "return", "reclaim"} and (one.node != holder or one.epoch != epoch or offered):
            faults.append(f"{one.node} wrote {one.type} in epoch {one.epoch}; {holder} holds {epoch}, offered to {offered}")
    return faults


def _before(one: Fact, facts: Mapping[bytes, Fact], applied: Mapping[bytes, Fact]) -> Fact | None:
    """Return the entry with effect on which one stands: void ones in between change nothing."""
    link = one.prev
    while link is not None and link not in applied:
        link = facts[link].prev if link in facts else None
    return applied.get(link) if link is not None else None


def _stand(one: Fact | None, facts: Mapping[bytes, Fact], applied: Mapping[bytes, Fact]) -> tuple[str, int, str | None]:
    """Return (holder, epoch, offered to) behind an entry."""
    if one is None:
        return "", -1, None
    if one.type == "open":
        return one.node, 0, None
    if one.type in {"take", "reclaim"}:
        return one.node, one.epoch or 0, None
    holder, epoch, _ = _stand(_before(one, facts, applied), facts, applied)
    if one.type == "return":  # the offerer holds the epoch after the one that the return closed
        return holder, (one.epoch or 0) + 1, None
    return (holder, epoch, one.fields.get("to")) if one.type == "offer" else (holder, epoch, None)
