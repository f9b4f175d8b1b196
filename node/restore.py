"""`tongban restore`: a backup in the place of a store that is lost, damaged, or to be given up; and what the node does about it.

Between the backup and the loss the node may have signed entries that only the lost disk had: printed on receipts, shown to a neighbour.
So a restored store is marked, and the first entry that it states opens a new incarnation, whatever was met before: no index of
the old one is ever signed twice. What the parent has beyond the backup is fetched back at contact, as after any restore; a node
that writes nothing goes on as it was.

A restored root has nobody above it: it admits its new incarnation itself, and numbers nothing before it ran and heard its
children (`hub.restoring`), which may hold registers that this store has lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from node import backup, continuity, faults, registrar
from node import folder as folders
from node import logs as lines
from node.backup import Backup
from node.continuity import RESTORED
from node.folder import Folder, write_private
from node.ledger import Changes, Ledger, Renew
from node.ports import Clock, Entropy
from node.store import copying, logs
from node.store.database import Connection
from node.views.common import Shown, time_text
from protocol import codec, keys
from protocol.errors import InputError, StoreDamaged, StoreError


def restore(
    place: Folder, file: Path, clock: Clock, *, replace: bool = False, passphrase: Callable[[], str] | None = None
) -> Shown:
    """Put a backup into a folder; the caller holds the folder's lock.

    Args:
        replace: also in the place of a store that is whole; it is kept aside, as a damaged one is.
        passphrase: asked for when the keys have to come from the backup.

    Raises:
        InputError: no backup, a whole store is here, no key, or another node's. StoreError: damaged, or a disk refuses.
        Nothing was changed.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    found = backup.read(file)
    if not replace and is_whole(place):
        raise InputError(
            f"{place.root}: a whole store is here", hint="Use another --data folder; or --replace, which keeps it aside."
        )
    seeds = _keys_of(place, found, passphrase)
    place.create()
    for name, seed in seeds.items():
        place.save_seed(name, seed)
    if found.config is not None and not place.config.exists():
        write_private(place.config, found.config)
    aside = _put_in_place(place, file, found, clock.wall_ms())
    lines.event("store.restored", lines.WARNING, node=found.head.node, count=found.head.size)
    return {
        "node": found.head.node,
        "size": found.head.size,
        "at": time_text(found.at),
        "kept_aside": str(aside) if aside is not None else None,
        "restored": True,
    }


def is_whole(place: Folder) -> bool:
    """Tell whether the store in a folder is one that a node can work with."""
    if not place.store.exists():
        return False
    try:
        copying.check(place.store)
    except StoreDamaged:
        return False
    except StoreError:
        return True  # a newer program's, or one that cannot be read now: not to be given up unasked
    return True


def _keys_of(place: Folder, found: Backup, passphrase: Callable[[], str] | None) -> dict[str, bytes]:
    """Return the seeds to be written: those of the backup, where the folder has none.

    Raises:
        InputError: no key here or there, or the one here is not this node's.
    """
    here = {path.stem: place.load_seed(path.stem) for path in place.keys.glob("*.seed") if path.stem != "sealing"}
    if here:
        if found.head.key not in {keys.SigningKey(seed).public for seed in here.values()}:
            raise InputError("no key in this folder is the one that signs the backup's log", hint="Is it another node's backup?")
        return {}
    if found.keys is None or passphrase is None:
        raise InputError(
            "there is no private key here, and none in the backup",
            hint="Put the key files into keys/ first; or begin anew: `join` with a new code from the parent, which has what was synced.",
        )
    return backup.open_keys(found.keys, passphrase())


def _put_in_place(place: Folder, file: Path, found: Backup, now: int) -> Path | None:
    """Lay the backup down under another name, checked and marked, then change places. Recovered by giving the command again."""
    draft = place.store.with_name("restoring.sqlite3")
    try:
        shutil.copyfile(file, draft)
        copying.mark(draft, {backup.MARK: None, backup.CONFIG: None, backup.KEYS: None, **marks(now, found.head.size)})
        copying.check(draft)
        folders.sync_file(draft)
        faults.point("restore.drafted")
        aside = set_aside(place, now)
        faults.point("restore.set_aside")
        draft.replace(place.store)
        folders.sync_folder(place.root)
    except OSError as exc:
        raise StoreError(f"{place.root}: cannot be written: {exc.strerror}", hint="Check the disk and its free space.") from exc
    finally:
        draft.unlink(missing_ok=True)
    return aside


def marks(now: int, size: int) -> dict[str, bytes | None]:
    """Return what a restored store says of itself. now: ms; size: of its own log."""
    packed = codec.encode([now, size])
    return {RESTORED: packed, registrar.UNHEARD: packed}


def set_aside(place: Folder, now: int) -> Path | None:
    """Give the store here another name, its WAL with it: a WAL beside another file would be taken for that file's."""
    aside = place.store.with_name(f"aside-{now}.sqlite3")
    moved = None
    for ending in ("", "-wal", "-shm"):  # in this order: no other store stands beside the WAL at any time
        part = place.store.with_name(place.store.name + ending)
        if part.exists():
            part.replace(aside.with_name(aside.name + ending))
            moved = aside
    return moved


# --- what a restored node does


def is_restored(conn: Connection) -> bool:
    """Tell whether nothing was stated yet since the store was restored."""
    return logs.get_meta(conn, RESTORED) is not None


def renewing(clock: Clock, entropy: Entropy) -> Renew:
    """Return what a ledger does before its first entry after a restore: it goes on in a new incarnation.

    What this store knows of the parent stays: the old log's acknowledgement is not raised by that. The root, which has no parent,
    admits itself.
    """

    def renew(ledger: Ledger, conn: Connection, changes: Changes) -> None:
        if not is_restored(conn):
            return
        old, now = ledger.own_row(conn), clock.wall_ms()
        acked = logs.acks(conn).get(old.id, 0)
        continuity.reincarnate(ledger, conn, changes, old.size, entropy.bytes(16), now)
        logs.save_ack(conn, old.id, acked)
        registrar.admit_own(ledger, conn, changes, now)
        faults.point("restore.renewed")

    return renew
