"""Publishing what the network works by: catalogue items and calendars. What the register would void is refused here, early.

A publication is a rule entry: it has effect once the root's register takes it in; at the root that is the same transaction.
Publishing the same content again changes nothing and says so, so that a script may run twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from node.ledger import Draft, Placed
from node.office.desk import Answer, Desk
from node.registrar import take_in
from node.store.database import Connection
from protocol import calendar, catalogue, divisions
from protocol.calendar import Calendar
from protocol.catalogue import BELOW, Item
from protocol.errors import CommandRefused, DecodeError, InputError, InputProblems, LimitExceeded
from protocol.log import decode_body, decode_header, encode_body
from protocol.register import ItemHead, Right, View

ITEM: Final = "catalogue.item"
CALENDAR: Final = "calendar.publish"


@dataclass(frozen=True, slots=True)
class Known:
    """A published version: by the rules, or stated here and waiting for the root. text: its body, if it is here."""

    version: int
    text: bytes | None
    owner: str = ""
    waiting: bool = False


@dataclass(slots=True)
class Plan:
    """What a publication would do: new entries, what stands already, and what people should look at."""

    drafts: list[Draft] = field(default_factory=list)
    published: list[Answer] = field(default_factory=list)
    unchanged: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# --- catalogue


def publish_catalogue(desk: Desk, items: Sequence[Item], where: str, *, dry_run: bool = False) -> Answer:
    """State every new or changed item; with `dry_run` only say what would be done. `where`: the file, for messages.

    Raises:
        CommandRefused: this node may not publish.
        InputProblems: items that the register would void, each with its reason.
    """
    _check_right(desk)
    plan = Plan()
    for item in items:
        _plan_item(desk, item, plan)
    return _carry_out(desk, plan, where, dry_run=dry_run)


def _plan_item(desk: Desk, item: Item, plan: Plan) -> None:
    known = find_item(desk, item.code)
    label = {"code": item.code, "version": item.version}
    problem = _item_fault(desk, item, known)
    if problem:
        plan.problems.append(f"item {item.code}: {problem}")
    elif known is not None and known.version == item.version:
        plan.unchanged.append(label)
    else:
        plan.published.append(label)
        plan.warnings += [f"item {item.code}: {warning}" for warning in _item_warnings(desk, item)]
        _plan(
            desk,
            plan,
            f"item {item.code}",
            ITEM,
            fields=catalogue.header_fields(item),
            body=catalogue.to_body(item),
        )


def _item_fault(desk: Desk, item: Item, known: Known | None) -> str:
    """Return why the register would void an item, or why it must not be published; or ""."""
    if not _rules_over(desk, item.owner):
        return f"owner: {item.owner} is neither this node nor below it"
    if known is None:
        return ""
    if known.owner and not _rules_over(desk, known.owner):
        return f"code: belongs to {known.owner}, which is not below this node"
    if known.version > item.version:
        return f"version: {known.version} is published already; give a higher one"
    if known.version == item.version and _differs(known.text, catalogue.to_body(item)):
        return f"version: {item.version} is published with other content; raise it to change the item"
    return ""


def _item_warnings(desk: Desk, item: Item) -> list[str]:
    named = [pattern.removesuffix(BELOW) for pattern in (*item.receive, *item.decide)]
    named += [task.node for stage in item.stages for task in stage.tasks if task.node is not None]
    unknown = sorted({node for node in named if desk.node.rules.record(node) is None})
    return [f"names {node}, which is not in the network yet" for node in unknown]


def list_items(view: View, conn: Connection) -> list[Answer]:
    """Return the newest version of every item, and whether its text is here."""
    found = [_shown_item(record.head, registered=True, here=text_of(conn, record.leaf) is not None) for record in view.items()]
    pending = _pending(conn, ITEM)
    newer = [_head(fields) for fields, _ in pending]
    return found + [_shown_item(head, registered=False, here=True) for head in newer if head is not None]


def _shown_item(head: ItemHead, *, registered: bool, here: bool) -> Answer:
    return {
        "code": head.code,
        "version": head.version,
        "title": head.title,
        "owner": head.owner,
        "receive": list(head.receive),
        "decide": list(head.decide),
        "registered": registered,
        "text_here": here,
    }


def _head(fields: dict[str, Any]) -> ItemHead | None:
    try:
        return ItemHead(
            fields["code"],
            fields["version"],
            fields["title"],
            fields["owner"],
            tuple(fields["receive"]),
            tuple(fields["decide"]),
        )
    except (KeyError, TypeError):
        return None


def find_item(desk: Desk, code: str) -> Known | None:
    """Return the newest version of an item: stated here and waiting for the root, or in the rules."""
    waiting = [
        Known(fields["version"], body, str(fields.get("owner", "")), waiting=True)
        for fields, body in _pending(desk.conn, ITEM)
        if fields.get("code") == code and isinstance(fields.get("version"), int)
    ]
    record = desk.rules.item(code)
    if record is not None:
        waiting.append(Known(record.head.version, text_of(desk.conn, record.leaf), record.head.owner))
    return max(waiting, key=lambda known: known.version, default=None)


def item_text(conn: Connection, leaf: bytes) -> Item | None:
    """Return an item's whole text by the leaf hash of its entry; None where only its head is here."""
    body = text_of(conn, leaf)
    return _item(body) if body is not None else None


@lru_cache(maxsize=256)
def _item(body: bytes) -> Item:
    """Read an item's text; the counter asks for the same few all day."""
    return catalogue.from_body(decode_body(body))


# --- calendars


def publish_calendar(desk: Desk, stated: Calendar, where: str, *, dry_run: bool = False) -> Answer:
    """State a region's calendar.

    Raises:
        CommandRefused: this node may not publish.
        InputProblems: the register would void it.
    """
    _check_right(desk)
    plan = Plan()
    known = _find_calendar(desk, stated.region)
    label = {"region": stated.region, "version": stated.version}
    problem = _calendar_fault(desk, stated, known)
    if problem:
        plan.problems.append(problem)
    elif known is not None and known.version == stated.version:
        plan.unchanged.append(label)
    else:
        plan.published.append(label)
        fields, body = calendar.header_fields(stated), calendar.to_body(stated)
        _plan(desk, plan, "calendar", CALENDAR, fields=fields, body=body)
    return _carry_out(desk, plan, where, dry_run=dry_run)


def _calendar_fault(desk: Desk, stated: Calendar, known: Known | None) -> str:
    own = divisions.region_prefix(desk.node.id[:12])
    if desk.node.id != desk.node.rules.root and not divisions.region_prefix(stated.region).startswith(own):
        return f"region: {stated.region} is not this node's"
    if known is None:
        return ""
    if known.version > stated.version:
        return f"version: {known.version} is published already; give a higher one"
    if known.version == stated.version and _differs(known.text, calendar.to_body(stated)):
        return f"version: {stated.version} is published with other days; raise it to change them"
    return ""


def _find_calendar(desk: Desk, region: str) -> Known | None:
    waiting = [
        Known(fields["version"], body, waiting=True)
        for fields, body in _pending(desk.conn, CALENDAR)
        if fields.get("region") == region and isinstance(fields.get("version"), int)
    ]
    record = desk.rules.calendar(region)
    if record is not None:
        waiting.append(Known(record.head.version, record.body))
    return max(waiting, key=lambda known: known.version, default=None)


def list_calendars(view: View, conn: Connection) -> list[Answer]:
    """Return every region's newest calendar."""
    found = [_shown_calendar(calendar.from_body(decode_body(one.body)), registered=True) for one in view.calendars()]
    for _, body in _pending(conn, CALENDAR):
        if body is not None:
            found.append(_shown_calendar(calendar.from_body(decode_body(body)), registered=False))
    return found


def _shown_calendar(stated: Calendar, *, registered: bool) -> Answer:
    return {
        "region": stated.region,
        "version": stated.version,
        "name": stated.name,
        "valid_from": stated.valid_from.isoformat(),
        "valid_through": stated.valid_through.isoformat(),
        "weekday_off": len(stated.weekday_off),
        "weekend_work": len(stated.weekend_work),
        "registered": registered,
    }


# --- both


def text_of(conn: Connection, leaf: bytes) -> bytes | None:
    """Return the body of a rule entry, if it is here."""
    found = conn.execute(
        "SELECT e.body FROM facts f JOIN entries e ON e.id = f.entry WHERE f.leaf = ?", (leaf,)
    ).fetchone()
    return found[0] if found else None


def _pending(conn: Connection, kind: str) -> list[tuple[dict[str, Any], bytes | None]]:
    """Return fields and body of the rule entries of a kind that no register has taken in yet."""
    rows = conn.execute(
        "SELECT e.raw, e.body FROM facts f JOIN entries e ON e.id = f.entry WHERE f.number IS NULL ORDER BY f.entry"
    )
    headers = ((decode_header(raw), body) for raw, body in rows)
    return [(header.fields, body) for header, body in headers if header.type == kind]


def _check_right(desk: Desk) -> None:
    if not desk.rules.allows(desk.node.id, Right.PUBLISH):
        raise CommandRefused(
            f"{desk.node.id} has no right to publish", hint="Publish at a hub above, or let it grant the right `publish`."
        )


def _rules_over(desk: Desk, node: str) -> bool:
    return node == desk.node.id or desk.rules.above(desk.node.id, node)


def _differs(text: bytes | None, body: dict[str, object]) -> bool:
    """Tell whether a body differs from a published text; one whose text is not here is taken for equal."""
    return text is not None and _plain(text) != _plain(encode_body(body))


def _plain(text: bytes) -> object:
    try:
        return decode_body(text)
    except DecodeError:
        return None


def _plan(
    desk: Desk, plan: Plan, label: str, kind: str, *, fields: dict[str, object], body: dict[str, object]
) -> None:
    try:
        encode_body(body)
    except LimitExceeded as error:
        plan.problems.append(f"{label}: {error.message}")
        return
    plan.drafts.append(desk.draft(kind, fields, body))


def _carry_out(desk: Desk, plan: Plan, where: str, *, dry_run: bool) -> Answer:
    if plan.problems:
        raise InputProblems(where, plan.problems)
    answer: Answer = {
        "published": plan.published,
        "unchanged": plan.unchanged,
        "warnings": plan.warnings,
        "dry_run": dry_run,
    }
    if dry_run or not plan.drafts:
        return answer
    placed = _write(desk, plan.drafts)
    return {**answer, **desk.place(placed)}


def _write(desk: Desk, drafts: list[Draft]) -> Placed:
    try:
        placed = desk.write(*drafts)
    except LimitExceeded as error:
        raise InputError(f"the publication is too large: {error.message}", hint="Name fewer nodes, or use ID/*.") from error
    take_in(desk.node.ledger, desk.conn, desk.changes, desk.now_ms)
    return placed[-1]
