"""The program `tongban`: the commands of one node, and those that make and run a network.

    main()        # reads sys.argv, ends the process with 0 done, 1 refused, 2 usage, config or input file, 3 try later

`hub.commands` makes folders (init, join) and registers `invite` and `sync` with `node.operations`; `hub.service` runs a node.
They are imported when a command needs them, by the functions at the end, so that help starts fast.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import click

from node import config, console, logs
from node.cli import administration, case, keys, output, storage
from node.cli import service as services
from node.cli.execute import patiently, prepared, timed
from node.cli.options import ADDRESS, LISTEN, NODE, Commands, Settings, with_settings
from node.cli.process import run_until_stopped
from node.cli.program import NAME, Program, give
from node.folder import Folder
from node.system import SystemClock, SystemEntropy
from node.texts import t
from node.watchdog import Notifier
from protocol import limits
from protocol.errors import InputError

if TYPE_CHECKING:
    from node.node import Node  # brings the store along

EXPIRES_H: Final = 168  # a week: a village machine is set up when somebody drives there
SYNC_TIMEOUT_S: Final = 60.0
JOIN_TIMEOUT_S: Final = 30.0
GRACE_S: Final = 5.0  # beyond the time that an operation keeps itself
CODE_CHARS_MAX: Final = 4_096

_LISTEN: Final = click.option("--listen", type=LISTEN, metavar="H:P", help="监听地址 · where it answers other nodes")
_ADVERTISE: Final = click.option(
    "--advertise", type=ADDRESS, metavar="H:P", help="对外地址 · where others reach it; else the listen address"
)

EPILOG: Final = (
    "CASE 办件 is a number, a key, or a unique beginning of a key (8 or more). The options above may stand before or after "
    "a command. Exit code: 0 done, 1 refused or problems found, 2 usage, config or input file, 3 try later."
)

main = Program(
    NAME,
    help="通办 · Take cases in at any counter, decide them where they belong, lose nothing on the way.",
    epilog=EPILOG,
    hide_globals=False,
    commands=[case.case, *administration.ALL, *storage.ALL, *keys.ALL, services.service],
)
for _name in ("list", "show"):  # what is asked most, also without `case` before it
    main.add_command(case.case.commands[_name])


@main.command()
@click.option("--division", required=True, type=NODE, metavar="CODE", help="区划代码 · the root's 12-digit code")
@click.option("--name", required=True, metavar="N", help="名称 · name of the network")
@_LISTEN
@_ADVERTISE
@click.option(
    "--recovery-keys", "recovery", type=int, default=1, show_default=True, metavar="N", help="恢复密钥数 · recovery keys to print"
)
@click.option(
    "--threshold", type=int, default=1, show_default=True, metavar="K", help="恢复所需数 · how many of them replace the root's key"
)
@with_settings
def init(settings: Settings, /, **options: Any) -> int:  # noqa: ANN401 - click's own
    """建网 · Found a new network: this machine becomes its root."""
    shown: list[int] = []
    work = _commands().init(
        settings.folder,
        SystemClock(),
        SystemEntropy(),
        show=lambda value: shown.append(_show(settings, "init", value)),
        **options,
    )
    timed(work, settings.timeout_s)
    return shown[0]


@main.command()
@with_settings
def recover(settings: Settings) -> int:
    """恢复根密钥 · Give the root a new key with its recovery keys: one a line on standard input, then an empty line."""
    work = _commands().recover(settings.folder, SystemClock(), SystemEntropy(), seeds=_lines_of_secrets())
    return _show(settings, "recover", timed(work, settings.timeout_s))


@main.command()
@click.argument("node", type=NODE)
@click.option("--name", metavar="N", help="名称 · name of the new node")
@click.option("--parent", type=NODE, metavar="NODE", help="上级 · its parent; else this node")
@click.option(
    "--expires-h",
    type=click.IntRange(1, limits.INVITE_HOURS_MAX),
    default=EXPIRES_H,
    show_default=True,
    metavar="N",
    help="有效小时 · hours for which the code is good",
)
@click.option("--again", is_flag=True, help="重新加入 · for the new machine of a node that is here: the old key is cut off")
@with_settings
def invite(settings: Settings, node: str, name: str | None, parent: str | None, expires_h: int, again: bool) -> int:
    """邀请 · Make a one-time joining code for a new machine below."""
    if not again and name is None:
        raise click.UsageError("Missing option '--name'.")
    params = {"node": node, "name": name, "parent": parent, "expires_h": expires_h, "again": again or None}
    return give(settings, "invite", lambda found: {"addresses": _commands().default_address(found)}, **params)


@main.command()
@click.argument("joincode")
@_LISTEN
@_ADVERTISE
@click.option("--proxy", metavar="URL", help="代理 · http://HOST:PORT of a proxy on the way to the parent")
@with_settings
def join(settings: Settings, joincode: str, listen: str | None, advertise: str | None, proxy: str | None) -> int:
    """加入 · Join a network with a code; give the same command again when the parent is not there yet."""
    if len(joincode) > CODE_CHARS_MAX:
        raise InputError(f"a joining code has at most {CODE_CHARS_MAX} characters")
    timeout_s = settings.timeout_s or JOIN_TIMEOUT_S
    work = _commands().join(
        settings.folder,
        SystemClock(),
        SystemEntropy(),
        code=joincode,
        listen=listen,
        advertise=advertise,
        proxy=proxy,
        timeout_s=timeout_s,
    )
    return _show(settings, "join", timed(work, timeout_s + GRACE_S))


@main.command()
@with_settings
def run(settings: Settings) -> int:
    """运行 · Run the node until Ctrl-C or SIGTERM; the first line says where."""
    folder = settings.folder
    folder.require()
    found = config.load(folder.config)
    logs.configure(found.log, folder.root)
    try:
        patiently(folder, lambda: _serve(settings, folder, found))
    finally:
        logs.shutdown()
    return output.EXIT_DONE


@main.command()
@with_settings
def sync(settings: Settings) -> int:
    """同步 · Send all that was written here and fetch all that waits above; exit 3 while the line is cut."""
    timeout_s = settings.timeout_s or SYNC_TIMEOUT_S
    patient = replace(settings, timeout_s=timeout_s + GRACE_S)  # the operation keeps the time, and says what is missing
    return give(patient, "sync", _sync_settings, timeout_s=timeout_s)


@main.group("carry", cls=Commands)
def carried() -> None:
    """携带 · Sync by a file on a stick, where there is no line."""


@carried.command("out")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", type=NODE, metavar="NODE", help="交给谁 · the parent (default), another node above, or a child")
@click.option("--all", "whole", is_flag=True, help="从头全部 · everything, for a node that was put back from an old copy")
@with_settings
def carry_out(settings: Settings, file: Path, to: str | None, whole: bool) -> int:
    """写出 · Write what another node lacks into FILE (or a folder), sealed so that only that node can open it."""
    return int(_carry().carry_out(settings, file, {"to": to, "all": whole or None}, _registered))


@carried.command("in")
@click.argument("file", type=click.Path(path_type=Path))
@with_settings
def carry_in(settings: Settings, file: Path) -> int:
    """收入 · Take in a file that another node wrote for this one; the same file again changes nothing."""
    return int(_carry().carry_in(settings, file, _registered))


@main.command()
@click.option("--keep", is_flag=True, help="保留运行 · leave the network running, in --data DIR or ./.demo")
@click.option(
    "--seed",
    type=click.IntRange(0, 1 << 32),
    default=1,
    show_default=True,
    metavar="N",
    help="随机种子 · changes the story",
)
@click.option("--stop", is_flag=True, help="停止 · stop a network that was left running, in --data DIR or ./.demo")
@with_settings
def demo(settings: Settings, keep: bool, seed: int, stop: bool) -> int:
    """演示 · Start ten nodes on this machine, tell their story, and check it."""
    options = {"keep": keep, "seed": seed, "stop": stop, "data": settings.data}
    options |= {"json": settings.as_json, "lang": settings.lang}
    return _show(settings, "demo", _done("hub.demo", options))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--map", "map_file", required=True, type=click.Path(path_type=Path), metavar="MAP", help="对照表 · map file"
)
@click.option(
    "--network", type=click.Path(path_type=Path), metavar="DIR", help="演示网络 · of a kept demo: its nodes take turns"
)
@click.option("--dry-run", is_flag=True, help="只检查 · only check map and log")
@with_settings
def replay(settings: Settings, file: Path, map_file: Path, network: Path | None, dry_run: bool) -> int:
    """回放 · Take an event log of another system in; may be given again after a stop."""
    if network is None and not settings.data:
        raise InputError("no node is named", hint="Add --data DIR for one node, or --network DIR for a kept demo.")
    options = {
        "file": file,
        "map": map_file,
        "network": network,
        "dry_run": dry_run,
        "data": settings.data,
        "json": settings.as_json,
    }
    return _show(settings, "replay", _done("hub.replay", options))


@main.group(cls=Commands)
def move() -> None:
    """搬迁 · Move this node to another machine."""


@move.command("out")
@click.argument("file", type=click.Path(path_type=Path))
@storage.PASSPHRASE
@with_settings
def move_out(settings: Settings, file: Path, passphrase_file: Path | None) -> int:
    """移出 · Send what waits, seal this machine's store for ever, and write all of it into a file under a passphrase."""
    timeout_s = settings.timeout_s or JOIN_TIMEOUT_S
    options = {"file": file, "passphrase": storage.passphrase_of(passphrase_file, confirm=True), "timeout_s": timeout_s}
    work = _commands().move_out(settings.folder, SystemClock(), SystemEntropy(), **options)
    return _show(settings, "move.out", timed(work, None))


@move.command("in")
@click.argument("file", type=click.Path(path_type=Path))
@storage.PASSPHRASE
@with_settings
def move_in(settings: Settings, file: Path, passphrase_file: Path | None) -> int:
    """移入 · Make this machine the node that a file holds; then `tongban run`."""
    passphrase = storage.passphrase_of(passphrase_file, confirm=False)
    return _show(settings, "move.in", _commands().move_in(settings.folder, SystemClock(), file=file, passphrase=passphrase))


def _lines_of_secrets() -> list[str]:
    """Read lines that nobody should see, up to an empty one; never from the arguments, which others on the machine can read."""
    found: list[str] = []
    while len(found) < limits.RECOVERY_KEYS_MAX:
        if sys.stdin.isatty():
            line = str(click.prompt(f"{len(found) + 1}", default="", hide_input=True, show_default=False, err=True))
        else:
            line = sys.stdin.readline()
        if not line.strip():
            break
        found.append(line.strip())
    return found


def _serve(settings: Settings, folder: Folder, found: config.Config) -> None:
    from hub import service  # noqa: PLC0415 - see the top of this file

    clock, entropy = SystemClock(), SystemEntropy()
    run_until_stopped(
        lambda stop: service.run(
            folder,
            found,
            clock,
            entropy,
            lambda ready: console.write_json(ready.as_dict()),
            stop,
            Notifier.of(os.environ),
        ),
        on_stop=lambda: None if settings.as_json else console.write_message(t("run.stopping", settings.lang)),
    )


def _sync_settings(found: config.Config) -> dict[str, object]:
    """Return what `sync` needs where no node runs; a running one has its uplink."""
    _commands()  # registers the operation
    return {"settings": found}


def _mark_feeds(node: Node) -> None:
    """Let a node that stands still write down what its children must be told of a command."""
    from hub import feeds  # noqa: PLC0415 - see the top of this file

    feeds.attach(node)


def _know_evidence(_: Node) -> None:
    """Register `evidence list` and `evidence export` where no node runs."""
    from hub import evidence as _evidence  # noqa: F401, PLC0415 - see the top of this file


prepared.extend((_mark_feeds, _know_evidence))


def _registered(_: config.Config) -> dict[str, object]:
    """Register the operations of a hub, where no node runs; they need nothing of its settings."""
    _commands()
    return {}


def _carry() -> ModuleType:
    from node.cli import carry  # noqa: PLC0415 - see the top of this file

    return carry


def _commands() -> ModuleType:
    from hub import commands  # noqa: PLC0415 - see the top of this file

    return commands


def _done(module: str, options: Mapping[str, object]) -> object:
    """Run a long piece of work: `run(options)` of a module, plain or a coroutine, which shows its own progress.

    Returns:
        Its result, or rows of a result; None when it has shown them itself.
    """
    result = importlib.import_module(module).run(options)
    return timed(result, None) if inspect.iscoroutine(result) else result


def _show(settings: Settings, name: str, value: Any) -> int:  # noqa: ANN401 - JSON is any value
    if value is None:  # it showed its answer itself, row by row
        return output.EXIT_DONE
    printer = output.Printer(settings, name)
    printer.value(value)
    return printer.finish()


if __name__ == "__main__":
    main()
