"""The bench's side of its processes: start a place, tell it something, wait for the answer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from bench.reading import Reader
from bench.workload import ITEMS

DAY_MS: Final = 86_400_000
ROOT: Final = Path(__file__).resolve().parent.parent


class Failed(RuntimeError):
    """A process of the bench failed; the text is its traceback."""


@dataclass(slots=True)
class Place:
    """One child process (`bench.place`, or another module that obeys lines)."""

    folder: Path
    module: str = "bench.place"
    clock_ms: int = 0
    id: str = ""
    address: str = ""
    reader: Reader = field(default_factory=lambda: Reader("", ""))
    _process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        """Start the process."""
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", self.module, str(self.folder)]
        log = self.folder.with_suffix(".log").open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, cwd=ROOT
        )
        log.close()
        if self.module == "bench.place":
            self.ask("clock", offset_ms=self.clock_ms)

    def tell(self, do: str, **told: object) -> None:
        """Ask for something without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **told}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:  # noqa: ANN401 - whatever the method of the place returns
        """Wait for the answer to the oldest question; raises Failed."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self.folder.with_suffix(".log").read_text(encoding="utf-8")
            raise Failed(f"{self.module} in {self.folder} ended: {said[-2000:]}")
        answer = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer["done"]

    def ask(self, do: str, **told: object) -> Any:  # noqa: ANN401 - the same
        """Ask and wait."""
        self.tell(do, **told)
        return self.answer()

    def serve(self) -> None:
        """Begin to listen."""
        told = self.ask("serve")
        self.address, self.reader = told["address"], Reader(told["url"], told["token"])

    def stop(self) -> None:
        """Stop the process in order."""
        if self._process.poll() is None:
            self.ask("stop")
            self._process.wait(30)

    def restart(self, parent: str = "", *, serving: bool = False) -> None:
        """Stop the process and begin again on the same folder, as a machine that was switched off."""
        self.stop()
        self._start()
        self.ask("open", parent=parent)
        if serving:
            self.serve()

    def set_clock(self, offset_ms: int) -> None:
        """Move the clock of this place."""
        self.clock_ms = offset_ms
        self.ask("clock", offset_ms=offset_ms)


@dataclass(slots=True)
class Network:
    """Places of one bench, below one folder. All clocks move together."""

    folder: Path
    clock_ms: int = 0
    places: list[Place] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all processes, leaves first."""
        for place in reversed(self.places):
            place.stop()

    def found(self, node: str, items: tuple[str, ...] = ITEMS) -> Place:
        """Start the root, with its catalogue."""
        place = Place(self.folder / node, clock_ms=self.clock_ms, id=node)
        self.places.append(place)
        place.ask("found", node=node, name="测速网络")
        place.ask("open")
        place.serve()
        place.ask("publish", codes=list(items))
        return place

    def enrol(self, node: str, parent: Place, officers: list[str] | None = None) -> Place:
        """Start a node below another one; it has the rules when this returns."""
        code = parent.ask("invite", node=node, name=node, address=parent.address)
        place = Place(self.folder / node, clock_ms=self.clock_ms, id=node)
        self.places.append(place)
        place.ask("join", code=code)
        place.ask("open", parent=parent.address)
        place.serve()
        place.ask("sync")
        if officers:
            place.ask("officers", names=officers)
            place.ask("sync")
        return place

    def set_clocks(self, offset_ms: int) -> None:
        """Move all clocks."""
        self.clock_ms = offset_ms
        for place in self.places:
            place.set_clock(offset_ms)


def offset_after(last_ms: int) -> int:
    """Return the offset that puts true time one day after a moment."""
    return last_ms + DAY_MS - time.time_ns() // 1_000_000
