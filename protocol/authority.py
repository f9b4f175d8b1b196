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
    _changes: int = 0  # of the rules, when the answers were found: an enrolment that is noted may change some

    def knows(self, header: Header) -> bool:
        """Tell whether the basis that a header names, and its author's enrolment, are here."""
        basis = header.basis
        return basis is not None and self.rules.holds(basis) and self.rules.record(header.node) is not None

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
        day = legal_date(legal_at)
        number = header.basis[0] if header.basis else 0
        key = (number, header.node, header.type, terms.item, terms.version, day)
        if key not in self._refusals:
            self._refusals[key] = self._judge(header, terms, day.isoformat())
        return self._refusals[key]

    def _judge(self, header: Header, terms: CaseTerms, day: str) -> str | None:
        view = self._view(header)
        if header.type == "open" and view.item_version(terms.item, terms.version) is None:
            return "no_such_item"
        if any(view.allows_item(header.node, right, terms.item, day) for right in NEEDED[header.type]):
            return None
        return "no_right"
