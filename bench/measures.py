"""What is measured, one function a group of goals. Each starts its own processes, and returns rows of the table.

A row's verdict follows from its number and its goal only. Ratios are of one run; where the machine may wander, rounds are
interleaved and medians taken. Spans are in ms, rates in changes a second.
"""

from __future__ import annotations

import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import bare, race, workload
from bench.counter import at_ms
from bench.driver import Network, Place, offset_after
from bench.workload import Change

CITY: Final = "650100000000"
DISTRICT: Final = "650102000000"
TOWNSHIP: Final = "650102002000"
VILLAGE: Final = "650102002002"
BUSY_VILLAGE: Final = "650102002003"
SET: Final = 500
SAVE_EVERY_S: Final = 0.015
AT_ONCE: Final = 20  # stations on the line together on any day


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done. entries: stored in the small and the large hub of the idle round."""

    cases: int = 4_000
    rounds: int = 3
    stations: int = 1_000
    singles: int = 150
    saves: int = 40
    entries: tuple[int, int] = (1_000, 200_000)
    idle_rounds: int = 60


QUICK: Final = Size(cases=40, rounds=1, stations=10, singles=6, saves=5, entries=(200, 1_000), idle_rounds=5)
FULL: Final = Size(rounds=5, singles=300, entries=(1_000, 1_000_000))


@dataclass(frozen=True, slots=True)
class Row:
    """One goal: its number, what it must keep to (`low` ≤ value ≤ `high`), and what else was seen."""

    key: str
    what: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as the JSON file has it."""
        goal = f"≥ {self.low:g}" if self.low is not None else f"≤ {self.high:g}"
        return {"key": self.key, "what": self.what, "value": self.value, "unit": self.unit, "goal": goal, "met": self.met, **self.seen}


def percentile(spans: Sequence[float], share: float) -> float:
    """Return the span that this share of all does not exceed."""
    ordered = sorted(spans)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def network() -> Iterator[Network]:
    """Give an empty network in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="tongban-bench-") as folder, Network(Path(folder)) as made:
        yield made


def _saved(made: Network, name: str, changes: Sequence[Change]) -> Path:
    path = made.folder / name
    workload.save(path, changes)
    return path


def _officers(*several: Sequence[Change]) -> list[str]:
    return sorted({change["officer"] for changes in several for change in changes})


# --- the offline backlog, and its bytes


def backlog(size: Size) -> list[Row]:
    """Carry a backlog up, and run the bare loop on the same entries, in turn."""
    found, loops = [], []
    for turn in range(size.rounds):
        say(f"backlog of {size.cases * 5} changes, round {turn + 1} of {size.rounds}")
        with network() as made:
            w = _saved(made, "w.jsonl", workload.generate(size.cases))
            prepared = race.prepare(made, w, _saved(made, "s.jsonl", workload.generate(2, 7)))
            before = bare.measure(entries := bare.load_entries(prepared.station.folder / "tongban.sqlite3"), 3)
            found.append(race.backlog(prepared))
            loops.append((before, bare.measure(entries, 3)))
    return _backlog_rows(size, found, loops)


def _backlog_rows(size: Size, found: list[dict[str, Any]], loops: list[tuple[dict[str, float], dict[str, float]]]) -> list[Row]:
    rates = [one["changes"] / one["sync_s"] for one in found]
    bares = [statistics.mean(one["bare_per_s"] for one in pair) for pair in loops]
    held = found[-1]["held"]
    whole = held["finished"] == held["cases"] == size.cases and held["waiting"] == 0
    seen = {"per_s": round(statistics.median(rates)), "bare_per_s": round(statistics.median(bares)), "folded": whole}
    seen |= {key: found[-1][key] for key in ("hub_cpu_us", "node_cpu_us", "hub_rss", "node_rss", "hub_disk_MB", "wrote_s")}
    ratio = statistics.median(rate / loop for rate, loop in zip(rates, bares, strict=True)) if whole else 0.0
    of_raw = statistics.median(one["ratio"] for pair in loops for one in pair)
    wire = statistics.median(one["lo_bytes_per_change"] for one in found)
    return [
        Row("backlog", f"offline backlog of {size.cases * 5} changes, of the bare loop", round(ratio, 3), "×", low=0.5, seen=seen),
        Row("bare", "the bare loop itself, of raw SQLite", round(of_raw, 3), "×", low=0.3),
        Row("wire", f"bytes on loopback a change, both ways, sets of {SET}", wire, "B", high=55),
    ]


# --- many stations at once


def crowd(size: Size, bulk_per_s: float) -> list[Row]:
    """Let many stations push twenty changes each at once: with sessions standing, then from nothing."""
    say(f"{size.stations} stations × 20 changes")
    with network() as made:
        hub = made.found(DISTRICT)
        papers = made.folder / "papers"
        hub.ask("papers", path=str(papers), count=size.stations)
        stations = Place(made.folder / "crowd", "bench.stations")
        made.places.append(stations)
        stations.ask("prepare", papers=str(papers), address=hub.address, offset_ms=made.clock_ms, cases=4)
        stations.ask("meet")
        spans = []
        for turn in range(size.rounds):
            spans.append(stations.ask("push"))
            stations.ask("write", cases=4, seed=turn + 1)
        stations.ask("part")
        cold = stations.ask("push")
        storms = [_storm(stations, size.rounds + 1 + turn) for turn in range(max(1, size.rounds // 2))]
        held = hub.ask("counts")
    whole = held["finished"] == size.stations * 4 * (size.rounds + 1 + 2 * len(storms))
    rate = size.stations * 20 / statistics.median(one["s"] for one in spans)
    seen = {"per_s": round(rate), "told_to_wait": spans[-1]["told_to_wait"], "cold_s": round(cold["s"], 2), "folded": whole}
    ratio = round(rate / bulk_per_s, 3) if whole else 0.0
    return [Row("crowd", f"{size.stations} stations × 20 changes at once, of the bulk rate", ratio, "×", low=0.3, seen=seen), _drained(size, storms, whole)]


def _storm(stations: Place, turn: int) -> dict[str, float]:
    """Let stations come back from nothing, with twenty changes each: some at a time, as on any day, then all at once."""
    found = {}
    for number, (name, at_once) in enumerate((("steady_s", AT_ONCE), ("storm_s", 0))):
        stations.ask("write", cases=4, seed=1_000 + 2 * turn + number)
        stations.ask("part")
        found[name] = stations.ask("push", at_once=at_once)["s"]
    return found


def _drained(size: Size, storms: Sequence[dict[str, float]], whole: bool) -> Row:
    ratio = statistics.median(one["storm_s"] / one["steady_s"] for one in storms) if whole else 99.0
    seen = {name: round(statistics.median(one[name] for one in storms), 2) for name in ("steady_s", "storm_s")}
    what = f"{size.stations} stations reconnecting at once with TLS and login, of the time at the steady rate"
    return Row("reconnect", what, round(ratio, 2), "×", high=1.5, seen=seen)


# --- one change, until it is shown above


def visible(size: Size) -> list[Row]:
    """Save at a village; ask the case APIs of its parent and of the city, idle, and while a backlog goes up."""
    say("single changes over three hops")
    singles, many = workload.generate(size.singles, 7), workload.generate(size.cases, 11, BUSY_VILLAGE)
    with network() as made:
        city = made.found(CITY)
        district = made.enrol(DISTRICT, city)
        town = made.enrol(TOWNSHIP, district)
        village = made.enrol(VILLAGE, town, _officers(singles))
        busy = made.enrol(BUSY_VILLAGE, town, _officers(many))
        busy.ask("write", path=str(_saved(made, "many.jsonl", many)))
        made.set_clocks(offset_after(at_ms(many[-1])))
        for place in (district, town, village):
            place.ask("follow")
        time.sleep(1.0)
        todo = iter(singles)
        idle = [_seen(village, (town, city), next(todo)) for _ in range(size.singles)]
        say("single changes while a backlog goes up")
        loaded = _while_busy(village, busy, town, city, todo, len(many))
    return _visible_rows(idle, loaded)


def _seen(village: Place, hubs: Sequence[Place], change: Change) -> list[float]:
    saved = village.ask("save", change=change)
    return [(hub.reader.wait_for(saved["key"], saved["steps"]) - saved["began_s"]) * 1000 for hub in hubs]


def _while_busy(
    village: Place, busy: Place, town: Place, city: Place, todo: Iterator[Change], backlog_size: int
) -> list[list[float]]:
    """Save every few ms while another station's backlog climbs to the city; each hub is asked by a thread of its own."""
    wanted = city.ask("counts")["entries"] + backlog_size
    queues: list[queue.SimpleQueue[dict[str, Any] | None]] = [queue.SimpleQueue(), queue.SimpleQueue()]
    spans: list[list[float]] = [[], []]

    def look(number: int, hub: Place) -> None:
        while (saved := queues[number].get()) is not None:
            spans[number].append((hub.reader.wait_for(saved["key"], saved["steps"]) - saved["began_s"]) * 1000)

    lookers = [threading.Thread(target=look, args=pair) for pair in enumerate((town, city))]
    for looker in lookers:
        looker.start()
    busy.tell("sync")
    for count, change in enumerate(todo):
        saved = village.ask("save", change=change)
        for one in queues:
            one.put(saved)
        time.sleep(SAVE_EVERY_S)
        if count % 20 == 19 and city.ask("counts")["entries"] >= wanted:
            break
    for one in queues:
        one.put(None)
    for looker in lookers:
        looker.join()
    busy.answer()
    return [list(pair) for pair in zip(*spans, strict=True)]


def _visible_rows(idle: list[list[float]], loaded: list[list[float]]) -> list[Row]:
    rows = []
    for hop, name, p50, p99 in ((0, "parent", 10, 50), (1, "city, 3 hops", 50, 200)):
        spans = [one[hop] for one in idle]
        busy = [one[hop] for one in loaded]
        key, seen = name.split(",")[0], {"samples": len(spans)}
        rows += [
            Row(f"visible_{key}_p50", f"one change shown at the {name}: p50", round(percentile(spans, 0.5), 1), "ms", high=p50, seen=seen),
            Row(f"visible_{key}_p99", f"one change shown at the {name}: p99", round(percentile(spans, 0.99), 1), "ms", high=p99, seen=seen),
            Row(
                f"visible_{key}_busy",
                f"… while a backlog goes up through all hubs, at the {name}: p99",
                round(percentile(busy, 0.99), 1),
                "ms",
                high=500,
                seen={"samples": len(busy), "p50": round(percentile(busy, 0.5), 1)},
            ),
        ]
    return rows


# --- saving at the counter


def saving(size: Size) -> list[Row]:
    """Time local saves against bare durable commits, and while many entries are pulled."""
    say("local saves")
    singles = workload.generate(max(size.saves * 5, 400), 7)
    given = [one for one in workload.generate(size.cases * 5 // 4, 5, CITY) if one["act"] in {"receive", "accept", "step"}]
    with network() as made:
        city = made.found(CITY)
        village = made.enrol(VILLAGE, city, _officers(singles))
        city.ask("officers", names=_officers(given))
        city.ask("write", path=str(_saved(made, "given.jsonl", given)))
        city.ask("offer_all", to=VILLAGE)
        made.set_clocks(offset_after(at_ms(given[-1])))
        path = str(_saved(made, "singles.jsonl", singles))
        saves, bares = [], []
        for turn in range(5):
            bares += village.ask("commits", count=size.saves)
            saves += village.ask("save_many", path=path, begin=turn * size.saves, end=(turn + 1) * size.saves)
        say("local saves while entries are pulled")
        pulling = village.ask("pull_while_saving", path=path, begin=5 * size.saves, end=len(singles))
    return _saving_rows(saves, bares, pulling)


def _saving_rows(saves: list[float], bares: list[float], pulling: dict[str, Any]) -> list[Row]:
    ratio = statistics.median(saves) / statistics.median(bares)
    seen = {"save_ms": round(statistics.median(saves), 2), "save_p99_ms": round(percentile(saves, 0.99), 2)}
    seen["commit_ms"] = round(statistics.median(bares), 2)
    during, sync = pulling["ms"], pulling["sync"]
    more = {"samples": len(during), "p50": round(percentile(during, 0.5), 1), "pulled": sync["pulled"], "pull_s": round(sync["whole_s"], 2)}
    return [
        Row("save", "local save, durable, of a bare durable commit through aiosqlite", round(ratio, 2), "×", high=4, seen=seen),
        Row(
            "save_pulling",
            f"local save while {sync['pulled']} pulled entries are applied: p99",
            round(percentile(during, 0.99), 1),
            "ms",
            high=50,
            seen=more,
        ),
    ]


# --- nothing new


def idle(size: Size) -> list[Row]:
    """Do rounds with nothing new at a small hub and at a large one, in turn."""
    say(f"rounds with nothing new at {size.entries[0]} and {size.entries[1]} entries")
    with network() as small, network() as large:
        pairs = [_idle_pair(one, entries) for one, entries in zip((small, large), size.entries, strict=True)]
        cpu: list[list[float]] = [[], []]
        wire: list[tuple[float, float]] = []
        for _ in range(7):
            for number, pair in enumerate(pairs):
                us, more = _idle_rounds(*pair, size.idle_rounds)
                cpu[number].append(us)
                wire.append(more)
    few, many = (statistics.median(one) for one in cpu)
    largest = max(one[1] for one in wire)
    seen = {"us_small": round(few), "us_large": round(many), "entries": list(size.entries)}
    return [
        Row("idle_requests", "sync round with nothing new: requests", max(one[0] for one in wire), "", high=1),
        Row("idle_bytes", "sync round with nothing new: bytes both ways, headers of segments included", round(largest), "B", high=1024),
        Row("idle_cpu", f"… hub CPU at {size.entries[1]} stored entries, of that at {size.entries[0]}", round(many / few, 2), "×", high=1.2, seen=seen),
    ]


def _idle_pair(made: Network, entries: int) -> tuple[Place, Place]:
    hub = made.found(DISTRICT)
    station = made.enrol(VILLAGE, hub)
    hub.ask("fill", entries=entries)
    station.ask("sync")
    return hub, station


def _idle_rounds(hub: Place, station: Place, rounds: int) -> tuple[float, tuple[float, float]]:
    station.ask("sync")
    before, wire = hub.ask("usage")["cpu_us"], station.ask("wire")
    for _ in range(rounds):
        station.ask("sync")
    used, after = hub.ask("usage")["cpu_us"] - before, station.ask("wire")
    return used / rounds, ((after["requests"] - wire["requests"]) / rounds, (after["bytes"] - wire["bytes"]) / rounds)


GROUPS: Final[dict[str, Callable[[Size], list[Row]]]] = {
    "backlog": backlog,
    "visible": visible,
    "saving": saving,
    "idle": idle,
}
