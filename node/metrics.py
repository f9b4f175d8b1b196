"""Numbers for Prometheus, text format 0.0.4, and those that every node has.

    families = [*of_store(node, conn), *of_process(node, began_s)]
    render(families)

Names follow Prometheus' conventions: base units, `_total` for what only grows. A label is a node id, an error code or a
version: never free text, nobody's name, no case; how many values one may have is bounded where it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from node import backup, pulse, scrub, system
from node.node import PROGRAM, Node
from node.safety import acked
from node.store import logs
from node.store.database import Connection
from node.store.logs import LogRow
from node.uplink import Uplink
from protocol.log import decode_header

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "tongban_"
LOOKED_AT_MAX: Final = 64  # entries, for the age of the oldest one that is not acknowledged
MS: Final = 1_000

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, and what tells it from the others of its family."""

    value: float
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name. kind: "gauge" or "counter"; the name is given without the prefix."""

    name: str
    kind: str
    about: str
    samples: tuple[Sample, ...]


def gauge(name: str, about: str, value: float | None) -> Family:
    """Return one number that rises and falls; None when it is not known, and then it is left out."""
    return Family(name, "gauge", about, () if value is None else (Sample(value),))


def counter(name: str, about: str, samples: Sequence[Sample]) -> Family:
    """Return numbers that only grow while the program runs."""
    return Family(name, "counter", about, tuple(samples))


def render(families: Iterable[Family]) -> str:
    """Write families down as Prometheus reads them; those without a number are left out."""
    return "".join(f"{line}\n" for family in families if family.samples for line in _lines(family))


def of_store(node: Node, conn: Connection) -> Iterator[Family]:
    """Yield what the store says: how much there is, what is not safe above yet, how long the disk lasts."""
    own = node.ledger.own_row(conn)
    counts = conn.execute(
        "SELECT (SELECT count(*) FROM logs), (SELECT coalesce(max(id), 0) FROM entries), (SELECT count(*) FROM cases),"
        " (SELECT count(*) FROM cases WHERE waiting = 1), (SELECT count(*) FROM evidence)"
    ).fetchone()
    schema = str(conn.execute("PRAGMA user_version").fetchone()[0])
    labels = (("node", node.id), ("program", PROGRAM), ("schema", schema))
    yield Family("build_info", "gauge", "Who runs what: always 1.", (Sample(1, labels),))
    yield gauge("log_entries", "Entries of the node's own log.", own.size)
    yield gauge("logs", "Logs held, rival branches included.", counts[0])
    yield gauge("entries", "Entries held of all logs.", counts[1])
    yield gauge("cases", "Cases held.", counts[2])
    yield gauge("cases_waiting", "Cases in which something is missing that others rest on.", counts[3])
    yield gauge("forks", "Pairs of contradicting signed histories kept as evidence.", counts[4])
    yield gauge("register", "Number of the newest register held.", node.rules.number)
    yield from _above(node, conn, own)
    yield from _disk(node, conn)
    yield from _care(conn)


def of_uplink(uplink: Uplink | None, _conn: Connection) -> Iterator[Family]:
    """Yield how the line to the parent is; nothing at the root."""
    if uplink is not None:
        yield gauge("parent_connected", "1 while a session with the parent, or a node above it, stands.", int(uplink.connected))
        yield gauge("clock_skew_seconds", "How far this clock was ahead of the parent's at the last meeting.", uplink.line.skew_ms / MS)


def of_certificate(ends_at_s: float, node: Node, _conn: Connection) -> Iterator[Family]:
    """Yield how long the connection's certificate is dated; nodes do not look at that, inspecting proxies might."""
    yield gauge("certificate_days_left", "Days for which the certificate is dated.", (ends_at_s - node.clock.wall_ms() / MS) / 86_400)


def of_process(node: Node, began_s: float) -> Iterator[Family]:
    """Yield what the machine says of the program. began_s: monotonic time at which it started."""
    yield gauge("uptime_seconds", "Since the program started.", node.clock.monotonic_s() - began_s)
    yield gauge("clock_seconds", "This machine's wall clock, seconds since 1970.", node.clock.wall_ms() / MS)
    yield gauge("resident_memory_bytes", "Memory of the process.", system.resident_bytes())


def _above(node: Node, conn: Connection, own: LogRow) -> Iterator[Family]:
    """Yield what nodes above have of the own logs, and what they have not."""
    if node.parent is None:
        return
    known = logs.acks(conn)
    rows = [row for row in logs.load_logs(conn) if row.log.node == node.id and not row.branch]
    behind = [(row.id, known.get(row.id, 0)) for row in rows if row.size > known.get(row.id, 0)]
    yield gauge("acked_entries", "Entries of the own log that the parent acknowledged.", known.get(own.id, 0))
    pending = sum(row.size for row in rows) - sum(min(known.get(row.id, 0), row.size) for row in rows)
    yield gauge("pending_entries", "Own entries that the parent has not acknowledged.", pending)
    yield gauge("pending_age_seconds", "Age of the oldest of them, by its own claim.", _age_s(node, conn, behind))
    safe = acked(conn, own.id, node.id, node.parent)
    for place, one in (("parent", safe.parent), ("second", safe.second)):
        if one is not None:
            yield gauge(f"receipted_{place}_entries", f"Entries of the own log with a receipt ({place}).", one.size)
    heard = logs.get_meta(conn, "last_contact")
    yield gauge("parent_contact_timestamp_seconds", "When the parent was last heard.", int(heard) / MS if heard else None)


def _age_s(node: Node, conn: Connection, behind: Sequence[tuple[int, int]]) -> float:
    """Return how old the oldest entry is that was not recorded afterwards; behind: (log id, first index)."""
    oldest = node.clock.wall_ms()
    for log_id, index in behind:
        found = conn.execute(
            "SELECT raw FROM entries WHERE log = ? AND idx >= ? ORDER BY idx LIMIT ?", (log_id, index, LOOKED_AT_MAX)
        )
        headers = (decode_header(raw) for (raw,) in found)
        claims = (one.claimed_at for one in headers if one.fields.get("afterwards") is not True)
        oldest = min(oldest, next(claims, oldest))
    return (node.clock.wall_ms() - oldest) / MS


def _disk(node: Node, conn: Connection) -> Iterator[Family]:
    found = pulse.look(node, conn)
    yield gauge("store_bytes", "Database and WAL.", found.space.store_bytes)
    yield gauge("store_wal_bytes", "The WAL alone.", found.space.wal_bytes)
    yield gauge("disk_free_bytes", "Free on the store's disk.", found.space.free_bytes)
    yield gauge("store_growth_bytes_per_day", "Growth in the last weeks.", found.bytes_a_day)
    yield gauge("disk_days_left", "Days until only the reserve is free.", found.days_left)
    yield gauge("disk_full", "1 while new work is refused for want of room.", int(_refuses(node, found.full)))


def _care(conn: Connection) -> Iterator[Family]:
    """Yield when the store was last gone over, and what was found."""
    done = logs.get_meta(conn, scrub.DONE)
    yield gauge("scrub_timestamp_seconds", "When all entries were last read and hashed again.", int(done) / MS if done else None)
    made = logs.get_meta(conn, backup.LAST)
    yield gauge("backup_timestamp_seconds", "When the last backup was made.", int(made) / MS if made else None)
    damaged = scrub.standing(conn)["damaged"]
    yield gauge("damaged_places", "Places of the store that are damaged and could not be mended.", int(str(damaged)))


def _refuses(node: Node, full: bool) -> bool:
    return node.room.full if node.room is not None else full


def _lines(family: Family) -> Iterator[str]:
    name = PREFIX + family.name
    yield f"# HELP {name} {_escaped(family.about)}"
    yield f"# TYPE {name} {family.kind}"
    for sample in family.samples:
        labels = ",".join(f'{key}="{_escaped(value, quotes=True)}"' for key, value in sample.labels)
        yield f"{name}{{{labels}}} {_number(sample.value)}" if labels else f"{name} {_number(sample.value)}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    plain = text.replace("\\", r"\\").replace("\n", r"\n")
    return plain.replace('"', r"\"") if quotes else plain


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
