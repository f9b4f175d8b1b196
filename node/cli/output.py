"""Shows what a command came to: JSON for scripts, words for people, and the exit code.

`Printer` takes the answer while it comes. In JSON a command writes one value, a list one object a line; a failure is one object
{"error": …} on standard output as well. In words results go to standard output, failures to standard error.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from node import console
from node.cli import answers
from node.cli.options import Settings
from node.texts import TEXTS, t
from protocol.errors import CommandRefused, InputError, LinkError, StoreError, TongbanError

EXIT_DONE: Final = 0
EXIT_PROBLEMS: Final = 1
JSON_ALWAYS: Final = frozenset({"export"})  # for machines only: no table could hold it
FRAMES_MAX: Final = 4
# What these say is about the order given, not about the machine: no word on saved data is needed.
_PLAIN: Final = (InputError, CommandRefused)


class Printer:
    """Takes the answer of one command (`local_client.Sink`) and shows it.

    Args:
        settings: JSON or words, and which language.
        name: of the command, as in `node.operations`.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.exit_code = EXIT_DONE
        self._settings = settings
        self._name = name
        self._json = settings.as_json or name in JSON_ALWAYS
        self._rows: list[Mapping[str, Any]] = []  # of a list in words: a table needs them all

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        """Show the one result; a list comes as rows."""
        rows = _rows_of(self._name, value)
        if rows is not None:
            for row in rows:
                self.row(row)
            return
        self.exit_code = EXIT_PROBLEMS if _has_problems(self._name, value) else EXIT_DONE
        if self._json:
            console.write_json(value)
        else:
            console.write(answers.in_words(self._name, value, self._settings.lang))

    def row(self, row: Any) -> None:  # noqa: ANN401 - as above
        """Show the next row of a list."""
        if self._json:
            console.write_json(row)
        else:
            self._rows.append(row)

    def finish(self) -> int:
        """Write what was kept back.

        Returns:
            The exit code.
        """
        if self._rows:
            console.write(answers.rows_in_words(self._rows, self._settings.lang))
        return self.exit_code


def show_failure(error: TongbanError, settings: Settings) -> int:
    """Show a failure.

    Returns:
        The exit code.
    """
    key = f"error.{error.code}"
    headline = t(key if key in TEXTS else "error.error", settings.lang)
    plain = isinstance(error, _PLAIN) and error.data_safe
    safe = "" if plain else t("data.safe" if error.data_safe else "data.unsafe", settings.lang)
    console.write_error(error, as_json=settings.as_json, headline=headline, safe=safe)
    return error.exit_code


def as_error(exc: BaseException) -> TongbanError:
    """Turn whatever ended a command into one of our errors: the one place that does."""
    if isinstance(exc, TongbanError):
        return exc
    if isinstance(exc, click.UsageError):
        place = exc.ctx.command_path if exc.ctx else "tongban"
        return InputError(exc.format_message(), hint=f"See `{place} --help`.")
    if isinstance(exc, click.ClickException):
        return InputError(exc.format_message())
    if isinstance(exc, KeyboardInterrupt | click.Abort | asyncio.CancelledError):
        return LinkError("interrupted", hint="What was confirmed is saved; look, then give the command again.")
    if isinstance(exc, OSError):
        return StoreError(
            f"the system refused: {exc.strerror or type(exc).__name__}", hint="Look at the disk and its rights."
        )
    return TongbanError(_described(exc), hint="This is a mistake in the program: send this line to its maintainers.")


def _described(exc: BaseException) -> str:
    """Name class and place, never the message, which may hold personal data."""
    frames = traceback.extract_tb(exc.__traceback__)[-FRAMES_MAX:]
    places = ", ".join(f"{Path(frame.filename).stem}:{frame.lineno}" for frame in reversed(frames))
    return f"the program failed: {type(exc).__name__} at {places or 'an unknown place'}"


def _rows_of(name: str, value: Any) -> list[Any] | None:  # noqa: ANN401 - JSON is any value
    """Return the rows of a list command that answered with one value; None for any other command."""
    if name.rpartition(".")[2] != "list" and name not in {"export", "demo"}:
        return None
    return value if isinstance(value, list) else None


def _has_problems(name: str, value: Any) -> bool:  # noqa: ANN401 - JSON is any value
    if not isinstance(value, Mapping):
        return False
    if name == "rebuild":
        return bool(value.get("different")) or value.get("same") is False or bool(value.get("problems"))
    return name in {"verify", "replay", "scrub"} and bool(value.get("problems"))
