"""One node of the demo and its process: where it listens, how it is started, asked, told to stop, and ended.

A process has a session of its own: Ctrl-C in the terminal is ours alone, and a kept node outlives us. Stopping goes over the local
API first, which works on every system and for a process that somebody else started.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hub import service
from hub.demo.story import Place
from node import config, local_client
from node.command import Command
from node.folder import Folder
from node.ports import Clock
from node.system import block_s
from protocol.errors import LinkError, StoreBusy, TongbanError

HOST: Final = "127.0.0.1"
# Below what systems give to outgoing connections: nobody else's connection takes the port of a node that is down.
PORTS: Final = range(20_000, 32_000)
CALL_S: Final = 20.0
STOP_S: Final = 12.0  # a node ends within 10 s of being told
POLL_S: Final = 0.03
LINES_SHOWN: Final = 3  # of what a process that ended said: kind, message, hint

_FAILED: Final = frozenset({1, 2})  # exit codes of a process that cannot start; 3: somebody else runs the node
_FLAGS: Final = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")  # on Windows, which has no sessions


@dataclass(slots=True)
class Seat:
    """One node and its process. Owner of `wanted`, `process` and `failed`: who holds the network's lock.

    Attributes:
        place: the node.
        folder: its data.
        errors: file that takes what its processes say on standard error.
        port: for other nodes.
        local_port: for commands.
        wanted: whether it should run.
        failed: how often it could not start.
    """

    place: Place
    folder: Folder
    errors: Path
    port: int
    local_port: int
    wanted: bool = False
    process: subprocess.Popen[bytes] | None = None
    failed: int = 0

    @property
    def address(self) -> str:
        """Where it answers other nodes."""
        return config.join_address(HOST, self.port)

    def row(self) -> dict[str, object]:
        """Return what `network.json` and `demo --json` say of it."""
        api = self.folder.load_api()
        return {
            "node": self.place.node,
            "name": self.place.name,
            "parent": self.place.parent,
            "data": str(self.folder.root),
            "url": f"http://{config.join_address(HOST, self.local_port)}",
            "pid": api.pid if api is not None else None,
        }

    def alive(self) -> bool:
        """Whether our own process runs."""
        return self.process is not None and self.process.poll() is None

    def revive(self) -> None:
        """Start the process that has died, or was never started; not beside one that somebody started by hand."""
        if self.process is not None and self.process.returncode in _FAILED:
            self.failed += 1
        if not answers(self.folder):
            self.process = _started(self.folder, self.errors)

    def wait_for_end(self, clock: Clock) -> None:
        """Wait until nobody has the folder open; our own process is killed when it takes too long."""
        if self.process is not None:
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        wait_until_free(self.folder, clock, STOP_S)

    def tell_to_stop(self) -> None:
        """Ask the process to end, or end it if it does not listen."""
        if not tell_to_stop(self.folder) and self.process is not None:
            self.process.terminate()

    def last_words(self) -> str:
        """Return what the process said before it ended."""
        with contextlib.suppress(OSError):
            return " ".join(self.errors.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:])
        return "it says nothing"


@dataclass(slots=True)
class _Taken:
    """Takes an answer (`local_client.Sink`)."""

    one: Any = None
    rows: list[Any] = field(default_factory=list)

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        self.one = value

    def row(self, row: Any) -> None:  # noqa: ANN401 - the same
        self.rows.append(row)


def call(folder: Folder, command: Command, timeout_s: float = CALL_S) -> Any:  # noqa: ANN401 - JSON is any value
    """Give a command to the node that runs in a folder.

    Returns:
        The answer; of a list, its rows.

    Raises:
        LinkError: none runs, or it stopped meanwhile. Relayed: it refused.
    """
    api = folder.load_api()
    if api is None:
        raise LinkError(f"{folder.root}: no node is up here")
    taken = _Taken()
    local_client.call(api, command, taken, timeout_s)
    return taken.rows or taken.one


def answers(folder: Folder) -> bool:
    """Tell whether a node runs in a folder."""
    api = folder.load_api()
    return api is not None and local_client.answers(api)


def tell_to_stop(folder: Folder) -> bool:
    """Tell the node that runs in a folder to end; False when nobody listens."""
    try:
        call(folder, Command(service.STOP), STOP_S)
    except TongbanError:
        return False
    return True


def wait_until_free(folder: Folder, clock: Clock, span_s: float) -> bool:
    """Wait until no process has a node's folder open; False when one still has."""
    ends_at = clock.monotonic_s() + span_s
    while folder.root.exists():
        try:
            with folder.locked():
                return True
        except StoreBusy:
            if clock.monotonic_s() >= ends_at:
                return False
            block_s(POLL_S)
    return True


def _started(folder: Folder, errors: Path) -> subprocess.Popen[bytes]:
    with errors.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "hub.cli", "--data", str(folder.root), "run"],
            cwd=folder.root,
            env=_environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
            creationflags=sum(getattr(subprocess, flag, 0) for flag in _FLAGS),
        )


def _environ() -> Mapping[str, str]:
    """Return the environment in which a new process finds the same program as this one, installed or not."""
    code = str(Path(service.__file__).resolve().parent.parent)
    paths = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def free_ports(count: int, at: float) -> list[int]:
    """Return ports that nobody listens on now.

    Args:
        count: how many.
        at: where in the range to begin looking, in [0, 1): two demos at once should not meet.

    Raises:
        LinkError: the whole range is taken.
    """
    found: list[int] = []
    for offset in range(len(PORTS)):
        port = PORTS[(int(at * len(PORTS)) + offset) % len(PORTS)]
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise LinkError(f"no free ports between {PORTS[0]} and {PORTS[-1]}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
