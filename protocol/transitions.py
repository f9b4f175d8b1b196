"""The vocabulary of a case: states, entry types, the transition table, the shape of each type's fields, and reasons.

All that may happen to a case is in `TRANSITIONS`; what is absent from it is refused. A case folds by the table whose
number its opening names. A released table is never edited: a change is a new table beside it.

    >>> TRANSITIONS[State.DECIDED]["finish"]
    <State.FINISHED: 9>
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from protocol.limits import LIST_ITEMS_MAX, NAME_CHARS_MAX, TIME_MS_MAX, WORKING_DAYS_MAX

TABLE_VERSION: Final = 1
FORMAT_VERSION: Final = 1
LINK_BYTES: Final = 16


class State(enum.IntEnum):
    """Where a case stands. The numbers are stored in contexts: never reuse one. Export codes are in `STATE_CODES`."""

    UNOPENED = 0  # the opening itself has no effect
    RECEIVED = 1
    NOTICED = 2
    ACCEPTED = 3
    HANDLING = 4
    ACCEPTED_SUSPENDED = 5
    HANDLING_SUSPENDED = 6
    DECIDED = 7
    REFUSED = 8
    FINISHED = 9
    WITHDRAWN_EARLY = 10
    WITHDRAWN = 11
    REVOKED = 12


_KEEPING: Final = ("offer", "take", "return", "reclaim", "adopt")  # custody moves, the state stays


def _row(state: State, moves: Mapping[str, State]) -> dict[str, State]:
    """Return one row of the table: its moves, and the custody types, which keep the state."""
    return {**moves, **dict.fromkeys(_KEEPING, state)}


TRANSITIONS: Final[Mapping[State, Mapping[str, State]]] = {
    State.UNOPENED: {},
    State.RECEIVED: _row(
        State.RECEIVED,
        {
            "accept": State.ACCEPTED,
            "refuse": State.REFUSED,
            "notice": State.NOTICED,
            "withdraw": State.WITHDRAWN_EARLY,
        },
    ),
    State.NOTICED: _row(
        State.NOTICED,
        {
            "accept": State.ACCEPTED,
            "refuse": State.REFUSED,
            "notice": State.NOTICED,
            "withdraw": State.WITHDRAWN_EARLY,
        },
    ),
    State.ACCEPTED: _row(
        State.ACCEPTED,
        {
            "dispatch": State.HANDLING,
            "suspend": State.ACCEPTED_SUSPENDED,
            "extend": State.ACCEPTED,
            "decide": State.DECIDED,
            "withdraw": State.WITHDRAWN,
        },
    ),
    State.HANDLING: _row(
        State.HANDLING,
        {
            "dispatch": State.HANDLING,
            "suspend": State.HANDLING_SUSPENDED,
            "extend": State.HANDLING,
            "decide": State.DECIDED,
            "withdraw": State.WITHDRAWN,
        },
    ),
    State.ACCEPTED_SUSPENDED: _row(State.ACCEPTED_SUSPENDED, {"resume": State.ACCEPTED, "withdraw": State.WITHDRAWN}),
    State.HANDLING_SUSPENDED: _row(State.HANDLING_SUSPENDED, {"resume": State.HANDLING, "withdraw": State.WITHDRAWN}),
    State.DECIDED: _row(State.DECIDED, {"finish": State.FINISHED, "revoke": State.REVOKED}),
    State.FINISHED: {"revoke": State.REVOKED},
    State.REFUSED: {},
    State.WITHDRAWN_EARLY: {},
    State.WITHDRAWN: {},
    State.REVOKED: {},
}

STATE_WORDS: Final[Mapping[State, str]] = {
    State.UNOPENED: "void",
    State.RECEIVED: "received",
    State.NOTICED: "noticed",
    State.ACCEPTED: "accepted",
    State.HANDLING: "handling",
    State.ACCEPTED_SUSPENDED: "suspended",
    State.HANDLING_SUSPENDED: "suspended",
    State.DECIDED: "decided",
    State.REFUSED: "refused",
    State.FINISHED: "finished",
    State.WITHDRAWN_EARLY: "withdrawn",
    State.WITHDRAWN: "withdrawn",
    State.REVOKED: "revoked",
}

# Export codes of the national exchange dictionary (1 已接件 … 15 撤销). NOTICED, REFUSED and FINISHED depend on more than
# the state: see `cases.state_code`.
STATE_CODES: Final[Mapping[State, int]] = {
    State.UNOPENED: 0,
    State.RECEIVED: 1,
    State.NOTICED: 6,
    State.ACCEPTED: 3,
    State.HANDLING: 8,
    State.ACCEPTED_SUSPENDED: 9,
    State.HANDLING_SUSPENDED: 9,
    State.DECIDED: 8,
    State.REFUSED: 5,
    State.FINISHED: 11,
    State.WITHDRAWN_EARLY: 2,
    State.WITHDRAWN: 14,
    State.REVOKED: 15,
}
OUTCOME_CODES: Final[Mapping[str, int]] = {"grant": 11, "partial": 12, "deny": 13}
NOTICE_ANSWERED_CODE: Final = 7  # 补正(结束)


class Reason(enum.StrEnum):
    """Why an entry has the effect that it has. `GUARD` and `NO_RIGHT` are followed by a colon and a name."""

    NONE = ""
    # off the tree: custody was not the author's
    NOT_HOLDER = "not_holder"
    WRONG_EPOCH = "wrong_epoch"
    NOT_OFFERED = "not_offered"
    OFFERED_AWAY = "offered_away"
    NOT_ABOVE = "not_above"
    BUILDS_ON_VOID_PLACE = "builds_on_void_place"
    SECOND_OPENING = "second_opening"
    # void
    NO_RIGHT = "no_right"
    NOT_IN_TABLE = "not_in_table"
    MALFORMED = "malformed"
    GUARD = "guard"
    REVOKED = "revoked"
    NOT_A_PARTY = "not_a_party"
    NOT_DISPATCHED = "not_dispatched"
    NOT_ASSIGNED = "not_assigned"
    TOO_LONG = "too_long"
    # late
    NOT_CHOSEN = "not_chosen"
    ADOPTED = "adopted"
    # waiting
    PREV_MISSING = "prev_missing"
    BASIS_MISSING = "basis_missing"
    RESTS_MISSING = "rests_missing"
    NEWER_PROGRAM = "newer_program"


# --- shapes of fields

Check = Callable[[object], bool]  # a decoded msgpack value → whether it has the form
# Of table 1, whatever later programs let a node be called: a verdict must not change with the program.
_NODE_ID = re.compile(r"[0-9]{12}(-[a-z0-9]{1,8})?")
_REGION = re.compile(r"[0-9]{12}")


def _is_text(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= NAME_CHARS_MAX


def _is_node(value: object) -> bool:
    return type(value) is str and _NODE_ID.fullmatch(value) is not None


def _is_region(value: object) -> bool:
    return type(value) is str and _REGION.fullmatch(value) is not None


def _is_link(value: object) -> bool:
    return type(value) is bytes and len(value) == LINK_BYTES


def _is_int(low: int, high: int) -> Check:
    # `type is int`: True is an int to Python, and must not be one here
    return lambda value: type(value) is int and low <= value <= high


def _is_one_of(*allowed: object) -> Check:
    return lambda value: type(value) is type(allowed[0]) and value in allowed


def _is_list(check: Check, least: int = 0) -> Check:
    return lambda value: (
        isinstance(value, (list, tuple)) and least <= len(value) <= LIST_ITEMS_MAX and all(map(check, value))
    )


def _is_limits(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_int(0, WORKING_DAYS_MAX), value))


def _is_task(value: object) -> bool:
    """Check `[task, node]` or `[task, node, unit or nil]`."""
    return (
        isinstance(value, (list, tuple))
        and len(value) in {2, 3}
        and _is_text(value[0])
        and _is_node(value[1])
        and (len(value) == 2 or value[2] is None or _is_text(value[2]))
    )


def _is_join(value: object) -> bool:
    return value in {"all", "any"} if type(value) is str else _is_int(1, LIST_ITEMS_MAX)(value)


def _is_file(value: object) -> bool:
    """Check `[sha256, bytes, type, grade]`."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 4
        and type(value[0]) is bytes
        and len(value[0]) == 32
        and _is_int(0, 1 << 40)(value[1])
    )


_is_names = _is_list(_is_text, least=1)
_is_files = _is_list(_is_file)

# Required fields of every known type; a field that is not named here is kept and ignored (a later program may use it).
REQUIRED: Final[Mapping[str, Mapping[str, Check]]] = {
    "open": {
        "item": _is_text,
        "version": _is_int(0, 1 << 53),
        "number": _is_text,
        "handler": _is_node,
        "region": _is_region,
        "table": _is_int(1, 1 << 31),
        "limits": _is_limits,
    },
    "accept": {},
    "refuse": {"kind": _is_one_of(4, 5)},
    "notice": {"missing": _is_names},
    "suspend": {},
    "resume": {},
    "extend": {"days": _is_int(1, WORKING_DAYS_MAX)},
    "dispatch": {"stage": _is_text, "tasks": _is_list(_is_task, least=1), "join": _is_join},
    "decide": {"result": _is_one_of("grant", "partial", "deny")},
    "finish": {},
    "revoke": {},
    "withdraw": {},
    "offer": {"to": _is_node},
    "take": {},
    "return": {},
    "reclaim": {},
    "adopt": {"of": _is_list(_is_link, least=1)},
    "task": {"dispatch": _is_link, "task": _is_text, "result": _is_one_of("pass", "fail")},
    "material": {"materials": _is_names},
    "note": {},
    "deliver": {"how": _is_one_of("window", "post")},
    "correct": {"names": _is_names},
    "withdrawal": {},
    "time": {"of": _is_link, "at": _is_int(0, TIME_MS_MAX)},
    "rating": {},
    "payment": {},
    "visit": {},
    "complaint": {},
    "card": {},
}

# Fields that may be absent, but have this form when they are there.
OPTIONAL: Final[Mapping[str, Mapping[str, Check]]] = {
    "open": {"kind": _is_one_of(1, 2, 9)},
    "accept": {"lacking": _is_names},
    "material": {"files": _is_files},
    "note": {"files": _is_files},
}

SIDE_TYPES: Final = frozenset(
    {
        "task",
        "material",
        "note",
        "deliver",
        "correct",
        "withdrawal",
        "time",
        "rating",
        "payment",
        "visit",
        "complaint",
        "card",
    }
)
SPINE_TYPES: Final = frozenset(REQUIRED) - SIDE_TYPES  # `open` included
KNOWN_TYPES: Final = SPINE_TYPES | SIDE_TYPES


def is_well_formed(kind: str, fields: Mapping[str, Any]) -> bool:
    """Say whether the fields of a known type have the form that the table asks for."""
    for name, check in REQUIRED[kind].items():
        if name not in fields or not check(fields[name]):
            return False
    if fields and kind in OPTIONAL:
        for name, check in OPTIONAL[kind].items():
            if name in fields and not check(fields[name]):
                return False
    return kind != "dispatch" or _tasks_fit(fields)


def _tasks_fit(fields: Mapping[str, Any]) -> bool:
    """Say whether a stage's task names differ and its join asks for no more tasks than there are."""
    tasks, join = fields["tasks"], fields["join"]
    return len({task[0] for task in tasks}) == len(tasks) and (type(join) is str or join <= len(tasks))


def diagram() -> str:
    """Return the table as a Mermaid state diagram, one arrow a line, custody types left out (they keep the state)."""
    arrows = [
        f"    {state.name} --> {after.name}: {kind}"
        for state, row in TRANSITIONS.items()
        for kind, after in row.items()
        if kind not in _KEEPING
    ]
    return "\n".join(["stateDiagram-v2", "    [*] --> RECEIVED: open", *arrows])
