"""Answers in words, from the same values that `--json` shows.

A command of its own form has a function here; every other value is shown as its keys and values, rows as a table. Words come
from `node.texts`; a key that has no column head there is shown as it is in the JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from node import console
from node.texts import TEXTS, t
from protocol import limits

Value = Mapping[str, Any]

_SHORT_TIME: Final = slice(0, 19)  # without ms and zone, which is always +08:00
_GIB: Final = 1 << 30
_MIB: Final = 1 << 20
_DAYS_MAX: Final = 9_999  # shown: beyond that nobody counts
_PLACES_MAX: Final = 50  # problems shown in words; --json has them all


def in_words(name: str, value: Any, lang: str) -> str:  # noqa: ANN401 - JSON is any value
    """Return one result as lines for people.

    Args:
        name: of the command, as in `node.operations`.
        value: its result.
        lang: "zh" or "en".
    """
    if not isinstance(value, Mapping):
        return str(value)
    shown = _SHOWN.get(name)
    if shown is not None:
        return shown(value, lang)
    if name.startswith("case.") and "case" in value and "safety" in value:
        return _case_done(name.removeprefix("case."), value, lang)
    return _pairs(value)


def rows_in_words(rows: Sequence[Value], lang: str) -> str:
    """Return rows as one table; a column that is empty in all rows is left out."""
    keys = [
        key for key in dict.fromkeys(key for row in rows for key in row) if any(_is_shown(row.get(key)) for row in rows)
    ]
    cells = [[_cell(key, row.get(key), lang) for key in keys] for row in rows]
    return console.table([_head(key, lang) for key in keys], cells)


def _case_done(step: str, value: Value, lang: str) -> str:
    return t(
        "case.done",
        lang,
        number=value["case"],
        step=_text(f"step.{step}", lang, step),
        safety=_text(f"safety.{value['safety']}", lang, str(value["safety"])),
    )


def _init(value: Value, lang: str) -> str:
    recovery = value.get("recovery") or []
    keys = recovery if isinstance(recovery, list) else [recovery]
    return "\n".join(
        [
            t("init.done", lang, network=value.get("network"), node=value.get("node")),
            str(value.get("root_fingerprint", "")),
            t("init.recovery", lang),
            *(f"  {key}" for key in keys),
        ]
    )


def _invite(value: Value, lang: str) -> str:
    code = str(value.get("code", ""))
    said = t("invite.done", lang, expires=str(value.get("expires", ""))[_SHORT_TIME])
    return "\n".join([said, f"  tongban join --data DIR {code}", _picture(code)]).rstrip()


def _picture(code: str) -> str:
    """Return the code to be photographed; nothing where the console lacks the blocks, as on code page 936."""
    drawn = console.qr(code) if code else ""
    try:
        drawn.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ""
    return drawn


def _key_show(value: Value, lang: str) -> str:
    return f"{value.get('node')}  {value.get('fingerprint')}\n{rows_in_words(value.get('keys') or [], lang)}".rstrip()


def _key_replaced(value: Value, lang: str) -> str:
    said = t("key.replaced", lang, node=value.get("node"), fingerprint=value.get("fingerprint"))
    return f"{said}\n{t('key.kept', lang)}" if value.get("kept") else said


def _revoke(value: Value, lang: str) -> str:
    told = "revoke.proposed" if value.get("dry_run") else "revoke.done"
    counts = {"fingerprint": value.get("fingerprint"), "count": value.get("without_effect", 0)}
    said = t(told, lang, node=value.get("node"), **counts)
    return f"{said}\n{rows_in_words(value.get('cuts') or [], lang)}".rstrip()


def _retire(value: Value, lang: str) -> str:
    found = value.get("open_cases") or []
    said = t("retire.done", lang, node=value.get("node"), count=len(found))
    return f"{said}\n{rows_in_words(found, lang)}".rstrip()


def _move_out(value: Value, lang: str) -> str:
    return t("move.out", lang, file=value.get("file"), count=value.get("unsent", 0))


def _move_in(value: Value, lang: str) -> str:
    return t("move.in", lang, node=value.get("node"))


def _join(value: Value, lang: str) -> str:
    return t("join.done", lang, node=value.get("node"), parent=value.get("parent"))


def _sync(value: Value, lang: str) -> str:
    return t("sync.done", lang, acked=value.get("acked", 0), pulled=value.get("pulled", 0))


def _carry_out(value: Value, lang: str) -> str:
    return t("carry.out", lang, file=value.get("file"), entries=value.get("entries", 0), to=value.get("to"))


def _carry_in(value: Value, lang: str) -> str:
    sender, made_at = value.get("from"), str(value.get("made_at", ""))[_SHORT_TIME]
    if not value.get("changed"):
        return t("carry.same", lang, sender=sender, made_at=made_at)
    entries, known = value.get("entries", 0), value.get("known", 0)
    lines = [t("carry.in", lang, sender=sender, made_at=made_at, entries=entries, known=known)]
    told = {"carry.rules": "registers", "carry.stated": "stated", "carry.acked": "acked", "carry.forks": "forks"}
    lines += [
        t("carry.receipt", lang, node=one["node"], at=str(one["at"])[_SHORT_TIME]) for one in value.get("receipts") or []
    ]
    lines += [t(text, lang, count=value[key], sender=sender) for text, key in told.items() if value.get(key)]
    return "\n".join(lines)


def _clones(value: Value, lang: str) -> str:
    """What is known of a second machine, what to do, and the children that are under suspicion."""
    key = "clones.retired" if value.get("choice") == "retire" else "clones.fenced" if value.get("fenced") else "clones.none"
    key = "clones.kept" if value.get("choice") == "keep" else key
    told = {"since": str(value.get("suspected_since") or "")[_SHORT_TIME], "by": value.get("told_by")}
    lines = [t(key, lang, pending=value.get("pending", 0), **told)]
    lines += [t("clones.choose", lang)] if key == "clones.fenced" else []
    for child in value.get("children") or []:
        state = t("clones.settled" if child.get("settled") else "clones.open", lang)
        since = str(child.get("suspected_since") or "")[_SHORT_TIME]
        lines += ["", t("clones.child", lang, node=child.get("node"), since=since, state=state)]
        lines.append(rows_in_words(child.get("machines") or [], lang))
    return "\n".join(lines)


def _evidence(value: Value, lang: str) -> str:
    return t("evidence.written", lang, node=value.get("node"), file=value.get("file"))


def _proof(value: Value, lang: str) -> str:
    said = t("evidence.proved", lang, node=value["node"], sizes=" / ".join(map(str, value["sizes"])))
    return "\n".join([said, t("evidence.network", lang, network=value["network"], incarnation=value["incarnation"])])


def _verify(value: Value, lang: str) -> str:
    if value.get("proved"):
        return _proof(value, lang)
    problems = value.get("problems") or []
    if not problems:
        return t("verify.good", lang, entries=value.get("entries", 0))
    lines = [t("verify.bad", lang, count=len(problems))]
    lines += [" ".join(str(part) for part in problem.values() if _is_shown(part)) for problem in problems[:_PLACES_MAX]]
    return "\n".join(lines)


def _backup(value: Value, lang: str) -> str:
    kept = t("backup.with_key" if value.get("with_key") else "backup.without_key", lang)
    return t("backup.done", lang, file=value["file"], size=value["size"], at=value["at"][_SHORT_TIME], keys=kept)


def _restore(value: Value, lang: str) -> str:
    if value.get("without_store"):
        key = "restore.anew" if value.get("parent") else "restore.anew_root"
        lines = [t(key, lang, node=value["node"], name=value["name"], network=value["network"][:16])]
    else:
        lines = [t("restore.done", lang, node=value["node"], at=value["at"][_SHORT_TIME], size=value["size"])]
    if value.get("kept_aside"):
        lines.append(t("restore.aside", lang, file=value["kept_aside"]))
    return "\n".join(lines)


def _scrub(value: Value, lang: str) -> str:
    mended = value.get("mended") or 0
    return _verify(value, lang) + ("\n" + t("scrub.mended", lang, count=mended) if mended else "")


def _rebuild(value: Value, lang: str) -> str:
    different = value.get("different") or 0
    count = len(different) if isinstance(different, list) else different
    if count:
        return t("rebuild.different", lang, count=count)
    return t("rebuild.same", lang, count=value.get("cases", 0))


def _show(value: Value, lang: str) -> str:
    """One case: what it is, where it stands, and its steps with officer and time."""
    due = value.get("due") or {}
    marks = [
        t("mark.delivered", lang) if value.get("delivered") else "",
        t("mark.afterwards", lang) if value.get("recorded_afterwards") else "",
    ]
    state = " ".join([_text(f"state.{value.get('state')}", lang, str(value.get("state"))), *marks]).rstrip()
    day = " ".join(
        [str(due.get("date") or "-"), t("mark.provisional", lang) if due.get("provisional") else ""]
    ).rstrip()
    facts = [
        ("head.number", value.get("case")),
        ("head.state", state),
        ("head.holder", value.get("holder")),
        ("head.due", day),
    ]
    lines = [f"{t(key, lang)}  {fact}" for key, fact in facts]
    return "\n".join([*lines, "", _timeline(value.get("timeline") or [], lang)]).rstrip()


def _timeline(steps: Sequence[Value], lang: str) -> str:
    heads = [t(f"head.{key}", lang) for key in ("time", "step", "node", "officer", "effect", "reason")]
    rows = [
        [
            str(step.get("claimed_at", ""))[_SHORT_TIME],
            _text(f"step.{step.get('type')}", lang, str(step.get("type"))),
            str(step.get("node") or ""),
            str(step.get("officer") or ""),
            _effect(step, lang),
            _reason(step),
        ]
        for step in steps
    ]
    return console.table(heads, rows)


def _effect(step: Value, lang: str) -> str:
    marks = [
        t("mark.offline", lang) if step.get("offline") else "",
        t("mark.afterwards", lang) if step.get("recorded_afterwards") else "",
    ]
    return " ".join(
        part for part in (_text(f"effect.{step.get('effect')}", lang, str(step.get("effect"))), *marks) if part
    )


def _reason(step: Value) -> str:
    """Return why an entry has no effect, else what its officer gave as reason or text."""
    details = step.get("details") or {}
    return _plain(step.get("reason") or details.get("reason") or details.get("text") or details.get("result"))


def _status(value: Value, lang: str) -> str:
    """Who this is, what is safe where, and how the children stand."""
    lines = [" ".join(str(value[key]) for key in ("node", "name", "listen", "version") if _is_shown(value.get(key)))]
    for place in ("parent", "second"):
        ack = (value.get("acked") or {}).get(place)
        if ack:
            until = str(ack.get("at", ""))[_SHORT_TIME]
            lines.append(t("safety.parent_until", lang, time=until, name=ack.get("node") or place))
    if value.get("pending"):
        lines.append(t("safety.pending", lang, count=value["pending"]))
    if value.get("clones"):
        lines.append(t("error.clone", lang))
    if value.get("withheld"):
        held = value["withheld"]
        lines.append(t("status.withheld", lang, count=held["entries"], since=str(held["since"])[_SHORT_TIME]))
    if value.get("lost"):
        lines.append(t("status.lost", lang, count=sum(one["count"] for one in value["lost"])))
    lines += _upkeep(value, lang)
    children = value.get("children") or []
    return "\n".join([*lines, *(["", rows_in_words(children, lang)] if children else [])])


def _upkeep(value: Value, lang: str) -> list[str]:
    """How long the parent was silent, whether its clock is another, how old the rules are, how long the disk lasts: a warning only where there is one."""
    rules, disk = value.get("rules") or {}, value.get("disk") or {}
    lines = [t("link.heard", lang, age=_age(value.get("contact_age_s"), lang))] if value.get("parent") else []
    lines += _clock(value.get("clock_skew_s") or 0.0, lang)
    if rules.get("stale"):
        lines.append(t("rules.stale", lang, age=_age(rules.get("age_s"), lang)))
    if rules.get("unknown"):
        lines.append(t("rules.unknown", lang, count=rules["unknown"]))
    if rules.get("waiting") and not value.get("parent"):
        lines.append(t("rules.waiting", lang, count=rules["waiting"]))
    if "backup_age_s" in value:
        lines.append(t("backup.last", lang, age=_age(value["backup_age_s"], lang)))
    return [*lines, *(_disk(disk, lang) if disk else [])]


def _clock(skew_s: float, lang: str) -> list[str]:
    """Say that the clocks are apart, and which way, where it is more than a claimed time may be off."""
    if abs(skew_s) * 1_000 <= limits.CLAIM_SLACK_MS:
        return []
    return [t("clock.ahead" if skew_s > 0 else "clock.behind", lang, span=_span(abs(skew_s), lang))]


def _span(seconds: float, lang: str) -> str:
    """Say a span in the largest unit that fits."""
    for key, span in (("span.days", 86_400), ("span.hours", 3_600)):
        if seconds >= span:
            return t(key, lang, count=round(seconds / span))
    return t("span.minutes", lang, count=round(seconds / 60))


def _disk(disk: Value, lang: str) -> list[str]:
    free, store = f"{disk['free_bytes'] / _GIB:.1f}", f"{disk['store_bytes'] / _MIB:.0f}"
    said, days = [t("disk.free", lang, free=free, store=store)], disk.get("days_left")
    if days is not None and disk.get("bytes_a_day"):
        shown = f"{min(days, _DAYS_MAX):.0f}"
        said.append(t("disk.growth", lang, grown=f"{disk['bytes_a_day'] / _MIB:.1f}", days=shown))
    if not disk.get("low"):
        return ["，".join(said) if lang == "zh" else ", ".join(said)]
    warning = t("disk.low", lang, days=f"{days:.0f}") if days else t("disk.full", lang)
    return ["，".join(said) if lang == "zh" else ", ".join(said), warning]


def _age(seconds: int | None, lang: str) -> str:
    """Say an age in the largest unit that fits."""
    if seconds is None:
        return t("age.never", lang)
    for key, span in (("age.days", 86_400), ("age.hours", 3_600), ("age.minutes", 60)):
        if seconds >= span:
            return t(key, lang, count=seconds // span)
    return t("age.now", lang)


def _service_status(value: Value, lang: str) -> str:
    """Each thing that can be true of a service, yes or no; what the system does not say is left out."""
    states = [(key, value.get(key)) for key in ("installed", "enabled", "active", "answers")]
    said = [t(f"service.{key}.{'yes' if state else 'no'}", lang) for key, state in states if state is not None]
    return " · ".join([str(value.get("service")), *said])


def _pairs(value: Value) -> str:
    return "\n".join(f"{key}: {_plain(inner)}" for key, inner in value.items() if _is_shown(inner))


def _cell(key: str, value: object, lang: str) -> str:
    if key in {"state", "effect", "safety", "result"} and isinstance(value, str):
        return _text(f"{key}.{value}", lang, value)
    return _plain(value)


def _plain(value: object) -> str:
    """Return a value on one line."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_plain(inner)}" for key, inner in value.items() if _is_shown(inner))
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    if isinstance(value, bool):
        return "✓" if value else ""
    return "" if value is None else " ".join(str(value).split())


def _head(key: str, lang: str) -> str:
    return _text(f"head.{_HEADS.get(key, key)}", lang, key)


def _text(key: str, lang: str, otherwise: str) -> str:
    """Return a text by a key that depends on data; what a newer node names is shown as it came."""
    return t(key, lang) if key in TEXTS else otherwise


def _is_shown(value: object) -> bool:
    return value not in (None, "", [], {}, False)


_HEADS: Final = {"case": "number", "lag_entries": "lag", "last_contact": "contact", "title": "name"}

_SHOWN: Final[Mapping[str, Callable[[Value, str], str]]] = {
    "init": _init,
    "invite": _invite,
    "join": _join,
    "key.show": _key_show,
    "key.rotate": _key_replaced,
    "recover": _key_replaced,
    "revoke": _revoke,
    "retire": _retire,
    "move.out": _move_out,
    "move.in": _move_in,
    "sync": _sync,
    "carry.out": _carry_out,
    "carry.in": _carry_in,
    "verify": _verify,
    "clones": _clones,
    "clones.keep": _clones,
    "clones.retire": _clones,
    "evidence.export": _evidence,
    "rebuild": _rebuild,
    "backup": _backup,
    "restore": _restore,
    "vouch": lambda value, lang: t("vouch.done", lang, node=value["node"], file=value["file"]),
    "scrub": _scrub,
    "show": _show,
    "case.show": _show,
    "status": _status,
    "service.show": lambda value, _lang: str(value["definition"]).rstrip(),
    "service.status": _service_status,
}
