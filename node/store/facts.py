"""Rule entries and registers in SQL: which facts are held, and which register took them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node.store.database import Connection, insert_rows
from protocol.log import decode_header, hash_header
from protocol.register import Fact

LINK_BYTES: Final = 16  # half of a hash
BEHIND_A_CUT: Final = -1  # the number of no register
_SELECT: Final = "SELECT f.leaf, e.raw, e.body FROM facts f JOIN entries e ON e.id = f.entry "


def save(conn: Connection, rows: list[tuple[int, bytes]]) -> None:
    """Remember rule entries: (entry id, leaf hash). A fact restated at another place is the same fact."""
    insert_rows(conn, "INSERT INTO facts (entry, leaf) VALUES", list(rows), "ON CONFLICT DO NOTHING")


def find(conn: Connection, leaf: bytes) -> Fact | None:
    """Return a rule entry by its leaf hash."""
    return _fact(conn.execute(_SELECT + "WHERE f.leaf = ?", (leaf,)).fetchone())


def find_by_link(conn: Connection, link: object) -> Fact | None:
    """Return a rule entry by its link, as a header names it; None for what is no link."""
    if not isinstance(link, bytes) or len(link) != LINK_BYTES:
        return None
    between = (link + b"\x00" * 16, link + b"\xff" * 16)
    return _fact(conn.execute(_SELECT + "WHERE f.leaf BETWEEN ? AND ?", between).fetchone())


def place_of(conn: Connection, leaf: bytes) -> tuple[int, int] | None:
    """Return (log id, index) of a rule entry."""
    found = conn.execute("SELECT e.log, e.idx FROM facts f JOIN entries e ON e.id = f.entry WHERE f.leaf = ?", (leaf,)).fetchone()
    return (found[0], found[1]) if found else None


def set_aside(conn: Connection, leaves: Sequence[bytes]) -> None:
    """Let no register take facts in: they stand behind a cut of their author's key."""
    conn.executemany("UPDATE facts SET number = ? WHERE leaf = ?", [(BEHIND_A_CUT, leaf) for leaf in leaves])


def _fact(found: tuple[bytes, bytes, bytes | None] | None) -> Fact | None:
    return Fact(found[0], decode_header(found[1]), found[2]) if found else None


def unregistered(conn: Connection, limit: int, bytes_max: int) -> list[tuple[bytes, int]]:
    """Return (leaf hash, log id) of facts that no register took in yet, in order of arrival; one at least, if there is any.

    Args:
        bytes_max: of headers and bodies together.
    """
    rows = conn.execute(
        "SELECT f.leaf, e.log, length(e.raw) + coalesce(length(e.body), 0) FROM facts f JOIN entries e ON e.id = f.entry "
        "WHERE f.number IS NULL ORDER BY f.entry LIMIT ?",
        (limit,),
    )
    found: list[tuple[bytes, int]] = []
    for leaf, log_id, size in rows:
        bytes_max -= size
        if found and bytes_max < 0:
            break
        found.append((leaf, log_id))
    return found


def count_unregistered(conn: Connection) -> int:
    """Return how many facts no register took in yet."""
    return int(conn.execute("SELECT count(*) FROM facts WHERE number IS NULL").fetchone()[0])


def unregistered_facts(conn: Connection) -> list[Fact]:
    """Return the facts that no register took in yet."""
    rows = conn.execute(_SELECT + "WHERE f.number IS NULL ORDER BY f.entry").fetchall()
    return [fact for row in rows if (fact := _fact(row)) is not None]


def save_register(conn: Connection, number: int, entry_id: int, taken: Sequence[bytes]) -> None:
    """Record a register and the facts that it takes in."""
    conn.execute("INSERT INTO registers (number, entry) VALUES (?, ?)", (number, entry_id))
    conn.executemany("UPDATE facts SET number = ? WHERE leaf = ?", [(number, leaf) for leaf in taken])


def load_registers(conn: Connection) -> list[tuple[int, Fact]]:
    """Return (number, entry) of all registers held, the genesis first."""
    rows = conn.execute(
        "SELECT r.number, e.raw, e.body FROM registers r JOIN entries e ON e.id = r.entry ORDER BY r.number"
    ).fetchall()
    return [(number, Fact(hash_header(raw), decode_header(raw), body)) for number, raw, body in rows]


def save_text(conn: Connection, leaf: bytes, body: bytes) -> None:
    """Keep a fact's body that came later; the caller has checked it."""
    conn.execute(
        "UPDATE entries SET body = ? WHERE body IS NULL AND id = (SELECT entry FROM facts WHERE leaf = ?)", (body, leaf)
    )


def registers_after(conn: Connection, number: int) -> list[tuple[int, tuple[int, int, int]]]:
    """Return (number, (entry id, log id, index)) of the registers behind a number, the genesis never, in order."""
    rows = conn.execute(
        "SELECT r.number, e.id, e.log, e.idx FROM registers r JOIN entries e ON e.id = r.entry WHERE r.number > ? "
        "ORDER BY r.number",
        (max(number, 0),),
    )
    return [(row[0], (row[1], row[2], row[3])) for row in rows]


def places_in(conn: Connection, number: int) -> list[tuple[int, int, int]]:
    """Return (entry id, log id, index) of the facts that a register takes in."""
    return conn.execute(
        "SELECT e.id, e.log, e.idx FROM facts f JOIN entries e ON e.id = f.entry WHERE f.number = ? ORDER BY e.id",
        (number,),
    ).fetchall()


def genesis_log(conn: Connection) -> int | None:
    """Return the log (by id) in which the genesis stands."""
    found = conn.execute("SELECT e.log FROM registers r JOIN entries e ON e.id = r.entry WHERE r.number = 0").fetchone()
    return found[0] if found else None


def find_register(conn: Connection, number: int) -> bytes | None:
    """Return the header of the register held under a number."""
    found = conn.execute("SELECT e.raw FROM registers r JOIN entries e ON e.id = r.entry WHERE r.number = ?", (number,)).fetchone()
    return found[0] if found else None
