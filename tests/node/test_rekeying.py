"""A node's new key: one step from the old one to the new, whatever breaks; and what the old one signs behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from hub.app import Hub
from hub.enrolment import invite
from node import faults, rekeying, setup
from node.continuity import RESTORED
from node.folder import Folder
from node.keyring import Keyring
from node.node import Node
from node.registrar import take_in
from node.store import logs
from node.store.database import InlineDatabase, Unit
from protocol import keys, messages
from protocol.errors import CommandRefused, StoreError
from protocol.log import decode_checkpoint, decode_header, sign_checkpoint
from tests.hub.calling import CERTIFICATE, Caller
from tests.node.building import (
    EAST,
    EAST_TOWN,
    EAST_VILLAGE,
    ask,
    brought_to,
    carry,
    enrol,
    found,
    furnish,
    hire,
    opened,
    seal,
    show,
)

T = TypeVar("T")


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A furnished root."""
    return ringed(await furnish(await found(tmp_path / "city")), tmp_path / "city")


@pytest.fixture
async def east(city: Node, tmp_path: Path) -> Node:
    """A district below it, with an officer."""
    node = await enrol(tmp_path / "east", city, EAST)
    await hire(node)
    return ringed(node, tmp_path / "east")


def ringed(node: Node, folder: Path) -> Node:
    """Give a node's folder its keys."""
    made = Folder(folder)
    made.create()
    node.keyring = Keyring(made)
    return node


async def types(node: Node) -> list[list[str]]:
    """Return the types of entries in the node's own logs, in the order in which they began."""
    rows = await node.read(lambda conn: [logs.entries_between(conn, row.id, 0, row.size) for row in logs.logs_of(conn, [node.id])])
    return [[decode_header(one.raw).type for one in entries] for entries in rows]


async def reopened(node: Node) -> Node:
    """Open the node again from its file and its folder, as after a stop."""
    assert node.keyring is not None
    path = node.keyring.folder.store
    await node.close()
    first = next(iter(node.ledger.keys.values()))
    return await setup.node_of(InlineDatabase(path), first, node.clock, node.entropy, node.keyring)


async def test_a_rotation_closes_one_log_and_opens_the_next(east: Node) -> None:
    """The last entry under the old key names the new one; the new log continues it, and nothing is left unsigned."""
    before = east.ledger.identity
    key = await rekeying.rotate(east)
    after = east.ledger.identity
    assert (after.key.public, after.incarnation != before.incarnation) == (key.public, True)
    first, second = await types(east)
    assert (first[-1], second) == ("node.key", ["log.open"])
    assert (await ask(east, "verify"))["problems"] == []
    again = await reopened(east)
    assert again.ledger.identity == after or again.ledger.identity.key.public == key.public
    assert again.rules.record(EAST).key == key.public  # type: ignore[union-attr]
    await opened(again)
    assert (await ask(again, "verify"))["problems"] == []


@pytest.mark.parametrize("label", ["rekeying.stated", "rekeying.opened", "ledger.appended"])
async def test_a_rotation_that_fails_leaves_the_old_key(east: Node, label: str) -> None:
    """Nothing of it is stated, in the store or in memory; the next try uses the key that lies ready."""
    before = east.ledger.identity
    size = await east.read(lambda conn: east.ledger.own_row(conn).size)

    def hook(passed: str) -> None:
        if passed == label:
            raise StoreError("the disk failed")

    with faults.hooked(hook), pytest.raises(StoreError):
        await rekeying.rotate(east)
    assert east.ledger.identity == before
    assert await east.read(lambda conn: east.ledger.own_row(conn).size) == size
    assert east.rules.record(EAST).key == before.key.public  # type: ignore[union-attr]
    assert east.keyring is not None
    (drafted,) = east.keyring.signing()
    assert (await rekeying.rotate(east)).public == drafted.public


class Forgetful(InlineDatabase):
    """A store whose answer is lost once, after the commit."""

    forgets = False

    async def write(self, unit: Unit[T]) -> T:
        done = await super().write(unit)
        if self.forgets:
            self.forgets = False
            raise StoreError("the answer was lost")
        return done


@pytest.mark.parametrize("rolled_back", [False, True])
async def test_after_a_failure_the_store_says_which_key_speaks(east: Node, tmp_path: Path, *, rolled_back: bool) -> None:
    """Committed or not: the key in memory is that of the log on the disk, and what is stated next is signed by it."""
    await east.store.close()
    store = Forgetful(tmp_path / "east" / "tongban.sqlite3")
    east.store, before = store, east.ledger.identity.key.public
    store.forgets = not rolled_back

    def hook(label: str) -> None:
        if rolled_back and label == "rekeying.opened":
            raise StoreError("the disk failed")

    with faults.hooked(hook), pytest.raises(StoreError):
        await rekeying.rotate(east)
    assert (east.ledger.identity.key.public == before) == rolled_back
    await opened(east)
    assert (await ask(east, "verify"))["problems"] == []
    row = await east.read(east.ledger.own_row)
    assert row.key == east.ledger.identity.key.public


async def test_the_root_numbers_its_own_new_key(city: Node, east: Node) -> None:
    """Its registers go on under it, and a child that hears them knows it."""
    old = city.ledger.identity.key.public
    number = city.rules.number
    key = await rekeying.rotate(city)
    assert city.rules.number > number
    assert (city.rules.newer, city.rules.local_closings) == ({}, {})
    await ask(city, "officer.add", id="1002", name="李四")
    await carry(city, east)
    assert east.rules.number == city.rules.number
    assert [record.key for record in east.rules.records(city.id)] == [old, key.public]
    assert (await ask(east, "verify"))["problems"] == []


async def test_a_hub_takes_the_new_key_and_lets_the_old_one_in_no_more(city: Node, east: Node) -> None:
    """The old key still brings its own end, and then opens nothing; the new one opens a session."""
    child = Caller(east, Hub(city, CERTIFICATE))
    await child.login()
    old = east.ledger.identity.key
    await rekeying.rotate(east)
    greeting = await child.ask("greet", child.greet(), messages.Greeting)
    await child.refused("login", child.login_to(greeting), "signature")  # the hub has not heard yet
    await child.push()  # in the session of the old key: both logs at once
    await child.refused("pull", messages.Pull(messages.Cursors(-1, -1, b"", 0)), "session")
    await child.login()
    east.ledger.keys[old.public] = old
    assert [key.public for key in east.ledger.speaking()] == [east.ledger.identity.key.public, old.public]
    record = city.rules.node_histories[EAST].values[-1]
    assert record.key == east.ledger.identity.key.public
    assert city.rules.admissions[EAST][-1].incarnation == east.ledger.identity.incarnation


async def test_what_the_old_key_signs_behind_its_end_has_no_effect(city: Node, east: Node, tmp_path: Path) -> None:
    """C13: the thief's later entries are kept and void; what it signed before counts also if it comes late."""
    thief = await enrol_copy(east, tmp_path)
    child = Caller(east, Hub(city, CERTIFICATE))
    await child.login()
    case = await key_of_case(east)
    await rekeying.rotate(east)
    later = await key_of_case(thief, "贼")  # under the old key, at the place of the honest case
    more = [await key_of_case(thief, name) for name in ("又一件", "第三件")]
    await brought_to(east, case, "accept")
    await child.push()
    await carry(thief, city)
    assert (await ask(city, "show", case=case))["state"] == "accepted"
    held = await city.read(lambda conn: [row.size for row in logs.logs_of(conn, [EAST]) if row.branch])
    assert held == [await thief.read(lambda conn: thief.ledger.own_row(conn).size)]  # nothing of it is dropped
    for number in (later, *more):
        page = await ask(city, "show", case=number)
        assert [(one["effect"], one["reason"]) for one in page["timeline"]] == [("void", "revoked")]


async def test_a_restored_node_closes_the_log_that_it_goes_on_in(city: Node, east: Node) -> None:
    """The first entry after a restore opens a new log; a rotation as that entry closes this one, and counts at the root."""
    await opened(east)
    await east.write(lambda conn, _: logs.set_meta(conn, RESTORED, b"\x92\x00\x00"))
    again = await reopened(east)
    child = Caller(again, Hub(city, CERTIFICATE))
    await child.login()
    key = await rekeying.rotate(again)
    await child.push()
    await child.login()
    await child.push()
    assert (city.rules.record(EAST).key, city.rules.newer, city.rules.voids) == (key.public, {}, {})  # type: ignore[union-attr]
    assert len(await types(again)) == 3
    assert (await ask(city, "list"))[0]["state"] == "received"


async def test_a_log_comes_under_the_key_with_which_it_began(city: Node, east: Node) -> None:
    """A thief of the old key cannot write into the log of the new one, nor the owner go on in the old one under the new key."""
    child = Caller(east, Hub(city, CERTIFICATE))
    await child.login()
    old = east.ledger.identity.key
    await rekeying.rotate(east)
    await child.push()
    await child.login()
    await opened(east)
    push = await child.next_push()
    *_, change = [one for one in push.sets if decode_checkpoint(one.signed.checkpoint).incarnation == east.ledger.identity.incarnation]
    stated = msgspec.structs.replace(decode_checkpoint(change.signed.checkpoint), key=old.id)
    forged = msgspec.structs.replace(change, signed=sign_checkpoint(stated, old, east.ledger.identity.network))
    await child.refused("push", messages.Push((forged,)), "signature")
    await child.push()


async def test_rules_that_a_replaced_key_states_are_never_numbered(city: Node, east: Node, tmp_path: Path) -> None:
    """A hub's old key could invite accomplices and publish items: kept, and passed over by the root, also after a restart."""
    thief = await enrol_copy(east, tmp_path)
    child = Caller(east, Hub(city, CERTIFICATE))
    await child.login()
    await rekeying.rotate(east)
    await child.push()
    number, known = city.rules.number, [record.node for record in city.rules.known_nodes()]
    await invite(thief, EAST_VILLAGE, "同伙", parent=None, expires_h=1, addresses=("thief:1",))
    await invite(thief, EAST_TOWN, "同伙", parent=None, expires_h=1, addresses=("thief:1",))
    await carry(thief, city)
    await city.write(lambda conn, changes: take_in(city.ledger, conn, changes, city.clock.wall_ms()))
    assert city.rules.number == number
    await city.store.own(city.ledger.reload)
    assert [record.node for record in city.rules.known_nodes()] == known
    aside = await city.read(lambda conn: conn.execute("SELECT count(*) FROM facts WHERE number = -1").fetchone()[0])
    assert aside == 2


async def key_of_case(node: Node, applicant: str = "王伟") -> str:
    """Take a case in and return its key: two machines may print one number."""
    return str((await show(node, await opened(node, applicant)))["key"])


async def enrol_copy(node: Node, tmp_path: Path) -> Node:
    """Return a copy of a node as a thief has it: its file and its key."""
    await seal(node)
    copy = tmp_path / "thief.sqlite3"
    assert node.keyring is not None
    await node.store.own(lambda conn: conn.execute("VACUUM INTO ?", (str(copy),)))
    return await setup.node_of(InlineDatabase(copy), node.ledger.identity.key, node.clock, node.entropy)


async def test_old_keys_are_destroyed_once_the_parent_has_their_end(east: Node) -> None:
    """Not before: until then the old key may be needed to speak with a hub that has not heard."""
    old = await rekeying.rotate(east)
    await rekeying.rotate(east)
    assert east.keyring is not None
    assert await rekeying.destroy_spent(east) == 0
    assert old.public in [key.public for key in east.keyring.signing()]

    def acknowledged(conn: object, _: object) -> None:
        for row in logs.logs_of(conn, [EAST]):  # type: ignore[arg-type]
            logs.save_ack(conn, row.id, row.size)  # type: ignore[arg-type]

    await east.write(acknowledged)
    assert await rekeying.destroy_spent(east) == 2
    assert list(east.ledger.keys) == [east.ledger.identity.key.public]
    assert [key.public for key in east.keyring.signing()] == [east.ledger.identity.key.public]


async def test_a_store_without_its_key_is_not_opened(east: Node, tmp_path: Path) -> None:
    """Nobody speaks with a key that is not the log's; the hint says how to go on."""
    await rekeying.rotate(east)
    path = tmp_path / "east" / "tongban.sqlite3"
    await east.close()
    store = InlineDatabase(path)
    with pytest.raises(StoreError, match="not of one machine") as caught:
        await setup.node_of(store, keys.SigningKey(bytes(32)), east.clock, east.entropy)
    assert "--again" in caught.value.hint
    await store.close()


async def test_a_node_without_a_folder_of_keys_rotates_nothing(east: Node) -> None:
    """A new key has to be on a disk before it is spoken with."""
    east.keyring = None
    with pytest.raises(CommandRefused):
        await rekeying.rotate(east)

