"""A backup takes the place of a lost or damaged store; what the node states afterwards never stands under an index signed before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from node import backup, faults, registrar, restore, setup
from node.cli.answers import in_words
from node.continuity import RESTORED
from node.folder import Folder
from node.node import Node
from node.store import logs
from protocol.errors import InputError, StoreDamaged, StoreError
from protocol.log import decode_checkpoint
from tests.node.building import SeededEntropy, VirtualClock, ask, calendar, found, furnish, opened, seal, size_of

CLOCK = VirtualClock()


@pytest.fixture
async def place(tmp_path: Path) -> Folder:
    """A root's folder with its key, backed up beside it; the node stands still."""
    folder = Folder(tmp_path / "city")
    folder.create()
    node = await furnish(await found(folder.root))
    folder.save_seed("signing", SeededEntropy(1).bytes(32))
    folder.save_seed("sealing", bytes(32))
    await opened(node, "王一")
    sealed = backup.seal_keys({"signing": SeededEntropy(1).bytes(32), "sealing": bytes(32)}, "a long passphrase", bytes(48))
    await backup.back_up(node, tmp_path / "a.backup", config=b"# settings\n", sealed=sealed)
    await opened(node, "王二")
    await node.close()
    return folder


def content(path: Path) -> bytes:
    return path.read_bytes()


_open: list[Node] = []


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    """A test that fails leaves no thread behind."""
    yield
    while _open:
        with suppress(ValueError):  # closed by the test itself
            await _open.pop().close()


async def at_work(place: Folder) -> Node:
    _open.append(await setup.open_node(place, VirtualClock(), SeededEntropy(9)))
    return _open[-1]


async def test_a_whole_store_is_given_up_only_if_asked(place: Folder, tmp_path: Path) -> None:
    """Refused over a living store, nothing changed; with --replace the old one is kept aside, whole."""
    before = content(place.store)
    with pytest.raises(InputError, match="a whole store is here"):
        restore.restore(place, tmp_path / "a.backup", CLOCK)
    assert content(place.store) == before
    done = restore.restore(place, tmp_path / "a.backup", CLOCK, replace=True)
    assert content(Path(done["kept_aside"])) == before
    node = await at_work(place)
    assert len(await ask(node, "list")) == 1
    await node.close()


@pytest.mark.parametrize("damage", ["gone", "empty", "half", "flipped", "emptied folder"])
async def test_a_lost_or_damaged_store_is_replaced(damage: str, place: Folder, tmp_path: Path) -> None:
    """Missing, cut or changed: the backup comes in its place, the rest is kept aside; keys and settings come along if they are gone."""
    data = place.store.read_bytes()
    if damage == "emptied folder":
        place = Folder(tmp_path / "new")
    elif damage == "gone":
        place.store.unlink()
    elif damage == "flipped":
        place.store.write_bytes(data.replace(b"CREATE TABLE cases", b"CREATE TABLE casez"))
    else:
        place.store.write_bytes(data[: len(data) // 2] if damage == "half" else b"")
    restore.restore(place, tmp_path / "a.backup", CLOCK, passphrase=lambda: "a long passphrase")
    node = await at_work(place)
    assert (await ask(node, "verify"))["problems"] == []
    await node.close()
    if damage == "emptied folder":
        assert place.config.read_bytes() == b"# settings\n"


async def test_without_a_key_nothing_is_restored(place: Folder, tmp_path: Path) -> None:
    """A store without its key is of no use; another node's key does not fit; the wrong passphrase opens nothing."""
    new = Folder(tmp_path / "new")
    with pytest.raises(InputError, match="no private key"):
        restore.restore(new, tmp_path / "a.backup", CLOCK)
    with pytest.raises(InputError, match="do not open"):
        restore.restore(new, tmp_path / "a.backup", CLOCK, passphrase=lambda: "another passphrase")
    new.create()
    new.save_seed("signing", bytes(32))
    with pytest.raises(InputError, match="no key in this folder"):
        restore.restore(new, tmp_path / "a.backup", CLOCK)
    assert not new.store.exists()
    with pytest.raises(InputError, match="no such file"):
        restore.restore(place, tmp_path / "none", CLOCK)
    with pytest.raises(StoreDamaged):
        (tmp_path / "a.backup").write_bytes(b"")
        restore.restore(place, tmp_path / "a.backup", CLOCK, replace=True)


@pytest.mark.parametrize("label", ["restore.drafted", "restore.set_aside"])
async def test_a_restore_cut_off_is_given_again(label: str, place: Folder, tmp_path: Path) -> None:
    """At each step: the old store stands, or none does; the same command finishes the work."""
    place.store.write_bytes(b"")
    with faults.hooked(faults.parse_trap(f"{label}:1:raise")), pytest.raises(StoreError):
        restore.restore(place, tmp_path / "a.backup", CLOCK)
    restore.restore(place, tmp_path / "a.backup", CLOCK)
    node = await at_work(place)
    assert (await ask(node, "verify"))["problems"] == []
    await node.close()


async def test_the_first_entry_after_a_restore_opens_a_new_incarnation(place: Folder, tmp_path: Path) -> None:
    """Reading and sealing change nothing; the first command goes into a new log that continues the old one; the next ones too."""
    restore.restore(place, tmp_path / "a.backup", CLOCK, replace=True)
    node = await at_work(place)
    before, size = node.ledger.identity.log, await size_of(node)
    await seal(node)
    await ask(node, "verify")
    assert node.ledger.identity.log == before
    await opened(node, "王三")
    after = node.ledger.identity.log
    assert (after.node, after.incarnation != before.incarnation) == (before.node, True)
    opening = (await node.read(lambda conn: logs.entry_at(conn, node.ledger.own_row(conn).id, 0)))
    assert opening is not None
    assert before.incarnation in opening.raw
    await opened(node, "王四")
    await seal(node)
    assert node.ledger.identity.log == after
    old = await node.read(lambda conn: logs.find_log(conn, before))
    assert old is not None
    assert old.size == size, "no index of the old log is used again"
    signed = await node.read(lambda conn: logs.checkpoints_from(conn, old.id, 0))
    assert max(decode_checkpoint(one.checkpoint).size for one in signed) == size
    assert (await ask(node, "verify"))["problems"] == []
    assert (await ask(node, "rebuild"))["different"] == 0
    await node.close()
    node = await at_work(place)
    await opened(node, "王五")
    assert node.ledger.identity.log == after
    await node.close()


async def test_a_command_that_fails_keeps_the_mark(place: Folder, tmp_path: Path) -> None:
    """A unit that was rolled back has not opened anything: the next one does."""
    restore.restore(place, tmp_path / "a.backup", CLOCK, replace=True)
    node = await at_work(place)
    before = node.ledger.identity.log
    with faults.hooked(faults.parse_trap("restore.renewed:1:raise")), pytest.raises(faults.InjectedFault):
        await opened(node)
    assert node.ledger.identity.log == before
    assert await node.read(lambda conn: logs.get_meta(conn, RESTORED)) is not None
    await opened(node)
    assert node.ledger.identity.log != before
    assert (await ask(node, "verify"))["problems"] == []
    await node.close()


async def test_a_restored_root_that_does_not_run_numbers_nothing(place: Folder, tmp_path: Path) -> None:
    """Commands are taken, in a log that it admits itself; the numbers, which its children may have, come with the run. The mark outlives a start."""
    restore.restore(place, tmp_path / "a.backup", CLOCK, replace=True)
    node = await at_work(place)
    before, number = node.ledger.identity.incarnation, node.rules.number
    for version in (2, 3):
        await ask(node, "calendar.publish", calendar=calendar(version))
        await node.close()
        node = await at_work(place)
    assert node.ledger.identity.incarnation != before
    assert node.rules.number == number
    shown = await ask(node, "status")
    assert shown["rules"]["waiting"] == 3, "two calendars, and the admission"
    assert "有 3 条规则待生效" in in_words("status", shown, "zh")
    now = node.clock.wall_ms()
    await node.write(lambda conn, changes: registrar.go_on(node.ledger, conn, changes, now))  # as `hub.restoring` does
    assert node.rules.number == number + 1
    assert "待生效" not in in_words("status", await ask(node, "status"), "zh")
    (admitted,) = node.rules.admissions[node.id]
    assert (admitted.incarnation, [one for one, _ in admitted.sizes]) == (node.ledger.identity.incarnation, [before])
    await ask(node, "calendar.publish", calendar=calendar(4))
    assert node.rules.number == number + 2, "as ever"
    assert (await ask(node, "verify"))["problems"] == []
    assert (await ask(node, "rebuild"))["different"] == 0
    await node.close()
