"""Files that a command names: read, bounded and checked on this side, so that the node gets plain values.

The running node may be another user's service and need not see the folder of the person who gives the command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from node import inputs
from node.command import COMMAND_BYTES_MAX
from protocol import calendar, catalogue, limits
from protocol.errors import InputError

MATERIAL_BYTES_MAX: Final = limits.INPUT_FILE_BYTES_MAX
READ_BYTES: Final = 1 << 20
PART_BYTES_MAX: Final = COMMAND_BYTES_MAX // 4  # of the items in one command: one unit of work at the node
# By ending, not by the machine's own table: two counters must name the same paper the same way.
MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".pdf": "application/pdf",
    ".ofd": "application/ofd",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain",
}
MEDIA_TYPE_UNKNOWN: Final = "application/octet-stream"


def read_materials(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Read `NAME[=FILE]` texts.

    Returns:
        One object a material: `name`, and perhaps `file` with `name`, `sha256` (hex), `bytes`, `type`.

    Raises:
        InputError: no name, a name twice, a file that cannot be read, is empty or too large.
    """
    found = [_material(text) for text in texts]
    names = [material["name"] for material in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--material: {name!r} is given twice")
    return found


def read_catalogue(path: Path) -> list[dict[str, Any]]:
    """Read and check a catalogue file.

    Returns:
        Its items as plain values.

    Raises:
        InputProblems: every fault with item and field. InputError: the file cannot be read.
    """
    return [catalogue.to_body(item) for item in inputs.load_file(path, catalogue.parse_catalogue)]


def read_calendar(path: Path) -> dict[str, Any]:
    """Read and check a calendar file; raises as `read_catalogue` does."""
    return calendar.to_body(inputs.load_file(path, calendar.parse_calendar))


def in_parts(items: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut a list of items into parts that fit into one command each."""
    part: list[dict[str, Any]] = []
    size = 0
    for item in items:
        item_bytes = len(msgspec.json.encode(item))
        if part and size + item_bytes > PART_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(item)
        size += item_bytes
    if part:
        yield part


def merged(results: Sequence[Any]) -> Any:  # noqa: ANN401 - JSON is any value
    """Put the answers to parts of one command together: lists and counts add up, of anything else the last one stands."""
    if len(results) == 1 or not all(isinstance(result, Mapping) for result in results):
        return results[-1]
    whole: dict[str, Any] = {}
    for result in results:
        for key, value in result.items():
            adds_up = isinstance(value, list | int) and not isinstance(value, bool) and key in whole
            whole[key] = whole[key] + value if adds_up else value
    return whole


def _material(text: str) -> dict[str, Any]:
    name, sign, file = text.partition("=")
    if not name.strip() or (sign and not file):
        raise InputError(f"--material: {text!r} is not of the form NAME or NAME=FILE")
    return {"name": name.strip(), **({"file": _described(Path(file))} if sign else {})}


def _described(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                digest.update(data)
                size += len(data)
                if size > MATERIAL_BYTES_MAX:
                    raise InputError(f"{path}: is larger than {MATERIAL_BYTES_MAX >> 20} MiB", hint="Scan it smaller.")
    except OSError as exc:
        raise InputError(
            f"{path}: cannot be read: {exc.strerror or exc}", hint="Check the name and the folder."
        ) from exc
    if not size:
        raise InputError(f"{path}: is empty", hint="Scan it again.")
    media_type = MEDIA_TYPES.get(path.suffix.lower(), MEDIA_TYPE_UNKNOWN)
    return {"name": path.name, "sha256": digest.hexdigest(), "bytes": size, "type": media_type}
