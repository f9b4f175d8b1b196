"""Taking a case in. Works for weeks without a line: number, version and limits come from what this node holds.

Required form fields are not enforced here: intake must not stop on a form. What lacks is asked for by a `notice`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from node.ledger import Draft
from node.office import officers
from node.office.desk import Answer, Desk, case_name
from node.office.drafting import as_held
from node.office.publishing import item_text
from node.office.refusals import SYNC_HINT, Attempt, refusal, retryable
from node.store import cases, logs
from protocol import identity, limits, numbers
from protocol.authority import legal_day
from protocol.cases import begin
from protocol.catalogue import BELOW, Item
from protocol.divisions import check_node_id, region_of
from protocol.errors import CommandRefused, InputError, NotFound
from protocol.fold import Effect, Verdict
from protocol.log import LINK_BYTES, SALT_BYTES
from protocol.register import ItemRecord, Right
from protocol.text import clean, normalise_name
from protocol.transitions import TABLE_VERSION

FORM_FIELDS_MAX: Final = 200
PHONE_CHARS_MAX: Final = 40
SERIAL: Final = "serial."
SERIALS_PER_MACHINE: Final = 10_000  # of one day, before the serials of a node's next machine begin


@dataclass(frozen=True, slots=True)
class Wish:
    """What an applicant wants. id_number: of a person or a body; None only where another system's record has none."""

    item: str
    applicant: str
    id_number: str | None = None
    phone: str | None = None
    handler: str | None = None
    form: Mapping[str, str] = field(default_factory=dict)


def open_case(desk: Desk, wish: Wish) -> Answer:
    """Open a case.

    Raises:
        NotFound: no such item or handler here.
        CommandRefused: no right to take it in, or the item's text is not here yet.
        InputError: the applicant's name or number is wrong.
    """
    name = officers.acting(desk)
    record = _item(desk, wish.item)
    item = item_text(desk.conn, record.leaf)
    if item is None:
        raise retryable(CommandRefused(f"the text of item {wish.item} is not here yet", hint=SYNC_HINT))
    handler = _handler(desk, wish, item)
    body = _body(desk, wish)
    number = _next_number(desk)
    fields = {
        "item": item.code,
        "version": item.version,
        "number": number,
        "handler": handler,
        "region": region_of(handler),
        "table": TABLE_VERSION,
        "limits": [item.limits.promised_days, item.limits.statutory_days],
        "kind": item.kind,
    }
    named = {"officer_name": name} if name is not None else {}
    draft = desk.draft("open", fields, {**body, **named}, salt=body["salt"])
    _try(desk, draft, number)
    (placed,) = desk.write(draft)
    return {**case_name(number, placed.leaf[:LINK_BYTES]), **desk.place(placed), "handler": handler}


def _item(desk: Desk, code: str) -> ItemRecord:
    record = desk.rules.item(code)
    if record is None:
        raise NotFound(f"item {code[:64]} is not in the catalogue held here", hint="See `tongban catalogue list`, or sync.")
    if not desk.rules.allows_item(desk.node.id, Right.RECEIVE, code, legal_day(desk.claimed_at)):
        raise CommandRefused(
            f"{desk.node.id} has no right to take in item {code}",
            hint=f"Take it in at: {', '.join(record.head.receive)}; or ask {record.head.owner} for the right.",
        )
    return record


def _handler(desk: Desk, wish: Wish, item: Item) -> str:
    if wish.handler is None:
        return default_handler(desk, item)
    handler = check_node_id(wish.handler)
    known = desk.node.rules.record(handler)
    if known is None or known.retired:
        raise NotFound(f"node {handler} is not in the network", hint="Check the id given with --handler, or sync.")
    if not desk.rules.allows_item(handler, Right.DECIDE, item.code, legal_day(desk.claimed_at)):
        raise CommandRefused(
            f"{handler} may not decide item {item.code}", hint=f"It is decided at: {', '.join(item.decide)}."
        )
    return handler


def default_handler(desk: Desk, item: Item) -> str:
    """Return who handles an item taken in here.

    The first node that the item names outright; else this one, if it may decide; else the top of the first subtree that
    may; else the owner.
    """
    for pattern in item.decide:
        known = None if pattern.endswith(BELOW) else desk.node.rules.record(pattern)
        if known is not None and not known.retired:
            return pattern
    if desk.rules.allows_item(desk.node.id, Right.DECIDE, item.code, legal_day(desk.claimed_at)):
        return desk.node.id
    tops = (pattern.removesuffix(BELOW) for pattern in item.decide if pattern.endswith(BELOW))
    return next((top for top in tops if desk.node.rules.record(top) is not None), item.owner)


def _body(desk: Desk, wish: Wish) -> dict[str, Any]:
    body: dict[str, Any] = {"salt": desk.node.entropy.bytes(SALT_BYTES), "applicant": checked_name(wish.applicant)}
    if wish.id_number is not None:
        body["id_number"] = checked_number(wish.id_number, legal_date(desk.now_ms))
    elif desk.act.source is None:
        raise InputError("the applicant's number is missing", hint="Give --id-number.")
    if wish.phone:
        body["phone"] = _cleaned("phone", wish.phone, PHONE_CHARS_MAX)
    body["form"] = checked_form(wish.form)
    return body


def checked_name(name: str) -> str:
    """Return an applicant's name as it is stored; raises InputError."""
    found = normalise_name(_cleaned("applicant", name, limits.NAME_CHARS_MAX))
    if not found:
        raise InputError("applicant: must not be empty")
    return found


def checked_number(number: str, today: dt.date) -> str:
    """Return the number of a person (18 characters) or of a body (social credit code) in its one form.

    Raises:
        InputError: neither; what a date of birth stands in is judged as a person's.
    """
    try:
        return identity.check_id_number(number, today)
    except InputError as person:
        try:
            found = identity.check_uscc(number)
        except InputError:
            raise person from None
        if _has_birth_date(found):  # a mistyped person's number fits the other check now and then
            raise
        return found


def _has_birth_date(number: str) -> bool:
    try:
        return number[:17].isdigit() and identity.birth_date(number).year >= identity.BIRTH_YEAR_MIN
    except InputError:
        return False


def checked_form(form: Mapping[str, str]) -> dict[str, str]:
    """Return the answers of a form; unknown questions are kept, since catalogues differ in age."""
    if len(form) > FORM_FIELDS_MAX:
        raise InputError(f"a form has at most {FORM_FIELDS_MAX} fields")
    return {
        _cleaned("field", key, limits.NAME_CHARS_MAX): _cleaned(f"field {key[:40]}", value, limits.TEXT_CHARS_MAX)
        for key, value in form.items()
    }


def legal_date(at_ms: int) -> dt.date:
    """Return the legal date (+08:00) of a time."""
    return dt.date.fromisoformat(legal_day(at_ms))


def _cleaned(what: str, value: str, chars_max: int) -> str:
    try:
        return clean(value, chars_max, lines=True)
    except InputError as error:
        raise InputError(f"{what}: {error.message}") from error


def _next_number(desk: Desk) -> str:
    """Count on for the legal day, and pass over what is printed already (a store brought back from a backup)."""
    day = legal_date(desk.claimed_at)
    if day.year not in numbers.YEARS:
        raise InputError(f"no number can be made for the year {day.year}", hint="Correct the clock of this machine.")
    name = f"{SERIAL}{day.isoformat()}"
    serial = int(logs.get_meta(desk.conn, name) or _first_serial(desk)) + 1
    number = numbers.make_number(desk.node.id, day, serial)
    while cases.is_number_known(desk.conn, number):
        serial += 1
        number = numbers.make_number(desk.node.id, day, serial)
    logs.set_meta(desk.conn, name, str(serial).encode())
    return number


def _first_serial(desk: Desk) -> int:
    """Return behind which serial a day begins: a rebuilt machine keeps clear of what its predecessor may have printed."""
    machines = {record.enrolment for record in desk.node.rules.records(desk.node.id)}
    return SERIALS_PER_MACHINE * max(0, len(machines) - 1)


def _try(desk: Desk, draft: Draft, number: str) -> None:
    """Raise unless the fold would apply the opening."""
    tried = as_held(desk, draft)
    context, reason = begin(tried, draft.claimed_at, desk.node.ledger.judge)
    if reason:
        raise refusal(Attempt(desk.node.id, number, context, tried.header), Verdict(Effect.VOID, reason))
