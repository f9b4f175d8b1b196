"""What one entry does to a case: custody, rights, the table, guards, and the context that follows.

A *context* is all that has to be known of a case to judge its next entry and to read its state and clocks. It is a small
value: stores keep it beside the case, and `fold.advance` goes from one to the next.

Spine entries go through `place` (is the author the one who may write here?) and `step` (what follows). Side entries go
through `side_fault`. Neither looks at anything but the entry, the context behind its predecessor, and the side entries that
it rests on; so a verdict on the tree does not depend on what else is held.

    fault = place(context, header, judge)              # Reason, or "" when custody allows it
    after, reason = step(context, held, legal_at, rests, judge)

DESIGN §6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from protocol import limits
from protocol.log import Header
from protocol.transitions import (
    LINK_BYTES,
    NOTICE_ANSWERED_CODE,
    OUTCOME_CODES,
    STATE_CODES,
    STATE_WORDS,
    TRANSITIONS,
    Reason,
    State,
    is_well_formed,
)

# --- what goes in


class Held(msgspec.Struct, frozen=True, gc=False):
    """An entry of a case as held here.

    Args:
        leaf: leaf hash, 32 bytes.
        header: its header.
        order: its place in its author's order of entries (DESIGN §4); smaller = earlier; comparable within one author only.
        cut: it lies behind a revocation's cut.
    """

    leaf: bytes
    header: Header
    order: tuple[int, ...]
    cut: bool = False

    @property
    def link(self) -> bytes:
        """How other entries name this one: the first 16 bytes of its leaf hash."""
        return self.leaf[:LINK_BYTES]


class CaseTerms(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an opening fixes for the whole case. `limits`: promised and statutory working days; 0 = the same day."""

    item: str
    version: int
    number: str
    opener: str
    handler: str
    region: str
    limits: tuple[int, int]
    kind: int | None
    table: int


class Judge(Protocol):
    """Who may do what, under the basis that a header names. Answers for one header never change once it `knows`."""

    def knows(self, header: Header) -> bool:
        """Say whether the basis and the author's enrolment (and, for an opening, the item) are here."""

    def above(self, header: Header, ancestor: str, node: str) -> bool:
        """Say whether `ancestor` stands strictly above `node`."""

    def depth(self, header: Header) -> int:
        """Return how many nodes stand above the author."""

    def refusal(self, header: Header, terms: CaseTerms, legal_at: int) -> str | None:
        """Return why the author has no right to make this entry, as a code; None: it has the right."""


# --- what comes out


class Side(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a guard or a clock needs of a side entry with effect.

    Args:
        link: its link.
        at: its legal time, ms.
        names: materials handed in.
        dispatch: for a task result: the dispatch that gave the task; else None.
        task: for a task result: its name; else "".
        result: for a task result: "pass" or "fail"; else "".
        order: for a task result: place in its author's order; else empty.
    """

    link: bytes
    at: int
    names: tuple[str, ...] = ()
    dispatch: bytes | None = None
    task: str = ""
    result: str = ""
    order: tuple[int, ...] = ()


class Task(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One task of a stage, its assignee, and the result that the holder relies on ("" until then)."""

    name: str
    node: str
    unit: str | None
    result: str = ""


class Stage(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A dispatched stage. `join`: "all", "any", or how many tasks must pass."""

    dispatch: bytes
    name: str
    tasks: tuple[Task, ...]
    join: str | int


class Clock(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Legal times (ms since the Unix epoch) on the line; None = not yet. `decided_at` ends the case's own limits."""

    opened_at: int
    accepted_at: int | None = None
    decided_at: int | None = None
    extension_days: int = 0
    notices: tuple[tuple[int, int | None], ...] = ()  # from the notice to the material that the holder relied on
    suspensions: tuple[tuple[int, int | None], ...] = ()


class Context(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A case after an entry.

    Args:
        key: the case key.
        terms: what the opening fixed.
        state: see `TRANSITIONS`.
        holder: node that has custody; the one that offers keeps it until the offer is taken.
        epoch: of the holder; a `take` or `return` carries the next.
        tip: link of the entry; the next spine entry names it as `prev`.
        offered: node to which the case is offered.
        outcome: "grant", "partial", "deny"; "" before a decision.
        refusal_kind: 4 (不受理) or 5 (不予受理), else 0.
        decision: link of the entry that decided or refused.
        parties: opener, holders, offered targets, assignees along the path, in order of joining.
        stage: the stage under way or last.
        dispatches: all dispatches with effect on the path.
        notice: link of the notice in force.
        asked: materials that it asks for.
        awaited: those of them that no spine entry has relied on yet.
        clock: legal times.
        fresh: side entries with effect that no spine entry has listed yet, by link (see `limits.CASE_FRESH_MAX`).
        handed: of `asked`: handed in since the notice, relied on or not, sorted.
        handed_at: legal time of the last of these.
        delivered: a result was delivered.
        count: entries of the case held.
        simple: nothing void, late, waiting, cut or missing: `fold.advance` may go on from here.
    """

    key: bytes
    terms: CaseTerms
    state: State
    holder: str
    epoch: int
    tip: bytes
    clock: Clock
    parties: tuple[str, ...] = ()
    offered: str | None = None
    outcome: str = ""
    refusal_kind: int = 0
    decision: bytes | None = None
    stage: Stage | None = None
    dispatches: tuple[bytes, ...] = ()
    notice: bytes | None = None
    asked: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    fresh: tuple[Side, ...] = ()
    handed: tuple[str, ...] = ()
    handed_at: int | None = None
    delivered: bool = False
    count: int = 1
    simple: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Context)


def encode_context(context: Context) -> bytes:
    """Return the bytes that a store keeps; a projection, never signed, dropped and rebuilt at will."""
    return _encoder.encode(context)


def decode_context(raw: bytes) -> Context:
    """Read what `encode_context` wrote; raises msgspec.DecodeError on anything else (then: rebuild the projection)."""
    return _decoder.decode(raw)


def state_word(context: Context) -> str:
    """Return the state in the word that APIs show."""
    return STATE_WORDS[context.state]


def state_code(context: Context) -> int:
    """Return the export code (1 已接件 … 15 撤销) of the state."""
    if context.state is State.FINISHED:
        return OUTCOME_CODES[context.outcome]
    if context.state is State.REFUSED:
        return context.refusal_kind
    if context.state is State.NOTICED and is_answered(context):
        return NOTICE_ANSWERED_CODE
    return STATE_CODES[context.state]


def is_answered(context: Context) -> bool:
    """Say whether everything that the notice in force asks for was handed in."""
    return context.notice is not None and set(context.awaited) <= set(context.handed)


# --- custody


def place(context: Context, header: Header, judge: Judge) -> str:
    """Return why custody does not allow a spine entry here (it is then off the tree), or ""."""
    custody = _MOVING.get(header.type, _place_ordinary)(context, header, judge)
    if custody:
        return custody
    moves = header.type in _MOVING
    return "" if header.epoch == context.epoch + moves else Reason.WRONG_EPOCH


def _place_reclaim(context: Context, header: Header, judge: Judge) -> str:
    return "" if judge.above(header, header.node, context.holder) else Reason.NOT_ABOVE


def _place_answer(context: Context, header: Header, _judge: Judge) -> str:
    return "" if header.node == context.offered else Reason.NOT_OFFERED


def _place_ordinary(context: Context, header: Header, _judge: Judge) -> str:
    if header.node != context.holder:
        return Reason.NOT_HOLDER
    return "" if context.offered is None else Reason.OFFERED_AWAY


# The types that open the next epoch, each with the question who may do so.
_MOVING: Final[Mapping[str, Callable[[Context, Header, Judge], str]]] = {
    "take": _place_answer,
    "return": _place_answer,
    "reclaim": _place_reclaim,
}


# --- openings


def begin(held: Held, legal_at: int, judge: Judge) -> tuple[Context, str]:
    """Return the context behind an opening, and why the opening is void ("" when it has effect).

    A void opening keeps its author as holder in `State.UNOPENED`, whose row in the table is empty: the chain runs on, and
    nothing behind it has effect.
    """
    header = held.header
    well_formed = is_well_formed("open", header.fields) and header.prev is None and header.case is None
    terms = _terms(header) if well_formed else CaseTerms("", 0, "", header.node, "", "", (0, 0), None, 0)
    context = Context(held.link, terms, State.UNOPENED, header.node, 0, held.link, Clock(legal_at))
    if not well_formed:
        return context, Reason.MALFORMED
    if fault := _right_fault(terms, header, legal_at, judge):
        return context, fault
    return replace(context, state=State.RECEIVED, parties=(header.node,)), ""


def _terms(header: Header) -> CaseTerms:
    fields = header.fields
    promised, statutory = fields["limits"]
    return CaseTerms(
        fields["item"],
        fields["version"],
        fields["number"],
        header.node,
        fields["handler"],
        fields["region"],
        (promised, statutory),
        fields.get("kind"),
        fields["table"],
    )


# --- spine entries


def step(
    context: Context, held: Held, legal_at: int, rests: Sequence[Side] | None, judge: Judge
) -> tuple[Context, str]:
    """Return the context behind a spine entry that custody allows, and why it is void ("" when it has effect).

    Args:
        context: behind its predecessor.
        held: the entry.
        legal_at: its legal time, ms.
        rests: the side entries that it rests on, all with effect; None when one of them has none.
        judge: authority under its basis.

    Returns:
        A void entry changes nothing but the tip: the chain runs through it.
    """
    header = held.header
    relied = absorb(context, rests) if rests else context
    reason = (
        _form_fault(context, header)
        or _right_fault(context.terms, header, legal_at, judge)
        or (f"{Reason.GUARD}:rests" if rests is None else _guard_fault(relied, header))
    )
    if reason:
        return replace(context, tip=held.link), reason
    changes: dict[str, Any] = {"tip": held.link, "state": TRANSITIONS[context.state][header.type]}
    if effect := EFFECTS.get(header.type):
        changes |= effect(relied, held, legal_at)
    return replace(relied, **changes), ""


def _form_fault(context: Context, header: Header) -> str:
    if not is_well_formed(header.type, header.fields):
        return Reason.MALFORMED
    return "" if header.type in TRANSITIONS[context.state] else Reason.NOT_IN_TABLE


def _right_fault(terms: CaseTerms, header: Header, legal_at: int, judge: Judge) -> str:
    refused = judge.refusal(header, terms, legal_at)
    return f"{Reason.NO_RIGHT}:{refused}" if refused else ""


def _guard_fault(context: Context, header: Header) -> str:
    guard = GUARDS.get(header.type)
    name = guard(context, header) if guard else ""
    return f"{Reason.GUARD}:{name}" if name else ""


def absorb(context: Context, rests: Sequence[Side]) -> Context:
    """Return a context that relies on side entries: results of the stage, materials, the end of a 补正 span."""
    changes: dict[str, Any] = {}
    stage = context.stage
    if stage is not None:
        changes["stage"] = _with_results(stage, rests)
    names = {name for side in rests for name in side.names}
    if names and context.notice is not None:
        changes["awaited"] = tuple(name for name in context.awaited if name not in names)
        changes["clock"] = _close_notice(context.clock, max(side.at for side in rests if side.names))
    return replace(context, **changes) if changes else context


def _with_results(stage: Stage, rests: Sequence[Side]) -> Stage:
    """Take over task results. Of several for one task, its assignee's last counts; what a later entry names, replaces."""
    of_stage = [side for side in rests if side.dispatch == stage.dispatch]
    latest = {side.task: side.result for side in sorted(of_stage, key=lambda side: (side.order, side.link))}
    return replace(stage, tasks=tuple(replace(task, result=latest.get(task.name, task.result)) for task in stage.tasks))


def _close(spans: tuple[tuple[int, int | None], ...], end: int) -> tuple[tuple[int, int | None], ...]:
    """Return spans with the last one ended; never before its start, whatever clocks said."""
    if not spans or spans[-1][1] is not None:
        return spans
    start = spans[-1][0]
    return (*spans[:-1], (start, max(start, end)))


def _close_notice(clock: Clock, end: int) -> Clock:
    return replace(clock, notices=_close(clock.notices, end))


# --- guards: what must be so besides the table; each returns its name when it fails, else ""


def _guard_accept(context: Context, header: Header) -> str:
    """After a notice: each missing material is relied on, or accepted as lacking (容缺受理)."""
    return "" if set(context.awaited) <= set(header.fields.get("lacking", ())) else "materials"


def _guard_decide(context: Context, header: Header) -> str:
    """A stage under way: granting needs the join rule; denying needs one failed task, or all answered."""
    stage = context.stage
    if stage is None:
        return ""
    results = [task.result for task in stage.tasks]
    if header.fields["result"] == "deny":
        return "" if "fail" in results or all(results) else "join"
    return "" if results.count("pass") >= _passes_needed(stage) else "join"


def _passes_needed(stage: Stage) -> int:
    if isinstance(stage.join, int):
        return stage.join
    return len(stage.tasks) if stage.join == "all" else 1


def _guard_dispatch(context: Context, header: Header) -> str:
    if len(context.dispatches) >= limits.CASE_STAGES_MAX:
        return "stages"
    return _parties_fault(context, [task[1] for task in header.fields["tasks"]])


def _guard_offer(context: Context, header: Header) -> str:
    if header.fields["to"] == context.holder:
        return "target"
    return _parties_fault(context, [header.fields["to"]])


def _guard_notice(context: Context, _header: Header) -> str:
    return "spans" if len(context.clock.notices) >= limits.CASE_SPANS_MAX else ""


def _guard_suspend(context: Context, _header: Header) -> str:
    return "spans" if len(context.clock.suspensions) >= limits.CASE_SPANS_MAX else ""


def _guard_extend(context: Context, header: Header) -> str:
    """Extensions together stay within what a calendar can count."""
    total = context.clock.extension_days + header.fields["days"] + max(context.terms.limits)
    return "" if total <= limits.WORKING_DAYS_MAX else "days"


def _parties_fault(context: Context, nodes: Sequence[str]) -> str:
    """Bound the parties: each is told of every entry, and a context holds them all.

    A reclaim is never bounded: whoever filled a case with parties cannot keep it from his ancestors, and a reclaim of
    an entry before the flood leaves the flood behind.
    """
    return "parties" if len({*context.parties, *nodes}) > limits.CASE_PARTIES_MAX else ""


Guard = Callable[[Context, Header], str]

GUARDS: Final[Mapping[str, Guard]] = {
    "accept": _guard_accept,
    "decide": _guard_decide,
    "dispatch": _guard_dispatch,
    "offer": _guard_offer,
    "notice": _guard_notice,
    "suspend": _guard_suspend,
    "extend": _guard_extend,
}


# --- effects: what changes besides state and tip


def _joined(context: Context, nodes: Sequence[str]) -> tuple[str, ...]:
    """Return the parties with newcomers behind, each once."""
    return tuple(dict.fromkeys((*context.parties, *nodes)))


def _accept(context: Context, _held: Held, at: int) -> dict[str, Any]:
    clock = _close_notice(context.clock, at)
    return {"clock": replace(clock, accepted_at=at), **_NO_NOTICE}


def _refuse(context: Context, held: Held, at: int) -> dict[str, Any]:
    clock = replace(_close_notice(context.clock, at), decided_at=at)
    return {
        "clock": clock,
        "refusal_kind": held.header.fields["kind"],
        "decision": held.link,
        **_NO_NOTICE,
    }


def _notice(context: Context, held: Held, at: int) -> dict[str, Any]:
    """A second notice replaces the list; the span runs on if no material has ended it."""
    notices = context.clock.notices
    if not notices or notices[-1][1] is not None:
        notices = (*notices, (at, None))
    missing = tuple(dict.fromkeys(held.header.fields["missing"]))
    return {
        "clock": replace(context.clock, notices=notices),
        "notice": held.link,
        "asked": missing,
        "awaited": missing,
        "handed": (),
        "handed_at": None,
    }


def _suspend(context: Context, _held: Held, at: int) -> dict[str, Any]:
    spans = (*context.clock.suspensions, (at, None))
    return {"clock": replace(context.clock, suspensions=spans)}


def _resume(context: Context, _held: Held, at: int) -> dict[str, Any]:
    return {"clock": replace(context.clock, suspensions=_close(context.clock.suspensions, at))}


def _extend(context: Context, held: Held, _at: int) -> dict[str, Any]:
    days = context.clock.extension_days + held.header.fields["days"]
    return {"clock": replace(context.clock, extension_days=days)}


def _dispatch(context: Context, held: Held, _at: int) -> dict[str, Any]:
    fields = held.header.fields
    tasks = tuple(Task(task[0], task[1], task[2] if len(task) > 2 else None) for task in fields["tasks"])
    return {
        "stage": Stage(held.link, fields["stage"], tasks, fields["join"]),
        "dispatches": (*context.dispatches, held.link),
        "parties": _joined(context, [task.node for task in tasks]),
    }


def _decide(context: Context, held: Held, at: int) -> dict[str, Any]:
    return {
        "clock": replace(context.clock, decided_at=at),
        "outcome": held.header.fields["result"],
        "decision": held.link,
    }


def _withdraw(context: Context, _held: Held, at: int) -> dict[str, Any]:
    clock = _close_notice(context.clock, at)
    spans = _close(clock.suspensions, at)
    return {"clock": replace(clock, decided_at=at, suspensions=spans), **_NO_NOTICE}


def _offer(context: Context, held: Held, _at: int) -> dict[str, Any]:
    target = held.header.fields["to"]
    return {"offered": target, "parties": _joined(context, [target])}


def _take(_context: Context, held: Held, _at: int) -> dict[str, Any]:
    return {"holder": held.header.node, "epoch": held.header.epoch, "offered": None}


def _return(context: Context, _held: Held, _at: int) -> dict[str, Any]:
    """The epoch that the return opened is closed at once: the offerer holds the one after."""
    return {"epoch": context.epoch + 2, "offered": None}


def _reclaim(context: Context, held: Held, at: int) -> dict[str, Any]:
    return {**_take(context, held, at), "parties": _joined(context, [held.header.node])}


_NO_NOTICE: Final[Mapping[str, Any]] = {
    "notice": None,
    "asked": (),
    "awaited": (),
    "handed": (),
    "handed_at": None,
}

Effect = Callable[[Context, Held, int], dict[str, Any]]

EFFECTS: Final[Mapping[str, Effect]] = {
    "accept": _accept,
    "refuse": _refuse,
    "notice": _notice,
    "suspend": _suspend,
    "resume": _resume,
    "extend": _extend,
    "dispatch": _dispatch,
    "decide": _decide,
    "withdraw": _withdraw,
    "offer": _offer,
    "take": _take,
    "return": _return,
    "reclaim": _reclaim,
}


# --- side entries


def side_fault(context: Context, header: Header, legal_at: int, judge: Judge) -> str:
    """Return why a side entry has no effect, seen from the spine entry that its author knew last; or "".

    A `task` is judged further by the dispatch that it names (`task_fault`), a `time` by the entry that it dates.
    """
    if not is_well_formed(header.type, header.fields):
        return Reason.MALFORMED
    if not is_admitted(context, header, judge):
        return Reason.NOT_A_PARTY
    if header.type == "deliver" and context.decision is None:
        return f"{Reason.GUARD}:no_result"
    return _right_fault(context.terms, header, legal_at, judge)


def is_admitted(context: Context, header: Header, judge: Judge) -> bool:
    """Say whether the author is a party on the path, or stands above one (hubs: supervision, times)."""
    return header.node in context.parties or any(judge.above(header, header.node, party) for party in context.parties)


def task_fault(tasks: Sequence[Any], header: Header) -> str:
    """Return why a task result does not answer a dispatch, whose `tasks` field is given; or ""."""
    for task in tasks:
        if task[0] == header.fields["task"]:
            return "" if task[1] == header.node else Reason.NOT_ASSIGNED
    return Reason.NOT_ASSIGNED


def side_of(held: Held, legal_at: int) -> Side:
    """Return what guards and clocks need of a well-formed side entry."""
    fields = held.header.fields
    if held.header.type == "material":
        return Side(held.link, legal_at, tuple(dict.fromkeys(fields["materials"])))
    if held.header.type == "task":
        return Side(held.link, legal_at, (), fields["dispatch"], fields["task"], fields["result"], held.order)
    return Side(held.link, legal_at)
