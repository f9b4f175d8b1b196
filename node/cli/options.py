"""What is typed: the options that every command knows, and the forms of values.

The options of `GLOBALS` may stand before or after the name of a command; the last one counts. A command sees them as one
frozen `Settings`.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click

from node import texts
from node.config import parse_address
from node.folder import Folder
from protocol import limits
from protocol.divisions import check_node_id
from protocol.errors import InputError

DATA_VARIABLE: Final = "TONGBAN_DATA"
LEGAL_TIME: Final = dt.timezone(dt.timedelta(hours=8))  # fixed: village PCs have no zone files
EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
TIME_EXAMPLES: Final = "2026-05-06T09:30:00+08:00, 2026-05-06, or '2026-05-06 09:30'"
TIMEOUT_S_MAX: Final = 7 * 24 * 3_600.0
PAIRS_MAX: Final = limits.LIST_ITEMS_MAX

_GIVEN: Final = "node.cli.given"
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?", re.ASCII)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every command knows.

    Attributes:
        data: the node's folder, as typed; None when none was named.
        officer: who acts.
        window: where.
        at_ms: claimed time, ms since the epoch; None for now.
        timeout_s: longest time for the command; None for its own bound.
        as_json: for scripts.
        lang: "zh" or "en".
    """

    data: str | None = None
    officer: str | None = None
    window: str | None = None
    at_ms: int | None = None
    timeout_s: float | None = None
    as_json: bool = False
    lang: str = "zh"

    @property
    def folder(self) -> Folder:
        """The node's folder.

        Raises:
            InputError: none was named.
        """
        if not self.data:
            raise InputError("the node's folder is not named", hint=f"Add --data DIR, or set {DATA_VARIABLE}.")
        return Folder(Path(self.data))


class TimeType(click.ParamType[int]):
    """A moment: RFC 3339, or a date, or date and time of day in +08:00. Becomes ms since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Read it, or fail."""
        try:
            return parse_time(str(value))
        except InputError as exc:
            self.fail(exc.message, param, ctx)


class DayType(click.ParamType[str]):
    """A legal date, YYYY-MM-DD; stays text."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Check it, or fail."""
        try:
            day = dt.date.fromisoformat(str(value)).isoformat()
        except ValueError:
            day = ""
        if day != value:  # other forms of ISO 8601 are not what people here write
            self.fail(f"{value!r} is no date like 2026-11-21.", param, ctx)
        return day


class SecondsType(click.FloatRange):
    """A span in seconds; `nan` passes every comparison of a range and is refused here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Read it, or fail."""
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is no number.", param, ctx)
        return found


class CheckedType(click.ParamType[str]):
    """Text that a function of ours accepts.

    Args:
        name: shown in help.
        check: raises InputError.
    """

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Check it, or fail."""
        try:
            self._check(str(value))
        except InputError as exc:
            self.fail(exc.message, param, ctx)
        return str(value)


TIME: Final = TimeType()
DAY: Final = DayType()
NODE: Final = CheckedType("node", check_node_id)
LISTEN: Final = CheckedType("address", lambda text: parse_address(text, "address", port_min=0))
ADDRESS: Final = CheckedType("address", lambda text: parse_address(text, "address"))


def global_options(*, hidden: bool) -> list[click.Option]:
    """Make the options of `Settings`; a command lists them hidden, the root shows them."""
    return [
        _option("--data", "DIR", f"节点目录 · the node's folder; else {DATA_VARIABLE}", hidden),
        _option("--officer", "ID", "经办人 · who acts", hidden),
        _option("--window", "W", "窗口 · at which window", hidden),
        _option(
            "--at at_ms",
            "TIME",
            "补录时间 · when it happened, if not now: RFC 3339, or YYYY-MM-DD[ HH:MM[:SS]]",
            hidden,
            TIME,
        ),
        _option("--timeout-s", "N", "最长等待秒数 · longest time to wait", hidden, SecondsType(0.01, TIMEOUT_S_MAX)),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            expose_value=False,
            callback=_remember,
            hidden=hidden,
            help="供脚本使用 · for scripts: JSON on standard output",
        ),
        _option("--lang", "LANG", "zh|en · language of messages", hidden, click.Choice(texts.LANGUAGES)),
    ]


def settings_of(ctx: click.Context) -> Settings:
    """Return what was given before and after the command's name."""
    given: Mapping[str, Any] = ctx.meta.get(_GIVEN, {})
    values = {"data": os.environ.get(DATA_VARIABLE) or None, "lang": texts.language(os.environ), **given}
    return Settings(**values)


def with_settings(function: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
    """Hand a command its `Settings` as first argument."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(settings_of(click.get_current_context()), *args, **kwargs)

    return called


class Command(click.Command):
    """A command that knows the global options after its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own arguments
        super().__init__(*args, **kwargs)
        self.params += global_options(hidden=True)


class Commands(click.Group):
    """A group of commands, which knows the global options too."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, hide_globals: bool = True, **kwargs: Any) -> None:  # noqa: ANN401 - as above
        super().__init__(*args, **kwargs)
        self.params += global_options(hidden=hide_globals)


def parse_time(text: str) -> int:
    """Read a moment.

    Args:
        text: RFC 3339, or "YYYY-MM-DD[ HH:MM[:SS]]" in +08:00; a date alone is its first moment.

    Returns:
        ms since the Unix epoch.

    Raises:
        InputError: another form, no date of the calendar, or before 1970.
    """
    typed = text.strip().upper()
    try:
        moment = dt.datetime.fromisoformat(typed if _TIME.fullmatch(typed) else "")
    except ValueError:
        raise InputError(f"{text!r} is no time; write {TIME_EXAMPLES}") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=LEGAL_TIME)
    found = (moment - EPOCH) // dt.timedelta(milliseconds=1)
    if not 0 <= found <= limits.TIME_MS_MAX:
        raise InputError(f"{text!r} is before 1970")
    return found


def parse_pairs(texts_given: Sequence[str], what: str) -> dict[str, str]:
    """Read `k=v` texts; the value may be empty and may hold further equals signs.

    Args:
        texts_given: as typed.
        what: the option, for messages.

    Raises:
        InputError: no equals sign, no key, a key twice, or too many.
    """
    if len(texts_given) > PAIRS_MAX:
        raise InputError(f"{what}: {len(texts_given)} values; at most {PAIRS_MAX} are allowed")
    found: dict[str, str] = {}
    for text in texts_given:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise InputError(f"{what}: {text!r} is not of the form key=value")
        if key.strip() in found:
            raise InputError(f"{what}: {key.strip()!r} is given twice")
        found[key.strip()] = value
    return found


def parse_task(text: str) -> tuple[str, str, str | None]:
    """Read `TASK=NODE[/UNIT]`.

    Returns:
        Task, node, unit or None.

    Raises:
        InputError: another form, or not a node id.
    """
    task, sign, target = text.partition("=")
    node, slash, unit = target.partition("/")
    if not sign or not task.strip() or (slash and not unit.strip()):
        raise InputError(f"--to: {text!r} is not of the form TASK=NODE or TASK=NODE/UNIT")
    try:
        return task.strip(), check_node_id(node.strip()), unit.strip() or None
    except InputError as exc:
        raise InputError(f"--to: {text!r}: {exc.message}") from exc


def _option(
    name: str, metavar: str, about: str, hidden: bool, kind: click.ParamType[Any] | None = None
) -> click.Option:
    return click.Option(
        name.split(), type=kind, metavar=metavar, expose_value=False, callback=_remember, hidden=hidden, help=about
    )


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Keep a value that was given; the place nearest to the end counts, since groups are read before their commands."""
    if value is not None and value is not False and param.name is not None:
        ctx.meta.setdefault(_GIVEN, {})[param.name] = value
