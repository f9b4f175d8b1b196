"""Stories of keys in a world of machines: rotated in the middle of everything, stolen, revoked, rebuilt, recovered."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from hub import serving
from hub.app import Hub
from node import operations, setup
from node.folder import Folder
from node.keyring import Keyring
from node.node import Node
from node.rekeying import destroy_spent, recover, rotate
from node.store.database import Connection
from node.uplink import Uplink
from node.uplink.pulling import take_page
from node.uplink.pushing import prepare_push
from protocol import keys, messages
from protocol.errors import LinkError, PeerError, ProofInvalid, SignatureInvalid
from tests import story
from tests.node.building import ID_NUMBER
from tests.story import Oracle
from tests.world import Disk, Place, SeededEntropy, Weather, World

ROTATED = (story.V1, story.T1, story.D1, story.CITY)
TREE = tuple(pair for pair in story.TREE if pair[0] not in {story.V2, story.V3, story.T2})
LABELS = ("keyring.drafted", "rekeying.stated", "rekeying.opened", "rekeying.rotated", "uplink.before_push", "intake.appended", "intake.committed", "uplink.keys_learnt", "uplink.acknowledged")


async def rotated(world: World, name: str) -> Place:
    """Replace a machine's key, whatever crashes on the way; done when the store speaks with a new one."""
    place = world.places[name]
    Folder(place.folder).create()
    before = place.node.ledger.identity.key.public
    while place.node.ledger.identity.key.public == before:
        with contextlib.suppress(LinkError):
            await world.at(name, rotate(place.node))
        while not place.up:  # noqa: ASYNC110 - a dead machine gives no commands
            await asyncio.sleep(1.0)
    return place


def knows(world: World, name: str) -> set[bytes]:
    """Return what all machines take for a node's key."""
    return {place.node.rules.record(name).key for place in world}  # type: ignore[union-attr]


async def rotating(world: World, oracle: Oracle) -> None:
    """Everybody on one line gets a new key while cases go back and forth and machines die at every step of it."""
    draw = world.random
    await story.build(world, TREE)
    world.weather = Weather(0.1, 0.1, 0.1, 0.2, (0.001, 0.5))
    world.traps = {label: draw.randint(1, 4) for label in LABELS}
    work = [asyncio.create_task(story.cross(world, oracle, story.V1, f"c{n}")) for n in range(2)]
    for name in draw.sample(ROTATED, len(ROTATED)):
        await asyncio.sleep(draw.uniform(1.0, 40.0))
        if draw.random() < 0.5 and world.places[name].parent is not None:
            world.cut(name, world.places[name].parent or "")
        await rotated(world, name)
        await story.spot(world, oracle, story.V1, f"s{name}")
        world.heal()
    world.calm()
    await asyncio.wait_for(asyncio.gather(*work), 3_600)
    for place in world:
        await world.start(place.id)
    await world.settle(rounds=120)


@pytest.mark.parametrize("seed", range(3))
def test_keys_are_rotated_in_the_middle_of_everything(tmp_path: Path, seed: int) -> None:
    """C13: nothing saved is lost, every machine knows the newest key of each, and old keys are destroyed when nobody needs them."""
    oracle = Oracle()
    with World(seed, tmp_path) as world:
        world.run(rotating(world, oracle))
        world.run(story.judge(world, oracle))
        world.run(story.check_stories(world, oracle))
        for name in ROTATED:
            assert knows(world, name) == {world.places[name].node.ledger.identity.key.public}
            world.run(destroy_spent(world.places[name].node))
            assert list(world.places[name].node.ledger.keys) == [world.places[name].node.ledger.identity.key.public]


# --- stolen, revoked, rebuilt


async def thief_of(world: World, name: str) -> Node:
    """Return the stolen machine as the thief runs it: its disk and its key."""
    place = world.places[name]
    return await setup.node_of(Disk(place.file), place.key, place.clock, place.entropy)


async def brought(world: World, giver: Node, hub: str) -> None:
    """Let somebody else carry a node's whole logs to a hub: what is authentic is taken from whoever brings it."""
    outgoing = await giver.store.own(lambda conn: prepare_push(giver.ledger, conn, {}, anew(conn)))
    assert outgoing is not None
    push = messages.decode(outgoing.body, messages.Push)
    place = world.places[hub]
    await place.hub.intake.submit(hub, push, 1)


def anew(conn: Connection) -> frozenset[int]:
    """Forget what was acknowledged, so that all is sent; leaves nothing out."""
    conn.execute("DELETE FROM acks")
    return frozenset()


async def stolen(world: World, oracle: Oracle) -> dict[str, list[str]]:
    """A station is stolen with work on it that was not sent, its key is revoked, a new machine takes its place; the thief goes on."""
    await story.build(world, TREE)
    await story.cross(world, oracle, story.V1, "c")
    await story.spot(world, oracle, story.V1, "s")
    await world.settle()
    await world.stop(story.V1)
    station, parent = world.places[story.V1], world.places[story.T1]
    thief = await thief_of(world, story.V1)
    for name in ("贼甲", "贼乙"):
        await operations.run(thief, "case.open", {"item": "spot", "applicant": name, "id_number": ID_NUMBER}, story.ACT)
    await story.told(world, parent, "revoke", node=story.V1, reason="电脑被盗")
    await world.settle_without(story.V1)
    up = Uplink(thief, world.link(story.V1), world.settings(story.T1))
    with pytest.raises(PeerError):
        await up.round()
    rebuilt = await world.rebuild(story.V1)
    await world.settle()
    with pytest.raises(PeerError):
        await up.round()
    await brought(world, thief, story.T1)
    await story.spot(world, oracle, story.V1, "after")
    await world.settle()
    assert rebuilt.id == station.id
    found = {}
    for place in world:
        rows = await story.ask(place, "list")
        found[place.id] = sorted(row["state"] for row in rows)
    await thief.close()
    return found


def test_a_stolen_key_is_revoked_and_the_station_rebuilt(tmp_path: Path) -> None:
    """C14, T3: the thief gets no session and no effect; the new machine has its cases back, and new numbers."""
    oracle = Oracle()
    with World(5, tmp_path) as world:
        found = world.run(stolen(world, oracle))
        assert world.problems == []
        for place in world:
            assert world.run(story.ask(place, "verify"))["problems"] == []
        held = world.run(world.places[story.CITY].node.read(story._raws))
        assert set(oracle.saved) <= set(held)
        assert found[story.T1] == found[story.D1] == found[story.CITY] == ["finished", "finished", "finished", "void", "void"]
        assert found[story.V1] == ["finished", "finished", "finished"]
        station = world.places[story.V1]
        numbers = [row["case"] for row in world.run(story.ask(station, "list"))]
        assert len(set(numbers)) == 3
        assert sum("-1000" in number for number in numbers) == 1  # the rebuilt one begins behind its predecessor's serials
        assert {place.node.rules.record(story.V1).key for place in world} == {station.key.public}  # type: ignore[union-attr]


# --- the root's key


async def recovered(world: World, oracle: Oracle) -> None:
    """The root's machine is stolen; on its backup the recovery keys make a new key; the thief plays the root with the old one."""
    await story.build(world, ((story.D1, story.CITY), (story.T1, story.D1), (story.V1, story.T1)))
    await story.spot(world, oracle, story.V1, "before")
    await world.settle()
    root, district = world.places[story.CITY], world.places[story.D1]
    await world.stop(story.CITY)
    world.back_up(story.CITY, "stolen.sqlite3")
    ring = Keyring(Folder(root.folder))
    ring.folder.create()
    drawn = SeededEntropy((world.seed, story.CITY))
    signer = keys.SigningKey([drawn.bytes(32) for _ in range(3)][-1])  # as `World.found` drew it
    store = Disk(root.file)
    key = await recover(store, ring, [signer], root.clock, root.entropy)
    await store.close()
    await world.start(story.CITY)
    await story.spot(world, oracle, story.V1, "after")
    await story.told(world, root, "catalogue.publish", items=[story.item("new", stages=[])])
    await world.settle()
    assert {place.node.rules.record(story.CITY).key for place in world} == {key.public}  # type: ignore[union-attr]
    number = district.node.rules.number
    thief = await setup.node_of(Disk(root.folder / "stolen.sqlite3"), root.key, root.clock, SeededEntropy("thief"))
    while thief.rules.number <= number:
        await operations.run(thief, "catalogue.publish", {"items": [story.item(f"x{thief.rules.number}", stages=[])]}, story.ACT)
    honest, root.hub = root.hub, Hub(thief, root.certificate)
    with pytest.raises(SignatureInvalid):
        await Uplink(district.node, world.link(story.D1), world.settings(story.CITY)).round()
    root.hub = honest
    ask = messages.Pull(messages.Cursors(number, number, b"", 0))
    forged = await thief.store.own(lambda conn: serving.pull(thief.ledger, conn, story.D1, ask))
    assert forged.registers
    with pytest.raises(ProofInvalid, match="after it was replaced"):
        await district.node.write(lambda conn, changes: take_page(district.node.ledger, conn, changes, forged))
    assert district.node.rules.number == number
    await thief.close()
    await world.settle()


def test_recovery_keys_take_the_network_back(tmp_path: Path) -> None:
    """T10, T11, C15: all nodes follow the new key, the old one opens no session and states no register."""
    oracle = Oracle()
    with World(6, tmp_path) as world:
        world.run(recovered(world, oracle))
        world.run(story.judge(world, oracle))
