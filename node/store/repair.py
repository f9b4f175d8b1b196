"""Writing over what a disk has changed, in SQL: the only code that updates evidence. `node.scrub` has verified what it writes."""

from __future__ import annotations

from collections.abc import Sequence

from node.store.database import Connection


def put_right(
    conn: Connection, log_id: int, index: int, raw: bytes, body: bytes | None, proof: tuple[int, bytes] | None = None
) -> int:
    """Write an entry as it was signed over what the disk has made of it; tells whether it differed.

    The only place that changes header bytes: the caller has verified them, and the author's signature stands as it was.

    Args:
        body: None where it is withheld; then a body held stays.
        proof: checkpoint id and path, of an entry that came in a bundle.
    """
    found = conn.execute("SELECT id, raw, body FROM entries WHERE log = ? AND idx = ?", (log_id, index)).fetchone()
    if found is None:
        return 0
    changed = found[1] != raw or (body is not None and found[2] is not None and found[2] != body)
    if changed:
        conn.execute(
            "UPDATE entries SET raw = ?, body = CASE WHEN body IS NULL THEN NULL ELSE coalesce(?, body) END WHERE id = ?",
            (raw, body, found[0]),
        )
    if proof is not None:
        done = conn.execute(
            "UPDATE paths SET checkpoint = ?, path = ? WHERE entry = ? AND (checkpoint, path) <> (?, ?)", (*proof, found[0], *proof)
        )
        changed = changed or done.rowcount > 0
    return int(changed)


def checkpoint_rows(conn: Connection, log_id: int, start: int, size: int) -> list[tuple[int, bytes, bytes]]:
    """Return (id, raw, signature) of the checkpoints of a log that end within (start, size]."""
    return conn.execute(
        "SELECT id, raw, signature FROM checkpoints WHERE log = ? AND size > ? AND size <= ?", (log_id, start, size)
    ).fetchall()


def drop_checkpoints(conn: Connection, ids: Sequence[int]) -> None:
    """Forget checkpoints that do not hold, but for those that paths name: they come back with their entries."""
    for ident in ids:
        conn.execute("DELETE FROM checkpoints WHERE id = ? AND id NOT IN (SELECT checkpoint FROM paths)", (ident,))


def keys_of_sparse(conn: Connection, log_id: int, index: int | None) -> set[bytes]:
    """Return the keys of the cases of entries that came in bundles: of one index, or of the whole log."""
    rows = conn.execute(
        "SELECT DISTINCT c.key FROM entries e JOIN cases c ON c.id = e.case_id JOIN paths p ON p.entry = e.id "
        "WHERE e.log = ? AND (? IS NULL OR e.idx = ?)",
        (log_id, index, index),
    )
    return {row[0] for row in rows}
