"""Nodes for tests: real SQLite in a temporary folder, virtual time, seeded randomness; and a courier instead of a network.

`found` makes the root of a network, `enrol` a node below it. `carry` brings what one node holds to another as the sync would:
the same change sets and bundles, the same checks.
"""

from __future__ import annotations

import builtins
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from hub.enrolment import chain_of
from node import operations, setup
from node.acceptance import accept_bundles, accept_set
from node.ledger import Changes, Draft, change_set
from node.node import Node
from node.office import Act
from node.projection import Batch
from node.registrar import take_in
from node.rulebook import take_register
from node.store import cases, logs
from node.store.database import Connection, InlineDatabase
from protocol import keys, register
from protocol.log import Bundle, ChangeSet, decode_checkpoint, decode_header, hash_header
from protocol.register import HUB_RIGHTS, join_message

CITY = "650100000000"
EAST = "650102000000"
WEST = "650103000000"
EAST_TOWN = "650102001000"
EAST_VILLAGE = "650102001001"
WEST_SOCIAL = "650103000000-rsj"
WEST_CIVIL = "650103000000-mzj"

START_MS = 1_764_036_000_000  # 2025-11-25T10:00+08:00, a Tuesday
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
ID_NUMBER = "11010519491231002X"
ACT = Act(officer="1001", window="3")


class VirtualClock:
    """Time that only moves when a test says so."""

    def __init__(self, at_ms: int = START_MS) -> None:
        self.at_ms = at_ms

    def wall_ms(self) -> int:
        return self.at_ms

    def monotonic_s(self) -> float:
        return self.at_ms / 1000

    async def sleep(self, span_s: float) -> None:
        self.at_ms += int(span_s * 1000)

    async def sleep_until(self, monotonic_s: float) -> None:
        self.at_ms = max(self.at_ms, int(monotonic_s * 1000))

    def pass_ms(self, span_ms: int) -> None:
        self.at_ms += span_ms


class SeededEntropy:
    """The same randomness in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> builtins.bytes:
        return self._random.randbytes(count)

    def uniform(self) -> float:
        return self._random.random()


def store_in(folder: Path) -> InlineDatabase:
    """Open or create the store in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return InlineDatabase(folder / "tongban.sqlite3")


async def found(folder: Path, node: str = CITY, *, seed: int = 1, at_ms: int = START_MS) -> Node:
    """Found a network whose root is this node."""
    store = store_in(folder)
    clock, entropy = VirtualClock(at_ms), SeededEntropy(seed)
    key, sealing = keys.SigningKey(entropy.bytes(32)), keys.SealingKey(entropy.bytes(32))
    recovery = keys.SigningKey(entropy.bytes(32)).public
    await setup.found(store, node, "测试网络", key, sealing.public, [recovery], clock, entropy)
    made = await setup.node_of(store, key, clock, entropy)
    made.sealing = lambda _public: sealing
    return made


async def enrol(folder: Path, hub: Node, node: str, *, seed: int = 2, rights: tuple[str, ...] | None = None) -> Node:
    """Invite and enrol a node right below a hub, which must be the root: its registers number the rules at once."""
    clock, entropy = VirtualClock(hub.clock.wall_ms()), SeededEntropy(seed)
    key, sealing = keys.SigningKey(entropy.bytes(32)), keys.SealingKey(entropy.bytes(32))
    given = tuple(map(str, HUB_RIGHTS)) if rights is None else rights
    await hub.write(lambda conn, changes: _enrol(hub, conn, changes, node, (key, sealing), given))
    await seal(hub)
    store = store_in(folder)
    chain = await hub.store.own(lambda conn: chain_of(hub.ledger, conn, node))
    await setup.begin(store, node, hub.ledger.identity.network, key, chain, clock, entropy)
    made = await setup.node_of(store, key, clock, entropy)
    made.sealing = lambda _public: sealing
    await carry(hub, made)
    return made


def _enrol(
    hub: Node,
    conn: Connection,
    changes: Changes,
    node: str,
    machine: tuple[keys.SigningKey, keys.SealingKey],
    rights: tuple[str, ...],
) -> None:
    key, sealing = machine
    seed, challenge = keys.SigningKey(key.public), bytes(32)  # one seed a machine; secret it is not, here
    now = hub.clock.wall_ms()
    invite = {
        "node": node,
        "name": f"节点{node[-6:]}",
        "parent": hub.id,
        "key": seed.public,
        "expires": now + DAY_MS,
        "rights": list(rights),
    }
    (invited,) = hub.ledger.append(conn, [Draft("node.invite", now, invite)], changes)
    message = join_message(node, key.public, sealing.public, challenge, bytes(32))
    fields = {
        "node": node,
        "invite": invited.leaf[:16],
        "key": key.public,
        "seal_key": sealing.public,
        "suite": 1,
        "challenge": challenge,
        "certificate": bytes(32),
        "proof": seed.sign(keys.SignedKind.JOIN, hub.ledger.identity.network, message),
    }
    hub.ledger.append(conn, [Draft("node.enrol", now, fields)], changes)
    take_in(hub.ledger, conn, changes, now)


async def seal(node: Node) -> None:
    """Sign what the node has written, and keep the signatures."""
    await node.store.own(node.ledger.seal)
    await node.write(lambda conn, _changes: node.ledger.save_seals(conn))


async def carry(giver: Node, taker: Node) -> None:
    """Bring what one node holds to another: whole logs upwards, single entries with their paths downwards and sideways."""
    await seal(giver)
    if taker.id in taker.rules.now.ancestors(giver.id):
        sets = await giver.read(lambda conn: _change_sets(conn, giver))
        await taker.write(lambda conn, changes: _take_sets(taker, conn, changes, sets))
    else:
        bundles = await giver.store.own(lambda conn: _bundles(conn, giver, taker))
        await taker.write(lambda conn, _changes: _take_bundles(taker, conn, bundles))


def _change_sets(conn: Connection, giver: Node) -> list[ChangeSet]:
    row = giver.ledger.own_row(conn)
    signed = logs.checkpoints_from(conn, row.id, 0, 10_000)
    return [change_set(conn, row, one, decode_checkpoint(one.checkpoint)) for one in signed]


def _take_sets(node: Node, conn: Connection, changes: Changes, sets: list[ChangeSet]) -> None:
    for one in sets:
        batch = Batch(conn, node.rules, node.ledger.judge)
        accept_set(node.ledger, conn, batch, one)
        changes.cases += batch.finish()


def _bundles(conn: Connection, giver: Node, taker: Node) -> list[Bundle]:
    rows = conn.execute("SELECT e.id, e.log, e.idx FROM entries e JOIN logs l ON l.id = e.log WHERE l.node <> ?", (taker.id,))
    return giver.ledger.bundles(conn, rows.fetchall())


def _take_bundles(node: Node, conn: Connection, bundles: list[Bundle]) -> None:
    own = [one for one in bundles if decode_checkpoint(one.signed.checkpoint).node == node.rules.root]
    for group in (own, [one for one in bundles if one not in own]):  # the root's first: they make the others' keys known
        batch = Batch(conn, node.rules, node.ledger.judge)
        accept_bundles(node.ledger, conn, batch, group)
        batch.finish()
        take_registers(node, conn)
    waiting = cases.load_by_ids(conn, cases.waiting_ids(conn, 1_000))
    if waiting:
        Batch(conn, node.rules, node.ledger.judge).refold(waiting)


def take_registers(node: Node, conn: Connection) -> None:
    """Fold the registers that are here and follow."""
    while True:
        for entry_id, raw, body in conn.execute("SELECT id, raw, body FROM entries WHERE case_id IS NULL ORDER BY id").fetchall():
            header = decode_header(raw)
            if header.type == "register" and header.fields["number"] == node.rules.number + 1:
                take_register(conn, node.rules, entry_id, register.read_register(hash_header(raw), header, body))
                break
        else:
            return


def item(code: str = "permit", version: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a catalogue item as a file has it."""
    return {
        "code": code,
        "version": version,
        "name": "就业困难人员认定",
        "owner": CITY,
        "kind": 2,
        "limits": {"promised_days": 5, "statutory_days": 20},
        "receive": [f"{CITY}/*"],
        "decide": [CITY],
        "materials": [{"name": "身份证", "required": True}, {"name": "申请表", "required": True}],
        "form": [{"name": "phone", "label": "电话", "required": True}],
        "stages": [
            {
                "name": "并联核验",
                "join": "all",
                "tasks": [{"name": "社保核验", "node": CITY, "unit": "社保科"}, {"name": "民政核验", "node": CITY}],
            }
        ],
        **changes,
    }


def catalogue(*items: Mapping[str, Any]) -> dict[str, Any]:
    """Return a catalogue file."""
    return {"format": "tongban-catalogue/1", "items": list(items) or [item()]}


def calendar(version: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a calendar file of the whole country."""
    return {
        "format": "tongban-calendar/1",
        "region": "000000000000",
        "version": version,
        "name": "全国",
        "valid_from": "2025-01-01",
        "valid_through": "2026-12-31",
        "weekday_off": ["2026-01-01"],
        "weekend_work": [],
        **changes,
    }


# --- asking, as scripts do


async def ask(node: Node, name: str, /, act: Act = ACT, **params: Any) -> Any:
    """Give one command and return its answer; rows as a list."""
    answer = await operations.run(node, name, params, act)
    return [row async for row in answer] if isinstance(answer, AsyncIterator) else answer


async def furnish(node: Node, *items: Mapping[str, Any]) -> Node:
    """Give a root an officer, a catalogue and a calendar."""
    await hire(node)
    await ask(node, "catalogue.publish", items=list(items) or [item()])
    await ask(node, "calendar.publish", calendar=calendar())
    return node


async def hire(node: Node) -> Node:
    """Give a node the officer who acts in these tests."""
    await ask(node, "officer.add", id="1001", name="张三", post="综窗")
    return node


async def opened(node: Node, applicant: str = "王伟", **params: Any) -> str:
    """Take a case in and return its number."""
    answer = await ask(node, "case.open", **{"item": "permit", "applicant": applicant, "id_number": ID_NUMBER, **params})
    return str(answer["case"])


async def brought_to(node: Node, case: str, *steps: str) -> str:
    """Bring a case through these steps, with plain values."""
    plain: dict[str, dict[str, Any]] = {
        "notice": {"missing": ["申请表"]},
        "supplement": {"material": [{"name": "申请表"}]},
        "dispatch": {"stage": "并联核验"},
        "suspend": {"kind": "鉴定", "reason": "需要鉴定"},
        "decide": {"result": "grant", "reason": "符合条件"},
        "refuse": {"kind": 5, "reason": "不属于本机关"},
        "withdraw": {"reason": "申请人撤回"},
        "deliver": {"how": "window"},
    }
    for step in steps:
        kind, _, value = step.partition(":")
        extra = {"task": value, "result": "pass"} if kind == "task" else plain.get(kind, {})
        await ask(node, f"case.{kind}", case=case, **extra)
    return case


async def show(node: Node, case: str, **params: Any) -> Any:
    """Return a case's page."""
    return await ask(node, "show", case=case, **params)


def effects(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (type, effect) of each step of a page."""
    return [(step["type"], step["effect"]) for step in shown["timeline"]]


async def size_of(node: Node) -> int:
    """Return how many entries the node's own log holds."""
    return int(await node.read(lambda conn: node.ledger.own_row(conn).size))
