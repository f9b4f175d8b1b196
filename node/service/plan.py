"""What a service is told: one plan, from which the definition for either system is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from protocol.errors import InputError

NAME: Final = "tongban"
STOP_S: Final = 15  # `run` drains in ten
RESTART_S: Final = 5
WATCHDOG_S: Final = 120
PRIVILEGED_PORT: Final = 1_024

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
_USER: Final = re.compile(r"[^\x00-\x1f\x7f%$\"]{1,200}")
_PATH_BAD: Final = re.compile(r"[\x00-\x1f\x7f\"]")


@dataclass(frozen=True, slots=True)
class Plan:
    """One service.

    Attributes:
        name: of the service; a machine with several nodes has several.
        program: absolute path and leading arguments of `tongban`.
        folder: the node's, absolute.
        user: account that it runs as.
        port: on which other nodes are answered: below 1,024 a right is needed.
    """

    name: str
    program: tuple[str, ...]
    folder: str
    user: str
    port: int = 0

    def __post_init__(self) -> None:
        """Refuse what neither system could hold.

        Raises:
            InputError: names the part.
        """
        if not _NAME.fullmatch(self.name):
            raise InputError(f"{self.name!r} is no name of a service", hint="Letters, digits, - and _; at most 61.")
        if not _USER.fullmatch(self.user):
            raise InputError(f"{self.user!r} is no account", hint="Name the account that the node runs as, with --user.")
        for path in (*self.program, self.folder):
            if _PATH_BAD.search(path):
                raise InputError(f"{path!r}: a path with a line end or a quotation mark", hint="Use another folder.")

    @property
    def command(self) -> tuple[str, ...]:
        """The whole command line."""
        return (*self.program, "--data", self.folder, "run")
