"""Asks the node that runs in a folder: the command line's side of the local API.

Plain sockets and the standard library: a command that only asks a running node starts no event loop and imports no server.
Whether a node runs is the lock's to say, not the address file's: ask `call` only when the folder is held, and take
`NoAnswer` for "it does not serve yet, or no longer".
"""

from __future__ import annotations

import http.client
import urllib.parse
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, Final, Protocol

import msgspec

from node.command import MARK, PATH, Command, Relayed, encode_command
from node.folder import ApiPlace
from protocol.errors import LinkError

CONNECT_TIMEOUT_S: Final = 5.0
LINE_BYTES_MAX: Final = 64 << 20  # a case of 4,096 entries is one line
UNSURE_HINT: Final = "It may have been done: look at the case before you give the command again."


class Sink(Protocol):
    """Takes what a command answers: one value, or rows one after the other."""

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        """Take the one result."""
        ...

    def row(self, row: Any) -> None:  # noqa: ANN401 - the same
        """Take the next row of a list."""
        ...


class NoAnswer(LinkError):
    """No node answers at the address that a running one left."""

    default_hint = "It starts or stops just now: try again in a moment."


def call(place: ApiPlace, command: Command, sink: Sink, timeout_s: float | None) -> None:
    """Give a command to the running node and hand its answer on, row by row.

    Args:
        place: from `Folder.load_api`.
        command: what to do.
        sink: takes the answer.
        timeout_s: longest silence; None waits as long as the node lives.

    Raises:
        NoAnswer: nothing of ours listens there; the command was not given.
        LinkError: the node stopped, or was silent too long, while it worked on the command.
        Relayed: the node refused, or failed.
        LimitExceeded: the command is too large.
    """
    # Failures of the sink, such as a reader of our output that has gone, are not the node's: they pass as they are.
    with closing(_answered(place, encode_command(command), timeout_s)) as lines:
        for line in lines:
            _take(line, sink)


def answers(place: ApiPlace) -> bool:
    """Tell whether a node of ours listens at this address."""
    try:
        connection = _connected(place)
    except NoAnswer:
        return False
    try:
        connection.request("GET", PATH, headers={"Connection": "close"})
        with closing(connection.getresponse()) as response:
            return _is_ours(response)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _answered(place: ApiPlace, body: bytes, timeout_s: float | None) -> Generator[dict[str, Any], None, None]:
    """Send a command and yield the lines of its answer; the one place that turns the connection's failures into ours."""
    connection = _connected(place)
    try:
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        with closing(_asked(connection, place, body)) as response:
            yield from _lines(response)
    except TimeoutError as exc:
        raise LinkError(f"the node did not answer within {timeout_s:g} s", hint=UNSURE_HINT) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise LinkError("the node stopped while it worked on the command", hint=UNSURE_HINT) from exc
    finally:
        connection.close()


def _connected(place: ApiPlace) -> http.client.HTTPConnection:
    try:
        url = urllib.parse.urlsplit(place.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=CONNECT_TIMEOUT_S)
        connection.connect()
    except (OSError, ValueError, http.client.HTTPException) as exc:
        raise NoAnswer("the node of this folder does not answer") from exc
    return connection


def _asked(connection: http.client.HTTPConnection, place: ApiPlace, body: bytes) -> http.client.HTTPResponse:
    headers = {"Authorization": f"Bearer {place.token}", "Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", PATH, body, headers)
    response = connection.getresponse()
    if not _is_ours(response):
        response.close()
        raise NoAnswer("another program answers at the address of this folder's node")
    return response


def _is_ours(response: http.client.HTTPResponse) -> bool:
    name, value = MARK
    return response.getheader(name) == value


def _lines(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the lines of the answer.

    Raises:
        http.client.HTTPException: the answer ends before it is whole, or is none.
    """
    whole = False
    while line := response.readline(LINE_BYTES_MAX):
        try:
            value = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as exc:
            raise http.client.IncompleteRead(line) from exc
        yield value
        whole = whole or "row" not in value
    if not whole:
        raise http.client.IncompleteRead(b"")


def _take(line: dict[str, Any], sink: Sink) -> None:
    if "error" in line:
        raise Relayed(line["error"], int(line.get("exit", 1)))
    if "row" in line:
        sink.row(line["row"])
    elif "value" in line:
        sink.value(line["value"])
