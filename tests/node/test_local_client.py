"""What the asking side does without any node; with one it is tested in test_local_api."""

from __future__ import annotations

import subprocess
import sys

import pytest

from node.command import COMMAND_BYTES_MAX, Command
from node.folder import ApiPlace
from node.local_client import NoAnswer, answers, call
from protocol.errors import LimitExceeded


class Nobody:
    def value(self, value: object) -> None:
        raise AssertionError(value)

    def row(self, row: object) -> None:
        raise AssertionError(row)


@pytest.mark.parametrize("url", ["", "http://", "http://127.0.0.1:1", "http://127.0.0.1:99999", "http://[::1", "x"])
def test_no_node_is_no_answer(url: str) -> None:
    """An address where nobody listens, or that is none, means that no node runs there: the command was not given."""
    place = ApiPlace(1, url, "t")
    with pytest.raises(NoAnswer) as caught:
        call(place, Command("status"), Nobody(), 1)
    assert caught.value.exit_code == 3
    assert not answers(place)


def test_a_command_over_its_bound_is_not_sent() -> None:
    """The bound is told before any connection is made."""
    with pytest.raises(LimitExceeded):
        call(ApiPlace(1, "", "t"), Command("note", {"text": "x" * COMMAND_BYTES_MAX}), Nobody(), 1)


def test_asking_a_running_node_loads_no_server_and_no_store() -> None:
    """Commands of a counter start fast."""
    heavy = {"aiohttp", "aiosqlite", "sqlite3", "cryptography", "rich", "segno", "zstandard"}
    program = (
        f"import sys, hub.cli; sys.exit(repr({heavy!r} & sys.modules.keys()) if {heavy!r} & sys.modules.keys() else 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
