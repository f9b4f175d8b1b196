"""The demo's ten processes: made, enrolled, started again when they die, stopped, and asked over their local API.

    with Network(root, clock, stop) as network:
        network.found()
        network.enrol(place)
        network.ask("650102002002", "case.open", {...}, Claim("1001", "1"))

Each node is a `tongban run` of its own with a folder of its own, a fixed port for other nodes and a fixed one for commands.
`ask` repeats a command through a restart of its process: give commands that may be repeated. What dies is started again on the
way, by `tend`; a process that somebody else started on the folder is left alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from hub import commands
from hub.demo import kept, seats
from hub.demo.seats import POLL_S, Seat, free_ports
from hub.demo.story import PLACES, Place
from node import config
from node.command import Claim, Command
from node.folder import Folder, write_private
from node.ports import Clock
from node.system import SystemEntropy, block_s
from protocol.errors import LinkError, NotPermitted, TongbanError

ANSWER_S: Final = 120.0  # for one command, restarts included
JOIN_S: Final = 10.0
RETRY_S: Final = (0.2, 1.0)  # least and longest pause of the uplinks: a demo's line comes back soon
STARTS_FAILED_MAX: Final = 3


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
            place.node: Seat(
                place, Folder(self.root / place.node), self.root / f"{place.node}.err", next(ports), next(ports)
            )
            for place in places
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
        kept.save(self.root, self.rows())

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

    def _join(self, seat: Seat, code: str) -> None:
        given = {"code": code, "listen": seat.address, "advertise": None, "proxy": None, "timeout_s": JOIN_S}
        asyncio.run(commands.join(seat.folder, self._clock, SystemEntropy(), **given))  # type: ignore[arg-type] # as above

    def _settle(self, seat: Seat) -> None:
        """Write the settings that all nodes of a demo share, start the node, and wait until it answers."""
        found = config.load(seat.folder.config)
        uplink = replace(found.uplink, retry_min_s=RETRY_S[0], retry_max_s=RETRY_S[1])
        settings = replace(found, uplink=uplink, local=replace(found.local, port=seat.local_port), store=replace(found.store, ballast_mb=0))
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
        self._end_wanted([self._seats[node] for node in nodes])

    def answers(self, node: str) -> bool:
        """Tell whether anything answers for a node."""
        return seats.answers(self._seats[node].folder)

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
                    seat.revive()
                    if seat.failed >= STARTS_FAILED_MAX:
                        raise TongbanError(f"node {seat.place.node} does not start: {seat.last_words()}")

    def close(self) -> None:
        """Stop all processes, whatever state they are in."""
        self._end_wanted([seat for seat in self._seats.values() if seat.wanted])

    def _end_wanted(self, ending: Sequence[Seat]) -> None:
        with self._lock:
            for seat in ending:
                seat.wanted = False
        for seat in ending:
            seat.tell_to_stop()
        for seat in ending:
            seat.wait_for_end(self._clock)

    # --- asking

    def ask(self, node: str, name: str, params: Mapping[str, Any] | None = None, claim: Claim | None = None) -> Any:  # noqa: ANN401 - JSON is any value
        """Give a command to a running node, through its restarts.

        Returns:
            The answer; of a list, its rows.

        Raises:
            TongbanError: the node refused, or did not answer for a long time.
        """
        command = Command(name, dict(params or {}), claim or Claim())
        return self._until(lambda: seats.call(self._seats[node].folder, command))

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
