"""The steps of a case, one function a command. Each either writes one entry or refuses in words and writes nothing.

What routes and counts stands in the header's fields; what people said stands in the body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from node.ledger import read_body
from node.office.desk import Answer, Desk
from node.office.drafting import Dossier
from node.office.opening import checked_form, checked_name, checked_number, legal_date
from node.office.publishing import item_text
from node.office.refusals import SYNC_HINT, retryable
from node.store import logs
from protocol import catalogue, limits
from protocol.divisions import check_node_id
from protocol.errors import CommandRefused, InputError, NotFound, TransitionRefused
from protocol.fold import Effect
from protocol.log import Entry, decode_header
from protocol.text import clean

GRADE: Final = "B"  # of an attached file: a copy that an officer has seen; verified originals come later
FILE_BYTES_MAX: Final = 1 << 40
MEDIA_TYPE_UNKNOWN: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class File:
    """A file as referred to. sha256: 32 bytes. size: bytes. name: as its owner called it, "" where unknown (body only)."""

    sha256: bytes
    size: int
    media_type: str = MEDIA_TYPE_UNKNOWN
    name: str = ""


@dataclass(frozen=True, slots=True)
class Material:
    """One paper handed in, perhaps with its file."""

    name: str
    file: File | None = None


# --- taking in


def accept(desk: Desk, case: str, *, lacking: Sequence[str] = ()) -> Answer:
    """Accept (受理); `lacking` names materials that may follow (容缺受理)."""
    fields = {"lacking": _names("lacking", lacking)} if lacking else {}
    return Dossier.open(desk, case).spine("accept", fields)


def refuse(desk: Desk, case: str, *, kind: int, reason: str) -> Answer:
    """Refuse: kind 4 (不受理) or 5 (不予受理)."""
    return Dossier.open(desk, case).spine("refuse", {"kind": kind}, _reason(reason))


def notice(desk: Desk, case: str, *, missing: Sequence[str], text: str | None = None) -> Answer:
    """Tell once and whole what is missing (一次性告知)."""
    return Dossier.open(desk, case).spine("notice", {"missing": _names("missing", missing)}, _text(text))


def supplement(desk: Desk, case: str, *, materials: Sequence[Material]) -> Answer:
    """Take materials in, at any party's counter. A file is referred to by its hash; its bytes travel apart."""
    if not materials:
        raise InputError("no material is named", hint="Give --material NAME or NAME=FILE.")
    fields: dict[str, Any] = {"materials": _names("material", [one.name for one in materials])}
    files = [one.file for one in materials if one.file is not None]
    if files:
        fields["files"] = [_reference(file) for file in files]
    names = [_line("file", file.name, limits.NAME_CHARS_MAX) for file in files if file.name]
    body = {"files": names} if names else {}
    return Dossier.open(desk, case).side("material", fields, body)


def _reference(file: File) -> list[object]:
    if len(file.sha256) != 32 or not 0 <= file.size <= FILE_BYTES_MAX:
        raise InputError(f"file {file.name[:40]}: hash or size is not that of a file")
    return [file.sha256, file.size, _line("file type", file.media_type, limits.NAME_CHARS_MAX), GRADE]


# --- handling


def dispatch(desk: Desk, case: str, *, stage: str, to: Mapping[str, str | tuple[str, str | None]] | None = None) -> Answer:
    """Give a stage's tasks to departments.

    `to` maps a task to "NODE", "NODE/UNIT" or (node, unit); it overrides what the catalogue names.
    """
    dossier = Dossier.open(desk, case)
    planned = _stage(desk, dossier, stage)
    given = {task: _target(where) for task, where in (to or {}).items()}
    tasks = [_task(desk, task, given.pop(task.name, None)) for task in planned.tasks]
    if given:
        names = ", ".join(task.name for task in planned.tasks)
        raise InputError(f"stage {stage} has no task {next(iter(given))[:40]}", hint=f"Its tasks: {names}.")
    return dossier.spine("dispatch", {"stage": planned.name, "tasks": tasks, "join": planned.join})


def _stage(desk: Desk, dossier: Dossier, name: str) -> catalogue.Stage:
    terms = dossier.context.terms
    record = desk.rules.item_version(terms.item, terms.version)
    item = item_text(desk.conn, record.leaf) if record is not None else None
    if item is None:
        raise retryable(CommandRefused(f"the text of item {terms.item}, version {terms.version}, is not here", hint=SYNC_HINT))
    for stage in item.stages:
        if stage.name == name:
            return stage
    names = ", ".join(stage.name for stage in item.stages) or "none"
    raise NotFound(f"item {item.code} has no stage {name[:40]}", hint=f"Its stages: {names}.")


def _target(where: str | tuple[str, str | None]) -> tuple[str, str | None]:
    if isinstance(where, str):
        node, _, unit = where.partition("/")
        return node, unit or None
    return where


def _task(desk: Desk, task: catalogue.Task, given: tuple[str, str | None] | None) -> list[str | None]:
    node, unit = given if given is not None else (task.node, task.unit)
    if node is None:
        raise InputError(
            f"task {task.name} has no department yet", hint=f"Name it: --to {task.name}=NODE or {task.name}=NODE/UNIT."
        )
    return [task.name, _known_node(desk, node), unit if unit is None else _line("unit", unit, limits.NAME_CHARS_MAX)]


def task(desk: Desk, case: str, *, task: str, result: str, text: str | None = None) -> Answer:
    """State a department's result for its task of the stage under way."""
    dossier = Dossier.open(desk, case)
    stage = dossier.context.stage
    if stage is None:
        raise TransitionRefused(
            f"case {dossier.number} has no stage under way", hint=f"Its holder {dossier.context.holder} dispatches one."
        )
    return dossier.side("task", {"dispatch": stage.dispatch, "task": task, "result": result}, _text(text))


def suspend(desk: Desk, case: str, *, kind: str, reason: str) -> Answer:
    """Stop the clock for a special procedure (特别程序)."""
    return Dossier.open(desk, case).spine("suspend", {"kind": _line("kind", kind, limits.NAME_CHARS_MAX)}, _reason(reason))


def resume(desk: Desk, case: str) -> Answer:
    """Let the clock run on."""
    return Dossier.open(desk, case).spine("resume", {})


def extend(desk: Desk, case: str, *, days: int, reason: str) -> Answer:
    """Lengthen the limits by working days."""
    return Dossier.open(desk, case).spine("extend", {"days": days}, _reason(reason))


def decide(desk: Desk, case: str, *, result: str, reason: str | None = None) -> Answer:
    """Decide: grant, partial or deny."""
    return Dossier.open(desk, case).spine("decide", {"result": result}, _reason(reason) if reason else {})


def finish(desk: Desk, case: str) -> Answer:
    """Finish a decided case (办结)."""
    return Dossier.open(desk, case).spine("finish", {})


def revoke(desk: Desk, case: str, *, reason: str) -> Answer:
    """Revoke a decision (撤销)."""
    return Dossier.open(desk, case).spine("revoke", {}, _reason(reason))


def deliver(desk: Desk, case: str, *, how: str, tracking: str | None = None) -> Answer:
    """Hand the result over, at the window or by post."""
    body = {"tracking": _line("tracking", tracking, limits.NAME_CHARS_MAX)} if tracking else {}
    return Dossier.open(desk, case).side("deliver", {"how": how}, body)


def withdraw(desk: Desk, case: str, *, reason: str) -> Answer:
    """Withdraw for the applicant; where this node is not the holder, it becomes a request to the holder."""
    dossier = Dossier.open(desk, case)
    if dossier.context.holder == desk.node.id and dossier.context.offered is None:
        return dossier.spine("withdraw", {}, _reason(reason))
    return {**dossier.side("withdrawal", {}, _reason(reason)), "request": True}


# --- remarks


def note(desk: Desk, case: str, *, text: str) -> Answer:
    """Add a remark."""
    body = _text(text)
    if not body:
        raise InputError("the note is empty")
    return Dossier.open(desk, case).side("note", {}, body)


def correct(desk: Desk, case: str, *, changes: Mapping[str, str], reason: str) -> Answer:
    """Correct typing errors: applicant, id_number, phone or a field of the form. The old value stays visible."""
    dossier = Dossier.open(desk, case)
    if not changes:
        raise InputError("nothing to correct is named", hint="Give FIELD=VALUE.")
    new = {key: _corrected(key, value, desk) for key, value in checked_form(changes).items()}
    current = current_values(dossier)
    old = {key: current[key] for key in new if key in current}
    return dossier.side("correct", {"names": sorted(new)}, {"old": old, "new": new, **_reason(reason)})


def _corrected(key: str, value: str, desk: Desk) -> str:
    if key == "applicant":
        return checked_name(value)
    return checked_number(value, legal_date(desk.now_ms)) if key == "id_number" else value


def current_values(dossier: Dossier) -> dict[str, str]:
    """Return what an applicant stated, with the corrections in effect: names of the form beside applicant, id_number, phone."""
    verdicts = dossier.fold().verdicts
    values: dict[str, str] = {}
    for row in logs.entries_of_cases(dossier.desk.conn, [dossier.row.id])[dossier.row.id]:
        entry = Entry(row.raw, row.body)
        verdict = verdicts.get(entry.leaf[:16])
        if verdict is None or verdict.effect is not Effect.APPLIED:
            continue
        kind = decode_header(row.raw).type
        body = read_body(entry) if kind in {"open", "correct"} else None
        if body is not None:
            values |= stated_values(kind, body)
    return values


def stated_values(kind: str, body: Mapping[str, Any]) -> dict[str, str]:
    """Return the values that an opening or a correction states, by name; what is no text is left out."""
    stated = body.get("new") if kind == "correct" else {**_map(body.get("form")), **body}
    return {key: value for key, value in _map(stated).items() if isinstance(value, str) and key != "officer_name"}


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# --- custody


def offer(desk: Desk, case: str, *, to: str | None = None, reason: str | None = None) -> Answer:
    """Offer the case to another node; by default to the one that handles it."""
    dossier = Dossier.open(desk, case)
    target = _known_node(desk, dossier.context.terms.handler if to is None else to)
    if target == desk.node.id and dossier.context.holder == target:
        raise TransitionRefused(
            f"case {dossier.number} is held by this node, which also handles it", hint="Name another node with --to."
        )
    return dossier.spine("offer", {"to": target}, _reason(reason) if reason else {})


def take(desk: Desk, case: str) -> Answer:
    """Take over a case that was offered to this node."""
    return Dossier.open(desk, case).spine("take", {})


def return_(desk: Desk, case: str, *, reason: str) -> Answer:
    """Give back a case that was offered to this node."""
    return Dossier.open(desk, case).spine("return", {}, _reason(reason))


def reclaim(desk: Desk, case: str, *, reason: str, after: str | None = None) -> Answer:
    """Take a case back from a node below, behind its last entry or the one whose link begins with `after` (hex)."""
    dossier = Dossier.open(desk, case)
    return dossier.spine("reclaim", {}, _reason(reason)) if after is None else dossier.reclaim_after(after, _reason(reason))


def adopt(desk: Desk, case: str, *, entries: Sequence[str]) -> Answer:
    """Let entries that came late or stand behind a cut (links in hex, or their beginnings) be shown as vouched for."""
    dossier = Dossier.open(desk, case)
    return dossier.spine("adopt", {"of": [dossier.find_link(entry) for entry in entries]})


# --- values


def _known_node(desk: Desk, node: str) -> str:
    found = check_node_id(node)
    record = desk.node.rules.record(found)
    if record is None:
        raise NotFound(f"node {found} is not in the network held here", hint="Check the id, or sync.")
    if record.retired:
        raise CommandRefused(f"node {found} is retired", hint="Name another node.")
    return found


def _names(what: str, names: Sequence[str]) -> list[str]:
    if not 0 < len(names) <= limits.LIST_ITEMS_MAX:
        raise InputError(f"{what}: name 1 to {limits.LIST_ITEMS_MAX}")
    return list(dict.fromkeys(_line(what, name, limits.NAME_CHARS_MAX) for name in names))


def _reason(reason: str) -> dict[str, Any]:
    return {"reason": _line("reason", reason, limits.TEXT_CHARS_MAX)}


def _text(text: str | None) -> dict[str, Any]:
    return {"text": _line("text", text, limits.TEXT_CHARS_MAX)} if text else {}


def _line(what: str, value: str, chars_max: int) -> str:
    try:
        found = clean(value, chars_max, lines=True)
    except InputError as error:
        raise InputError(f"{what}: {error.message}") from error
    if not found:
        raise InputError(f"{what}: must not be empty")
    return found


