"""Founding, inviting, joining and synchronising, on real folders and over real TLS: what is done, refused, and can be done again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hub import commands
from hub.app import Hub
from hub.server import serve
from hub.service import announce
from node import config, faults, operations, rekeying, setup
from node.command import Claim, Command, carry_out
from node.config import Config
from node.folder import Folder
from node.keyring import Keyring
from node.node import Node
from node.office import Act
from node.store import logs
from node.store.database import Connection
from node.tls import certificate_hash, ensure_certificate
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from protocol import joincode, keys, limits
from protocol.errors import (
    CommandRefused,
    InputError,
    InputProblems,
    JoinRefused,
    LinkError,
    PeerError,
    StoreBusy,
    StoreError,
    TongbanError,
    UnknownSigner,
    WrongNetwork,
)
from protocol.log import decode_header
from tests.node.building import CITY, EAST, EAST_TOWN, EAST_VILLAGE, HOUR_MS, WEST, SeededEntropy, VirtualClock, enrol

DEPARTMENT = "650102000000-rsj"
DEAD = "127.0.0.1:9"  # nobody listens there


@dataclass
class Machine:
    """One computer: its folder, its clock, its randomness."""

    folder: Folder
    seed: int
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        self.entropy = SeededEntropy(self.seed)

    async def init(self, division: str = CITY, name: str = "测试网络", **options: Any) -> dict[str, Any]:
        told = {"listen": None, "advertise": None, **options}
        return await commands.init(self.folder, self.clock, self.entropy, division=division, name=name, **told)

    async def join(self, code: str, **options: Any) -> dict[str, Any]:
        told = {"listen": None, "advertise": None, "proxy": None, "timeout_s": 5.0, **options}
        return await commands.join(self.folder, self.clock, self.entropy, code=code, **told)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Node]:
        """Open the folder as a command does."""
        with self.folder.locked():
            node = await setup.open_node(self.folder, self.clock, self.entropy)
            try:
                yield node
            finally:
                await node.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[Node, str]]:
        """Run the accepting side, as `tongban run` does; yields the node and its address."""
        async with self.opened() as node:
            hub = Hub(node, certificate_hash(ensure_certificate(self.folder.tls, node.id)))
            server = await serve(hub, self.folder.tls, "127.0.0.1", 0)
            try:
                address = f"127.0.0.1:{server.port}"
                await announce(node, address)
                yield node, address
            finally:
                hub.close()
                await server.stop()

    async def sync(self, **params: Any) -> Any:
        """Give `sync` as the command line does where no node runs."""
        async with self.opened() as node:
            found = config.load(self.folder.config)
            return await operations.run(node, "sync", {"settings": found, "timeout_s": 1.0, **params}, Act())


@pytest.fixture
async def city(tmp_path: Path) -> Machine:
    """The root of a new network."""
    machine = Machine(Folder(tmp_path / "city"), 1)
    await machine.init()
    return machine


def machine(tmp_path: Path, name: str = "east", seed: int = 2) -> Machine:
    return Machine(Folder(tmp_path / name), seed)


async def invited(node: Node, invited_id: str = EAST, **params: Any) -> dict[str, Any]:
    """Give `invite`."""
    answer = await operations.run(node, "invite", {"node": invited_id, "name": "一个节点", **params}, Act(officer="1001"))
    assert isinstance(answer, dict)
    return answer


async def code_for(node: Node, invited_id: str = EAST, **params: Any) -> str:
    return str((await invited(node, invited_id, **params))["code"])


def changed(code: str, **values: Any) -> str:
    """Write a joining code anew, with other values."""
    return joincode.format_code(joincode.parse_code(code)._replace(**values))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


async def enrolments(node: Node) -> list[str]:
    """Return whom a hub has enrolled, in order."""
    rows = await node.read(lambda conn: conn.execute("SELECT raw FROM entries ORDER BY id").fetchall())
    headers = [decode_header(raw) for (raw,) in rows]
    return [header.fields["node"] for header in headers if header.type == "node.enrol"]


# --- init


async def test_init_founds_a_network(tmp_path: Path) -> None:
    """The answer names node, network, fingerprint and recovery keys; the folder opens as that node, at the addresses given."""
    city = machine(tmp_path, "city", 1)
    done = await city.init(listen="0.0.0.0:7000", advertise="hub.example.cn:7001")
    assert set(done) == {"node", "network", "root_fingerprint", "recovery"}
    async with city.opened() as node:
        identity = node.ledger.identity
        assert (done["node"], done["network"]) == (node.id, identity.network.hex()) == (CITY, node.rules.network.hex())
        assert done["root_fingerprint"] == keys.key_id(identity.key.public).hex()
        genesis = node.rules.genesis
        assert genesis is not None
        assert genesis.recovery == tuple(keys.SigningKey(bytes.fromhex(seed)).public for seed in done["recovery"])
        assert (genesis.name, genesis.threshold, len(genesis.recovery)) == ("测试网络", 1, 1)
        assert node.parent is None
    found = config.load(city.folder.config)
    assert (found.listen.host, found.listen.port, found.advertise.address) == ("0.0.0.0", 7000, "hub.example.cn:7001")  # noqa: S104


async def test_recovery_keys_are_on_no_disk(city: Machine, tmp_path: Path) -> None:
    """They are printed once; no file of the folder holds them, as text or as bytes, though it holds the node's own keys."""
    fresh = machine(tmp_path, "other", 7)
    done = await fresh.init()
    kept = contents(fresh.folder.root)
    own = fresh.folder.load_seed("signing")
    assert any(own.hex().encode() in data for data in kept.values())
    for seed in done["recovery"]:
        for form in (seed.encode(), seed.upper().encode(), bytes.fromhex(seed)):
            assert [name for name, data in kept.items() if form in data] == []
    assert len({*done["recovery"], own.hex(), fresh.folder.load_seed("sealing").hex()}) == 3


async def test_a_folder_with_a_node_is_left_alone(city: Machine) -> None:
    """A second network in it is refused; every file stays as it was."""
    before = contents(city.folder.root)
    with pytest.raises(InputError) as caught:
        await city.init(EAST, "另一个")
    assert "lives here" in caught.value.message
    assert caught.value.exit_code == 2
    assert contents(city.folder.root) == before


async def test_a_folder_that_another_process_has_is_left_alone(city: Machine) -> None:
    """While it is open elsewhere, init and join say so and may be given again later."""
    async with city.serving() as (node, _):
        code = await code_for(node)
        with pytest.raises(StoreBusy):
            await city.init()
        with pytest.raises(StoreBusy):
            await city.join(code)


@pytest.mark.parametrize(
    "given",
    [
        {"division": "6501"},
        {"division": "650100000000-"},
        {"division": "乌鲁木齐"},
        {"name": "  "},
        {"name": "网\u202e络"},
        {"name": "网" * 201},
        {"listen": "7650"},
        {"listen": "127.0.0.1:65536"},
        {"listen": "a host:7650"},
        {"advertise": "hub.example.cn"},
        {"advertise": "hub.example.cn:0"},
    ],
    ids=str,
)
async def test_wrong_words_make_no_folder(tmp_path: Path, given: dict[str, str]) -> None:
    """A division, a name or an address that is none is refused before anything is made."""
    fresh = machine(tmp_path, "city", 1)
    with pytest.raises(InputError) as caught:
        await fresh.init(**given)
    assert caught.value.exit_code == 2
    assert not fresh.folder.root.exists()


@pytest.mark.parametrize("point", ["folder.drafted", "store.before_commit", "store.committed"])
async def test_init_killed_in_the_middle_can_be_given_again(tmp_path: Path, point: str) -> None:
    """Keys without a store are no node: the same command makes the network, with the keys that are there."""
    city = machine(tmp_path, "city", 1)

    def power_fails(label: str) -> None:
        if label == point:
            raise faults.Crash(label)

    with faults.hooked(power_fails), pytest.raises(faults.Crash):
        await city.init()
    assert not city.folder.store.exists()
    kept = {name: seed for name, seed in contents(city.folder.keys).items() if name.endswith(".seed")}
    assert (await city.init())["node"] == CITY
    assert kept.items() <= contents(city.folder.keys).items()
    assert [path.name for path in city.folder.root.glob("draft*")] == []
    async with city.opened() as node:
        assert node.ledger.identity.key.public == keys.SigningKey(city.folder.load_seed("signing")).public


async def test_init_leaves_a_folder_alone_that_was_enrolled(city: Machine, tmp_path: Path) -> None:
    """A machine that lost its store after it joined is still a node of its network: only `join` goes on there."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        await east.join(await code_for(hub))
    for path in east.folder.root.glob("tongban.sqlite3*"):
        path.unlink()
    with pytest.raises(InputError, match="not finished"):
        await east.init()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way is a fault of the disk's, not a crash."""
    (tmp_path / "file").write_text("x", encoding="ascii")
    with pytest.raises(StoreError):
        await Machine(Folder(tmp_path / "file" / "node"), 1).init()


# --- join


async def test_a_machine_joins_over_tls(city: Machine, tmp_path: Path) -> None:
    """It is enrolled with its own keys, knows its parent's address and the rules, and its log is at the hub already."""
    east = machine(tmp_path)
    async with city.serving() as (hub, address):
        code = await code_for(hub)
        done = await east.join(code.lower().replace("-", " "), listen="127.0.0.1:0", advertise="east.example.cn:7650")
        assert done == {"node": EAST, "parent": CITY, "network": hub.ledger.identity.network.hex()}
        record = hub.rules.record(EAST)
        assert record is not None
        assert record.key == keys.SigningKey(east.folder.load_seed("signing")).public
        assert record.seal_key == keys.SealingKey(east.folder.load_seed("sealing")).public
        assert await enrolments(hub) == [EAST]
        held = await hub.read(lambda conn: [row.size for row in logs.load_logs(conn) if row.log.node == EAST])
        assert held == [1]
    found = config.load(east.folder.config)
    assert (found.uplink.parents, found.listen.port, found.advertise.address) == ((address,), 0, "east.example.cn:7650")
    async with east.opened() as node:
        assert (node.id, node.parent, node.rules.number) == (EAST, CITY, hub.rules.number)
    assert sorted(path.name for path in east.folder.root.glob("*.sqlite3*") if path.name.startswith("draft")) == []


async def test_join_given_twice_answers_the_same(city: Machine, tmp_path: Path) -> None:
    """A machine that joined and could not say so answers again, also with the hub away; nothing is enrolled twice."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        code = await code_for(hub)
        first = await east.join(code)
        assert await east.join(code) == first
        assert await enrolments(hub) == [EAST]
    assert await east.join(code) == first


@pytest.mark.parametrize("point", ["store.before_commit", "store.committed"])
async def test_a_machine_killed_before_its_store_joins_again(city: Machine, tmp_path: Path, point: str) -> None:
    """Between enrolment and store the power fails: the same code gives the same keys and the same enrolment."""
    east = machine(tmp_path)
    draft = east.folder.root / "draft.sqlite3"

    def power_fails(label: str) -> None:
        if label == point and draft.exists():
            raise faults.Crash(label)

    async with city.serving() as (hub, _):
        code = await code_for(hub)
        with faults.hooked(power_fails), pytest.raises(faults.Crash):
            await east.join(code)
        assert draft.exists()
        assert not east.folder.store.exists()
        before, record = contents(east.folder.keys), hub.rules.record(EAST)
        assert record is not None
        with pytest.raises(InputError, match="not finished"):
            await setup.open_node(east.folder, east.clock, east.entropy)
        assert (await east.join(code))["node"] == EAST
        assert contents(east.folder.keys) == before
        assert hub.rules.record(EAST) == record
        assert await enrolments(hub) == [EAST]
    assert not draft.exists()


async def test_a_machine_that_lost_its_store_joins_again(city: Machine, tmp_path: Path) -> None:
    """With its keys left the same code gives the same enrolment; the new store is another incarnation, and works."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        code = await code_for(hub)
        first = await east.join(code)
        before = contents(east.folder.keys)
        for path in east.folder.root.glob("tongban.sqlite3*"):
            path.unlink()
        assert await east.join(code) == first
        assert contents(east.folder.keys) == before
        assert await enrolments(hub) == [EAST]
        assert (await east.sync())["pending"] == 0
        incarnations = await hub.read(lambda conn: {row.log.incarnation for row in logs.load_logs(conn) if row.log.node == EAST})
        assert len(incarnations) == 2
        assert (await operations.run(hub, "verify", {}, Act()))["problems"] == []  # type: ignore[index]


async def test_an_answer_lost_on_the_way_costs_nothing(city: Machine, tmp_path: Path) -> None:
    """The hub has enrolled, the line breaks before its answer: join says try later, and the same code goes on."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        code = await code_for(hub)

        def fails(label: str) -> None:
            if label == "store.committed" and hub.rules.record(EAST) is not None:
                raise faults.InjectedFault(5, label)

        with faults.hooked(fails), pytest.raises(LinkError) as caught:
            await east.join(code)
        assert (caught.value.exit_code, caught.value.retryable) == (3, True)
        assert not east.folder.store.exists()
        assert (await east.join(code))["node"] == EAST
        assert await enrolments(hub) == [EAST]


async def test_without_the_parent_join_can_be_given_again(city: Machine, tmp_path: Path) -> None:
    """Exit 3; keys are kept, no store is begun, and when the hub is there the same folder joins."""
    east = machine(tmp_path)
    async with city.serving() as (hub, address):
        code = await code_for(hub)
        with pytest.raises(LinkError) as caught:
            await east.join(changed(code, addresses=(DEAD,)))
        assert (caught.value.exit_code, caught.value.retryable, caught.value.data_safe) == (3, True, True)
        assert not east.folder.store.exists()
        before = contents(east.folder.keys)
        assert set(before) == {"signing.seed", "sealing.seed"}
        assert (await east.join(changed(code, addresses=(DEAD, address))))["node"] == EAST
        assert contents(east.folder.keys) == before
    assert config.load(east.folder.config).uplink.parents == (address, DEAD)


async def test_a_code_is_good_for_one_machine(city: Machine, tmp_path: Path) -> None:
    """Another machine with the same code is refused; the first stands, and the second's folder takes a code of its own."""
    east, thief = machine(tmp_path), machine(tmp_path, "west", 3)
    async with city.serving() as (hub, _):
        code = await code_for(hub)
        await east.join(code)
        record = hub.rules.record(EAST)
        with pytest.raises(JoinRefused) as caught:
            await thief.join(code)
        assert "another machine" in caught.value.message
        assert caught.value.exit_code == 1
        assert hub.rules.record(EAST) == record
        assert not thief.folder.store.exists()
        assert (await thief.join(await code_for(hub, WEST)))["node"] == WEST


async def test_an_old_code_is_refused(city: Machine, tmp_path: Path) -> None:
    """After its hours, by the hub's clock; until the last moment it is good, and a new code helps."""
    east, west = machine(tmp_path), machine(tmp_path, "west", 3)
    async with city.serving() as (hub, _):
        first, second = await code_for(hub, EAST, expires_h=1), await code_for(hub, WEST, expires_h=1)
        city.clock.pass_ms(HOUR_MS)
        assert (await east.join(first))["node"] == EAST
        city.clock.pass_ms(1)
        with pytest.raises(JoinRefused, match="expired"):
            await west.join(second)
        assert hub.rules.record(WEST) is None
        assert (await west.join(await code_for(hub, WEST)))["node"] == WEST
        assert (await east.join(first))["node"] == EAST  # who has joined may ask again for ever


async def test_a_code_for_another_network_is_refused(city: Machine, tmp_path: Path) -> None:
    """The hub that answers belongs to another network: nobody is enrolled, and the folder can be used again."""
    east, other = machine(tmp_path), machine(tmp_path, "other", 9)
    await other.init()
    async with city.serving() as (hub, _), other.serving() as (stranger, theirs):
        code = await code_for(hub)
        with pytest.raises(WrongNetwork) as caught:
            await east.join(changed(code, addresses=(theirs,)))
        assert caught.value.exit_code == 1
        assert await enrolments(stranger) == []
        with pytest.raises(PeerError):
            await east.join(changed(code, network=stranger.ledger.identity.network))
        assert await enrolments(hub) == []
        assert not east.folder.store.exists()
        assert (await east.join(code))["node"] == EAST


@pytest.mark.parametrize("kind", ["letter", "cut", "words", "empty"])
async def test_a_mistyped_code_makes_no_folder(city: Machine, tmp_path: Path, kind: str) -> None:
    """A code that is not whole is refused before anything is made or sent."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        code = await code_for(hub)
    wrong = {
        "letter": code[:20] + ("A" if code[20] != "A" else "B") + code[21:],
        "cut": code[:-6],
        "words": "please let me in",
        "empty": "",
    }[kind]
    with pytest.raises(JoinRefused):
        await east.join(wrong)
    assert not east.folder.root.exists()


@pytest.mark.parametrize("kind", ["seed", "node"])
async def test_a_forged_code_enrols_nobody(city: Machine, tmp_path: Path, kind: str) -> None:
    """Whole, but with a seed that nobody was given, or for another place: refused, and nothing is stated."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        code = await code_for(hub)
        forged = changed(code, seed=bytes(32)) if kind == "seed" else changed(code, node=WEST)
        with pytest.raises(JoinRefused) as caught:
            await east.join(forged)
        assert caught.value.exit_code == 1
        assert await enrolments(hub) == []
        assert not east.folder.store.exists()
        assert (await east.join(code))["node"] == EAST


async def test_a_code_that_the_hub_does_not_know_yet_stays_good(city: Machine, tmp_path: Path) -> None:
    """The invitation may be on its way, also where an older one has expired: try later, and nothing is stated."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        code = await code_for(hub, expires_h=1)
        city.clock.pass_ms(HOUR_MS + 1)
        for unknown in (changed(code, seed=bytes(32)), changed(code, node=WEST, seed=bytes(32))):
            with pytest.raises(UnknownSigner) as caught:
                await east.join(unknown)
            assert caught.value.retryable
        assert await enrolments(hub) == []


async def test_a_folder_keeps_its_node(city: Machine, tmp_path: Path) -> None:
    """A root, or a node that joined, takes no other code: its files stay as they are."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        own, code = await code_for(hub, EAST), await code_for(hub, WEST)
        await east.join(own)
        before = contents(east.folder.root)
        with pytest.raises(InputError, match="another node"):
            await east.join(code)
        assert {name: data for name, data in contents(east.folder.root).items() if "sqlite" not in name} == {
            name: data for name, data in before.items() if "sqlite" not in name
        }
        assert await enrolments(hub) == [EAST]
    with pytest.raises(InputError, match="another node"):
        await city.join(code)


async def test_wrong_addresses_are_refused_before_anything_is_sent(city: Machine, tmp_path: Path) -> None:
    """Listen, advertise and proxy are checked first; the code stays good."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        code = await code_for(hub)
        for wrong in ({"listen": "here"}, {"advertise": "h:0"}, {"proxy": "socks://h:1"}):
            with pytest.raises(InputError):
                await east.join(code, **wrong)
            assert not east.folder.root.exists()
        assert await enrolments(hub) == []


# --- invite


async def test_an_invitation_carries_where_and_until_when(city: Machine) -> None:
    """The code holds network, node, the hub's addresses and a seed; it is good for a week, or for the hours asked for."""
    async with city.serving() as (hub, address):
        done = await invited(hub, addresses=("hub.example.cn:7650", address))
        assert set(done) == {"node", "parent", "code", "expires"}
        assert (done["node"], done["parent"]) == (EAST, CITY)
        assert done["expires"] == "2025-12-02T10:00:00.000+08:00"
        code = joincode.parse_code(done["code"])
        assert (code.network, code.node) == (hub.ledger.identity.network, EAST)
        assert code.addresses == (address, "hub.example.cn:7650")
        assert (await invited(hub, WEST, expires_h=2))["expires"] == "2025-11-25T12:00:00.000+08:00"

        def seeds(conn: Connection) -> list[Any]:
            headers = [decode_header(raw) for (raw,) in conn.execute("SELECT raw FROM entries ORDER BY id")]
            return [(one.fields, one.officer) for one in headers if one.type == "node.invite"]

        (fields, officer), _ = await hub.read(seeds)
        assert officer == "1001"
        assert fields["key"] == keys.SigningKey(code.seed).public
        assert (fields["node"], fields["parent"], fields["name"]) == (EAST, CITY, "一个节点")
        assert set(fields["rights"]) == {"enrol", "supervise", "publish"}
    for data in contents(city.folder.root).values():
        assert code.seed not in data
        assert code.seed.hex().encode() not in data


async def test_a_hub_that_nobody_can_call_does_not_invite(city: Machine) -> None:
    """Without an address the code would lead nowhere: refused with what to do, and no invitation is stated."""
    async with city.opened() as node:
        before = await node.read(lambda conn: node.ledger.own_row(conn).size)
        with pytest.raises(CommandRefused) as caught:
            await invited(node)
        assert caught.value.hint
        assert await node.read(lambda conn: node.ledger.own_row(conn).size) == before
        assert joincode.parse_code(await code_for(node, addresses=(DEAD,))).addresses == (DEAD,)


async def test_addresses_in_a_code_are_bounded(city: Machine) -> None:
    """The best ones are kept, so that the code can still be read."""
    async with city.opened() as node:
        many = tuple(f"10.0.0.{number}:7650" for number in range(20))
        assert joincode.parse_code(await code_for(node, addresses=many)).addresses == many[: joincode.ADDRESSES_MAX]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"node": CITY}, CommandRefused),
        ({"node": "6501"}, CommandRefused),
        ({"node": EAST, "parent": WEST}, CommandRefused),
        ({"node": EAST, "parent": "up"}, CommandRefused),
        ({"node": 7}, InputError),
        ({"node": EAST, "name": None}, InputError),
    ],
    ids=str,
)
async def test_an_invitation_that_cannot_hold_is_refused(city: Machine, params: dict[str, Any], expected: type[Exception]) -> None:
    """A node that is there, no node id, a parent that is not ours, no name: nothing is stated."""
    async with city.opened() as node:
        before = await node.read(lambda conn: node.ledger.own_row(conn).size)
        with pytest.raises(expected):
            await operations.run(node, "invite", {"name": "x", "addresses": (DEAD,), **params}, Act())
        assert await node.read(lambda conn: node.ledger.own_row(conn).size) == before


@pytest.mark.parametrize(
    "params",
    [
        *({"expires_h": hours} for hours in ("soon", -1, 0, True, 1.5, limits.INVITE_HOURS_MAX + 1)),
        *({"addresses": addresses} for addresses in ("h:1", ["nonsense"], ["h:0"], [7], 7, {"h:1": 1})),
        *({"name": name} for name in (" ", "", 7, "a\nb", "x" * 1_000)),
        {"parent": 7},
        {"unknown": 1},
    ],
    ids=str,
)
async def test_wrong_parameters_of_an_invitation_are_named(city: Machine, params: dict[str, Any]) -> None:
    """What comes over the local API is checked as a file is: the parameter is named, and nothing is stated."""
    async with city.opened() as node:
        before = await node.read(lambda conn: node.ledger.own_row(conn).size)
        with pytest.raises(InputProblems, match=next(iter(params))):
            await operations.run(node, "invite", {"node": EAST, "name": "x", "addresses": [DEAD], **params}, Act())
        assert await node.read(lambda conn: node.ledger.own_row(conn).size) == before


async def test_who_may_not_enrol_invites_nobody(city: Machine, tmp_path: Path) -> None:
    """A department has no right to enrol; nor does anybody invite above or beside itself, or a node that is there already."""
    east, department = machine(tmp_path), machine(tmp_path, "rsj", 3)
    async with city.serving() as (hub, _):
        await east.join(await code_for(hub, EAST))
        await department.join(await code_for(hub, DEPARTMENT))
        with pytest.raises(CommandRefused, match="enrolled already"):
            await invited(hub, EAST)
    async with department.opened() as node:
        with pytest.raises(CommandRefused, match="no right"):
            await invited(node, EAST_VILLAGE, addresses=(DEAD,))
    async with east.opened() as node:
        for parent in (CITY, DEPARTMENT):
            with pytest.raises(CommandRefused, match="at or below"):
                await invited(node, EAST_TOWN, parent=parent, addresses=(DEAD,))
        assert (await invited(node, EAST_TOWN, addresses=(DEAD,)))["parent"] == EAST


async def test_the_city_invites_for_a_district(city: Machine, tmp_path: Path) -> None:
    """With --parent the code leads to that parent's address; once the parent has synced, it enrols the machine."""
    east, town = machine(tmp_path), machine(tmp_path, "town", 3)
    async with city.serving() as (hub, _):
        await east.join(await code_for(hub))
        async with east.serving() as (district, address):
            settings = config.load(east.folder.config)

            async def sync() -> None:
                await operations.run(district, "sync", {"settings": settings, "timeout_s": 1.0}, Act())

            await sync()
            done = await invited(hub, EAST_TOWN, parent=EAST)
            assert done["parent"] == EAST
            assert joincode.parse_code(done["code"]).addresses == (address,)
            with pytest.raises(UnknownSigner) as caught:
                await town.join(done["code"])
            assert caught.value.retryable
            await sync()
            assert await town.join(done["code"]) == {
                "node": EAST_TOWN,
                "parent": EAST,
                "network": hub.ledger.identity.network.hex(),
            }
            await sync()
            record = hub.rules.now.node(EAST_TOWN)
            assert record is not None
            assert record.parent == EAST


async def test_inviting_for_a_district_needs_its_address_and_not_ours(city: Machine, tmp_path: Path) -> None:
    """The code leads to the parent named: refused, with what to do, until that was started once; ours may be unknown."""
    east = machine(tmp_path)
    async with city.serving() as (hub, address):
        await east.join(await code_for(hub))
        before = await hub.read(lambda conn: hub.ledger.own_row(conn).size)
        with pytest.raises(CommandRefused) as caught:
            await invited(hub, EAST_TOWN, parent=EAST, addresses=(address,))
        assert EAST in caught.value.hint
        assert await hub.read(lambda conn: hub.ledger.own_row(conn).size) == before
        async with east.serving() as (district, at):
            settings = config.load(east.folder.config)
            await operations.run(district, "sync", {"settings": settings, "timeout_s": 1.0}, Act())
        known = hub.rules.node_histories[CITY].values
        known[-1] = replace(known[-1], addresses=())
        assert joincode.parse_code(await code_for(hub, EAST_TOWN, parent=EAST)).addresses == (at,)


# --- sync


@pytest.mark.parametrize(
    "params",
    [*({"timeout_s": span} for span in ("soon", -1, 0, True, float("nan"), 1e9)), {"settings": {}}, {"nonsense": 1}],
    ids=str,
)
async def test_wrong_parameters_of_sync_are_named(city: Machine, params: dict[str, Any]) -> None:
    """They are refused before anybody is called, at the root too."""
    async with city.opened() as node:
        with pytest.raises(InputProblems, match=next(iter(params))):
            await operations.run(node, "sync", params, Act())


async def test_the_root_has_nobody_to_sync_with(city: Machine) -> None:
    """It answers with zeros, and calls nobody."""
    assert await city.sync() == {"acked": 0, "pulled": 0, "pending": 0}


async def test_sync_sends_what_was_written_and_says_so(city: Machine, tmp_path: Path) -> None:
    """What was stated is acknowledged once; with nothing pending it says zero, and that is no failure."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        await east.join(await code_for(hub))
        async with east.opened() as node:
            await operations.run(node, "officer.add", {"id": "2001", "name": "李四"}, Act())
        assert await east.sync() == {"acked": 1, "pulled": 0, "pending": 0}
        assert await east.sync() == {"acked": 0, "pulled": 0, "pending": 0}
        held = await hub.read(lambda conn: [row.size for row in logs.load_logs(conn) if row.log.node == EAST])
        assert held == [2]


async def test_sync_over_a_cut_line_is_for_later(city: Machine, tmp_path: Path) -> None:
    """Exit 3 when its time is over; nothing is lost, and with the line back the same command sends it."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        await east.join(await code_for(hub))
    async with east.opened() as node:
        await operations.run(node, "officer.add", {"id": "2001", "name": "李四"}, Act())
        size = await node.read(lambda conn: node.ledger.own_row(conn).size)
    with pytest.raises(LinkError) as caught:
        await east.sync()
    assert (caught.value.exit_code, caught.value.retryable, caught.value.data_safe) == (3, True, True)
    async with east.opened() as node:
        assert await node.read(lambda conn: node.ledger.own_row(conn).size) == size
    async with city.serving() as (_, address):  # another port: the hub was started again
        settings = config.with_addresses(config.load(east.folder.config), parents=(DEAD, address))
        done = await east.sync(settings=settings)
        assert (done["acked"], done["pending"]) == (1, 0)


async def test_sync_finds_the_parent_in_the_topology(city: Machine, tmp_path: Path) -> None:
    """Where no configuration names the parent's address, the one that the parent announced is called."""
    east = machine(tmp_path)
    async with city.serving() as (hub, _):
        await east.join(await code_for(hub))
        async with east.opened() as node:
            assert await operations.run(node, "sync", {"timeout_s": 1.0}, Act()) == {"acked": 0, "pulled": 0, "pending": 0}


async def test_a_running_node_syncs_by_its_own_uplink(city: Machine, tmp_path: Path) -> None:
    """The command uses the running uplink's line and addresses, and leaves no listener behind, also when it fails."""
    east = machine(tmp_path)
    async with city.serving() as (hub, address):
        await east.join(await code_for(hub))
    async with city.serving() as (_, again), east.opened() as node, HttpsTransport() as transport:
        assert again != address
        with commands.attached(node, None), pytest.raises(LinkError):
            await operations.run(node, "sync", {"timeout_s": 1.0}, Act())
        uplink = Uplink(node, transport, Settings((again,), timeout_s=5.0))
        listeners = list(node.listeners)
        with commands.attached(node, uplink):
            await operations.run(node, "officer.add", {"id": "2001", "name": "李四"}, Act())
            done = await operations.run(node, "sync", {"timeout_s": 1.0}, Act())
            assert (done["acked"], done["pending"]) == (1, 0)  # type: ignore[index]
            assert node.listeners == listeners
            uplink.line.settings = replace(uplink.line.settings, addresses=(DEAD,))
            known = node.rules.node_histories[CITY].values
            known[-1] = replace(known[-1], addresses=())
            with pytest.raises(LinkError):
                await operations.run(node, "sync", {"timeout_s": 1.0}, Act())
            assert node.listeners == listeners
        settings = Config(uplink=replace(Config().uplink, parents=(again,)))
        done = await operations.run(node, "sync", {"timeout_s": 1.0, "settings": settings}, Act())
        assert done["pending"] == 0  # type: ignore[index] # the attachment ended with its block: what was given counts


async def test_an_operation_is_carried_out_as_claimed(city: Machine) -> None:
    """A command's officer, window and time go with it to the operation."""
    async with city.opened() as node:
        claim = Claim("1001", "3", None)
        added = await carry_out(node, Command("officer.add", {"id": "1001", "name": "张三"}, claim))
        assert isinstance(added, dict)
        await carry_out(node, Command("invite", {"node": EAST, "name": "东区", "addresses": [DEAD]}, claim))
        rows = await node.read(lambda conn: conn.execute("SELECT raw FROM entries").fetchall())
        officers = {one.type: one.officer for one in (decode_header(raw) for (raw,) in rows)}
        assert officers["node.invite"] == "1001"


def test_a_configuration_gives_an_address_that_others_can_call() -> None:
    """The advertised one, else where it listens; a port that is drawn at each start is none."""
    given = config.with_addresses
    assert commands.default_address(given(Config(), listen="10.1.1.1:7000", advertise="h.cn:1")) == ("h.cn:1",)
    assert commands.default_address(given(Config(), listen="10.1.1.1:7000")) == ("10.1.1.1:7000",)
    assert commands.default_address(given(Config(), listen="[::1]:7000")) == ("[::1]:7000",)
    assert commands.default_address(given(Config(), listen="10.1.1.1:0")) == ()


# --- recovery keys


async def test_more_recovery_keys_and_a_threshold(tmp_path: Path) -> None:
    """Two of three: the genesis names all three, and asks for two."""
    city = machine(tmp_path, "city", 1)
    done = await city.init(recovery=3, threshold=2)
    assert len(set(done["recovery"])) == 3
    async with city.opened() as node:
        genesis = node.rules.genesis
        assert genesis is not None
        assert (len(genesis.recovery), genesis.threshold) == (3, 2)


@pytest.mark.parametrize("wrong", [(0, 0), (1, 2), (3, 0), (17, 1), (2, -1)])
async def test_a_threshold_out_of_reach_is_refused(tmp_path: Path, wrong: tuple[int, int]) -> None:
    """Nothing is written for a network whose root's key nobody could replace."""
    city = machine(tmp_path, "city", 1)
    with pytest.raises(InputError, match="cannot be asked for"):
        await city.init(recovery=wrong[0], threshold=wrong[1])
    assert not city.folder.root.exists()


async def test_recovery_keys_are_shown_before_there_is_a_network(tmp_path: Path) -> None:
    """Killed between showing and finishing, or unable to show: no folder has a network whose keys nobody saw."""
    city = machine(tmp_path, "city", 1)
    shown: list[Any] = []

    def unseen(_: object) -> None:
        assert not city.folder.store.exists()
        raise BrokenPipeError

    def crash(label: str) -> None:
        if label == "commands.shown":
            raise faults.Crash(label)

    with pytest.raises(BrokenPipeError):
        await city.init(show=unseen)
    with faults.hooked(crash), pytest.raises(faults.Crash):
        await city.init(show=lambda value: shown.append(dict(value)))
    assert not city.folder.store.exists()
    done = await city.init(show=lambda value: shown.append(dict(value)))
    assert shown[-1] == done
    assert shown[0]["recovery"] != done["recovery"]
    async with city.opened() as node:
        assert node.rules.genesis.recovery == tuple(keys.SigningKey(bytes.fromhex(one)).public for one in done["recovery"])  # type: ignore[union-attr]


@pytest.mark.parametrize("lost", [False, True])
async def test_the_roots_key_is_replaced_by_its_recovery_keys(tmp_path: Path, lost: bool) -> None:
    """Stolen or lost: registers go on under a new key, what was there stands, and the old private key is gone."""
    city = machine(tmp_path, "city", 1)
    done = await city.init(recovery=3, threshold=2)
    async with city.opened() as node:
        before = node.ledger.identity.key
        await operations.run(node, "officer.add", {"id": "1001", "name": "张三"}, Act())  # never signed
    if lost:
        city.folder.seed("signing").unlink()
    answer = await commands.recover(city.folder, city.clock, city.entropy, seeds=[done["recovery"][2], done["recovery"][0]])
    async with city.opened() as node:
        assert answer["fingerprint"] == node.ledger.identity.key.id.hex() != before.id.hex()
        assert [record.key for record in node.rules.records(CITY)] == [before.public, node.ledger.identity.key.public]
        assert (node.rules.recoveries, node.rules.newer) == (1, {})
        assert list(node.ledger.keys) == [node.ledger.identity.key.public]
        assert (await operations.run(node, "officer.list", {}, Act()))[0]["officer"] == "1001"  # type: ignore[index]
        report = await operations.run(node, "verify", {}, Act())
        assert report["problems"] == []  # type: ignore[index]
    again = await commands.recover(city.folder, city.clock, city.entropy, seeds=done["recovery"])
    assert again["fingerprint"] != answer["fingerprint"]


@pytest.mark.parametrize(
    ("pick", "words"),
    [
        (lambda own, _: own[:1], "2 recovery keys are needed, 1"),
        (lambda own, _: [own[0], own[0]], "given twice"),
        (lambda own, other: [own[0], other[0]], "not one of this network"),
        (lambda own, _: [own[0], own[1][:-1]], "line 2 is no recovery key"),
        (lambda _own, _: [], "0 were given"),
    ],
)
async def test_a_recovery_with_less_changes_nothing(tmp_path: Path, pick: Any, words: str) -> None:
    """Below the threshold, one key twice, another network's, a mistyped one: refused, the old key stands, nothing is repeated."""
    city, other = machine(tmp_path, "city", 1), machine(tmp_path, "other", 2)
    own, others = (await city.init(recovery=3, threshold=2))["recovery"], (await other.init())["recovery"]
    before = city.folder.store.read_bytes()
    with pytest.raises(TongbanError, match=words) as caught:
        await commands.recover(city.folder, city.clock, city.entropy, seeds=pick(own, others))
    assert not any(seed[:16] in str(caught.value.as_dict()) for seed in (*own, *others))
    assert city.folder.store.read_bytes() == before


async def test_only_the_root_is_recovered(city: Machine, tmp_path: Path) -> None:
    """A node below is told how it gets a new key."""
    async with city.opened() as hub:
        member = await enrol(tmp_path / "east", hub, EAST)
        folder = Folder(tmp_path / "east")
        folder.create()
        with pytest.raises(CommandRefused, match="not the root") as caught:
            await rekeying.recover(member.store, Keyring(folder), [], member.clock, member.entropy)
        assert "--again" in caught.value.hint
        await member.close()
