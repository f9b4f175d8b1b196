"""The officers of this node: who may act at its counter. Facts of its own log, with a small projection to ask.

The projection is one row of `meta`; `recount` makes it again from the log, after a rebuild or a restore.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from node.ledger import Draft, read_body
from node.office.desk import ID_CHARS_MAX, Answer, Desk
from node.store import logs
from node.store.database import Connection
from protocol import codec, limits
from protocol.authority import legal_day
from protocol.errors import CommandRefused, DecodeError, InputError, NotFound
from protocol.log import Entry, Header, decode_header
from protocol.text import clean, normalise_name

META: Final = "officers"
PAGE: Final = 1_000
ADD: Final = "officer.add"
RETIRE: Final = "officer.retire"


@dataclass(frozen=True, slots=True)
class Officer:
    """One officer. since, until: legal dates (ISO) of the first and, once retired, the last day."""

    id: str
    name: str
    posts: tuple[str, ...]
    since: str
    until: str = ""

    def shown(self) -> Answer:
        """Return the form that `officer list` shows."""
        return {
            "officer": self.id,
            "name": self.name,
            "posts": list(self.posts),
            "from": self.since,
            "retired": self.until or None,
        }


def load(conn: Connection) -> dict[str, Officer]:
    """Return all officers of this node, retired ones too, by id."""
    raw = logs.get_meta(conn, META)
    rows: Any = codec.decode(raw) if raw else []
    return {row[0]: Officer(row[0], row[1], tuple(row[2]), row[3], row[4]) for row in rows}


def add(desk: Desk, officer: str, name: str, posts: Sequence[str] = ()) -> Answer:
    """Add an officer, or change name and posts of one; the same again changes nothing.

    Raises:
        InputError: id, name or post is empty or too long.
    """
    ident = _checked_id(officer)
    known = load(desk.conn)
    stated = Officer(ident, _name(name), tuple(_text("post", post) for post in posts), legal_day(desk.claimed_at))
    held = known.get(ident)
    if held is not None and not held.until and (held.name, held.posts) == (stated.name, stated.posts):
        return {**held.shown(), "unchanged": True}
    fields = {"id": ident, "posts": list(stated.posts), "from": stated.since}
    return _state(desk, desk.draft(ADD, fields, {"name": stated.name}), stated)


def retire(desk: Desk, officer: str) -> Answer:
    """End an officer's work at this node; what was done stands."""
    held = load(desk.conn).get(officer)
    if held is None:
        raise NotFound(f"there is no officer {officer} here", hint="See `tongban officer list`.")
    if held.until:
        return {**held.shown(), "unchanged": True}
    retired = replace(held, until=legal_day(desk.claimed_at))
    return _state(desk, desk.draft(RETIRE, {"id": officer}), retired)


def acting(desk: Desk) -> str | None:
    """Return the name of the officer who acts; None at a node that has stated no officers.

    Raises:
        CommandRefused: nobody is named, or somebody who does not work here.
    """
    known = load(desk.conn)
    if not known:
        return None
    if desk.act.officer is None:
        raise CommandRefused("no officer is named", hint="Give --officer ID: every step of a case names who took it.")
    held = known.get(desk.act.officer)
    if held is None:
        raise CommandRefused(
            f"there is no officer {desk.act.officer} at this node",
            hint=f"Add one: tongban officer add {desk.act.officer} --name NAME.",
        )
    if held.until:
        raise CommandRefused(
            f"officer {held.id} is retired here since {held.until}", hint=f"Add again: tongban officer add {held.id} --name NAME."
        )
    return held.name


def recount(conn: Connection, node: str) -> dict[str, Officer]:
    """Make the projection again from the node's logs."""
    found: dict[str, Officer] = {}
    for header, body in _stated(conn, node):
        ident = header.fields.get("id")
        if not isinstance(ident, str):
            continue
        day = legal_day(header.claimed_at)
        if header.type == ADD:
            posts = tuple(str(post) for post in header.fields.get("posts", ()))
            found[ident] = Officer(ident, str(body.get("name", "")), posts, str(header.fields.get("from", day)))
        elif ident in found and not found[ident].until:
            found[ident] = replace(found[ident], until=day)
    _save(conn, found)
    return found


def _stated(conn: Connection, node: str) -> Iterator[tuple[Header, dict[str, Any]]]:
    """Yield this node's own statements about officers, in the order of its logs."""
    for row in logs.load_logs(conn):
        if row.log.node != node or row.branch:
            continue
        for start in range(0, row.size, PAGE):
            for one in logs.entries_between(conn, row.id, start, start + PAGE):
                if one.case_id is not None:
                    continue
                try:
                    header = decode_header(one.raw)
                    if header.type in {ADD, RETIRE}:
                        yield header, read_body(Entry(one.raw, one.body)) or {}
                except DecodeError:
                    continue


def _state(desk: Desk, draft: Draft, stated: Officer) -> Answer:
    (placed,) = desk.write(draft)
    _save(desk.conn, {**load(desk.conn), stated.id: stated})
    return {**stated.shown(), **desk.place(placed)}


def _save(conn: Connection, officers: dict[str, Officer]) -> None:
    rows = [[one.id, one.name, list(one.posts), one.since, one.until] for _, one in sorted(officers.items())]
    logs.set_meta(conn, META, codec.encode(rows))


def _checked_id(officer: str) -> str:
    found = _text("id", officer)
    if len(found) > ID_CHARS_MAX or any(char.isspace() for char in found):
        raise InputError(f"officer id: at most {ID_CHARS_MAX} characters, no blanks")
    return found


def _name(name: str) -> str:
    return normalise_name(_text("name", name))


def _text(what: str, value: str) -> str:
    try:
        found = clean(value, limits.NAME_CHARS_MAX)
    except InputError as error:
        raise InputError(f"officer {what}: {error.message}") from error
    if not found:
        raise InputError(f"officer {what}: must not be empty")
    return found
