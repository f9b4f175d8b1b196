"""The list of a kept network. Stopping one that runs: test_demo.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.demo import kept
from hub.demo.story import CITY, PLACES
from node.system import SystemClock
from protocol.errors import InputError

ROW = {"node": CITY, "name": "乌鲁木齐市", "parent": None, "data": "x", "url": "http://127.0.0.1:1", "pid": 7}


def test_the_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    """One object a node, in their order."""
    rows = [{**ROW, "node": place.node} for place in PLACES]
    kept.save(tmp_path, rows)
    assert kept.load(tmp_path) == rows


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", '[{"node": 1, "data": "x"}]', '[{"node": "x"}]'])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    """`network.json` is outside data."""
    (tmp_path / kept.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=kept.FILE):
        kept.load(tmp_path)


def test_a_missing_list_says_what_to_do(tmp_path: Path) -> None:
    """A folder without a demo is named, with the command that makes one."""
    with pytest.raises(InputError) as caught:
        kept.load(tmp_path)
    assert "--keep" in caught.value.hint


def test_a_network_that_is_down_is_stopped_already(tmp_path: Path) -> None:
    """Stopping twice is no failure."""
    kept.save(tmp_path, [{**ROW, "data": str(tmp_path / CITY)}])
    assert not list(kept.running(kept.load(tmp_path)))
    assert kept.stop(tmp_path, SystemClock()) == []
