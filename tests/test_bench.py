"""The bench runs, at sizes that measure nothing: its contract, its workload, and that its verdicts follow from its numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import bare, measures, workload
from bench.counter import whole_number
from protocol import identity

ROOT = Path(__file__).resolve().parent.parent
KEYS = {
    *("sync_s", "inc_visible_ms", "inc_visible_p95_ms", "sync100_ms", "hub_rss", "node_rss", "lo_bytes_per_change"),
    *("hub_cpu_us", "node_cpu_us", "hub_disk_MB"),
}
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bytes on a line are counted by Linux")


def _run(*args: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    done = subprocess.run(
        [sys.executable, "-m", *args], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_workload_repeats() -> None:
    """The same seed gives the same changes, in the order of time, five a case; another seed gives others."""
    first = workload.generate(20)
    assert first == workload.generate(20)
    assert first != workload.generate(20, 7)
    assert [one["at"] for one in first] == sorted(one["at"] for one in first)
    for case in {one["case"] for one in first}:
        assert [one["seq"] for one in first if one["case"] == case] == [1, 2, 3, 4, 5]


def test_masked_numbers_become_whole() -> None:
    """Each masked number of the workload has a whole one that the office takes."""
    for change in workload.generate(50):
        number = whole_number(change["idno"])
        assert identity.check_id_number(number, workload.FIRST_DAY) == number


def test_bare_loop_is_bare() -> None:
    """The bare loop stays one file of at most 150 lines, and needs nothing of the product."""
    text = Path(bare.__file__).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert not [line for line in text.splitlines() if line.startswith(("from node", "from hub", "from protocol", "from bench"))]


def test_verdicts_follow_from_numbers() -> None:
    """A goal is met exactly when its number keeps to its bound."""
    assert measures.Row("a", "a", 0.5, "×", low=0.5).met
    assert not measures.Row("a", "a", 0.49, "×", low=0.5).met
    assert measures.Row("a", "a", 55, "B", high=55).met
    assert not measures.Row("a", "a", 55.1, "B", high=55).met


@linux_only
def test_race_keeps_its_contract(tmp_path: Path) -> None:
    """The race takes two files, and prints one JSON object with every name of its contract; the hub then holds all."""
    workload.save(tmp_path / "w.jsonl", workload.generate(30))
    workload.save(tmp_path / "singles.jsonl", workload.generate(40, 7))
    told = json.loads(_run("bench.race", str(tmp_path / "w.jsonl"), str(tmp_path / "singles.jsonl")))
    assert told.keys() >= KEYS
    assert all(told[key] > 0 for key in KEYS)
    assert (told["held"]["cases"], told["held"]["finished"], told["held"]["waiting"]) == (30, 30, 0)


@linux_only
def test_table_runs(tmp_path: Path) -> None:
    """`python -m bench` measures every row, and writes what it prints."""
    _run("bench", "--quick", "--out", str(tmp_path / "out.json"))
    rows = {row["key"]: row for row in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]}
    assert rows.keys() == {
        *("backlog", "bare", "wire", "crowd", "reconnect", "save", "save_pulling", "idle_requests", "idle_bytes", "idle_cpu"),
        *(f"visible_{where}_{what}" for where in ("parent", "city") for what in ("p50", "p99", "busy")),
    }
    assert rows["backlog"]["folded"]
    assert rows["crowd"]["folded"]
