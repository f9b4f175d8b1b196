"""The oracle by itself: it finds what is lost, forged, acknowledged too early or held twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgpack
import pytest

from node.store.database import InlineDatabase
from tests.simulation.oracle import Fact, Oracle, custody

CITY, TOWN, VILLAGE = "650100000000", "650102001000", "650102001001"


def header(node: str, kind: str, **fields: Any) -> bytes:
    """Return a header's bytes."""
    return bytes(msgpack.packb([1, 1, node, kind, None, None, 0, None, 0, None, None, None, None, [], [], fields]))


class Disks:
    """Some machines' files and the oracle that reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.oracle = folder, Oracle()
        self.oracle.parents = {TOWN: CITY, VILLAGE: TOWN}
        self.conns: dict[str, sqlite3.Connection] = {}

    def at(self, machine: str) -> sqlite3.Connection:
        """Return a machine's connection; its store is laid down at the first time."""
        if machine not in self.conns:
            self.conns[machine] = InlineDatabase(self.folder / f"{machine}.sqlite3")._line.conn
            self.oracle.opened(machine, self.conns[machine])
        return self.conns[machine]

    def state(self, machine: str, node: str, *raws: bytes) -> None:
        """Append entries of a node's log to a machine's disk, and show the commit."""
        conn = self.at(machine)
        conn.execute(
            "INSERT OR IGNORE INTO logs (node, incarnation, key, size, peaks, root) VALUES (?, ?, ?, 0, x'', x'')",
            (node, bytes(16), bytes(32)),
        )
        (log,) = conn.execute("SELECT id FROM logs WHERE node = ?", (node,)).fetchone()
        (size,) = conn.execute("SELECT count(*) FROM entries WHERE log = ?", (log,)).fetchone()
        for index, raw in enumerate(raws, size):
            conn.execute("INSERT INTO entries (log, idx, raw) VALUES (?, ?, ?)", (log, index, raw))
        self.oracle.committed(machine, conn)

    def count_on(self, machine: str, size: int) -> None:
        """Let a machine count its own entries as acknowledged."""
        conn = self.at(machine)
        conn.execute("INSERT OR REPLACE INTO acks SELECT id, ? FROM logs WHERE node = ?", (size, machine))
        self.oracle.committed(machine, conn)


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def test_what_is_held_above_may_be_counted_on(disks: Disks) -> None:
    """An acknowledgement of what the parent committed is no violation."""
    raw = header(VILLAGE, "open")
    disks.state(VILLAGE, VILLAGE, raw)
    disks.state(TOWN, VILLAGE, raw)
    disks.count_on(VILLAGE, 1)
    assert disks.oracle.violations == []


def test_an_acknowledgement_of_nothing_is_found(disks: Disks) -> None:
    """I1: nobody above ever committed it."""
    disks.state(VILLAGE, VILLAGE, header(VILLAGE, "open"))
    disks.count_on(VILLAGE, 1)
    assert [one[:2] for one in disks.oracle.violations] == ["I1"]


def test_a_forged_entry_is_found(disks: Disks) -> None:
    """I6: its author's machine never wrote it."""
    disks.state(TOWN, VILLAGE, header(VILLAGE, "open"))
    assert [one[:2] for one in disks.oracle.violations] == ["I6"]


def test_two_leaves_under_one_place_are_found(disks: Disks) -> None:
    """I4: unless the author was put back or cloned, or lies."""
    disks.state(VILLAGE, VILLAGE, header(VILLAGE, "open", item="a"))
    disks.state(f"{VILLAGE}@2", VILLAGE, header(VILLAGE, "open", item="b"))
    assert [one[:2] for one in disks.oracle.violations] == ["I4"]
    disks.oracle.forkers.add(VILLAGE)
    disks.state(f"{VILLAGE}@3", VILLAGE, header(VILLAGE, "open", item="c"))
    assert len(disks.oracle.violations) == 1


def test_a_falling_receive_time_is_found(disks: Disks) -> None:
    """I7: of two receipts stated one after the other."""
    disks.state(TOWN, TOWN, header(TOWN, "receipt", at=2_000))
    disks.state(TOWN, TOWN, header(TOWN, "receipt", at=1_000))
    assert [one[:2] for one in disks.oracle.violations] == ["I7"]


def test_a_loss_over_a_restart_is_found(disks: Disks) -> None:
    """I2: what was committed is gone, and nobody took it; where it was taken and no copy is left, it is on the list of losses."""
    raw = header(VILLAGE, "open")
    disks.state(VILLAGE, VILLAGE, raw)
    disks.oracle.told(VILLAGE, "case 1", raw)
    empty = InlineDatabase(disks.folder / "empty.sqlite3")._line.conn
    disks.oracle.restoring(VILLAGE)
    disks.oracle.opened(VILLAGE, empty)
    assert disks.oracle.violations == []
    assert len(disks.oracle.doomed) == 1
    disks.state(TOWN, TOWN, header(TOWN, "receipt", at=1))
    disks.oracle.opened(TOWN, empty)
    assert [one[:5] for one in disks.oracle.violations] == ["I1/I2"]


def test_what_does_not_reach_the_root_is_found(disks: Disks) -> None:
    """I2: saved, copies are left, and the root has it not."""
    raw = header(VILLAGE, "open")
    disks.state(VILLAGE, VILLAGE, raw)
    disks.at(CITY)
    disks.oracle.told(VILLAGE, "case 1", raw)
    disks.oracle.check_end(CITY)
    assert {one[:2] for one in disks.oracle.violations} == {"I2", "I3"}


def fact(name: str, node: str, kind: str, epoch: int, prev: str | None, **fields: Any) -> Fact:
    """Return an entry of a case, named by a letter."""
    return Fact(name.encode() * 32, node, kind, b"a" * 16, epoch, prev.encode() * 16 if prev else None, fields)


@pytest.mark.parametrize(
    ("kind", "node", "epoch", "fault"),
    [("take", TOWN, 1, ""), ("take", CITY, 1, "took"), ("take", TOWN, 2, "took"), ("accept", VILLAGE, 0, "wrote"), ("reclaim", TOWN, 1, "")],
)
def test_custody_is_walked(kind: str, node: str, epoch: int, fault: str) -> None:
    """I5: behind an offer to the township, it may take; nobody else may, and the offerer writes no more."""
    line = [fact("a", VILLAGE, "open", 0, None), fact("b", VILLAGE, "offer", 0, "a", to=TOWN), fact("c", node, kind, epoch, "b")]
    found = custody({one.link: one for one in line}, [one.link for one in line], {VILLAGE: [TOWN, CITY], TOWN: [CITY]})
    assert bool(found) == bool(fault)
    assert all(fault in one for one in found)
