"""A case on the desk: what is known of it, and how a new entry is tried on the fold before it is written.

A spine entry lists the side entries that are new to the case's line: as `rests` what it relies on (results of the stage under
way, materials that a notice asked for), as `saw` the others, the newest first beyond the bound.

    dossier = Dossier.open(desk, "650102001001-20261121-00012X")
    dossier.spine("accept", {})          # or a refusal in words, and nothing is written
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.ledger import Draft
from node.office import officers
from node.office.desk import Answer, Desk, case_name
from node.office.refusals import Attempt, not_here, refusal, too_long
from node.projection import held_of
from node.store import cases, logs
from node.store.cases import CaseRow
from node.store.database import Connection
from protocol import limits, numbers
from protocol.cases import Context, Held, Side, decode_context
from protocol.errors import CommandRefused, InputError, NotFound, TongbanError
from protocol.fold import Effect, Folded, Verdict, advance, fold
from protocol.log import FORMAT, Header, encode_header, hash_header
from protocol.standing import order_of

MOVING = frozenset({"take", "return", "reclaim"})  # open the next epoch
KEY_PREFIX_MIN = 8


def find_case(conn: Connection, text: str) -> CaseRow:
    """Return the case that a number, a key or a unique key prefix of at least 8 digits names.

    Raises:
        NotFound: none here.
        CommandRefused: several.
    """
    rows = cases.resolve(conn, text) or cases.resolve(conn, _printed(text))
    if not rows:
        raise NotFound(
            "no such case here", hint="Give its number, key, or the key's first 8 digits; or sync, if it is new to this node."
        )
    if len(rows) > 1:
        found = ", ".join(row.key.hex()[:12] for row in rows[:3])
        raise CommandRefused("several cases are named so", hint=f"Name it by its key: {found}.")
    return rows[0]


def _printed(text: str) -> str:
    """Return a number as printed, whatever dashes and letters were typed."""
    try:
        return numbers.check_number(text)
    except InputError:
        return text


@dataclass(slots=True)
class Dossier:
    """One case in one command. context: where it stands here."""

    desk: Desk
    row: CaseRow
    context: Context
    officer_name: str | None
    _held: list[Held] | None = None

    @classmethod
    def open(cls, desk: Desk, case: str) -> Dossier:
        """Find a case and who acts on it.

        Raises:
            NotFound, CommandRefused: no such case, its opening is not here, or nobody may act.
        """
        name = officers.acting(desk)
        row = find_case(desk.conn, case)
        if row.context is None:
            raise not_here(row.number or row.key.hex())
        return cls(desk, row, decode_context(row.context), name)

    @property
    def number(self) -> str:
        """How people call the case."""
        return self.row.number or self.row.key.hex()

    def held(self) -> list[Held]:
        """Return all entries of the case that are here, as the fold takes them."""
        if self._held is None:
            rows = logs.entries_of_cases(self.desk.conn, [self.row.id])[self.row.id]
            self._held = held_of(self.desk.conn, self.desk.node.rules, rows)
        return self._held

    def fold(self) -> Folded:
        """Fold the case as it stands here."""
        return fold(self.held(), self.desk.node.ledger.judge)

    # --- writing

    def spine(self, kind: str, fields: Mapping[str, Any], body: Mapping[str, Any] | None = None) -> Answer:
        """Advance the case; raises what `refusals` says when the fold would not apply it."""
        epoch = self.context.epoch + (kind in MOVING)
        rests, saw = self._listed()
        return self._write(self._draft(kind, fields, body, prev=self.context.tip, epoch=epoch, rests=rests, saw=saw))

    def side(self, kind: str, fields: Mapping[str, Any], body: Mapping[str, Any] | None = None) -> Answer:
        """Add a side entry, seen from the line's last entry."""
        return self._write(self._draft(kind, fields, body, prev=self.context.tip, epoch=self.context.epoch))

    def reclaim_after(self, entry: str, body: Mapping[str, Any]) -> Answer:
        """Reclaim the case behind an entry further back, whose link begins with these hex digits."""
        link = self.find_link(entry)
        before = fold(self._chain(link), self.desk.node.ledger.judge).context
        if before is None or before.tip != link:
            raise CommandRefused(f"entry {entry} moves no custody", hint="Name an entry that advanced the case.")
        return self._write(self._draft("reclaim", {}, body, prev=link, epoch=before.epoch + 1))

    def _draft(self, kind: str, fields: Mapping[str, Any], body: Mapping[str, Any] | None, **place: Any) -> Draft:  # noqa: ANN401 - Draft's own
        named = {"officer_name": self.officer_name} if self.officer_name is not None else {}
        return self.desk.draft(
            kind, fields, {**(body or {}), **named}, case=self.row.key, salt=self.row.salt or b"", **place
        )

    def _write(self, draft: Draft) -> Answer:
        if self.row.entries >= limits.CASE_ENTRIES_MAX:
            raise too_long(self.number)
        if self.row.salt is None and draft.body:
            raise not_here(self.number)  # without the salt nobody could check the body
        self._try(draft)
        (placed,) = self.desk.write(draft)
        return {**case_name(self.row.number, self.row.key), **self.desk.place(placed)}

    # --- trying

    def _try(self, draft: Draft) -> None:
        """Raise unless the fold would apply the draft."""
        tried = as_held(self.desk, draft)
        judge = self.desk.node.ledger.judge
        if self.row.simple and advance(self.context, tried, judge) is not None:
            return
        verdict = fold([*self.held(), tried], judge).verdicts.get(tried.link, Verdict(Effect.VOID))
        if verdict.effect is not Effect.APPLIED:
            raise self.refused(tried.header, verdict)

    def refused(self, header: Header, verdict: Verdict) -> TongbanError:
        """Return the error for an entry that would not be applied."""
        return refusal(Attempt(self.desk.node.id, self.number, self.context, header), verdict)

    # --- what is new to the line

    def _listed(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return `rests` and `saw` for the next spine entry."""
        relied = [side for side in self.context.fresh if self._is_relied(side)]
        others = [side for side in self.context.fresh if not self._is_relied(side)]
        return _newest(relied), _newest(others)

    def _is_relied(self, side: Side) -> bool:
        """Tell whether a guard or a clock needs it: listed as `saw` only, it could not count later."""
        stage = self.context.stage
        if stage is not None and side.dispatch == stage.dispatch:
            return True
        return self.context.notice is not None and bool(set(side.names) & set(self.context.asked))

    # --- entries further back

    def find_link(self, entry: str) -> bytes:
        """Return the link of the one entry of the case that begins with these hex digits; raises NotFound."""
        found = {held.link for held in self.held() if held.link.hex().startswith(entry.lower())}
        if len(entry) < KEY_PREFIX_MIN or len(found) != 1:
            raise NotFound(
                f"no one entry of case {self.number} begins with {entry[:32]}", hint="`case show` lists them; 8 digits at least."
            )
        return found.pop()

    def _chain(self, link: bytes) -> list[Held]:
        """Return a spine entry, all before it, and what these rest on."""
        by_link = {held.link: held for held in self.held()}
        found: dict[bytes, Held] = {}
        at: bytes | None = link
        while at is not None and at in by_link and at not in found:
            found[at] = by_link[at]
            for rest in by_link[at].header.rests:
                if rest in by_link:
                    found.setdefault(rest, by_link[rest])
            at = by_link[at].header.prev
        dated = [held for held in by_link.values() if held.header.type == "time" and held.header.fields.get("of") in found]
        return [*found.values(), *dated]


def as_held(desk: Desk, draft: Draft) -> Held:
    """Return a draft as the fold would see it; its body and counter play no part in a verdict."""
    identity, rules = desk.node.ledger.identity, desk.node.rules
    header = Header(
        FORMAT,
        identity.key.suite,
        identity.node,
        draft.type,
        draft.officer,
        draft.window,
        draft.claimed_at,
        rules.basis,
        limits.LOG_SIZE_MAX,
        None,
        draft.case,
        draft.epoch,
        draft.prev,
        draft.rests,
        draft.saw,
        dict(draft.fields),
    )
    own = desk.node.ledger.own_row(desk.conn)
    return Held(hash_header(encode_header(header)), header, order_of(rules, own.log, b"", own.size))


def _newest(sides: Sequence[Side]) -> tuple[bytes, ...]:
    """Return links, oldest first; beyond the bound the newest are kept and the others wait for the next entry."""
    ordered = sorted(sides, key=lambda side: (side.at, side.link))
    return tuple(side.link for side in ordered[-limits.LINKS_MAX :])
