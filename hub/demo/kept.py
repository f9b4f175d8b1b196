"""A network that a demo left running, seen from another process: `network.json`, who runs, and how all are stopped.

The list holds no secret. Losing it costs the list; the nodes' folders stand for themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hub.demo.seats import STOP_S, answers, tell_to_stop, wait_until_free
from node.folder import Folder, write_private
from node.ports import Clock
from protocol.errors import InputError, LinkError

FILE: Final = "network.json"


def save(root: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the list: one object {node, name, parent, data, url, pid} a node, the root first."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write_private(root / FILE, f"[\n{lines}\n]\n".encode())


def load(root: Path) -> list[dict[str, Any]]:
    """Read the list.

    Raises:
        InputError: not there, or not whole.
    """
    path = root / FILE
    try:
        rows = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{root}: no network of a demo is here", hint="Make one: tongban demo --keep.") from None
    except (OSError, ValueError) as exc:
        raise InputError(f"{path}: cannot be read") from exc
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise InputError(f"{path}: is not a list of nodes")
    return rows


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("node"), str) and isinstance(row.get("data"), str)


def running(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the nodes whose process runs."""
    return (str(row["node"]) for row in rows if answers(Folder(Path(row["data"]))))


def stop(root: Path, clock: Clock) -> list[str]:
    """Stop all processes.

    Returns:
        The nodes that were running.

    Raises:
        LinkError: one does not stop. InputError: no network is here.
    """
    folders = {row["node"]: Folder(Path(row["data"])) for row in load(root)}
    stopped = [node for node, folder in folders.items() if tell_to_stop(folder)]
    for node, folder in folders.items():
        if not wait_until_free(folder, clock, STOP_S):
            raise LinkError(f"node {node} does not stop", hint=f"End its process; its folder is {folder.root}.")
    return stopped
