"""Files that are carried by hand, in test code: written and taken in by the code of the commands, without a disk between."""

from __future__ import annotations

from hub import carrying as hub_side
from node import carrying
from node.carrying import Taken
from node.node import Node
from node.store.database import Connection
from protocol import carry


async def write(node: Node, target: str | None = None, *, whole: bool = False) -> bytes:
    """Return a file for another node; for the parent if none is named."""
    to = target or node.parent or ""
    cargo = hub_side._cargo(node, to, whole=whole)
    return b"".join([part.data async for part in carrying.write_file(node, to, cargo)])


def split(file: bytes) -> tuple[bytes, list[bytes]]:
    """Return a file's opening, and its sealed pieces."""
    size = carry.opening_bytes(file[: carry.START_BYTES])
    opening, rest, pieces = file[:size], file[size:], []
    while rest:
        end = carry.LENGTH_BYTES + carry.piece_bytes(rest[: carry.LENGTH_BYTES])
        pieces.append(rest[carry.LENGTH_BYTES : end])
        rest = rest[end:]
    return opening, pieces


async def take(node: Node, file: bytes) -> list[Taken]:
    """Take a whole file in."""
    opening, pieces = split(file)
    taken = [await hub_side.take_piece(node, opening, index, piece) for index, piece in enumerate(pieces)]
    assert [one.end for one in taken] == [False] * (len(taken) - 1) + [True]
    return taken


def added_up(taken: list[Taken]) -> dict[str, int]:
    """Return the sums of what became of a file's pieces, of what is not 0."""
    sums = {name: sum(getattr(one, name) for one in taken) for name in ("entries", "known", "registers", "acked", "stated", "forks")}
    sums["receipts"] = sum(len(one.receipts) for one in taken)
    return {name: value for name, value in sums.items() if value}


def held(conn: Connection) -> list[tuple[object, ...]]:
    """Return every row of what a node holds, but for what it may compute again."""
    tables = ("entries", "logs", "receipts", "acks", "cursors", "cases", "feed", "evidence", "registers", "facts", "meta")
    return [(table, *row) for table in tables for row in conn.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()]
