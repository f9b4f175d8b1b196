"""A node's beginning: whole or not at all, and only with a chain of keys that holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from hub.enrolment import chain_of
from node import faults, setup
from node.folder import Folder
from node.node import Node
from node.store.database import InlineDatabase
from protocol import keys
from protocol.errors import InputError, PeerError, StoreError
from protocol.log import Bundle
from tests.node.building import CITY, EAST, START_MS, SeededEntropy, VirtualClock, ask, enrol, found, size_of

KEY = keys.SigningKey(bytes([7]) * 32)


def store_in(folder: Path) -> InlineDatabase:
    folder.mkdir(parents=True, exist_ok=True)
    return InlineDatabase(folder / "tongban.sqlite3")


async def test_a_genesis_founds_the_network(tmp_path: Path) -> None:
    """The network's id is the hash of the root's first entry, which names key, recovery keys and threshold."""
    city = await found(tmp_path / "city")
    assert city.ledger.identity.network == city.rules.network
    assert (city.rules.root, city.parent, city.rules.number) == (CITY, None, 0)
    assert (await ask(city, "verify"))["problems"] == []


@pytest.mark.parametrize(("node", "name"), [("x", "城"), ("", "城"), (CITY, "  ")])
async def test_a_network_needs_a_place_and_a_name(tmp_path: Path, node: str, name: str) -> None:
    """A wrong division code or an empty name founds nothing."""
    store = store_in(tmp_path / "city")
    with pytest.raises(InputError):
        await setup.found(store, node, name, KEY, bytes(32), [KEY.public], VirtualClock(), SeededEntropy())
    assert await store.read(lambda conn: conn.execute("SELECT count(*) FROM entries").fetchone()[0]) == 0


async def test_recovery_keys_differ_each_time() -> None:
    """They are drawn anew, and kept nowhere by us."""
    entropy = SeededEntropy()
    assert setup.new_recovery(entropy) != setup.new_recovery(entropy)


async def member(tmp_path: Path) -> tuple[Node, Node, Sequence[Bundle]]:
    city = await found(tmp_path / "city")
    east = await enrol(tmp_path / "east", city, EAST)
    chain = await city.store.own(lambda conn: chain_of(city.ledger, conn, EAST))
    return city, east, chain


async def test_a_member_opens_its_log_with_its_enrolment(tmp_path: Path) -> None:
    """The first entry names the enrolment, and that it continues nothing."""
    city, east, _ = await member(tmp_path)
    assert (await size_of(east), east.parent, east.rules.root) == (1, CITY, CITY)
    assert east.ledger.identity.network == city.ledger.identity.network
    assert setup.own_log(east) == east.ledger.identity.log


async def test_a_chain_that_does_not_hold_begins_nothing(tmp_path: Path) -> None:
    """Cut off, twisted, for another key or another network: the store stays empty."""
    city, _, chain = await member(tmp_path)
    network = city.ledger.identity.network
    twisted = msgspec.structs.replace(chain[-1], signed=msgspec.structs.replace(chain[-1].signed, signature=bytes(64)))
    for number, (given, under) in enumerate(
        [((), network), (chain[1:], network), (chain[:-1], network), ((*chain[:-1], twisted), network), (chain, bytes(32)), (chain, network)]
    ):
        store = store_in(tmp_path / f"new{number}")
        with pytest.raises((PeerError, StoreError)):
            await setup.begin(store, EAST, under, KEY, given, VirtualClock(), SeededEntropy())
        assert await store.read(lambda conn: conn.execute("SELECT count(*) FROM meta").fetchone()[0]) == 0


async def test_a_store_is_begun_once(tmp_path: Path) -> None:
    """Where a node lives nobody else moves in."""
    await found(tmp_path / "city")
    with pytest.raises(StoreError, match="lives in this folder"):
        await found(tmp_path / "city", seed=3)


async def test_a_beginning_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    """A crash before the commit leaves an empty store, in which the same machine begins again with the same keys."""
    city = await found(tmp_path / "city")

    def crash(label: str) -> None:
        if label == "setup.begun":
            raise faults.Crash(label)

    with faults.hooked(crash), pytest.raises(faults.Crash):
        await enrol(tmp_path / "east", city, EAST)
    chain = await city.store.own(lambda conn: chain_of(city.ledger, conn, EAST))
    entropy = SeededEntropy(2)
    key = keys.SigningKey(entropy.bytes(32))
    store = store_in(tmp_path / "east")
    await setup.begin(store, EAST, city.ledger.identity.network, key, chain, VirtualClock(START_MS), entropy)
    node = await setup.node_of(store, key, VirtualClock(START_MS), entropy)
    assert await size_of(node) == 1


async def test_opening_a_folder_says_what_is_missing(tmp_path: Path) -> None:
    """No node, or a joining that was not finished: said in words."""
    folder = Folder(tmp_path / "node")
    with pytest.raises(InputError):
        await setup.open_node(folder, VirtualClock(), SeededEntropy())
    folder.create()
    folder.save_seed("signing", bytes(32))
    folder.config.write_bytes(b"")
    with pytest.raises((InputError, StoreError)):
        await setup.open_node(folder, VirtualClock(), SeededEntropy())
