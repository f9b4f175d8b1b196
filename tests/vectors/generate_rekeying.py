"""Writes rekeying.json: keys rotated, enrolled again and recovered, the registers that number it, and what is refused.

Run `python -m tests.vectors.generate` after a deliberate change of the format. Seeds of keys are hashes of plain words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from protocol import keys
from protocol.facts import join_message
from protocol.log import LogId
from protocol.rekeying import recovery_message, rotate_message
from protocol.standing import is_cut
from tests.protocol.network import (
    CITY,
    TOWN,
    Net,
    Stated,
    city,
    key_of,
    recovery_fields,
    rotation_fields,
    seal_key_of,
    seed_of,
    successor,
)
from tests.vectors.generate_protocol import entry_of, hexed, shown

FOLDER = Path(__file__).parent


class Keeper:
    """A network that keeps every entry it ever stated, also of logs that were closed."""

    def __init__(self) -> None:
        self.net: Net = city()
        self.stated: dict[bytes, Stated] = {}
        self.keep()

    def keep(self) -> None:
        """Remember what the present logs hold."""
        self.stated |= {one.leaf: one for log in self.net.logs.values() for one in log.entries}

    def closed(self, node: str, more: int = 0) -> list[tuple[bytes, int]]:
        """Return the node's present log as a successor closes it."""
        log = self.net.logs[node]
        return [(log.incarnation, len(log.entries) + more)]


def rotated(made: Keeper) -> dict[str, Any]:
    fields = rotation_fields(made.net, TOWN, TOWN, "town 2", made.closed(TOWN, 1))
    made.net.fact(TOWN, "node.key", fields)
    made.keep()
    made.net.logs[TOWN] = successor(made.net.logs[TOWN], "town 2")
    return fields


def enrolled_again(made: Keeper) -> None:
    parent = made.net.rules.record(TOWN).parent or ""  # type: ignore[union-attr]
    invite = made.net.invite(TOWN, parent, again=True)
    fields = made.net.enrol_fields(TOWN, invite.link, f"code of {TOWN}")
    public, seal_key = key_of("town 3").public, seal_key_of("town 3")
    message = join_message(TOWN, public, seal_key, fields["challenge"], fields["certificate"])
    proof = key_of(f"code of {TOWN}").sign(keys.SignedKind.JOIN, made.net.root.network, message)
    made.net.fact(parent, "node.enrol", {**fields, "key": public, "seal_key": seal_key, "proof": proof})


def recovered(made: Keeper) -> dict[str, Any]:
    fields = recovery_fields(made.net, "root 2", made.closed(CITY))
    made.keep()
    made.net.logs[CITY] = successor(made.net.root, "root 2")
    made.net.fact(CITY, "network.recovery", fields)
    return fields


def build_rekeying() -> dict[str, object]:
    made = Keeper()
    net, begun = made.net, len(made.net.registers)
    rotation = rotated(made)
    net.fact(TOWN, "node.key", rotation_fields(net, TOWN, TOWN, "rival", []))
    net.register()
    enrolled_again(made)
    net.register()
    recovery = recovered(made)
    net.fact(CITY, "network.recovery", recovery_fields(net, "root 3", [], number=2, signers=["recovery 1"]))
    net.fact(CITY, "network.recovery", recovery_fields(net, "root 3", [], number=1))
    net.register()
    made.keep()
    return {
        "network_id": net.root.network.hex(),
        "genesis": made.stated[net.root.network].entry.raw.hex(),
        "seeds": {name: seed_of(name).hex() for name in (TOWN, "town 2", "recovery 0", "recovery 1", "recovery 2", "root 2")},
        "registers": [_register(made, number) for number in range(len(net.registers))],
        "rekeyed_from": begun + 1,
        "rotation": {"node": TOWN, "fields": shown(rotation), "message": _rotation_message(rotation).hex()},
        "recovery": {"fields": shown(recovery), "message": _recovery_message(recovery).hex()},
        "keys": {node: [record.key.hex() for record in net.rules.records(node)] for node in (CITY, TOWN)},
        "cuts": _cuts(made),
    }


def _register(made: Keeper, at: int) -> dict[str, object]:
    register, facts = made.net.registers[at]
    voids = made.net.rules.voids
    return {
        "number": register.number,
        "entry": entry_of(made.stated[register.leaf]),
        "facts": [{"header": made.stated[one.leaf].entry.raw.hex(), "body": hexed(one.body), "leaf": one.leaf.hex()} for one in facts],
        "voids": {one.leaf.hex(): voids[one.leaf] for one in facts if one.leaf in voids},
    }


def _rotation_message(fields: dict[str, Any]) -> bytes:
    return rotate_message(TOWN, fields["old"], fields["key"], fields["seal_key"], fields["closes"])


def _recovery_message(fields: dict[str, Any]) -> bytes:
    return recovery_message(CITY, fields["number"], fields["key"], fields["seal_key"], fields["closes"])


def _cuts(made: Keeper) -> list[dict[str, object]]:
    """Return for the ends of closed logs, and for one that nobody named, whether an entry there counts."""
    found: list[dict[str, object]] = []
    for node in (CITY, TOWN):
        public = key_of(node).public
        for incarnation, size in [*made.net.rules.closings[node, public].items(), (bytes(16), 0)]:
            for index in range(max(size - 1, 0), size + 1):
                cut = is_cut(made.net.rules, LogId(node, incarnation), public, index)
                found.append({"node": node, "key": public.hex(), "incarnation": incarnation.hex(), "index": index, "cut": cut})
    return found


BUILDERS = {"rekeying": build_rekeying}


def render(name: str) -> str:
    """Return the text of one file of vectors."""
    return json.dumps(BUILDERS[name](), ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Write all files beside this one."""
    for name in BUILDERS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
