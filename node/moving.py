"""A planned move to another machine: everything in one file under a passphrase, and an old store that never writes again.

`move_out` seals the store first and writes the file then: a machine that stops in between has nothing to lose, it only gives
the command again. Reading stays possible there, for ever; writing, `run` and `sync` refuse, also after a restart. The
file holds a backup with the private keys (`node.backup`), in pieces under a key that scrypt makes of the passphrase:

    "TBM1" ‖ salt (16) ‖ pieces: 4 bytes of length ‖ ChaCha20-Poly1305, numbered, the last one marked
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from node import backup, faults, restore
from node.folder import Draft, Folder
from node.node import MOVED, Node
from node.ports import Clock, Entropy
from node.store import copying, logs
from node.store.database import Connection
from node.views.common import Shown, time_text
from node.views.status import pending
from protocol import keys
from protocol.errors import DecodeError, InputError, StoreError

MAGIC: Final = b"TBM1"
PIECE_BYTES: Final = 1 << 20
LENGTH_BYTES: Final = 4


async def move_out(node: Node, folder: Folder, file: Path, passphrase: str) -> Shown:
    """Seal this machine's store and write all of it into a file for the new one; may be given again.

    Raises:
        InputError: a short passphrase, or the file is there already. StoreError: a disk refuses; given again it goes on.
    """
    if len(passphrase) < backup.PASSPHRASE_CHARS_MIN:
        raise InputError(f"a passphrase has at least {backup.PASSPHRASE_CHARS_MIN} characters")
    if file.exists():  # noqa: ASYNC240 - nobody else waits on this loop
        raise InputError(f"{file}: is there already", hint="Name another file; nothing is overwritten.")
    unsent = await node.read(lambda conn: pending(node, conn))
    if not node.moved:
        now = node.clock.wall_ms()
        # A crash behind this leaves a sealed store without a file: the command, given again, writes it.
        await node.write(lambda conn, _: _seal_store(node, conn, now))
        node.moved = True
        faults.point("moving.sealed")
    draft = folder.root / "moving.sqlite3"
    draft.unlink(missing_ok=True)
    try:
        seeds = {path.stem: folder.load_seed(path.stem) for path in sorted(folder.keys.glob("*.seed"))}
        sealed = backup.seal_keys(seeds, passphrase, node.entropy.bytes(keys.SALT_BYTES + keys.SEED_BYTES))
        config = folder.config.read_bytes() if folder.config.exists() else None
        await backup.back_up(node, draft, config=config, sealed=sealed)
        size = _encrypt(draft, file, passphrase, node.entropy)
    finally:
        draft.unlink(missing_ok=True)
    return {"node": node.id, "file": str(file), "bytes": size, "unsent": unsent, "moved": True}


def _seal_store(node: Node, conn: Connection, now: int) -> None:
    """Sign what was stated here, and let it be the last."""
    node.ledger.seal(conn)
    node.ledger.save_seals(conn)
    logs.set_meta(conn, MOVED, str(now).encode())


def _encrypt(source: Path, target: Path, passphrase: str, entropy: Entropy) -> int:
    """Write the pieces; returns the file's size."""
    salt = entropy.bytes(keys.SALT_BYTES)
    key = keys.passphrase_key(passphrase, salt)
    with source.open("rb") as stream, Draft(target) as draft:
        draft.write(MAGIC + salt)
        piece, index = stream.read(PIECE_BYTES), 0
        while True:
            following = stream.read(PIECE_BYTES)
            sealed = keys.seal_piece(key, index, piece, last=not following)
            draft.write(len(sealed).to_bytes(LENGTH_BYTES) + sealed)
            if not following:
                break
            piece, index = following, index + 1
        faults.point("moving.written")
    return target.stat().st_size


def move_in(folder: Folder, file: Path, passphrase: str, clock: Clock) -> Shown:
    """Make this machine the node that a file holds; the caller holds the folder's lock. Given again, it begins again.

    Raises:
        InputError: no such file, another passphrase, a damaged file, or a node lives here. StoreError: a disk refuses.
    """
    if folder.store.exists():
        raise InputError(f"{folder.root}: a node lives here already", hint="Use another --data folder.")
    draft = folder.root / "moving.sqlite3"
    try:
        with file.open("rb") as stream, draft.open("wb") as plain:
            for piece in _pieces(stream, passphrase):
                plain.write(piece)
        copying.mark(draft, {MOVED: None})
        faults.point("moving.opened")
        found = restore.restore(folder, draft, clock, passphrase=lambda: passphrase)
    except OSError as exc:
        raise StoreError(f"{file}: cannot be read: {exc.strerror}", hint="Copy it again.") from exc
    finally:
        draft.unlink(missing_ok=True)
    return {"node": found["node"], "size": found["size"], "at": found["at"]}


def _pieces(stream: BinaryIO, passphrase: str) -> Iterator[bytes]:
    """Yield the pieces of a file, each verified; raises InputError when one is not, or the last is missing."""
    head = stream.read(len(MAGIC) + keys.SALT_BYTES)
    if not head.startswith(MAGIC) or len(head) < len(MAGIC) + keys.SALT_BYTES:
        raise InputError("this is no file of `tongban move out`")
    key, index, last = keys.passphrase_key(passphrase, head[len(MAGIC) :]), 0, False
    while not last:
        length = int.from_bytes(stream.read(LENGTH_BYTES))
        sealed = stream.read(length) if length <= PIECE_BYTES + keys.PIECE_OVERHEAD_BYTES else b""
        try:
            piece, last = keys.open_piece(key, index, sealed if len(sealed) == length else b"")
        except DecodeError as exc:
            raise InputError("another passphrase, or the file is damaged or cut off", hint="Type it again, or copy the file again.") from exc
        yield piece
        index += 1


def moved_at(conn: Connection) -> str | None:
    """Return since when a store is sealed, for people; None where it is not."""
    value = logs.get_meta(conn, MOVED)
    return time_text(int(value)) if value else None
