"""The nodes of a network take turns: every event once, whatever stops on the way; and the command itself."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub import replay as driver
from node import faults, replay
from protocol.errors import InputError, InputProblems, LinkError
from tests.node import building
from tests.node.replaying.helping import CITY, CIVIL, LOG, MAP, SOCIAL, STAGE, STATIONS, Here, dying, network, raw_map
from tests.shell import give, run, started

EVENTS = 185


def small() -> replay.Replay:
    return replay.load(LOG, MAP)


def of_the_log() -> dict[str, int]:
    """Count the log's lines by activity, past all of our own code."""
    found: dict[str, int] = {}
    for line in LOG.read_text(encoding="utf-8").splitlines():
        activity = json.loads(line)["activity"]
        found[activity] = found.get(activity, 0) + 1
    return found


async def taken_in(peers: list[Here]) -> dict[str, Any]:
    return await driver.through(small(), peers, lambda _steps: None)


def check_whole(found: dict[str, Any]) -> None:
    """All that "the replay ends with equal counts at the city" means."""
    assert found["problems"] == []
    assert found["by_activity"] == of_the_log()
    assert found["taken"] + found["repeated"] == found["events"] == EVENTS
    assert found["cases"] == 31
    assert (found["void"], found["waiting"]) == (0, 0)
    assert set(found["effects"]) == {"applied"}
    assert found["notes"] * 50 < EVENTS
    assert min(found["by_command"][name] for name in ("open", "accept", "task", "decide", "finish")) > 5


async def test_all_events_come_to_the_city_once(tmp_path: Path) -> None:
    """Equal counts by activity, real entries with effect, tasks of both departments."""
    peers = await network(tmp_path)
    found = await taken_in(peers)
    check_whole(found)
    assert found["counted_at"] == CITY
    assert found["rounds"] <= 8
    rows = await building.ask(peers[0].place, "export", entries=True)
    assert {row["node"] for row in rows if row["type"] == "task"} == {SOCIAL, CIVIL}
    assert {row["node"] for row in rows if row["type"] == "open"} == set(STATIONS)
    assert all(row["recorded_afterwards"] for row in rows)
    problems = (await building.ask(peers[0].place, "verify"))["problems"]
    assert problems == []


async def test_a_second_replay_adds_nothing(tmp_path: Path) -> None:
    """The same log again: everything repeated, no log a byte longer."""
    peers = await network(tmp_path)
    await taken_in(peers)
    sizes = [await building.size_of(peer.place) for peer in peers]
    steps: list[int] = []
    found = await driver.through(small(), peers, steps.append)
    check_whole(found)
    assert (found["taken"], found["repeated"], found["rounds"]) == (0, EVENTS, 1)
    assert sum(steps) == EVENTS  # the bar on the screen is full
    assert [await building.size_of(peer.place) for peer in peers] == sizes


@pytest.mark.parametrize("passes", [3, 40, 90, 150, 230])
async def test_it_goes_on_after_a_kill(passes: int, tmp_path: Path) -> None:
    """Stopped at any entry of any node, then given again: the same counts."""
    peers = await network(tmp_path)
    with dying("ledger.appended", passes), pytest.raises(faults.Crash):
        await taken_in(peers)
    check_whole(await taken_in(peers))


async def test_a_longer_log_adds_what_is_new(tmp_path: Path) -> None:
    """A part of the log first, the whole log later."""
    peers = await network(tmp_path)
    part = tmp_path / "part.jsonl"
    lines = LOG.read_text(encoding="utf-8").splitlines(keepends=True)
    cases = {json.loads(line)["case"] for line in lines[:30]}
    part.write_text("".join(line for line in lines if json.loads(line)["case"] in cases), encoding="utf-8")
    first = await driver.through(replay.load(part, MAP), peers, lambda _steps: None)
    assert first["problems"] == []
    found = await taken_in(peers)
    check_whole(found)
    assert found["repeated"] == first["taken"] > 0


async def test_a_step_that_is_refused_ends_in_a_problem(tmp_path: Path) -> None:
    """Somebody withdrew a case meanwhile: the others are taken in, and the difference is told."""
    peers = await network(tmp_path)
    city = peers[0]
    turns = driver.Turns(left={peer.node: [one.name for one in small().share_of(peer.node)] for peer in peers})
    for _ in range(2):
        await driver._round(small(), peers, turns, lambda _steps: None)
        await driver.settle(peers)
    held = [row for row in await building.ask(city.place, "list") if row["state"] == "handling"]
    await building.ask(city.place, "case.withdraw", building.Act("replay"), case=held[0]["case"], reason="撤回")
    found = await taken_in(peers)
    assert any("withdrawn" in problem for problem in found["problems"])
    assert any("events in the log" in problem for problem in found["problems"])
    assert found["waiting"] >= 1
    assert found["void"] == 0


class Tired:
    """A peer whose sync fails some times; it may have stopped."""

    parent = None

    def __init__(self, node: str, failures: int = 0, *, stopped: bool = False) -> None:
        self.node = node
        self.failures = failures
        self.stopped = stopped

    async def ask(self, name: str, _params: object) -> dict[str, Any]:
        if self.stopped:
            raise LinkError(f"node {self.node} does not run")
        if name == "sync":
            self.failures -= 1
            if self.failures >= 0:
                raise LinkError("3 entries are not acknowledged yet")
        return {}

    async def rows(self, *_args: object) -> None: ...


class Below(Tired):
    parent = CITY


async def test_a_sync_is_tried_again() -> None:
    """What others write at the same time may leave something open; three times in a row is a failure."""
    await driver.settle([Tired(CITY), Below(SOCIAL, 2)])
    with pytest.raises(LinkError, match="not acknowledged"):
        await driver.settle([Tired(CITY), Below(SOCIAL, 5)])


async def test_a_node_that_stopped_is_named_after_one_try() -> None:
    """Its children's syncs cannot say more than that something is not acknowledged."""
    with pytest.raises(LinkError, match=f"node {CITY} does not run"):
        await driver.settle([Tired(CITY, stopped=True), Below(SOCIAL, 1)])


# --- the network file


def network_file(folder: Path, *rows: Any) -> Path:
    (folder / "network.json").write_text(json.dumps(list(rows)), encoding="utf-8")
    return folder


def test_the_network_file_is_checked(tmp_path: Path) -> None:
    """Missing, not JSON, not a list, no root, no folder: each is named."""
    with pytest.raises(InputError, match="there is no such file"):
        driver.load_network(tmp_path)
    (tmp_path / "network.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="this is not JSON"):
        driver.load_network(tmp_path)
    with pytest.raises(InputError, match="must hold a list of nodes"):
        driver.load_network(network_file(tmp_path))
    row = {"node": CITY, "name": "市", "parent": None, "data": "city", "url": "", "pid": 1}
    with pytest.raises(InputProblems, match="must hold one root"):
        driver.load_network(network_file(tmp_path, row, row))
    with pytest.raises(InputProblems, match=r"\[0\]: data: is missing"):
        driver.load_network(network_file(tmp_path, {"node": CITY, "parent": None}))
    (peer,) = driver.load_network(network_file(tmp_path, row))
    assert (peer.node, peer.parent, peer.folder.root) == (CITY, None, tmp_path / "city")


def test_nodes_that_the_network_lacks_are_named(tmp_path: Path) -> None:
    """Before anything is stated anywhere."""
    network_file(tmp_path, {"node": CITY, "parent": None, "data": "city"})
    done = give("replay", LOG, "--map", MAP, "--network", tmp_path, "--dry-run", "--json")
    assert done.code == 2
    assert [problem.split()[4].rstrip(",") for problem in done.error["problems"]] == [*STATIONS, CIVIL, SOCIAL]


async def test_a_node_that_does_not_run_is_named(tmp_path: Path) -> None:
    """With what to do; nothing is lost."""
    (peer,) = driver.load_network(network_file(tmp_path, {"node": CITY, "parent": None, "data": "city"}))
    with pytest.raises(LinkError, match=f"node {CITY} does not run") as error:
        await peer.ask("status", {})
    assert "not taken in twice" in error.value.hint


# --- the command


def test_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    """No node is needed; counts are the log's."""
    done = give("replay", LOG, "--map", MAP, "--data", tmp_path / "none", "--dry-run", "--json")
    assert done.code == 0
    assert done.value["by_activity"] == of_the_log()
    assert done.value["dry_run"] is True
    assert list(tmp_path.iterdir()) == []


def test_a_map_that_does_not_cover_is_refused(tmp_path: Path) -> None:
    """Exit 2, the activities with their counts, also without --dry-run."""
    raw = raw_map()
    raw["activities"] = raw["activities"][:5]
    path = tmp_path / "map.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    for more in (("--dry-run",), ()):
        done = give("replay", LOG, "--map", path, "--data", tmp_path / "none", "--json", *more)
        assert done.code == 2
        assert len(done.error["problems"]) == 11
        assert "会商: not mapped: 36 events" in done.error["problems"][0]


@pytest.mark.parametrize(("log", "told"), [(b"{", "line 1"), (b'{"case":"c"}\n', "line 1: activity: is missing")])
def test_a_wrong_log_is_refused(log: bytes, told: str, tmp_path: Path) -> None:
    """Exit 2 with line and key."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(log)
    done = give("replay", path, "--map", MAP, "--data", tmp_path / "none", "--json")
    assert (done.code, told in done.error["message"]) == (2, True)


def alone_map(folder: Path) -> Path:
    """Return a map in which the city does everything."""
    raw = raw_map() | {"stations": [CITY]}
    for task in raw["stages"][0]["tasks"]:
        task["node"] = CITY
    path = folder / "alone.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def furnished(folder: Path) -> Path:
    """Found a network and publish the item."""
    assert give("init", "--division", CITY, "--name", "测试", "--listen", f"127.0.0.1:{_free()}", data=folder).code == 0
    path = folder / "catalogue.json"
    path.write_text(json.dumps(building.catalogue(building.item(stages=[STAGE], decide=[CITY]))), encoding="utf-8")
    assert give("catalogue", "publish", path, data=folder).code == 0
    return folder


def _free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_one_node_states_its_share(tmp_path: Path) -> None:
    """With --data, running or not; here it is the whole log, and again it is nothing."""
    city = furnished(tmp_path / "city")
    args = ("replay", LOG, "--map", alone_map(tmp_path), "--json")
    check_whole(give(*args, data=city).value)
    again = give(*args, data=city).value
    assert (again["taken"], again["repeated"]) == (0, EVENTS)


@pytest.mark.processes
def test_a_network_of_processes_takes_a_log_in(tmp_path: Path) -> None:
    """A department is down, a station is killed: exit 3, then the same command ends with equal counts."""
    city = furnished(tmp_path / "city")
    children = (*STATIONS, SOCIAL, CIVIL)
    with running(city), ExitStack() as stack:
        for node in children:
            code = give("invite", node, "--name", f"节点{node[-4:]}", "--json", data=city).value["code"]
            assert give("join", code, "--listen", "127.0.0.1:0", data=tmp_path / node).code == 0
        rows = [{"node": node, "parent": CITY, "data": node} for node in children]
        network_file(tmp_path, {"node": CITY, "parent": None, "data": "city"}, *rows)
        args = ("replay", LOG, "--map", MAP, "--network", tmp_path, "--json")
        for node in children[1:3]:
            stack.enter_context(running(tmp_path / node))
        with running(tmp_path / children[0]) as station:
            done = run(*args)
            assert (done.code, done.error["code"], done.error["data_safe"]) == (3, "link", True)
            assert CIVIL in done.error["message"]
            station.kill()
            station.wait()
        for node in (children[0], CIVIL):
            stack.enter_context(running(tmp_path / node))
        done = run(*args)
        assert done.code == 0
        check_whole(done.value)
        again = run(*args).value
        assert (again["taken"], again["repeated"]) == (0, EVENTS)


@contextmanager
def running(data: Path) -> Iterator[Any]:
    """Run a node while the block runs."""
    with started("run", "--json", data=data) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"] is True
        yield process
