"""Writes log.json, changeset.json, bundle.json, register.json, joincode.json, case.json and reading.json.

Run `python -m tests.vectors.generate` after a deliberate change of the protocol; a test compares the files with what this
builds. All bytes are hex. Keys: the seed of a node's signing key is SHA-256("seed of " ‖ node id).
"""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from protocol import joincode, keys, merkle, messages
from protocol.calendar import Calendars, from_body
from protocol.cases import state_code, state_word
from protocol.facts import ITEM_RIGHTS, Right, join_message
from protocol.fold import fold
from protocol.log import Header, decode_body, decode_header, encode_checkpoint, hash_body
from protocol.reading import reading
from tests.protocol.network import CITY, TOWN, VILLAGE, WEST, WEST_DEPT, Net, Stated, seed_of
from tests.vectors.scene import ITEM, SALT, WEST_DEPT_2, Scene
from tests.vectors.scene import scene as make_scene

FOLDER = Path(__file__).parent


@cache
def scene() -> Scene:
    return make_scene()


def shown(value: object) -> object:
    """Return a value with bytes as {"bytes": hex}, for places where text may stand, too."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def hexed(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def header_of(header: Header) -> dict[str, object]:
    return {name: shown(getattr(header, name)) for name in header.__struct_fields__}


def entry_of(stated: Stated) -> dict[str, object]:
    return {
        "header": stated.entry.raw.hex(),
        "body": hexed(stated.entry.body),
        "leaf": stated.leaf.hex(),
    }


# --- headers, bodies, checkpoints


def build_log() -> dict[str, object]:
    made = scene()
    log = made.net.logs[VILLAGE]
    raw = made.case[0].entry.raw
    full, part = log.checkpoint(), log.checkpoint(2, 5)
    return {
        "entries": [{**entry_of(one), "fields": header_of(one.header), "salt": one.salt.hex()} for one in log.entries],
        "body_hashes": [
            {"salt": salt.hex(), "scheme": scheme, "body": body.hex(), "hash": hash_body(salt, scheme, body).hex()}
            for salt, scheme, body in ((b"", 0, b"\x80"), (SALT, 0, b"\x80"), (SALT, 1, b"\x80"))
        ],
        "refused_headers": {
            "cut off": raw[:-1].hex(),
            "something behind it": (raw + b"\x00").hex(),
            "15 places": (b"\x9f" + raw[3:]).hex(),
            "long form of format": (raw[:3] + b"\xcc\x01" + raw[4:]).hex(),
            "a float among the fields": (raw[:-1] + b"\xca\x3f\x80\x00\x00").hex(),
            "keys out of order": raw.replace(b"\xa6number", b"\xa6zumber").hex(),
        },
        "network_id": log.network.hex(),
        "node": VILLAGE,
        "incarnation": log.incarnation.hex(),
        "seed": seed_of(VILLAGE).hex(),
        "public": log.key.public.hex(),
        "checkpoints": [
            {
                "start": one.start,
                "size": one.size,
                "checkpoint": encode_checkpoint(one).hex(),
                "signature": log.seal(one.start, one.size).signature.hex(),
            }
            for one in (full, part)
        ],
        "refused_checkpoints": {
            "an empty run": encode_checkpoint(msgspec.structs.replace(full, start=full.size)).hex(),
            "format 2": encode_checkpoint(msgspec.structs.replace(full, format=2)).hex(),
        },
    }


# --- change sets and bundles


def build_changeset() -> dict[str, object]:
    made = scene()
    found = []
    for node, start in ((VILLAGE, 0), (VILLAGE, 3), (WEST_DEPT, 0), (CITY, 0)):
        log = made.net.logs[node]
        change = log.change_set(start)
        found.append(
            {
                "node": node,
                "incarnation": log.incarnation.hex(),
                "start": start,
                "wire": msgspec.msgpack.encode(change).hex(),
                "known": {
                    str(index): {"link": one.link.hex(), "case": one.case.hex(), "salt": hexed(one.salt)}
                    for index, one in log.known(start).items()
                },
                "entries": [entry_of(one) for one in log.entries[start:]],
                "run": merkle.root(log.leaves[start:]).hex(),
            }
        )
    return {"sets": found}


def build_bundle() -> dict[str, object]:
    made = scene()
    log = made.net.logs[VILLAGE]
    wrong = {
        "the path of another leaf": msgspec.structs.replace(
            log.bundle([1]),
            entries=(msgspec.structs.replace(log.bundle([1]).entries[0], path=log.bundle([2]).entries[0].path),),
        ),
        "an index outside the run": msgspec.structs.replace(
            log.bundle([1]), entries=(msgspec.structs.replace(log.bundle([1]).entries[0], index=99),)
        ),
        "the checkpoint of another run": msgspec.structs.replace(log.bundle([1]), signed=log.seal(3)),
        "an entry twice": msgspec.structs.replace(log.bundle([1]), entries=log.bundle([1]).entries * 2),
    }
    return {
        "network_id": log.network.hex(),
        "public": log.key.public.hex(),
        "bundles": [
            {"indexes": indexes, "start": start, "wire": msgspec.msgpack.encode(log.bundle(indexes, start)).hex()}
            for indexes, start in (([0], 0), ([2, 5], 0), ([4], 4), ([3, 6], 3))
        ],
        "refused": {why: msgspec.msgpack.encode(bundle).hex() for why, bundle in wrong.items()},
    }


# --- rules


def build_register() -> dict[str, object]:
    net = scene().net
    genesis = net.root.entries[0]
    return {
        "network_id": genesis.leaf.hex(),
        "genesis": genesis.entry.raw.hex(),
        "registers": [
            {
                "number": register.number,
                "leaf": register.leaf.hex(),
                "entry": entry_of(_by_leaf(net, register.leaf)),
                "facts": [
                    {
                        "header": _by_leaf(net, fact.leaf).entry.raw.hex(),
                        "body": hexed(fact.body),
                        "leaf": fact.leaf.hex(),
                    }
                    for fact in facts
                ],
                "basis": [register.number, register.leaf[:8].hex()],
                "voids": {
                    fact.leaf.hex(): net.rules.voids[fact.leaf] for fact in facts if fact.leaf in net.rules.voids
                },
            }
            for register, facts in net.registers
        ],
        "views": [_view(net, number) for number in range(net.rules.number + 1)],
    }


def _by_leaf(net: Net, leaf: bytes) -> Stated:
    return next(one for log in net.logs.values() for one in log.entries if one.leaf == leaf)


def _view(net: Net, number: int) -> dict[str, object]:
    view = net.rules.at(number)
    nodes = [record.node for record in view.nodes()]
    days = ("2026-09-22", "2027-01-01")
    return {
        "number": number,
        "ancestors": {node: list(view.ancestors(node)) for node in nodes},
        "rights": {node: [str(right) for right in Right if view.allows(node, right)] for node in nodes},
        "item_rights": {
            day: {
                node: [
                    str(right) for right in Right if right in ITEM_RIGHTS and view.allows_item(node, right, ITEM, day)
                ]
                for node in nodes
            }
            for day in days
        },
    }


def build_joincode() -> dict[str, object]:
    network, seed = scene().net.root.network, seed_of("code of the vectors")
    codes = [
        joincode.JoinCode(network, VILLAGE, ("10.0.0.1:9527",), seed),
        joincode.JoinCode(network, WEST_DEPT_2, ("hub.example:443", "[2001:db8::1]:9527"), seed),
    ]
    first = joincode.format_code(codes[0])
    parts: list[Any] = [VILLAGE, *(keys.sha256(word) for word in (b"key", b"seal", b"challenge", b"certificate"))]
    return {
        "codes": [
            {
                "network_id": code.network.hex(),
                "node": code.node,
                "addresses": list(code.addresses),
                "seed": code.seed.hex(),
                "text": joincode.format_code(code),
            }
            for code in codes
        ],
        "read_as_the_first": [first.lower(), first.replace("-", " "), first.replace("-", "")],
        "refused": [
            "",
            "TB1-",
            first[:-1],
            first[:-1] + ("A" if first[-1] != "A" else "B"),
            first.replace("TB1", "TB2"),
        ],
        "signed_texts": {
            "greet": messages.greeting_text(VILLAGE, *(bytes([n]) * 32 for n in (1, 2, 3)), TOWN).hex(),  # type: ignore[arg-type]
            "hello": messages.login_text(VILLAGE, b"\x02" * 32, b"\x03" * 32).hex(),
            "join": join_message(*parts).hex(),
        },
    }


# --- a case, and its clocks


def build_case() -> dict[str, object]:
    made = scene()
    folded = fold(made.held(), made.judge)
    context = folded.context
    assert context is not None
    stage = context.stage
    assert stage is not None
    return {
        "key": made.key.hex(),
        "salt": SALT.hex(),
        "entries": [
            {
                **entry_of(one),
                "fields": header_of(one.header),
                "log": one.header.node,
                "index": one.index,
                "effect": str(folded.verdicts[one.link].effect),
                "reason": str(folded.verdicts[one.link].reason),
            }
            for one in made.case
        ],
        "line": [link.hex() for link in folded.line],
        "state": state_word(context),
        "state_code": state_code(context),
        "holder": context.holder,
        "epoch": context.epoch,
        "outcome": context.outcome,
        "delivered": folded.delivered,
        "parties": list(folded.parties),
        "tasks": [[task.name, task.node, task.unit, task.result] for task in stage.tasks],
        "missing": [link.hex() for link in folded.missing],
        "conflicts": [link.hex() for link in folded.conflicts],
        "clock": shown(msgspec.structs.asdict(context.clock)),
        "prefixes": _prefixes(made),
    }


def _prefixes(made: Scene) -> list[dict[str, object]]:
    """Return what the first n entries alone make of the case."""
    held = made.held()
    found = []
    for count in range(1, len(held) + 1):
        folded = fold(held[:count], made.judge)
        context = folded.context
        assert context is not None
        stands = {"state": state_word(context), "state_code": state_code(context), "holder": context.holder}
        found.append({"count": count, **stands, "epoch": context.epoch, "parties": list(folded.parties)})
    return found


def build_reading() -> dict[str, object]:
    made = scene()
    records = made.net.rules.now.calendars()
    calendars = Calendars.of(from_body(decode_body(record.body)) for record in records)
    held = made.held()
    days = [dt.date(2026, 9, 22) + dt.timedelta(days=3 * step) for step in range(12)]
    found = []
    for count in (1, 2, 3, 4, 10, 14, len(held)):
        context = fold(held[:count], made.judge).context
        assert context is not None
        found += [{"count": count, **_reading(context, calendars, day)} for day in days]
    calendar = calendars.for_region(WEST)
    return {
        "calendar": decode_header(_by_leaf(made.net, records[0].leaf).entry.raw).fields,
        "body": decode_body(records[0].body),
        "limits": [
            {
                "from": day.isoformat(),
                "working_days": count,
                "due": due.date.isoformat(),
                "provisional": due.provisional,
            }
            for day in days
            for count in (0, 1, 5, 20, 80)
            for due in [calendar.add_working_days(day, count)]
        ],
        "readings_of_the_first_entries_of_case_json": found,
    }


def _reading(context: Any, calendars: Calendars, day: dt.date) -> dict[str, object]:
    found = reading(context, calendars, day)
    limits = {
        name: None if limit is None else [limit.date.isoformat(), limit.provisional, str(limit.basis)]
        for name, limit in (("due", found.due), ("statutory", found.statutory))
    }
    return {
        "as_of": day.isoformat(),
        "state": found.state,
        "state_code": found.state_code,
        **limits,
        "accepted_on": None if found.accepted_on is None else found.accepted_on.isoformat(),
        "deemed_accepted": found.deemed_accepted,
        "stopped": found.stopped,
        "overdue": found.overdue,
        "level": str(found.level),
    }


BUILDERS = {
    "log": build_log,
    "changeset": build_changeset,
    "bundle": build_bundle,
    "register": build_register,
    "joincode": build_joincode,
    "case": build_case,
    "reading": build_reading,
}


def render(name: str) -> str:
    """Return the text of one file of vectors."""
    return json.dumps(BUILDERS[name](), ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Write all files beside this one."""
    for name in BUILDERS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
