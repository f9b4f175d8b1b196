"""Feed rows: in order for each child, under positions that belong to runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store import feeds
from node.store.database import Connection, connect, migrate

FIRST, SECOND = b"1" * 16, b"2" * 16


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    """A store with three rows of one run, and two of the next."""
    conn = connect(str(tmp_path / "a.sqlite3"), False)
    migrate(conn)
    feeds.save(conn, FIRST, [("x", 1, 0, 5), ("y", 1, 0, 5)])
    feeds.save(conn, FIRST, [("x", 2, 6, 6)])
    feeds.save(conn, SECOND, [("x", 1, 7, 7), ("x", 2, 8, 8)])
    yield conn
    conn.close()


def test_rows_come_in_order_behind_a_position(conn: Connection) -> None:
    """A child's rows only, the oldest first, so many at most."""
    assert feeds.rows_behind(conn, "x", 0, 10) == [(1, 1, 0, 5), (3, 2, 6, 6), (4, 1, 7, 7), (5, 2, 8, 8)]
    assert feeds.rows_behind(conn, "x", 3, 1) == [(4, 1, 7, 7)]
    assert feeds.rows_behind(conn, "z", 0, 10) == []


def test_a_run_reaches_to_the_next_ones_start(conn: Connection) -> None:
    """Each position belongs to one run; the last run grows; an unknown one has no end."""
    assert [feeds.run_at(conn, position) for position in (0, 1, 3, 4, 99)] == [b"", FIRST, FIRST, SECOND, SECOND]
    assert [feeds.end_of_run(conn, run) for run in (FIRST, SECOND, b"3" * 16)] == [3, 5, None]


def test_the_newest_position_is_that_of_any_child(conn: Connection) -> None:
    """What a file for a child must reach is what was given out when it was begun."""
    assert feeds.last_position(conn) == 5
    conn.execute("DELETE FROM feed")
    assert feeds.last_position(conn) == 0


def test_sizes_are_of_header_and_body(conn: Connection) -> None:
    """A withheld body counts nothing; other cases and later entries are left out."""
    conn.execute("PRAGMA foreign_keys = OFF")
    rows = [(1, 7, b"head", b"body"), (2, 7, b"head", None), (3, 8, b"x", None), (4, 7, b"later", None)]
    conn.executemany("INSERT INTO entries (id, log, idx, case_id, raw, body) VALUES (?1, 1, ?1, ?2, ?3, ?4)", rows)
    assert feeds.sizes_up_to(conn, 7, 3) == [(1, 8), (2, 4)]
