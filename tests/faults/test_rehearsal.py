"""Backup and restore rehearsed as an operator would: real processes, a network, a loss, and everything back (H01, H02)."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hub.test_cli import CALENDAR, CATALOGUE, ID_NUMBER, ROOT_NODE
from tests.shell import give, started

pytestmark = pytest.mark.processes
VILLAGE = "650103000000"
WHO = ("--id-number", ID_NUMBER, "--field", "住址=和平路 1 号", "--officer", "1001", "--window", "3")


@contextmanager
def running(data: Path) -> Iterator[dict[str, Any]]:
    with started("run", data=data) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


def told(*args: object, data: Path) -> Any:
    done = give(*args, "--json", data=data)
    assert done.code == 0, done.out
    return done.value


def free_port() -> int:
    """Return a port for a machine that comes back under its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def opened(data: Path, applicant: str) -> str:
    found = told("case", "open", "--item", "A-1", "--applicant", applicant, *WHO, data=data)
    return str(found["key"])


def known(data: Path) -> set[str]:
    return {row["key"] for row in give("list", "--json", "--limit", "100", data=data).rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rehearsal")


@pytest.fixture(scope="module")
def city(folder: Path) -> Iterator[Path]:
    """A running city with a village that has a backup of a few cases, and has synced some more since."""
    tmp_path = folder
    data, village = tmp_path / "city", tmp_path / "village"
    told("init", "--division", ROOT_NODE, "--name", "市", "--listen", "127.0.0.1:0", data=data)
    (tmp_path / "c.toml").write_text(CATALOGUE, encoding="utf-8")
    (tmp_path / "k.toml").write_text(CALENDAR, encoding="utf-8")
    told("catalogue", "publish", tmp_path / "c.toml", data=data)
    with running(data) as ready:
        code = told("invite", VILLAGE, "--name", "村", data=data)["code"]
        told("join", code, data=village)
        told("officer", "add", "1001", "--name", "张三", data=village)
        (tmp_path / "phrase").write_text("correct horse battery", encoding="utf-8")
        with running(village):
            opened(village, "王一")
            told("backup", tmp_path / "v.backup", "--with-key", "--passphrase-file", tmp_path / "phrase", data=village)
            opened(village, "王二")
            told("sync", data=village)
        assert ready["ready"]
        yield data


def restored(folder: Path) -> Path:
    """Lose the village's machine; restore its backup on a new one."""
    village = folder / "village"
    shutil.rmtree(village)
    told("restore", folder / "v.backup", "--passphrase-file", folder / "phrase", data=village)
    return village


def test_a_restored_station_fetches_its_tail_and_goes_on(city: Path, folder: Path) -> None:
    """Synced before it writes: everything that the city has comes back; the next case is a new incarnation's, and all is at the city once."""
    before = told("status", data=folder / "village")
    village = restored(folder)
    told("sync", data=village)
    assert told("status", data=village)["incarnation"] == before["incarnation"], "no writing, no new log"
    assert known(village) == known(city)
    opened(village, "王三")
    told("sync", data=village)
    assert told("status", data=village)["incarnation"] != before["incarnation"]
    assert len(known(village)) == 3
    assert known(village) == known(city)
    for data in (village, city):
        assert told("verify", data=data)["problems"] == []
        assert told("rebuild", data=data)["different"] == 0


def test_a_restored_station_that_writes_first_loses_nothing(city: Path, folder: Path) -> None:
    """Offline after another restore of the same backup, it writes at once: what was lost comes back, and no fork is made."""
    before = known(city)
    village = restored(folder)
    opened(village, "王三")
    opened(village, "王四")
    told("sync", data=village)
    told("sync", data=village)
    assert len(known(village)) == len(before) + 2
    assert known(village) == known(city)
    for data in (village, city):
        assert told("verify", data=data)["problems"] == [], "a fork would be named here"


def test_a_restored_root_hears_its_children_before_it_numbers(tmp_path: Path) -> None:
    """Published before it ran again, under a number that its child knows otherwise: it waits, takes the lost rule back, and all agree."""
    data, village = tmp_path / "city", tmp_path / "village"
    calendars = [tmp_path / f"k{version}.toml" for version in (1, 2, 3)]
    for version, file in enumerate(calendars, 1):
        file.write_text(CALENDAR.replace("version = 1", f"version = {version}"), encoding="utf-8")
    told("init", "--division", ROOT_NODE, "--name", "市", "--listen", f"127.0.0.1:{free_port()}", data=data)
    (tmp_path / "c.toml").write_text(CATALOGUE, encoding="utf-8")
    told("catalogue", "publish", tmp_path / "c.toml", data=data)
    told("calendar", "publish", calendars[0], data=data)
    with running(data):
        told("join", told("invite", VILLAGE, "--name", "村", data=data)["code"], data=village)
        told("officer", "add", "1001", "--name", "张三", data=village)
        opened(village, "王一")
        told("sync", data=village)
        told("backup", tmp_path / "c.backup", data=data)
        told("calendar", "publish", calendars[1], data=data)
        told("sync", data=village)
    given = told("status", data=village)["basis"]
    told("restore", tmp_path / "c.backup", "--replace", data=data)
    before = told("status", data=data)
    assert before["basis"]["number"] < given["number"]
    told("calendar", "publish", calendars[2], data=data)
    assert told("status", data=data)["basis"] == before["basis"], "stated, not numbered: it did not run yet"
    with running(data):
        opened(village, "王二")
        told("sync", data=village)
        told("sync", data=village)
        after = told("status", data=data)
        assert after["basis"]["number"] > given["number"]
        assert after["incarnation"] != before["incarnation"]
        assert told("status", data=village)["basis"] == after["basis"]
        assert len(known(data)) == 2
        assert known(village) == known(data)
        for place in (village, data):
            assert told("verify", data=place)["problems"] == []
            assert told("rebuild", data=place)["different"] == 0
