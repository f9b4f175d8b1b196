"""The one register of what a node can be asked to do, by name and plain values: for the command line and the local API alike.

    answer = await run(node, "case.accept", {"case": "650102001001-…"}, Act(officer="1001"))
    rows = await run(node, "list", {"find": "王"}, Act())            # an asynchronous iterator of rows

Names and parameters are those of the command line, with underscores. A parameter that is unknown, missing or of the wrong kind is
an InputProblems that names it. Files are read by whoever asks: catalogues and calendars come in as mappings. `hub` registers more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from node import clones, inspection, rebuilding
from node.node import Node
from node.office import Act, Answer, Desk, at_desk, counter, officers, opening, publishing
from node.office import keys as office_keys
from node.office.counter import File, Material
from node.views import export, listing, page, status
from node.views.common import time_text as time_text  # noqa: PLC0414 - whoever registers an operation prints times alike
from protocol import limits
from protocol.calendar import parse_calendar
from protocol.catalogue import FORMAT as CATALOGUE_FORMAT
from protocol.catalogue import parse_catalogue
from protocol.errors import InputError
from protocol.problems import Fields, Problems
from protocol.transitions import STATE_WORDS

Operation = Callable[[Node, Mapping[str, Any], Act], Awaitable[object]]
Work = Callable[[Desk], Answer]
Reader = Callable[[Fields], Work]

SHA256_BYTES: Final = 32
STATES: Final = frozenset(STATE_WORDS.values()) | {"waiting"}

_operations: dict[str, Operation] = {}


def register(name: str, operation: Operation) -> None:
    """Add an operation, or replace one."""
    _operations[name] = operation


def names() -> list[str]:
    """Return the names of all operations."""
    return sorted(_operations)


async def run(node: Node, name: str, params: Mapping[str, Any], act: Act) -> object:
    """Carry one operation out.

    Returns:
        A JSON-ready value, or an asynchronous iterator of such rows.

    Raises:
        InputError: no such operation, or its parameters are wrong.
        TongbanError: refused, or failed.
    """
    operation = _operations.get(name)
    if operation is None:
        raise InputError(f"there is no operation {name[:40]!r}", hint="See `tongban --help`.")
    return await operation(node, {key: value for key, value in params.items() if value is not None}, act)


# --- writing: read the parameters, then work at the desk


def _writes(name: str, read: Reader) -> None:
    async def operation(node: Node, params: Mapping[str, Any], act: Act) -> object:
        return await at_desk(node, act, read_params(name, params, read))

    register(name, operation)


def read_params(name: str, params: Mapping[str, Any], read: Callable[[Fields], Any]) -> Any:  # noqa: ANN401 - whatever `read` makes
    """Read parameters; every fault is named before anything is done."""
    problems = Problems(name)
    fields = Fields(params, "", problems)
    try:
        made = read(fields)
    except InputError:
        problems.check()  # what else is wrong comes first
        raise
    fields.done()
    problems.check()
    return made


def _case(work: Callable[..., Answer], **values: object) -> Callable[[Fields], Work]:
    """Return a reader for a command on one case; each value is a function that reads one parameter."""

    def read(fields: Fields) -> Work:
        case = fields.text("case")
        found = {key: value(fields) for key, value in values.items() if callable(value)}
        return partial(_on_case, work, case, found)

    return read


def _on_case(work: Callable[..., Answer], case: str, found: Mapping[str, object], desk: Desk) -> Answer:
    return work(desk, case, **found)


# --- reading one parameter


def _text(key: str, chars_max: int = limits.TEXT_CHARS_MAX) -> Callable[[Fields], str]:
    return lambda fields: fields.text(key, chars_max=chars_max)


def _maybe(key: str, chars_max: int = limits.TEXT_CHARS_MAX) -> Callable[[Fields], str | None]:
    return lambda fields: fields.optional_text(key, chars_max=chars_max)


def _number(key: str, low: int, high: int) -> Callable[[Fields], int]:
    return lambda fields: fields.integer(key, low, high)


def _choice(key: str, *allowed: str) -> Callable[[Fields], str]:
    def read(fields: Fields) -> str:
        found = fields.text(key)
        if found and found not in allowed:
            fields.fault(key, f"must be {' or '.join(allowed)}")
        return found

    return read


def _texts(key: str, *, required: bool) -> Callable[[Fields], tuple[str, ...]]:
    def read(fields: Fields) -> tuple[str, ...]:
        found = fields.texts(key)
        if required and not found:
            fields.fault(key, "must name at least one")
        return found

    return read


def _pairs(key: str) -> Callable[[Fields], dict[str, str]]:
    """Read a table of texts; missing counts as empty."""

    def read(fields: Fields) -> dict[str, str]:
        table = fields.raw(key, {})
        if not isinstance(table, Mapping) or not all(isinstance(inner, str) for inner in table.values()):
            fields.fault(key, "must be a table of texts")
            return {}
        return {str(name): str(value) for name, value in table.items()}

    return read


def _flag(fields: Fields, key: str) -> bool:
    return fields.flag(key, default=False)


def _targets(fields: Fields) -> dict[str, str | tuple[str, str | None]]:
    """Read `to` of a dispatch: {task: "NODE/UNIT"} or a list of [task, node, unit or nothing]."""
    found = fields.raw("to", {})
    if isinstance(found, Mapping):
        rows: list[Any] = [(task, *_split(where)) for task, where in found.items()]
    else:
        rows = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    targets: dict[str, str | tuple[str, str | None]] = {}
    for row in rows:
        if not _is_target(row):
            fields.fault("to", "must be TASK=NODE or TASK=NODE/UNIT")
        elif row[0] in targets:
            fields.fault("to", f"names the task {row[0][:40]} twice")
        else:
            targets[row[0]] = (row[1], row[2] if len(row) > 2 else None)
    return targets


def _split(where: object) -> tuple[object, object]:
    if not isinstance(where, str):
        return where, None
    node, _, unit = where.partition("/")
    return node, unit or None


def _is_target(row: object) -> bool:
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) not in {2, 3}:
        return False
    unit = row[2] if len(row) == 3 else None
    return isinstance(row[0], str) and isinstance(row[1], str) and (unit is None or isinstance(unit, str))


def _materials(fields: Fields) -> tuple[Material, ...]:
    return tuple(_material(table) for table in fields.tables("material"))


def _material(table: Fields) -> Material:
    """Read one material: `name`, and for a file `sha256` (hex) and `bytes`, flat or in a table `file`."""
    name = table.text("name")
    found: Material
    if table.has("file"):
        inner = table.table("file")
        found = Material(name, _file(inner, inner.text("name", default="")))
        inner.done()
    else:
        found = Material(name, _file(table, "") if table.has("sha256") else None)
    table.done()
    return found


def _file(table: Fields, name: str) -> File:
    digest = table.text("sha256")
    size = table.integer("bytes", 1, counter.FILE_BYTES_MAX)
    media_type = table.text("type", default=counter.MEDIA_TYPE_UNKNOWN)
    try:
        found = bytes.fromhex(digest)
    except ValueError:
        found = b""
    if len(found) != SHA256_BYTES:
        table.fault("sha256", "must be 64 hex digits")
    return File(found, size, media_type or counter.MEDIA_TYPE_UNKNOWN, name)


# --- officers, catalogue, calendar


def _officer_add(fields: Fields) -> Work:
    ident, name = fields.text("id"), fields.text("name")
    posts = fields.texts("posts") if fields.has("posts") else ()
    post = fields.optional_text("post")
    return lambda desk: officers.add(desk, ident, name, (*posts, post) if post else posts)


def _officer_retire(fields: Fields) -> Work:
    ident = fields.text("id")
    return lambda desk: officers.retire(desk, ident)


def _catalogue_publish(fields: Fields) -> Work:
    where, dry_run = fields.text("where", default="catalogue"), _flag(fields, "dry_run")
    whole = fields.raw("catalogue", ()) if fields.has("catalogue") else None
    if whole is None:
        whole = {"format": CATALOGUE_FORMAT, "items": _without_nothing(fields.raw("items"))}
    items = parse_catalogue(whole, where or "catalogue")
    return lambda desk: publishing.publish_catalogue(desk, items, where or "catalogue", dry_run=dry_run)


def _without_nothing(value: object) -> object:
    """Return plain values without the keys that hold nothing: a file leaves out what a body writes as nil."""
    if isinstance(value, Mapping):
        return {key: _without_nothing(inner) for key, inner in value.items() if inner is not None}
    return [_without_nothing(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _calendar_publish(fields: Fields) -> Work:
    where, dry_run = fields.text("where", default="calendar"), _flag(fields, "dry_run")
    whole = fields.raw("calendar")
    if isinstance(whole, Mapping):
        whole = {"format": "tongban-calendar/1", **whole}
    stated = parse_calendar(whole, where or "calendar")
    return lambda desk: publishing.publish_calendar(desk, stated, where or "calendar", dry_run=dry_run)


# --- taking in


def _open(fields: Fields) -> Work:
    wish = opening.Wish(
        fields.text("item"),
        fields.text("applicant"),
        fields.optional_text("id_number"),
        fields.optional_text("phone"),
        fields.optional_text("handler"),
        {**_pairs("form")(fields), **_pairs("field")(fields)},
    )
    return lambda desk: opening.open_case(desk, wish)


# --- reading operations


async def _officer_list(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("officer.list", params, _nothing)
    found = await node.read(officers.load)
    return [officer.shown() for _, officer in sorted(found.items())]


async def _catalogue_list(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("catalogue.list", params, _nothing)
    return await node.read(lambda conn: publishing.list_items(node.rules.now, conn))


async def _calendar_list(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("calendar.list", params, _nothing)
    return await node.read(lambda conn: publishing.list_calendars(node.rules.now, conn))


async def _list(node: Node, params: Mapping[str, Any], _act: Act) -> AsyncIterator[object]:
    return listing.list_cases(node, read_params("list", params, _wanted))


def _wanted(fields: Fields) -> listing.Wanted:
    state = fields.optional_text("state")
    if state is not None and state not in STATES:
        fields.fault("state", f"must be one of {', '.join(sorted(STATES))}")
    return listing.Wanted(
        state,
        fields.optional_text("holder"),
        fields.optional_text("item"),
        fields.optional_text("find"),
        fields.optional_text("after"),
        fields.integer("limit", 1, listing.LIMIT_MAX, default=listing.LIMIT),
    )


async def _show(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    case, as_of = read_params("show", params, lambda fields: (fields.text("case"), _day(fields)))
    return await node.read(lambda conn: page.show_case(node, conn, case, as_of))


def _day(fields: Fields) -> dt.date | None:
    return fields.day("as_of") if fields.has("as_of") else None


async def _status(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("status", params, _nothing)
    return await node.read(lambda conn: status.status(node, conn))


async def _key_show(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("key.show", params, _nothing)
    return await node.read(lambda conn: office_keys.show(node, conn))


async def _key_rotate(node: Node, params: Mapping[str, Any], act: Act) -> object:
    read_params("key.rotate", params, _nothing)
    return await office_keys.replace(node, act)


async def _revoke(node: Node, params: Mapping[str, Any], act: Act) -> object:
    return await office_keys.revoke(node, read_params("revoke", params, _revocation), act)


def _revocation(fields: Fields) -> office_keys.Revocation:
    return office_keys.Revocation(
        fields.text("node"),
        fields.text("reason"),
        fields.optional_text("key"),
        fields.integer("before", 0, limits.TIME_MS_MAX) if fields.has("before") else None,
        _flag(fields, "dry_run"),
    )


async def _retire(node: Node, params: Mapping[str, Any], act: Act) -> object:
    closed, reason = read_params("retire", params, lambda fields: (fields.text("node"), fields.text("reason")))
    return await office_keys.retire(node, closed, reason, act)


async def _verify(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("verify", params, _nothing)
    return (await inspection.verify(node)).shown()


async def _clones(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("clones", params, _nothing)
    return await node.read(lambda conn: clones.shown(node, conn))


async def _clones_keep(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("clones.keep", params, _nothing)
    return await clones.keep(node)


async def _clones_retire(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("clones.retire", params, _nothing)
    return await clones.retire(node)


async def _rebuild(node: Node, params: Mapping[str, Any], _act: Act) -> object:
    read_params("rebuild", params, _nothing)
    return await rebuilding.rebuild(node)


async def _export(node: Node, params: Mapping[str, Any], _act: Act) -> AsyncIterator[object]:
    if not read_params("export", params, lambda fields: _flag(fields, "entries")):
        raise InputError("what to export is not said", hint="Give --entries.")
    return export.export_entries(node)


def _nothing(_fields: Fields) -> None:
    """Read no parameter: `read_params` names any that is given."""


_WRITING: Final[Mapping[str, Reader]] = {
    "officer.add": _officer_add,
    "officer.retire": _officer_retire,
    "catalogue.publish": _catalogue_publish,
    "calendar.publish": _calendar_publish,
    "case.open": _open,
    "case.accept": _case(counter.accept, lacking=_texts("lacking", required=False)),
    "case.refuse": _case(counter.refuse, kind=_number("kind", 4, 5), reason=_text("reason")),
    "case.notice": _case(counter.notice, missing=_texts("missing", required=True), text=_maybe("text")),
    "case.supplement": _case(counter.supplement, materials=_materials),
    "case.dispatch": _case(counter.dispatch, stage=_text("stage"), to=_targets),
    "case.task": _case(
        counter.task, task=_text("task"), result=_choice("result", "pass", "fail"), text=_maybe("text")
    ),
    "case.suspend": _case(counter.suspend, kind=_text("kind", limits.NAME_CHARS_MAX), reason=_text("reason")),
    "case.resume": _case(counter.resume),
    "case.extend": _case(counter.extend, days=_number("days", 1, limits.WORKING_DAYS_MAX), reason=_text("reason")),
    "case.decide": _case(
        counter.decide, result=_choice("result", "grant", "partial", "deny"), reason=_maybe("reason")
    ),
    "case.finish": _case(counter.finish),
    "case.revoke": _case(counter.revoke, reason=_text("reason")),
    "case.deliver": _case(counter.deliver, how=_choice("how", "window", "post"), tracking=_maybe("tracking")),
    "case.withdraw": _case(counter.withdraw, reason=_text("reason")),
    "case.correct": _case(counter.correct, changes=_pairs("field"), reason=_text("reason")),
    "case.note": _case(counter.note, text=_text("text")),
    "case.offer": _case(counter.offer, to=_maybe("to"), reason=_maybe("reason")),
    "case.take": _case(counter.take),
    "case.return": _case(counter.return_, reason=_text("reason")),
    "case.adopt": _case(counter.adopt, entries=_texts("entries", required=True)),
    "case.reclaim": _case(counter.reclaim, reason=_text("reason"), after=_maybe("after")),
}

_READING: Final[Mapping[str, Operation]] = {
    "officer.list": _officer_list,
    "catalogue.list": _catalogue_list,
    "calendar.list": _calendar_list,
    "list": _list,
    "show": _show,
    "status": _status,
    "key.show": _key_show,
    "key.rotate": _key_rotate,
    "revoke": _revoke,
    "retire": _retire,
    "verify": _verify,
    "clones": _clones,
    "clones.keep": _clones_keep,
    "clones.retire": _clones_retire,
    "rebuild": _rebuild,
    "export": _export,
}

for _name, _reader in _WRITING.items():
    _writes(_name, _reader)
for _name, _operation in _READING.items():
    register(_name, _operation)
