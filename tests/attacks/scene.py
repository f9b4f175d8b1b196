"""A city, two districts below it, and a case that one of them took in; and hands that write what the office would refuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node import setup
from node.ledger import Changes, Draft
from node.node import Node
from node.store.database import Connection, InlineDatabase
from tests.node.building import EAST, WEST, SeededEntropy, carry, enrol, found, furnish, hire, opened, show


@dataclass
class Scene:
    """Three machines of one network; `case` was opened in the east, and all three hold it."""

    folder: Path
    city: Node
    east: Node
    west: Node
    case: str
    key: bytes

    async def everywhere(self) -> list[dict[str, Any]]:
        """Bring what each holds to all others, and return the three pages."""
        nodes = (self.city, self.east, self.west)
        for one in nodes:
            await carry(one, self.city) if one is not self.city else None
        for one in (self.east, self.west):
            await carry(self.city, one)
        return [await show(one, self.case) for one in nodes]

    async def twin_of_east(self) -> Node:
        """Return a second machine with the eastern district's disk and key: a clone, or the same one restored later."""
        east, path = self.east, self.folder / "twin.sqlite3"
        await east.store.own(east.ledger.seal)
        await east.write(lambda conn, _: east.ledger.save_seals(conn))
        await east.store.own(lambda conn: conn.execute("VACUUM INTO ?", (str(path),)))
        store = InlineDatabase(path)
        return await setup.node_of(store, east.ledger.identity.key, east.clock, SeededEntropy(77))


async def scene(folder: Path) -> Scene:
    city = await furnish(await found(folder / "city"))
    east = await hire(await enrol(folder / EAST, city, EAST))
    west = await hire(await enrol(folder / WEST, city, WEST, seed=5))
    await carry(city, east)
    case = await opened(east)
    made = Scene(folder, city, east, west, case, await key_of(east, case))
    await made.everywhere()
    return made


async def key_of(node: Node, case: str) -> bytes:
    row = await node.read(lambda conn: conn.execute("SELECT key FROM cases WHERE number = ?", (case,)).fetchone())
    return bytes(row[0])


async def tip(node: Node, case: str) -> bytes:
    """Return the link of the last entry of a case's line, as a page shows it."""
    spine = [one for one in (await show(node, case))["timeline"] if one["effect"] == "applied" and one["type"] in SPINE]
    return bytes.fromhex(spine[-1]["entry"])


SPINE = {"open", "accept", "notice", "offer", "take", "return", "reclaim", "decide", "suspend", "resume", "extend", "dispatch", "finish"}


async def states(node: Node, *drafts: Draft) -> None:
    """Write entries into a node's own log, past everything that its office would refuse."""

    def write(conn: Connection, changes: Changes) -> None:
        node.ledger.append(conn, list(drafts), changes)

    await node.write(write)


def verdict(page: dict[str, Any], author: str, kind: str) -> tuple[str, str]:
    """Return (effect, reason) of the last entry of an author and type."""
    found = [one for one in page["timeline"] if one["node"] == author and one["type"] == kind]
    return found[-1]["effect"], found[-1]["reason"]
