"""Tests of the vocabulary: the table, its diagram, and the shapes of fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.transitions import (
    KNOWN_TYPES,
    OPTIONAL,
    REQUIRED,
    SIDE_TYPES,
    SPINE_TYPES,
    STATE_CODES,
    STATE_WORDS,
    TRANSITIONS,
    State,
    diagram,
    is_well_formed,
)
from tests.protocol.histories import OPENING_FIELDS, WEST, WEST_DEPT, garbage_fields

# The law of table 1, written out a second time by hand: state, then what leads where. Custody types are tested apart.
DIAGRAM = """\
stateDiagram-v2
    [*] --> RECEIVED: open
    RECEIVED --> ACCEPTED: accept
    RECEIVED --> REFUSED: refuse
    RECEIVED --> NOTICED: notice
    RECEIVED --> WITHDRAWN_EARLY: withdraw
    NOTICED --> ACCEPTED: accept
    NOTICED --> REFUSED: refuse
    NOTICED --> NOTICED: notice
    NOTICED --> WITHDRAWN_EARLY: withdraw
    ACCEPTED --> HANDLING: dispatch
    ACCEPTED --> ACCEPTED_SUSPENDED: suspend
    ACCEPTED --> ACCEPTED: extend
    ACCEPTED --> DECIDED: decide
    ACCEPTED --> WITHDRAWN: withdraw
    HANDLING --> HANDLING: dispatch
    HANDLING --> HANDLING_SUSPENDED: suspend
    HANDLING --> HANDLING: extend
    HANDLING --> DECIDED: decide
    HANDLING --> WITHDRAWN: withdraw
    ACCEPTED_SUSPENDED --> ACCEPTED: resume
    ACCEPTED_SUSPENDED --> WITHDRAWN: withdraw
    HANDLING_SUSPENDED --> HANDLING: resume
    HANDLING_SUSPENDED --> WITHDRAWN: withdraw
    DECIDED --> FINISHED: finish
    DECIDED --> REVOKED: revoke
    FINISHED --> REVOKED: revoke"""

CUSTODY = {"offer", "take", "return", "reclaim", "adopt"}
OPEN_STATES = {
    State.RECEIVED,
    State.NOTICED,
    State.ACCEPTED,
    State.HANDLING,
    State.ACCEPTED_SUSPENDED,
    State.HANDLING_SUSPENDED,
    State.DECIDED,
}


def test_the_diagram_drawn_from_the_table_is_the_law() -> None:
    """Table 1 is released: a change of any arrow is a new table, not an edit."""
    assert diagram() == DIAGRAM


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", sorted(SPINE_TYPES))
def test_every_pair_of_state_and_type_is_decided(state: State, kind: str) -> None:
    """Custody moves in every open state and keeps it; other types go as the diagram says; what is absent is refused."""
    after = TRANSITIONS[state].get(kind)
    if kind in CUSTODY:
        assert after == (state if state in OPEN_STATES else None)
    elif after is None:
        assert f"{state.name} --> {'?'}: {kind}" not in DIAGRAM
        assert not any(
            line.split(" --> ")[0].strip() == state.name and line.endswith(f": {kind}") for line in DIAGRAM.splitlines()
        )
    else:
        assert f"{state.name} --> {after.name}: {kind}" in DIAGRAM


def test_the_table_speaks_of_known_types_and_all_states() -> None:
    """Every state has a row, a word and a code; every type in the table is a spine type with a shape."""
    assert set(TRANSITIONS) == set(STATE_WORDS) == set(STATE_CODES) == set(State)
    used = {kind for row in TRANSITIONS.values() for kind in row}
    assert used | {"open"} == SPINE_TYPES
    assert not SPINE_TYPES & SIDE_TYPES
    assert set(REQUIRED) == KNOWN_TYPES >= set(OPTIONAL)


def test_stored_numbers_of_states_stay() -> None:
    """The numbers are in stored contexts: none is ever given to another state."""
    assert {state.name: int(state) for state in State} == {
        "UNOPENED": 0,
        "RECEIVED": 1,
        "NOTICED": 2,
        "ACCEPTED": 3,
        "HANDLING": 4,
        "ACCEPTED_SUSPENDED": 5,
        "HANDLING_SUSPENDED": 6,
        "DECIDED": 7,
        "REFUSED": 8,
        "FINISHED": 9,
        "WITHDRAWN_EARLY": 10,
        "WITHDRAWN": 11,
        "REVOKED": 12,
    }


LINK = bytes(16)
TASKS = [["a", WEST_DEPT, None], ["b", WEST_DEPT, "window 3"], ["c", WEST_DEPT]]

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("open", dict(OPENING_FIELDS)),
    ("open", {**OPENING_FIELDS, "from_a_later_program": {"x": [1]}}),
    ("open", {key: value for key, value in OPENING_FIELDS.items() if key != "kind"}),
    ("accept", {}),
    ("accept", {"lacking": ["photo"]}),
    ("refuse", {"kind": 4}),
    ("notice", {"missing": ["photo"]}),
    ("extend", {"days": 10}),
    ("dispatch", {"stage": "review", "tasks": TASKS, "join": "all"}),
    ("dispatch", {"stage": "review", "tasks": TASKS, "join": 3}),
    ("decide", {"result": "partial"}),
    ("offer", {"to": WEST}),
    ("adopt", {"of": [LINK]}),
    ("task", {"dispatch": LINK, "task": "a", "result": "fail"}),
    ("material", {"materials": ["photo"], "files": [[bytes(32), 10, "image/jpeg", 1]]}),
    ("deliver", {"how": "post"}),
    ("time", {"of": LINK, "at": 0}),
]
BAD: list[tuple[str, dict[str, Any]]] = [
    *[("open", {key: value for key, value in OPENING_FIELDS.items() if key != name}) for name in REQUIRED["open"]],
    ("open", {**OPENING_FIELDS, "limits": [5]}),
    ("open", {**OPENING_FIELDS, "limits": [5, -1]}),
    ("open", {**OPENING_FIELDS, "limits": [5, True]}),
    ("open", {**OPENING_FIELDS, "kind": 3}),
    ("open", {**OPENING_FIELDS, "handler": "65010200100"}),
    ("open", {**OPENING_FIELDS, "handler": "650102001001-UP"}),
    ("open", {**OPENING_FIELDS, "region": "650102001001-a"}),
    ("open", {**OPENING_FIELDS, "item": ""}),
    ("open", {**OPENING_FIELDS, "item": "x" * 201}),
    ("accept", {"lacking": []}),
    ("accept", {"lacking": "photo"}),
    ("refuse", {}),
    ("refuse", {"kind": 6}),
    ("notice", {"missing": []}),
    ("notice", {"missing": [1]}),
    ("extend", {"days": 0}),
    ("extend", {"days": "10"}),
    ("extend", {"days": True}),
    ("dispatch", {"stage": "s", "tasks": [], "join": "all"}),
    ("dispatch", {"stage": "s", "tasks": TASKS, "join": "most"}),
    ("dispatch", {"stage": "s", "tasks": TASKS, "join": 4}),
    ("dispatch", {"stage": "s", "tasks": TASKS, "join": 0}),
    ("dispatch", {"stage": "s", "tasks": [["a", WEST_DEPT], ["a", WEST]], "join": "all"}),
    ("dispatch", {"stage": "s", "tasks": [["a", "nowhere"]], "join": "all"}),
    ("dispatch", {"stage": "s", "tasks": [["a", WEST_DEPT, 3]], "join": "all"}),
    ("dispatch", {"stage": "s", "tasks": [["a"]], "join": "all"}),
    ("decide", {"result": "granted"}),
    ("decide", {"result": 1}),
    ("offer", {"to": None}),
    ("adopt", {"of": [bytes(15)]}),
    ("task", {"dispatch": LINK.hex(), "task": "a", "result": "fail"}),
    ("task", {"dispatch": LINK, "task": "a", "result": "done"}),
    ("material", {"materials": [], "files": []}),
    ("material", {"materials": ["photo"], "files": [[bytes(31), 10, "image/jpeg", 1]]}),
    ("deliver", {"how": "drone"}),
    ("time", {"of": LINK, "at": -1}),
]


@pytest.mark.parametrize(("kind", "fields"), GOOD)
def test_well_formed_fields(kind: str, fields: dict[str, Any]) -> None:
    """What the protocol names is well formed; unknown further fields are passed over."""
    assert is_well_formed(kind, fields)


@pytest.mark.parametrize(("kind", "fields"), BAD)
def test_malformed_fields(kind: str, fields: dict[str, Any]) -> None:
    """A field that is missing, of another type, or out of its bounds makes the entry malformed."""
    assert not is_well_formed(kind, fields)


@given(st.sampled_from(sorted(KNOWN_TYPES)), garbage_fields)
def test_any_fields_are_judged_without_an_error(kind: str, fields: dict[str, Any]) -> None:
    """Whatever is in the fields, the answer is yes or no."""
    assert is_well_formed(kind, fields) in {True, False}
