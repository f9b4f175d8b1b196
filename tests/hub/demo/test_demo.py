"""The demo as it is typed, in real processes: the whole story, while processes are killed, kept, and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.demo.story import PLACES
from node.folder import Folder
from tests.shell import Done, give, run, started

pytestmark = pytest.mark.processes

SEED = 4
LONGEST_S = 240.0
PAUSE_S = (0.3, 1.2)  # between two kills
KILLS_MAX = 40  # then the rest is told in peace: a slow machine would start processes for ever
TIMES = re.compile(r"\d{4}-\d{2}-\d{2} [\d:.]+|\d{2}:\d{2}:\d{2}")
VARYING = re.compile(
    r"(?<=-)\d{8}(?=-)|\b[0-9a-f]{8}\b"
)  # the day in a number; a digest: keys and salts are new each time


def summary(out: bytes) -> list[str]:
    """The summary and all steps, without times, days, digests, and the blanks that fit a table's columns."""
    lines = out.decode("utf-8").splitlines()
    found = lines[next(place for place, line in enumerate(lines) if line.startswith("==")) :]
    return [" ".join(VARYING.sub("#", TIMES.sub("#", line)).split()) for line in found]


def pids(root: Path) -> dict[str, int]:
    """The processes that serve on folders of a demo now."""
    places = {place.node: Folder(root / place.node).load_api() for place in PLACES}
    return {node: api.pid for node, api in places.items() if api is not None and lives(api.pid, root)}


def lives(pid: int, root: Path) -> bool:
    """Whether this is still a process of the demo, not another one with its number."""
    try:
        return str(root).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def killer(root: Path) -> Iterator[list[str]]:
    """Kill a random process of the demo every now and then, without a warning."""
    draw, over = random.Random(SEED), threading.Event()
    killed: list[str] = []

    def work() -> None:
        while len(killed) < KILLS_MAX and not over.wait(draw.uniform(*PAUSE_S)):
            found = sorted(pids(root).items())
            if found:
                node, pid = draw.choice(found)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(node)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def told(root: Path, *options: object) -> Done:
    """A whole demo; one that hangs is told to stop, so that no process of it is left."""
    with started("demo", "--seed", SEED, "--data", root, *options) as process:
        try:
            out, err = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate(timeout=30)
        return Done(process.returncode, out, err)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Done]]:
    """A demo that nobody disturbs, kept; with --json its story is on standard error."""
    root = tmp_path_factory.mktemp("demo") / "net"
    try:
        yield root, told(root, "--keep", "--json")
    finally:
        give("demo", "--stop", "--data", root)


def test_the_demo_ends_well(kept: tuple[Path, Done]) -> None:
    """Every line is right, and the case that crossed districts shows each step with officer and time."""
    _, done = kept
    assert done.code == 0, (done.out, done.err)
    lines = summary(done.err)
    judged = [line for line in lines if line and line[0] in "√×"]
    assert len(judged) > 7
    assert not [line for line in judged if line.startswith("×")]
    table = lines[next(place for place, line in enumerate(lines) if "每一环节" in line) + 2 :]
    steps = " ".join(line.split()[1] for line in table[: table.index("")])
    assert steps == "收件 补交材料 移交 接收 受理 分派 部门意见 部门意见 决定 办结 送达"


def test_a_kept_network_is_reached_and_stopped(kept: tuple[Path, Done]) -> None:
    """`--keep --json` gives one object a node and nothing else, commands reach them, and `--stop` ends all."""
    root, done = kept
    rows = done.rows
    assert [(row["node"], row["name"], row["parent"]) for row in rows] == [
        (place.node, place.name, place.parent) for place in PLACES
    ]
    assert all(set(row) == {"node", "name", "parent", "data", "url", "pid"} for row in rows)
    assert json.loads((root / "network.json").read_text(encoding="utf-8")) == rows
    status = give("status", "--json", data=Path(rows[-1]["data"])).value
    assert (status["node"], status["pending"]) == (rows[-1]["node"], 0)
    refused = told(root)
    assert refused.code == 1
    assert "--stop" in refused.err.decode("utf-8")
    stopped = give("demo", "--stop", "--data", root, "--json")
    assert (stopped.code, stopped.value) == (0, {"stopped": [place.node for place in PLACES]})
    assert not list(root.glob("*/run/api.json"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="tells processes apart by /proc")
def test_killing_any_process_changes_nothing(kept: tuple[Path, Done], tmp_path: Path) -> None:
    """Processes killed at any moment and started again lose nothing, and the summary is the same."""
    root = tmp_path / "net"
    with killer(root) as killed:
        done = told(root)
    assert done.code == 0, "\n".join([done.out[-3000:].decode("utf-8", "replace"), done.err.decode("utf-8"), str(killed)])
    assert len(killed) > 5
    told_before = summary(kept[1].err)
    assert summary(done.out) == told_before[: len(summary(done.out))], killed
    assert not pids(root)


def test_a_signal_leaves_no_process_behind(tmp_path: Path) -> None:
    """Ctrl-C in the middle stops every process; a second one does not stop the stopping."""
    root = tmp_path / "net"
    with started("demo", "--data", root) as process:
        wait_for(lambda: len(list(root.glob("*/run/api.json"))) >= 4)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        assert process.returncode == 3
    assert not list(root.glob("*/run/api.json"))


def wait_for(met: object, span_s: float = 20.0) -> None:
    ends_at = time.monotonic() + span_s
    while not met():  # type: ignore[operator]
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    """A demo never writes among somebody's files, nor into the folder of a real node."""
    (tmp_path / "letter.txt").write_text("mine", encoding="utf-8")
    assert told(tmp_path).code == 2
    node = tmp_path / "node"
    assert give("init", "--division", "650100000000", "--name", "乌鲁木齐", data=node).code == 0
    before = sorted(node.rglob("*"))
    assert run("demo", data=node).code == 2
    assert sorted(node.rglob("*")) == before


def test_only_a_demo_is_stopped(tmp_path: Path) -> None:
    """`--stop` says when no demo is in the folder."""
    done = give("demo", "--stop", "--data", tmp_path, "--json")
    assert done.code == 2
    assert done.error["code"] == "input"
