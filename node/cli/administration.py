"""Commands on the node itself: officers, catalogue, calendar, status, checks, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from node.cli import evidence, files, output
from node.cli.clones import clones
from node.cli.execute import execute
from node.cli.options import Command, Commands, Settings, with_settings
from node.cli.program import give

_FILE: Final = click.argument("file", type=click.Path(path_type=Path))
_DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="只检查 · only check the file")


class Kept:
    """Keeps the one answer of a command (`local_client.Sink`)."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON is any value
        """Keep it."""
        self.values.append(value)

    def row(self, row: Any) -> None:  # noqa: ANN401 - the same
        """Keep it."""
        self.values.append(row)


@click.group("officer", cls=Commands)
def officer() -> None:
    """人员 · Officers of this node."""


@officer.command("add")
@click.argument("officer_id", metavar="ID")
@click.option("--name", required=True, metavar="N", help="姓名 · name")
@click.option("--post", metavar="P", help="岗位 · post")
@with_settings
def officer_add(settings: Settings, officer_id: str, name: str, post: str | None) -> int:
    """新增 · Add an officer, or change name and post."""
    return give(settings, "officer.add", id=officer_id, name=name, post=post)


@officer.command("retire")
@click.argument("officer_id", metavar="ID")
@with_settings
def officer_retire(settings: Settings, officer_id: str) -> int:
    """停用 · Let an officer act no longer; what was done stays."""
    return give(settings, "officer.retire", id=officer_id)


@officer.command("list")
@with_settings
def officer_list(settings: Settings) -> int:
    """列出 · List officers."""
    return give(settings, "officer.list")


@click.group("catalogue", cls=Commands)
def catalogue() -> None:
    """事项目录 · What people can apply for."""


@catalogue.command("publish")
@_FILE
@_DRY_RUN
@with_settings
def catalogue_publish(settings: Settings, file: Path, dry_run: bool) -> int:
    """发布 · Publish a catalogue file; see docs/FORMATS.md."""
    items = files.read_catalogue(file)
    if dry_run and not settings.data:
        return _shown(settings, "catalogue.publish", {"items": len(items), "dry_run": True})
    parts = [{"items": part, "where": str(file)} for part in files.in_parts(items)]
    if len(parts) > 1:  # one refusal must not leave half of a file published
        _answers(settings, "catalogue.publish", [{**part, "dry_run": True} for part in parts])
    answers = _answers(settings, "catalogue.publish", [{**part, "dry_run": dry_run} for part in parts])
    return _shown(settings, "catalogue.publish", files.merged(answers))


@catalogue.command("list")
@with_settings
def catalogue_list(settings: Settings) -> int:
    """列出 · List the items held here."""
    return give(settings, "catalogue.list")


@click.group("calendar", cls=Commands)
def calendar() -> None:
    """工作日历 · Working days."""


@calendar.command("publish")
@_FILE
@_DRY_RUN
@with_settings
def calendar_publish(settings: Settings, file: Path, dry_run: bool) -> int:
    """发布 · Publish a calendar file; see docs/FORMATS.md."""
    stated = files.read_calendar(file)
    if dry_run and not settings.data:
        return _shown(settings, "calendar.publish", {"region": stated["region"], "dry_run": True})
    return give(settings, "calendar.publish", calendar=stated, where=str(file), dry_run=dry_run)


@calendar.command("list")
@with_settings
def calendar_list(settings: Settings) -> int:
    """列出 · List the calendars held here."""
    return give(settings, "calendar.list")


@click.command("status", cls=Command)
@with_settings
def status(settings: Settings) -> int:
    """状况 · Who this node is, what is safe where, how its children stand."""
    return give(settings, "status")


@click.command("verify", cls=Command)
@click.option(
    "--evidence",
    "evidence_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="证据文件 · check an evidence file instead; needs no node",
)
@with_settings
def verify(settings: Settings, evidence_file: Path | None) -> int:
    """核验 · Check all logs, signatures and receipts held here."""
    return give(settings, "verify") if evidence_file is None else evidence.check(settings, evidence_file)


@click.command("rebuild", cls=Command)
@with_settings
def rebuild(settings: Settings) -> int:
    """重建 · Build all case states anew from their entries and compare."""
    return give(settings, "rebuild")


@click.command("export", cls=Command)
@click.option("--entries", is_flag=True, required=True, help="逐条 · one JSON object an entry")
@with_settings
def export(settings: Settings, entries: bool) -> int:
    """导出 · Write all case entries held here as JSON lines."""
    if not entries:
        raise click.UsageError("Say what to export: --entries.")
    return give(settings, "export", entries=True)


ALL: Final = (officer, catalogue, calendar, status, verify, evidence.evidence, clones, rebuild, export)


def _answers(settings: Settings, name: str, given: list[dict[str, object]]) -> list[Any]:
    kept = Kept()
    for params in given:
        execute(settings, name, params, kept)
    return kept.values


def _shown(settings: Settings, name: str, value: Any) -> int:  # noqa: ANN401 - JSON is any value
    printer = output.Printer(settings, name)
    printer.value(value)
    return printer.finish()
