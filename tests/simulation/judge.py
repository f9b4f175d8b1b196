"""The end of a run: the network must come to rest within bounded rounds, and then agree."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final

import msgpack

from node.office import Act
from node.store.database import Connection
from protocol.errors import CommandRefused
from tests.simulation import clerks, scene
from tests.simulation.arena import Arena
from tests.simulation.gremlins import Gremlins
from tests.simulation.oracle import Fact, custody
from tests.world import Place

ACT = Act(officer="1001", window="3")
COLUMNS: Final = ("number", "item", "state", "holder", "opener", "opened_at", "delivered", "waiting", "context")
LOOKED_AT: Final = 12  # cases whose page is read at every machine that has them


async def rest(arena: Arena, rounds_max: int, round_s: float) -> int:
    """Let time pass until all that was written is everywhere it belongs; fails when that takes too many rounds."""
    behind: list[str] = []
    for count in range(rounds_max):
        await asyncio.sleep(round_s)
        behind = [place.id for place in arena.alive() if await _is_behind(arena, place)]
        if not behind:
            return count
    arena.oracle.fail("liveness", f"after {rounds_max} rounds without faults the network is not at rest; behind: {behind}")
    return rounds_max


async def _is_behind(arena: Arena, place: Place) -> bool:
    """Tell whether something that a machine holds of its subtree is not everywhere above it, or news for it are not pulled."""
    oracle, node = arena.oracle, arena.oracle.node_of(place.id)
    if not place.up:
        return True
    below = {one for one in (scene.CITY, *oracle.parents) if one == node or node in oracle.above(one)}
    mine = {leaf for leaf in oracle.seen[place.id].leaves if oracle.facts[leaf].node in below}
    if any(mine - oracle.seen[hub].leaves for hub in oracle.above(node)):
        return True
    if place.uplink is None or place.parent is None or place.id != node:
        return False
    if not arena.places[place.parent].up:
        return True
    return await arena.places[place.parent].hub.has_news_for(node, await place.uplink.cursors())


async def agree(arena: Arena, gremlins: Gremlins) -> None:
    """Check that all machines agree, by their files and by what they say of themselves."""
    oracle = arena.oracle
    oracle.check_end(scene.CITY)
    await _heads(arena)
    rows = {place.id: await place.node.read(_case_rows) for place in arena.alive()}
    _equal_cases(arena, gremlins, rows)
    for place in arena.alive():
        await _sound(arena, place.id)
    await _pages(arena)


async def _heads(arena: Arena) -> None:
    """Check that each machine's own log stands equal everywhere above it."""
    for place in arena.alive():
        if place.id != arena.oracle.node_of(place.id) or f"{place.id}@2" in arena.places:
            continue  # of two machines under one name the other's history is a branch: its entries are compared one by one
        log = place.node.ledger.identity.log
        mine = await place.node.read(lambda conn, log=log: _head(conn, log.node, log.incarnation))
        for above in arena.oracle.above(arena.oracle.node_of(place.id)):
            theirs = await arena.places[above].node.read(lambda conn, log=log: _head(conn, log.node, log.incarnation))
            if theirs != mine:
                arena.oracle.fail("I3", f"{above} does not have the head of {place.id}")


def _head(conn: Connection, node: str, incarnation: bytes) -> tuple[int, bytes] | None:
    row = conn.execute("SELECT size, root FROM logs WHERE node = ? AND incarnation = ? AND branch = x''", (node, incarnation)).fetchone()
    return (row[0], bytes(row[1])) if row else None


def _case_rows(conn: Connection) -> dict[bytes, tuple[Any, ...]]:
    """Return key → (entries, what the projection says of it)."""
    entries: defaultdict[int, set[bytes]] = defaultdict(set)
    for case_id, raw in conn.execute("SELECT case_id, raw FROM entries WHERE case_id IS NOT NULL"):
        entries[case_id].add(bytes(raw))
    rows = conn.execute(f"SELECT id, key, {', '.join(COLUMNS)} FROM cases").fetchall()
    return {bytes(row[1]): (frozenset(entries[row[0]]), row[2:]) for row in rows}


def _equal_cases(arena: Arena, gremlins: Gremlins, rows: dict[str, dict[bytes, tuple[Any, ...]]]) -> None:
    """Check that each machine has the cases in which its subtree has a part, whole, and judges them as the root does."""
    oracle, root = arena.oracle, rows[scene.CITY]
    excused = arena.liar.withheld if arena.liar is not None else set()
    for name, here in rows.items():
        for key, (entries, said) in here.items():
            oracle.checks["I3 case"] += 1
            at_root = root.get(key)
            if at_root is None:
                if not any(oracle._read(raw).leaf in oracle.doomed for raw in entries):
                    oracle.fail("I3", f"{name} holds case {key.hex()} that the root has not")
            elif entries != at_root[0]:
                missing = [oracle._read(raw) for raw in at_root[0] - entries if not _kept_back(arena, name, raw, excused)]
                extra = [one for raw in entries - at_root[0] if (one := oracle._read(raw)).leaf not in oracle.doomed]
                if missing or extra:
                    oracle.fail("I3", f"{name} has not all of case {key.hex()}: missing {_types(missing)}, extra {_types(extra)}")
            elif said != at_root[1]:
                oracle.fail("I3", f"{name} judges case {key.hex()} otherwise than the root: {_differences(said, at_root[1])}")


def _differences(here: tuple[Any, ...], there: tuple[Any, ...]) -> str:
    """Return the columns in which two rows differ; a context's fields one by one."""
    pairs = [*zip(COLUMNS[:-1], here[:-1], there[:-1], strict=True)]
    if here[-1] is not None and there[-1] is not None:
        contexts = msgpack.unpackb(here[-1], strict_map_key=False), msgpack.unpackb(there[-1], strict_map_key=False)
        pairs += [(f"context {place}", *both) for place, both in enumerate(zip(*contexts, strict=True))]
    else:
        pairs.append((COLUMNS[-1], here[-1], there[-1]))
    return "; ".join(f"{name}: {mine!r} / {its!r}"[:160] for name, mine, its in pairs if mine != its)


def _kept_back(arena: Arena, name: str, raw: bytes, excused: set[tuple[str, bytes]]) -> bool:
    """Tell whether a liar kept an entry from a machine, or from one above it."""
    line = {name, *arena.oracle.above(name)}
    return any((one, raw) in excused for one in line)


def _types(facts: list[Fact]) -> str:
    return ", ".join(f"{one.type} of {one.node}" for one in facts[:5])


async def _sound(arena: Arena, name: str) -> None:
    """Let a machine check itself: signatures, roots and paths; the projection against a fresh fold; nothing waits."""
    place = arena.places[name]
    forks = bool(arena.oracle.forkers)
    found = [one for one in (await clerks.ask(place, "verify", ACT))["problems"] if not (forks and one["kind"] == "fork")]
    found = [one for one in found if str(one.get("log", "")).partition("/")[0] not in arena.oracle.liars]
    if found:
        arena.oracle.fail("I4", f"{name} finds {found[:3]}")
    rebuilt = (await clerks.ask(place, "rebuild", ACT))["problems"]
    if rebuilt:
        arena.oracle.fail("I3", f"{name}: the projection is not the fold of the log: {rebuilt[:3]}")
    waiting = await place.node.read(lambda conn: conn.execute("SELECT key FROM cases WHERE waiting = 1").fetchall())
    if waiting and not (arena.liar and arena.liar.withheld) and not arena.oracle.doomed:
        arena.oracle.fail("I3", f"{name}: {len(waiting)} cases still wait for something")
    unseen = await place.node.read(_branches_without_evidence)
    if unseen:
        arena.oracle.fail("I4", f"{name} keeps a second history without evidence: {unseen[:3]}")


def _branches_without_evidence(conn: Connection) -> list[Any]:
    return conn.execute(
        "SELECT b.node FROM logs b WHERE b.branch <> x'' AND EXISTS (SELECT 1 FROM entries WHERE log = b.id) "
        "AND NOT EXISTS (SELECT 1 FROM evidence v JOIN logs l ON l.id = v.log WHERE l.node = b.node AND l.incarnation = b.incarnation)"
    ).fetchall()


async def _pages(arena: Arena) -> None:
    """Read the pages of contested cases everywhere: equal digests, custody kept, nothing without right has an effect."""
    oracle = arena.oracle
    moved: defaultdict[bytes, int] = defaultdict(int)
    for leaf in sorted(oracle.seen[scene.CITY].leaves):
        fact = oracle.facts[leaf]
        if fact.key is not None:
            moved[fact.key] += (fact.type in {"take", "return", "reclaim"}) + 10 * (leaf in oracle.voids)
    chosen = sorted(moved, key=lambda key: (-moved[key], key))[:LOOKED_AT]
    for key in chosen:
        facts = {one.link: one for leaf in oracle.seen[scene.CITY].leaves if (one := oracle.facts[leaf]).key == key}
        pages = [page for place in arena.alive() if (page := await _page(arena, place.id, key)) is not None]
        lost = any(oracle.facts[leaf].key == key for leaf in oracle.doomed)
        if len({page["digest"] for page in pages}) > 1 and not lost and not (arena.liar and arena.liar.withheld):
            oracle.fail("I3", f"case {key.hex()} has several digests")
        for page in pages:
            _check_page(arena, key, facts, page)


async def _page(arena: Arena, name: str, key: bytes) -> Any:
    try:
        return await clerks.ask(arena.places[name], "show", ACT, case=key.hex())
    except CommandRefused:
        return None


def _check_page(arena: Arena, key: bytes, facts: dict[bytes, Fact], page: Any) -> None:
    oracle = arena.oracle
    applied = [bytes.fromhex(one["entry"]) for one in page["timeline"] if one["effect"] == "applied"]
    applied = [link for link in applied if link in facts]
    for link in applied:
        oracle.checks["I6 right"] += 1
        if facts[link].leaf in oracle.voids:
            oracle.fail("I6", f"case {key.hex()}: a {facts[link].type} without right by {facts[link].node} has effect")
    above = {node: oracle.above(node) for node in [scene.CITY, *oracle.parents]}
    oracle.checks["I5 custody"] += 1
    for fault in custody(facts, applied, above):
        oracle.fail("I5", f"case {key.hex()}: {fault}")
