"""Feeds in SQL: what each child still has to be told, and the runs in which positions are counted (`hub.feeds`)."""

from __future__ import annotations

from node.store.database import Connection, insert_rows

FeedRow = tuple[int, int, int, int]  # (position, case id, first entry id or 0 = the whole case, last entry id)


def save(conn: Connection, run: bytes, rows: list[tuple[object, ...]]) -> None:
    """Append feed rows, (child, case id, first entry id, last entry id), under positions that belong to a run."""
    conn.execute(
        "INSERT INTO feed_runs (start, run) SELECT coalesce((SELECT max(position) FROM feed), 0) + 1, ? "
        "WHERE NOT EXISTS (SELECT 1 FROM feed_runs WHERE run = ?)",
        (run, run),
    )
    insert_rows(conn, "INSERT INTO feed (child, case_id, entry_first, entry_last) VALUES", rows)


def rows_behind(conn: Connection, child: str, position: int, limit: int) -> list[FeedRow]:
    """Return a child's rows behind a position, in order."""
    return conn.execute(
        "SELECT position, case_id, entry_first, entry_last FROM feed WHERE child = ? AND position > ? ORDER BY position LIMIT ?",
        (child, position, limit),
    ).fetchall()


def sizes_up_to(conn: Connection, case_id: int, last: int) -> list[tuple[int, int]]:
    """Return (entry id, bytes of header and body) of a case's entries up to one, in order of arrival."""
    return conn.execute(
        "SELECT id, length(raw) + coalesce(length(body), 0) FROM entries WHERE case_id = ? AND id <= ? ORDER BY id",
        (case_id, last),
    ).fetchall()


def run_at(conn: Connection, position: int) -> bytes:
    """Return the name of the run to which a position belongs; empty before the first."""
    found = conn.execute("SELECT run FROM feed_runs WHERE start <= ? ORDER BY start DESC LIMIT 1", (position,)).fetchone()
    return bytes(found[0]) if found else b""


def end_of_run(conn: Connection, run: bytes) -> int | None:
    """Return the last position of a run; None if this store never gave out such positions."""
    found = conn.execute("SELECT start FROM feed_runs WHERE run = ?", (run,)).fetchone()
    if found is None:
        return None
    end = conn.execute(
        "SELECT coalesce((SELECT min(start) - 1 FROM feed_runs WHERE start > ?), (SELECT max(position) FROM feed), 0)", found
    ).fetchone()
    return int(end[0])


def last_position(conn: Connection) -> int:
    """Return the newest position given out; 0 before the first."""
    return int(conn.execute("SELECT coalesce(max(position), 0) FROM feed").fetchone()[0])
