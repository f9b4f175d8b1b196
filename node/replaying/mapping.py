"""The map of a replay: which activity of another system's log is which step here, and who states it.

    format = "tongban-replay-map/1"
    item = "env-permit-receipt"
    stations = ["650102002005"]
    handler = "650103000000"

    [[activities]]
    name = "T04 Determine confirmation of receipt"
    as = [{ command = "decide", stage = "收件审查", result = "grant" }, { command = "task", task = "收件确认", result = "pass" }]

An activity has one or more *ways* to be stated; for each event the first one is taken that is possible at its place in its
case (`planning`). docs/FORMATS.md, "Replay map".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from node.office.desk import ID_CHARS_MAX
from protocol import limits
from protocol.catalogue import joined
from protocol.divisions import check_node_id
from protocol.errors import InputError
from protocol.problems import Fields, Problems, clip

FORMAT: Final = "tongban-replay-map/1"
ACTIVITIES_MAX: Final = 2_000
WAYS_MAX: Final = 20
STATION: Final = "station"
HANDLER: Final = "handler"
ENDING: Final = frozenset({"decide", "finish"})  # what the end of a case in the log may state
OFFICER: Final = "replay"
OFFICER_NAME: Final = "日志回放"

Path = tuple[str, ...]
Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Where things stand in an event of the log; () = the log has no such thing. prefix: of all source ids."""

    case: Path
    activity: Path
    time: Path
    officer: Path = ()
    id: Path = ()
    end: Path = ()
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Officers:
    """How officers of the log are called here. default: acts where the log names nobody, and hands over."""

    default: str = OFFICER
    default_name: str = OFFICER_NAME
    rename: Mapping[str, str] = field(default_factory=dict)

    def id_of(self, name: str | None) -> str:
        """Return the id of an officer of the log.

        Raises:
            InputError: no id can be made of the name.
        """
        if name is None or not name.strip():
            return self.default
        return check_officer(self.rename.get(name, "-".join(name.split())))

    def name_of(self, name: str | None) -> str:
        """Return the name under which an officer of the log is added."""
        return self.default_name if name is None or not name.strip() else name


@dataclass(frozen=True, slots=True)
class StageTask:
    """A task of a stage, and the department that does it."""

    name: str
    node: str
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the item. join: as in the catalogue."""

    name: str
    tasks: tuple[StageTask, ...]
    join: str | int = "all"

    def passes_needed(self) -> int:
        """Return how many tasks must pass before a grant."""
        return joined(self.join, len(self.tasks))


@dataclass(frozen=True, slots=True)
class Opening:
    """How a case is opened. form: names of form fields → where they stand in the opening event."""

    item: str
    stations: tuple[str, ...]
    handler: str
    applicant: str
    form: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to state an event.

    Args:
        command: name of the step, as on the command line.
        params: its values.
        by: "station" or "handler"; a task is stated by its department.
        stage: of a task: its stage; of a decision: the stage that must be complete.
        task: of a task: what it is.
        opening: of an opening.
    """

    command: str
    params: Mapping[str, Any] = field(default_factory=dict)
    by: str = HANDLER
    stage: Stage | None = None
    task: StageTask | None = None
    opening: Opening | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """An activity. ways: in the order in which they are tried. officer, unit: instead of the log's."""

    activity: str
    ways: tuple[Way, ...]
    officer: str | None = None
    unit: str | None = None

    @property
    def commands(self) -> frozenset[str]:
        """What events of this activity may become."""
        return frozenset(way.command for way in self.ways)


@dataclass(frozen=True, slots=True)
class ReplayMap:
    """A whole map. ending: what is stated when the log says that a case ended."""

    log: LogKeys
    officers: Officers
    stages: tuple[Stage, ...]
    rules: Mapping[str, Rule]
    ending: tuple[Way, ...] = ()

    def openings(self) -> list[Opening]:
        """Return all ways to open a case."""
        return [way.opening for rule in self.rules.values() for way in rule.ways if way.opening is not None]

    def nodes(self) -> list[str]:
        """Return every node that the map names, each once."""
        found = [task.node for stage in self.stages for task in stage.tasks]
        for opening in self.openings():
            found += [*opening.stations, opening.handler]
        return list(dict.fromkeys(found))


def parse_map(mapping: object, where: str) -> ReplayMap:
    """Check a map file.

    Args:
        mapping: the whole file, read.
        where: the file's name, for messages.

    Raises:
        InputProblems: every fault with activity and field.
    """
    problems = Problems(where)
    top = Fields(mapping, "", problems)
    found = _Reader(top).read()
    problems.check()
    return found


def check_officer(text: str) -> str:
    """Return an officer id; raises InputError for one that nodes would refuse."""
    if not 0 < len(text) <= ID_CHARS_MAX or any(char.isspace() for char in text):
        raise InputError(f"officer id {clip(text)!r} must have 1 to {ID_CHARS_MAX} characters, no blanks; see [officers] rename")
    return text


def check_path(text: str) -> Path:
    """Return the keys that lead to a value inside an event: `attrs.concept:instance`."""
    parts = tuple(text.split("."))
    if not all(parts):
        raise InputError(f"{clip(text)!r} is no path; write keys with dots between, like attrs.id")
    return parts


class _Reader:
    """Reads one map; faults go to its fields' problems."""

    def __init__(self, top: Fields) -> None:
        self.top = top
        self.stages: dict[str, Stage] = {}

    def read(self) -> ReplayMap:
        top = self.top
        found_format = top.text("format")
        if found_format and found_format != FORMAT:
            top.fault("format", f"must be {FORMAT!r}")
        top.text("note", chars_max=limits.TEXT_CHARS_MAX, default="")
        log = _log(top.table("log"))
        officers = _officers(top.table("officers")) if top.has("officers") else Officers()
        self._read_stages()
        opening = _Defaults.of(top)
        rules = self._rules(opening)
        ending = self._ways(top, "end", opening) if top.has("end") else ()
        for way in ending:
            if way.command not in ENDING:
                top.fault("end", f"the end of a case states {' and '.join(sorted(ENDING))} only, not {clip(way.command)}")
        if ending and not log.end:
            top.fault("end", "is given, but log.end does not say where the log has it")
        top.done()
        return ReplayMap(log, officers, tuple(self.stages.values()), rules, ending)

    def _read_stages(self) -> None:
        for table in self.top.tables("stages", count_max=limits.STAGES_MAX):
            stage = _stage(table)
            if stage.name in self.stages:
                table.fault("name", f"the stage {clip(stage.name)} stands twice")
            self.stages[stage.name] = stage
        names = [task.name for stage in self.stages.values() for task in stage.tasks]
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            self.top.fault("stages", f"the task {clip(name)} stands twice")

    def _rules(self, opening: _Defaults) -> dict[str, Rule]:
        rules: dict[str, Rule] = {}
        tables = self.top.tables("activities", count_max=ACTIVITIES_MAX)
        for table in tables:
            rule = self._rule(table, opening)
            if rule.activity in rules:
                table.fault("name", "stands twice")
            rules[rule.activity] = rule
        if tables and not any("open" in rule.commands for rule in rules.values()):
            self.top.fault("activities", "none of them opens a case")
        if not tables:
            self.top.fault("activities", "maps no activity")
        return rules

    def _rule(self, table: Fields, opening: _Defaults) -> Rule:
        name = table.text("name")
        table.place = f"{table.place} ({clip(name)})"
        officer = table.checked("officer", check_officer) if table.has("officer") else None
        unit = table.text("unit", chars_max=ID_CHARS_MAX) if table.has("unit") else None
        ways = self._ways(table, "as", opening)
        if not ways:
            table.fault("as", "must name at least one command")
        table.done()
        return Rule(name, ways, officer, unit)

    def _ways(self, table: Fields, key: str, opening: _Defaults) -> tuple[Way, ...]:
        return tuple(self._way(one, opening) for one in table.tables(key, count_max=WAYS_MAX))

    def _way(self, fields: Fields, opening: _Defaults) -> Way:
        command = fields.text("command")
        read = _PARAMS.get(command)
        if read is None:
            fields.fault("command", f"must be one of {', '.join(sorted(_PARAMS))}, not {clip(command)}")
            return Way("")
        by = _choice(fields, "by", STATION, HANDLER) if fields.has("by") and command not in {"open", "task"} else HANDLER
        stage, task = self._place(command, fields)
        way = Way(command, read(fields), by, stage, task, opening.read(fields) if command == "open" else None)
        fields.done()
        return way

    def _place(self, command: str, fields: Fields) -> tuple[Stage | None, StageTask | None]:
        if command == "task":
            return self._task(fields)
        if command == "decide" and fields.has("stage"):
            return self._stage_named(fields, fields.text("stage")), None
        return None, None

    def _task(self, fields: Fields) -> tuple[Stage | None, StageTask | None]:
        name = fields.text("task")
        for stage in self.stages.values():
            for task in stage.tasks:
                if task.name == name:
                    if fields.has("stage") and fields.text("stage") != stage.name:
                        fields.fault("stage", f"the task {clip(name)} belongs to the stage {stage.name}")
                    return stage, task
        if name:
            fields.fault("task", f"no stage of this map has the task {clip(name)}")
        return None, None

    def _stage_named(self, fields: Fields, name: str) -> Stage | None:
        if name and name not in self.stages:
            fields.fault("stage", f"this map has no stage {clip(name)}")
        return self.stages.get(name)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What openings share: item, stations, handler, applicant, form at the top of the map."""

    item: str
    stations: tuple[str, ...]
    handler: str
    applicant: str
    form: Mapping[str, Path]

    @classmethod
    def of(cls, top: Fields) -> _Defaults:
        return cls(
            top.text("item", default=""),
            _stations(top),
            top.checked("handler", check_node_id, default=""),
            top.text("applicant", default="回放 {case}"),
            _form(top),
        )

    def read(self, fields: Fields) -> Opening:
        """Read what one opening says of its own."""
        found = Opening(
            fields.text("item", default="") or self.item,
            _stations(fields) or self.stations,
            fields.checked("handler", check_node_id, default="") or self.handler,
            fields.text("applicant", default="") or self.applicant,
            _form(fields) or self.form,
        )
        for key, value in (("item", found.item), ("stations", found.stations), ("handler", found.handler)):
            if not value:
                fields.fault(key, "is missing, here and at the top of the map")
        return found


def _stations(fields: Fields) -> tuple[str, ...]:
    return fields.texts("stations", check_node_id)


def _form(fields: Fields) -> dict[str, Path]:
    return {key: check_path(value) for key, value in _table(fields, "form", check_path).items()}


def _table(fields: Fields, key: str, check: Callable[[str], object]) -> dict[str, str]:
    """Read a table of texts, each accepted by `check`; missing counts as empty."""
    value = fields.raw(key, {})
    if not isinstance(value, Mapping):
        fields.fault(key, "must be a table of texts")
        return {}
    inner = Fields(value, fields.at(key), fields.problems)
    found = {str(name): inner.checked(str(name), check) for name in value}
    return {name: text for name, text in found.items() if text}


def _log(fields: Fields) -> LogKeys:
    def path(key: str, default: str | None = None) -> Path:
        text = fields.checked(key, check_path, default=default)
        return tuple(text.split(".")) if text else ()

    found = LogKeys(
        path("case", "case"),
        path("activity", "activity"),
        path("time", "time"),
        path("officer", ""),
        path("id", ""),
        path("end", ""),
        fields.text("prefix", chars_max=ID_CHARS_MAX, default=""),
    )
    fields.done()
    return found


def _officers(fields: Fields) -> Officers:
    found = Officers(
        fields.checked("default", check_officer, default=OFFICER),
        fields.text("default_name", default=OFFICER_NAME),
        _table(fields, "rename", check_officer),
    )
    fields.done()
    return found


def _stage(fields: Fields) -> Stage:
    tasks = tuple(_stage_task(table) for table in fields.tables("tasks"))
    if not tasks:
        fields.fault("tasks", "must hold at least one task")
    found = Stage(fields.text("name"), tasks, _join(fields, len(tasks)))
    fields.done()
    return found


def _stage_task(fields: Fields) -> StageTask:
    unit = fields.text("unit") if fields.has("unit") else None
    found = StageTask(fields.text("name"), fields.checked("node", check_node_id), unit)
    fields.done()
    return found


def _join(fields: Fields, count: int) -> str | int:
    found = fields.raw("join", "all")
    if (isinstance(found, str) and found in {"all", "any"}) or (type(found) is int and 1 <= found <= max(count, 1)):
        return found
    fields.fault("join", f'must be "all", "any" or a number from 1 to the number of tasks, {count}')
    return "all"


# --- values of each command


def _choice(fields: Fields, key: str, *allowed: str) -> str:
    found = fields.text(key)
    if found and found not in allowed:
        fields.fault(key, f"must be {' or '.join(allowed)}, not {clip(found)}")
    return found


def _names(fields: Fields, key: str) -> list[str]:
    found = fields.texts(key)
    if not found:
        fields.fault(key, "must name at least one")
    return list(found)


def _reason(fields: Fields) -> Params:
    """Read a reason; without one the name of the activity is the reason."""
    return {"reason": fields.text("reason", chars_max=limits.TEXT_CHARS_MAX)} if fields.has("reason") else {}


def _said(fields: Fields) -> Params:
    return {"text": fields.text("text", chars_max=limits.TEXT_CHARS_MAX)} if fields.has("text") else {}


def _nothing(_fields: Fields) -> Params:
    return {}


_PARAMS: Final[Mapping[str, Callable[[Fields], Params]]] = {
    "open": _nothing,
    "accept": _nothing,
    "refuse": lambda fields: {"kind": fields.integer("kind", 4, 5), **_reason(fields)},
    "notice": lambda fields: {"missing": _names(fields, "missing"), **_said(fields)},
    "supplement": lambda fields: {"materials": _names(fields, "materials")},
    "task": lambda fields: {"result": _choice(fields, "result", "pass", "fail"), **_said(fields)},
    "suspend": lambda fields: {"kind": fields.text("kind"), **_reason(fields)},
    "resume": _nothing,
    "extend": lambda fields: {"days": fields.integer("days", 1, limits.WORKING_DAYS_MAX), **_reason(fields)},
    "decide": lambda fields: {"result": _choice(fields, "result", "grant", "partial", "deny"), **_reason(fields)},
    "finish": _nothing,
    "revoke": _reason,
    "deliver": lambda fields: {"how": _choice(fields, "how", "window", "post")},
    "withdraw": _reason,
    "note": _said,
}
COMMANDS: Final = frozenset(_PARAMS)
