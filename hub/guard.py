"""What a hub bears of whoever calls, decided before anything is read: lines, requests and time, each with its bound.

Pure bookkeeping: the time comes in as an argument, and `hub.server` does what is decided here.

A **line** is one connection. It is a *stranger's* until a request on it shows a session; from then on it is that node's. Of
strangers an address has so many lines at once and so many new ones a second; where there is no room, the stranger who has been
silent longest gives way, so that lines which are only held open keep nobody out. A node has so many lines whatever its address:
many stations may stand behind one. A line on which no whole request stands when it is due is closed.

Requests are paid for from a bucket that fills again with time: strangers by address, others by node. Who floods is told so
unread, and what others pay from is not touched.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from protocol import limits

BUCKETS_MAX: Final = 20_000  # callers remembered; the one heard longest ago is forgotten first
BURST: Final = 4  # seconds' worth of requests that may come at once


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is borne.

    lines: of all callers together. per_host: lines of strangers at one address, and how many requests and new lines of
    theirs a second. per_node: lines of one node. requests_per_node: a second. head_s: for a stranger's next whole request
    head; also for TLS. idle_s: the same on the line of a node. body_s: before the rate of a body counts.
    """

    lines: int = 4_096
    per_host: int = 64
    per_node: int = 32
    requests_per_node: int = 500
    head_s: float = 10.0
    idle_s: float = 55.0
    body_s: float = 10.0


@dataclass(eq=False, slots=True)
class Line:
    """One connection.

    close: ends it at once. due_s: when it is closed unless a whole request head is there; infinite from then to the answer.
    node: whose session it showed, else empty. busy: a request is here whole and is being answered.
    """

    peer: str
    close: Callable[[], None]
    due_s: float
    node: str = ""
    busy: bool = False


Lines = OrderedDict[Line, None]  # in the order of arrival


@dataclass(slots=True)
class _Buckets:
    """Tokens by caller; `per_s` come in each second, up to `BURST` seconds' worth."""

    per_s: float
    held: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)  # (tokens, when)

    def spend(self, caller: str, now_s: float) -> float:
        """Take a token; returns 0, or in how many seconds there will be one."""
        full = self.per_s * BURST
        tokens, when = self.held.pop(caller, (full, now_s))
        tokens = min(full, tokens + (now_s - when) * self.per_s)
        wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self.per_s
        self.held[caller] = (tokens if wait_s else tokens - 1, now_s)
        if len(self.held) > BUCKETS_MAX:
            self.held.popitem(last=False)
        return wait_s


class Guard:
    """The lines of one hub and what their callers have spent. Owner: the event loop."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.lines: Lines = OrderedDict()
        self._strangers: dict[str, Lines] = {}
        self._nodes: dict[str, Lines] = {}
        self._new_lines = _Buckets(bounds.per_host)
        self._strange_requests = _Buckets(bounds.per_host)
        self._node_requests = _Buckets(bounds.requests_per_node)

    # --- lines

    def admit(self, address: str, now_s: float, close: Callable[[], None]) -> Line | None:
        """Take a new line in; None when it has to go. A stranger who says nothing may have to go instead."""
        peer = peer_of(address)
        if self._new_lines.spend(peer, now_s):
            return None
        beside = self._strangers.get(peer, OrderedDict())
        if len(beside) >= self.bounds.per_host and not self._turn_out(beside):
            return None
        if len(self.lines) >= self.bounds.lines and not self._turn_out(self.lines):
            return None
        line = Line(peer, close, now_s + self.bounds.head_s)
        self.lines[line] = None
        self._strangers.setdefault(peer, OrderedDict())[line] = None
        return line

    def _turn_out(self, some: Lines) -> bool:
        """Close the first stranger's line on which no whole request came; tells whether there was one."""
        silent = next((line for line in some if not line.node and not line.busy), None)
        if silent is not None:
            self._end(silent)
        return silent is not None

    def know(self, line: Line, node: str) -> None:
        """Note whose session a line shows; a node with too many lines loses its oldest."""
        if line.node == node or line not in self.lines:
            return
        self._unfile(line)
        line.node = node
        mine = self._nodes.setdefault(node, OrderedDict())
        mine[line] = None
        if len(mine) > self.bounds.per_node:
            self._end(next(iter(mine)))

    def begin(self, line: Line) -> None:
        """A whole request head is here; `hub.server` reads its body no slower than is borne."""
        line.due_s = math.inf

    def work(self, line: Line) -> None:
        """Its body is here, too: it is being answered."""
        line.busy = True

    def finish(self, line: Line, now_s: float, size: int) -> None:
        """A request was answered with so many bytes: time for the other side to take them, and to ask again."""
        line.busy = False
        span_s = self.bounds.idle_s if line.node else self.bounds.head_s
        line.due_s = now_s + span_s + size / limits.LINE_BYTES_PER_SECOND_MIN

    def forget(self, line: Line) -> None:
        """A line has ended."""
        if line in self.lines:
            del self.lines[line]
            self._unfile(line)

    def sweep(self, now_s: float) -> int:
        """Close what is overdue; returns how many lines."""
        overdue = [line for line in self.lines if line.due_s <= now_s]
        for line in overdue:
            self._end(line)
        return len(overdue)

    def _end(self, line: Line) -> None:
        self.forget(line)
        line.close()

    def _unfile(self, line: Line) -> None:
        files, name = (self._nodes, line.node) if line.node else (self._strangers, line.peer)
        files[name].pop(line, None)
        if not files[name]:
            del files[name]

    # --- requests

    def pay(self, line: Line, node: str | None, now_s: float) -> float:
        """Pay for a request of a node, or of a stranger; returns 0, or in how many seconds the caller may ask again."""
        if node is not None:
            return self._node_requests.spend(node, now_s)
        return self._strange_requests.spend(line.peer, now_s)


def peer_of(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    mapped = found.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
