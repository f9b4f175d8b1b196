"""What people can apply for: catalogue items, with who may take them in, who decides, and in which stages.

An item is one version of one service as its owner published it. Its *header fields* (code, version, title, owner, receive,
decide) go to every node, so that rights can be judged without opening a body; the rest goes to the nodes that need it. A case
pins the version under which it was opened.

A *node pattern* is a node id, or `ID/*` for that node and every node below it in the topology. What stands below is read from the
stated parents, never from the digits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from protocol import limits
from protocol.divisions import check_node_id, parse_region, region_of
from protocol.errors import DecodeError, InputError, InputProblems
from protocol.problems import Fields, Problems, clip

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT: Final = "tongban-catalogue/1"
ITEM_VERSION_MAX: Final = 1_000_000
CODE_SHAPE: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", re.ASCII)
FIELD_SHAPE: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
KINDS: Final = (1, 2, 9)  # 办件类型, GB/T 39046: 即办件, 承诺件, 其他
BELOW: Final = "/*"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Working days from acceptance to decision: what is promised (承诺) and what the law allows (法定); 0 is the same day."""

    promised_days: int
    statutory_days: int


class Material(msgspec.Struct, frozen=True):
    """One paper that the applicant hands in; `form` says original or copy, `origin` who issues it."""

    name: str
    required: bool
    form: str = ""
    origin: str = ""


class FormField(msgspec.Struct, frozen=True):
    """One question of the form; `name` is the key under which the answer is kept."""

    name: str
    label: str
    required: bool


class Task(msgspec.Struct, frozen=True):
    """One department's part of a stage; a node not named here is named when the stage is dispatched."""

    name: str
    node: str | None = None
    unit: str | None = None


class Stage(msgspec.Struct, frozen=True):
    """Tasks that run side by side; `join` says how many must end before the case goes on: all, any, or a number."""

    name: str
    join: str | int
    tasks: tuple[Task, ...]


class Item(msgspec.Struct, frozen=True):
    """One version of one service.

    Args:
        code: unique in the network, of letters, digits, `.`, `_` and `-`, at most 64.
        version: from 1; a higher one replaces a lower one for new cases.
        name: title for people.
        owner: node id of the publisher.
        kind: 1 即办件, 2 承诺件, 9 其他.
        limits: working days.
        receive: node patterns of the counters that may take it in.
        decide: node patterns of the nodes that may accept and decide.
        region: 12 digits, the place whose people it is for.
    """

    code: str
    version: int
    name: str
    owner: str
    kind: Literal[1, 2, 9]
    limits: Limits
    receive: tuple[str, ...]
    decide: tuple[str, ...]
    region: str
    materials: tuple[Material, ...] = ()
    form: tuple[FormField, ...] = ()
    stages: tuple[Stage, ...] = ()
    results: tuple[str, ...] = ()
    basis: str = ""
    note: str = ""


def pattern_matches(pattern: str, node: str, ancestors: Sequence[str]) -> bool:
    """Tell whether a node pattern holds for a node.

    Args:
        pattern: a node id or `ID/*`.
        node: the node's id.
        ancestors: ids of its parent, the parent's parent and so on, in any order.
    """
    if pattern.endswith(BELOW):
        top = pattern.removesuffix(BELOW)
        return top == node or top in ancestors
    return pattern == node


def any_matches(patterns: Sequence[str], node: str, ancestors: Sequence[str]) -> bool:
    """Tell whether at least one of the patterns holds for a node."""
    return any(pattern_matches(pattern, node, ancestors) for pattern in patterns)


def check_pattern(text: str) -> str:
    """Return the text itself if it is a node pattern.

    Raises:
        InputError: says what is wrong.
    """
    check_node_id(text.removesuffix(BELOW))
    return text


def joined(join: str | int, count: int) -> int:
    """Return how many of a stage's `count` tasks must have ended before the case goes on."""
    if isinstance(join, int):
        return join
    return 1 if join == "any" else count


def parse_catalogue(mapping: object, where: str) -> list[Item]:
    """Check a catalogue file.

    Args:
        mapping: the whole file, read.
        where: the file's name, for messages.

    Raises:
        InputProblems: every fault with item and field.
    """
    problems = Problems(where)
    top = Fields(mapping, "", problems)
    found_format = top.text("format")
    if found_format and found_format != FORMAT:
        top.fault("format", f"must be {FORMAT!r}")
    top.text("note", chars_max=limits.TEXT_CHARS_MAX, default="")
    tables = top.tables("items", count_max=limits.ITEMS_MAX)
    if not tables:
        top.fault("items", "holds no item")
    items = [_read_item(_named(table)) for table in tables]
    _check_codes(items, problems)
    top.done()
    problems.check()
    return items


def header_fields(item: Item) -> dict[str, object]:
    """Return what every node gets of an item: the fields of a `catalogue.item` header."""
    return {
        "code": item.code,
        "version": item.version,
        "title": item.name,
        "owner": item.owner,
        "receive": list(item.receive),
        "decide": list(item.decide),
    }


def to_body(item: Item) -> dict[str, object]:
    """Return the body of a `catalogue.item` entry: the whole item as plain values."""
    body: dict[str, object] = msgspec.json.decode(msgspec.json.encode(item))  # lists, not tuples
    return body


def from_body(body: object) -> Item:
    """Read the body of a `catalogue.item` entry; keys that a later version added are passed over.

    Raises:
        DecodeError: the body breaks a rule of the format.
    """
    problems = Problems("catalogue.item")
    item = _read_item(Fields(body, "", problems), strict=False)
    try:
        problems.check()
    except InputProblems as error:
        raise DecodeError(error.message) from error
    return item


def _named(table: Fields) -> Fields:
    """Name an item in faults by its code as well, since people look for that and not for its place."""
    code = table.raw("code") if table.has("code") else ""
    if isinstance(code, str) and code:
        table.place = f"{table.place} ({clip(code)})"
    return table


def _check_codes(items: list[Item], problems: Problems) -> None:
    seen: set[str] = set()
    for item in items:
        if item.code in seen:
            problems.add(f"item {clip(item.code)}: code", "stands in this file twice; keep one version")
        if item.code:
            seen.add(item.code)


def _read_item(fields: Fields, *, strict: bool = True) -> Item:
    owner = fields.checked("owner", check_node_id)
    item = Item(
        code=fields.checked("code", _check_code),
        version=fields.integer("version", 1, ITEM_VERSION_MAX),
        name=fields.text("name"),
        owner=owner,
        kind=_kind(fields),
        limits=_limits(fields.table("limits"), strict=strict),
        receive=_patterns(fields, "receive"),
        decide=_patterns(fields, "decide"),
        region=fields.checked("region", parse_region, default=_default_region(owner)),
        materials=tuple(_material(table, strict=strict) for table in fields.tables("materials")),
        form=tuple(_form_field(table, strict=strict) for table in fields.tables("form")),
        stages=tuple(_stage(table, strict=strict) for table in fields.tables("stages", count_max=limits.STAGES_MAX)),
        results=fields.texts("results"),
        basis=fields.text("basis", chars_max=limits.TEXT_CHARS_MAX, default=""),
        note=fields.text("note", chars_max=limits.TEXT_CHARS_MAX, default=""),
    )
    _check_names(item, fields)
    if len(msgspec.json.encode(item)) > limits.BODY_BYTES_MAX:
        fields.problems.add(fields.place, f"is larger than {limits.BODY_BYTES_MAX >> 10} KiB; shorten its texts")
    _end(fields, strict=strict)
    return item


def _check_code(text: str) -> str:
    if not CODE_SHAPE.fullmatch(text):
        raise InputError(f"item code {clip(text)!r} must be 1 to 64 letters, digits, dots, dashes or underlines")
    return text


def _check_field_name(text: str) -> str:
    if not FIELD_SHAPE.fullmatch(text):
        raise InputError(f"field name {clip(text)!r} must be 1 to 40 of a-z, 0-9 and _, beginning with a letter")
    return text


def _default_region(owner: str) -> str:
    try:
        return region_of(owner)
    except InputError:  # noted at `owner` already
        return ""


def _kind(fields: Fields) -> Literal[1, 2, 9]:
    found = fields.integer("kind", 1, 9)
    if found not in KINDS:
        fields.fault("kind", f"must be 1 (即办件), 2 (承诺件) or 9 (其他), not {found}")
    return 1 if found == 1 else 2 if found == 2 else 9


def _patterns(fields: Fields, key: str) -> tuple[str, ...]:
    found = fields.texts(key, check_pattern, count_max=limits.PATTERNS_MAX)
    if not found:
        fields.fault(key, "must name at least one node, like 650102000000 or 650102000000/*")
    return found


def _limits(fields: Fields, *, strict: bool) -> Limits:
    before = len(fields.problems)
    found = Limits(
        fields.integer("promised_days", 0, limits.WORKING_DAYS_MAX),
        fields.integer("statutory_days", 0, limits.WORKING_DAYS_MAX),
    )
    if found.promised_days > found.statutory_days and len(fields.problems) == before:
        fields.fault("promised_days", f"{found.promised_days} is more than statutory_days, {found.statutory_days}")
    _end(fields, strict=strict)
    return found


def _material(fields: Fields, *, strict: bool) -> Material:
    found = Material(
        fields.text("name"), fields.flag("required"), fields.text("form", default=""), fields.text("origin", default="")
    )
    _end(fields, strict=strict)
    return found


def _form_field(fields: Fields, *, strict: bool) -> FormField:
    found = FormField(fields.checked("name", _check_field_name), fields.text("label"), fields.flag("required"))
    _end(fields, strict=strict)
    return found


def _stage(fields: Fields, *, strict: bool) -> Stage:
    tasks = tuple(_task(table, strict=strict) for table in fields.tables("tasks"))
    if not tasks:
        fields.fault("tasks", "must hold at least one task")
    found = Stage(fields.text("name"), _join(fields, len(tasks)), tasks)
    _end(fields, strict=strict)
    return found


def _join(fields: Fields, count: int) -> str | int:
    found = fields.raw("join", "all")
    if isinstance(found, str) and found in {"all", "any"}:
        return found
    if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= max(count, 1):
        return found
    fields.fault("join", f'must be "all", "any" or a number from 1 to the number of tasks, {count}')
    return "all"


def _task(fields: Fields, *, strict: bool) -> Task:
    node = fields.checked("node", check_node_id) if _given(fields, "node") else None
    unit = fields.text("unit") if _given(fields, "unit") else None
    found = Task(fields.text("name"), node, unit)
    _end(fields, strict=strict)
    return found


def _given(fields: Fields, key: str) -> bool:
    """Tell whether an optional value is there; a body writes nil where a file leaves the key out."""
    return fields.has(key) and fields.raw(key) is not None


def _check_names(item: Item, fields: Fields) -> None:
    """Note names that commands could not tell apart. Tasks differ in the whole item: a result names its task only."""
    tasks = [task.name for stage in item.stages for task in stage.tasks]
    lists = {
        "materials": [material.name for material in item.materials],
        "form": [field.name for field in item.form],
        "stages": [stage.name for stage in item.stages],
        "stages: tasks": tasks,
    }
    for key, names in lists.items():
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            fields.fault(key, f"the name {clip(name)} is used twice")


def _end(fields: Fields, *, strict: bool) -> None:
    if strict:
        fields.done()
