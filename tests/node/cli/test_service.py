"""`tongban service …`, by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import shell
from tests.node.building import CITY
from tests.node.service.test_installing import System


@pytest.fixture
def city(tmp_path: Path) -> Path:
    folder = tmp_path / "city"
    assert shell.give("init", "--division", CITY, "--name", "乌鲁木齐市", data=folder).code == 0
    return folder


def test_show_prints_what_an_administrator_would_write(city: Path) -> None:
    """In words the definition and nothing else; in JSON with the place where it belongs."""
    words = shell.give("service", "show", data=city)
    value = shell.give("--json", "service", "show", data=city).value
    assert words.out.decode("utf-8").strip() == value["definition"].strip()
    assert f"--data {city} run" in value["definition"]
    assert f"User={city.owner()}\n" in value["definition"]
    assert value["file"] == "/etc/systemd/system/tongban.service"
    other = shell.give("--json", "service", "show", "--user", "tongban", "--name", "tongban-2", data=city).value
    assert "User=tongban\n" in other["definition"]
    assert other["file"].endswith("/tongban-2.service")


def test_install_status_and_remove(city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run changes nothing; then installed, seen, and removed; the node's folder stays."""
    units = tmp_path / "units"
    units.mkdir()
    (tmp_path / "machine").mkdir()
    system = System(tmp_path / "machine", monkeypatch)
    system.has("systemctl")
    where = ("--units", units)
    dry = shell.give("--json", "service", "install", "--dry-run", *where, data=city).value
    assert (dry["done"], list(units.iterdir()), system.lines()) == (False, [], [])
    done = shell.give("--json", "service", "install", *where, data=city).value
    assert (done["done"], done["commands"]) == (True, dry["commands"])
    assert [list(line) for line in system.lines()] == dry["commands"]
    state = shell.give("--json", "service", "status", *where, data=city).value
    assert (state["installed"], state["enabled"], state["active"], state["answers"]) == (True, True, True, False)
    assert "已安装" in shell.give("service", "status", *where, data=city).out.decode("utf-8")
    assert shell.give("--json", "service", "remove", *where, data=city).value["done"] is True
    assert (list(units.iterdir()), (city / "tongban.sqlite3").exists()) == ([], True)
    again = shell.give("--json", "service", "remove", *where, data=city)
    assert (again.code, again.error["code"]) == (1, "not_found")
    assert "未安装" in shell.give("service", "status", *where, data=city).out.decode("utf-8")


def test_a_folder_without_a_node_is_refused(tmp_path: Path) -> None:
    """A service of nothing would fail at every boot."""
    done = shell.give("--json", "service", "install", data=tmp_path)
    assert (done.code, done.error["code"]) == (2, "input")
