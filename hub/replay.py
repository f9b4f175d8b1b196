"""`tongban replay`: one node states its share of a log, or the nodes of a network on this machine take turns until all is stated.

A round: each node states what it can now, all at once; then everything is synchronised, up and down. What needed another node's
entry follows in the next round. When nothing is left, the log is counted again from what the root holds (with one
node: from its own store). Nothing is kept between rounds but what the nodes have stored, so that the command may be given again
after a stop at any moment.

`network.json` in the folder of a kept demo names the nodes: a list of {node, name, parent, data, url, pid}.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from hub import commands as _operations  # noqa: F401 - registers what a node is asked here
from node import console, inputs, local_client
from node.cli.execute import execute
from node.cli.options import Settings
from node.command import Command
from node.folder import Folder
from node.replay import Replay, load
from node.replaying.reading import LoggedCase
from node.texts import t
from protocol.divisions import check_node_id
from protocol.errors import InputError, LinkError, TongbanError
from protocol.problems import Fields, Problems

NETWORK_FILE: Final = "network.json"
ASK_TIMEOUT_S: Final = 300.0  # the longest silence of a node that works on a part
SYNC_TIMEOUT_S: Final = 20.0  # of one try; a round brings a few thousand entries at most
SYNC_TRIES: Final = 3
IDLE_ROUNDS_MAX: Final = 2  # rounds in which nothing was stated, before the rest is called stuck
PROBLEMS_SHOWN: Final = 50
AGAIN: Final = "Then give the same command again: what was taken in stays, and is not taken in twice."

Value = dict[str, Any]
Row = Mapping[str, Any]
Advance = Callable[[int], None]


class Peer(Protocol):
    """A node that is asked."""

    @property
    def node(self) -> str:
        """Its id."""
        ...

    @property
    def parent(self) -> str | None:
        """Its parent's id; None at the root."""
        ...

    async def ask(self, name: str, params: Mapping[str, Any]) -> Value:
        """Give a command that answers one value."""
        ...

    async def rows(self, name: str, params: Mapping[str, Any], take: Callable[[Row], None]) -> None:
        """Give a command that answers rows."""
        ...


@dataclass(slots=True)
class Turns:
    """What the rounds came to. left: node → cases in which it still has something to state."""

    taken: int = 0
    rounds: int = 0
    left: dict[str, list[str]] = field(default_factory=dict)
    refused: list[Value] = field(default_factory=list)


def run(options: Mapping[str, Any]) -> Value:
    """Carry `tongban replay` out.

    Raises:
        InputError: log, map or network file is wrong. LinkError: a node stopped; the command may be given again.
    """
    replay = load(options["file"], options["map"])
    network: Path | None = options["network"]
    peers = load_network(network) if network is not None else []
    if network is not None:
        check_places(replay, peers, network)
    if options["dry_run"]:
        return {"dry_run": True, **replay.summary()}
    with console.progress(t("replay.progress"), replay.log.events, quiet=bool(options["json"])) as advance:
        if network is not None:
            return asyncio.run(through(replay, peers, advance))
        return _alone(replay, str(options["data"]), advance)


# --- several nodes


async def through(replay: Replay, peers: Sequence[Peer], advance: Advance) -> Value:
    """Let the nodes take turns until all is stated, then count at the root."""
    turns = await take_turns(replay, peers, advance)
    count = Count(replay)
    root = next(peer for peer in peers if peer.parent is None)
    await root.rows("export", {"entries": True}, count.take)
    return {**count.shown(turns), "counted_at": root.node}


async def take_turns(replay: Replay, peers: Sequence[Peer], advance: Advance) -> Turns:
    """Run rounds until nothing is left, or nothing moves any more."""
    turns = Turns(left={peer.node: [case.name for case in replay.share_of(peer.node)] for peer in peers})
    idle = 0
    while any(turns.left.values()) and idle <= IDLE_ROUNDS_MAX:
        stated = await _round(replay, peers, turns, advance)
        await settle(peers)
        idle = 0 if stated else idle + 1
    return turns


async def _round(replay: Replay, peers: Sequence[Peer], turns: Turns, advance: Advance) -> int:
    """Let every node state what it can; returns how many entries that were."""
    turns.rounds += 1
    turns.refused = []
    by_name = {case.name: case for case in replay.log.cases}
    work = [(peer, [by_name[name] for name in turns.left[peer.node]]) for peer in peers if turns.left[peer.node]]
    return sum(await asyncio.gather(*(_share(replay, peer, cases, turns, advance) for peer, cases in work)))


async def _share(replay: Replay, peer: Peer, cases: Iterable[LoggedCase], turns: Turns, advance: Advance) -> int:
    left: list[str] = []
    stated = 0
    for part in replay.parts(cases):
        answer = await peer.ask("replay", part)
        left += answer["left"]
        stated += answer["taken"] + answer["besides"]
        turns.taken += answer["taken"]
        turns.refused += answer["problems"]
        advance(answer["taken"] + (answer["repeated"] if turns.rounds == 1 else 0))  # later rounds meet the same again
    turns.left[peer.node] = left
    return stated


async def settle(peers: Sequence[Peer]) -> None:
    """Bring everything up to the root, then down to everybody: the deepest first, then the highest."""
    levels = _levels(peers)
    for level in [*reversed(levels), *levels]:
        await asyncio.gather(*(_sync(peer, peers) for peer in level))


async def _sync(peer: Peer, peers: Sequence[Peer]) -> None:
    """Synchronise one node; what others write meanwhile may leave something open the first time.

    Raises:
        LinkError: it goes on failing, or a node has stopped, which is then named.
    """
    for last in (False,) * (SYNC_TRIES - 1) + (True,):
        try:
            await peer.ask("sync", {"timeout_s": SYNC_TIMEOUT_S})
        except TongbanError as error:
            if last or not error.retryable:
                raise
            await asyncio.gather(*(one.ask("status", {}) for one in peers))
        else:
            return


def _levels(peers: Sequence[Peer]) -> list[list[Peer]]:
    """Return the nodes below the root by depth, the highest first."""
    parents = {peer.node: peer.parent for peer in peers}
    levels: dict[int, list[Peer]] = {}
    for peer in peers:
        depth, above = 0, peer.parent
        while above is not None and depth <= len(peers):
            depth, above = depth + 1, parents.get(above)
        if depth:
            levels.setdefault(depth, []).append(peer)
    return [levels[depth] for depth in sorted(levels)]


# --- one node


def _alone(replay: Replay, data: str, advance: Advance) -> Value:
    settings = Settings(data=data, as_json=True)
    sink = _Sink()
    execute(settings, "status", {}, sink)
    node = str(sink.found[-1]["node"])
    turns = Turns(rounds=1)
    left: list[str] = []
    for part in replay.parts(replay.share_of(node)):
        execute(settings, "replay", part, sink)
        answer = sink.found[-1]
        left += answer["left"]
        turns.taken += answer["taken"]
        turns.refused += answer["problems"]
        advance(answer["taken"] + answer["repeated"])
    turns.left = {node: left}
    count = Count(replay, node)
    execute(settings, "export", {"entries": True}, _Sink(count.take))
    return {**count.shown(turns), "counted_at": node}


class _Sink:
    """Takes answers: values are kept, rows handed on."""

    def __init__(self, take: Callable[[Row], None] | None = None) -> None:
        self.found: list[Value] = []
        self._take = take

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        self.found.append(value)

    def row(self, row: Any) -> None:  # noqa: ANN401 - the same
        if self._take is not None:
            self._take(row)


# --- counting


class Count:
    """Counts the events of a log among the entries that a node exports.

    Args:
        replay: what was to be stated.
        node: count this node's share only; None: the whole log.
    """

    def __init__(self, replay: Replay, node: str | None = None) -> None:
        plans = replay.plans.values()
        mine = [step for plan in plans for step in plan if step.source and node in {None, step.node}]
        self._expected = {step.source[0]: step.source[1] for step in mine if step.source}
        self._source_events = Counter(self._expected.values())
        self._replay = replay
        self._seen: Counter[str] = Counter()
        self._commands: Counter[str] = Counter()
        self._besides: Counter[str] = Counter()
        self._effects: Counter[str] = Counter()
        self._cases: set[str] = set()

    def take(self, row: Row) -> None:
        """Count one exported entry; a case's opening comes before its other entries."""
        source = row["source_id"]
        if source in self._expected:
            self._seen[source] += 1
            self._commands[row["type"]] += 1
            self._cases.add(row["key"])
        elif row["key"] in self._cases and source is None:
            self._besides[row["type"]] += 1
        else:
            return
        self._effects[row["effect"]] += 1

    def shown(self, turns: Turns) -> Value:
        """Return the result of the command."""
        by_activity: Counter[str] = Counter()
        for source, count in self._seen.items():
            by_activity[self._expected[source]] += count
        problems = [*self._differences(by_activity), *_stuck(turns)]
        return {
            "events": self._replay.log.events,
            "share": len(self._expected),
            "taken": turns.taken,
            "repeated": len(self._seen) - turns.taken,
            "cases": len(self._cases),
            "by_activity": dict(by_activity.most_common()),
            "by_command": dict(self._commands.most_common()),
            "besides": dict(self._besides.most_common()),
            "effects": dict(self._effects),
            "void": self._effects["void"],
            "notes": self._commands["note"],
            "waiting": sum(len(names) for names in turns.left.values()),
            "rounds": turns.rounds,
            "problems": problems[:PROBLEMS_SHOWN],
        }

    def _differences(self, by_activity: Mapping[str, int]) -> list[str]:
        found = [f"{source}: stands {count} times" for source, count in self._seen.items() if count > 1]
        return found + [
            f"{activity}: {count} events in the log, {by_activity.get(activity, 0)} taken in"
            for activity, count in self._source_events.items()
            if by_activity.get(activity, 0) != count
        ]


def _stuck(turns: Turns) -> list[str]:
    return [f"{one['node']}: case {one['case']}: {one['event']}: {one['message']}" for one in turns.refused]


# --- the network of a kept demo


@dataclass(frozen=True, slots=True)
class LocalPeer:
    """A node that runs on this machine."""

    node: str
    parent: str | None
    folder: Folder

    async def ask(self, name: str, params: Mapping[str, Any]) -> Value:
        """Give a command through the local API, in a thread of its own."""
        sink = _Sink()
        await asyncio.to_thread(self._call, name, params, sink)
        return sink.found[-1]

    async def rows(self, name: str, params: Mapping[str, Any], take: Callable[[Row], None]) -> None:
        """Give a command that answers rows; `take` is called in another thread, one row after the other."""
        await asyncio.to_thread(self._call, name, params, _Sink(take))

    def _call(self, name: str, params: Mapping[str, Any], sink: local_client.Sink) -> None:
        place = self.folder.load_api()
        if place is None:
            raise LinkError(f"node {self.node} does not run", hint=f"Start it: tongban --data {self.folder.root} run. {AGAIN}")
        try:
            local_client.call(place, Command(name, dict(params)), sink, ASK_TIMEOUT_S)
        except LinkError as exc:
            raise LinkError(f"node {self.node}: {exc.message}", hint=AGAIN) from exc


def load_network(folder: Path) -> list[LocalPeer]:
    """Read which nodes a kept demo runs.

    Raises:
        InputProblems, InputError: no such file, or it is wrong.
    """
    path = folder / NETWORK_FILE
    rows = inputs.parse_json(inputs.read_text(path), str(path))
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: must hold a list of nodes", hint="It is written by `tongban demo --keep`.")
    problems = Problems(str(path))
    peers = [_peer(Fields(row, f"[{number}]", problems), folder) for number, row in enumerate(rows)]
    if [peer.parent for peer in peers].count(None) != 1:
        problems.add("", "must hold one root, whose parent is null")
    problems.check()
    return peers


def _peer(fields: Fields, folder: Path) -> LocalPeer:
    parent = fields.raw("parent")
    if parent is not None and not isinstance(parent, str):
        fields.fault("parent", "must be a node id or null")
    data = Path(fields.text("data", chars_max=4_096))
    known = Folder(data if data.is_absolute() or data.exists() else folder / data)
    return LocalPeer(fields.checked("node", check_node_id), parent if isinstance(parent, str) else None, known)


def check_places(replay: Replay, peers: Sequence[Peer], folder: Path) -> None:
    """Check that every node that is to state something is there.

    Raises:
        InputProblems: names those that are not.
    """
    there = {peer.node for peer in peers}
    problems = Problems(str(folder / NETWORK_FILE))
    for node in (node for node in replay.nodes() if node not in there):
        problems.add("", f"the map names node {node}, which is not in this network")
    problems.check()
