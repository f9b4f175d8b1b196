"""A node moves to another machine whole, or not yet; the old store never writes again, and can be read for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub import commands, service
from node import faults, moving, setup
from node.config import Config
from node.folder import Folder
from node.node import Node
from node.store.database import Database
from protocol.errors import InputError, MachineRetired, StoreError
from tests.node.building import CITY, SeededEntropy, VirtualClock, ask, furnish, opened, show

PASSPHRASE = "马到成功 乌鲁木齐 2026"


@pytest.fixture
async def old(tmp_path: Path) -> Folder:
    """A machine with a case."""
    folder = Folder(tmp_path / "old")
    await commands.init(folder, VirtualClock(), SeededEntropy(4), division=CITY, name="市", listen=None, advertise=None)
    node = await open_in(folder)
    await furnish(node)
    await opened(node)
    await node.close()
    return folder


async def open_in(folder: Folder) -> Node:
    return await setup.open_node(folder, VirtualClock(), SeededEntropy(5))


async def move_out(folder: Folder, file: Path, passphrase: str = PASSPHRASE) -> Any:
    return await commands.move_out(folder, VirtualClock(), SeededEntropy(6), file=file, passphrase=passphrase, timeout_s=1.0)


def move_in(folder: Folder, file: Path, passphrase: str = PASSPHRASE) -> Any:
    return commands.move_in(folder, VirtualClock(), file=file, passphrase=passphrase)


async def test_a_node_goes_on_where_it_was(old: Folder, tmp_path: Path) -> None:
    """Same id, key, log and cases; the next number follows; the settings came along."""
    file = tmp_path / "stick" / "move.tbm"
    file.parent.mkdir()
    done = await move_out(old, file)
    assert (done["node"], done["moved"]) == (CITY, True)
    new = Folder(tmp_path / "new")
    assert move_in(new, file)["node"] == CITY
    assert new.config.read_bytes() == old.config.read_bytes()
    before, after = await open_in(old), await open_in(new)
    assert after.ledger.identity.key.public == before.ledger.identity.key.public
    assert not after.moved
    (case,) = [row["case"] for row in await ask(after, "list")]
    number = await opened(after, "李强")
    assert number > case
    assert (await ask(after, "verify"))["problems"] == []
    for node in (before, after):
        await node.close()


async def test_the_old_store_refuses_to_write_and_can_be_read(old: Folder, tmp_path: Path) -> None:
    """Also after a restart, and whatever is tried; what is there is shown."""
    await move_out(old, tmp_path / "move.tbm")
    for _ in range(2):
        node = await open_in(old)
        try:
            (row,) = await ask(node, "list")
            assert (await show(node, row["case"]))["state"] == "received"
            for name, params in (("officer.add", {"id": "7", "name": "王"}), ("case.accept", {"case": row["case"]}), ("key.rotate", {})):
                with pytest.raises(MachineRetired):
                    await ask(node, name, **params)
            assert await node.read(moving.moved_at) is not None
        finally:
            await node.close()
    with pytest.raises(MachineRetired):
        await service.run(old, Config(), VirtualClock(), SeededEntropy(7), lambda _: None, asyncio.Event())


@pytest.mark.parametrize("label", ["moving.sealed", "moving.written", "folder.part_written"])
async def test_a_move_that_is_cut_off_is_given_again(old: Folder, tmp_path: Path, label: str) -> None:
    """The store is sealed before the file is there; nothing is lost, and no half file has its name."""
    file = tmp_path / "move.tbm"

    def crash(passed: str) -> None:
        if passed == label:
            raise faults.Crash(label)

    with faults.hooked(crash), pytest.raises(faults.Crash):
        await move_out(old, file)
    assert not file.exists()
    node = await open_in(old)
    assert node.moved
    await node.close()
    await move_out(old, file)
    new = Folder(tmp_path / "new")
    with faults.hooked(lambda passed: crash(label) if passed == "moving.opened" else None), pytest.raises(faults.Crash):
        move_in(new, file)
    assert not new.store.exists()
    move_in(new, file)
    node = await open_in(new)
    assert [row["applicant"] if "applicant" in row else row["case"] for row in await ask(node, "list")]
    await node.close()


async def test_a_file_is_opened_by_its_passphrase_only_and_whole_only(old: Folder, tmp_path: Path) -> None:
    """Another passphrase, a flipped byte anywhere, a file cut off, another file: refused, and no node lives there."""
    file = tmp_path / "move.tbm"
    await move_out(old, file)
    whole = file.read_bytes()
    new = Folder(tmp_path / "new")
    with pytest.raises(InputError, match="passphrase"):
        move_in(new, file, "eine andere Passphrase")
    for damaged in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:20],
        b"XXXX" + whole[4:],
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (5, 22, 60, len(whole) - 3)),
    ):
        file.write_bytes(damaged)
        with pytest.raises(InputError):
            move_in(new, file)
        assert not new.exists()
    for seed in ("signing", "sealing"):
        assert old.load_seed(seed) not in whole
        assert old.load_seed(seed).hex().encode() not in whole


async def test_nothing_is_overwritten(old: Folder, tmp_path: Path) -> None:
    """Not a file, not a node; a short passphrase seals nothing."""
    file = tmp_path / "move.tbm"
    with pytest.raises(InputError, match="characters"):
        await move_out(old, file, "kurz")
    node = await open_in(old)
    assert not node.moved
    await node.close()
    file.write_bytes(b"mine")
    with pytest.raises(InputError, match="already"):
        await move_out(old, file)
    file.unlink()
    await move_out(old, file)
    with pytest.raises(InputError, match="lives here"):
        move_in(old, file)


async def test_a_large_store_travels_in_pieces(old: Folder, tmp_path: Path) -> None:
    """More than one piece, each at its place: pieces that change places open nothing."""
    store = await Database.open(old.store)
    await store.write(lambda conn: conn.execute("INSERT INTO meta VALUES ('ballast', zeroblob(?))", (3 * moving.PIECE_BYTES,)))
    await store.close()
    file, new = tmp_path / "move.tbm", Folder(tmp_path / "new")
    await move_out(old, file)
    whole = file.read_bytes()
    size = moving.LENGTH_BYTES + moving.PIECE_BYTES + 16
    head, first, second, rest = whole[:20], whole[20 : 20 + size], whole[20 + size : 20 + 2 * size], whole[20 + 2 * size :]
    file.write_bytes(head + second + first + rest)
    with pytest.raises(InputError):
        move_in(new, file)
    file.write_bytes(whole)
    move_in(new, file)
    assert new.store.stat().st_size > 3 * moving.PIECE_BYTES


async def test_a_stick_that_is_gone_says_so(old: Folder, tmp_path: Path) -> None:
    """The disk's fault, not the passphrase's."""
    with pytest.raises(StoreError):
        move_in(Folder(tmp_path / "new"), tmp_path / "nowhere.tbm")
