"""A node states its own steps of a replay, as far as it can now; the rest follows when the other nodes' entries are here.

A batch of cases is one unit of work, so one commit. Each step is given as the command that a person would give, and is
refused in the same words; a refusal ends its case for this round, never the batch. A step that was stated before is known by its
source id, one without a source by what the case shows: so a batch may be given again at any time.

    answer = await state_share(node, replay_map, cases)      # {taken, repeated, besides, left, problems}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.ledger import Changes
from node.node import Node
from node.office import Act, Answer, Desk, counter, officers, opening, perform
from node.office.publishing import item_text
from node.replaying.mapping import ReplayMap
from node.replaying.planning import Step, plan_case
from node.replaying.reading import LoggedCase
from node.store import cases as case_rows
from node.store import logs
from node.store.database import Connection
from protocol.cases import Context, decode_context
from protocol.errors import CommandRefused, NotFound, StoreError, TongbanError
from protocol.transitions import State

_Give = Callable[[Desk, str, Mapping[str, Any]], Answer]
PROBLEMS_MAX: Final = 50  # told in one answer; all are counted


@dataclass(slots=True)
class Share:
    """What a batch came to. left: cases in which steps of this node wait for others. besides: steps without an event."""

    taken: int = 0
    repeated: int = 0
    besides: int = 0
    left: list[str] = field(default_factory=list)
    problems: list[dict[str, object]] = field(default_factory=list)
    refused: int = 0

    def shown(self) -> Answer:
        """Return the answer of the operation."""
        return {
            "taken": self.taken,
            "repeated": self.repeated,
            "besides": self.besides,
            "left": self.left,
            "refused": self.refused,
            "problems": self.problems,
        }


async def state_share(node: Node, replay_map: ReplayMap, cases: Sequence[LoggedCase]) -> Answer:
    """State this node's steps of some cases in one unit of work.

    Raises:
        InputError: an event has no way that is possible.
        CommandRefused: the map does not fit the catalogue held here.
    """
    plans = [(case, plan_case(replay_map, case)) for case in cases]
    share = await node.write(lambda conn, changes: _Work(node, conn, changes, replay_map).run(plans))
    return share.shown()


class _Work:
    """One batch in its transaction."""

    def __init__(self, node: Node, conn: Connection, changes: Changes, replay_map: ReplayMap) -> None:
        self.node = node
        self.conn = conn
        self.changes = changes
        self.map = replay_map
        self.known: set[str] = set()
        self.staff = set(officers.load(conn))
        self.share = Share()

    def run(self, plans: Sequence[tuple[LoggedCase, tuple[Step, ...]]]) -> Share:
        """State what can be stated."""
        check_fit(self.node, self.conn, self.map)
        sources = [step.source[0] for _, plan in plans for step in plan if step.source]
        self.known = case_rows.known_sources(self.conn, sources)
        for case, plan in plans:
            one = _Case(self, case, plan)
            try:
                one.run()
            except StoreError:
                raise
            except TongbanError as error:
                self._refuse(one, error)
        return self.share

    def _refuse(self, case: _Case, error: TongbanError) -> None:
        self.share.left.append(case.name)
        if error.retryable:
            return
        self.share.refused += 1
        if len(self.share.problems) < PROBLEMS_MAX:
            self.share.problems.append({"case": case.name, "event": case.at, "node": self.node.id, "message": error.message})

    def give(self, step: Step, key: str) -> Answer:
        """Give one command."""
        officer = self.map.officers.id_of(step.officer)
        if officer not in self.staff:
            name = self.map.officers.name_of(step.officer)
            self._perform(Act(at_ms=step.at_ms), lambda desk: officers.add(desk, officer, name))
            self.staff.add(officer)
        act = Act(officer, step.unit, step.at_ms, step.source)
        return self._perform(act, lambda desk: _COMMANDS[step.command](desk, key, step.params))

    def _perform(self, act: Act, work: Callable[[Desk], Answer]) -> Answer:
        return perform(self.node, self.conn, self.changes, act, work)


class _Case:
    """One case of the batch."""

    def __init__(self, work: _Work, case: LoggedCase, plan: tuple[Step, ...]) -> None:
        self.work = work
        self.name = case.name
        self.plan = plan
        self.at = case.events[0].activity  # of the step under way, for problems
        self.key = ""
        self._fresh: set[str] = set()  # source ids stated just now
        self._row_id = 0
        self._context: Context | None = None

    def run(self) -> None:
        """State the steps of this node, in order, up to the first that has to wait.

        A spine step needs all steps before it, a side entry only the spine before it and this node's own steps.
        """
        node, share = self.work.node.id, self.work.share
        if not self._find():
            if self._waits_for_opening(node):
                share.left.append(self.name)
            return
        spine, everything = True, True
        for step in self.plan:
            mine = step.node == node
            if self._is_done(step):
                share.repeated += mine and step.source is not None and step.source[0] not in self._fresh
            elif mine and spine and (everything or step.is_side):
                self._state(step)
            else:
                everything = False
                spine = spine and step.is_side
                if mine or not spine:
                    break
        if any(step.node == node and not self._is_done(step) for step in self.plan):
            share.left.append(self.name)

    def _find(self) -> bool:
        """Find the case by its opening; open it when that is this node's."""
        first = self.plan[0]
        assert first.source is not None
        if first.source[0] not in self.work.known:
            if first.node != self.work.node.id:
                return False
            self._state(first)
        entry_id = case_rows.find_source(self.work.conn, first.source[0])
        case_id = logs.entry_by_id(self.work.conn, entry_id).case_id if entry_id is not None else None
        if case_id is None:
            raise CommandRefused(f"the event {first.source[0]} was taken in as no case")
        self._row_id = case_id
        self._reload()
        return True

    def _waits_for_opening(self, node: str) -> bool:
        return any(step.node == node for step in self.plan)

    def _reload(self) -> None:
        (row,) = case_rows.load_by_ids(self.work.conn, [self._row_id])
        self.key = row.key.hex()
        self._context = decode_context(row.context) if row.context is not None else None

    def _state(self, step: Step) -> None:
        self.at = step.source[1] if step.source else step.command
        self.work.give(step, self.key)
        if step.source is None:
            self.work.share.besides += 1
        else:
            self.work.share.taken += 1
            self.work.known.add(step.source[0])
            self._fresh.add(step.source[0])
        if self._row_id:
            self._reload()

    def _is_done(self, step: Step) -> bool:
        if step.source is not None:
            return step.source[0] in self.work.known
        return self._context is not None and _DONE[step.command](self._context, step)


# What shows that a step without a source was stated.
_DONE: Final[Mapping[str, Callable[[Context, Step], bool]]] = {
    "offer": lambda context, step: step.params["to"] in {context.offered, context.holder},
    "take": lambda context, step: context.holder == step.node,
    "dispatch": lambda context, step: len(context.dispatches) >= step.number,
    "decide": lambda context, _step: context.decision is not None,
    "finish": lambda context, _step: context.state in {State.FINISHED, State.REVOKED},
}


def check_fit(node: Node, conn: Connection, replay_map: ReplayMap) -> None:
    """Check a map against the catalogue held here, once for a batch and not once a case.

    Raises:
        NotFound: an item is not here.
        CommandRefused: an item lacks a stage or task, or a node of the map is not in the network.
    """
    for unknown in (one for one in replay_map.nodes() if node.rules.record(one) is None):
        raise NotFound(f"node {unknown} of the map is not in this network", hint="Correct the map, or sync.")
    for code in dict.fromkeys(one.item for one in replay_map.openings()):
        record = node.rules.now.item(code)
        if record is None:
            raise NotFound(f"item {code} of the map is not in the catalogue held here", hint="Publish it first, or sync.")
        item = item_text(conn, record.leaf)
        if item is None:
            continue  # a department needs no text of the item
        names = {(stage.name, task.name) for stage in item.stages for task in stage.tasks}
        for stage in replay_map.stages:
            missing = [task.name for task in stage.tasks if (stage.name, task.name) not in names]
            if missing:
                raise CommandRefused(f"item {code} has no task {missing[0]} in a stage {stage.name}", hint="Correct the map.")


def _open(desk: Desk, _key: str, params: Mapping[str, Any]) -> Answer:
    wish = opening.Wish(params["item"], params["applicant"], handler=params["handler"], form=params["form"])
    return opening.open_case(desk, wish)


def _dispatch(desk: Desk, key: str, params: Mapping[str, Any]) -> Answer:
    return counter.dispatch(desk, key, stage=params["stage"], to={task: (node, unit) for task, (node, unit) in params["to"].items()})


def _supplement(desk: Desk, key: str, params: Mapping[str, Any]) -> Answer:
    return counter.supplement(desk, key, materials=[counter.Material(name) for name in params["materials"]])


def _note(desk: Desk, key: str, params: Mapping[str, Any]) -> Answer:
    source = desk.act.source
    return counter.note(desk, key, text=params.get("text") or (source[1] if source else ""))


def _plain(work: Callable[..., Answer]) -> _Give:
    return lambda desk, key, params: work(desk, key, **params)


_COMMANDS: Final[Mapping[str, _Give]] = {
    "open": _open,
    "accept": _plain(counter.accept),
    "refuse": _plain(counter.refuse),
    "notice": _plain(counter.notice),
    "supplement": _supplement,
    "dispatch": _dispatch,
    "task": _plain(counter.task),
    "suspend": _plain(counter.suspend),
    "resume": _plain(counter.resume),
    "extend": _plain(counter.extend),
    "decide": _plain(counter.decide),
    "finish": _plain(counter.finish),
    "revoke": _plain(counter.revoke),
    "deliver": _plain(counter.deliver),
    "withdraw": _plain(counter.withdraw),
    "note": _note,
    "offer": _plain(counter.offer),
    "take": _plain(counter.take),
}
