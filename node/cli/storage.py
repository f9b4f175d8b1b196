"""Commands on the store itself: back it up, put a backup in its place, go over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from node.cli import output
from node.cli.administration import Kept
from node.cli.execute import execute, timed
from node.cli.options import ADDRESS, NODE, Command, Settings, with_settings
from node.cli.program import give
from node.config import Config
from node.folder import Draft, Folder
from node.system import SystemClock, SystemEntropy
from protocol.errors import InputError

PASSPHRASE_BYTES_MAX: Final = 1_024
ENTROPY_BYTES: Final = 48

PASSPHRASE: Final = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="F",
    help="口令文件 · its first line is the passphrase; else it is asked for",
)


@click.command("backup", cls=Command)
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--with-key", is_flag=True, help="含私钥 · also the private keys, sealed by a passphrase")
@PASSPHRASE
@with_settings
def backup(settings: Settings, target: Path, with_key: bool, passphrase_file: Path | None) -> int:
    """备份 · Back the store up into a new file, or into a folder, while the node works on."""
    settings.folder.require()
    sealed = _sealed(settings.folder, passphrase_of(passphrase_file, confirm=True)) if with_key else None
    return give(settings, "backup", _registered, to=str(target.absolute()), config=_config(settings.folder), keys=sealed)


@click.command("restore", cls=Command)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--replace", is_flag=True, help="替换 · also where a whole store is; it is kept aside")
@click.option("--without-store", is_flag=True, help="无备份 · only the key is left: begin anew, be filled by the others; FILE is from `vouch`")
@click.option("--parent", type=ADDRESS, metavar="H:P", help="上级地址 · where the parent answers, if config.toml is lost too")
@PASSPHRASE
@with_settings
def restore(settings: Settings, file: Path | None, replace: bool, without_store: bool, parent: str | None, passphrase_file: Path | None) -> int:
    """恢复 · Put a backup in the place of a lost or damaged store; the node must not be running."""
    if without_store:
        return _begin_anew(settings, file, parent, replace=replace)
    if file is None or parent is not None:
        raise click.UsageError("Missing argument 'FILE'." if file is None else "--parent goes with --without-store.")
    from node import restore as restoring  # noqa: PLC0415 - a command that needs no store loads none

    folder = settings.folder
    folder.create()
    with folder.locked():
        found = restoring.restore(
            folder,
            file.absolute(),
            SystemClock(),
            replace=replace,
            passphrase=lambda: passphrase_of(passphrase_file, confirm=False),
        )
    printer = output.Printer(settings, "restore")
    printer.value(found)
    return printer.finish()


@click.command("scrub", cls=Command)
@with_settings
def scrub(settings: Settings) -> int:
    """巡检 · Check all that is held, and fetch again from the parent what the disk has changed."""
    return give(settings, "scrub", _registered_with_settings)


@click.command("vouch", cls=Command)
@click.argument("node", type=NODE)
@click.argument("file", type=click.Path(path_type=Path))
@with_settings
def vouch(settings: Settings, node: str, file: Path) -> int:
    """作证 · Write a file for a node above or below that has lost its store, but not its key; no secret is in it."""
    kept = Kept()
    execute(settings, "vouch", {"node": node}, kept, _vouching)
    (value,) = kept.values
    with Draft(file.absolute()) as draft:
        draft.write(bytes.fromhex(value["data"]))
    printer = output.Printer(settings, "vouch")
    printer.value({"node": value["node"], "file": str(file.absolute())})
    return printer.finish()


ALL: Final = (backup, restore, scrub, vouch)


def _begin_anew(settings: Settings, file: Path | None, parent: str | None, *, replace: bool) -> int:
    from node import anew  # noqa: PLC0415 - a command that needs no store loads none

    folder = settings.folder
    folder.create()
    with folder.locked():
        work = anew.begin_anew(folder, SystemClock(), SystemEntropy(), file=file, parent=parent, replace=replace)
        found = timed(work, settings.timeout_s)
    printer = output.Printer(settings, "restore")
    printer.value(found)
    return printer.finish()


def _vouching(_: Config) -> Mapping[str, object]:
    """Register the operation, where no node runs that has it."""
    from node import anew as _anew  # noqa: F401, PLC0415 - registers

    return {}


def _registered(_: Config) -> Mapping[str, object]:
    """Register the operations, where no node runs that has them."""
    from node import upkeep as _upkeep  # noqa: F401, PLC0415 - registers

    return {}


def _registered_with_settings(found: Config) -> Mapping[str, object]:
    return {**_registered(found), "settings": found}


def _config(folder: Folder) -> str | None:
    try:
        return folder.config.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None


def _sealed(folder: Folder, passphrase: str) -> str:
    from node.backup import seal_keys  # noqa: PLC0415 - as above

    seeds = {path.stem: folder.load_seed(path.stem) for path in sorted(folder.keys.glob("*.seed"))}
    return seal_keys(seeds, passphrase, SystemEntropy().bytes(ENTROPY_BYTES)).hex()


def passphrase_of(file: Path | None, *, confirm: bool) -> str:
    """Return a passphrase: the first line of a file, or asked for; never from the arguments, which others can read."""
    if file is None:
        return str(click.prompt("口令 · passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
    try:
        with file.open("rb") as stream:
            lines = stream.read(PASSPHRASE_BYTES_MAX).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{file}: cannot be read as a passphrase", hint="A text file; its first line counts.") from exc
    return lines[0].strip() if lines else ""
