"""Case rows in SQL: a projection of entries, written one upsert per case and batch.

A row can always be made again from entries (`node.projection.rebuild`); nothing here is evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from node.store.database import Connection, insert_rows, marks

_COLUMNS = (
    "id, key, number, item, state, holder, opener, opened_at, delivered, simple, waiting, entries, salt, open_log, context"
)
_UPSERT = (
    "ON CONFLICT (id) DO UPDATE SET number = excluded.number, item = excluded.item, state = excluded.state, "
    "holder = excluded.holder, opener = excluded.opener, opened_at = excluded.opened_at, delivered = excluded.delivered, "
    "simple = excluded.simple, waiting = excluded.waiting, entries = excluded.entries, salt = excluded.salt, "
    "open_log = excluded.open_log, context = excluded.context"
)


@dataclass(slots=True)
class CaseRow:
    """A case as projected. Mutable: owned by the unit of work that loaded it."""

    id: int
    key: bytes
    number: str | None = None
    item: str | None = None
    state: str = "waiting"
    holder: str | None = None
    opener: str | None = None
    opened_at: int | None = None
    delivered: int = 0
    simple: int = 0
    waiting: int = 0
    entries: int = 0
    salt: bytes | None = None
    open_log: int | None = None
    context: bytes | None = None

    def values(self) -> tuple[object, ...]:
        """Return the columns in the table's order."""
        return (
            self.id,
            self.key,
            self.number,
            self.item,
            self.state,
            self.holder,
            self.opener,
            self.opened_at,
            self.delivered,
            self.simple,
            self.waiting,
            self.entries,
            self.salt,
            self.open_log,
            self.context,
        )


def next_case_id(conn: Connection) -> int:
    """Return the id of the next case to be met."""
    return int(conn.execute("SELECT coalesce(max(id), 0) + 1 FROM cases").fetchone()[0])


def load_by_keys(conn: Connection, keys: Iterable[bytes]) -> dict[bytes, CaseRow]:
    """Return the rows of those keys that are known."""
    found = {}
    wanted = list(keys)
    for begin in range(0, len(wanted), 500):
        part = wanted[begin : begin + 500]
        for row in conn.execute(f"SELECT {_COLUMNS} FROM cases WHERE key IN ({marks(len(part))})", part):
            found[row[1]] = CaseRow(*row)
    return found


def load_by_ids(conn: Connection, ids: Sequence[int]) -> list[CaseRow]:
    """Return rows by id."""
    found = []
    for begin in range(0, len(ids), 500):
        part = list(ids[begin : begin + 500])
        found += [CaseRow(*row) for row in conn.execute(f"SELECT {_COLUMNS} FROM cases WHERE id IN ({marks(len(part))})", part)]
    return found


def save(conn: Connection, rows: Iterable[CaseRow]) -> None:
    """Write rows, new or changed."""
    insert_rows(conn, f"INSERT INTO cases ({_COLUMNS}) VALUES", [row.values() for row in rows], _UPSERT)


def waiting_ids(conn: Connection, limit: int = -1, after: int = 0) -> list[int]:
    """Return cases in which something is not here yet, behind a case; all of them without a limit."""
    found = conn.execute("SELECT id FROM cases WHERE waiting = 1 AND id > ? ORDER BY id LIMIT ?", (after, limit))
    return [row[0] for row in found]


TASK: Final = b"\xa4task"  # the type, as a header spells it


def ids_of_author(conn: Connection, node: str, *, simple_too: bool) -> list[int]:
    """Return the cases in which a node stated something; without those that are one plain line, if so asked.

    A plain line in which it answered a task is always among them: the row keeps that answer's place in its author's order.
    """
    rows = conn.execute(
        "SELECT DISTINCT c.id FROM logs l JOIN entries e ON e.log = l.id JOIN cases c ON c.id = e.case_id "
        "WHERE l.node = ? AND (? OR c.simple = 0 OR instr(e.raw, ?)) ORDER BY c.id",
        (node, simple_too, TASK),
    )
    return [row[0] for row in rows]


def resolve(conn: Connection, text: str) -> list[CaseRow]:
    """Return the cases that a number, a key or a key's beginning (≥ 8 hex digits) may mean; two suffice to refuse."""
    rows = [CaseRow(*row) for row in conn.execute(f"SELECT {_COLUMNS} FROM cases WHERE number = ? LIMIT 3", (text,))]
    if rows or not _is_key_prefix(text):
        return rows
    low = bytes.fromhex(text[: len(text) // 2 * 2])
    high = low + b"\xff" * (16 - len(low))
    found = conn.execute(f"SELECT {_COLUMNS} FROM cases WHERE key BETWEEN ? AND ? LIMIT 500", (low, high))
    return [row for row in (CaseRow(*one) for one in found) if row.key.hex().startswith(text.lower())]


def _is_key_prefix(text: str) -> bool:
    return 8 <= len(text) <= 32 and all(char in "0123456789abcdefABCDEF" for char in text)


def is_number_known(conn: Connection, number: str) -> bool:
    """Tell whether a case with this printed number is here."""
    return conn.execute("SELECT 1 FROM cases WHERE number = ? LIMIT 1", (number,)).fetchone() is not None


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list asks for; None = everything. `after`: the id of the last case of the page before."""

    state: str | None = None
    holder: str | None = None
    item: str | None = None
    grams: str | None = None
    after: int | None = None
    limit: int = 100


def search(conn: Connection, wanted: Filter) -> list[CaseRow]:
    """Return cases, newest first."""
    conditions: list[str] = []
    values: list[object] = []
    for column, value in (("state", wanted.state), ("holder", wanted.holder), ("item", wanted.item)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if wanted.after is not None:
        conditions.append("id < ?")
        values.append(wanted.after)
    if wanted.grams is not None:
        conditions.append("id IN (SELECT rowid FROM names WHERE names MATCH ?)")
        values.append(wanted.grams)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = conn.execute(f"SELECT {_COLUMNS} FROM cases {where} ORDER BY id DESC LIMIT ?", [*values, wanted.limit])
    return [CaseRow(*row) for row in rows]


def save_names(conn: Connection, rows: list[tuple[int, str]]) -> None:
    """Make names findable: (case id, grams)."""
    insert_rows(conn, "INSERT INTO names (rowid, grams) VALUES", list(rows))


def replace_name(conn: Connection, case_id: int, old: str, new: str) -> None:
    """Replace one case's grams, for a corrected name."""
    conn.execute("INSERT INTO names (names, rowid, grams) VALUES ('delete', ?, ?)", (case_id, old))
    save_names(conn, [(case_id, new)])


def save_sources(conn: Connection, rows: list[tuple[str, int]]) -> None:
    """Remember events taken in from another system: (source id, entry id)."""
    insert_rows(conn, "INSERT INTO sources (source, entry) VALUES", list(rows), "ON CONFLICT DO NOTHING")


def known_sources(conn: Connection, sources: Sequence[str]) -> set[str]:
    """Return those source ids that were taken in already."""
    found: set[str] = set()
    for begin in range(0, len(sources), 500):
        part = list(sources[begin : begin + 500])
        found.update(row[0] for row in conn.execute(f"SELECT source FROM sources WHERE source IN ({marks(len(part))})", part))
    return found


def find_source(conn: Connection, source: str) -> int | None:
    """Return the entry that took in an event of another system, if one did."""
    found = conn.execute("SELECT entry FROM sources WHERE source = ?", (source,)).fetchone()
    return found[0] if found else None


def clear(conn: Connection) -> None:
    """Empty every projection; entries stay. The salts go too: they come from entries."""
    conn.execute("DELETE FROM sources")
    conn.execute("INSERT INTO names (names) VALUES ('delete-all')")
    conn.execute(
        "UPDATE cases SET number = NULL, item = NULL, state = 'waiting', holder = NULL, opener = NULL, opened_at = NULL, "
        "delivered = 0, simple = 0, waiting = 0, entries = 0, salt = NULL, open_log = NULL, context = NULL"
    )
