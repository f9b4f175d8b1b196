"""What several views need: printed times, when hubs received an entry, and bodies."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from node.ledger import read_body
from node.store import logs
from node.store.database import Connection
from node.store.logs import EntryRow, LogRow
from protocol import limits
from protocol.authority import LEGAL_ZONE, ZONE_MS
from protocol.errors import DecodeError
from protocol.log import Entry, Header, LogId, decode_header

Shown = dict[str, object]


def time_text(at_ms: int) -> str:
    """Return a time as it is printed: 2026-05-06T09:30:00.123+08:00; in the last hours of 9999, the last that has a print."""
    at_ms = min(at_ms, limits.TIME_MS_MAX - ZONE_MS)
    at = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return at.astimezone(LEGAL_ZONE).isoformat(timespec="milliseconds")


def log_text(log: LogId) -> str:
    """Return a log's name in one word: node/incarnation."""
    return f"{log.node}/{log.incarnation.hex()}"


def header_of(row: EntryRow) -> Header | None:
    """Return an entry's header; None when it cannot be read."""
    try:
        return decode_header(row.raw)
    except DecodeError:
        return None


def body_of(row: EntryRow) -> dict[str, Any]:
    """Return an entry's body; empty when it is withheld, or cannot be read."""
    try:
        return read_body(Entry(row.raw, row.body)) or {}
    except DecodeError:
        return {}


@dataclass(frozen=True, slots=True)
class _Steps:
    """One hub's receipts of one log, both lists rising with the size."""

    sizes: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Receipts:
    """When hubs received what, and the logs themselves; each log is read once."""

    conn: Connection
    _logs: dict[int, LogRow] = field(default_factory=dict)
    _steps: dict[int, dict[str, _Steps]] = field(default_factory=dict)

    def log(self, log_id: int) -> LogRow:
        """Return a log by its id."""
        if log_id not in self._logs:
            self._logs[log_id] = logs.load_log(self.conn, log_id)
        return self._logs[log_id]

    def times(self, log_id: int, index: int) -> dict[str, int]:
        """Return when each hub first receipted an entry, ms, as far as its receipts are here."""
        found = {}
        for hub, steps in self._of(log_id).items():
            place = bisect_right(steps.sizes, index)
            if place < len(steps.sizes):
                found[hub] = steps.times[place]
        return found

    def shown(self, log_id: int, index: int) -> dict[str, str]:
        """Return the same, printed."""
        return {hub: time_text(at) for hub, at in sorted(self.times(log_id, index).items())}

    def _of(self, log_id: int) -> dict[str, _Steps]:
        if log_id not in self._steps:
            steps: dict[str, _Steps] = {}
            for hub, size, at in logs.receipts_of(self.conn, log_id):
                one = steps.setdefault(hub, _Steps())
                one.sizes.append(size)
                one.times.append(at)
            self._steps[log_id] = steps
        return self._steps[log_id]
