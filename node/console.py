"""Writing for people and for scripts: standard output and standard error, on any console.

A Windows counter may have code page 936, a service none at all: text that the console cannot show is written as escapes
and never stops a command. `--json` output is UTF-8 bytes whatever the console. Results go to standard output, messages and
progress to standard error. Rich and segno are imported only where they are used: `run` must stay small.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

from protocol.errors import TongbanError

GAP: Final = "  "
WIDE: Final = frozenset("WF")  # East Asian Width classes that take two columns

Advance = Callable[[int], None]


def write(text: str = "", *, stream: TextIO | None = None) -> None:
    """Write one text and a line end; characters that the console lacks become escapes.

    Raises:
        BrokenPipeError: the reader has gone.
    """
    out = stream or sys.stdout
    encoding = out.encoding or "ascii"
    out.write(text.encode(encoding, errors="backslashreplace").decode(encoding) + "\n")
    out.flush()


def write_message(text: str = "") -> None:
    """Write to standard error, where messages do not mix with results."""
    write(text, stream=sys.stderr)


def write_json(value: object, *, stream: TextIO | None = None) -> None:
    """Write one JSON value on one line, as UTF-8 bytes, past the console's own encoding.

    Raises:
        TypeError: the value has bytes or other things that JSON lacks: a mistake in the program.
    """
    out = stream or sys.stdout
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_refuse) + "\n"
    buffer = getattr(out, "buffer", None)
    if buffer is None:  # a stream of a test or an embedding program has no bytes below
        out.write(line)
    else:
        out.flush()
        buffer.write(line.encode("utf-8", errors="backslashreplace"))
    out.flush()


def write_error(error: TongbanError, *, as_json: bool, headline: str = "", safe: str = "") -> None:
    """Show a failure: as JSON on standard output, or in words on standard error.

    Args:
        error: what happened.
        as_json: for scripts.
        headline: the failure's kind in the user's language; empty: none.
        safe: the sentence about saved data in the user's language; empty: none.
    """
    if as_json:
        write_json({"error": error.as_dict()})
        return
    for line in (f"{headline}: {error.message}" if headline else error.message, error.hint, safe):
        if line:
            write_message(line)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under their heads; a Chinese character takes two columns.

    Args:
        heads: one text a column.
        rows: each as long as `heads`.

    Returns:
        Lines without a line end after the last one.
    """
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(width(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(GAP.join(pad(cell, widths[i]) for i, cell in enumerate(line)).rstrip() for line in lines)


def width(text: str) -> int:
    """Return how many columns a text takes on a console."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in WIDE else 1 for c in text)


def pad(text: str, columns: int) -> str:
    """Fill a text with spaces on its right up to this many columns."""
    return text + " " * max(0, columns - width(text))


def qr(text: str) -> str:
    """Draw a QR code with half-block characters, two rows a line, for a joining slip or a receipt."""
    import segno  # noqa: PLC0415 - see the top of this file

    out = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(out, compact=True)
    return out.getvalue().rstrip("\n")


@contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs; nothing when it is no terminal or `quiet`.

    Yields:
        A function to call with the number of steps just done.
    """
    if quiet or not sys.stderr.isatty():
        yield _ignore
        return
    with _bar(title, total) as advance:
        yield advance


def survive_console() -> None:
    """Let Python's own writing (help texts, tracebacks) survive a console that lacks characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):  # closed
                stream.reconfigure(errors="backslashreplace")


@contextmanager
def _bar(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console  # noqa: PLC0415 - see the top of this file
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=False) as bars:
        task = bars.add_task(title, total=total)

        def advance(steps: int) -> None:
            bars.advance(task, steps)

        yield advance


def _ignore(_steps: int) -> None:
    return


def _refuse(value: Any) -> object:  # noqa: ANN401 - json hands over whatever it does not know
    raise TypeError(f"not for JSON: {type(value).__name__}")
