"""What is remembered of cases whose bodies were lost: bounded, in order, forgotten when they are whole."""

from __future__ import annotations

from pathlib import Path

from node.mending import BODILESS_MAX, forget_whole, load_bodiless, note_bodiless
from node.node import Node
from node.store.database import Connection
from tests.hub.calling import city_and_child
from tests.node.building import ID_NUMBER, ask, hire


async def noted(node: Node, *keys: bytes) -> list[bytes]:
    """Note cases; return what is remembered then."""
    await node.write(lambda conn, _: note_bodiless(conn, keys))
    return await node.read(load_bodiless)


async def test_the_list_is_short_and_the_oldest_goes_first(tmp_path: Path) -> None:
    """A case is on the list once; of more than the bound the oldest are given up."""
    node = (await city_and_child(tmp_path)).node
    keys = [number.to_bytes(16, "big") for number in range(BODILESS_MAX + 2)]
    assert await noted(node, keys[1], keys[0]) == [keys[0], keys[1]]
    assert await noted(node, keys[1]) == [keys[0], keys[1]]
    assert await noted(node, *keys) == keys[2:]


async def test_a_case_is_forgotten_when_every_body_is_here(tmp_path: Path) -> None:
    """While a body is missing that a header commits to, the case stays on the list."""
    node = (await city_and_child(tmp_path)).node
    await hire(node)
    case = await ask(node, "case.open", item="permit", applicant="王伟", id_number=ID_NUMBER)
    key = bytes.fromhex(case["key"])
    await noted(node, key)

    def without_body(conn: Connection) -> bool:
        kept = conn.execute("SELECT id, body FROM entries WHERE case_id IS NOT NULL AND body IS NOT NULL").fetchone()
        conn.execute("UPDATE entries SET body = NULL WHERE id = ?", (kept[0],))
        whole = forget_whole(conn, key)
        conn.execute("UPDATE entries SET body = ? WHERE id = ?", (kept[1], kept[0]))
        return whole

    assert not await node.write(lambda conn, _: without_body(conn))
    assert await node.read(load_bodiless) == [key]
    assert await node.write(lambda conn, _: forget_whole(conn, key))
    assert await node.read(load_bodiless) == []
