"""One case as people see it: where it stands, its clocks, its tasks, and every step with officer and time.

The timeline follows the chosen line; a side entry stands behind the spine entry that its author knew last. What came too late
for the line follows, then the rest. Nothing is left out: what has no effect is shown with its reason.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from node.node import Node
from node.office.counter import stated_values
from node.office.drafting import find_case
from node.office.refusals import command_of
from node.projection import held_of
from node.safety import acked
from node.store import logs
from node.store.cases import CaseRow
from node.store.database import Connection
from node.store.logs import EntryRow
from node.views.common import Receipts, Shown, body_of, header_of, log_text, time_text
from protocol import calendar, identity, limits
from protocol.calendar import Calendar, Calendars
from protocol.cases import Context, state_code, state_word
from protocol.fold import Effect, Folded, Verdict, fold
from protocol.log import LINK_BYTES, Header, decode_body, hash_header
from protocol.reading import Reading, legal_date, reading
from protocol.register import View
from protocol.transitions import SIDE_TYPES

_WAITING: Final = Verdict(Effect.WAITING)
# Header fields and body keys that a step shows, by their own names; links and hashes are printed as hex.
_FIELDS: Final = (
    *("item", "version", "handler", "kind", "missing", "lacking", "days", "stage", "tasks", "join", "task", "result"),
    *("to", "materials", "files", "how", "names", "of", "at", "source"),
)
_BODY: Final = ("reason", "text", "tracking", "old", "new")


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a case on its page."""

    row: EntryRow
    header: Header
    leaf: bytes
    verdict: Verdict
    legal_at: int

    @property
    def link(self) -> bytes:
        """How other entries name it."""
        return self.leaf[:LINK_BYTES]


@dataclass(frozen=True, slots=True)
class Page:
    """A case read whole."""

    row: CaseRow
    folded: Folded | None
    steps: tuple[Step, ...]
    digest: bytes


def show_case(node: Node, conn: Connection, case: str, as_of: dt.date | None = None) -> Shown:
    """Return everything about a case; clocks as of a legal date, by default today.

    Raises:
        NotFound, CommandRefused: no such case here, or several.
    """
    page = read_page(node, conn, find_case(conn, case))
    day = as_of or legal_date(node.clock.wall_ms())
    receipts = Receipts(conn)
    return {
        **_standing(node, page, day),
        **_people(page),
        "recorded_afterwards": any(_is_afterwards(step.header) for step in page.steps),
        "digest": page.digest.hex(),
        "safety": _safety(node, conn, page),
        "timeline": [_shown(step, receipts) for step in page.steps],
    }


def read_page(node: Node, conn: Connection, row: CaseRow) -> Page:
    """Read a case's entries and fold them."""
    rows = logs.entries_of_cases(conn, [row.id])[row.id]
    held = held_of(conn, node.rules, rows)
    folded = fold(held, node.ledger.judge) if held else None
    leaves = sorted({hash_header(one.raw) for one in rows})
    return Page(row, folded, _ordered(_steps(rows, folded), folded), hashlib.sha256(b"".join(leaves)).digest())


def calendars_of(view: View) -> Calendars:
    """Return the calendars in force under a register."""
    return Calendars.of(_calendar(record.body) for record in view.calendars())


@lru_cache(maxsize=256)
def _calendar(body: bytes) -> Calendar:
    return calendar.from_body(decode_body(body))


# --- the steps


def _steps(rows: Sequence[EntryRow], folded: Folded | None) -> list[Step]:
    verdicts: Mapping[bytes, Verdict] = folded.verdicts if folded is not None else {}
    seen: dict[bytes, Step] = {}
    headers = [(row, header) for row in rows if (header := header_of(row)) is not None]
    dated = _dated(headers, verdicts)
    for row, header in headers:
        leaf = hash_header(row.raw)
        link = leaf[:LINK_BYTES]
        if link not in seen:  # the same fact at a second place is counted once
            seen[link] = Step(row, header, leaf, verdicts.get(link, _WAITING), dated.get(link, header.claimed_at))
    return list(seen.values())


def _dated(headers: Sequence[tuple[EntryRow, Header]], verdicts: Mapping[bytes, Verdict]) -> dict[bytes, int]:
    """Return the legal times that hubs set, by link."""
    return {
        header.fields["of"]: header.fields["at"]
        for row, header in headers
        if header.type == "time"
        and verdicts.get(hash_header(row.raw)[:LINK_BYTES], _WAITING).effect is Effect.APPLIED
    }


def _ordered(steps: Sequence[Step], folded: Folded | None) -> tuple[Step, ...]:
    """Bring the steps into the order of the page."""
    line = folded.line if folded is not None else ()
    place = {link: number for number, link in enumerate(line)}
    last = len(line)

    def key(step: Step) -> tuple[int, int, int, str, int]:
        beside = (step.legal_at, step.header.node, step.row.index)
        if step.link in place:
            return (place[step.link], 0, *beside)
        late = step.verdict.effect is Effect.LATE
        if not late and step.header.type in SIDE_TYPES and step.header.prev in place:
            return (place[step.header.prev], 1, *beside)
        return (last, 1 if late else 2, *beside)

    return tuple(sorted(steps, key=key))


def _shown(step: Step, receipts: Receipts) -> Shown:
    header, body = step.header, body_of(step.row)
    times = receipts.times(step.row.log, step.row.index)
    afterwards = _is_afterwards(header)
    return {
        "type": command_of(header.type),
        "node": header.node,
        "officer": header.officer,
        "officer_name": _text(body.get("officer_name")),
        "window": header.window,
        "claimed_at": time_text(header.claimed_at),
        "legal_at": time_text(step.legal_at),
        "received_at": receipts.shown(step.row.log, step.row.index),
        "effect": step.verdict.effect.value,
        "reason": step.verdict.reason or None,
        "offline": not afterwards and was_offline(header, times),
        "recorded_afterwards": afterwards,
        "entry": step.link.hex(),
        "after": header.prev.hex() if header.prev is not None else None,
        "epoch": header.epoch,
        "log": log_text(receipts.log(step.row.log).log),
        "index": step.row.index,
        "details": _details(header, body),
    }


def was_offline(header: Header, times: Mapping[str, int]) -> bool:
    """Tell whether an entry was made without a line: its first receipt came long after the claim (离线录入)."""
    return bool(times) and min(times.values()) - header.claimed_at > limits.OFFLINE_AFTER_MS


def _is_afterwards(header: Header) -> bool:
    return header.fields.get("afterwards") is True


def _details(header: Header, body: Mapping[str, Any]) -> Shown:
    stated: Shown = {name: plain(header.fields[name]) for name in _FIELDS if name in header.fields}
    said: Shown = {name: plain(body[name]) for name in _BODY if name in body}
    return {**stated, **said}


def plain(value: object) -> object:
    """Return a value of a header or body as JSON can hold it; bytes as hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


# --- where the case stands


def _standing(node: Node, page: Page, day: dt.date) -> Shown:
    context = page.folded.context if page.folded is not None else None
    if page.folded is None or context is None:
        return {**_named(page.row), **dict.fromkeys(_STANDING), "state": "waiting", "parties": [], "tasks": []}
    clocks = reading(context, calendars_of(node.rules.now), day)
    terms = context.terms
    return {
        **_named(page.row),
        "state": state_word(context),
        "state_code": state_code(context),
        "delivered": page.folded.delivered,
        "outcome": context.outcome or None,
        "holder": context.holder,
        "epoch": context.epoch,
        "offered": context.offered,
        "opener": terms.opener,
        "handler": terms.handler,
        "region": terms.region,
        "item": terms.item,
        "version": terms.version,
        "title": _title(node, context),
        "parties": list(page.folded.parties),
        "due": _due(clocks),
        "clock": _clock(clocks),
        "tasks": _tasks(context),
        "missing": [name for name in context.awaited if name not in context.handed],
        "conflicts": [link.hex() for link in page.folded.conflicts],
        "waiting_for": len(page.folded.missing),
    }


_STANDING: Final = ("state_code", "delivered", "holder", "epoch", "offered", "opener", "handler", "item", "due")


def _named(row: CaseRow) -> Shown:
    return {"case": row.number or row.key.hex(), "key": row.key.hex()}


def _title(node: Node, context: Context) -> str | None:
    record = node.rules.now.item_version(context.terms.item, context.terms.version)
    return record.head.title if record is not None else None


def _due(clocks: Reading) -> Shown | None:
    if clocks.due is None:
        return None
    return {
        "date": clocks.due.date.isoformat(),
        "provisional": clocks.due.provisional,
        "basis": clocks.due.basis.value,
    }


def _clock(clocks: Reading) -> Shown:
    statutory = clocks.statutory
    return {
        "as_of": clocks.as_of.isoformat(),
        "accepted_on": clocks.accepted_on.isoformat() if clocks.accepted_on is not None else None,
        "deemed_accepted": clocks.deemed_accepted,
        "statutory": statutory.date.isoformat() if statutory is not None else None,
        "stopped": clocks.stopped,
        "overdue": clocks.overdue,
        "level": clocks.level.value,
    }


def _tasks(context: Context) -> list[Shown]:
    """Return the tasks of the last stage with their results, those included that the holder has not relied on yet."""
    stage = context.stage
    if stage is None:
        return []
    answers = sorted((side for side in context.fresh if side.dispatch == stage.dispatch), key=lambda side: side.order)
    fresh = {side.task: side.result for side in answers}
    return [
        {
            "stage": stage.name,
            "task": task.name,
            "node": task.node,
            "unit": task.unit,
            "result": fresh.get(task.name) or task.result or None,
        }
        for task in stage.tasks
    ]


def _safety(node: Node, conn: Connection, page: Page) -> str | None:
    """Return how safe this node's newest entry of the case is; None where it has none."""
    own = [step.row for step in page.steps if step.header.node == node.id]
    if not own:
        return None
    newest = max(own, key=lambda row: row.id)
    return acked(conn, newest.log, node.id, node.parent).of(newest.index).value


def _people(page: Page) -> Shown:
    """Return what the applicant stated, corrections applied; numbers are masked."""
    values: dict[str, str] = {}
    form: set[str] = set()
    for step in page.steps:
        if step.verdict.effect is not Effect.APPLIED or step.header.type not in {"open", "correct"}:
            continue
        body = body_of(step.row)
        values |= stated_values(step.header.type, body)
        if isinstance(body.get("form"), dict):
            form |= set(body["form"])
    known = {"applicant", "id_number", "phone"}
    return {
        "applicant": values.get("applicant"),
        "id_number": identity.mask_id(values["id_number"]) if "id_number" in values else None,
        "phone": identity.mask_phone(values["phone"]) if "phone" in values else None,
        "form": {name: values[name] for name in sorted(values) if name not in known or name in form},
    }
