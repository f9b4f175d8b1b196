"""Files that are carried by hand, on this side of the node: written to and read from a folder, a stick mostly.

The node packs, seals, opens and takes in; it need not see the folder of the person who gives the command. So the file passes
through here piece by piece, sealed all the way: what is read here or on the stick tells nobody anything.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from node.cli import output
from node.cli.execute import Here, execute
from node.cli.options import Settings
from node.command import Relayed
from node.folder import Draft
from protocol import carry, limits
from protocol.errors import DecodeError, InputError, LinkError, TongbanError

ENDING: Final = ".carry"
PIECES_MAX: Final = 64  # in one command
BATCH_BYTES: Final = limits.CARRY_PIECE_BYTES_MAX  # of the pieces in one command


def carry_out(settings: Settings, path: Path, params: Mapping[str, object], here: Here) -> int:
    """Write a file for another node; into a folder, under a name of its own.

    Args:
        params: of the operation `carry.out`.

    Returns:
        The exit code.

    Raises:
        StoreError: the folder is full, gone, or refuses; no half file has the name.
    """
    with ExitStack() as stack:
        sink = _Outbound(path, stack)
        execute(settings, "carry.out", params, sink, here)
        if not sink.ended:
            raise LinkError("the node stopped before the file was whole", hint="Give the command again.")
    return _shown(settings, "carry.out", sink.told)


def carry_in(settings: Settings, path: Path, here: Here) -> int:
    """Take a file in.

    Returns:
        The exit code.

    Raises:
        TongbanError: refused; what was taken in before that stays, and the message says how much.
    """
    sink = _Inbound(path)
    try:
        with path.open("rb") as file:
            opening = _opening(file)
            for first, pieces in _batches(file):
                params = {"opening": _text(opening), "first": first, "pieces": [_text(one) for one in pieces]}
                execute(settings, "carry.in", params, sink, here)
        sink.check_end()
    except OSError as exc:
        raise _after(sink, InputError(f"{path}: cannot be read: {exc.strerror or exc}")) from exc
    except TongbanError as exc:
        raise _after(sink, exc) from exc
    return _shown(settings, "carry.in", sink.told)


class _Outbound:
    """Writes the parts of a file as they come (`local_client.Sink`)."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.told: dict[str, Any] = {}
        self.ended = False
        self._path = path
        self._stack = stack
        self._draft: Draft | None = None

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        """Refuse what is no file."""
        raise InputError(f"the node answered otherwise than with a file: {type(value).__name__}")

    def row(self, row: Any) -> None:  # noqa: ANN401 - the same
        """Write one part; the first one tells whom the file is for."""
        data = base64.b64decode(row["data"])
        if self._draft is None:
            self._draft = self._begin(row)
        else:
            self.told["pieces"] += 1
            self.told["entries"] += row["entries"]
        self._draft.write(data)
        self.told["bytes"] += len(data)
        self.ended = row.get("kind") == "end"

    def _begin(self, row: Mapping[str, Any]) -> Draft:
        path = self._path / f"{row['from']}-{row['to']}-{row['made_at'][:10]}{ENDING}" if self._path.is_dir() else self._path
        told = {key: row[key] for key in ("from", "to", "made_at")}
        self.told = {"file": str(path), **told, "pieces": 0, "entries": 0, "bytes": 0}
        return self._stack.enter_context(Draft(path))


class _Inbound:
    """Adds up what became of each piece (`local_client.Sink`)."""

    def __init__(self, path: Path) -> None:
        self.told: dict[str, Any] = {"file": str(path), "pieces": 0, "changed": False}
        self._ended = False

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        """Refuse what is no row."""
        raise InputError(f"the node answered otherwise than with rows: {type(value).__name__}")

    def row(self, row: Any) -> None:  # noqa: ANN401 - the same
        """Add one piece."""
        if self._ended:
            raise DecodeError("something stands behind the end of the carry file", hint=carry.DAMAGED)
        self._ended = row.pop("end")
        self.told["pieces"] += 1
        for key, value in row.items():
            adds_up = isinstance(value, int | list) and key in self.told
            self.told[key] = self.told[key] + value if adds_up else value
            self.told["changed"] |= bool(value) and key not in {"from", "made_at", "known"}

    def check_end(self) -> None:
        """Check that the last piece was the end; raises DecodeError."""
        if not self._ended:
            raise DecodeError("the carry file is cut off", hint=carry.DAMAGED)


def _opening(file: BinaryIO) -> bytes:
    start = file.read(carry.START_BYTES)
    opening = start + file.read(carry.opening_bytes(start) - len(start))
    carry.decode_opening(opening)
    return opening


def _batches(file: BinaryIO) -> Iterator[tuple[int, list[bytes]]]:
    """Yield pieces that follow one another, as many as one command holds, with the place of the first."""
    first, size = 0, 0
    pieces: list[bytes] = []
    for piece in _pieces(file):
        if pieces and (size + len(piece) > BATCH_BYTES or len(pieces) == PIECES_MAX):
            yield first, pieces
            first, size, pieces = first + len(pieces), 0, []
        pieces.append(piece)
        size += len(piece)
    if pieces:
        yield first, pieces


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield the sealed pieces; where the file is cut off, all before that, then DecodeError."""
    while prefix := file.read(carry.LENGTH_BYTES):
        size = carry.piece_bytes(prefix)
        piece = file.read(size)
        if len(piece) < size:
            raise DecodeError("the carry file is cut off", hint=carry.DAMAGED)
        yield piece


def _after(sink: _Inbound, exc: TongbanError) -> TongbanError:
    """Return a failure that also says what was taken in before it."""
    count, entries = sink.told["pieces"], sink.told.get("entries", 0)
    if not count:
        return exc
    said = f"{exc.message}; {count} pieces before that with {entries} new entries were taken in, and stay"
    return Relayed({**exc.as_dict(), "message": said}, exc.exit_code)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _shown(settings: Settings, name: str, value: Mapping[str, Any]) -> int:
    printer = output.Printer(settings, name)
    printer.value(value)
    return printer.finish()
