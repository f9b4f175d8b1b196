"""What the program writes down about itself: one JSON line per event, never personal data.

    logs.event("uplink.pushed", node="650102000000", count=500, ms=41)
    {"at":"2026-05-06T09:30:00.123+08:00","level":"info","event":"uplink.pushed","node":"650102000000","count":500,"ms":41}

An event is a constant dotted name; a field is one of `FIELDS`, and each of them has a form that no name, number of a person
or typed text fits. Anything else is refused: raised where tests run (`set_strict`), else replaced by "?" so that a slip in
the code neither stops a counter nor leaks. Output is ASCII, so that it survives any console, and control characters are
escaped, so that one event is one line. `critical` is reserved for forks and rollbacks.

Lines go to a file in the node's folder, bounded in size and number, or (`[log] file = "-"`) all to the error stream, from
where systemd's journal takes them. Writing a line never fails the work that it tells of: what a full disk refuses is dropped
and counted, and the first line that is taken again says how many are missing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, TextIO

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
        "days": _NUMBER,
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


class _BoundedFile(logging.Handler):
    """Lines in a file of at most so many bytes, and so many full ones before it: `x.log`, `x.log.1` (the newest) … `x.log.N`.

    Windows renames no file that somebody has open, a virus scanner or an editor say. Then the file grows on, to at most twice its
    bytes, while each further line tries again; after that it begins anew, and what it held is lost: the disk is bounded in any case.

    Raises:
        OSError: the file cannot be opened at all; only when it is made.
    """

    def __init__(self, path: Path, bytes_max: int, files_max: int) -> None:
        super().__init__()
        self._path = path
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._dropped = 0  # lines since the last one that was taken; this and the next: owned by the handler's lock
        self._torn = False  # the file ends inside a line
        self._stream: BinaryIO | None = self._opened("ab")

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; never raises, and never says so on the console of a counter."""
        line = self.format(record).encode("utf-8") + b"\n"
        try:
            self._write(self._told_gap(record) + line)
        except OSError:
            self._dropped += 1
            self._let_go()  # a disk that is mended may need the file opened anew
        else:
            self._dropped = 0

    def close(self) -> None:
        """Close the file."""
        with self.lock or contextlib.nullcontext():
            self._let_go()
        super().close()

    def _write(self, data: bytes) -> None:
        stream = self._stream or self._opened("ab")
        self._stream = stream
        size = stream.tell()
        if size and size + len(data) > self._bytes_max:
            stream = self._turned(size + len(data) > 2 * self._bytes_max)
        if stream.write(data) != len(data):  # unbuffered: the disk had room for a part
            self._torn = True
            raise OSError(errno.ENOSPC, "no room for a whole line")
        self._torn = False

    def _turned(self, must: bool) -> BinaryIO:
        """Put the full file aside and return a new one; the old one again when it cannot be renamed and need not be."""
        self._let_go()
        mode = "ab"
        try:
            self._put_aside()
        except OSError:
            mode = "wb" if must else "ab"
        self._stream = self._opened(mode)
        return self._stream

    def _put_aside(self) -> None:
        for number in range(self._files_max - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _opened(self, mode: str) -> BinaryIO:
        stream: BinaryIO = self._path.open(mode, buffering=0)  # type: ignore[assignment] # a raw file does for whole lines
        stream.seek(0, 2)  # Windows says 0 until the first write
        return stream

    def _told_gap(self, record: logging.LogRecord) -> bytes:
        """Return the line that tells of lines that could not be written, if there are any."""
        if not self._dropped:
            return b""
        at = datetime.fromtimestamp(record.created, LEGAL_TIME).isoformat(timespec="milliseconds")
        gap = {"at": at, "level": "warning", "event": "log.dropped", "dropped": self._dropped}
        return b"\n" * self._torn + json.dumps(gap, separators=(",", ":")).encode("ascii") + b"\n"

    def _let_go(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _file_handler(settings: Log, path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _BoundedFile(path, settings.file_bytes_max, settings.files_max)
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
