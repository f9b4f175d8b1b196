"""`tongban run` from start to drain: ready when it serves, and ended within seconds, with everything kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hub import commands, service
from hub.service import Ready
from node import local_client
from node.command import Claim, Command
from node.config import Config, Listen
from node.folder import Folder
from node.store.database import Database
from node.system import SystemClock, SystemEntropy
from protocol.errors import StoreBusy
from tests.node.building import CITY, EAST


@asynccontextmanager
async def running(folder: Folder, config: Config | None = None) -> AsyncIterator[Ready]:
    """Run a node until the block ends; it must end within ten seconds."""
    told: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    settings = config or replace(Config(), listen=Listen(host="127.0.0.1", port=0))
    task = asyncio.create_task(service.run(folder, settings, SystemClock(), SystemEntropy(), told.set_result, stop))
    await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield await told
    finally:
        begun = time.monotonic()
        stop.set()
        await task
        assert time.monotonic() - begun < 10.0


async def founded(path: Path) -> Folder:
    folder = Folder(path)
    await commands.init(folder, SystemClock(), SystemEntropy(), division=CITY, name="乌鲁木齐市", listen=None, advertise=None)
    return folder


async def test_ready_says_where_the_node_is(tmp_path: Path) -> None:
    """The first line names node, address and process; port 0 becomes a real one."""
    async with running(await founded(tmp_path / "city")) as ready:
        assert ready.as_dict()["ready"] is True
        assert ready.node == CITY
        assert ready.listen.startswith("127.0.0.1:")
        assert not ready.listen.endswith(":0")


async def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    """A second run on the folder is refused; after the first has ended it may."""
    folder = await founded(tmp_path / "city")
    async with running(folder):
        with pytest.raises(StoreBusy):
            async with running(folder):
                pass
    async with running(folder):
        pass


async def test_a_hub_states_its_address_once(tmp_path: Path) -> None:
    """Where it can be reached is an entry, written again only when it changes."""
    folder = await founded(tmp_path / "city")
    port = 0
    for _ in range(2):
        config = replace(Config(), listen=Listen(host="127.0.0.1", port=port))
        async with running(folder, config) as ready:
            port = int(ready.listen.rpartition(":")[2])
    store = await Database.open(folder.store)
    rows = await store.read(lambda conn: conn.execute("SELECT count(*) FROM facts").fetchone()[0])
    await store.close()
    assert rows == 2  # the genesis, and one address


async def test_a_child_joins_works_and_syncs_on_real_sockets(tmp_path: Path) -> None:
    """Two services: invited, joined with a code, everything written is acknowledged; the hub's end does not hang the child."""
    city, east = await founded(tmp_path / "city"), Folder(tmp_path / "east")
    async with running(city):
        code = await _ask(city, "invite", {"node": EAST, "name": "天山区"})
        joined = await commands.join(
            east, SystemClock(), SystemEntropy(), code=str(code["code"]), listen=None, advertise=None, proxy=None, timeout_s=10.0
        )
        assert (joined["node"], joined["parent"]) == (EAST, CITY)
        async with running(east):
            await _ask(east, "officer.add", {"id": "1001", "name": "张三"})
            done = await _ask(east, "sync", {"timeout_s": 10.0})
            assert done["pending"] == 0


async def _ask(folder: Folder, name: str, params: dict[str, object]) -> dict[str, object]:
    """Give a command to a running node, over its local API."""
    api = folder.load_api()
    assert api is not None
    answers: list[object] = []

    class Sink:
        def row(self, value: object) -> None:
            answers.append(value)

        def value(self, value: object) -> None:
            answers.append(value)

    await asyncio.to_thread(local_client.call, api, Command(name, params, Claim(None, None, None)), Sink(), 20.0)
    found = answers[0]
    assert isinstance(found, dict)
    return found
