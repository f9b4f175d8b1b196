"""Who may state what in a case: the fold's judge, answering under the basis that each header names.

Nothing here looks at a later register than the basis, so a verdict is the same at every node and never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Final

from protocol.cases import CaseTerms
from protocol.facts import Right
from protocol.log import Header
from protocol.reading import legal_date
from protocol.ruleset import Ruleset, View

LEGAL_ZONE: Final = timezone(timedelta(hours=8))  # one legal time for the whole country
ZONE_MS: Final = 8 * 3_600_000  # legal dates are those of +08:00
DAY_MS: Final = 24 * 3_600_000
_UNJUDGED: Final = ""  # no reason code is empty
REMEMBERED_MAX: Final = 50_000  # answers kept; forgetting costs only time

# What an author needs for an entry beyond custody: any one of these rights for the case's item. Not listed: nothing.
NEEDED: Final[dict[str, tuple[Right, ...]]] = {
    "open": (Right.RECEIVE,),
    "accept": (Right.RECEIVE, Right.DECIDE),
    "refuse": (Right.RECEIVE, Right.DECIDE),
    "notice": (Right.NOTIFY, Right.RECEIVE, Right.DECIDE),
    "dispatch": (Right.RECEIVE, Right.DECIDE),
    "suspend": (Right.DECIDE,),
    "resume": (Right.DECIDE,),
    "extend": (Right.DECIDE,),
    "decide": (Right.DECIDE,),
    "finish": (Right.RECEIVE, Right.DECIDE),
    "revoke": (Right.DECIDE,),
    "deliver": (Right.DELIVER, Right.RECEIVE, Right.DECIDE),
}


def legal_day(at_ms: int) -> str:
    """Return the legal date (+08:00) of a time, ISO."""
    return legal_date(at_ms).isoformat()


@dataclass(slots=True)
class RulesJudge:
    """Answers the fold's questions from the rules held here. One owner: the rules' own."""

    rules: Ruleset
    _refusals: dict[tuple[object, ...], str | None] = field(default_factory=dict)
    _known: set[tuple[object, ...]] = field(default_factory=set)  # what was once known stays known
    _last: Header | None = None  # of those: asked for last
    _changes: int = 0  # of the rules, when the answers were found: an enrolment that is noted may change some

    def knows(self, header: Header) -> bool:
        """Tell whether the basis that a header names, and its author's enrolment, are here."""
        basis, last = header.basis, self._last
        if last is not None and last.basis is basis and last.node is header.node:  # the same run of entries (hot path)
            return True
        known = (basis, header.node)
        if known in self._known:
            self._last = header
            return True
        if basis is None or not self.rules.holds(basis) or self.rules.record(header.node) is None:
            return False
        if len(self._known) > REMEMBERED_MAX:
            self._known.clear()
        self._known.add(known)
        return True

    def _view(self, header: Header) -> View:
        return View(self.rules, header.basis[0] if header.basis else 0)

    def above(self, header: Header, ancestor: str, node: str) -> bool:
        """Tell whether `ancestor` stands strictly above `node` under the header's basis."""
        return self._view(header).above(ancestor, node)

    def depth(self, header: Header) -> int:
        """Return how many nodes stand above the header's author."""
        return len(self._view(header).ancestors(header.node))

    def refusal(self, header: Header, terms: CaseTerms, legal_at: int) -> str | None:
        """Return why the author has no right to this entry, or None."""
        if header.type not in NEEDED:
            return None
        if self._changes != self.rules.changes or len(self._refusals) > REMEMBERED_MAX:
            self._refusals.clear()
            self._changes = self.rules.changes
        number = header.basis[0] if header.basis else 0
        key = (number, header.node, header.type, terms.item, terms.version, (legal_at + ZONE_MS) // DAY_MS)
        found = self._refusals.get(key, _UNJUDGED)
        if found is _UNJUDGED:
            found = self._refusals[key] = self._judge(header, terms, legal_day(legal_at))
        return found

    def _judge(self, header: Header, terms: CaseTerms, day: str) -> str | None:
        view = self._view(header)
        if header.type == "open" and view.item_version(terms.item, terms.version) is None:
            return "no_such_item"
        if any(view.allows_item(header.node, right, terms.item, day) for right in NEEDED[header.type]):
            return None
        return "no_right"
