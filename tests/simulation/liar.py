"""One hub that does not tell the truth to those below it: it answers with the real program, and twists what goes out.

Whatever it does, no honest machine may take an entry that its author never wrote, show a body that its author never gave, or
count as acknowledged what is not held. It holds its own key, so that two histories of its own log are perfectly signed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import msgspec

from node.ports import Response
from protocol import keys, merkle, messages
from protocol.errors import TongbanError
from protocol.log import (
    Bundle,
    BundleEntry,
    decode_checkpoint,
    decode_header,
    encode_header,
    hash_header,
    sign_checkpoint,
)

REPLIES: Final[dict[str, type[Any]]] = {
    "pull": messages.PullReply,
    "push": messages.PushReply,
    "wait": messages.WaitReply,
    "hello": messages.HelloReply,
    "fetch": messages.FetchReply,
}


@dataclass(slots=True)
class Liar:
    """A hub that lies in one way. withheld: header bytes of what it kept from a child: (child, raw)."""

    hub: str
    lie: str
    key: keys.SigningKey
    network: bytes
    random: random.Random
    fired: Counter[str] = field(default_factory=Counter)
    victims: frozenset[str] = frozenset()
    withheld: set[tuple[str, bytes]] = field(default_factory=set)
    shown: list[bytes] = field(default_factory=list)  # header bytes of the second history's entries
    honest: bool = False

    def twist(self, child: str, name: str, response: Response) -> Response:
        """Return what the child is told instead."""
        kind = REPLIES.get(name)
        if self.honest or response.status != 200 or kind is None:
            return response
        try:
            reply = messages.decode(response.body, kind)
        except TongbanError:
            return response
        told = self._LIES[self.lie](self, child, reply)
        if told is reply:
            return response
        self.fired[f"liar: {self.lie}"] += 1
        return replace(response, body=messages.encode(told))

    # --- the lies

    def _withhold(self, child: str, reply: Any) -> Any:
        """Leave out one author's entries, and move the cursor past them."""
        if not isinstance(reply, messages.PullReply):
            return reply
        kept = tuple(one for one in reply.cases if decode_checkpoint(one.signed.checkpoint).node not in self.victims)
        if len(kept) == len(reply.cases):
            return reply
        self.withheld |= {(child, entry.raw) for one in reply.cases if one not in kept for entry in one.entries}
        return msgspec.structs.replace(reply, cases=kept)

    def _freeze(self, child: str, reply: Any) -> Any:
        """Say that nothing is new."""
        if child not in self.victims:
            return reply
        if isinstance(reply, messages.PullReply) and (reply.cases or reply.registers):
            raw = {(child, entry.raw) for one in reply.cases for entry in one.entries}
            self.withheld |= raw
            return msgspec.structs.replace(reply, cases=(), registers=(), items=(), more=False)
        return reply

    def _on_bundles(self, reply: Any, change: Callable[[Bundle], Bundle]) -> Any:
        if isinstance(reply, messages.PullReply) and reply.cases:
            return msgspec.structs.replace(reply, cases=tuple(change(one) for one in reply.cases))
        if isinstance(reply, messages.FetchReply) and reply.bundles:
            return msgspec.structs.replace(reply, bundles=tuple(change(one) for one in reply.bundles))
        return reply

    def _now_and_then(self, share: float) -> bool:
        return self.random.random() < share

    def _rewrite(self, _child: str, reply: Any) -> Any:
        """Change a word in an entry of somebody else."""
        if not self._now_and_then(0.3):
            return reply
        return self._on_bundles(reply, lambda one: _with_header(one, {"claimed_at": 1_700_000_000_000}))

    def _backdate(self, _child: str, reply: Any) -> Any:
        """Give a receipt of its own an earlier time, under the old signature."""
        if isinstance(reply, messages.PushReply) and reply.receipt is not None and self._now_and_then(0.3):
            return msgspec.structs.replace(reply, receipt=_with_field(reply.receipt, "at", 1_000_000))
        return reply

    def _forge(self, _child: str, reply: Any) -> Any:
        """Sign an entry of somebody else with its own key."""
        if not self._now_and_then(0.3):
            return reply
        return self._on_bundles(reply, lambda one: one if self._is_own(one) else self._forged(one))

    def _is_own(self, bundle: Bundle) -> bool:
        return decode_checkpoint(bundle.signed.checkpoint).node == self.hub

    def _forged(self, bundle: Bundle) -> Bundle:
        return self._signed_anew(_with_header(bundle, {"officer": "9999"}))

    def _false_body(self, _child: str, reply: Any) -> Any:
        """Leave the header, and put another body beside it, of the same length."""
        if not self._now_and_then(0.5):
            return reply
        return self._on_bundles(reply, _with_other_body)

    def _two_histories(self, child: str, reply: Any) -> Any:
        """Show some children another receipt under the same index, signed as well as the true one."""
        if child not in self.victims or not isinstance(reply, messages.PushReply) or reply.receipt is None:
            return reply
        if not self._now_and_then(0.5):
            return reply
        receipt = reply.receipt
        (entry,) = receipt.entries
        told = self._signed_anew(_with_field(receipt, "at", decode_header(entry.raw).fields["at"] + 1))
        raw = told.entries[0].raw
        self.shown.append(raw)
        return msgspec.structs.replace(reply, receipt=told)

    def _signed_anew(self, bundle: Bundle) -> Bundle:
        """Sign the first entry alone, as a run of its own, with the liar's key."""
        entry = bundle.entries[0]
        stated = decode_checkpoint(bundle.signed.checkpoint)
        made = msgspec.structs.replace(
            stated, start=entry.index, size=entry.index + 1, run=merkle.root([hash_header(entry.raw)])
        )
        return Bundle(sign_checkpoint(made, self.key, self.network), (BundleEntry(entry.index, entry.raw, entry.body, ()),))

    _LIES: ClassVar[dict[str, Callable[[Any, str, Any], Any]]] = {
        "withhold": _withhold,
        "freeze": _freeze,
        "rewrite": _rewrite,
        "backdate": _backdate,
        "forge": _forge,
        "false_body": _false_body,
        "two_histories": _two_histories,
    }


def _with_header(bundle: Bundle, changes: dict[str, Any]) -> Bundle:
    """Return a bundle whose first entry says something else."""
    first, *others = bundle.entries
    raw = encode_header(msgspec.structs.replace(decode_header(first.raw), **changes))
    return Bundle(bundle.signed, (BundleEntry(first.index, raw, first.body, first.path), *others))


def _with_field(bundle: Bundle, name: str, value: object) -> Bundle:
    fields = decode_header(bundle.entries[0].raw).fields
    return _with_header(bundle, {"fields": {**fields, name: value}})


def _with_other_body(bundle: Bundle) -> Bundle:
    entries = tuple(
        BundleEntry(one.index, one.raw, one.body[:-1] + bytes([one.body[-1] ^ 1]) if one.body else None, one.path)
        for one in bundle.entries
    )
    return Bundle(bundle.signed, entries)
