"""A copied folder, as people meet it: found, told in words, chosen, and proved; with real processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.test_cli import CATALOGUE, ID_NUMBER, ROOT_NODE, running
from tests.shell import Done, give

pytestmark = pytest.mark.processes

VILLAGE = "650102001001"
OPEN = ("case", "open", "--item", "A-1", "--applicant", "王小明", "--id-number", ID_NUMBER, "--officer", "1001", "--json")


@dataclass(frozen=True)
class Folders:
    """A running root, a village, and later a copy of the village's folder."""

    city: Path
    village: Path
    twin: Path

    def sync(self, *folders: Path) -> None:
        for one in folders or (self.village, self.twin):
            done = give("sync", "--json", data=one)
            assert done.code == 0, done.out

    def opened(self, folder: Path) -> str:
        done = give(*OPEN, data=folder)
        assert done.code == 0, done.out
        return str(done.value["key"])  # both machines may print one number


@contextmanager
def network(tmp_path: Path) -> Iterator[Folders]:
    """Run a root with a village below it, which has taken a case in."""
    folders = Folders(tmp_path / "city", tmp_path / "village", tmp_path / "twin")
    (tmp_path / "catalogue.toml").write_text(CATALOGUE, encoding="utf-8")
    assert give("init", "--division", ROOT_NODE, "--name", "乌鲁木齐", "--listen", "127.0.0.1:0", data=folders.city).code == 0
    assert give("catalogue", "publish", tmp_path / "catalogue.toml", data=folders.city).code == 0
    with running(folders.city):
        code = give("invite", VILLAGE, "--name", "一村", "--json", data=folders.city).value["code"]
        assert give("join", code, data=folders.village).code == 0
        assert give("officer", "add", "1001", "--name", "张三", data=folders.village).code == 0
        folders.sync(folders.village)
        folders.opened(folders.village)
        folders.sync(folders.village)
        yield folders


def accept(folder: Path, number: str) -> Done:
    return give("case", "accept", number, "--officer", "1001", "--json", data=folder)


def test_a_copied_folder_is_found_and_one_machine_is_kept(tmp_path: Path) -> None:
    """Two syncs of each: both are told; what advances a case waits; after the choice nothing of either is missing above."""
    with network(tmp_path) as net:
        assert give("clones", "keep", "--json", data=net.village).error["code"] == "refused"
        shutil.copytree(net.village, net.twin)
        mine, theirs = net.opened(net.village), net.opened(net.twin)
        for _ in range(2):
            net.sync()
        net.sync(net.village)
        for folder, number in ((net.village, mine), (net.twin, theirs)):
            assert give("clones", "--json", data=folder).value["fenced"] is True
            refused = accept(folder, number)
            assert (refused.code, refused.error["code"]) == (1, "clone")
            assert net.opened(folder)
        said = give("clones", data=net.village)
        assert said.code == 0
        assert "tongban clones keep" in said.out.decode()
        (child,) = give("clones", "--json", data=net.city).value["children"]
        assert (child["node"], child["settled"], len(child["machines"])) == (VILLAGE, False, 2)
        assert give("clones", "retire", "--json", data=net.twin).value["choice"] == "retire"
        assert give("clones", "keep", "--json", data=net.village).value["fenced"] is False
        assert accept(net.village, mine).code == 0
        net.sync()
        net.sync()
        assert give(*OPEN, data=net.twin).error["code"] == "retired"
        assert give("show", theirs, "--json", data=net.twin).code == 0
        assert give("status", "--json", data=net.twin).value["pending"] == 0
        assert give("clones", "--json", data=net.village).value["suspected_since"] is None
        assert "已选定" in give("clones", data=net.city).out.decode()
        rows = give("list", "--json", data=net.city).rows
        assert len(rows) == 5
        assert {mine, theirs} <= {row["key"] for row in rows}
        assert give("rebuild", "--json", data=net.city).value["problems"] == []
