"""A node's folder: one process, private files, whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from node import faults
from node.folder import ApiPlace, Draft, Folder, write_private
from protocol.errors import InputError, StoreBusy, StoreError
from tests.sources import ROOT

HOLD = """
import sys
from pathlib import Path
from node.folder import Folder
with Folder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "node")
    made.create()
    return made


def test_nothing_is_created_silently(tmp_path: Path) -> None:
    """Naming a folder makes none; a command on an empty one is told to init or join."""
    folder = Folder(tmp_path / "node")
    assert not folder.exists()
    with pytest.raises(InputError, match="no node here") as caught:
        folder.require()
    assert "init" in caught.value.hint
    assert not folder.root.exists()


def test_making_a_folder_twice_keeps_what_is_there(folder: Folder) -> None:
    """A second `create` loses nothing."""
    folder.save_seed("signing", bytes(range(32)))
    folder.create()
    folder.require()
    assert folder.load_seed("signing") == bytes(range(32))


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be made"):
        Folder(tmp_path / "file" / "node").create()


def test_a_second_lock_in_one_process_is_refused(folder: Folder) -> None:
    """One holder, also inside one process; the folder is free again afterwards."""
    with folder.locked(), pytest.raises(StoreBusy) as caught:
        folder.locked().acquire()
    assert caught.value.exit_code == 3
    with folder.locked():
        pass


@pytest.mark.processes
def test_a_second_process_is_refused_until_the_first_dies(folder: Folder) -> None:
    """The lock is the system's: killing the holder frees it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        with pytest.raises(StoreBusy):
            folder.locked().acquire()
        process.kill()
        process.wait(timeout=30)
    with folder.locked():
        pass


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    """A lock file that cannot be opened is the disk's fault, not "busy"."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        Folder(tmp_path / "file").locked().acquire()
    assert not isinstance(caught.value, StoreBusy)


def test_a_seed_reads_back_and_is_never_overwritten(folder: Folder) -> None:
    """A key is written once; the same again is no change, another one is refused."""
    folder.save_seed("signing", b"\x01" * 32)
    folder.save_seed("signing", b"\x01" * 32)
    with pytest.raises(StoreError, match="another key"):
        folder.save_seed("signing", b"\x02" * 32)
    assert folder.load_seed("signing") == b"\x01" * 32
    assert folder.exists()


@pytest.mark.parametrize("content", [b"", b"00", b"zz" * 32, b"00" * 33, b"\xff" * 64])
def test_damaged_seeds_are_refused(folder: Folder, content: bytes) -> None:
    """A key file that is not 32 bytes in hex is named, with what to do."""
    folder.seed("signing").write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        folder.load_seed("signing")
    assert caught.value.hint


def test_a_missing_seed_is_refused(folder: Folder) -> None:
    """A lost key is the disk's fault."""
    with pytest.raises(StoreError, match="cannot be read"):
        folder.load_seed("signing")


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "a.b", "-a", "a" * 50])
def test_seed_names_stay_inside_the_folder(folder: Folder, name: str) -> None:
    """A name is a word, never a path."""
    with pytest.raises(ValueError, match="not a name"):
        folder.seed(name)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights elsewhere")
def test_private_files_are_private(folder: Folder) -> None:
    """Nobody else on the machine reads keys or the API's token."""
    folder.save_seed("signing", bytes(32))
    folder.save_api(ApiPlace(1, "http://127.0.0.1:1", "t"))
    for path in (folder.seed("signing"), folder.api):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in (folder.root, folder.keys, folder.api.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_crash_before_the_replacement_leaves_the_old_file(tmp_path: Path) -> None:
    """A file is the old or the new one, whole; a left draft is no obstacle."""
    path = tmp_path / "x"
    write_private(path, b"old")

    def crash(label: str) -> None:
        raise faults.Crash(label)

    with faults.hooked(crash), pytest.raises(faults.Crash):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    write_private(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_a_disk_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    """The user hears which file could not be written."""
    with pytest.raises(StoreError, match="cannot be written"):
        write_private(tmp_path / "no" / "such" / "x", b"")


def test_the_api_place_reads_back_and_goes(folder: Folder) -> None:
    """Commands find the running node; afterwards there is none."""
    place = ApiPlace(42, "http://127.0.0.1:5000", "secret", "http://127.0.0.1:5000/")
    folder.save_api(place)
    assert folder.load_api() == place
    folder.remove_api()
    folder.remove_api()
    assert folder.load_api() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"pid":1,"url":2,"token":"x"}', b"\xff"])
def test_a_damaged_api_file_counts_as_none(folder: Folder, content: bytes) -> None:
    """What a crash left is no reason to stop."""
    folder.api.write_bytes(content)
    assert folder.load_api() is None


def test_a_draft_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    """Until the block ends the old file stands; then the new one does, and nothing else is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with Draft(path) as draft:
        draft.write(b"new ")
        draft.write(b"and whole")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new and whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("ours"), faults.InjectedFault(5, "Input/output error")])
def test_a_draft_that_fails_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    """Whatever ends the block, also the disk at the last step: the old file stands alone."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(label: str) -> None:
        if label == "folder.part_written":
            raise error

    with faults.hooked(fail), pytest.raises(ValueError if isinstance(error, ValueError) else StoreError), Draft(path) as draft:
        draft.write(b"new")
        if isinstance(error, ValueError):
            raise error
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}


def test_a_crash_while_a_draft_gets_its_name_is_mended_by_the_next_try(tmp_path: Path) -> None:
    """What a process leaves that dies before the last step lies under another name, and is overwritten."""
    path = tmp_path / "file"

    def crash(label: str) -> None:
        raise faults.Crash(label)

    with faults.hooked(crash), pytest.raises(faults.Crash), Draft(path) as draft:
        draft.write(b"cut off")
    assert not path.exists()
    with Draft(path) as draft:
        draft.write(b"whole")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"whole"}


def test_a_draft_where_nothing_can_be_written_is_the_disks_fault(tmp_path: Path) -> None:
    """A stick that was pulled out is said to be gone."""
    with pytest.raises(StoreError, match="cannot be written"), Draft(tmp_path / "gone" / "file"):
        pass
