"""The demo's ten processes: made, enrolled, started again when they die, stopped, and asked over their local API.

    with Network(root, clock, stop) as network:
        network.found(); network.enrol(place)
        network.ask("650102002002", "case.open", {...}, Claim("1001", "1"))

Each node is a `tongban run` of its own with a folder of its own, a fixed port for other nodes and a fixed one for commands.
`ask` repeats a command through a restart of its process: give commands that may be repeated. What dies is started again on the
way, by `tend`; a process that somebody else started on the folder is left alone.

Trust: all addresses are loopback; `network.json` holds no secret. Losing it costs the list; the folders stand for themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from hub import commands
from hub.demo.story import PLACES, Place
from node import config, local_client
from node.command import Claim, Command
from node.folder import Folder, write_private
from node.ports import Clock
from node.system import SystemEntropy, block_s
from protocol.errors import InputError, LinkError, NotPermitted, StoreBusy, TongbanError

FILE: Final = "network.json"
HOST: Final = "127.0.0.1"
# Below what systems give to outgoing connections: nobody else's connection takes the port of a node that is down.
PORTS: Final = range(20_000, 32_000)
ANSWER_S: Final = 60.0  # for one command, restarts included
CALL_S: Final = 20.0
JOIN_S: Final = 10.0
STOP_S: Final = 12.0  # a node ends within 10 s of being told
RETRY_S: Final = (0.2, 1.0)  # least and longest pause of the uplinks: a demo's line comes back soon
POLL_S: Final = 0.03
STARTS_FAILED_MAX: Final = 3
LINES_SHOWN: Final = 3  # of what a process that ended said: kind, message, hint
STOP: Final = "stop"  # of the local API of a running node

_FAILED: Final = frozenset({1, 2})  # exit codes of a process that cannot start; 3: somebody else runs the node


@dataclass(slots=True)
class _Seat:
    """One node and its process. Owner of `wanted`, `process` and `failed`: who holds the network's lock."""

    place: Place
    folder: Folder
    port: int
    local_port: int
    wanted: bool = False
    process: subprocess.Popen[bytes] | None = None
    failed: int = 0

    @property
    def address(self) -> str:
        """Where it answers other nodes."""
        return config.join_address(HOST, self.port)

    def alive(self) -> bool:
        """Whether our own process runs."""
        return self.process is not None and self.process.poll() is None

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


@dataclass(slots=True)
class _Taken:
    """Takes an answer (`local_client.Sink`)."""

    one: Any = None
    rows: list[Any] = field(default_factory=list)
    is_list: bool = False

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        self.one = value

    def row(self, row: Any) -> None:  # noqa: ANN401 - the same
        self.rows.append(row)


class Network:
    """The processes of one demo; stops them when its block ends, unless it is kept.

    Args:
        root: an empty folder, or one that is not there yet.
        clock: the machine's.
        stop: once it is set, nothing is begun or repeated any more; `KeyboardInterrupt` is raised instead.
        places: the nodes, parents before their children.
    """

    def __init__(self, root: Path, clock: Clock, stop: threading.Event, places: Sequence[Place] = PLACES) -> None:
        self.root = root.resolve()
        self.kept = False
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = stop
        ports = iter(free_ports(2 * len(places), SystemEntropy().uniform()))
        self._seats = {
            place.node: _Seat(place, Folder(self.root / place.node), next(ports), next(ports)) for place in places
        }

    def __enter__(self) -> Self:
        """Make the folder of all nodes."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Stop everything, unless it was kept and nothing failed."""
        if not self.kept or kind is not None:
            self.close()

    @contextmanager
    def abandoned_on_failure(self) -> Iterator[None]:
        """Let nobody begin or repeat anything once the block has failed: other threads end soon."""
        try:
            yield
        except BaseException:
            self._stop.set()
            raise

    def rows(self) -> list[dict[str, object]]:
        """Return {node, name, parent, data, url, pid} of each node."""
        return [seat.row() for seat in self._seats.values()]

    def save(self) -> None:
        """Write `network.json`, from which others learn where the nodes are."""
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in self.rows())
        write_private(self.root / FILE, f"[\n{rows}\n]\n".encode())

    # --- making it

    def found(self) -> None:
        """Make the root and run it."""
        seat = next(iter(self._seats.values()))
        place = seat.place
        clock, entropy = self._clock, SystemEntropy()
        names = {"division": place.node, "name": place.name, "listen": seat.address, "advertise": None}
        asyncio.run(commands.init(seat.folder, clock, entropy, **names))  # type: ignore[arg-type] # `name` is a text
        self._settle(seat)

    def enrol(self, place: Place) -> None:
        """Have a node invited by its parent, let it join with the code, and run it."""
        seat, parent = self._seats[place.node], self._seats[place.parent or ""]
        told = {"node": place.node, "name": place.name, "addresses": [parent.address]}
        code = self.ask(parent.place.node, "invite", told)["code"]
        self._until(lambda: self._join(seat, code))
        self._settle(seat)

    def _join(self, seat: _Seat, code: str) -> None:
        given = {"code": code, "listen": seat.address, "advertise": None, "proxy": None, "timeout_s": JOIN_S}
        asyncio.run(commands.join(seat.folder, self._clock, SystemEntropy(), **given))  # type: ignore[arg-type] # as above

    def _settle(self, seat: _Seat) -> None:
        """Write the settings that all nodes of a demo share, start the node, and wait until it answers."""
        found = config.load(seat.folder.config)
        uplink = replace(found.uplink, retry_min_s=RETRY_S[0], retry_max_s=RETRY_S[1])
        settings = replace(found, uplink=uplink, local=replace(found.local, port=seat.local_port))
        write_private(seat.folder.config, config.render(settings).encode("utf-8"))
        self.start(seat.place.node)

    # --- processes

    def start(self, *nodes: str) -> None:
        """Start nodes and wait until they answer."""
        for node in nodes:
            self._seats[node].wanted = True
        for node in nodes:
            self.ask(node, "status")

    def stop(self, *nodes: str) -> None:
        """Stop nodes; they stay down until they are started."""
        seats = [self._seats[node] for node in nodes]
        with self._lock:
            for seat in seats:
                seat.wanted = False
        self._end(seats)

    def answers(self, node: str) -> bool:
        """Tell whether anything answers for a node."""
        api = self._seats[node].folder.load_api()
        return api is not None and local_client.answers(api)

    def tend(self) -> None:
        """Start again what should run and has died.

        Raises:
            KeyboardInterrupt: we are asked to stop.
            TongbanError: a node does not start, several times over.
        """
        if self._stop.is_set():
            raise KeyboardInterrupt
        for seat in self._seats.values():
            with self._lock:
                if seat.wanted and not seat.alive():
                    self._revive(seat)

    def close(self) -> None:
        """Stop all processes, whatever state they are in."""
        with self._lock:
            seats = [seat for seat in self._seats.values() if seat.wanted]
            for seat in seats:
                seat.wanted = False
        self._end(seats)

    def _revive(self, seat: _Seat) -> None:
        if seat.process is not None and seat.process.returncode in _FAILED:
            seat.failed += 1
            if seat.failed >= STARTS_FAILED_MAX:
                raise TongbanError(f"node {seat.place.node} does not start: {_last_words(self._errors(seat))}")
        if not self.answers(seat.place.node):  # else somebody started it by hand
            seat.process = _started(seat, self._errors(seat))

    def _errors(self, seat: _Seat) -> Path:
        return self.root / f"{seat.place.node}.err"

    def _end(self, seats: Sequence[_Seat]) -> None:
        for seat in seats:
            self._tell_to_stop(seat)
        for seat in seats:
            self._wait_for_end(seat)

    def _tell_to_stop(self, seat: _Seat) -> None:
        """Ask over the local API, which works on every system and for a process that is not ours."""
        api = seat.folder.load_api()
        if api is not None:
            with contextlib.suppress(TongbanError):
                local_client.call(api, Command(STOP), _Taken(), STOP_S)
                return
        if seat.alive() and seat.process is not None:
            seat.process.terminate()

    def _wait_for_end(self, seat: _Seat) -> None:
        if seat.process is not None:
            try:
                seat.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                seat.process.kill()
                seat.process.wait()
        wait_until_free(seat.folder, self._clock, STOP_S)

    # --- asking

    def ask(self, node: str, name: str, params: Mapping[str, Any] | None = None, claim: Claim | None = None) -> Any:  # noqa: ANN401 - JSON is any value
        """Give a command to a running node, through its restarts.

        Returns:
            The answer; of a list, its rows.

        Raises:
            TongbanError: the node refused, or did not answer for a long time.
        """
        command = Command(name, dict(params or {}), claim or Claim())
        return self._until(lambda: self._asked(node, command))

    def _asked(self, node: str, command: Command) -> Any:  # noqa: ANN401 - the same
        api = self._seats[node].folder.load_api()
        if api is None:
            raise LinkError(f"node {node} is not up")
        taken = _Taken()
        local_client.call(api, command, taken, CALL_S)
        return taken.rows or taken.one

    def _until(self, attempt: Any) -> Any:  # noqa: ANN401 - whatever the attempt gives
        """Try until it is done; what a restart explains is tried again."""
        ends_at = self._clock.monotonic_s() + ANSWER_S
        while True:
            self.tend()
            try:
                return attempt()
            except TongbanError as exc:
                # A token of the process before: the new one has not written its own yet.
                passing = exc.retryable or isinstance(exc, LinkError) or exc.code == NotPermitted.code
                if not passing or self._clock.monotonic_s() >= ends_at:
                    raise
            block_s(POLL_S)


def _started(seat: _Seat, errors: Path) -> subprocess.Popen[bytes]:
    """Start `tongban run` on a folder, apart from this terminal: its Ctrl-C is ours, and a kept node outlives us."""
    code = str(Path(commands.__file__).resolve().parent.parent)  # the same program as this one, installed or not
    paths = os.pathsep.join([code, *filter(None, [os.environ.get("PYTHONPATH")])])
    with errors.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "hub.cli", "--data", str(seat.folder.root), "run"],
            cwd=seat.folder.root,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,  # no effect on Windows, which has the flags
            creationflags=sum(
                getattr(subprocess, flag, 0) for flag in ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
            ),
        )


def _last_words(errors: Path) -> str:
    with contextlib.suppress(OSError):
        return " ".join(errors.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:])
    return "it says nothing"


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


# --- a kept network, seen from another process


def load(root: Path) -> list[dict[str, Any]]:
    """Read `network.json`.

    Raises:
        InputError: not there, or not whole.
    """
    path = root / FILE
    try:
        rows = json.loads(path.read_bytes())
        if all(isinstance(row, dict) and isinstance(row["node"], str) and isinstance(row["data"], str) for row in rows):
            return list(rows)
    except FileNotFoundError:
        raise InputError(f"{root}: no network of a demo is here", hint="Make one: tongban demo --keep.") from None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{path}: cannot be read") from exc
    raise InputError(f"{path}: cannot be read")


def running(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the nodes of a kept network whose process runs."""
    for row in rows:
        api = Folder(Path(row["data"])).load_api()
        if api is not None and local_client.answers(api):
            yield str(row["node"])


def stop_kept(root: Path, clock: Clock) -> list[str]:
    """Stop the processes of a kept network.

    Returns:
        The nodes that were running.

    Raises:
        LinkError: one does not stop. InputError: no network is here.
    """
    folders = {row["node"]: Folder(Path(row["data"])) for row in load(root)}
    stopped = []
    for node, folder in folders.items():
        api = folder.load_api()
        if api is not None:
            with contextlib.suppress(TongbanError):
                local_client.call(api, Command(STOP), _Taken(), STOP_S)
                stopped.append(node)
    for node, folder in folders.items():
        if not wait_until_free(folder, clock, STOP_S):
            raise LinkError(f"node {node} does not stop", hint=f"End its process; its folder is {folder.root}.")
    return stopped
