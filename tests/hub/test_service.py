"""`tongban run` from start to drain: ready when it serves, and ended within seconds, with everything kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
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
from node.config import Config, Listen, Metrics
from node.folder import Folder
from node.store.database import Database
from node.system import SystemClock, SystemEntropy
from node.watchdog import Notifier
from protocol.errors import PortTaken, StoreBusy
from tests import shell
from tests.node.building import CITY, EAST
from tests.node.test_metrics import numbers
from tests.node.test_monitoring import get


@asynccontextmanager
async def running(
    folder: Folder, config: Config | None = None, notifier: Notifier | None = None
) -> AsyncIterator[Ready]:
    """Run a node until the block ends; it must end within ten seconds."""
    told: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    settings = config or replace(Config(), listen=Listen(host="127.0.0.1", port=0))
    work = service.run(folder, settings, SystemClock(), SystemEntropy(), told.set_result, stop, notifier)
    task = asyncio.create_task(work)
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


async def test_watching_programs_are_answered_beside_the_commands(tmp_path: Path) -> None:
    """Numbers and health on the local API without a token, under loopback names only; elsewhere where the settings say."""
    folder = await founded(tmp_path / "city")
    local = Listen(host="127.0.0.1", port=0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with running(folder, replace(Config(), listen=local, metrics=Metrics(listen=address))):
        place = folder.load_api()
        assert place is not None
        here = place.url.removeprefix("http://")
        for at in (here, address):
            status, _, text = await get(at, "/metrics")
            shown = numbers(text)
            assert (status, shown["tongban_children"], shown["tongban_pushes_total"]) == (200, 0, 0)
            assert shown["tongban_log_entries"] >= 1
            assert place.token not in text
            assert (await get(at, "/health/live"))[0] == 200
            assert json.loads((await get(at, "/health/ready"))[2])["ready"] is True
        assert (await get(here, "/metrics", host="evil.example:80"))[0] == 403
        assert (await get(address, "/api/command"))[0] == 404


async def test_the_service_manager_hears_of_start_life_and_end(tmp_path: Path) -> None:
    """READY once it serves, beats while it lives, STOPPING when it drains."""
    folder = await founded(tmp_path / "city")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5.0)
        async with running(folder, notifier=Notifier(str(tmp_path / "notify"), 60.0)):
            heard = {await asyncio.to_thread(manager.recv, 100) for _ in range(2)}
            assert heard == {b"READY=1", b"WATCHDOG=1"}
        assert manager.recv(100) == b"STOPPING=1"


async def test_a_taken_port_is_said_and_leaves_the_folder_free(tmp_path: Path) -> None:
    """Another program has the port: a refusal that a service manager answers with another try, and nothing is held."""
    folder = await founded(tmp_path / "city")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(Config(), listen=Listen(host="127.0.0.1", port=other.getsockname()[1]))
        for _ in range(2):
            with pytest.raises(PortTaken, match="another program has that port"):
                async with running(folder, taken):
                    pass
    async with running(folder, taken):
        pass


@pytest.mark.processes
def test_a_taken_port_ends_the_program_with_3(tmp_path: Path) -> None:
    """Scripts and service managers see "try later", and which port it is; the data is safe."""
    folder = asyncio.run(founded(tmp_path / "city"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        folder.config.write_text(f'[listen]\nhost = "127.0.0.1"\nport = {port}\n', encoding="utf-8")
        done = shell.run("--json", "run", data=folder.root)
    assert (done.code, done.error["code"], done.error["retryable"], done.error["data_safe"]) == (3, "port_taken", True, True)
    assert f":{port}" in done.error["message"]


@pytest.mark.processes
def test_what_a_power_cut_leaves_stops_no_start(tmp_path: Path) -> None:
    """Killed without warning, twice, on the same ports; torn leftovers of address, lock and drafts lie about: it starts, and knows all."""
    folder = asyncio.run(founded(tmp_path / "city"))
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    folder.config.write_text(
        f'[listen]\nhost = "127.0.0.1"\nport = {ports[0]}\n[local]\nport = {ports[1]}\n', encoding="utf-8"
    )
    for turn in range(2):
        with shell.started("--json", "run", data=folder.root) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert (ready["ready"], ready["listen"]) == (True, f"127.0.0.1:{ports[0]}")
            added = shell.run("--json", "officer", "add", f"100{turn}", "--name", "张三", data=folder.root)
            assert added.code == 0, added.out
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        assert folder.load_api() is not None  # the address outlived its process
        folder.api.write_bytes(folder.api.read_bytes()[: 20 * (turn % 2)])
        folder.lock.write_text("1\n", encoding="ascii")
        folder.api.with_name("api.json.new").write_bytes(b"{")
        folder.config.with_name("config.toml.new").write_bytes(b"[lis")
    listed = shell.run("--json", "officer", "list", data=folder.root)
    assert {row["officer"] for row in listed.rows} == {"1000", "1001"}


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
