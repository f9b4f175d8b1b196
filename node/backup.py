"""`tongban backup`: one state of the store in one file, checked after it was written, that says what it is.

The file is an ordinary SQLite file. In its `meta` table stand the node, its incarnation, network, the head of its log and the time, so
that a restore is recognised; the settings; and, only if asked for, the private keys, sealed by a passphrase. It holds what people
told the counter: keep it like the store itself. Why so: docs/decisions/0009-backup.md.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from node import faults, folder, system
from node import logs as lines
from node.node import PROGRAM, Node
from node.store import copying, logs
from node.store.copying import Head
from node.store.database import Connection
from node.views.common import Shown, time_text
from protocol import codec, keys
from protocol.errors import DecodeError, InputError, StoreDamaged, StoreError

MARK: Final = "backup"  # in the copy's meta: [format, node, incarnation, network, size, root, at, program]
CONFIG: Final = "backup.config"
KEYS: Final = "backup.keys"
LAST: Final = "backed_up"  # in the node's own meta: when its last backup was made, ms, decimal
FORMAT: Final = 1
PAUSE_S: Final = 0.004  # after each step: half of the disk's and the machine's time stays with the counter
SALT_BYTES: Final = 16
PASSPHRASE_CHARS_MIN: Final = 12
_SCRYPT: Final[Mapping[str, int]] = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20}  # some 0.1 s and 32 MiB a guess


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says of itself. at: ms. config: the settings' file, or None. keys: sealed, or None."""

    head: Head
    at: int
    config: bytes | None = None
    keys: bytes | None = None


async def back_up(node: Node, target: Path, *, config: bytes | None = None, sealed: bytes | None = None) -> Shown:
    """Write a backup while the node works on.

    Args:
        target: a new file, or a folder for one.
        config: bytes of the settings' file. sealed: the keys, from `seal_keys`.

    Raises:
        InputError: the file is there already, or its folder is not. StoreError: a disk refuses; no file is left.
    """
    now = node.clock.wall_ms()
    path = _target(target, node.id, now)
    source = await node.store.own(_file)
    if not node.moved:  # one that moved signed all before it was sealed
        await node.store.own(node.ledger.seal)
        await node.write(lambda conn, _: node.ledger.save_seals(conn))
    draft = path.with_name(path.name + ".new")
    try:
        found = await asyncio.to_thread(_write, source, draft, {CONFIG: config, KEYS: sealed}, now)
        faults.point("backup.drafted")
        draft.replace(path)
        folder.sync_folder(path.parent)
    except OSError as exc:
        raise StoreError(f"{path}: cannot be written: {exc.strerror}", hint="Check that disk and its free space.") from exc
    finally:
        draft.unlink(missing_ok=True)
    if not node.moved:
        await _note(node, found.at)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "node": found.head.node,
        "size": found.head.size,
        "at": time_text(found.at),
        "with_key": sealed is not None,
    }


async def _note(node: Node, at: int) -> None:
    """Remember when the last backup was made, for who looks after the machine; on a full disk the backup is whole all the same."""
    try:
        await node.write(lambda conn, _: logs.set_meta(conn, LAST, str(at).encode()))
    except StoreError as exc:
        lines.failure("backup.not_noted", exc)


def _target(target: Path, node: str, now: int) -> Path:
    if target.is_dir():
        stamp = "".join(char for char in time_text(now)[:19] if char.isdigit())
        target /= f"tongban-{node}-{stamp}.backup"
    if target.exists():
        raise InputError(f"{target}: is there already", hint="Backups are never overwritten: name another file.")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent}: no such folder", hint="Make it, or name another.")
    return target


def _file(conn: Connection) -> Path:
    return Path(conn.execute("PRAGMA database_list").fetchone()[2])


def _write(source: Path, draft: Path, extra: Mapping[str, bytes | None], now: int) -> Backup:
    """Copy, mark, and read again what is on the disk then."""
    draft.unlink(missing_ok=True)
    copying.copy(source, draft, partial(system.block_s, PAUSE_S))
    head, _ = copying.check(draft)
    faults.point("backup.copied")
    told: list[codec.Value] = [FORMAT, head.node, head.incarnation, head.network, head.size, head.root, now, PROGRAM]
    copying.mark(draft, {**extra, MARK: codec.encode(told)})
    folder.sync_file(draft)
    return read(draft)


def read(path: Path) -> Backup:
    """Read what a backup says of itself, and check that it is whole and says the truth about its log.

    Raises:
        InputError: the file is no backup. StoreDamaged: it is not whole. StoreError: it is of a newer program.
    """
    head, facts = copying.check(path)
    if MARK not in facts:
        raise InputError(f"{path}: not a backup", hint="A store that was copied while it was in use is not whole; use `backup`.")
    try:
        told: Any = codec.decode(facts[MARK])
        number, *said, at, _program = told
    except (DecodeError, TypeError, ValueError) as exc:
        raise StoreDamaged(f"{path}: what it says of itself cannot be read") from exc
    if number != FORMAT:
        raise StoreError(f"{path}: a backup of format {number}", hint="Use the newer program.")
    if said != [head.node, head.incarnation, head.network, head.size, head.root] or not isinstance(at, int):
        raise StoreDamaged(f"{path}: it is not what it says of itself")
    return Backup(head, at, facts.get(CONFIG), facts.get(KEYS))


# --- keys under a passphrase


def seal_keys(seeds: Mapping[str, bytes], passphrase: str, entropy: bytes) -> bytes:
    """Seal private seeds by name under a passphrase.

    Args:
        entropy: 48 fresh random bytes.

    Raises:
        InputError: the passphrase is too short to stand guessing.
    """
    if len(passphrase) < PASSPHRASE_CHARS_MIN:
        raise InputError(f"a passphrase needs {PASSPHRASE_CHARS_MIN} characters or more")
    salt = entropy[:SALT_BYTES]
    public = _from_passphrase(passphrase, salt).public
    return salt + keys.seal(public, codec.encode(dict(seeds)), entropy[SALT_BYTES:], b"tongban/1/backup-keys")


def open_keys(sealed: bytes, passphrase: str) -> dict[str, bytes]:
    """Open what `seal_keys` made.

    Raises:
        InputError: another passphrase, or the bytes were changed.
    """
    salt, text = sealed[:SALT_BYTES], sealed[SALT_BYTES:]
    try:
        found: Any = codec.decode(_from_passphrase(passphrase, salt).open(text, b"tongban/1/backup-keys"))
        return {str(name): bytes(seed) for name, seed in found.items()}
    except (DecodeError, AttributeError, TypeError) as exc:
        raise InputError("the keys do not open with this passphrase", hint="Try again; without it, put the key files in keys/.") from exc


def _from_passphrase(passphrase: str, salt: bytes) -> keys.SealingKey:
    seed = hashlib.scrypt(passphrase.encode("utf-8"), salt=salt, dklen=keys.SEED_BYTES, **_SCRYPT)
    return keys.SealingKey(seed)
