"""A node of which only the key is left begins anew, as who it was, and the others fill it again."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from node import anew, chains, faults, registrar, rekeying, setup
from node.folder import Folder, write_private
from node.keyring import Keyring
from node.node import Node
from protocol.errors import InputError, NotFound, StoreError
from protocol.log import Bundle
from tests.node.building import (
    CITY,
    EAST,
    WEST,
    SeededEntropy,
    VirtualClock,
    ask,
    enrol,
    found,
    furnish,
    opened,
)
from tests.shell import give, started

CLOCK = VirtualClock()
CITY_SEED, EAST_SEED, WEST_SEED = 1, 2, 3
CODES = ("650100000000", "650103000000", "650103001001")
ID_NUMBER = "650102199003072510"
CATALOGUE = f"""
format = "tongban-catalogue/1"
[[items]]
code = "A-1"
version = 1
name = "老年证"
owner = "{CODES[0]}"
kind = 2
receive = ["{CODES[0]}/*"]
decide = ["{CODES[0]}"]
limits = {{ promised_days = 3, statutory_days = 5 }}
"""


async def left(folder: Path, seed: int) -> Folder:
    """Return a folder in which a machine's key is, and nothing else."""
    place = Folder(folder)
    place.create()
    entropy = SeededEntropy(seed)
    place.save_seed("signing", entropy.bytes(32))
    place.save_seed("sealing", entropy.bytes(32))
    return place


@asynccontextmanager
async def at_work(place: Folder) -> AsyncIterator[Node]:
    """Open a node; it is closed also where a test fails."""
    node = await setup.open_node(place, CLOCK, SeededEntropy(8))
    try:
        yield node
    finally:
        await node.close()


async def city_and_east(folder: Path) -> tuple[Node, Node]:
    city = await furnish(await found(folder / "city", seed=CITY_SEED))
    return city, await enrol(folder / "east", city, EAST, seed=EAST_SEED)


async def vouched(node: Node, target: str, file: Path) -> Path:
    write_private(file, bytes.fromhex((await ask(node, "vouch", node=target))["data"]))
    return file


def content(path: str) -> bytes:
    return Path(path).read_bytes()


async def test_a_neighbours_file_and_the_key_are_enough(tmp_path: Path) -> None:
    """Who is above or below writes the chain; the node is who it was, in a new incarnation, and the chain lies beside its key."""
    city, east = await city_and_east(tmp_path)
    await opened(east, "王一")
    file = await vouched(city, EAST, tmp_path / "file")
    place = await left(tmp_path / "new", EAST_SEED)
    done = await anew.begin_anew(place, CLOCK, SeededEntropy(8), file=file, parent="127.0.0.1:7")
    assert (done["node"], done["parent"], done["kept_aside"]) == (EAST, CITY, None)
    async with at_work(place) as node:
        assert (node.id, node.parent, node.ledger.identity.network) == (EAST, CITY, city.ledger.identity.network)
        assert node.ledger.identity.incarnation != east.ledger.identity.incarnation
        assert (await ask(node, "verify"))["problems"] == []
    assert b'parents = ["127.0.0.1:7"]' in place.config.read_bytes()
    place.store.unlink()
    await anew.begin_anew(place, CLOCK, SeededEntropy(9))  # this time nobody is needed


async def test_a_root_begins_anew_with_a_childs_file_and_numbers_nothing(tmp_path: Path) -> None:
    """Any child can vouch for it; also by commands while it does not run it publishes no rule before its children were heard."""
    city, east = await city_and_east(tmp_path)
    number = city.rules.number
    file = await vouched(east, CITY, tmp_path / "file")
    place = await left(tmp_path / "new", CITY_SEED)
    await anew.begin_anew(place, CLOCK, SeededEntropy(8), file=file)
    async with at_work(place) as node:
        assert (node.id, node.parent, number > 0) == (CITY, None, True)
        await ask(node, "officer.add", id="7", name="李四")
        await node.write(lambda conn, changes: registrar.take_in(node.ledger, conn, changes, CLOCK.wall_ms()))
        assert node.rules.number == 0


async def test_the_wrong_key_or_chain_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    """No key, another node's, a chain that does not hold, none at all, no parent's address: said in words."""
    city, east = await city_and_east(tmp_path)
    west = await enrol(tmp_path / "west", city, WEST, seed=WEST_SEED)
    file = await vouched(city, EAST, tmp_path / "file")
    place, empty = await left(tmp_path / "new", EAST_SEED), Folder(tmp_path / "empty")
    chain = chains.load(file)
    chains.save(tmp_path / "cut", chain[1:])
    chains.save(tmp_path / "none", ())
    for folder, path, text in (
        (place, None, "is not here"),
        (empty, file, "no private key"),
        (place, await vouched(city, WEST, tmp_path / "other"), "no key in"),
        (place, tmp_path / "cut", "does not hold"),
        (place, tmp_path / "none", "does not hold"),
        (place, tmp_path / "missing", "cannot be read"),
        (place, file, "no address of the parent"),
    ):
        with pytest.raises(InputError, match=text) as refused:
            await anew.begin_anew(folder, CLOCK, SeededEntropy(8), file=path)
        assert refused.value.hint
        assert not folder.store.exists()
    with pytest.raises(NotFound):
        await ask(west, "vouch", node="650199000000")
    assert east.id == EAST


async def test_a_living_store_is_given_up_only_if_asked(tmp_path: Path) -> None:
    """Refused over a whole store; with --replace that one is kept aside; a damaged one always is."""
    city, _ = await city_and_east(tmp_path)
    file = await vouched(city, EAST, tmp_path / "file")
    place = await left(tmp_path / "new", EAST_SEED)
    await anew.begin_anew(place, CLOCK, SeededEntropy(8), file=file, parent="127.0.0.1:7")
    before = place.store.read_bytes()
    with pytest.raises(InputError, match="a whole store is here"):
        await anew.begin_anew(place, CLOCK, SeededEntropy(9))
    assert place.store.read_bytes() == before
    done = await anew.begin_anew(place, CLOCK, SeededEntropy(9), replace=True)
    assert content(done["kept_aside"]) == before
    place.store.write_bytes(b"damaged")
    done = await anew.begin_anew(place, VirtualClock(CLOCK.wall_ms() + 1), SeededEntropy(9))
    assert content(done["kept_aside"]) == b"damaged"


@pytest.mark.parametrize("label", ["restore.anew_drafted", "restore.anew_aside", "setup.begun"])
async def test_a_beginning_cut_off_is_given_again(label: str, tmp_path: Path) -> None:
    """At each step: the old file stands, or none does; the same command finishes the work."""
    city, _ = await city_and_east(tmp_path)
    file = await vouched(city, EAST, tmp_path / "file")
    place = await left(tmp_path / "new", EAST_SEED)
    place.store.write_bytes(b"damaged")
    with faults.hooked(faults.parse_trap(f"{label}:1:raise")), pytest.raises(StoreError):
        await anew.begin_anew(place, CLOCK, SeededEntropy(8), file=file, parent="127.0.0.1:7")
    await anew.begin_anew(place, CLOCK, SeededEntropy(8), file=file, parent="127.0.0.1:7")
    async with at_work(place) as node:
        assert node.id == EAST


def _saved(path: Path, chain: Sequence[Bundle]) -> Path:
    chains.save(path, chain)
    return path


async def test_the_chain_beside_the_key_follows_its_rotation(tmp_path: Path) -> None:
    """A running node writes it down at its start, and when its key has changed; a disk that refuses does not stop it."""
    _, east = await city_and_east(tmp_path)
    place = await left(tmp_path / "new", EAST_SEED)
    async with anew.keeping_chain(east, place):
        first = chains.load(place.chain)
        east.keyring = Keyring(place)
        key = await rekeying.rotate(east)
    assert chains.load(place.chain) != first
    place.destroy_seed("signing")  # as when the parent has receipted what it signed
    with pytest.raises(InputError, match="present key"):
        await anew.begin_anew(place, CLOCK, SeededEntropy(8), file=_saved(tmp_path / "old", first), parent="127.0.0.1:7")
    await anew.begin_anew(place, CLOCK, SeededEntropy(8), parent="127.0.0.1:7")
    async with at_work(place) as node:
        assert (node.id, node.ledger.identity.key.public) == (EAST, key.public)
    place.chain.unlink()
    place.chain.mkdir()
    async with anew.keeping_chain(east, place):
        pass
    assert place.chain.is_dir()


# --- real processes


@contextmanager
def running(data: Path) -> Iterator[Any]:
    """Run a node in a process; it is killed at the end, as by a power cut."""
    with started("run", data=data) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"]
        yield process


def told(data: Path, *args: object) -> Any:
    """Give a command that must be done."""
    done = give(*args, "--json", data=data)
    assert done.code == 0, done.out
    return done.value


def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _open(village: Path, name: str) -> str:
    args = ("open", "--item", "A-1", "--applicant", name, "--id-number", ID_NUMBER)
    number = str(told(village, "case", *args, "--officer", "1001")["case"])
    told(village, "case", "offer", number, "--to", CODES[0], "--officer", "1001")
    return number


def _close(city: Path, case: str) -> None:
    told(city, "case", "take", case, "--officer", "1001")
    told(city, "case", "accept", case, "--officer", "1001")
    told(city, "case", "decide", case, "--result", "grant", "--reason", "符合条件", "--officer", "1001")
    told(city, "case", "finish", case, "--officer", "1001")


def _lost(data: Path) -> None:
    """Take a store away, as a disk that died does; the key was put back from where it was kept."""
    for file in data.glob("tongban.sqlite3*"):
        file.unlink()
    assert give("run", "--json", data=data).code == 2


@pytest.mark.processes
def test_a_root_whose_disk_is_gone_gets_its_rules_back(tmp_path: Path) -> None:
    """Its own chain is the genesis alone: its child shows it who it is, gives all back, and no register number is given twice."""
    city, district = tmp_path / "city", tmp_path / "district"
    (tmp_path / "catalogue.toml").write_text(CATALOGUE, encoding="utf-8")
    told(city, "init", "--division", CODES[0], "--name", "市", "--listen", address())
    told(city, "catalogue", "publish", tmp_path / "catalogue.toml")
    with running(city):
        code = told(city, "invite", CODES[1], "--name", "区")["code"]
        told(district, "join", code, "--listen", "127.0.0.1:0")
        told(district, "officer", "add", "1001", "--name", "李四")
        told(district, "sync")
        first = _open(district, "王一")
        told(district, "sync")
        number = told(district, "status")["basis"]["number"]
    _lost(city)
    assert "根节点" in give("restore", "--without-store", data=city).out.decode()
    told(city, "officer", "add", "1001", "--name", "张三")  # before any child was heard
    with running(city):
        told(district, "sync")
        told(district, "sync")
        assert [item["code"] for item in give("catalogue", "list", "--json", data=city).rows] == ["A-1"]
        _close(city, first)
        told(city, "invite", "650104000000", "--name", "另一个区")
        told(district, "sync")
        assert told(district, "case", "show", first)["state"] == "finished"
        assert told(city, "status")["basis"] == told(district, "status")["basis"]
        assert told(city, "status")["basis"]["number"] > number
        for data in (city, district):
            assert told(data, "verify")["problems"] == []


@pytest.mark.processes
@pytest.mark.parametrize("kept", [True, False])
def test_a_district_whose_disk_is_gone_is_whole_again(kept: bool, tmp_path: Path) -> None:
    """Killed, its store deleted, begun anew by one command: what only the village had reaches the city, and the case goes on."""
    city, district, village = (tmp_path / name for name in ("city", "district", "village"))
    (tmp_path / "catalogue.toml").write_text(CATALOGUE, encoding="utf-8")
    told(city, "init", "--division", CODES[0], "--name", "市", "--listen", address())
    told(city, "officer", "add", "1001", "--name", "张三")
    told(city, "catalogue", "publish", tmp_path / "catalogue.toml")
    with running(city):
        code = told(city, "invite", CODES[1], "--name", "区")["code"]
        told(district, "join", code, "--listen", address())
        with running(district):
            told(district, "sync")
            code = told(district, "invite", CODES[2], "--name", "村")["code"]
            told(village, "join", code, "--listen", "127.0.0.1:0")
            told(village, "officer", "add", "1001", "--name", "李四")
            told(district, "sync")
            told(village, "sync")
            first = _open(village, "王一")
            told(village, "sync")
            told(district, "sync")
    with running(district):  # the city is away
        second = _open(village, "王二")
        told(village, "sync")
    _lost(district)
    args: tuple[object, ...] = ()
    if not kept:
        Folder(district).chain.unlink()
        refused = give("restore", "--without-store", "--json", data=district)
        assert (refused.code, "vouch" in refused.error["hint"]) == (2, True)
        said = give("vouch", CODES[1], tmp_path / "file", data=village)
        assert (said.code, CODES[1] in said.out.decode()) == (0, True)
        args = (tmp_path / "file",)
    done = give("restore", *args, "--without-store", data=district)
    assert (done.code, CODES[1] in done.out.decode()) == (0, True), done.out
    with running(city), running(district):
        told(district, "sync")
        told(village, "sync")
        told(district, "sync")
        for case in (first, second):
            _close(city, case)
        told(district, "sync")
        told(village, "sync")
        third = _open(village, "王三")
        told(village, "sync")
        told(district, "sync")
        assert told(city, "case", "show", third)["state"] == "received"
        for data in (city, district, village):
            assert told(data, "verify")["problems"] == []
            assert {told(data, "case", "show", case)["state"] for case in (first, second)} == {"finished"}
            status = told(data, "status")
            assert (status["clones"], status["lost"]) == (False, [])
