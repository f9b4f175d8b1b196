"""The bare loop: the least that a hub could do and still keep its word. One number to hold the product against.

It takes the very entries that a station has written, in packed sets of 500, each with a Merkle root signed once, into tables with
the product's columns and indexes. Per set: unpack, decode, leaf hashes, root, one verification, one multi-row INSERT of
entries, one UPSERT of case states, one commit with synchronous=FULL. No feed, no search, no fold, no HTTP. `raw` is only the
statements and the commit, rows ready made. `python -m bench.bare STORE.sqlite3` prints both in changes a second, of one run.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SET: Final = 500
SCHEMA: Final = """
CREATE TABLE entries (id INTEGER PRIMARY KEY, log INTEGER, idx INTEGER, case_id INTEGER, raw BLOB, body BLOB,
  UNIQUE (log, idx)) STRICT;
CREATE INDEX entries_case ON entries (case_id, id);
CREATE TABLE states (id INTEGER PRIMARY KEY, key BLOB UNIQUE, number TEXT, state TEXT, holder TEXT, at INTEGER) STRICT;
CREATE INDEX states_number ON states (number);
CREATE INDEX states_holder ON states (holder, state);
"""
ENTRY: Final = "INSERT INTO entries (id, log, idx, case_id, raw, body) VALUES "
STATE: Final = "INSERT INTO states (id, key, number, state, holder, at) VALUES "
UPSERT: Final = " ON CONFLICT (id) DO UPDATE SET state = excluded.state, holder = excluded.holder, at = excluded.at"
Entry = tuple[bytes, bytes]  # (header, body) as their author wrote them
Packed = tuple[bytes, bytes]  # (packed set, signature of its root)
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


def load_entries(store: Path) -> list[Entry]:
    """Return the case entries of a station's store, in their order."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as conn:
        return conn.execute("SELECT raw, body FROM entries WHERE case_id IS NOT NULL ORDER BY id").fetchall()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle root of some leaves (RFC 9162)."""
    level = list(leaves)
    while len(level) > 1:
        pairs = zip(level[0::2], level[1::2], strict=False)
        odd = [level[-1]] if len(level) % 2 else []
        level = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return level[0]


def leaves_of(entries: Sequence[Entry]) -> list[bytes]:
    """Return the leaf hashes of some entries."""
    return [hashlib.sha256(b"\x00" + raw).digest() for raw, _ in entries]


def pack(entries: Sequence[Entry], key: Ed25519PrivateKey) -> list[Packed]:
    """Return the sets as a station would have sent them."""
    sets = [entries[begin : begin + SET] for begin in range(0, len(entries), SET)]
    return [(zstandard.compress(msgspec.msgpack.encode(one), 1), key.sign(root_of(leaves_of(one)))) for one in sets]


def open_store(path: Path) -> sqlite3.Connection:
    """Open an empty store, as durable as the product's."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA wal_autocheckpoint = 4000")
    conn.executescript(SCHEMA)
    return conn


def insert(conn: sqlite3.Connection, head: str, rows: Sequence[tuple[Any, ...]], tail: str = "") -> None:
    """Insert a set's rows with one statement; SQLite takes 32,766 values."""
    marks = ",".join(["(" + ",".join("?" * len(rows[0])) + ")"] * len(rows))
    conn.execute(head + marks + tail, [value for row in rows for value in row])


def rows_of(entries: Sequence[Entry], leaves: Sequence[bytes], start: int, ids: dict[bytes, int]) -> tuple[list[Any], list[Any]]:
    """Return the rows of a set: of entries, and the newest state of each case."""
    stored, states = [], {}
    for index, ((raw, body), leaf) in enumerate(zip(entries, leaves, strict=True), start):
        header = _decode(raw)
        key = header[10] or leaf[:16]
        case_id = ids.setdefault(key, len(ids) + 1)
        stored.append((index + 1, 1, index, case_id, raw, body))
        states[case_id] = (case_id, key, header[15].get("number"), header[3], header[2], header[6])
    return stored, list(states.values())


def take_all(conn: sqlite3.Connection, sets: Sequence[Packed], public: Ed25519PublicKey) -> float:
    """Run the loop; returns seconds."""
    unzip, unpack = zstandard.ZstdDecompressor(), msgspec.msgpack.Decoder(list[Entry])
    ids: dict[bytes, int] = {}
    start, began = 0, time.perf_counter()
    for data, signature in sets:
        entries = unpack.decode(unzip.decompress(data))
        leaves = leaves_of(entries)
        public.verify(signature, root_of(leaves))
        write(conn, *rows_of(entries, leaves, start, ids))
        start += len(entries)
    return time.perf_counter() - began


def write(conn: sqlite3.Connection, entries: Sequence[Any], states: Sequence[Any]) -> None:
    """Write a set, durably."""
    conn.execute("BEGIN IMMEDIATE")
    insert(conn, ENTRY, entries)
    insert(conn, STATE, states, UPSERT)
    conn.execute("COMMIT")


def write_all(conn: sqlite3.Connection, entries: Sequence[Entry]) -> float:
    """Write ready-made rows only; returns seconds."""
    ids: dict[bytes, int] = {}
    sets = [(entries[at : at + SET], at) for at in range(0, len(entries), SET)]
    ready = [rows_of(one, leaves_of(one), at, ids) for one, at in sets]
    began = time.perf_counter()
    for rows in ready:
        write(conn, *rows)
    return time.perf_counter() - began


def measure(entries: Sequence[Entry], rounds: int = 5) -> dict[str, float]:
    """Return changes a second of the bare loop and of raw SQLite: medians of interleaved rounds."""
    key, bare, raw = Ed25519PrivateKey.generate(), [], []
    sets = pack(entries, key)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="tongban-bare-") as folder:
            bare.append(take_all(open_store(Path(folder, "bare.sqlite3")), sets, key.public_key()))
            raw.append(write_all(open_store(Path(folder, "raw.sqlite3")), entries))
    loop, rows = len(entries) / statistics.median(bare), len(entries) / statistics.median(raw)
    return {"bare_per_s": loop, "raw_per_s": rows, "ratio": loop / rows}


if __name__ == "__main__":
    print(json.dumps(measure(load_entries(Path(sys.argv[1])))))
