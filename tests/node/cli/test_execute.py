"""A command finds the running node, or the store, or says that it must wait."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from node.cli import execute
from node.cli.execute import command_of, patiently, timed
from node.cli.options import Settings
from node.command import Claim
from node.config import Config
from node.folder import ApiPlace, Folder
from protocol.errors import InputError, LinkError, StoreBusy


class Kept:
    """Keeps what a command answered."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def value(self, value: Any) -> None:
        self.values.append(value)

    def row(self, row: Any) -> None:
        self.values.append(row)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "node")
    made.create()
    made.save_seed("signing", bytes(range(32)))
    return made


def settings(folder: Folder, timeout_s: float | None = 0.2) -> Settings:
    return Settings(data=str(folder.root), timeout_s=timeout_s)


def test_what_was_not_given_is_left_out() -> None:
    """None and empty lists are no options; false and zero are."""
    params = {"a": None, "b": [], "c": {}, "d": (), "e": False, "f": 0, "g": ""}
    command = command_of(Settings(officer="A1", at_ms=5), "x", params)
    assert command.params == {"e": False, "f": 0, "g": ""}
    assert command.act == Claim("A1", None, 5)


def test_an_empty_folder_is_told_to_begin(tmp_path: Path) -> None:
    """Nothing is created on the way."""
    with pytest.raises(InputError, match="no node here"):
        execute.execute(settings(Folder(tmp_path / "x")), "status", {}, Kept())
    assert not (tmp_path / "x").exists()


def test_an_unfinished_joining_is_named(folder: Folder) -> None:
    """A folder with keys and no store is one in which `join` was cut off."""
    with pytest.raises(InputError, match="joining was not finished") as caught:
        execute.execute(settings(folder), "status", {}, Kept())
    assert "join" in caught.value.hint


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1"])
def test_a_held_folder_that_does_not_answer_is_busy(folder: Folder, url: str) -> None:
    """With or without an old address the command waits its time, then says: try later."""
    if url:
        folder.save_api(ApiPlace(1, url, "t"))
    with folder.locked(), pytest.raises(StoreBusy) as caught:
        execute.execute(settings(folder), "status", {}, Kept())
    assert caught.value.exit_code == 3


def test_another_command_is_waited_for(folder: Folder) -> None:
    """A folder that is free again within the time is used: here it holds no store yet."""
    lock = folder.locked()
    lock.acquire()
    threading.Timer(0.2, lock.release).start()
    with pytest.raises(InputError, match="joining was not finished"):
        execute.execute(settings(folder, timeout_s=20), "status", {}, Kept())


def test_a_command_that_was_begun_is_never_tried_again(folder: Folder) -> None:
    """Whatever it fails with: only taking the folder is repeated."""
    begun = []

    def here(_found: Config) -> dict[str, object]:
        begun.append(1)
        raise StoreBusy("from inside")

    with pytest.raises(StoreBusy, match="from inside"):
        execute.execute(settings(folder), "status", {}, Kept(), here)
    assert begun == [1]


def test_a_process_that_serves_waits_for_a_command(folder: Folder) -> None:
    """`run` that starts while a command works starts a moment later; nobody has to try again."""
    tries = []

    def work() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreBusy("held")

    patiently(folder, work)
    assert len(tries) == 3


def test_work_has_a_bound() -> None:
    """What takes longer is exit 3, with the word that it may have been done."""
    with pytest.raises(LinkError, match="within") as caught:
        timed(asyncio.sleep(60), 0.01)
    assert "look" in caught.value.hint

    async def quick() -> int:
        return 5

    assert timed(quick(), None) == 5
