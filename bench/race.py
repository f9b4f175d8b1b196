"""A race against other systems: `python -m bench.race W.jsonl SINGLES.jsonl [--keep FOLDER] [--profile]`.

A station writes W to its own durable store, offline; it then meets a hub that holds no case. Prints one JSON object: sync_s,
inc_visible_ms, inc_visible_p95_ms, sync100_ms, hub_rss, node_rss (MB), lo_bytes_per_change, hub_cpu_us, node_cpu_us (per
change), hub_disk_MB; and `held`, what the hub then held, so that nobody has to believe the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.counter import at_ms
from bench.driver import DAY_MS, Network, Place, offset_after
from bench.workload import Change, load

HUB: Final = "650102000000"
STATION: Final = "650102002002"
SINGLES: Final = 50
HUNDRED: Final = 100


@dataclass(frozen=True, slots=True)
class Field:
    """The place of a race, prepared: the station has written everything, the hub holds no case."""

    hub: Place
    station: Place
    changes: int
    wrote_s: float


def prepare(network: Network, workload: Path, singles: Path) -> Field:
    """Set the two nodes up, write the workload at the station while the hub is away, and start both afresh."""
    changes = load(workload)
    network.clock_ms = offset_after(at_ms(changes[0]) - 2 * DAY_MS)
    both = [*changes, *load(singles)]
    hub = network.found(HUB, tuple(sorted({change["item"] for change in both})))
    station = network.enrol(STATION, hub, sorted({change["officer"] for change in both}))
    hub.stop()
    wrote_s = station.ask("write", path=str(workload.resolve()))
    network.clock_ms = hub.clock_ms = station.clock_ms = offset_after(at_ms(changes[-1]))
    hub._start()  # noqa: SLF001 - the second half of a restart
    hub.ask("open")
    hub.serve()
    station.restart(hub.address)
    return Field(hub, station, len(changes), wrote_s)


def race(network: Network, workload: Path, singles: Path, *, profile: bool = False) -> dict[str, Any]:
    """Run the race; returns what is printed."""
    field = prepare(network, workload, singles)
    result = backlog(field, profile=profile)
    fresh = load(singles)
    return {**result, **visible(field, fresh[:SINGLES]), **hundred(field, singles)}


def backlog(field: Field, *, profile: bool = False) -> dict[str, Any]:
    """Carry the whole backlog up."""
    hub, station = field.hub, field.station
    if profile:
        hub.ask("profile", on=True)
    before = hub.ask("usage"), station.ask("usage"), station.ask("wire")["bytes"]
    spans = station.ask("sync")
    after = hub.ask("usage"), station.ask("usage"), station.ask("wire")["bytes"]
    if profile:
        print(hub.ask("profile", on=False), file=sys.stderr)
    return {
        "sync_s": round(spans["acked_s"], 4),
        "lo_bytes_per_change": round((after[2] - before[2]) / field.changes, 1),
        "hub_cpu_us": round((after[0]["cpu_us"] - before[0]["cpu_us"]) / field.changes, 1),
        "node_cpu_us": round((after[1]["cpu_us"] - before[1]["cpu_us"]) / field.changes, 1),
        "hub_rss": round(after[0]["rss_mb"], 1),
        "node_rss": round(after[1]["rss_mb"], 1),
        "hub_disk_MB": round(after[0]["disk_mb"], 2),
        "changes": field.changes,
        "wrote_s": round(field.wrote_s, 1),
        "held": hub.ask("counts"),
    }


def visible(field: Field, changes: list[Change]) -> dict[str, float]:
    """Save single changes at the station; how long until a read at the hub shows each."""
    field.station.ask("follow")
    spans = sorted(seen_ms(field.station, field.hub, change) for change in changes)
    field.station.ask("rest")
    return {
        "inc_visible_ms": round(spans[len(spans) // 2], 2),
        "inc_visible_p95_ms": round(spans[int(len(spans) * 0.95)], 2),
    }


def seen_ms(station: Place, hub: Place, change: Change) -> float:
    """Save one change; returns ms from before it was durable until the hub's case API shows it."""
    saved = station.ask("save", change=change)
    return float(hub.reader.wait_for(saved["key"], saved["steps"]) - saved["began_s"]) * 1000


def hundred(field: Field, singles: Path) -> dict[str, float]:
    """Write a hundred new changes, then synchronise."""
    field.station.ask("save_many", path=str(singles.resolve()), begin=SINGLES, end=SINGLES + HUNDRED)
    return {"sync100_ms": round(field.station.ask("sync")["acked_s"] * 1000, 2)}


def main() -> None:
    """Race once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=Path)
    parser.add_argument("singles", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the stores, kept")
    parser.add_argument("--profile", action="store_true", help="the hub's database thread, on the error output")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tongban-race-") as scratch:
        folder = told.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with Network(folder) as network:
            print(json.dumps(race(network, told.workload, told.singles, profile=told.profile)))


if __name__ == "__main__":
    main()
