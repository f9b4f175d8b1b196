"""A copy is one state of the store, however long it takes and whoever writes meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.store import copying
from node.store.database import Connection
from protocol.errors import StoreError
from tests.node.building import found, furnish, opened


async def test_a_copy_is_the_state_at_its_beginning(tmp_path: Path) -> None:
    """What is committed while it is copied is not in it; the copy does not begin again, and is whole."""
    city = await furnish(await found(tmp_path / "city"))
    await city.write(lambda conn, _: _fill(conn))
    size = await city.read(lambda conn: city.ledger.own_row(conn).size)
    steps = 0

    def meanwhile() -> None:
        nonlocal steps
        steps += 1
        city.store._line.write(lambda conn: conn.execute("INSERT INTO sources VALUES (?, 1)", (f"later {steps}",)))  # type: ignore[attr-defined]

    copying.copy(tmp_path / "city" / "tongban.sqlite3", tmp_path / "copy", meanwhile)
    assert steps > 4
    head, facts = copying.check(tmp_path / "copy")
    assert (head.size, head.node, facts["node"]) == (size, city.id, city.id.encode())
    copying.mark(tmp_path / "copy", {"a": b"1", "b": b"2"})
    copying.mark(tmp_path / "copy", {"a": None, "b": b"3"})
    facts = copying.check(tmp_path / "copy")[1]
    assert ("a" in facts, facts["b"]) == (False, b"3")
    assert not lying(tmp_path, "copy-*")
    await opened(city)
    await city.close()


async def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    """No folder there, or not writable: our error, not SQLite's."""
    city = await found(tmp_path / "city")
    with pytest.raises(StoreError):
        copying.copy(tmp_path / "city" / "tongban.sqlite3", tmp_path / "none" / "copy", lambda: None)
    await city.close()


def lying(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def _fill(conn: Connection) -> None:
    conn.executemany("INSERT INTO sources (source, entry) VALUES (?, 1)", [(f"{number:0200d}",) for number in range(6_000)])
