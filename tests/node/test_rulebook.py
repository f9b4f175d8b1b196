"""The rules in the store: what arrives waits for a register, keys are known at once, and a restart finds the same rules."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from node.acceptance import accept_bundles, accept_set
from node.ledger import Changes, Draft
from node.node import Node
from node.projection import Batch
from node.registrar import take_in
from node.rulebook import load_rules, may_invite, note_enrolments, take_register
from node.store import facts
from node.store.database import Connection
from protocol import keys
from protocol.errors import DecodeError, UnknownSigner
from protocol.log import Bundle, ChangeSet, decode_header, hash_header
from protocol.register import Fact, NodeRecord, Register, Right, Rules, join_message, read_register
from tests.node.building import (
    CITY,
    EAST,
    EAST_TOWN,
    EAST_VILLAGE,
    MINUTE_MS,
    START_MS,
    WEST,
    ask,
    calendar,
    enrol,
    found,
    item,
)
from tests.protocol.network import Log, Stated, key_of, seal_key_of

DAY_MS = 24 * 60 * MINUTE_MS


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root."""
    return await found(tmp_path / "city")


@pytest.fixture
async def east(tmp_path: Path, city: Node) -> Node:
    """A district that may enrol others; these tests write a log of it by hand."""
    return await enrol(tmp_path / "east", city, EAST)


def log_of(node: Node) -> Log:
    """Begin a log of a node, to be written by hand, with its true key."""
    identity = node.ledger.identity
    return Log(node.id, identity.key, identity.network, keys.sha256(node.id.encode())[:16], now=START_MS)


def invite(log: Log, node: str, parent: str = EAST, rights: tuple[str, ...] = (), **changes: Any) -> Stated:
    """State an invitation; the seed of its code is that of "code of NODE"."""
    fields = {
        "node": node,
        "name": node,
        "parent": parent,
        "key": key_of(f"code of {node}").public,
        "expires": START_MS + DAY_MS,
        "rights": list(rights),
    }
    return log.state("node.invite", {**fields, **changes})


def enrolment(log: Log, node: str, invited: bytes, code: str = "") -> Stated:
    """State an enrolment, signed by the seed of a code."""
    public, seal_key, blank = key_of(node).public, seal_key_of(node), bytes(32)
    message = join_message(node, public, seal_key, blank, blank)
    fields = {
        "node": node,
        "invite": invited,
        "key": public,
        "seal_key": seal_key,
        "suite": 1,
        "challenge": blank,
        "certificate": blank,
        "proof": key_of(code or f"code of {node}").sign(keys.SignedKind.JOIN, log.network, message),
    }
    return log.state("node.enrol", fields)


async def give(node: Node, *sets: ChangeSet) -> None:
    """Hand change sets to a node in one unit."""

    def unit(conn: Connection, changes: Changes) -> None:
        batch = Batch(conn, node.rules, node.ledger.judge)
        for one in sets:
            accept_set(node.ledger, conn, batch, one)
        node.ledger.finish(conn, batch, changes)

    await node.write(unit)


async def bring(node: Node, *bundles: Bundle) -> None:
    """Hand bundles to a node in one unit."""

    def unit(conn: Connection, changes: Changes) -> None:
        batch = Batch(conn, node.rules, node.ledger.judge)
        accept_bundles(node.ledger, conn, batch, bundles)
        node.ledger.finish(conn, batch, changes)

    await node.write(unit)


async def state(root: Node, kind: str, fields: Mapping[str, Any], body: Mapping[str, Any] | None = None) -> bytes:
    """State a rule at the root and number it; returns its leaf hash."""

    def unit(conn: Connection, changes: Changes) -> bytes:
        (placed,) = root.ledger.append(conn, [Draft(kind, START_MS, dict(fields), body)], changes)
        take_in(root.ledger, conn, changes, START_MS)
        return placed.leaf

    return await root.write(unit)


async def taken_in(node: Node, register: Register) -> set[str]:
    """Fold a register; returns whose entries it upsets."""
    return await node.write(lambda conn, _: take_register(conn, node.rules, 1, register))


async def waiting(node: Node) -> list[Fact]:
    """Return the facts that no register took in yet."""
    return await node.read(facts.unregistered_facts)


async def restarted(node: Node) -> Rules:
    """Return the rules as a restart finds them."""
    return await node.read(load_rules)


def said(rules: Rules) -> dict[str, Any]:
    """Return everything that rules say, in values that can be compared."""

    def history(of: Mapping[str, Any]) -> dict[str, Any]:
        return {name: (one.numbers, one.values) for name, one in sorted(of.items())}

    return {
        "registers": rules.registers,
        "genesis": (rules.network, rules.genesis),
        "voids": rules.voids,
        "revocations": rules.revocations,
        "admissions": rules.admissions,
        "local": rules.local,
        "nodes": history(rules.node_histories),
        "items": history(rules.item_histories),
        "calendars": history(rules.calendar_histories),
        "grants": rules.grants,
        "invites": (rules._invites, rules._used_invites),
        "taken": rules._taken,
    }


# --- what arrives


async def test_rules_wait_for_a_register_and_nothing_else_does(city: Node, east: Node) -> None:
    """Of what arrives the rule entries are remembered, in order; they have no effect before a register takes them in."""
    log = log_of(east)
    log.state("note.test", {"text": "a"})
    first = log.state("node.address", {"addresses": ["10.0.0.1:7650"]})
    log.state("officer.add", {"id": "1", "posts": [], "from": "2025-11-25"}, {"name": "张三"})
    second = log.state("node.address", {"addresses": ["10.0.0.2:7650"]})
    await give(city, log.change_set())
    assert [fact.leaf for fact in await waiting(city)] == [first.leaf, second.leaf]
    assert city.rules.now.node(EAST) == city.rules.record(EAST)
    assert city.rules.record(EAST).addresses == ()  # type: ignore[union-attr]
    await city.write(lambda conn, changes: take_in(city.ledger, conn, changes, START_MS))
    assert await waiting(city) == []
    assert city.rules.record(EAST).addresses == ("10.0.0.2:7650",)  # type: ignore[union-attr]


async def test_a_fact_restated_is_one_fact(city: Node, east: Node) -> None:
    """The same bytes in a second log of the same node are the same fact, at its first place."""
    log, again = log_of(east), log_of(east)
    again.incarnation = bytes(16)
    again.entries.append(log.state("node.address", {"addresses": ["10.0.0.1:7650"]}))
    await give(city, log.change_set(), again.change_set())
    assert [fact.leaf for fact in await waiting(city)] == [log.entries[0].leaf]


async def test_an_enrolment_makes_its_key_known_at_once(city: Node, east: Node) -> None:
    """A station enrolled below works before any register says so: its log is taken in the very same unit."""
    log = log_of(east)
    village = Log(EAST_TOWN, key_of(EAST_TOWN), log.network)
    village.state("note.test", {"text": "a"})
    with pytest.raises(UnknownSigner):
        await give(city, village.change_set())
    number = city.rules.number
    invited = invite(log, EAST_TOWN)
    joined = enrolment(log, EAST_TOWN, invited.link)
    await give(city, log.change_set(), village.change_set())
    record = city.rules.record(EAST_TOWN)
    assert record is not None
    assert (record.parent, record.key, record.enrolment) == (EAST, key_of(EAST_TOWN).public, joined.leaf)
    assert (city.rules.number, city.rules.now.node(EAST_TOWN)) == (number, None)
    assert city.rules.now.ancestors(EAST_TOWN) == (EAST, CITY)
    assert said(await restarted(city)) == said(city.rules)


async def test_a_unit_that_fails_takes_its_enrolments_back(city: Node, east: Node) -> None:
    """A key that became known in a unit that was rolled back is not known afterwards."""
    log = log_of(east)
    enrolment(log, EAST_TOWN, invite(log, EAST_TOWN).link)
    stranger = Log("650104000000", key_of("stranger"), log.network)
    stranger.state("note.test", {})
    with pytest.raises(UnknownSigner):
        await give(city, log.change_set(), stranger.change_set())
    assert city.rules.record(EAST_TOWN) is None
    await give(city, log.change_set())
    assert city.rules.record(EAST_TOWN) is not None


async def test_an_enrolment_without_its_invitation_waits_for_both(city: Node, east: Node) -> None:
    """An enrolment that came alone makes nothing known; the register that takes both in does."""
    log = log_of(east)
    enrolment(log, EAST_TOWN, invite(log, EAST_TOWN).link)
    await bring(city, log.bundle([1]))
    assert [fact.header.type for fact in await waiting(city)] == ["node.enrol"]
    assert city.rules.record(EAST_TOWN) is None
    await give(city, log.change_set())
    await city.write(lambda conn, _: _number(city, conn, log))
    assert city.rules.record(EAST_TOWN) is not None
    assert city.rules.now.node(EAST_TOWN) is not None


async def test_an_invitation_that_comes_after_its_enrolment(city: Node, east: Node) -> None:
    """In whatever order the two came, the key is known once both are here, and the live rules are those of a restart."""
    log = log_of(east)
    enrolment(log, EAST_TOWN, invite(log, EAST_TOWN).link)
    await bring(city, log.bundle([1]))
    assert city.rules.record(EAST_TOWN) is None
    await bring(city, log.bundle([0, 1]))  # as when the chain of a key is fetched
    assert city.rules.record(EAST_TOWN) is not None
    assert said(await restarted(city)) == said(city.rules)


async def test_an_enrolment_below_one_that_comes_later(city: Node, east: Node) -> None:
    """What a hub enrolled for a parent that is not known yet holds when the parent's enrolment is here, also after a restart."""
    log = log_of(east)
    town = invite(log, EAST_TOWN, rights=("enrol",))
    enrolment(log, EAST_VILLAGE, invite(log, EAST_VILLAGE, EAST_TOWN).link)
    await give(city, log.change_set())
    assert city.rules.record(EAST_VILLAGE) is None
    enrolment(log, EAST_TOWN, town.link)
    await give(city, log.change_set(3))
    assert city.rules.record(EAST_VILLAGE) is not None
    assert said(await restarted(city)) == said(city.rules)


async def test_a_right_that_a_register_brings_later(tmp_path: Path, city: Node) -> None:
    """An enrolment waits for its inviter's right: the register that grants it makes the key known at once."""
    plain, town = await enrol(tmp_path / "west", city, WEST, seed=3, rights=()), "650103001000"
    log = log_of(plain)
    enrolment(log, town, invite(log, town, WEST).link)
    await give(city, log.change_set())
    assert city.rules.record(town) is None

    def grant(conn: Connection, changes: Changes) -> None:
        (placed,) = city.ledger.append(conn, [Draft("rights.grant", START_MS, {"to": WEST, "right": "enrol"})], changes)
        newest = city.rules.registers[-1]
        register = Register(newest.number + 1, placed.leaf, newest.leaf, (placed.leaf,), CITY)
        take_register(conn, city.rules, placed.id, register)

    await city.write(grant)
    held = await city.read(lambda conn: _noted_again(conn, city.rules))
    assert city.rules.record(town) is not None
    assert held == city.rules.local


def _noted_again(conn: Connection, rules: Rules) -> dict[str, NodeRecord]:
    """Return what a restart makes of the waiting enrolments, the registers being folded."""
    again = copy.deepcopy(rules)
    again.local.clear()
    note_enrolments(conn, again)
    return again.local


def _number(root: Node, conn: Connection, log: Log) -> None:
    """Take a log's entries in, in their order."""
    (entry_id,) = conn.execute("SELECT max(id) FROM entries").fetchone()
    newest = root.rules.registers[-1]
    leaves = tuple(stated.leaf for stated in log.entries)
    take_register(conn, root.rules, entry_id, Register(newest.number + 1, bytes(32), newest.leaf, leaves, CITY))


NO_ENROLMENTS: dict[str, Callable[[Log], Stated]] = {
    "code": lambda log: enrolment(log, EAST_TOWN, invite(log, EAST_TOWN).link, "another code"),
    "place": lambda log: enrolment(log, EAST_VILLAGE, invite(log, EAST_TOWN).link, f"code of {EAST_TOWN}"),
    "parent": lambda log: enrolment(log, EAST_TOWN, invite(log, EAST_TOWN, WEST).link),
    "above": lambda log: enrolment(log, EAST_TOWN, invite(log, EAST_TOWN, CITY).link),
    "late": lambda log: enrolment(log, EAST_TOWN, invite(log, EAST_TOWN, expires=START_MS).link),
    "no_invite": lambda log: enrolment(log, EAST_TOWN, log.state("node.address", {"addresses": ["h:1"]}).link),
    "no_link": lambda log: enrolment(log, EAST_TOWN, "invite"),  # type: ignore[arg-type]
    "malformed": lambda log: log.state("node.enrol", {"node": EAST_TOWN, "invite": invite(log, EAST_TOWN).link}),
}


@pytest.mark.parametrize("kind", NO_ENROLMENTS)
async def test_an_enrolment_that_does_not_hold_is_kept_without_effect(city: Node, east: Node, kind: str) -> None:
    """Another code, place, parent or time, or no invitation at all: the entry is kept, its key stays unknown, nothing fails."""
    log = log_of(east)
    fact = NO_ENROLMENTS[kind](log)
    await give(city, log.change_set())
    assert city.rules.record(EAST_TOWN) is None
    assert city.rules.record(EAST_VILLAGE) is None
    assert fact.leaf in [one.leaf for one in await waiting(city)]
    await city.write(lambda conn, changes: take_in(city.ledger, conn, changes, START_MS))
    assert fact.leaf in city.rules.voids
    assert said(await restarted(city)) == said(city.rules)


async def test_only_a_hub_with_the_right_invites_below_itself(tmp_path: Path, city: Node, east: Node) -> None:
    """Any node can write an invitation: what counts is the right to enrol, at the parent named, and not being void."""
    plain = await enrol(tmp_path / "west", city, WEST, seed=3, rights=())
    for node, parent, expected in (
        (east, EAST, True),
        (city, EAST, True),
        (city, CITY, True),
        (east, WEST, False),
        (east, CITY, False),
        (east, "650104000000", False),
        (plain, WEST, False),
    ):
        assert may_invite(city.rules, invite(log_of(node), EAST_TOWN, parent).fact) is expected, (node.id, parent)
    assert may_invite(city.rules, log_of(east).state("node.invite", {"parent": 7}).fact) is False
    void = invite(log_of(east), EAST_TOWN).fact
    city.rules.voids[void.leaf] = "no_right"
    assert may_invite(city.rules, void) is False


@pytest.mark.parametrize("rights", [(), ("enrol",)])
async def test_a_newcomer_invites_only_with_the_right(city: Node, east: Node, rights: tuple[str, ...]) -> None:
    """A node that no register has yet stands by its own invitation: with the right to enrol its enrolments count, else not."""
    log = log_of(east)
    enrolment(log, EAST_TOWN, invite(log, EAST_TOWN, rights=rights).link)
    town = Log(EAST_TOWN, key_of(EAST_TOWN), log.network, now=START_MS)
    enrolment(town, EAST_VILLAGE, invite(town, EAST_VILLAGE, EAST_TOWN).link)
    await give(city, log.change_set(), town.change_set())
    assert city.rules.record(EAST_TOWN) is not None
    assert (city.rules.record(EAST_VILLAGE) is not None) is bool(rights)
    assert said(await restarted(city)) == said(city.rules)


# --- registers


async def test_registers_are_taken_in_their_order(city: Node, east: Node) -> None:
    """The next number, the hash before it, the root's, every fact here: else it is refused and nothing changes; once only."""
    log = log_of(east)
    facts_stated = [log.state("node.address", {"addresses": [f"10.0.0.{n}:7650"]}) for n in (1, 2)]
    await give(city, log.change_set())
    newest, leaf = city.rules.registers[-1], facts_stated[0].leaf
    good = Register(newest.number + 1, bytes(32), newest.leaf, (leaf,), CITY)

    before = said(city.rules)
    for number, chain, taken, author in (
        (good.number + 1, good.before, (leaf,), CITY),
        (newest.number, newest.before, (leaf,), CITY),
        (good.number, bytes(32), (leaf,), CITY),
        (good.number, good.before, (leaf, bytes(32)), CITY),
        (good.number, good.before, (leaf,), EAST),
    ):
        with pytest.raises(DecodeError):
            await taken_in(city, Register(number, bytes(32), chain, taken, author))
        assert said(city.rules) == before
        assert len(await waiting(city)) == 2
    assert await taken_in(city, good) == set()
    assert [fact.leaf for fact in await waiting(city)] == [facts_stated[1].leaf]
    with pytest.raises(DecodeError):
        await taken_in(city, good)
    assert city.rules.number == good.number


async def test_a_register_folds_in_its_own_order(city: Node, east: Node) -> None:
    """The order that the register lists counts, not that of arrival: the last address listed is the one that stands."""
    log = log_of(east)
    first, second = (log.state("node.address", {"addresses": [f"10.0.0.{n}:7650"]}) for n in (1, 2))
    await give(city, log.change_set())
    newest = city.rules.registers[-1]
    register = Register(newest.number + 1, bytes(32), newest.leaf, (second.leaf, first.leaf), CITY)
    await taken_in(city, register)
    assert city.rules.record(EAST).addresses == ("10.0.0.1:7650",)  # type: ignore[union-attr]


async def test_a_register_tells_whose_entries_it_upsets(city: Node, east: Node) -> None:
    """An admission or a revocation changes how older entries of a node stand; other rules upset nobody."""
    log = log_of(city)
    east_key = east.ledger.identity.key.public
    log.state("node.admit", {"node": EAST, "incarnation": bytes(16), "sizes": []})
    log.state("node.address", {"addresses": ["h:1"]})
    log.state("node.revoke", {"node": WEST, "key": east_key, "cuts": []})
    await give(city, log.change_set())
    newest = city.rules.registers[-1]
    for taken, upset in (((1,), set()), ((0, 2), {EAST, WEST})):
        newest = city.rules.registers[-1]
        leaves = tuple(log.entries[index].leaf for index in taken)
        register = Register(newest.number + 1, keys.sha256(bytes(taken)), newest.leaf, leaves, CITY)
        assert await taken_in(city, register) == upset


# --- a restart


class History:
    """A small network in which a seeded hand states rules, good and bad, and carries them about."""

    def __init__(self, seed: int, city: Node, east: Node, west: Node) -> None:
        self.random = random.Random(seed)
        self.city, self.east, self.west = city, east, west
        self.log = log_of(east)
        self.given = 0
        self.versions = 0
        self.grants: list[bytes] = []

    async def step(self) -> None:
        steps = [
            *(self.publish, self.plan, self.grant, self.end, self.invite, self.join, self.address),
            *(self.revoke, self.retire, self.admit, self.number, self.give, self.spread),
        ]
        await self.random.choice(steps)()

    async def publish(self) -> None:
        self.versions += 1
        code, version = self.random.choice("ab"), self.random.randint(1, self.versions)
        fields = {"code": code, "version": version, "title": code, "owner": CITY, "receive": [CITY], "decide": [CITY]}
        await state(self.city, "catalogue.item", fields, item(code, version))

    async def plan(self) -> None:
        self.versions += 1
        await ask(self.city, "calendar.publish", calendar=calendar(self.versions))

    async def grant(self) -> None:
        right = str(self.random.choice([*Right]))
        leaf = await state(self.city, "rights.grant", {"to": self.random.choice((EAST, WEST, f"{CITY}/*")), "right": right})
        self.grants.append(leaf[:16])

    async def end(self) -> None:
        if self.grants:
            await state(self.city, "rights.end", {"grant": self.random.choice(self.grants)})

    async def invite(self) -> None:
        self.log.state("note.test", {"n": self.given})
        invite(self.log, self.random.choice((EAST_TOWN, EAST_VILLAGE)), rights=self.random.choice(((), ("enrol",))))

    async def join(self) -> None:
        invited = [one for one in self.log.entries if one.header.type == "node.invite"]
        if invited:
            one = self.random.choice(invited)
            enrolment(self.log, one.header.fields["node"], one.link, self.random.choice(("", "", "", "another code")))

    async def address(self) -> None:
        self.log.state("node.address", {"addresses": [f"h{len(self.log.entries)}:1"]})

    async def revoke(self) -> None:
        if self.random.random() < 0.3:
            await state(self.city, "node.revoke", {"node": EAST_TOWN, "key": key_of(EAST_TOWN).public, "cuts": []})

    async def retire(self) -> None:
        if self.random.random() < 0.3:
            self.log.state("node.retire", {"node": self.random.choice((EAST_TOWN, EAST_VILLAGE, CITY))})

    async def admit(self) -> None:
        await state(self.city, "node.admit", {"node": EAST, "incarnation": self.random.randbytes(16), "sizes": []})

    async def give(self) -> None:
        if len(self.log.entries) > self.given:
            await give(self.city, self.log.change_set(self.given))
            self.given = len(self.log.entries)

    async def number(self) -> None:
        await self.city.write(lambda conn, changes: take_in(self.city.ledger, conn, changes, START_MS))

    async def spread(self) -> None:
        """Bring the registers that the other district lacks, each with its facts."""
        while self.west.rules.number < self.city.rules.number:
            taken, numbered = await self._register(self.west.rules.number + 1)
            await bring(self.west, *taken, numbered)
            await self._fold(numbered)

    async def _register(self, number: int) -> tuple[list[Bundle], Bundle]:
        return await self.city.store.own(lambda conn: _bundles(self.city, conn, number))

    async def _fold(self, numbered: Bundle) -> None:
        await self.west.write(lambda conn, _: _take(self.west, conn, numbered))


def _bundles(root: Node, conn: Connection, number: int) -> tuple[list[Bundle], Bundle]:
    """Return the bundles of a register's facts, and its own."""
    place = "SELECT e.id, e.log, e.idx FROM entries e JOIN {} t ON t.entry = e.id WHERE t.number = ? ORDER BY e.id"
    root.ledger.seal(conn)
    taken = [root.ledger.bundles(conn, [row]) for row in conn.execute(place.format("facts"), (number,)).fetchall()]
    return [one[0] for one in taken], root.ledger.bundles(conn, conn.execute(place.format("registers"), (number,)).fetchall())[0]


def _take(node: Node, conn: Connection, numbered: Bundle) -> None:
    """Fold a register that came."""
    (entry,) = numbered.entries
    (entry_id,) = conn.execute("SELECT id FROM entries WHERE raw = ?", (entry.raw,)).fetchone()
    register = read_register(hash_header(entry.raw), decode_header(entry.raw), entry.body or b"")
    take_register(conn, node.rules, entry_id, register)


@pytest.mark.parametrize("seed", range(6))
async def test_a_restart_finds_the_same_rules(tmp_path: Path, city: Node, east: Node, seed: int) -> None:
    """After every step of a small history the rules folded from the store say all that the live ones say, here and below."""
    west = await enrol(tmp_path / "west", city, WEST, seed=3)
    history = History(seed, city, east, west)
    for number in range(40):
        await history.step()
        for node in (city, west):
            assert said(await restarted(node)) == said(node.rules), (seed, number, node.id)
    await history.give()
    await history.number()
    await history.spread()
    assert west.rules.number == city.rules.number > 10
    assert said(await restarted(west))["nodes"] == said(city.rules)["nodes"]
    assert said(west.rules)["voids"] == said(city.rules)["voids"]
