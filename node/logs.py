"""What the program writes down about itself: one JSON line per event, never personal data.

    logs.event("uplink.pushed", node="650102000000", count=500, ms=41)
    {"at":"2026-05-06T09:30:00.123+08:00","level":"info","event":"uplink.pushed","node":"650102000000","count":500,"ms":41}

An event is a constant dotted name; a field is one of `FIELDS`, and each of them has a form that no name, number of a person
or typed text fits. Anything else is refused: raised where tests run (`set_strict`), else replaced by "?" so that a slip in
the code neither stops a counter nor leaks. Output is ASCII, so that it survives any console, and control characters are
escaped, so that one event is one line. `critical` is reserved for forks and rollbacks.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import MappingProxyType
from typing import Final, TextIO

from node.config import Log
from protocol.errors import StoreError

DEBUG: Final = logging.DEBUG
INFO: Final = logging.INFO
WARNING: Final = logging.WARNING
ERROR: Final = logging.ERROR
CRITICAL: Final = logging.CRITICAL

FIELDS_MAX: Final = 16
FIELD_CHARS_MAX: Final = 200
FRAMES_MAX: Final = 6  # of a traceback, innermost first
LEGAL_TIME: Final = timezone(timedelta(hours=8))

_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,9})?")
_NODE: Final = re.compile(r"[0-9]{12}(-[a-z0-9]{1,8})?")
_HEX: Final = re.compile(r"[0-9a-f]{8,64}")
_WORD: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_ADDRESS: Final = re.compile(r"(\[[0-9a-f:.]+\]|[A-Za-z0-9.-]{1,100}):[0-9]{1,5}")
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+-]{0,40}")
_FLAG: Final = re.compile(r"true|false")
_ROUTE: Final = re.compile(
    r"(/(v[0-9]{1,2}|[a-z_]{1,40}|\{[a-z_]{1,40}\})){1,6}"
)  # the pattern, never a filled-in path
_PLACE: Final = re.compile(r"[A-Za-z0-9_.<>:, -]{1,200}")

FIELDS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        # who and what
        "node": _NODE,
        "child": _NODE,
        "parent": _NODE,
        "peer": _NODE,
        "author": _NODE,
        "target": _NODE,
        "network": _HEX,
        "incarnation": _HEX,
        "log": _HEX,
        "case": _HEX,
        "entry": _HEX,
        "key": _HEX,
        "root": _HEX,
        "request": _HEX,
        "type": _WORD,
        "code": _WORD,
        "reason": _WORD,
        "kind": _WORD,
        "stage": _WORD,
        "state": _WORD,
        "command": _WORD,
        "route": _ROUTE,
        "address": _ADDRESS,
        "version": _VERSION,
        # how much
        "index": _NUMBER,
        "size": _NUMBER,
        "size_held": _NUMBER,
        "count": _NUMBER,
        "entries": _NUMBER,
        "sets": _NUMBER,
        "logs": _NUMBER,
        "cases": _NUMBER,
        "acked": _NUMBER,
        "pulled": _NUMBER,
        "pending": _NUMBER,
        "waiting": _NUMBER,
        "dropped": _NUMBER,
        "try": _NUMBER,
        "status": _NUMBER,
        "register": _NUMBER,
        "epoch": _NUMBER,
        "port": _NUMBER,
        "pid": _NUMBER,
        "bytes": _NUMBER,
        "bytes_in": _NUMBER,
        "bytes_out": _NUMBER,
        "ms": _NUMBER,
        "seconds": _NUMBER,
        "skew_ms": _NUMBER,
        "lag_entries": _NUMBER,
        "lag_s": _NUMBER,
        "free_mib": _NUMBER,
        "offline": _FLAG,
        "clean": _FLAG,
        # what broke
        "error": _PLACE,
        "where": _PLACE,
    }
)

Value = str | int | float | bool | bytes


class UnsafeFieldError(Exception):
    """A log call names a field, or gives a value, that might carry personal data."""


def event(name: str, level: int = INFO, /, **fields: Value | None) -> None:
    """Write one event down.

    Args:
        name: constant dotted words, such as "changeset.refused".
        level: of `logging`.
        **fields: from `FIELDS`; bytes are shown in hex, None is left out.

    Raises:
        UnsafeFieldError: where tests run, a field or value outside `FIELDS`.
    """
    if not _logger.isEnabledFor(level):
        return
    _logger.log(level, _checked_name(name), extra={"tongban_fields": _checked(fields)})


def failure(name: str, error: BaseException, /, **fields: Value | None) -> None:
    """Write an unexpected exception down: its class and the lines it passed, never its message."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    where = ", ".join(f"{Path(frame.filename).stem}:{frame.lineno}" for frame in reversed(frames)) or "<none>"
    event(name, ERROR, error=type(error).__name__, where=where[:FIELD_CHARS_MAX], **fields)


def configure(settings: Log, folder: Path, stream: TextIO | None = None) -> None:
    """Send events to the file that the settings name, and to a stream.

    Args:
        settings: the [log] section.
        folder: of the node; the log file lies in it.
        stream: None for standard error; there only warnings and worse appear when there is a file as well.

    Raises:
        StoreError: the log file cannot be opened.
    """
    shutdown()
    shown = logging.StreamHandler(stream or sys.stderr)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    handlers: list[logging.Handler] = [shown]
    if settings.file != "-":
        handlers.append(_file_handler(settings, folder / settings.file))
        shown.setLevel(logging.WARNING)
    _logger.setLevel(level)
    _logger.propagate = False
    for handler in handlers:
        handler.setFormatter(_JsonLines())
        _logger.addHandler(handler)
        logging.getLogger().addHandler(handler)  # what libraries say, without their words


def shutdown() -> None:
    """Close the files and forget the handlers of `configure`."""
    for handler in list(_logger.handlers):
        _logger.removeHandler(handler)
        logging.getLogger().removeHandler(handler)
        handler.close()
    _logger.propagate = True


def set_strict(strict: bool) -> None:
    """Raise on unsafe fields instead of hiding them; tests do."""
    global _strict  # noqa: PLW0603 - one rule for the process, set once by the tests
    _strict = strict


class _JsonLines(logging.Formatter):
    """One event as one line of JSON. Events of libraries keep only their logger's name and the exception's class."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, LEGAL_TIME).isoformat(timespec="milliseconds")
        fields = getattr(record, "tongban_fields", None)
        line: dict[str, object] = {"at": at, "level": record.levelname.lower()}
        if fields is None:
            line |= {"event": "library.message", "library": record.name, "line": record.lineno}
            if record.exc_info and record.exc_info[0]:
                line["error"] = record.exc_info[0].__name__
        else:
            line |= {"event": record.msg, **fields}
        return json.dumps(line, separators=(",", ":"))


def _file_handler(settings: Log, path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return RotatingFileHandler(
            path, maxBytes=settings.file_bytes_max, backupCount=settings.files_max, encoding="utf-8"
        )
    except OSError as exc:
        raise StoreError(
            f"{path}: cannot be opened: {exc.strerror}", hint="Change [log] file, or free the disk."
        ) from exc


def _checked_name(name: str) -> str:
    return name if _WORD.fullmatch(name) else _unsafe(f"not a dotted event name: {name[:FIELD_CHARS_MAX]!r}", "unnamed")


def _checked(fields: Mapping[str, Value | None]) -> dict[str, object]:
    checked: dict[str, object] = {}
    for key, value in list(fields.items())[:FIELDS_MAX]:
        if value is None:
            continue
        shape = FIELDS.get(key)
        text = _text(value)
        if shape is None:
            _unsafe(f"not a log field: {key!r}", "")
        elif len(text) > FIELD_CHARS_MAX or not shape.fullmatch(text):
            checked[key] = _unsafe(f"not a value of {key!r}: {text[:FIELD_CHARS_MAX]!r}", "?")
        else:
            checked[key] = text if isinstance(value, bytes) else value
    return checked


def _text(value: Value) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9f}" if isinstance(value, float) else str(value)


def _unsafe(problem: str, instead: str) -> str:
    if _strict:
        raise UnsafeFieldError(problem)
    return instead


_logger: Final = logging.getLogger("tongban")
_strict: bool = False
