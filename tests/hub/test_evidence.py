"""Evidence leaves a node as a file that proves by itself, wherever both heads are held."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub import commands as _commands  # noqa: F401 - registers the operations
from node import operations
from node.office import Act
from node.store import logs
from node.store.database import Connection
from protocol import codec, evidence
from protocol.errors import InputError, NotFound
from protocol.evidence import How
from tests.hub.calling import Caller, city_and_child
from tests.hub.test_app import opened, twin
from tests.node.building import EAST
from tests.node.test_clones import TREE, Twins, start_both
from tests.story import CITY, T1, V1
from tests.world import World


async def ask(caller: Caller, name: str, **params: object) -> Any:
    return await operations.run(caller.hub.node, name, params, Act())


async def forked(folder: Path, *, first: int = 1, second: int = 1) -> Caller:
    """Return a child whose hub holds two histories of it, of so many entries."""
    child = await city_and_child(folder)
    copy = await twin(child, folder)
    for caller, count in ((child, first), (copy, second)):
        for number in range(count):
            await opened(caller.node, f"甲{number}")
        await caller.push()
    return child


@pytest.mark.parametrize(("first", "second", "how"), [(1, 1, How.ROOTS), (1, 3, How.ENTRIES), (3, 1, How.ENTRIES)])
async def test_two_heads_under_one_index_become_a_file(tmp_path: Path, first: int, second: int, how: How) -> None:
    """Whether both are of one size or not: the file names the author and convinces without this node."""
    child = await forked(tmp_path, first=first, second=second)
    (row,) = await ask(child, "evidence.list")
    assert (row["node"], len(row["sizes"])) == (EAST, 2)
    made = await ask(child, "evidence.export", number=row["number"])
    found = evidence.verify(made["data"].encode())
    assert (found.node, found.how) == (EAST, how)
    assert found.network == child.node.ledger.identity.network
    assert found.incarnation == child.node.ledger.identity.incarnation
    assert list(found.sizes) == row["sizes"]


async def test_a_head_of_another_history_becomes_a_file(tmp_path: Path) -> None:
    """Where only the head of the second history is here: the longer one's own root at its size shows that it lies."""
    child = await forked(tmp_path)
    hub = child.hub.node

    def only_heads(conn: Connection) -> None:
        (row,) = conn.execute("SELECT log, second FROM evidence").fetchall()
        log = logs.load_log(conn, row[0])
        conn.execute("DELETE FROM evidence")
        longest = logs.checkpoints_from(conn, log.id, 0)[-1]
        logs.save_evidence(conn, log.id, 0, codec.encode([longest.checkpoint, longest.signature]), row[1], 0)

    await opened(child.node, "乙")
    await child.login()
    await child.push()
    await hub.store.write(only_heads)
    (row,) = await ask(child, "evidence.list")
    made = await ask(child, "evidence.export", number=row["number"])
    assert evidence.verify(made["data"].encode()).how is How.BEGINNING


async def test_what_cannot_be_proved_is_not_exported(tmp_path: Path) -> None:
    """No such number, only one head, or two that agree: said so, and no file is made."""
    child = await forked(tmp_path)
    hub = child.hub.node
    with pytest.raises(NotFound):
        await ask(child, "evidence.export", number=99)
    with pytest.raises(InputError):
        await ask(child, "evidence.export", number=0)
    await hub.store.write(lambda conn: conn.execute("UPDATE evidence SET second = first"))
    with pytest.raises(NotFound, match="cannot be proved"):
        await ask(child, "evidence.export", number=1)
    await hub.store.write(lambda conn: conn.execute("UPDATE evidence SET first = x''"))
    with pytest.raises(NotFound, match="only one head"):
        await ask(child, "evidence.export", number=1)


def test_a_fork_is_proved_by_every_hub_above(tmp_path: Path) -> None:
    """Two machines of one name sign one index twice: parent, district and root can each hand out the proof."""
    with World(5, tmp_path) as world:
        twins = Twins(world)

        async def tell() -> None:
            await twins.begin()
            await start_both(twins)
            await twins.until_suspected()
            for place in twins.both:
                await twins.open(place)
                await asyncio.sleep(3.0)
            await twins.until_above()
            for name in (T1, TREE[0][0], CITY):
                node = world.places[name].node
                rows: Any = await operations.run(node, "evidence.list", {}, Act())
                assert [row["node"] for row in rows] == [V1]
                made: Any = await operations.run(node, "evidence.export", {"number": rows[0]["number"]}, Act())
                assert evidence.verify(made["data"].encode()).node == V1

        world.run(tell())
