"""Cases of which a body was lost on the way, or was false: which to fetch again, remembered until they are whole.

A header that commits to a body stands without it, so nothing waits for it; but people read bodies. The list is short
and bounded: it is tried once a session (`node.uplink.pulling`), and the oldest is given up for the newest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from node.store import cases, logs
from node.store.database import Connection
from protocol.errors import DecodeError
from protocol.log import decode_header

BODILESS: Final = "bodiless"  # in meta: case keys, one behind the other
BODILESS_MAX: Final = 256  # cases
KEY_BYTES: Final = 16


def load_bodiless(conn: Connection) -> list[bytes]:
    """Return the keys of cases in which a body is missing that a header commits to, the oldest first."""
    packed = logs.get_meta(conn, BODILESS) or b""
    return [packed[begin : begin + KEY_BYTES] for begin in range(0, len(packed), KEY_BYTES)]


def note_bodiless(conn: Connection, keys: Iterable[bytes]) -> None:
    """Remember cases to fetch again: part of the unit of work that found out."""
    held = load_bodiless(conn)
    new = sorted(set(keys) - set(held))
    if new:
        logs.set_meta(conn, BODILESS, b"".join([*held, *new][-BODILESS_MAX:]))


def forget_whole(conn: Connection, key: bytes) -> bool:
    """Forget a case that was fetched, if every body is here; returns whether it is whole."""
    row = cases.load_by_keys(conn, [key]).get(key)
    entries = logs.entries_of_cases(conn, [row.id])[row.id] if row is not None else []
    if any(one.body is None and _has_body(one.raw) for one in entries):
        return False
    logs.set_meta(conn, BODILESS, b"".join(one for one in load_bodiless(conn) if one != key))
    return True


def _has_body(raw: bytes) -> bool:
    try:
        return decode_header(raw).body is not None
    except DecodeError:
        return False
