"""`tongban demo`: a city's network of ten processes on this machine, at work, and what came of it.

    story      what is told, planned from a seed
    network    the processes: made, enrolled, started again, stopped, asked
    seats      one process
    kept       a network that was left running
    telling    carries the story out and reads it back
    summary    judges what the nodes say
    screen     shows it
    samples    the catalogue and calendars that the city publishes

May import all of hub, node and protocol. Start at `run`.
"""

from __future__ import annotations

import io
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from hub.demo import kept, samples
from hub.demo.network import Network
from hub.demo.screen import Screen
from hub.demo.story import ACROSS, CITY, INSTANT, PLACES, plan
from hub.demo.summary import Line, summarise
from hub.demo.telling import Telling
from node import console, logs
from node.cli.process import SIGNALS
from node.config import Log
from node.folder import Folder
from node.ports import Clock
from node.system import SystemClock
from protocol.errors import CommandRefused, InputError, TongbanError

LOG: Final = "demo.log"
KEPT_IN: Final = ".demo"  # in the folder where the command is given


def run(options: Mapping[str, Any]) -> None:
    """Carry `tongban demo` out.

    Args:
        options: keep, stop, seed, data (folder or None), json, lang; as typed.

    Raises:
        TongbanError: what was read back is not what was planned; names the lines. CommandRefused, InputError: the folder is in use.
    """
    clock = SystemClock()
    screen = Screen(options["lang"], aside=options["json"])
    if options.get("stop"):
        stopped = kept.stop(_named(options) or Path(KEPT_IN), clock)
        screen.say("demo.stopped", count=len(stopped))
        if options["json"]:
            console.write_json({"stopped": stopped})
        return
    with (
        _signals() as stop,
        _folder(_named(options), keep=options["keep"]) as root,
        Network(root, clock, stop) as network,
        _logged(root),
    ):
        lines = _told(network, screen, clock, options["seed"])
        wrong = [screen.line(line) for line in lines if line.wrong]
        if wrong:
            raise TongbanError(
                f"{len(wrong)} of {len(lines)} lines are wrong: {'; '.join(wrong)}", hint=f"The nodes' folders: {root}"
            )
        network.save()
        rows = network.rows()
        if options["keep"]:
            network.kept = True
            screen.kept(rows, str(network.root))
        if options["json"]:
            for row in rows:
                console.write_json(row)


def _told(network: Network, screen: Screen, clock: Clock, seed: int) -> list[Line]:
    """Make the network, tell the story, and show the summary."""
    story = plan(seed)
    screen.say("demo.begin", count=len(PLACES), root=network.root, seed=seed)
    _enrol_all(network, screen)
    network.save()
    telling = Telling(network, story, screen, clock)
    telling.publish(samples.catalogue(), samples.calendars())
    screen.say("demo.ready", count=len(PLACES))
    readings = telling.tell()
    lines = summarise(story, readings)
    screen.summary(lines, seed)
    for label in (ACROSS, INSTANT):
        screen.steps(readings.cases.get(label, {}).get(CITY, {}), CITY)
    return lines


def _enrol_all(network: Network, screen: Screen) -> None:
    """Found the root, then enrol tier by tier, the nodes of a tier side by side."""
    with screen.bar("demo.bar.enrol", len(PLACES)) as advance, network.abandoned_on_failure():
        network.found()
        advance(1)
        done = {CITY}
        while len(done) < len(PLACES):
            tier = [place for place in PLACES if place.parent in done and place.node not in done]
            with ThreadPoolExecutor(len(tier)) as workers, network.abandoned_on_failure():
                for _ in workers.map(network.enrol, tier):
                    advance(1)
            done |= {place.node for place in tier}


# --- the folder


def _named(options: Mapping[str, Any]) -> Path | None:
    return Path(options["data"]) if options["data"] else None


@contextmanager
def _folder(named: Path | None, *, keep: bool) -> Iterator[Path]:
    """Give the demo a folder: the named one, the usual one of a kept network, or one that goes when all went well."""
    root = named or (Path(KEPT_IN) if keep else None)
    if root is not None:
        _make_room(root)
        yield root
        return
    passing = Path(tempfile.mkdtemp(prefix="tongban-demo-"))
    try:
        yield passing
    except KeyboardInterrupt:
        shutil.rmtree(passing, ignore_errors=True)
        raise
    shutil.rmtree(passing, ignore_errors=True)


def _make_room(root: Path) -> None:
    """Remove the nodes of an earlier demo; anything else in the folder is a reason to refuse.

    Raises:
        InputError: the folder holds something else. CommandRefused: a kept demo runs there.
    """
    if not root.exists() or not any(root.iterdir()):
        return
    if Folder(root).exists() or not (root / kept.FILE).exists():
        raise InputError(
            f"{root}: holds something else than a demo", hint="Name an empty or new folder with --data, or none."
        )
    rows = kept.load(root)
    if next(kept.running(rows), None) is not None:
        raise CommandRefused(f"{root}: a demo runs there", hint=f"Stop it: tongban demo --stop --data {root}")
    for row in rows:
        shutil.rmtree(root / row["node"], ignore_errors=True)
        (root / f"{row['node']}.err").unlink(missing_ok=True)
    for left in root.glob(f"{LOG}*"):
        left.unlink()
    (root / kept.FILE).unlink()  # the last: until then the folder is known as a demo's


# --- signals


@contextmanager
def _logged(root: Path) -> Iterator[None]:
    """Write down what joining in this process says beside the nodes' folders; the terminal belongs to the story."""
    logs.configure(Log(file=LOG), root, stream=io.StringIO())
    try:
        yield
    finally:
        logs.shutdown()


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Yield an event that is set by every signal that asks us to end; whoever works looks at it between two steps.

    Nothing is interrupted in the middle, so no process is started and forgotten, and a second signal does not stop the stopping.
    """
    stop = threading.Event()
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = []
    with suppress(ValueError):  # not the main thread: whoever runs us there handles signals
        before = [(number, signal.signal(number, lambda _number, _frame: stop.set())) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)
