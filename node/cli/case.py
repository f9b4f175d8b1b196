"""Commands on cases: one small function each. What they may do is decided in `node.office`; here words become options.

CASE is a number, a key, or a unique beginning of a key of at least 8 digits; it is passed on as typed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from node.cli import files
from node.cli.options import DAY, NODE, Commands, Settings, parse_pairs, parse_task, with_settings
from node.cli.program import give
from protocol import limits
from protocol.transitions import STATE_WORDS

STATES: Final = tuple(dict.fromkeys(word for word in STATE_WORDS.values() if word != "void"))
LIST_LIMIT: Final = 100
LIST_LIMIT_MAX: Final = 10_000

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_case: Final = click.argument("case")
_reason: Final = click.option("--reason", required=True, metavar="R", help="理由 · why")


@click.group("case", cls=Commands)
def case() -> None:
    """办件 · Take cases in, advance them, hand them over, look at them."""


@case.command("open")
@click.option("--item", required=True, metavar="I", help="事项编码 · code of the catalogue item")
@click.option("--applicant", required=True, metavar="N", help="申请人 · name of the applicant")
@click.option("--id-number", required=True, metavar="ID", help="证件号 · number of the applicant's identity document")
@click.option("--handler", type=NODE, metavar="NODE", help="办理单位 · who decides; else as the item says")
@click.option("--field", "fields", multiple=True, metavar="K=V", help="表单 · one answer of the form; repeatable")
@click.argument("more", nargs=-1, metavar="[K=V]...")
@with_settings
def open_(
    settings: Settings,
    item: str,
    applicant: str,
    id_number: str,
    handler: str | None,
    fields: tuple[str, ...],
    more: tuple[str, ...],
) -> int:
    """收件 · Take a case in."""
    form = parse_pairs((*fields, *more), "--field")
    return give(settings, "case.open", item=item, applicant=applicant, id_number=id_number, handler=handler, field=form)


@case.command()
@_case
@click.option("--lacking", multiple=True, metavar="T", help="容缺受理 · a material that may follow; repeatable")
@with_settings
def accept(settings: Settings, case: str, lacking: tuple[str, ...]) -> int:
    """受理 · Accept: the clock starts."""
    return give(settings, "case.accept", case=case, lacking=list(lacking))


@case.command()
@_case
@click.option("--kind", required=True, type=click.Choice(["4", "5"]), help="4 不予受理 · 5 不属于本部门")
@_reason
@with_settings
def refuse(settings: Settings, case: str, kind: str, reason: str) -> int:
    """不予受理 · Refuse to accept."""
    return give(settings, "case.refuse", case=case, kind=int(kind), reason=reason)


@case.command()
@_case
@click.option(
    "--missing", required=True, multiple=True, metavar="T...", help="所缺材料 · a missing material; repeatable"
)
@click.argument("more", nargs=-1, metavar="")
@with_settings
def notice(settings: Settings, case: str, missing: tuple[str, ...], more: tuple[str, ...]) -> int:
    """一次性告知 · Tell once all that is missing."""
    return give(settings, "case.notice", case=case, missing=[*missing, *more])


@case.command()
@_case
@click.option(
    "--material",
    "materials",
    required=True,
    multiple=True,
    metavar="NAME[=FILE]...",
    help="材料 · a material, with its file if there is one; repeatable",
)
@click.argument("more", nargs=-1, metavar="")
@with_settings
def supplement(settings: Settings, case: str, materials: tuple[str, ...], more: tuple[str, ...]) -> int:
    """补交材料 · Hand materials in, at any party's counter."""
    return give(settings, "case.supplement", case=case, material=files.read_materials((*materials, *more)))


@case.command()
@_case
@click.argument("stage")
@click.option("--to", multiple=True, metavar="TASK=NODE[/UNIT]...", help="分给谁 · whose task; else as the item says")
@click.argument("more", nargs=-1, metavar="")
@with_settings
def dispatch(settings: Settings, case: str, stage: str, to: tuple[str, ...], more: tuple[str, ...]) -> int:
    """分派 · Give a stage's tasks to departments, which work side by side."""
    targets = [list(parse_task(text)) for text in (*to, *more)]
    return give(settings, "case.dispatch", case=case, stage=stage, to=targets)


@case.command()
@_case
@click.argument("task")
@click.option("--result", required=True, type=click.Choice(["pass", "fail"]), help="结论 · the department's result")
@with_settings
def task(settings: Settings, case: str, task: str, result: str) -> int:
    """部门意见 · State the result of an own task."""
    return give(settings, "case.task", case=case, task=task, result=result)


@case.command()
@_case
@click.option("--kind", required=True, metavar="K", help="特别程序种类 · hearing, inspection, expert review …")
@_reason
@with_settings
def suspend(settings: Settings, case: str, kind: str, reason: str) -> int:
    """暂停 · Stop the clock."""
    return give(settings, "case.suspend", case=case, kind=kind, reason=reason)


@case.command()
@_case
@with_settings
def resume(settings: Settings, case: str) -> int:
    """恢复 · Let the clock go on."""
    return give(settings, "case.resume", case=case)


@case.command()
@_case
@click.option(
    "--days",
    required=True,
    type=click.IntRange(1, limits.WORKING_DAYS_MAX),
    metavar="N",
    help="工作日 · working days added",
)
@_reason
@with_settings
def extend(settings: Settings, case: str, days: int, reason: str) -> int:
    """延期 · Extend the limit."""
    return give(settings, "case.extend", case=case, days=days, reason=reason)


@case.command()
@_case
@click.option("--result", required=True, type=click.Choice(["grant", "partial", "deny"]), help="决定 · the outcome")
@_reason
@with_settings
def decide(settings: Settings, case: str, result: str, reason: str) -> int:
    """决定 · Decide."""
    return give(settings, "case.decide", case=case, result=result, reason=reason)


@case.command()
@_case
@with_settings
def finish(settings: Settings, case: str) -> int:
    """办结 · Finish."""
    return give(settings, "case.finish", case=case)


@case.command()
@_case
@_reason
@with_settings
def revoke(settings: Settings, case: str, reason: str) -> int:
    """撤销 · Take a decision back."""
    return give(settings, "case.revoke", case=case, reason=reason)


@case.command()
@_case
@click.option("--how", required=True, type=click.Choice(["window", "post"]), help="送达方式 · at the window or by post")
@click.option("--tracking", metavar="N", help="运单号 · tracking number of the post")
@with_settings
def deliver(settings: Settings, case: str, how: str, tracking: str | None) -> int:
    """送达 · Hand the result over to the applicant."""
    return give(settings, "case.deliver", case=case, how=how, tracking=tracking)


@case.command()
@_case
@_reason
@with_settings
def withdraw(settings: Settings, case: str, reason: str) -> int:
    """申请撤回 · Withdraw at the applicant's wish; at another counter a request to the holder."""
    return give(settings, "case.withdraw", case=case, reason=reason)


@case.command()
@_case
@click.argument("changes", nargs=-1, required=True, metavar="K=V...")
@_reason
@with_settings
def correct(settings: Settings, case: str, changes: tuple[str, ...], reason: str) -> int:
    """更正 · Correct a typing error; the old value stays visible."""
    return give(settings, "case.correct", case=case, field=parse_pairs(changes, "K=V"), reason=reason)


@case.command()
@_case
@click.argument("text")
@with_settings
def note(settings: Settings, case: str, text: str) -> int:
    """备注 · Write a note."""
    return give(settings, "case.note", case=case, text=text)


@case.command()
@_case
@click.option("--to", type=NODE, metavar="NODE", help="移交给 · to whom; else to the item's handler")
@with_settings
def offer(settings: Settings, case: str, to: str | None) -> int:
    """移交 · Offer the case to another node."""
    return give(settings, "case.offer", case=case, to=to)


@case.command()
@_case
@with_settings
def take(settings: Settings, case: str) -> int:
    """接收 · Take an offered case over."""
    return give(settings, "case.take", case=case)


@case.command("return")
@_case
@_reason
@with_settings
def return_(settings: Settings, case: str, reason: str) -> int:
    """退回 · Give an offered case back."""
    return give(settings, "case.return", case=case, reason=reason)


@case.command()
@_case
@click.option("--after", metavar="ENTRY", help="接在哪条之后 · the entry after which it goes on, hex; else the newest")
@_reason
@with_settings
def reclaim(settings: Settings, case: str, after: str | None, reason: str) -> int:
    """上级收回 · Take a case back from a node below."""
    return give(settings, "case.reclaim", case=case, after=after, reason=reason)


@case.command()
@_case
@click.argument("entries", nargs=-1, required=True, metavar="ENTRY...")
@with_settings
def adopt(settings: Settings, case: str, entries: tuple[str, ...]) -> int:
    """追认 · Vouch for entries that came late or stand behind a revocation, by their links in hex."""
    return give(settings, "case.adopt", case=case, entries=entries)


@case.command("list")
@click.option("--state", type=click.Choice(STATES), help="状态 · only cases in this state")
@click.option("--holder", type=NODE, metavar="NODE", help="现办单位 · only cases that this node holds")
@click.option("--item", metavar="I", help="事项 · only cases of this item")
@click.option("--find", metavar="NAME", help="姓名 · part of the applicant's name, one character is enough")
@click.option(
    "--limit",
    type=click.IntRange(1, LIST_LIMIT_MAX),
    default=LIST_LIMIT,
    show_default=True,
    metavar="N",
    help="最多几件 · at most this many",
)
@click.option("--after", metavar="KEY", help="从哪件之后 · key of the last case of the page before")
@with_settings
def list_(
    settings: Settings,
    state: str | None,
    holder: str | None,
    item: str | None,
    find: str | None,
    limit: int,
    after: str | None,
) -> int:
    """列出 · List cases, newest first."""
    return give(settings, "list", state=state, holder=holder, item=item, find=find, limit=limit, after=after)


@case.command()
@_case
@click.option("--as-of", type=DAY, metavar="DATE", help="截至日期 · limits as they stand on this day")
@with_settings
def show(settings: Settings, case: str, as_of: str | None) -> int:
    """查看 · Show a case with every step, its officer and its time."""
    return give(settings, "show", case=case, as_of=as_of)
