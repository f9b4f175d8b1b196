"""Logs, entries, checkpoints and receipts in SQL. Every function is part of some unit of work.

Nothing here decides; `node.ledger` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from node.store.database import Connection, insert_rows, marks
from protocol import limits, merkle
from protocol.errors import DecodeError
from protocol.log import (
    Checkpoint,
    Header,
    Known,
    LogId,
    Signed,
    Stored,
    decode_checkpoint,
    decode_header,
    hash_header,
)

LINK_BYTES: Final = 16
RUN_OVERHEAD_BYTES: Final = 400  # a set's checkpoint and signature
_COLUMNS = "id, node, incarnation, branch, suite, key, start, size, peaks, root, receipted, committed"


@dataclass(frozen=True, slots=True)
class LogRow:
    """A log as held: `size` entries without a gap, and the compact range over them."""

    id: int
    log: LogId
    branch: bytes
    suite: int
    key: bytes
    start: int
    size: int
    range: merkle.CompactRange
    root: bytes
    receipted: int = 0
    committed: int = 0


def _row(row: tuple[object, ...]) -> LogRow:
    ident, node, incarnation, branch, suite, key, start, size, peaks, *rest = row
    compact = merkle.CompactRange.decode(size, peaks)  # type: ignore[arg-type]
    return LogRow(ident, LogId(node, incarnation), branch, suite, key, start, size, compact, *rest)  # type: ignore[arg-type]


def find_log(conn: Connection, log: LogId, branch: bytes = b"") -> LogRow | None:
    """Return a log by its name."""
    found = conn.execute(
        f"SELECT {_COLUMNS} FROM logs WHERE node = ? AND incarnation = ? AND branch = ?",
        (log.node, log.incarnation, branch),
    ).fetchone()
    return _row(found) if found else None


def load_log(conn: Connection, log_id: int) -> LogRow:
    """Return a log by its id."""
    return _row(conn.execute(f"SELECT {_COLUMNS} FROM logs WHERE id = ?", (log_id,)).fetchone())


def load_logs(conn: Connection) -> list[LogRow]:
    """Return all logs, in the order in which they were first met."""
    return [_row(row) for row in conn.execute(f"SELECT {_COLUMNS} FROM logs ORDER BY id")]


def drop_body(conn: Connection, entry_id: int) -> None:
    """Forget a body that is not the one its header names; the header stays."""
    conn.execute("UPDATE entries SET body = NULL WHERE id = ?", (entry_id,))


def load_pending(conn: Connection) -> list[LogRow]:
    """Return the logs, held without a gap, of which the parent did not acknowledge everything; rival branches too."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM logs l WHERE size > coalesce((SELECT a.size FROM acks a WHERE a.log = l.id), 0) ORDER BY id"
    )
    return [_row(row) for row in rows]


def logs_of(conn: Connection, nodes: Sequence[str]) -> list[LogRow]:
    """Return all logs of some nodes, rival branches included, in the order in which they were first met."""
    found: list[LogRow] = []
    for begin in range(0, len(nodes), 500):
        part = list(nodes[begin : begin + 500])
        found += [_row(row) for row in conn.execute(f"SELECT {_COLUMNS} FROM logs WHERE node IN ({marks(len(part))})", part)]
    return sorted(found, key=lambda row: row.id)


def create_log(
    conn: Connection,
    log: LogId,
    key: bytes,
    *,
    branch: bytes = b"",
    suite: int = 1,
    start: int = 0,
    compact: merkle.CompactRange | None = None,
) -> LogRow:
    """Begin a log (or, with `start` and its compact range, a rival branch)."""
    compact = compact or merkle.CompactRange(0, ())
    root = compact.root() if compact.size else b""
    done = conn.execute(
        "INSERT INTO logs (node, incarnation, branch, suite, key, start, size, peaks, root) VALUES (?,?,?,?,?,?,?,?,?)",
        (log.node, log.incarnation, branch, suite, key, start, compact.size, compact.encode(), root),
    )
    return LogRow(int(done.lastrowid or 0), log, branch, suite, key, start, compact.size, compact, root)


def begin_branch(conn: Connection, row: LogRow, start: int, compact: merkle.CompactRange) -> LogRow:
    """Let a branch of which only pieces are here begin where it parts from the log; `compact`: over what both share."""
    conn.execute("UPDATE logs SET start = ? WHERE id = ?", (start, row.id))
    save_log(conn, row.id, compact)
    return load_log(conn, row.id)


def save_log(conn: Connection, log_id: int, compact: merkle.CompactRange) -> None:
    """Record a log's new size and range."""
    conn.execute(
        "UPDATE logs SET size = ?, peaks = ?, root = ? WHERE id = ?",
        (compact.size, compact.encode(), compact.root(), log_id),
    )


def save_heard(conn: Connection, log_id: int, receipted: int) -> None:
    """Record when a log's author was heard, ms."""
    conn.execute("UPDATE logs SET receipted = max(receipted, ?) WHERE id = ?", (receipted, log_id))


def save_commitment(conn: Connection, log_id: int, committed: int, heads: bytes) -> None:
    """Record to which size the author committed itself by signed heads, and the heads not reached yet."""
    conn.execute("UPDATE logs SET committed = ?, heads = ? WHERE id = ?", (committed, heads, log_id))


def load_heads(conn: Connection, log_id: int) -> bytes | None:
    """Return the heads to which a log's author committed itself, as they were saved."""
    found = conn.execute("SELECT heads FROM logs WHERE id = ?", (log_id,)).fetchone()
    return found[0] if found else None


# --- entries


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry as stored. id: order of arrival here."""

    id: int
    log: int
    index: int
    case_id: int | None
    raw: bytes
    body: bytes | None


def next_entry_id(conn: Connection) -> int:
    """Return the id of the next entry to arrive."""
    return int(conn.execute("SELECT coalesce(max(id), 0) + 1 FROM entries").fetchone()[0])


def entries_beyond(conn: Connection, log_id: int, start: int, after: int, limit: int) -> list[tuple[int, int, int, int]]:
    """Return (entry id, log id, index, about how many bytes) of a log's entries from an index on, in order of arrival here.

    Args:
        after: entries with a larger id than this. limit: at most so many.
    """
    return conn.execute(
        "SELECT e.id, e.log, e.idx, length(e.raw) + coalesce(length(e.body), 0) + coalesce(length(p.path), 0) "
        "FROM entries e LEFT JOIN paths p ON p.entry = e.id WHERE e.log = ? AND e.idx >= ? AND e.id > ? ORDER BY e.id LIMIT ?",
        (log_id, start, after, limit),
    ).fetchall()


def indexes_beyond(conn: Connection, log_id: int, start: int) -> list[int]:
    """Return the indexes of a log's entries from one on, as far as they are here, in order."""
    rows = conn.execute("SELECT idx FROM entries WHERE log = ? AND idx >= ? ORDER BY idx", (log_id, start))
    return [row[0] for row in rows]


def pieces_beyond(conn: Connection, log_id: int, start: int) -> list[EntryRow]:
    """Return the entries of a log from an index on that came in bundles, by index."""
    rows = conn.execute(
        "SELECT e.id, e.log, e.idx, e.case_id, e.raw, e.body FROM entries e JOIN paths p ON p.entry = e.id "
        "WHERE e.log = ? AND e.idx >= ? ORDER BY e.idx",
        (log_id, start),
    )
    return [EntryRow(*row) for row in rows]


def insert_entries(conn: Connection, rows: list[tuple[int, int, int, int | None, bytes, bytes | None]]) -> None:
    """Append entries: (id, log, index, case id, header bytes, body)."""
    insert_rows(conn, "INSERT INTO entries (id, log, idx, case_id, raw, body) VALUES", list(rows))


def entry_at(conn: Connection, log_id: int, index: int) -> EntryRow | None:
    """Return one entry by its place."""
    found = conn.execute(
        "SELECT id, log, idx, case_id, raw, body FROM entries WHERE log = ? AND idx = ?", (log_id, index)
    ).fetchone()
    return EntryRow(*found) if found else None


def entry_by_id(conn: Connection, entry_id: int) -> EntryRow:
    """Return one entry by its order of arrival."""
    found = conn.execute("SELECT id, log, idx, case_id, raw, body FROM entries WHERE id = ?", (entry_id,)).fetchone()
    return EntryRow(*found)


def entries_between(conn: Connection, log_id: int, start: int, end: int) -> list[EntryRow]:
    """Return the entries of a log with start ≤ index < end."""
    rows = conn.execute(
        "SELECT id, log, idx, case_id, raw, body FROM entries WHERE log = ? AND idx >= ? AND idx < ? ORDER BY idx",
        (log_id, start, end),
    )
    return [EntryRow(*row) for row in rows]


def last_index(conn: Connection, log_id: int) -> int:
    """Return the highest index of a log that is held, also if it came alone; -1 of none."""
    found = conn.execute("SELECT max(idx) FROM entries WHERE log = ?", (log_id,)).fetchone()
    return -1 if found[0] is None else int(found[0])


def run_bytes(conn: Connection, log_id: int, start: int, end: int) -> int:
    """Return about how many bytes a run takes in a message: no less than its short form."""
    found = conn.execute(
        "SELECT coalesce(sum(length(raw) + coalesce(length(body), 0)), 0) FROM entries WHERE log = ? AND idx >= ? AND idx < ?",
        (log_id, start, end),
    ).fetchone()
    return int(found[0]) + 16 * (end - start) + RUN_OVERHEAD_BYTES


def run_end(conn: Connection, log_id: int, start: int, end: int, bytes_max: int) -> int:
    """Return up to where a run of entries stays within a number of bytes: one entry at least, `end` at most."""
    rows = conn.execute(
        "SELECT idx, length(raw) + coalesce(length(body), 0) FROM entries WHERE log = ? AND idx >= ? AND idx < ? ORDER BY idx",
        (log_id, start, end),
    )
    total = 0
    for index, size in rows:
        total += size
        if total > bytes_max and index > start:
            return int(index)
    return end


def cases_behind(conn: Connection, log_id: int, start: int) -> list[int]:
    """Return the cases of which a log holds entries from an index on."""
    rows = conn.execute(
        "SELECT DISTINCT case_id FROM entries WHERE log = ? AND idx >= ? AND case_id IS NOT NULL ORDER BY case_id", (log_id, start)
    )
    return [row[0] for row in rows]


def branches(conn: Connection, log: LogId) -> list[LogRow]:
    """Return the rival branches of a log, in the order in which they were met."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM logs WHERE node = ? AND incarnation = ? AND branch <> x'' ORDER BY id",
        (log.node, log.incarnation),
    )
    return [_row(row) for row in rows]


def leaves_between(conn: Connection, log_id: int, start: int, end: int) -> list[bytes]:
    """Return the leaf hashes of a run, computed from the header bytes on disk."""
    rows = conn.execute(
        "SELECT raw FROM entries WHERE log = ? AND idx >= ? AND idx < ? ORDER BY idx", (log_id, start, end)
    )
    return [hash_header(row[0]) for row in rows]


def history_leaves(conn: Connection, row: LogRow, start: int, end: int) -> list[bytes]:
    """Return the leaf hashes of a run; those of a rival branch from before it parts are the log's own."""
    if start >= row.start:
        return leaves_between(conn, row.id, start, end)
    trunk = find_log(conn, row.log)
    shared = leaves_between(conn, trunk.id, start, min(row.start, end)) if trunk is not None else []
    return shared + leaves_between(conn, row.id, row.start, end)


def range_at(conn: Connection, row: LogRow, size: int) -> merkle.CompactRange:
    """Return the compact range over the beginning of a log held whole, computed from its entries."""
    compact = merkle.CompactRange(0, ())
    for start in range(0, size, 10_000):
        compact = compact.append_many(history_leaves(conn, row, start, min(size, start + 10_000)))
    return compact


def root_at(conn: Connection, row: LogRow, size: int) -> bytes:
    """Return the root at an earlier size of a log held whole: from a checkpoint, else computed."""
    if size == row.size:
        return row.root
    signed = checkpoint_at(conn, row.id, size)
    if signed is not None:
        return decode_checkpoint(signed.checkpoint).root
    return range_at(conn, row, size).root() if size else b""


def without_bodies(conn: Connection, log_id: int, start: int, end: int) -> list[int]:
    """Return the indexes in a run under which no body is held."""
    rows = conn.execute(
        "SELECT idx FROM entries WHERE log = ? AND idx >= ? AND idx < ? AND body IS NULL ORDER BY idx", (log_id, start, end)
    )
    return [row[0] for row in rows]


def move_entry(conn: Connection, entry_id: int, log_id: int) -> None:
    """Give an entry that came in a bundle to the branch to which it belongs; its path goes along."""
    conn.execute("UPDATE entries SET log = ? WHERE id = ?", (log_id, entry_id))


def entries_of_cases(conn: Connection, case_ids: Sequence[int]) -> dict[int, list[EntryRow]]:
    """Return all entries of some cases, in order of arrival."""
    found: dict[int, list[EntryRow]] = {case_id: [] for case_id in case_ids}
    for begin in range(0, len(case_ids), 500):
        part = list(case_ids[begin : begin + 500])
        rows = conn.execute(
            f"SELECT id, log, idx, case_id, raw, body FROM entries WHERE case_id IN ({marks(len(part))}) ORDER BY id",
            part,
        )
        for row in rows:
            found[row[3]].append(EntryRow(*row))
    return found


def known_of(
    conn: Connection, log_id: int, indexes: Iterable[int], homes: Collection[int] = ()
) -> dict[int, Known]:
    """Return what rebuilding needs of earlier entries of a log (see `protocol.log.Known`).

    Args:
        homes: further logs in which an opening counts as one of this log: those that share a branch's beginning.
    """
    wanted = sorted(indexes)
    found: dict[int, Known] = {}
    for begin in range(0, len(wanted), 500):
        part = wanted[begin : begin + 500]
        rows = conn.execute(
            "SELECT e.idx, e.raw, c.key, c.salt, c.open_log FROM entries e JOIN cases c ON c.id = e.case_id "
            f"WHERE e.log = ? AND e.idx IN ({marks(len(part))})",
            [log_id, *part],
        )
        for index, raw, key, salt, open_log in rows:
            found[index] = Known(hash_header(raw)[:LINK_BYTES], key, salt if open_log == log_id or open_log in homes else None)
    return found


def stored_run(conn: Connection, log_id: int, start: int, end: int) -> list[Stored]:
    """Return a run as `protocol.log.shorten` takes it: with each predecessor's distance in the same log."""
    rows = entries_between(conn, log_id, start, end)
    cases = _cases_by_id(conn, {row.case_id for row in rows if row.case_id is not None})
    headers = [_header_or_none(row.raw) for row in rows]
    places = {hash_header(row.raw)[:LINK_BYTES]: row.index for row in rows}
    missing = {
        row.case_id
        for row, header in zip(rows, headers, strict=True)
        if header is not None and header.prev is not None and header.prev not in places and row.case_id is not None
    }
    places.update(_earlier_places(conn, log_id, start, missing))
    salted: set[int] = set()  # entries of the run after which a receiver knows their case's salt
    return [_stored(row, header, cases, places, (log_id, start, salted)) for row, header in zip(rows, headers, strict=True)]


def forked_run(conn: Connection, log_id: int, start: int, end: int) -> list[Stored]:
    """Return a run that begins before its branch parts from the log's trunk: every entry written whole."""
    branch = load_log(conn, log_id)
    trunk = find_log(conn, branch.log)
    shared = entries_between(conn, trunk.id, start, branch.start) if trunk is not None else []
    rows = [*shared, *entries_between(conn, log_id, branch.start, end)]
    return [Stored(row.raw, row.body, None, None, None) for row in rows]


def _stored(
    row: EntryRow,
    header: Header | None,
    cases: Mapping[int, tuple[bytes, bytes | None, int | None]],
    places: Mapping[bytes, int],
    run: tuple[int, int, set[int]],
) -> Stored:
    """Return one entry of a run. A receiver has a case's salt by counting back: to its opening, or to an entry before the run."""
    log_id, start, salted = run
    if header is not None and header.type == "open":
        salted.add(row.index)
    if header is None or header.prev is None or row.case_id is None:
        return Stored(row.raw, row.body, header, None, None)
    key, salt, open_log = cases[row.case_id]
    place = places.get(header.prev)
    if place is None or place >= row.index or header.case != key:
        return Stored(row.raw, row.body, header, None, None)
    if open_log != log_id or (place >= start and place not in salted):
        return Stored(row.raw, row.body, header, row.index - place, None)
    salted.add(row.index)
    return Stored(row.raw, row.body, header, row.index - place, salt)


def _cases_by_id(conn: Connection, ids: set[int]) -> dict[int, tuple[bytes, bytes | None, int | None]]:
    found = {}
    wanted = sorted(ids)
    for begin in range(0, len(wanted), 500):
        part = wanted[begin : begin + 500]
        for row in conn.execute(f"SELECT id, key, salt, open_log FROM cases WHERE id IN ({marks(len(part))})", part):
            found[row[0]] = (row[1], row[2], row[3])
    return found


def _earlier_places(conn: Connection, log_id: int, before: int, case_ids: set[int]) -> Iterator[tuple[bytes, int]]:
    wanted = sorted(case_ids)
    for begin in range(0, len(wanted), 500):
        part = wanted[begin : begin + 500]
        rows = conn.execute(
            f"SELECT raw, idx FROM entries WHERE case_id IN ({marks(len(part))}) AND log = ? AND idx < ?",
            [*part, log_id, before],
        )
        for raw, index in rows:
            yield hash_header(raw)[:LINK_BYTES], index


def _header_or_none(raw: bytes) -> Header | None:
    try:
        return decode_header(raw)
    except DecodeError:
        return None


# --- checkpoints


def save_checkpoint(
    conn: Connection, log_id: int, checkpoint: Checkpoint, signed: Signed, *, whole: bool = True
) -> int:
    """Keep a signed checkpoint as it came; the same one again is the same row.

    Args:
        whole: its root was compared with the log's own; else it came with a bundle, and says nothing of what is held whole.
    """
    key = (log_id, checkpoint.size, checkpoint.start, signed.signature)
    done = conn.execute(
        "INSERT INTO checkpoints (log, size, start, signature, raw, whole) VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        (*key, signed.checkpoint, whole),
    )
    if done.rowcount:
        return int(done.lastrowid or 0)
    found = conn.execute("SELECT id FROM checkpoints WHERE log = ? AND size = ? AND start = ? AND signature = ?", key).fetchone()
    if whole:
        conn.execute("UPDATE checkpoints SET whole = 1 WHERE id = ?", found)
    return int(found[0])


def checkpoint_covering(conn: Connection, log_id: int, index: int) -> tuple[int, Checkpoint, Signed] | None:
    """Return the first checkpoint whose run holds an index of a log held whole."""
    found = conn.execute(
        "SELECT id, raw, signature FROM checkpoints WHERE log = ? AND size > ? AND start <= ? AND whole ORDER BY size, start LIMIT 1",
        (log_id, index, index),
    ).fetchone()
    return (found[0], decode_checkpoint(found[1]), Signed(found[1], found[2])) if found else None


def checkpoint_of(conn: Connection, log_id: int, index: int) -> Signed | None:
    """Return a checkpoint that proves the entry held under an index: its bundle's, or one of the whole log."""
    found = conn.execute(
        "SELECT c.raw, c.signature FROM entries e JOIN paths p ON p.entry = e.id JOIN checkpoints c ON c.id = p.checkpoint "
        "WHERE e.log = ? AND e.idx = ?",
        (log_id, index),
    ).fetchone()
    if found is not None:
        return Signed(*found)
    covering = checkpoint_covering(conn, log_id, index)
    return covering[2] if covering is not None else None


def checkpoint_at(conn: Connection, log_id: int, size: int) -> Signed | None:
    """Return a checkpoint of exactly this size of a log held whole, if there is one."""
    found = conn.execute(
        "SELECT raw, signature FROM checkpoints WHERE log = ? AND size = ? AND whole LIMIT 1", (log_id, size)
    ).fetchone()
    return Signed(*found) if found else None


def newest_checkpoint(conn: Connection, log_id: int, size_max: int = limits.LOG_SIZE_MAX) -> Signed | None:
    """Return the longest checkpoint held of a log, of at most a size; also one that came with a bundle only."""
    found = conn.execute(
        "SELECT raw, signature FROM checkpoints WHERE log = ? AND size <= ? ORDER BY size DESC LIMIT 1", (log_id, size_max)
    ).fetchone()
    return Signed(*found) if found else None


def checkpoints_from(conn: Connection, log_id: int, size: int, limit: int = 1_000) -> list[Signed]:
    """Return the checkpoints that lead on from a size to where the log is held whole, by size."""
    rows = conn.execute(
        "SELECT raw, signature FROM checkpoints WHERE log = ? AND size > ? AND whole ORDER BY size, start LIMIT ?",
        (log_id, size, limit),
    )
    return [Signed(*row) for row in rows]


def checkpoints_of_size(conn: Connection, log_id: int, size: int) -> list[Signed]:
    """Return all checkpoints of exactly this size, also those that were not compared with the log."""
    rows = conn.execute("SELECT raw, signature FROM checkpoints WHERE log = ? AND size = ? ORDER BY id", (log_id, size))
    return [Signed(*row) for row in rows]


def uncompared(conn: Connection, log_id: int, size_max: int, limit: int) -> list[Signed]:
    """Return checkpoints up to a size that were not compared with the log, which is held whole by now."""
    rows = conn.execute(
        "SELECT raw, signature FROM checkpoints WHERE log = ? AND size <= ? AND NOT whole ORDER BY size DESC LIMIT ?",
        (log_id, size_max, limit),
    )
    return [Signed(*row) for row in rows]


def leading_on(checkpoints: Iterable[Signed], start: int) -> list[Signed]:
    """Return those checkpoints that cover a log from a size on, each part once."""
    found, size = [], start
    for signed in checkpoints:
        checkpoint = decode_checkpoint(signed.checkpoint)
        if checkpoint.start <= size < checkpoint.size:
            found.append(signed)
            size = checkpoint.size
    return found


def save_paths(conn: Connection, rows: list[tuple[int, int, bytes]]) -> None:
    """Keep the paths of entries that came in bundles: (entry id, checkpoint id, hashes)."""
    insert_rows(conn, "INSERT INTO paths (entry, checkpoint, path) VALUES", list(rows))


def forget_paths(conn: Connection, entry_ids: Sequence[int]) -> None:
    """Drop the paths of entries whose logs are held whole by now."""
    conn.executemany("DELETE FROM paths WHERE entry = ?", [(entry_id,) for entry_id in entry_ids])


def save_evidence(conn: Connection, log_id: int, index: int, first: bytes, second: bytes, seen_at: int) -> bool:
    """Keep two signed checkpoints that disagree; tells whether they were not known before."""
    done = conn.execute(
        "INSERT INTO evidence (log, idx, first, second, seen_at) VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING",
        (log_id, index, first, second, seen_at),
    )
    return done.rowcount > 0


def save_body(conn: Connection, entry_id: int, body: bytes) -> None:
    """Keep the body of an entry that came without; the caller has checked it."""
    conn.execute("UPDATE entries SET body = ? WHERE id = ? AND body IS NULL", (body, entry_id))


# --- receipts and acknowledgements


def save_receipts(conn: Connection, rows: list[tuple[int, str, int, int, int]]) -> None:
    """Keep receipts: (log, hub, size, received at, entry)."""
    insert_rows(
        conn, "INSERT INTO receipts (log, hub, size, at, entry) VALUES", list(rows), "ON CONFLICT DO NOTHING"
    )


def receipts_of(conn: Connection, log_id: int) -> list[tuple[str, int, int]]:
    """Return (hub, size, received at) of a log, by hub and size."""
    return list(conn.execute("SELECT hub, size, at FROM receipts WHERE log = ? ORDER BY hub, size", (log_id,)))


def receipted_by(conn: Connection, log_id: int, hub: str) -> int:
    """Return up to which size a hub receipted a log in the incarnation in which it states receipts now; 0 = never.

    What it receipted in an earlier one it may have lost: it was put back from an old copy since.
    """
    found = conn.execute(
        "SELECT max(r.size) FROM receipts r JOIN entries e ON e.id = r.entry WHERE r.log = ?1 AND r.hub = ?2 AND e.log = "
        "(SELECT e.log FROM receipts r JOIN entries e ON e.id = r.entry WHERE r.hub = ?2 ORDER BY r.at DESC, r.entry DESC LIMIT 1)",
        (log_id, hub),
    ).fetchone()
    return int(found[0] or 0)


def newest_receipts(conn: Connection, log_id: int) -> list[tuple[str, int, int, int]]:
    """Return (hub, size, received at, entry) of the newest receipt per hub for a log."""
    return list(
        conn.execute(
            "SELECT hub, size, at, entry FROM receipts r WHERE log = ? AND size = "
            "(SELECT max(size) FROM receipts WHERE log = r.log AND hub = r.hub)",
            (log_id,),
        )
    )


def newest_receipts_by(conn: Connection, log_id: int, hubs: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return (entry id, log id, index) of the entries in which these hubs receipted most of a log."""
    found = []
    for hub in hubs:
        row = conn.execute(
            "SELECT e.id, e.log, e.idx FROM receipts r JOIN entries e ON e.id = r.entry WHERE r.log = ? AND r.hub = ? "
            "ORDER BY r.size DESC LIMIT 1",
            (log_id, hub),
        ).fetchone()
        if row is not None:
            found.append(row)
    return found


def acks(conn: Connection) -> dict[int, int]:
    """Return what the parent has acknowledged: log id → size."""
    return dict(conn.execute("SELECT log, size FROM acks").fetchall())


def save_ack(conn: Connection, log_id: int, size: int) -> None:
    """Record what the parent acknowledged; it may also fall, when the parent lost something."""
    conn.execute(
        "INSERT INTO acks (log, size) VALUES (?,?) ON CONFLICT (log) DO UPDATE SET size = excluded.size", (log_id, size)
    )


# --- meta and cursors


def called_before(conn: Connection, at: int) -> set[str]:
    """Return the nodes that called here before a time, ms, and not since."""
    return {row[0] for row in conn.execute("SELECT node FROM contacts WHERE at < ?", (at,))}


def get_meta(conn: Connection, name: str) -> bytes | None:
    """Return a fact about this store."""
    found = conn.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return found[0] if found else None


def set_meta(conn: Connection, name: str, value: bytes) -> None:
    """Record a fact about this store."""
    conn.execute(
        "INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def drop_meta(conn: Connection, name: str) -> None:
    """Forget a fact about this store, if it is there."""
    conn.execute("DELETE FROM meta WHERE name = ?", (name,))


def get_cursor(conn: Connection, name: str) -> tuple[bytes, int]:
    """Return a pull cursor: (hub incarnation, position); (b"", 0) before the first pull."""
    found = conn.execute("SELECT incarnation, position FROM cursors WHERE name = ?", (name,)).fetchone()
    return (found[0], found[1]) if found else (b"", 0)


def set_cursor(conn: Connection, name: str, incarnation: bytes, position: int) -> None:
    """Record how far a cursor has come."""
    conn.execute(
        "INSERT INTO cursors (name, incarnation, position) VALUES (?,?,?) ON CONFLICT (name) "
        "DO UPDATE SET incarnation = excluded.incarnation, position = excluded.position",
        (name, incarnation, position),
    )
