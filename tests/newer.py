"""The program of tomorrow, for tests: `python -m tests.newer …` is `tongban` in a version that does not exist yet.

It speaks versions 1 and 2 of the protocol (`VERSIONS=2` in the environment: 2 only), says more in its messages and in the fields of
its entries, and knows two types that today's program does not: `inspection`, a side entry of a case, and `network.motto`, a rule. All
else is today's code, so what differs between two machines is what these lines change.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from protocol import codec, facts, messages, transitions


class Motto(msgspec.Struct, frozen=True):
    text: str


def know_more() -> None:
    """Change the tables, before anything is imported that copies them."""
    messages.VERSIONS = tuple(int(one) for one in os.environ.get("VERSIONS", "1,2").split(","))  # type: ignore[misc, assignment]
    transitions.REQUIRED = {**transitions.REQUIRED, "inspection": {}}  # type: ignore[misc]
    transitions.SIDE_TYPES |= {"inspection"}  # type: ignore[misc]
    transitions.KNOWN_TYPES |= {"inspection"}  # type: ignore[misc]
    facts._FIELDS["network.motto"] = Motto
    facts.RULE_TYPES |= {"network.motto"}  # type: ignore[misc]


def say_more() -> None:
    """Put keys into messages, and fields into entries, that today's program has never heard of."""
    from node.ledger import Ledger

    plain, stated = messages.encode, Ledger._state

    def encode(message: messages.Message) -> bytes:
        if not isinstance(message, messages.Greet | messages.Hello | messages.HelloReply | messages.Pull | messages.PullReply):
            return plain(message)
        known = msgspec.to_builtins(message, builtin_types=(bytes,))
        return codec.compress(msgspec.msgpack.encode({**known, "colour": "red", "shades": [1, {"deep": b"x"}]}))

    def state(self: Ledger, conn: Any, row: Any, draft: Any) -> Any:
        return stated(self, conn, row, replace(draft, fields={**draft.fields, "colour": "red"}))

    messages.encode = encode  # type: ignore[assignment]
    Ledger._state = state  # type: ignore[method-assign]


def do_more() -> None:
    """Offer two commands: `case.inspect` and `motto.publish`."""
    from node import operations
    from node.ledger import Draft
    from node.node import Node
    from node.office import Act, at_desk
    from node.office.drafting import Dossier
    from node.registrar import take_in
    from protocol import register

    register._FOLDERS["network.motto"] = lambda *_: None

    async def inspect(node: Node, params: Mapping[str, Any], act: Act) -> object:
        return await at_desk(node, act, lambda desk: Dossier.open(desk, params["case"]).side("inspection", {"seen": True}))

    async def publish(node: Node, params: Mapping[str, Any], _act: Act) -> object:
        now = node.clock.wall_ms()

        def state(conn: Any, changes: Any) -> None:
            node.ledger.append(conn, [Draft("network.motto", now, {"text": params["text"]})], changes)
            take_in(node.ledger, conn, changes, now)

        await node.write(state)
        return {"number": node.rules.number}

    operations.register("case.inspect", inspect)
    operations.register("motto.publish", publish)


if __name__ == "__main__":
    know_more()
    say_more()
    do_more()
    from hub.cli import main

    main()
