"""The case fold: from the set of a case's entries held here to its one line, its state, and a verdict on every entry.

A pure function of the set: the order of arrival and repetition change nothing. Five steps, none of them recursive:

1. `_gather`   one fact = one link, at its first place; the bound on a case's entries.
2. `_settle`   what waits: a predecessor, a basis, something rested on, or a newer program is not here yet. The rest in an
               order in which everything comes after what it names.
3. `_date`     legal times, from `time` entries.
4. `_grow`     the tree: custody, table and guards for every spine entry, top down; side entries beside it.
5. `_choose`   the line, bottom up: at each fork one branch stands.

`advance` is the way of every day: one new entry on a case without forks or faults costs one step, with the same result.

DESIGN §6, "place", "best", "choose", "verdict".
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from protocol import limits
from protocol.cases import (
    Context,
    Held,
    Judge,
    Side,
    begin,
    place,
    side_fault,
    side_of,
    step,
    task_fault,
)
from protocol.log import Header
from protocol.transitions import (
    FORMAT_VERSION,
    KNOWN_TYPES,
    LINK_BYTES,
    SIDE_TYPES,
    SPINE_TYPES,
    TABLE_VERSION,
    Reason,
    State,
    is_well_formed,
)

VOUCHING: Final = frozenset({"take"})  # types that, uncut and with effect, vouch for what they build on


class Effect(enum.StrEnum):
    """What became of an entry."""

    APPLIED = "applied"
    VOID = "void"
    LATE = "late"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The effect of one entry; `reason` is "" when applied, else a `Reason`, perhaps with ":name"."""

    effect: Effect
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Folded:
    """What a set of entries makes of a case.

    Args:
        key: the case key, 16 bytes.
        context: the case at the end of the line; None while the opening is not here or waits.
        line: links of the chosen line, from the opening on.
        verdicts: one for each entry held, by link.
        parties: all nodes named with effect on any line, sorted; they only grow.
        delivered: a result that stands was delivered.
        conflicts: links of decisions that were delivered but do not stand, sorted.
        missing: links to fetch: first what keeps entries waiting, then what is only named.
        simple: `advance` may go on from `context`.
    """

    key: bytes
    context: Context | None
    line: tuple[bytes, ...]
    verdicts: Mapping[bytes, Verdict]
    parties: tuple[str, ...]
    delivered: bool
    conflicts: tuple[bytes, ...]
    missing: tuple[bytes, ...]
    simple: bool

    @property
    def waiting(self) -> bool:
        """Whether an entry waits: fold again when something it may wait for arrives (an entry, a basis, a program)."""
        return any(verdict.effect is Effect.WAITING for verdict in self.verdicts.values())


_APPLIED: Final = Verdict(Effect.APPLIED)


def fold(entries: Iterable[Held], judge: Judge) -> Folded:
    """Fold a case.

    Args:
        entries: entries of one case in any order, repeated or not; what belongs to another case is passed over.
        judge: authority under the basis that each header names.

    Raises:
        ValueError: no entry at all.
    """
    tree = _Tree.of(entries, judge)
    _settle(tree)
    _date(tree)
    _grow(tree)
    line = _choose(tree)
    return _conclude(tree, line)


# --- the working set


@dataclass(slots=True)
class _Node:
    """A spine entry on the tree."""

    held: Held
    context: Context
    void: str  # reason, or ""
    prev: bytes | None
    children: list[bytes] = field(default_factory=list)
    # filled by `_choose`, from the leaves up
    chosen: bytes | None = None
    trimmed: bool = False
    vouched: bool = False  # an uncut take with effect stands on its line, from here on
    writers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # wrote with effect on its line → first order
    end: bytes = b""  # link of the last entry of its line


@dataclass(slots=True)
class _Tree:
    """The entries of one case and what the steps find out about them."""

    key: bytes
    judge: Judge
    held: dict[bytes, Held]
    dropped: list[bytes]  # over the bound
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    ready: list[Held] = field(default_factory=list)  # not waiting, each after what it names
    dated: dict[bytes, int] = field(default_factory=dict)  # legal times that replace claims
    nodes: dict[bytes, _Node] = field(default_factory=dict)
    sides: dict[bytes, Side] = field(default_factory=dict)  # with effect, if their dispatch stands
    anchors: dict[bytes, bytes] = field(default_factory=dict)  # side entry with effect → its spine entry

    @classmethod
    def of(cls, entries: Iterable[Held], judge: Judge) -> _Tree:
        everything = list(entries)
        if not everything:
            raise ValueError("a case without entries")
        key = min(map(_case_key, everything))
        held = _gather(entry for entry in everything if _case_key(entry) == key)
        kept, dropped = _bounded(held, key)
        return cls(key, judge, kept, dropped)

    def legal_at(self, held: Held) -> int:
        """Return the legal time of an entry, ms."""
        return self.dated.get(held.link, held.header.claimed_at)

    def void(self, held: Held, reason: str) -> None:
        self.verdicts[held.link] = Verdict(Effect.VOID, reason)


def _case_key(held: Held) -> bytes:
    return held.header.case or held.link


def _place_of(held: Held) -> tuple[bytes, tuple[int, ...], bool]:
    """Order the copies of one fact: first place first. Two leaves under one link are a broken hash: the smaller stands."""
    return held.leaf, held.order, held.cut


def _gather(entries: Iterable[Held]) -> dict[bytes, Held]:
    """Count each fact once, at its first place."""
    held: dict[bytes, Held] = {}
    for entry in entries:
        known = held.get(entry.link)
        if known is None or _place_of(entry) < _place_of(known):
            held[entry.link] = entry
    return held


def _bounded(held: dict[bytes, Held], key: bytes) -> tuple[dict[bytes, Held], list[bytes]]:
    """Keep at most `CASE_ENTRIES_MAX` entries: the opening, then every author's first, every author's second, and so on.

    So nobody can crowd out what others wrote, and nothing that an author wrote later displaces what it wrote earlier.
    """
    if len(held) <= limits.CASE_ENTRIES_MAX:
        return held, []
    by_author: dict[str, list[Held]] = {}
    for entry in held.values():
        by_author.setdefault(entry.header.node, []).append(entry)
    ranked: list[tuple[bool, int, bytes]] = []
    for own in by_author.values():
        own.sort(key=lambda entry: (entry.order, entry.leaf))
        ranked += [(entry.link != key, rank, entry.link) for rank, entry in enumerate(own)]
    links = [link for _, _, link in sorted(ranked)]
    kept = {link: held[link] for link in links[: limits.CASE_ENTRIES_MAX]}
    return kept, links[limits.CASE_ENTRIES_MAX :]


# --- what waits


def _settle(tree: _Tree) -> None:
    """Find what waits, and bring the rest into an order in which each entry comes after all that it names."""
    reasons: dict[bytes, str] = {}
    for link in _sorted_links(tree):
        held = tree.held[link]
        if reason := _waits(held, tree, reasons):
            reasons[link] = reason
        else:
            tree.ready.append(held)
    # What no order reaches names itself in a circle: no hash allows that, so it can only wait.
    for link in tree.held.keys() - {held.link for held in tree.ready}:
        tree.verdicts[link] = Verdict(Effect.WAITING, reasons.get(link, Reason.PREV_MISSING))
    for link in tree.dropped:
        tree.verdicts[link] = Verdict(Effect.VOID, Reason.TOO_LONG)


def _sorted_links(tree: _Tree) -> list[bytes]:
    """Return the links held, each after those that it needs."""
    open_needs: dict[bytes, int] = {}
    needed_by: dict[bytes, list[bytes]] = {}
    found: list[bytes] = []
    for link, held in tree.held.items():
        needs = {name for name in _needs(held, tree.key) if name in tree.held}
        open_needs[link] = len(needs)
        for name in needs:
            needed_by.setdefault(name, []).append(link)
        if not needs:
            found.append(link)
    for link in found:  # grows while it is read
        for follower in needed_by.get(link, ()):
            open_needs[follower] -= 1
            if not open_needs[follower]:
                found.append(follower)
    return found


def _needs(held: Held, key: bytes) -> Iterator[bytes]:
    """Yield the links without which an entry cannot be judged."""
    header = held.header
    if held.link == key:
        return
    if header.prev is not None:
        yield header.prev
    yield from _rested_on(header)


def _rested_on(header: Header) -> Sequence[bytes]:
    """Return what an entry needs besides its predecessor: its `rests`, the entry that it dates, the stage that it answers."""
    if header.type == "time":
        return _links([header.fields.get("of")])
    if header.type == "task":
        return _links([header.fields.get("dispatch")])
    return header.rests if header.type in SPINE_TYPES else ()


def _links(values: object) -> tuple[bytes, ...]:
    """Return what of a list from outside can be a link."""
    if not isinstance(values, (list, tuple)):
        return ()
    return tuple(value for value in values if type(value) is bytes and len(value) == LINK_BYTES)


def _waits(held: Held, tree: _Tree, reasons: Mapping[bytes, str]) -> str:
    """Return why an entry waits, or "". Behind something that waits, the reason is the same one."""
    header = held.header
    if header.format != FORMAT_VERSION or header.type not in KNOWN_TYPES:
        return Reason.NEWER_PROGRAM
    if held.link == tree.key:
        return _opening_waits(header, tree.judge)
    if header.prev is not None and (reason := _absent(header.prev, tree, reasons, Reason.PREV_MISSING)):
        return reason
    if not tree.judge.knows(header):
        return Reason.BASIS_MISSING
    return next(filter(None, (_absent(link, tree, reasons, Reason.RESTS_MISSING) for link in _rested_on(header))), "")


def _absent(link: bytes, tree: _Tree, reasons: Mapping[bytes, str], reason: Reason) -> str:
    return reasons.get(link, "") if link in tree.held else reason


def _opening_waits(header: Header, judge: Judge) -> str:
    table = header.fields.get("table")
    if header.type == "open" and type(table) is int and table > TABLE_VERSION:
        return Reason.NEWER_PROGRAM
    return "" if judge.knows(header) else Reason.BASIS_MISSING


# --- legal times


def _date(tree: _Tree) -> None:
    """Judge the `time` entries: of several for one entry, that of the lowest hub counts.

    They stand apart from the tree, since whether an entry has effect may depend on its legal time (dated rights).
    """
    by_target: dict[bytes, list[Held]] = {}
    for held in tree.ready:
        if held.header.type != "time" or held.link == tree.key:
            continue
        if reason := _time_fault(held, tree):
            tree.void(held, reason)
        else:
            by_target.setdefault(held.header.fields["of"], []).append(held)
    for target, times in by_target.items():
        first, *others = _ranked(times, tree.judge)
        tree.dated[target] = first.header.fields["at"]
        tree.verdicts[first.link] = _APPLIED
        for held in others:
            tree.verdicts[held.link] = Verdict(Effect.LATE, Reason.NOT_CHOSEN)


def _time_fault(held: Held, tree: _Tree) -> str:
    header = held.header
    if header.prev is None or not is_well_formed("time", header.fields):
        return Reason.MALFORMED
    if held.cut:
        return Reason.REVOKED
    target = tree.held[header.fields["of"]].header
    if target.fields.get("afterwards") is True:
        return f"{Reason.GUARD}:afterwards"  # 补录 counts from its claimed date
    return "" if tree.judge.above(header, header.node, target.node) else Reason.NOT_ABOVE


def _ranked(candidates: Sequence[Held], judge: Judge) -> list[Held]:
    """Sort by deeper author, then by each author's own order.

    An author's depth is that of its first candidate: its later bases must not bring its later entries forward. Authors
    of equal depth go by id; the hash decides only between entries that claim one place.
    """
    if len(candidates) == 1:
        return list(candidates)
    depths: dict[str, int] = {}
    own = sorted(candidates, key=lambda held: (held.order, held.leaf))
    for held in own:
        if held.header.node not in depths:
            depths[held.header.node] = judge.depth(held.header)
    return sorted(own, key=lambda held: (-depths[held.header.node], held.header.node))


# --- the tree


def _grow(tree: _Tree) -> None:
    """Judge every entry that does not wait, each after what it names."""
    for held in tree.ready:
        if held.link == tree.key:
            _plant(held, tree)
        elif held.header.type in SIDE_TYPES:
            _hang(held, tree)
        else:
            _graft(held, tree)


def _plant(held: Held, tree: _Tree) -> None:
    """Put the opening at the root; what has its own link as case key and is no opening, opens nothing."""
    if held.header.type != "open":
        tree.void(held, Reason.MALFORMED)
        return
    context, void = begin(held, tree.legal_at(held), tree.judge)
    tree.nodes[held.link] = _Node(held, context, void, None)


def _graft(held: Held, tree: _Tree) -> None:
    """Put a spine entry on the tree, or say why it is off."""
    header = held.header
    if header.type == "open":
        tree.void(held, Reason.SECOND_OPENING)
        return
    parent = tree.nodes.get(header.prev) if header.prev is not None else None
    if parent is None:
        tree.void(held, Reason.BUILDS_ON_VOID_PLACE)
        return
    if fault := place(parent.context, header, tree.judge):
        tree.void(held, fault)
        return
    rests = _relied(header, parent.context, tree)
    context, void = step(parent.context, held, tree.legal_at(held), rests, tree.judge)
    tree.nodes[held.link] = _Node(held, context, void, header.prev)
    parent.children.append(held.link)


def _relied(header: Header, context: Context, tree: _Tree) -> list[Side] | None:
    """Return the side entries that a spine entry rests on; None when one has no effect as seen from its place.

    A side entry behind a cut may be relied on: the spine entry vouches for it, as a `take` does for what it builds on.
    """
    found = []
    for link in header.rests:
        side = tree.sides.get(link)
        if side is None or (side.dispatch is not None and side.dispatch not in context.dispatches):
            return None
        found.append(side)
    return found


def _hang(held: Held, tree: _Tree) -> None:
    """Judge a side entry from the spine entry that its author knew last."""
    header, link = held.header, held.link
    if header.type == "time":
        if tree.verdicts[link].effect is Effect.APPLIED:
            tree.sides[link] = side_of(held, tree.legal_at(held))
        return
    anchor = tree.nodes.get(header.prev) if header.prev is not None else None
    if anchor is None:
        tree.void(held, Reason.BUILDS_ON_VOID_PLACE)
        return
    fault = side_fault(anchor.context, header, tree.legal_at(held), tree.judge)
    if not fault and header.type == "task":
        fault = _dispatch_fault(header, tree)
    if fault:
        tree.void(held, fault)
        return
    tree.sides[link] = side_of(held, tree.legal_at(held))
    tree.anchors[link] = anchor.held.link


def _dispatch_fault(header: Header, tree: _Tree) -> str:
    node = tree.nodes.get(header.fields["dispatch"])
    if node is None or node.void or node.held.header.type != "dispatch":
        return Reason.NOT_DISPATCHED
    return task_fault(node.held.header.fields["tasks"], header)


# --- the line


def _choose(tree: _Tree) -> tuple[bytes, ...]:
    """Choose a branch at every fork, from the leaves up, and return the line."""
    for link in reversed(tree.nodes):  # grown parents first: so children first now
        _settle_branch(tree.nodes[link], tree)
    root = tree.nodes.get(tree.key)
    if root is None or root.trimmed:
        return ()
    line = []
    at: bytes | None = tree.key
    while at is not None:
        line.append(at)
        at = tree.nodes[at].chosen
    return tuple(line)


def _settle_branch(node: _Node, tree: _Tree) -> None:
    """Find the line that starts with an entry, its children's lines being known."""
    held = node.held
    child = _best_child(node, tree)
    with_effect = not node.void
    # A cut take vouches for nothing: it is trimmed itself, unless an uncut one stands on it.
    node.vouched = (child is not None and child.vouched) or (with_effect and held.header.type in VOUCHING)
    # A cut end is trimmed unless an uncut take stands on it; what was behind it goes with it.
    node.trimmed = held.cut and not (child is not None and child.vouched)
    node.chosen = child.held.link if child is not None else None
    node.end = child.end if child is not None else held.link
    writers = child.writers if child is not None else {}
    author = held.header.node
    if with_effect and (author not in writers or held.order < writers[author]):
        writers = {**writers, author: held.order}
    node.writers = writers


def _best_child(node: _Node, tree: _Tree) -> _Node | None:
    """Choose: ordinary before reclaim, deeper author, first in its author's order; then who may displace whom."""
    candidates = [child for child in map(tree.nodes.__getitem__, node.children) if not child.trimmed]
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    reclaims = [child.held for child in candidates if child.held.header.type == "reclaim"]
    ordinary = [child.held for child in candidates if child.held.header.type != "reclaim"]
    ordered = _ranked(ordinary, tree.judge) + _ranked(reclaims, tree.judge)
    winner = tree.nodes[ordered[0].link]
    for held in ordered[1:]:
        rival = tree.nodes[held.link]
        if held.header.type == "reclaim" and _displaces(rival, winner, tree):
            winner = rival
    return winner


def _displaces(reclaim: _Node, winner: _Node, tree: _Tree) -> bool:
    """Say whether a reclaim's author stands above all who wrote with effect on a line, or to whom it is still offered.

    A void reclaim moves no custody, so it displaces nothing. What the reclaim's own author wrote later shields no line: else
    a restored hub could displace, by a second reclaim, what was acknowledged of its first.
    """
    if reclaim.void:
        return False
    header = reclaim.held.header
    offered = tree.nodes[winner.end].context.offered
    nodes = {node for node, first in winner.writers.items() if node != header.node or first < reclaim.held.order}
    nodes |= {offered} - {None}  # type: ignore[arg-type]
    return all(tree.judge.above(header, header.node, node) for node in sorted(nodes))


# --- verdicts


def _conclude(tree: _Tree, line: tuple[bytes, ...]) -> Folded:
    on_line = set(line)
    _judge_spine(tree, on_line)
    _judge_sides(tree, line)
    conflicts = _judge_deliveries(tree, on_line)
    _mark_adopted(tree, line)
    missing = _missing(tree)
    context = _context(tree, line, missing)
    parties: set[str] = set()
    for node in tree.nodes.values():
        parties.update(node.context.parties)
    return Folded(
        tree.key,
        context,
        line,
        tree.verdicts,
        tuple(sorted(parties)),
        context is not None and context.delivered,
        conflicts,
        missing,
        context is not None and context.simple,
    )


def _judge_spine(tree: _Tree, on_line: set[bytes]) -> None:
    """On the line: applied or void. Behind a cut: revoked. Elsewhere on the tree: late."""
    behind_cut: set[bytes] = set()
    for link, node in tree.nodes.items():
        if node.trimmed or node.prev in behind_cut:
            behind_cut.add(link)
            tree.void(node.held, Reason.REVOKED)
        elif link not in on_line:
            tree.verdicts[link] = Verdict(Effect.LATE, Reason.NOT_CHOSEN)
        else:
            tree.verdicts[link] = Verdict(Effect.VOID, node.void) if node.void else _APPLIED


def _judge_sides(tree: _Tree, line: Sequence[bytes]) -> None:
    """A task result stands with its dispatch; a side entry behind a cut only if the line relies on it."""
    relied = {
        rest
        for link in line
        if tree.verdicts[link].effect is Effect.APPLIED
        for rest in tree.nodes[link].held.header.rests
    }
    on_line = set(line)
    for link, side in list(tree.sides.items()):
        if tree.held[link].cut and link not in relied:
            tree.void(tree.held[link], Reason.REVOKED)
        elif side.dispatch is not None and side.dispatch not in on_line:
            tree.verdicts[link] = Verdict(Effect.LATE, Reason.NOT_CHOSEN)
        else:
            tree.verdicts[link] = _APPLIED
            continue
        del tree.sides[link]


def _judge_deliveries(tree: _Tree, on_line: set[bytes]) -> tuple[bytes, ...]:
    """Return the decisions that were delivered although they do not stand: conflicts to settle."""
    decisions = (tree.nodes[tree.anchors[link]].context.decision for link in _deliveries(tree))
    return tuple(sorted({link for link in decisions if link is not None and link not in on_line}))


def _deliveries(tree: _Tree) -> list[bytes]:
    """Return the links of the deliveries with effect."""
    return [link for link in tree.sides if tree.held[link].header.type == "deliver"]


def _mark_adopted(tree: _Tree, line: Sequence[bytes]) -> None:
    """Mark late and cut entries that a holder adopted. The mark changes no state: what they say has to be said anew."""
    for link in line:
        header = tree.held[link].header
        if header.type != "adopt" or tree.verdicts[link].effect is not Effect.APPLIED:
            continue
        for name in _links(header.fields["of"]):
            verdict = tree.verdicts.get(name)
            if verdict is not None and _is_adoptable(verdict):
                tree.verdicts[name] = Verdict(verdict.effect, Reason.ADOPTED)


def _is_adoptable(verdict: Verdict) -> bool:
    return verdict.effect is Effect.LATE or verdict == Verdict(Effect.VOID, Reason.REVOKED)


def _missing(tree: _Tree) -> tuple[bytes, ...]:
    """Return the links named and not held: first those that keep something waiting."""
    needed: set[bytes] = set() if tree.key in tree.held else {tree.key}
    named: set[bytes] = set()
    for held in tree.held.values():
        needed.update(_needs(held, tree.key))
        named.update(held.header.saw)
        if held.header.type == "adopt":
            named.update(_links(held.header.fields.get("of")))
    known = tree.held.keys() | set(tree.dropped)
    needed -= known
    return (*sorted(needed), *sorted(named - known - needed))


# --- the context at the end


def _context(tree: _Tree, line: tuple[bytes, ...], missing: tuple[bytes, ...]) -> Context | None:
    """Return the context at the end of the line, with what side entries add."""
    if tree.key not in tree.nodes:
        return None
    if not line:
        return _revoked_opening(tree)
    end = tree.nodes[line[-1]].context
    listed = {name for link in line for name in _listed(tree.held[link].header)}
    fresh = sorted((side for link, side in tree.sides.items() if link not in listed), key=lambda side: side.link)
    kept = _within_bound(fresh)
    names, handed_at = _handed(tree, end)
    on_line = set(line)
    complete = not missing and len(kept) == len(fresh)
    return replace(
        end,
        fresh=tuple(kept),
        handed=names,
        handed_at=handed_at,
        delivered=any(tree.nodes[tree.anchors[link]].context.decision in on_line for link in _deliveries(tree)),
        count=len(tree.held),
        simple=complete and _is_faultless(tree),
    )


def _is_faultless(tree: _Tree) -> bool:
    return all(verdict == _APPLIED and not tree.held[link].cut for link, verdict in tree.verdicts.items())


def _revoked_opening(tree: _Tree) -> Context:
    """Return the context of a case whose opening is behind a cut: terms to show, nothing with effect."""
    root = tree.nodes[tree.key].context
    return replace(root, state=State.UNOPENED, parties=(), count=len(tree.held))


def _listed(header: Header) -> tuple[bytes, ...]:
    return (*header.rests, *header.saw)


def _within_bound(fresh: Sequence[Side]) -> list[Side]:
    """Keep side entries, in order, while they and the names that they carry are within `CASE_FRESH_MAX`."""
    kept: list[Side] = []
    weight = 0
    for side in fresh:
        weight += 1 + len(side.names)
        if weight > limits.CASE_FRESH_MAX:
            break
        kept.append(side)
    return kept


def _handed(tree: _Tree, end: Context) -> tuple[tuple[str, ...], int | None]:
    """Return which materials of the notice in force were handed in by authors who knew it, and when the last was."""
    if end.notice is None:
        return (), None
    handed: set[str] = set()
    last: int | None = None
    for link, side in tree.sides.items():
        names = set(end.asked).intersection(side.names)
        if names and tree.nodes[tree.anchors[link]].context.notice == end.notice:
            handed |= names
            last = side.at if last is None else max(last, side.at)
    return tuple(sorted(handed)), last


# --- one more entry


def advance(context: Context | None, held: Held, judge: Judge) -> Context | None:
    """Return the context after one new entry, without looking at the others; None: do a full `fold`.

    When a context comes back, the entry is applied, nothing else about the case has changed (its parties are
    `context.parties`, its line has grown by a spine entry), and the context equals that of `fold`.

    Args:
        context: of a fold of all other entries held; None for the first entry of a case.
        held: an entry of this case; one that they contain already gives None.
        judge: authority under its basis.
    """
    header = held.header
    if held.cut or header.format != FORMAT_VERSION or not judge.knows(header):
        return None
    if context is None:
        return _advance_opening(held, judge)
    if not context.simple or header.prev != context.tip or header.case != context.key:
        return None
    if context.count >= limits.CASE_ENTRIES_MAX:
        return None
    if header.type in SIDE_TYPES:
        return _advance_side(context, held, judge)
    return _advance_spine(context, held, judge)


def _advance_opening(held: Held, judge: Judge) -> Context | None:
    header = held.header
    if header.type != "open" or header.case is not None or header.saw or header.fields.get("table") != TABLE_VERSION:
        return None
    context, void = begin(held, header.claimed_at, judge)
    return None if void else replace(context, simple=True)


def _advance_spine(context: Context, held: Held, judge: Judge) -> Context | None:
    header = held.header
    if header.type not in SPINE_TYPES or header.type in {"open", "adopt"}:
        return None
    if place(context, header, judge):
        return None
    rests: list[Side] = []
    fresh = context.fresh
    if header.rests or header.saw:
        by_link = {side.link: side for side in fresh}
        listed = _listed(header)
        if not all(link in by_link for link in listed):
            return None  # missing, or listed before: the full fold knows
        rests = [by_link[link] for link in header.rests]
        fresh = tuple(side for side in fresh if side.link not in listed)
    after, void = step(context, held, header.claimed_at, rests, judge)
    return None if void else replace(after, fresh=fresh, count=context.count + 1)


def _advance_side(context: Context, held: Held, judge: Judge) -> Context | None:
    header = held.header
    if header.type == "time" or any(known.link == held.link for known in context.fresh):
        return None
    if side_fault(context, header, header.claimed_at, judge):
        return None
    if header.type == "task" and not _answers_stage(context, header):
        return None
    side = side_of(held, header.claimed_at)
    fresh = sorted((*context.fresh, side), key=lambda known: known.link)
    if len(_within_bound(fresh)) < len(fresh):
        return None
    grown = replace(
        context,
        fresh=tuple(fresh),
        delivered=context.delivered or header.type == "deliver",
        count=context.count + 1,
    )
    return _with_handed(grown, side) if side.names and context.notice is not None else grown


def _with_handed(context: Context, side: Side) -> Context:
    """Return a context in which a material counts towards the notice in force (see `_handed`)."""
    names = set(context.asked).intersection(side.names)
    if not names:
        return context
    last = side.at if context.handed_at is None else max(context.handed_at, side.at)
    return replace(context, handed=tuple(sorted(names.union(context.handed))), handed_at=last)


def _answers_stage(context: Context, header: Header) -> bool:
    """Say whether a task result answers the stage under way (an earlier one: the full fold knows)."""
    stage = context.stage
    if stage is None or header.fields["dispatch"] != stage.dispatch:
        return False
    return not task_fault([(task.name, task.node) for task in stage.tasks], header)
