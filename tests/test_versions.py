"""Two versions of the program side by side, as real processes: a network is upgraded machine by machine, for weeks.

`tests.newer` is the program of tomorrow. The older one relays what it does not know, byte for byte, and what waits there gets its
effect with the upgrade.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub import commands
from hub.demo import seats
from node.command import Claim, Command, Relayed
from node.folder import Folder
from node.system import SystemClock, SystemEntropy
from tests.node.building import CITY, EAST, EAST_VILLAGE, ID_NUMBER, calendar, item
from tests.sources import ROOT

TODAY, TOMORROW = "hub.cli", "tests.newer"
CLAIM = Claim("1001", "3")
SPAN_S = 20.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Seat:
    """One node's folder, with ports of its own."""

    def __init__(self, root: Path, port: int) -> None:
        self.folder = Folder(root)
        self.port = port

    @contextmanager
    def running(self, program: str, versions: str = "1,2") -> Iterator[None]:
        """Run the node with a program until the block ends."""
        line = [sys.executable, "-m", program, "--json", "--data", str(self.folder.root), "run"]
        environ = os.environ | {"PYTHONPATH": str(ROOT), "VERSIONS": versions}
        with subprocess.Popen(line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                assert process.stdout is not None
                assert json.loads(process.stdout.readline())["ready"] is True
                yield
            finally:
                process.terminate()
                assert process.wait(15) == 0

    def ask(self, command: str, /, **params: Any) -> Any:
        return seats.call(self.folder, Command(command, params, CLAIM), SPAN_S)

    def effects(self, case: str) -> dict[str, str]:
        """Return {type: effect} of a case's steps, once they are here."""
        return {step["type"]: step["effect"] for step in self.ask("show", case=case)["timeline"]}

    def join(self, parent: Seat, node: str) -> None:
        told = parent.ask("invite", node=node, name=f"节点{node[6:]}", addresses=[f"127.0.0.1:{parent.port}"])
        clock, entropy = SystemClock(), SystemEntropy()
        names = {"code": told["code"], "listen": f"127.0.0.1:{self.port}", "advertise": None, "proxy": None}
        asyncio.run(commands.join(self.folder, clock, entropy, **names, timeout_s=10.0))


@pytest.fixture
def network(tmp_path: Path) -> list[Seat]:
    """A city that is founded, and two machines that are not enrolled yet."""
    found = [Seat(tmp_path / name, port) for name, port in zip(("city", "east", "village"), free_ports(3), strict=True)]
    names = {"division": CITY, "name": "乌鲁木齐市", "listen": f"127.0.0.1:{found[0].port}", "advertise": None}
    asyncio.run(commands.init(found[0].folder, SystemClock(), SystemEntropy(), **names))
    return found


def furnish(city: Seat) -> None:
    """Publish what a counter needs."""
    city.ask("officer.add", id="1001", name="张三")
    city.ask("catalogue.publish", items=[item("spot", receive=[f"{CITY}/*"], decide=[f"{CITY}/*"], stages=[])])
    city.ask("calendar.publish", calendar=calendar())


def opened(at: Seat) -> str:
    at.ask("sync", timeout_s=SPAN_S)
    at.ask("officer.add", id="1001", name="李四")
    return str(at.ask("case.open", item="spot", applicant="王伟", id_number=ID_NUMBER)["key"])


@pytest.mark.processes
def test_an_older_hub_between_newer_nodes_loses_nothing_and_learns_it_with_the_upgrade(network: list[Seat]) -> None:
    """C06: unknown message keys, fields, entry types and rules pass an older hub byte for byte; there they wait, and are applied once it is upgraded."""
    city, east, village = network
    with city.running(TOMORROW):
        furnish(city)
        east.join(city, EAST)
        with east.running(TODAY):
            village.join(east, EAST_VILLAGE)
            number = city.ask("motto.publish", text="一窗受理")["number"]
            city.ask("officer.add", id="1002", name="王五")
            with village.running(TOMORROW):
                case = opened(village)
                village.ask("case.inspect", case=case)
                village.ask("sync", timeout_s=SPAN_S)
                east.ask("sync", timeout_s=SPAN_S)
                shown = [one.ask("show", case=case) for one in network]
                assert len({one["digest"] for one in shown}) == 1  # the same header bytes everywhere
                assert [one.effects(case)["inspection"] for one in network] == ["applied", "waiting", "applied"]
                assert east.ask("status")["basis"]["number"] >= number  # a rule that it does not know stops no other rule
                assert [one.ask("verify")["problems"] for one in network] == [[], [], []]
        with east.running(TOMORROW):
            assert east.effects(case)["inspection"] == "applied"
            assert east.ask("rebuild")["different"] == 0  # the row was folded anew at the start, not by the look at it
            digests = {one.ask("show", case=case)["digest"] for one in (city, east)}
            assert digests == {shown[0]["digest"]}
        with east.running(TODAY):  # and back: it works on, and waits again for what it does not know
            assert east.effects(case)["inspection"] == "waiting"
            assert east.ask("verify")["problems"] == []


@pytest.mark.processes
def test_without_a_common_version_the_counter_works_on_and_catches_up(network: list[Seat]) -> None:
    """A machine that its hub cannot understand says so, saves here, and sends everything once they have a version in common."""
    city, _, village = network
    with city.running(TODAY):
        furnish(city)
        village.join(city, EAST_VILLAGE)
        with village.running(TOMORROW):  # 1 and 2 against 1: they agree on 1
            opened(village)
            assert village.ask("sync", timeout_s=SPAN_S)["pending"] == 0
        with village.running(TOMORROW, versions="2"):
            case = str(village.ask("case.open", item="spot", applicant="赵敏", id_number=ID_NUMBER)["key"])
            with pytest.raises(Relayed) as refused:
                village.ask("sync", timeout_s=1.0)
            assert refused.value.code == "version"
            assert village.ask("status")["pending"] > 0
        with village.running(TODAY):
            assert village.ask("sync", timeout_s=SPAN_S)["pending"] == 0
        assert city.ask("show", case=case)["state"] == "received"
