"""Where an entry stands among its author's entries, and whether a revocation cut it off.

Order of a node's entries (DESIGN §4): what was held of the older incarnations when a new one was admitted, then the new
incarnation, then what turns up later of the older ones; incarnations never admitted, and rival branches, come last.
"""

from __future__ import annotations

from typing import TypeAlias

from protocol.log import LogId
from protocol.ruleset import Ruleset

Order: TypeAlias = "tuple[int, int, int, int]"  # (round, class within it, incarnation within that, index)


def order_of(rules: Ruleset, log: LogId, branch: bytes, index: int) -> Order:
    """Return a sort key for an entry's place: smaller is earlier, among entries of one author.

    Args:
        rules: with the admissions held here; they count whatever an entry's basis.
        log: the log in which the entry stands.
        branch: link of the first differing leaf for a rival branch, else empty.
        index: zero-based place in the log.
    """
    admitted = rules.admissions.get(log.node, ())
    own = int.from_bytes(log.incarnation[:7])
    if branch:
        return (len(admitted) + 3, 0, int.from_bytes(branch[:7]), index)
    if not admitted:
        return (0, 0, own, index)
    older = False
    for number, admission in enumerate(admitted):
        for at, (incarnation, size) in enumerate(admission.sizes):
            if incarnation != log.incarnation:
                continue
            if index < size:
                # the one admitted in the round before goes on first; what else had turned up by then follows it
                newest = number > 0 and admitted[number - 1].incarnation == incarnation
                return (number, 0 if newest else 1, at, index)
            older = True
    if admitted[-1].incarnation == log.incarnation:
        return (len(admitted), 0, 0, index)
    if older or any(admission.incarnation == log.incarnation for admission in admitted):
        return (len(admitted), 1, own, index)
    return (len(admitted) + 2, 0, own, index)


def is_cut(rules: Ruleset, log: LogId, key: bytes, index: int, branch: bytes = b"") -> bool:
    """Tell whether an entry stands behind a cut of the log's key: 0 for every incarnation not named.

    Two things cut: the key's revocation, and its replacement by a newer one, as far as registers say so. A rival branch
    (named by its first differing leaf) is not the history that was cut: nothing of it is trusted under such a key.
    """
    if rules.closings:
        closed = rules.closings.get((log.node, key))
        if closed is not None and (branch or index >= closed.get(log.incarnation, 0)):
            return True
    if not rules.revocations:
        return False
    for revocation in rules.revocations:
        if revocation.node == log.node and revocation.key == key:
            sizes = [size for incarnation, size, _ in revocation.cuts if incarnation == log.incarnation]
            if branch or index >= max(sizes, default=0):
                return True
    return False


def is_closed(rules: Ruleset, log: LogId, key: bytes, index: int) -> bool:
    """Tell whether a key had been replaced before it signed this entry, by all that is known here: it states no register."""
    closed = rules.closing_of(log.node, key)
    return closed is not None and index >= closed.get(log.incarnation, 0)
