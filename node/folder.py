"""The data folder of one node: every path in one place, one process at a time, private files written whole or not at all.

    config.toml        settings of this machine; losing it costs the settings
    tongban.sqlite3    everything stated and received; losing it costs what no other machine has yet
    keys/*.seed        private keys; losing them costs a new enrolment, leaking them a revocation
    tls/node.pem       certificate and key of the connection; made anew when it is missing
    run/api.json       where the running node's local API is; of no worth when it stands still
    logs/              what the program did; losing it costs nothing
    ballast            space without content, thrown off when the disk is full; losing it costs nothing
    lock               held by the process that has the folder open

`README.md` repeats this table for administrators. Only `init` and `join` create a folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import filelock

from node import faults
from protocol.errors import InputError, StoreBusy, StoreError

SEED_BYTES: Final = 32
_SEED_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_FILE_MODE: Final = 0o600  # Windows keeps only the write bit; there the user's own folder is the protection
_FOLDER_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class ApiPlace:
    """How commands on this machine reach the running node.

    Attributes:
        pid: of the process, for people; never used to decide whether it lives (the lock does).
        url: "http://127.0.0.1:PORT" of the local API.
        token: sent with every request; whoever can read the file may command the node.
        web: address of the counter's pages; empty when there are none.
    """

    pid: int
    url: str
    token: str
    web: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """Names of everything in a node's folder; touches the disk only in its methods.

    Attributes:
        root: the folder itself.
    """

    root: Path

    @property
    def config(self) -> Path:
        """Settings, TOML."""
        return self.root / "config.toml"

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.root / "tongban.sqlite3"

    @property
    def keys(self) -> Path:
        """Folder of private seeds."""
        return self.root / "keys"

    @property
    def chain(self) -> Path:
        """Chain of the node's keys, from the genesis on; no secret."""
        return self.keys / "chain"

    @property
    def tls(self) -> Path:
        """Certificate and key of the connection, PEM."""
        return self.root / "tls" / "node.pem"

    @property
    def api(self) -> Path:
        """Where the running node's local API is."""
        return self.root / "run" / "api.json"

    @property
    def lock(self) -> Path:
        """Held by the process that has the folder open."""
        return self.root / "lock"

    @property
    def logs(self) -> Path:
        """Folder of log files."""
        return self.root / "logs"

    def seed(self, name: str) -> Path:
        """Path of one private seed, such as "signing" or "sealing"."""
        if not _SEED_NAME.fullmatch(name):
            raise ValueError(f"not a name of a seed: {name!r}")
        return self.keys / f"{name}.seed"

    def exists(self) -> bool:
        """Whether a node lives here: a store, or a key that is about to get one."""
        return self.store.exists() or any(self.keys.glob("*.seed"))

    def create(self) -> None:
        """Make the folder and its rooms, readable by this user only; what is there already stays.

        Raises:
            StoreError: the disk or the rights of this user refuse.
        """
        try:
            for room in (self.root, self.keys, self.tls.parent, self.api.parent, self.logs):
                room.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(
                f"{self.root}: cannot be made: {exc.strerror}", hint="Choose another --data folder."
            ) from exc

    def require(self) -> None:
        """Check that a node lives here.

        Raises:
            InputError: no such folder, or an empty one.
        """
        if not self.exists():
            raise InputError(
                f"{self.root}: no node here", hint="Create one with `init` or `join`, or name it with --data."
            )

    def locked(self) -> FolderLock:
        """Return the lock of this folder, to be used in a `with` block."""
        return FolderLock(self)

    def load_seed(self, name: str) -> bytes:
        """Read a private seed.

        Returns:
            32 bytes.

        Raises:
            StoreError: missing, not readable, or damaged.
        """
        path = self.seed(name)
        try:
            seed = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except OSError as exc:
            raise StoreError(f"{path}: cannot be read: {exc.strerror}", hint="Restore it from the key backup.") from exc
        except ValueError as exc:
            raise StoreError(f"{path}: damaged", hint="Restore it from the key backup.") from exc
        if len(seed) != SEED_BYTES:
            raise StoreError(f"{path}: damaged", hint="Restore it from the key backup.")
        return seed

    def save_seed(self, name: str, seed: bytes) -> None:
        """Write a private seed, once; the same seed again is no change.

        Raises:
            StoreError: another seed has this name already, or the disk refuses.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        path = self.seed(name)
        if path.exists() and self.load_seed(name) != seed:
            raise StoreError(f"{path}: another key has this name", hint="Keys are never overwritten.")
        write_private(path, seed.hex().encode("ascii") + b"\n")

    def destroy_seed(self, name: str) -> None:
        """Overwrite a private seed and take its file away; a missing one is no error.

        Raises:
            StoreError: the disk or the rights of this user refuse.
        """
        path = self.seed(name)
        try:
            with path.open("r+b") as stream:
                stream.write(b"0" * path.stat().st_size)
                stream.flush()
                os.fsync(stream.fileno())
            path.unlink()
            sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise StoreError(f"{path}: cannot be destroyed: {exc.strerror}", hint="Take it away by hand.") from exc

    def save_api(self, place: ApiPlace) -> None:
        """Tell commands on this machine where the local API is."""
        value = {"pid": place.pid, "url": place.url, "token": place.token, "web": place.web}
        write_private(self.api, json.dumps(value).encode("ascii"))

    def load_api(self) -> ApiPlace | None:
        """Read where the local API is; None when no node runs here, or when what it left is not whole.

        The file may have outlived its process: who gets no answer at the address opens the store, where the lock decides.
        """
        try:
            value = json.loads(self.api.read_bytes())
            place = ApiPlace(int(value["pid"]), value["url"], value["token"], value.get("web", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        whole = all(isinstance(text, str) for text in (place.url, place.token, place.web))
        return place if whole else None

    def remove_api(self) -> None:
        """Forget the address; a missing file is no error."""
        with contextlib.suppress(OSError):
            self.api.unlink()


class FolderLock:
    """Holds a node's folder for this process; the system lets go of it however the process ends."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = filelock.FileLock(folder.lock, timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Take the folder.

        Raises:
            StoreBusy: another process has it.
            StoreError: the folder cannot be locked at all.
        """
        try:
            self._lock.acquire()
        except filelock.Timeout as exc:
            raise StoreBusy(f"{self._folder.root}: another process has this node open") from exc
        except (OSError, NotImplementedError) as exc:
            raise StoreError(
                f"{self._folder.root}: cannot be locked: {exc}", hint="Use a folder on a local disk."
            ) from exc

    def release(self) -> None:
        """Let go of the folder; may be called twice."""
        self._lock.release()

    def __enter__(self) -> Self:
        """Take the folder."""
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder."""
        self.release()


def write_private(path: Path, data: bytes) -> None:
    """Replace a file with these bytes, readable by this user only: wholly, or not at all, and durably.

    Raises:
        StoreError: the disk or the rights of this user refuse; the old file stands.
    """
    draft = path.with_name(path.name + ".new")
    try:
        # A crash before the replacement leaves the old file and a draft that the next writing overwrites.
        _write_through(draft, data)
        faults.point("folder.drafted")
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as exc:
        raise StoreError(
            f"{path}: cannot be written: {exc.strerror}", hint="Check the disk and its free space."
        ) from exc


class Draft:
    """A file, perhaps on a stick, that gets its name only when it is whole: written piece by piece beside it, then renamed.

        with Draft(path) as draft:
            draft.write(b"...")     # at the end of the block the file stands; when the block fails, nothing is left

    Raises:
        StoreError: the disk or the stick is full, gone, or refuses; what had the name before stands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Begin; what an earlier try left is overwritten."""
        self._try(self._begin)
        return self

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._try(lambda: self._open.write(data))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or take it away again."""
        if kind is not None:
            self._drop()
            return
        self._try(self._keep)

    @property
    def _open(self) -> BinaryIO:
        if self._stream is None:
            raise ValueError("a draft is written inside its block")
        return self._stream

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as exc:
            self._drop()
            raise StoreError(
                f"{self.path}: cannot be written: {exc.strerror or exc}",
                hint="Look at the free space there, and whether the stick is still in; nothing was left under that name.",
            ) from exc

    def _begin(self) -> None:
        self._stream = self._part.open("wb")

    def _keep(self) -> None:
        # A crash before the replacement leaves a part under another name, which the next try overwrites.
        with self._open as stream:
            stream.flush()
            os.fsync(stream.fileno())
        faults.point("folder.part_written")
        self._part.replace(self.path)
        sync_folder(self.path.parent)

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            if self._stream is not None:
                self._stream.close()
        with contextlib.suppress(OSError):
            self._part.unlink()


def _write_through(path: Path, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # a left draft may have other rights
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), _FILE_MODE)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_file(path: Path) -> None:
    """Make what was written to a file durable."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make a new name durable; Windows does that with the file itself and cannot open folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
