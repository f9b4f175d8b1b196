"""The demo's story for a world of ten machines, and the oracle that judges its end from outside.

Clerks work at their counters whatever happens: a command that was not answered is given again, under the same event id. What a
command answered is *saved*, and the oracle keeps it: whatever crashed, it must be at the city exactly once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node import operations
from node.node import Node
from node.office import Act
from node.store import cases, logs
from node.store.database import Connection
from protocol.cases import decode_context
from protocol.errors import CommandRefused, LinkError, StoreError
from tests import sources
from tests.node.building import ID_NUMBER, calendar, item
from tests.world import Place, World

CITY: Final = "650100000000"
D1, D2 = "650102000000", "650103000000"
SOCIAL, CIVIL = f"{D2}-rsj", f"{D2}-mzj"
T1, T2 = "650102001000", "650102002000"
V1, V2, V3 = "650102001001", "650102001002", "650102002001"
TREE: Final = ((D1, CITY), (D2, CITY), (SOCIAL, D2), (CIVIL, D2), (T1, D1), (T2, D1), (V1, T1), (V2, T1), (V3, T2))
ACT: Final = Act(officer="1001", window="3")
STAGE: Final = "并联核验"
ITEMS: Final = (
    item(
        "cross",
        receive=[f"{CITY}/*"],
        decide=[f"{D2}/*"],
        stages=[{"name": STAGE, "join": "all", "tasks": [{"name": "社保核验", "node": SOCIAL}, {"name": "民政核验", "node": CIVIL}]}],
    ),
    item("spot", receive=[f"{CITY}/*"], decide=[f"{CITY}/*"], limits={"promised_days": 0, "statutory_days": 5}, stages=[]),
)


@dataclass(slots=True)
class Oracle:
    """What counters were told. saved: header bytes of every entry whose command was answered."""

    saved: list[bytes] = field(default_factory=list)
    cases: dict[str, str] = field(default_factory=dict)  # key → the counter that took it in


async def ask(place: Place, command: str, /, act: Act = ACT, **params: Any) -> Any:
    """Give one command at a machine."""
    answer = await operations.run(place.node, command, params, act)
    return [row async for row in answer] if isinstance(answer, AsyncIterator) else answer


async def build(world: World, tree: Sequence[tuple[str, str]] = TREE) -> None:
    """Found the network, enrol everybody, publish the rules, give each an officer."""
    await world.found(CITY, "乌鲁木齐市")
    for name, parent in tree:
        await world.enrol(name, f"节点{name[6:]}", parent)
    for place in world:
        await told(world, place, "officer.add", id="1001", name="张三")
    city = world.places[CITY]
    await told(world, city, "catalogue.publish", items=list(ITEMS))
    await told(world, city, "calendar.publish", calendar=calendar())
    await world.settle()


async def told(world: World, place: Place, command: str, /, **params: Any) -> Any:
    """Give a command that may be repeated, until it is answered."""
    while True:
        if place.up:
            try:
                return await world.at(place.id, ask(place, command, **params))
            except (LinkError, StoreError):
                pass
            except CommandRefused:
                if command == "officer.add":
                    return None  # it was done, and its answer lost
                raise
        await asyncio.sleep(1.0)


async def step(world: World, oracle: Oracle, at: str, source: str, command: str, /, **params: Any) -> Any:
    """Carry out one step of a case at a counter, however often it takes; returns its answer."""
    act = Act(ACT.officer, ACT.window, None, (source, command))
    while True:
        place = world.places[at]
        if place.up:
            try:
                answer, raw = await world.at(at, _saved(place, act, command, params))
            except (LinkError, StoreError, CommandRefused):  # dead, or the case is not that far yet
                pass
            else:
                oracle.saved.append(raw)
                return answer
        await asyncio.sleep(world.random.uniform(1.0, 20.0))


async def _saved(place: Place, act: Act, command: str, params: dict[str, Any]) -> tuple[Any, bytes]:
    answer = await ask(place, command, act, **params)
    index = answer["log"]["index"]

    def read(conn: Connection) -> bytes:
        row = logs.entry_at(conn, place.node.ledger.own_row(conn).id, index)
        assert row is not None
        return row.raw

    return answer, await place.node.read(read)


async def cross(world: World, oracle: Oracle, village: str, name: str) -> None:
    """Taken in at a village of one district, decided by two departments of the other, delivered where it began."""
    opened = await step(world, oracle, village, f"{name}/open", "case.open", item="cross", applicant="王伟", id_number=ID_NUMBER)
    case = opened["key"]
    oracle.cases[case] = village

    async def go(at: str, kind: str, **params: Any) -> None:
        await step(world, oracle, at, f"{name}/{kind}/{params.get('task', '')}", f"case.{kind}", case=case, **params)

    await go(village, "offer", to=D2)
    await go(D2, "take")
    await go(D2, "notice", missing=["申请表"])
    await go(village, "supplement", material=[{"name": "申请表"}])
    await go(D2, "accept")
    await go(D2, "dispatch", stage=STAGE)
    await asyncio.gather(go(SOCIAL, "task", task="社保核验", result="pass"), go(CIVIL, "task", task="民政核验", result="pass"))
    await go(D2, "decide", result="grant", reason="符合条件")
    await go(D2, "finish")
    await go(village, "deliver", how="window")


async def spot(world: World, oracle: Oracle, village: str, name: str) -> None:
    """Taken in and decided at one counter, also with the line cut."""
    opened = await step(world, oracle, village, f"{name}/open", "case.open", item="spot", applicant="阿依古丽", id_number=ID_NUMBER)
    case = opened["key"]
    oracle.cases[case] = village
    for kind, params in (("accept", {}), ("decide", {"result": "grant", "reason": "符合"}), ("finish", {}), ("deliver", {"how": "window"})):
        await step(world, oracle, village, f"{name}/{kind}", f"case.{kind}", case=case, **params)


# --- the oracle


def reachable_labels() -> set[str]:
    """Return the fault labels that a world without command line and without restores passes."""
    elsewhere = ("store.migrate", "continuity.", "uplink.tail", "uplink.chain", "restoring.", "commands.", "folder.", "replay.", "carry.", "keyring.", "rekeying.", "uplink.keys")
    elsewhere += ("backup.", "restore.", "moving.", "scrub.")
    return {label for label in sources.fault_labels() if not label.startswith(elsewhere)}


async def judge(world: World, oracle: Oracle, *, forks: bool = False) -> None:
    """Check the whole network after it came to rest. forks: rival histories are part of the story."""
    assert world.problems == []
    city = world.places[CITY].node
    held = Counter(await city.read(_raws))
    lost = [raw for raw in oracle.saved if held[raw] != 1]
    assert lost == [], f"{len(lost)} saved entries are not at the city exactly once"
    for place in world:
        await _check_place(place, forks=forks)
        if place.parent is not None:
            await _check_pair(place.node, world.places[place.parent].node)
    await check_routing(world)


async def check_stories(world: World, oracle: Oracle) -> None:
    """Check that every case ended as its story tells, with equal digests at all who hold it."""
    for case, village in oracle.cases.items():
        pages = {}
        for place in world:
            try:
                pages[place.id] = await ask(place, "show", case=case)
            except CommandRefused:
                continue
        assert {CITY, D1, village} <= pages.keys(), case
        assert len({page["digest"] for page in pages.values()}) == 1, case
        for page in pages.values():
            assert (page["state"], page["delivered"]) == ("finished", True), page
            wrong = [(one["type"], one["effect"], one["reason"]) for one in page["timeline"] if one["effect"] != "applied"]
            assert wrong == [], case


async def _check_place(place: Place, *, forks: bool) -> None:
    found = await ask(place, "verify")
    assert [one for one in found["problems"] if not (forks and one["kind"] == "fork")] == [], place.id
    assert (await ask(place, "rebuild"))["problems"] == [], place.id
    evidence = await place.node.read(lambda conn: conn.execute("SELECT count(*) FROM evidence").fetchone()[0])
    assert forks or evidence == 0
    assert await place.node.read(lambda conn: cases.waiting_ids(conn, 10)) == [], place.id


async def _check_pair(child: Node, parent: Node) -> None:
    """What the parent acknowledged it holds, and the child's cursor is within the parent's feed."""
    theirs = {row.log: row for row in await parent.read(logs.load_logs) if not row.branch}
    acks = await child.read(logs.acks)
    for row in await child.read(logs.load_logs):
        if not row.branch:
            held = theirs[row.log].size if row.log in theirs else 0
            assert acks.get(row.id, 0) <= held, f"{child.id}: {row.log.node} is acknowledged beyond what {parent.id} holds"
    last = await parent.read(lambda conn: conn.execute("SELECT coalesce(max(position), 0) FROM feed").fetchone()[0])
    _, position = await child.read(lambda conn: logs.get_cursor(conn, "cases"))
    assert position <= last


async def check_routing(world: World) -> None:
    """Check that each machine holds exactly the entries of the cases in which its subtree has a party."""
    everything = await world.places[CITY].node.read(_cases)
    for place in world:
        here = await place.node.read(_cases)
        expected = {key for key, (parties, _) in everything.items() if any(_below(place.node, place.id, one) for one in parties)}
        assert set(here) == expected, f"{place.id}: holds other cases than those of its subtree"
        for key in expected:
            assert here[key][1] == everything[key][1], f"{place.id}: case {key.hex()} is not whole"


def _below(node: Node, top: str, one: str) -> bool:
    return one == top or node.rules.now.above(top, one)


def _raws(conn: Connection) -> list[bytes]:
    return [row[0] for row in conn.execute("SELECT raw FROM entries")]


def _cases(conn: Connection) -> dict[bytes, tuple[tuple[str, ...], set[bytes]]]:
    found: dict[bytes, tuple[tuple[str, ...], set[bytes]]] = {}
    for case_id, key, context in conn.execute("SELECT id, key, context FROM cases").fetchall():
        entries = {row.raw for row in logs.entries_of_cases(conn, [case_id])[case_id]}
        found[key] = (decode_context(context).parties if context else (), entries)
    return found


def old_copy(place: Place) -> Path:
    """Return where a machine's backup lies."""
    return place.folder / "backup"
