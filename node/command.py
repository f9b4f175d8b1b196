"""One command as it is given: its name, what it was told, and who gives it.

The command line and the node's local API carry commands in this one form, and `carry_out` is the one way to the use
cases. Over the local API a command is a JSON object, the answer is JSON lines, so that a long list needs no memory:

    {"name":"case.accept","params":{"case":"…"},"act":{"officer":"A1"}}
    {"value":{…}}                          one result, or
    {"row":{…}} … {"end":2}                a list with its count, or
    {"error":{…},"exit":1}                 at any place, and nothing after it

Trust: a command is outside data also from this machine; what it holds is judged by the use cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from protocol import limits
from protocol.errors import InputError, LimitExceeded, TongbanError

if TYPE_CHECKING:
    from node.node import Node  # brings the store along, which a command that asks a running node does without

COMMAND_BYTES_MAX: Final = 2 * limits.MESSAGE_BYTES_MAX  # a piece of a carried file, in base64, must fit
NAME_SHAPE: Final = re.compile(r"[a-z]{1,20}(\.[a-z]{1,20})?")

# --- the local API
PATH: Final = "/api/command"
MARK: Final = ("Tongban-Api", "1")  # on each answer: what answers without it is another program on an old port
LINES_TYPE: Final = "application/x-ndjson"


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who acts, and what is claimed about when.

    Args:
        officer: id of an officer of this node.
        window: the counter's window.
        at_ms: claimed time, ms since the epoch, when it is not now (补录).
        source: (id, activity) of an event of another system that is taken in.
    """

    officer: str | None = None
    window: str | None = None
    at_ms: int | None = None
    source: tuple[str, str] | None = None


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command: a name of `node.operations`, its options by name, and the claim."""

    name: str
    params: dict[str, Any] = {}
    act: Claim = Claim()


Run = Callable[[Command], Coroutine[Any, Any, object]]
"""Carries a command out: a JSON-ready value, or an asynchronous iterator of rows."""


class Relayed(TongbanError):
    """A failure that the running node told; shown as it came."""

    def __init__(self, fields: Mapping[str, Any], exit_code: int) -> None:
        super().__init__(
            str(fields.get("message", "")),
            hint=str(fields.get("hint", "")),
            data_safe=fields.get("data_safe") is not False,
        )
        self.code = str(fields.get("code", self.code))
        self.retryable = fields.get("retryable") is True
        self.exit_code = exit_code
        self._fields = dict(fields)

    def as_dict(self) -> dict[str, object]:
        """Return the failure with all fields that it came with."""
        return {**super().as_dict(), **self._fields}


async def carry_out(node: Node, command: Command) -> object:
    """Carry a command out on an open node.

    Returns:
        A JSON-ready value, or an asynchronous iterator of rows.

    Raises:
        TongbanError: refused, or failed.
    """
    from node import operations  # noqa: PLC0415 - commands that only ask a running node do without the use cases
    from node.office.desk import Act  # noqa: PLC0415 - the same

    claim = command.act
    act = Act(officer=claim.officer, window=claim.window, at_ms=claim.at_ms, source=claim.source)
    return await operations.run(node, command.name, command.params, act)


def encode_command(command: Command) -> bytes:
    """Write a command as JSON.

    Raises:
        LimitExceeded: larger than a node takes in one command.
    """
    data = msgspec.json.encode(command)
    if len(data) > COMMAND_BYTES_MAX:
        raise LimitExceeded(f"the command has {len(data)} bytes; a node takes at most {COMMAND_BYTES_MAX}")
    return data


def decode_command(data: bytes) -> Command:
    """Read a command.

    Raises:
        InputError: not a command.
        LimitExceeded: too large.
    """
    if len(data) > COMMAND_BYTES_MAX:
        raise LimitExceeded(f"a command of {len(data)} bytes; at most {COMMAND_BYTES_MAX} are taken")
    try:
        command = msgspec.json.decode(data, type=Command)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InputError(f"this is not a command: {str(exc)[:200]}") from exc
    if not NAME_SHAPE.fullmatch(command.name):
        raise InputError("this is not the name of a command")
    if command.act.at_ms is not None and not 0 <= command.act.at_ms <= limits.TIME_MS_MAX:
        raise InputError("the claimed time is out of range")
    return command


def failure_line(error: TongbanError) -> dict[str, object]:
    """Return the answer that tells a failure."""
    return {"error": error.as_dict(), "exit": error.exit_code}
