"""The root of the commands, and what happens around each of them: console, failures, exit code.

    program = Program("tongban", …)
    program()                          # reads sys.argv, ends the process with 0, 1, 2 or 3

`give` is what nearly every command does: put its options under their names, carry it out, show the answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from node import console, texts
from node.cli import output
from node.cli.execute import Here, execute
from node.cli.options import Commands, Settings
from protocol.errors import InputError

NAME: Final = "tongban"


class Program(Commands):
    """The whole program: a group of commands that ends the process by our exit codes."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override] # noqa: ANN401 - click's own; standalone or not, it exits
        """Run one command and exit."""
        extra.pop("standalone_mode", None)
        given = list(sys.argv[1:] if args is None else args)
        console.survive_console()
        sys.exit(self._exit_code(given, prog_name or NAME, extra))

    def _exit_code(self, given: list[str], prog_name: str, extra: dict[str, Any]) -> int:
        try:
            _check_text(given)
            return int(super().main(given, prog_name, standalone_mode=False, **extra) or output.EXIT_DONE)
        except SystemExit:  # click's own, only when the reader of our output has gone: it has all it wanted
            _forget_output()
            return output.EXIT_DONE
        except click.exceptions.NoArgsIsHelpError as exc:
            if not _wants_json(given):
                exc.show()
                return exc.exit_code
            return output.show_failure(InputError("no command was given", hint="See --help."), _shown_by(given))
        except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - whatever it is, scripts get an answer and a code
            return output.show_failure(output.as_error(exc), _shown_by(given))


def give(settings: Settings, name: str, here: Here | None = None, /, **params: object) -> int:
    """Carry a command out and show what it came to.

    Args:
        settings: of the command line.
        name: of `node.operations`.
        here: see `execute`.
        **params: JSON-ready options; None counts as not given.

    Returns:
        The exit code.
    """
    printer = output.Printer(settings, name)
    execute(settings, name, params, printer, here)
    return printer.finish()


def _wants_json(given: Sequence[str]) -> bool:
    options = given[: given.index("--")] if "--" in given else given
    return "--json" in options


def _shown_by(given: Sequence[str]) -> Settings:
    """Read how failures are shown from the bare arguments: the options may be what is wrong."""
    return Settings(as_json=_wants_json(given), lang=_language(given))


def _language(given: Sequence[str]) -> str:
    for place, text in enumerate(given):
        value = text.removeprefix("--lang=") if text.startswith("--lang=") else ""
        value = given[place + 1] if text == "--lang" and place + 1 < len(given) else value
        if value in texts.LANGUAGES:
            return value
    return texts.language(os.environ)


def _check_text(given: Sequence[str]) -> None:
    """Refuse arguments that the console's encoding could not read.

    Raises:
        InputError: names the argument by its place.
    """
    for place, text in enumerate(given, start=1):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(
                f"argument {place} is not text in this console's encoding", hint="Set the console to UTF-8."
            ) from None


def _forget_output() -> None:
    """Let Python's own last flush go nowhere."""
    try:
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, sys.stdout.fileno())
    except (OSError, ValueError):
        return
