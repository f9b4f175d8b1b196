"""What a hub tells its children: registers and keys first, then item texts, then cases; and what they fetch.

Every function with a connection runs on the writer's connection, where own entries can be sealed. Pages are bounded by the
bytes that the child asked for; a cursor never skips what was not sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from hub import feeds
from node.chains import chain_of
from node.ledger import Ledger, change_set
from node.news import OVERHEAD_BYTES, bundle_bytes, registers_after
from node.store import cases, facts, logs
from node.store import feeds as feed_rows
from node.store.database import Connection
from protocol import catalogue, limits, messages
from protocol.cases import decode_context
from protocol.errors import NotPermitted
from protocol.log import Bundle, ChangeSet, LogId, decode_checkpoint, decode_header
from protocol.register import View

HEADS_PER_PAGE: Final = 2_000
FEED_ROWS_PER_PULL: Final = 500
PATH_BYTES: Final = 10 * 34  # of an entry's path, at most
RECEIPTS_BYTES: Final = 64 << 10  # of receipts that come along with a reply, about
ROOM_BYTES: Final = limits.MESSAGE_BYTES_MAX // 2  # of what is fetched at once, but for a single part


Place = tuple[int, int, int]  # (entry id, log id, index)


def below(view: View, child: str, node: str) -> bool:
    """Tell whether a node is the child or stands below it."""
    return node == child or view.above(child, node)


def heads(ledger: Ledger, conn: Connection, child: str) -> list[messages.Head]:
    """Return the heads held of the logs in a child's subtree, by log id."""
    rows = logs.logs_of(conn, _nodes_below(ledger, child))
    found = [messages.Head(row.log, row.size, row.root) for row in rows if row.size and not row.branch]
    return sorted(found, key=lambda head: head.log)


def page_of(found: Sequence[messages.Head], after: LogId | None) -> tuple[list[messages.Head], bool]:
    """Return the page of heads behind a log, and whether more follow."""
    rest = [head for head in found if after is None or head.log > after]
    return rest[:HEADS_PER_PAGE], len(rest) > HEADS_PER_PAGE


def logs_below(ledger: Ledger, conn: Connection, child: str) -> set[int]:
    """Return the logs (by id) of a child's subtree, rival branches included."""
    return {row.id for row in logs.logs_of(conn, _nodes_below(ledger, child))}


def _nodes_below(ledger: Ledger, child: str) -> list[str]:
    view = ledger.rules.now
    return [record.node for record in ledger.rules.known_nodes() if below(view, child, record.node)]


def pull(ledger: Ledger, conn: Connection, child: str, ask: messages.Pull) -> messages.PullReply:
    """Return what is new for a child's subtree, within the bytes it asked for."""
    room = min(ask.bytes_max, limits.MESSAGE_BYTES_MAX // 2)
    registers, room = registers_after(ledger, conn, ask.cursors.registers, room)
    number = registers[-1].number if registers else ask.cursors.registers
    more = number < ledger.rules.number
    items, texts_to, room = _items(ledger, conn, child, ask.cursors.catalogue, number, room)
    more |= texts_to < number
    news: list[Bundle] = []
    position = feeds.common_point(conn, ask.cursors)
    if not more:
        news, position, more = _cases(ledger, conn, child, position, room)
    cursors = messages.Cursors(number, texts_to, feed_rows.run_at(conn, position), position)
    return messages.PullReply(cursors, tuple(registers), tuple(items), tuple(news), more=more)


def has_news(ledger: Ledger, conn: Connection, child: str, cursors: messages.Cursors) -> bool:
    """Tell whether a pull would bring something."""
    number = ledger.rules.number
    if cursors.registers < number or cursors.catalogue < number:
        return True
    start = feeds.common_point(conn, cursors)
    return bool(feed_rows.rows_behind(conn, child, start, 1))


def _items(
    ledger: Ledger, conn: Connection, child: str, held: int, number: int, room: int
) -> tuple[list[tuple[bytes, bytes]], int, int]:
    """Return item texts of registers (held, number] that a child's subtree may use, and up to where they reach."""
    found: list[tuple[bytes, bytes]] = []
    rows = conn.execute(
        "SELECT f.number, f.leaf, e.raw, e.body FROM facts f JOIN entries e ON e.id = f.entry "
        "WHERE f.number > ? AND f.number <= ? ORDER BY f.number, f.entry",
        (held, number),
    ).fetchall()
    view, done = ledger.rules.now, held
    for fact_number, leaf, raw, body in rows:
        header = decode_header(raw)
        if header.type == "catalogue.item" and body is not None and _concerns(view, child, header.fields):
            room -= len(body) + 48
            if found and room < 0:
                return found, done, 0
            found.append((leaf, body))
        done = max(done, fact_number - 1)
    return found, number, room


def _concerns(view: View, child: str, fields: dict[str, object]) -> bool:
    """Tell whether some node at or below a child may receive or decide an item."""
    line = view.ancestors(child)
    for key in ("receive", "decide"):
        for pattern in fields.get(key) or ():  # type: ignore[attr-defined]
            if catalogue.pattern_matches(pattern, child, line):
                return True
            if below(view, child, str(pattern).removesuffix("/*")):
                return True
    return False


def _cases(ledger: Ledger, conn: Connection, child: str, start: int, room: int) -> tuple[list[Bundle], int, bool]:
    """Return the entries behind a page of feed rows, all rows' together: entries of one run share its proof."""
    rows = feed_rows.rows_behind(conn, child, start, FEED_ROWS_PER_PULL)
    found: dict[int, Place] = {}
    position = start
    for at, case_id, first, last in rows:
        new = _foreign_entries(ledger, conn, child, (case_id, first, last))
        size = sum(size for place, size in new if place[0] not in found)
        if found and size > room:
            return ledger.bundles(conn, sorted(found.values())), position, True
        room -= size
        position = at
        found.update({place[0]: place for place, _ in new})
    return ledger.bundles(conn, sorted(found.values())), position, len(rows) == FEED_ROWS_PER_PULL


def _foreign_entries(
    ledger: Ledger, conn: Connection, child: str, row: tuple[int, int, int]
) -> list[tuple[Place, int]]:
    """Return (place, about how many bytes) of a feed row's entries that the child's subtree does not write itself."""
    view = ledger.rules.now
    case_id, first, last = row
    entries = conn.execute(
        "SELECT e.id, e.log, e.idx, l.node, length(e.raw), length(e.body) FROM entries e JOIN logs l ON l.id = e.log "
        "WHERE e.case_id = ? AND e.id >= ? AND e.id <= ? ORDER BY e.id",
        (case_id, 0 if first == feeds.WHOLE_CASE else first, last),
    ).fetchall()
    return [
        ((entry_id, log_id, index), OVERHEAD_BYTES + raw_bytes + (body_bytes or 0) + PATH_BYTES)
        for entry_id, log_id, index, node, raw_bytes, body_bytes in entries
        if not below(view, child, node)
    ]


# --- fetching


def fetch(ledger: Ledger, conn: Connection, child: str, ask: messages.Fetch) -> messages.FetchReply:
    """Return one thing that a child asks for.

    Raises:
        NotPermitted: it is not for this child's subtree.
    """
    if ask.what == "log" and ask.log is not None:
        return _fetch_log(ledger, conn, child, ask.log, ask.start)
    if ask.what == "case":
        return _fetch_case(ledger, conn, child, ask.key, ask.start)
    if ask.what == "chain":
        return messages.FetchReply(bundles=tuple(chain_of(ledger, conn, ask.node)))
    if ask.what == "item":
        fact = facts.find(conn, ask.key)
        return messages.FetchReply(body=fact.body if fact else None)
    raise NotPermitted(f"nothing of the kind {ask.what!r} can be fetched")


def _fetch_log(ledger: Ledger, conn: Connection, child: str, log: LogId, start: int) -> messages.FetchReply:
    if not below(ledger.rules.now, child, log.node):
        raise NotPermitted("that log is not of your subtree")
    row = logs.find_log(conn, log)
    if row is None:
        return messages.FetchReply()
    sets: list[ChangeSet] = []
    room = ROOM_BYTES
    for signed in logs.leading_on(logs.checkpoints_from(conn, row.id, start), start):
        change = change_set(conn, row, signed, decode_checkpoint(signed.checkpoint))
        room -= messages.about_bytes(change)
        if sets and room < 0:
            return messages.FetchReply(sets=tuple(sets), more=True)
        sets.append(change)
    return messages.FetchReply(sets=tuple(sets))


def _fetch_case(ledger: Ledger, conn: Connection, child: str, key: bytes, start: int) -> messages.FetchReply:
    """Return a page of a case's entries. start: how many the child was given before."""
    row = cases.load_by_keys(conn, [key]).get(key)
    if row is None or row.context is None:
        return messages.FetchReply()
    view = ledger.rules.now
    if not any(below(view, child, party) for party in decode_context(row.context).parties):
        raise NotPermitted("your subtree has no part in that case")
    # what the child's own subtree stated comes as whole logs only, never in pieces
    foreign = _foreign_entries(ledger, conn, child, (row.id, feeds.WHOLE_CASE, limits.LOG_SIZE_MAX))[start:]
    sums = accumulate(size for _, size in foreign)
    count = max(1, sum(size <= ROOM_BYTES for size in sums))
    bundles = ledger.bundles(conn, [place for place, _ in foreign[:count]])
    return messages.FetchReply(bundles=tuple(bundles), more=count < len(foreign))


# --- receipts from further up


def upstream_receipts(ledger: Ledger, conn: Connection, wanted: Iterable[int]) -> tuple[list[Bundle], set[int]]:
    """Return the newest receipts of the hubs above this one for some logs, within a bound.

    Args:
        wanted: ids of logs.

    Returns:
        The receipts, each once, and the logs whose receipts found no room.
    """
    return receipts_by(ledger, conn, wanted, ledger.rules.now.ancestors(ledger.identity.node))


def receipts_by(
    ledger: Ledger, conn: Connection, wanted: Iterable[int], hubs: Sequence[str]
) -> tuple[list[Bundle], set[int]]:
    """Return the newest receipts by some hubs for some logs, as `upstream_receipts` does for those above."""
    found: dict[int, Bundle] = {}
    room, left = RECEIPTS_BYTES, set(wanted)
    for log_id in sorted(left):
        for place in logs.newest_receipts_by(conn, log_id, hubs):
            if place[0] not in found:
                (found[place[0]],) = ledger.bundles(conn, [place])
                room -= bundle_bytes(found[place[0]])
        left.discard(log_id)
        if room < 0:
            break
    return list(found.values()), left
