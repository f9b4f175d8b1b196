"""The operations on evidence: what is kept here, and a file of it, with the chain of keys that a stranger needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node import evidence, operations
from node.chains import chain_of
from node.node import Node
from node.office import Act
from node.store.database import Connection
from protocol import limits
from protocol.problems import Fields


async def _list(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    operations.read_params("evidence.list", params, lambda _fields: None)
    return await node.read(evidence.listed)


async def _export(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    """Return an evidence file as text; it leaves through whoever asked."""
    number = operations.read_params("evidence.export", params, _number)

    def export(conn: Connection) -> dict[str, object]:
        author = evidence.author_of(conn, number)
        data = evidence.exported(node.ledger, conn, number, chain_of(node.ledger, conn, author))
        return {"number": number, "node": author, "data": data.decode("ascii")}

    return await node.store.own(export)  # where own entries can be sealed: the chain may hold some


def _number(fields: Fields) -> int:
    return fields.integer("number", 1, limits.LOG_SIZE_MAX)


operations.register("evidence.list", _list)
operations.register("evidence.export", _export)
