"""`tongban verify`: everything that a node holds, against what was signed.

Nothing in the store is believed: leaves are hashed again from header bytes, roots made again from leaves, every signature, path,
body and receipt checked. Read in pages; memory stays bounded, and the node goes on working. Projections: `node.rebuilding`.
"""
from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.ledger import Ledger
from node.node import Node
from node.store import logs
from node.store.database import Connection
from node.store.logs import EntryRow, LogRow
from node.views.common import Shown, header_of, log_text
from protocol import codec, merkle
from protocol.errors import DecodeError, PeerError, StoreDamaged
from protocol.log import (
    Checkpoint,
    LogId,
    Signed,
    check_body,
    decode_body,
    decode_header,
    hash_header,
    salt_of,
    verify_checkpoint,
)

PAGE: Final = 1_000
PROBLEMS_MAX: Final = 1_000  # kept in one report; the count goes on
HASH_BYTES: Final = 32

Progress = Callable[[int, int], None]  # entries checked, entries in all
Breathe = Callable[[], Awaitable[None]]  # between two pages


@dataclass(slots=True)
class Report:
    """What a check found.

    Attributes:
        found: problems met, of which the first `PROBLEMS_MAX` are kept.
        places: where they are: kind, log, index.
    """

    logs: int = 0
    entries: int = 0
    checkpoints: int = 0
    receipts: int = 0
    found: int = 0
    problems: list[Shown] = field(default_factory=list)
    places: list[tuple[str, LogId | None, int | None]] = field(default_factory=list)

    def problem(self, kind: str, log: LogId | None, index: int | None, detail: str) -> None:
        """Note a problem."""
        self.found += 1
        if len(self.problems) < PROBLEMS_MAX:
            name = log_text(log) if log is not None else None
            self.problems.append({"kind": kind, "log": name, "index": index, "detail": detail})
            self.places.append((kind, log, index))

    def shown(self) -> Shown:
        """Return the form that `verify` prints."""
        counts = {"logs": self.logs, "entries": self.entries, "checkpoints": self.checkpoints, "receipts": self.receipts}
        return {**counts, "found": self.found, "problems": self.problems}


# --- verify


async def verify(node: Node, progress: Progress | None = None, *, page: int = 0, breathe: Breathe | None = None) -> Report:
    """Check all logs, signatures, paths, bodies, receipts and evidence held here.

    Each page is read on a snapshot of its own, so the node goes on working; what arrives meanwhile is not looked at.

    Args:
        page: entries at once; 0 for many. breathe: awaited after each page, for a check that takes its time.
    """
    report, page = Report(), page or PAGE
    try:
        rows = await node.read(logs.load_logs)
    except DecodeError as exc:
        raise StoreDamaged("the list of logs cannot be read") from exc
    total = await node.read(lambda conn: int(conn.execute("SELECT count(*) FROM entries").fetchone()[0]))
    for row in rows:
        check = _LogCheck(node.ledger, row, report, page)
        while await node.read(check.page):
            if progress is not None:
                progress(report.entries, total)
            if breathe is not None:
                await breathe()
        report.logs += 1
    await _pages(node, _SparseCheck(node.ledger, report, page).page, breathe)
    await _pages(node, _ReceiptCheck(report, page).page, breathe)
    await node.read(lambda conn: _check_evidence(conn, node.ledger, report))
    return report


async def _pages(node: Node, page: Callable[[Connection], bool], breathe: Breathe | None) -> None:
    while await node.read(page):
        if breathe is not None:
            await breathe()


@dataclass(frozen=True, slots=True)
class _Mark:
    """A size of a log at which a root was stated: by a checkpoint, by a hub's receipt, or by our own row."""

    size: int
    kind: str
    root: bytes
    start: int = -1
    run: bytes = b""
    detail: str = ""


class _LogCheck:
    """Reads one log from its first entry to its last, comparing every stated root on the way."""

    def __init__(self, ledger: Ledger, row: LogRow, report: Report, page: int = PAGE) -> None:
        self._page = page
        self._ledger = ledger
        self._row = row
        self._report = report
        self._compact: merkle.CompactRange | None = None
        self._covered = row.start
        self._salts: dict[int, bytes | None] = {}

    def page(self, conn: Connection) -> bool:
        """Check the next entries; False when the log is done."""
        if self._compact is None:
            self._compact = self._begin(conn)
        start = self._compact.size
        end = min(self._row.size, start + self._page)
        if start < end:
            self._check_run(conn, start, end)
        if end < self._row.size:
            return True
        self._end(conn)
        return False

    def _begin(self, conn: Connection) -> merkle.CompactRange:
        """Return the range before the log's first own entry: empty, but for a rival branch what both share."""
        compact = merkle.CompactRange(0, ())
        if self._row.start:
            trunk = logs.find_log(conn, self._row.log)
            for start in range(0, self._row.start, PAGE):
                leaves = logs.leaves_between(conn, trunk.id if trunk else 0, start, min(self._row.start, start + PAGE))
                compact = compact.append_many(leaves)
        return compact

    def _check_run(self, conn: Connection, start: int, end: int) -> None:
        rows = logs.entries_between(conn, self._row.id, start, end)
        leaves = [hash_header(one.raw) for one in rows]
        self._report.entries += len(rows)
        if [one.index for one in rows] != list(range(start, end)):
            self._problem("gap", start, f"entries are missing between {start} and {end}")
            self._compact = merkle.CompactRange(self._row.size, ())  # nothing behind a gap can be compared
            return
        for one in rows:
            _check_entry(conn, self._row, one, self._salts, self._report)
        compact = self._compact or merkle.CompactRange(0, ())
        for mark in self._marks(conn, start, end):
            compact = compact.append_many(leaves[compact.size - start : mark.size - start])
            self._compare(conn, mark, compact)
        self._compact = compact.append_many(leaves[compact.size - start :])

    def _marks(self, conn: Connection, start: int, end: int) -> Iterator[_Mark]:
        """Return the roots stated for sizes in (start, end], rising."""
        found = [*self._checkpoints(conn, start, end), *self._receipts(conn, start, end)]
        if end == self._row.size:
            found.append(_Mark(end, "root", self._row.root, detail="the root in our own row"))
        yield from sorted(found, key=lambda mark: mark.size)

    def _checkpoints(self, conn: Connection, start: int, end: int) -> Iterator[_Mark]:
        rows = conn.execute(
            "SELECT raw, signature FROM checkpoints WHERE log = ? AND size > ? AND size <= ? AND whole", (self._row.id, start, end)
        )
        for raw, signature in rows:
            checkpoint = _checked_checkpoint(self._ledger, self._row, Signed(raw, signature), self._report)
            if checkpoint is not None:
                self._covered = max(self._covered, checkpoint.size)
                yield _Mark(checkpoint.size, "checkpoint", checkpoint.root, checkpoint.start, checkpoint.run)

    def _receipts(self, conn: Connection, start: int, end: int) -> Iterator[_Mark]:
        if self._row.branch:
            return
        rows = conn.execute(
            "SELECT r.hub, r.size, e.body FROM receipts r JOIN entries e ON e.id = r.entry "
            "WHERE r.log = ? AND r.size > ? AND r.size <= ?",
            (self._row.id, start, end),
        )
        for hub, size, body in rows:
            root = _receipted_root(body, self._row.log, size)
            if root is not None:
                yield _Mark(size, "receipt", root, detail=f"{hub} receipted another history")

    def _compare(self, conn: Connection, mark: _Mark, compact: merkle.CompactRange) -> None:
        if compact.size != mark.size or compact.root() != mark.root:
            self._problem(mark.kind, mark.size - 1, mark.detail or "the entries do not give the root that was signed")
        elif mark.run and mark.start >= self._row.start:
            leaves = logs.leaves_between(conn, self._row.id, mark.start, mark.size)
            if merkle.root(leaves) != mark.run:
                self._problem(mark.kind, mark.size - 1, "the entries do not give the run that was signed")

    def _end(self, conn: Connection) -> None:
        compact = self._compact
        if compact is not None and compact != self._row.range:
            self._problem("range", self._row.size - 1, "the stored range is not that of the entries")
        if self._row.size and self._row.log != self._ledger.identity.log and self._covered < self._row.size:
            self._problem("unsigned", self._covered, "entries that no checkpoint covers")
        beyond = conn.execute(
            "SELECT raw, signature FROM checkpoints WHERE log = ? AND (size > ? OR NOT whole)", (self._row.id, self._row.size)
        )
        for raw, signature in beyond:  # of entries that came in bundles: their paths are checked apart
            _checked_checkpoint(self._ledger, self._row, Signed(raw, signature), self._report)

    def _problem(self, kind: str, index: int, detail: str) -> None:
        self._report.problem(kind, self._row.log, index, detail)


def _checked_checkpoint(ledger: Ledger, row: LogRow, signed: Signed, report: Report) -> Checkpoint | None:
    report.checkpoints += 1
    try:
        checkpoint = verify_checkpoint(signed, row.key, ledger.identity.network)
    except PeerError as error:
        report.problem("checkpoint", row.log, None, error.message)
        return None
    if checkpoint.log != row.log:
        report.problem("checkpoint", row.log, None, "a checkpoint of another log")
        return None
    return checkpoint


def _check_entry(
    conn: Connection, log: LogRow, row: EntryRow, salts: dict[int, bytes | None], report: Report
) -> None:
    """Check a body against its header, with the salt of its case."""
    if row.body is None:
        return
    try:
        header = decode_header(row.raw)
        salt = salt_of(row.body) if header.type == "open" else _salt(conn, row, salts)
        check_body(header, row.body, b"" if row.case_id is None else salt)
        decode_body(row.body)
    except PeerError as error:
        report.problem("body", log.log, row.index, error.message)


def _salt(conn: Connection, row: EntryRow, salts: dict[int, bytes | None]) -> bytes | None:
    """Return a case's salt as its opening has it; None where that is not here."""
    if row.case_id is None:
        return b""
    if row.case_id not in salts:
        if len(salts) > PAGE:
            salts.clear()
        salts[row.case_id] = _opening_salt(logs.entries_of_cases(conn, [row.case_id])[row.case_id])
    return salts[row.case_id]


def _opening_salt(rows: Sequence[EntryRow]) -> bytes | None:
    for row in rows:
        header = header_of(row)
        if header is not None and header.type == "open" and row.body is not None:
            try:
                return salt_of(row.body)
            except DecodeError:
                return None
    return None


# --- entries that came in bundles


class _SparseCheck:
    """Checks the paths of entries of logs that are not held whole."""

    def __init__(self, ledger: Ledger, report: Report, page: int = PAGE) -> None:
        self._page = page
        self._ledger = ledger
        self._report = report
        self._after = 0
        self._salts: dict[int, bytes | None] = {}

    def page(self, conn: Connection) -> bool:
        """Check the next entries; False at the end."""
        rows = conn.execute(
            "SELECT e.id, e.log, e.idx, e.case_id, e.raw, e.body FROM entries e JOIN logs l ON l.id = e.log "
            "WHERE e.idx >= l.size AND e.id > ? ORDER BY e.id LIMIT ?",
            (self._after, self._page),
        ).fetchall()
        for row in rows:
            self._check(conn, EntryRow(*row))
            self._after = row[0]
        return len(rows) == self._page

    def _check(self, conn: Connection, row: EntryRow) -> None:
        log = logs.load_log(conn, row.log)
        self._report.entries += 1
        _check_entry(conn, log, row, self._salts, self._report)
        found = conn.execute(
            "SELECT c.raw, c.signature, p.path FROM paths p JOIN checkpoints c ON c.id = p.checkpoint WHERE p.entry = ?",
            (row.id,),
        ).fetchone()
        if found is None:
            self._report.problem("path", log.log, row.index, "an entry without its path")
            return
        try:
            checkpoint = verify_checkpoint(Signed(found[0], found[1]), log.key, self._ledger.identity.network)
            path = [found[2][begin : begin + HASH_BYTES] for begin in range(0, len(found[2]), HASH_BYTES)]
            length = checkpoint.size - checkpoint.start
            place = row.index - checkpoint.start
            merkle.verify_inclusion(hash_header(row.raw), place, length, path, checkpoint.run)
        except PeerError as error:
            self._report.problem("path", log.log, row.index, error.message)


# --- receipts and evidence


class _ReceiptCheck:
    """Checks that each receipt kept is what its hub stated."""

    def __init__(self, report: Report, page: int = PAGE) -> None:
        self._page = page
        self._report = report
        self._after: tuple[int, str, int] = (0, "", 0)

    def page(self, conn: Connection) -> bool:
        """Check the next receipts; False at the end."""
        rows = conn.execute(
            "SELECT r.log, r.hub, r.size, r.at, e.raw, e.body FROM receipts r LEFT JOIN entries e ON e.id = r.entry "
            "WHERE (r.log, r.hub, r.size) > (?, ?, ?) ORDER BY r.log, r.hub, r.size LIMIT ?",
            (*self._after, self._page),
        ).fetchall()
        for log_id, hub, size, at, raw, body in rows:
            self._report.receipts += 1
            log = logs.load_log(conn, log_id)
            problem = _receipt_problem(hub, at, raw)
            if not problem and _receipted_root(body, log.log, size) is None:
                problem = "the receipt does not name this log and size"
            if problem:
                self._report.problem("receipt", log.log, size - 1, f"{hub}: {problem}")
            self._after = (log_id, hub, size)
        return len(rows) == self._page


def _receipt_problem(hub: str, at: int, raw: bytes | None) -> str:
    if raw is None:
        return "the receipt's entry is not here"
    try:
        header = decode_header(raw)
    except DecodeError:
        return "the receipt's entry cannot be read"
    if header.type != "receipt" or header.node != hub:
        return "the entry named is no receipt of that hub"
    return "" if header.fields.get("at") == at else "the receipt names another time"


def _receipted_root(body: bytes | None, log: LogId, size: int) -> bytes | None:
    """Return the root that a receipt's body names for a log and size."""
    try:
        named: Any = decode_body(body).get("of", ()) if body is not None else ()
        for one in named:
            if one[0] == [log.node, log.incarnation] and one[1] == size and isinstance(one[2], bytes):
                return one[2]
    except (DecodeError, TypeError, IndexError):
        return None
    return None


def _check_evidence(conn: Connection, ledger: Ledger, report: Report) -> None:
    """Report every fork kept, and evidence that does not hold."""
    for log_id, index, first, second in conn.execute("SELECT log, idx, first, second FROM evidence ORDER BY id"):
        log = logs.load_log(conn, log_id)
        report.problem("fork", log.log, index, "two signed histories under this index; both are kept")
        for packed in filter(None, (first, second)):
            try:
                raw, signature = _pair(codec.decode(packed))
                verify_checkpoint(Signed(raw, signature), log.key, ledger.identity.network)
            except PeerError as error:
                report.problem("evidence", log.log, index, error.message)


def _pair(value: object) -> tuple[bytes, bytes]:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, bytes) for part in value):
        return value[0], value[1]
    raise DecodeError("evidence is not a signed checkpoint")
