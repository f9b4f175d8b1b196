"""Registers as they travel: each with the facts that it takes in, so that whoever gets it can fold it at once."""

from __future__ import annotations

from typing import Final

from node.ledger import Ledger
from node.store import facts
from node.store.database import Connection
from protocol import messages
from protocol.log import Bundle, BundleEntry, decode_header

OVERHEAD_BYTES: Final = 200  # of a bundle, about, beside its entries


def bundle_bytes(bundle: Bundle) -> int:
    """Return about how many bytes a bundle takes."""
    return OVERHEAD_BYTES + sum(
        32 + len(entry.raw) + len(entry.body or b"") + 34 * len(entry.path) for entry in bundle.entries
    )


def registers_after(
    ledger: Ledger, conn: Connection, held: int, room: int, *, with_texts: bool = False
) -> tuple[list[messages.RegisterNews], int]:
    """Return the registers behind a number, as many as find room but one at least, and the room that is left.

    Args:
        with_texts: the texts of items too: downward they go only to those who need them.
    """
    found: list[messages.RegisterNews] = []
    for number, place in facts.registers_after(conn, held):
        (register,) = ledger.bundles(conn, [place])
        bundles = ledger.bundles(conn, facts.places_in(conn, number))
        if not with_texts:
            bundles = [_without_texts(bundle) for bundle in bundles]
        room -= bundle_bytes(register) + sum(bundle_bytes(bundle) for bundle in bundles)
        if found and room < 0:
            break
        found.append(messages.RegisterNews(number, register, tuple(bundles)))
    return found, room


def _without_texts(bundle: Bundle) -> Bundle:
    entries = tuple(
        BundleEntry(one.index, one.raw, None if decode_header(one.raw).type == "catalogue.item" else one.body, one.path)
        for one in bundle.entries
    )
    return Bundle(bundle.signed, entries)
