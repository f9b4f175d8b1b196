"""Where an entry stands among its author's entries, and whether a revocation cut it off.

Order of a node's entries (DESIGN §4): what was held of the older incarnations when a new one was admitted, then the new
incarnation, then what turns up later of the older ones; incarnations never admitted, and rival branches, come last.
"""

from __future__ import annotations

from protocol.log import LogId
from protocol.register import Rules

Order = tuple[int, int, int]


def order_of(rules: Rules, log: LogId, branch: bytes, index: int) -> Order:
    """Return a sort key for an entry's place: smaller is earlier, among entries of one author.

    Args:
        branch: link of the first differing leaf for a rival branch, else empty.
    """
    admitted = rules.admissions.get(log.node)
    if not admitted:
        return (1 if branch else 0, int.from_bytes(log.incarnation[:7]), index)
    if branch:
        return (len(admitted) + 3, int.from_bytes(log.incarnation[:7]), index)
    for round_number, admission in enumerate(admitted):
        if any(incarnation == log.incarnation and index < size for incarnation, size in admission.sizes):
            rank = 0 if round_number and admitted[round_number - 1].incarnation == log.incarnation else 1
            return (round_number, rank, index)
    if admitted[-1].incarnation == log.incarnation:
        return (len(admitted), 0, index)
    if any(admission.incarnation == log.incarnation for admission in admitted) or _is_older(rules, log):
        return (len(admitted), 1, index)
    return (len(admitted) + 2, int.from_bytes(log.incarnation[:7]), index)


def _is_older(rules: Rules, log: LogId) -> bool:
    admitted = rules.admissions[log.node]
    return any(incarnation == log.incarnation for admission in admitted for incarnation, _ in admission.sizes)


def is_cut(rules: Rules, log: LogId, key: bytes, index: int) -> bool:
    """Tell whether a revocation of the log's key leaves this entry behind its cut: 0 for every incarnation not named."""
    for revocation in rules.revocations:
        if revocation.node == log.node and revocation.key == key:
            sizes = [size for incarnation, size, _ in revocation.cuts if incarnation == log.incarnation]
            if index >= max(sizes, default=0):
                return True
    return False
