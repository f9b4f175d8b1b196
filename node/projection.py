"""From entries to case rows: the one way in which a case's state gets into the store.

A `Batch` lives for one unit of work. Entries are added to it log by log; `finish` folds every touched case once, writes
one row a case, and tells what changed. Rebuilding and compare run the same code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from node.store import cases, logs
from node.store.cases import CaseRow
from node.store.database import Connection
from node.store.logs import EntryRow, LogRow
from protocol import text
from protocol.authority import RulesJudge
from protocol.cases import Context, Held, decode_context, encode_context, state_word
from protocol.errors import DecodeError
from protocol.fold import Effect, Folded, advance, fold
from protocol.log import Header, Known, Rebuilt, decode_header, fits, hash_header, salt_of
from protocol.register import Rules
from protocol.standing import is_cut, order_of


@dataclass(slots=True)
class Touched:
    """What one unit of work adds to a case.

    first, last: entry ids. authors: of the new entries. parties_before: None where the case was unknown here.
    """

    row: CaseRow
    new: list[tuple[int, int, int, Rebuilt]] = field(default_factory=list)  # (entry id, log id, index, entry)
    filled: list[Rebuilt] = field(default_factory=list)  # held before, whose bodies came now
    moved: bool = False  # an entry held before was put on a branch: the order may be another
    first: int = 0
    last: int = 0
    authors: set[str] = field(default_factory=set)
    parties: tuple[str, ...] = ()
    parties_before: tuple[str, ...] = ()
    missing: tuple[bytes, ...] = ()
    doubted: bool = False  # entries were here before the opening: nobody could prove their bodies


NAMING: Final = frozenset({"open", "correct"})  # types whose bodies may state an applicant's name


class Batch:
    """All entries that one unit of work adds, and the cases they touch."""

    def __init__(self, conn: Connection, rules: Rules, judge: RulesJudge) -> None:
        self._conn = conn
        self._rules = rules
        self._judge = judge
        self._next_entry = logs.next_entry_id(conn)
        self._next_case = 0
        self._logs: dict[int, LogRow] = {}
        self._added: dict[tuple[int, int], tuple[Rebuilt, Touched]] = {}
        self.touched: dict[bytes, Touched] = {}
        self.bodiless: set[bytes] = set()  # cases of which a body that a header commits to did not come, or was false

    def known(self, row: LogRow, indexes: Iterable[int], homes: Collection[int] = ()) -> dict[int, Known]:
        """Return what rebuilding needs of earlier entries, of this batch or on disk (see `logs.known_of`)."""
        homes = {row.id, *homes}
        found, rest = {}, []
        for index in indexes:
            added = self._added.get((row.id, index))
            if added is None:
                rest.append(index)
            else:
                entry, touched = added
                case = touched.row
                found[index] = Known(entry.leaf[:16], case.key, case.salt if case.open_log in homes else None)
        stored = logs.known_of(self._conn, row.id, rest, homes) if rest else {}
        return {**found, **{index: self._with_salt(one, homes) for index, one in stored.items()}}

    def _with_salt(self, one: Known, homes: Collection[int]) -> Known:
        """Add a salt that this batch brought for an entry held before."""
        touched = self.touched.get(one.case) if one.salt is None else None
        if touched is None or touched.row.open_log not in homes:
            return one
        return Known(one.link, one.case, touched.row.salt)

    def add(self, row: LogRow, start: int, entries: Sequence[Rebuilt]) -> list[int]:
        """Append consecutive entries of a log; returns their ids."""
        return self.add_places(row, list(enumerate(entries, start)))

    def add_places(self, row: LogRow, entries: Sequence[tuple[int, Rebuilt]]) -> list[int]:
        """Append entries of a log at given indexes; returns their ids."""
        self._logs[row.id] = row
        keys = [case_key(entry) for _, entry in entries]
        self._load_cases(dict.fromkeys(key for key in keys if key is not None))
        first = self._next_entry
        self._next_entry += len(entries)
        stored: list[tuple[int, int, int, int | None, bytes, bytes | None]] = []
        proven = [
            (index, one if key is None or one.salt is not None or one.body is None else self._proven(key, one))
            for key, (index, one) in zip(keys, entries, strict=True)
        ]
        for entry_id, key, (index, entry) in zip(range(first, self._next_entry), keys, proven, strict=True):
            case_id = None if key is None else self._touch(row.id, index, entry, entry_id, key)
            stored.append((entry_id, row.id, index, case_id, entry.raw, entry.body))
        logs.insert_entries(self._conn, stored)
        return list(range(first, self._next_entry))

    def _proven(self, key: bytes, entry: Rebuilt) -> Rebuilt:
        """Return an entry of a case whose opening stands in another log, without its body if that is not the one signed."""
        salt = self.touched[key].row.salt
        if salt is None or entry.body is None or entry.header is None or fits(entry.header.body, entry.body, salt):
            return entry  # without the opening nobody can tell yet: `_check_earlier` will
        self.bodiless.add(key)
        return Rebuilt(entry.raw, None, entry.leaf, entry.header, None)

    def _check_earlier(self, touched: Touched) -> None:
        """Drop false bodies that came before their case's opening, with whose salt they can be told now."""
        for row in logs.entries_of_cases(self._conn, [touched.row.id])[touched.row.id]:
            header = _readable(row.raw)
            if header is None or row.body is None or header.type == "open" or fits(header.body, row.body, touched.row.salt):
                continue
            logs.drop_body(self._conn, row.id)
            self.bodiless.add(touched.row.key)

    def salts(self, keys: set[bytes]) -> dict[bytes, bytes]:
        """Return the salts of cases, as far as they are known by now."""
        self._load_cases(keys)
        return {key: salt for key in keys if (salt := self.touched[key].row.salt) is not None}

    def fill(self, held: EntryRow, log_id: int, entry: Rebuilt) -> None:
        """Give an entry that is held already its body, if it has none; the caller has checked that it fits."""
        key = case_key(entry)
        if held.body is not None or entry.body is None:
            return
        logs.save_body(self._conn, held.id, entry.body)
        if key is None or entry.header is None:
            return
        self._load_cases({key})
        touched = self.touched[key]
        touched.filled.append(entry)
        if entry.header.type == "open" and touched.row.salt is None:
            touched.row.open_log, touched.row.salt = log_id, entry.salt
            touched.doubted = True

    def move(self, held: EntryRow, rival: LogRow, entry: Rebuilt) -> None:
        """Put an entry that is held already on a rival branch; its case is folded again."""
        logs.move_entry(self._conn, held.id, rival.id)
        key = case_key(entry)
        if key is None:
            return
        self._load_cases({key})
        touched = self.touched[key]
        touched.moved = True
        if touched.row.open_log == held.log and key == entry.leaf[:16]:
            touched.row.open_log = rival.id

    def _load_cases(self, keys: Iterable[bytes]) -> None:
        """Load the cases of a batch; a new one gets the next id, in the order of arrival, so that runs repeat exactly."""
        unknown = [key for key in keys if key not in self.touched]
        for key, row in cases.load_by_keys(self._conn, unknown).items():
            self.touched[key] = Touched(row)
        for key in unknown:
            if key in self.touched:
                continue
            if not self._next_case:
                self._next_case = cases.next_case_id(self._conn)
            self.touched[key] = Touched(CaseRow(self._next_case, key))
            self._next_case += 1

    def _touch(self, log_id: int, index: int, entry: Rebuilt, entry_id: int, key: bytes) -> int:
        """Note that a case has a new entry; returns the case's id."""
        touched = self.touched[key]
        case, header = touched.row, entry.header
        assert header is not None  # it has a case
        if case.open_log is None and header.type == "open":
            case.open_log, case.salt = log_id, entry.salt
            touched.doubted = case.entries > 0
        self._added[log_id, index] = (entry, touched)
        touched.new.append((entry_id, log_id, index, entry))
        touched.first = touched.first or entry_id
        touched.last = entry_id
        touched.authors.add(header.node)
        case.entries += 1
        return case.id

    def finish(self) -> list[Touched]:
        """Fold every touched case and write its row; returns what changed."""
        changed = [touched for touched in self.touched.values() if touched.new or touched.moved]
        filled = [touched for touched in self.touched.values() if touched.filled and not (touched.new or touched.moved)]
        for touched in (*changed, *filled):
            if touched.doubted:
                self._check_earlier(touched)
        slow = [touched for touched in changed if not self._extend(touched)]
        held = logs.entries_of_cases(self._conn, [touched.row.id for touched in slow])
        for touched in slow:
            self._fold(touched, held[touched.row.id])
            if touched.moved:  # whoever has the case is told of it whole
                touched.first, touched.last = 0, max(one.id for one in held[touched.row.id])
                touched.authors = _authors(held[touched.row.id])
        for touched in filled:
            self._tell_whole(touched)
        cases.save(self._conn, [touched.row for touched in (*changed, *filled)])
        self._save_labels([*changed, *filled])
        return [*changed, *filled]

    def _tell_whole(self, touched: Touched) -> None:
        """Let whoever has a case be told of it whole: a body came that they may lack as we did."""
        rows = logs.entries_of_cases(self._conn, [touched.row.id])[touched.row.id]
        touched.first, touched.last, touched.authors = 0, max(one.id for one in rows), _authors(rows)
        touched.parties = decode_context(touched.row.context).parties if touched.row.context is not None else ()

    def _extend(self, touched: Touched) -> bool:
        """Take the fast path: apply the new entries to the stored context, if each simply continues it."""
        case = touched.row
        if touched.moved:
            return False
        if case.entries == len(touched.new):  # nothing of it was here before; an opening that comes late is folded
            context: Context | None = None
        elif case.simple and case.context is not None:
            context = decode_context(case.context)
            touched.parties_before = context.parties
        else:
            return False
        for _, log_id, index, entry in touched.new:
            context = advance(context, self._held(log_id, index, entry), self._judge)
            if context is None:
                return False
        assert context is not None
        _set_state(touched, context, context.delivered, simple=True, waiting=False)
        return True

    def _held(self, log_id: int, index: int, entry: Rebuilt) -> Held:
        assert entry.header is not None  # it has a case
        return _stand(self._rules, self._logs[log_id], index, entry.leaf, entry.header)

    def _fold(self, touched: Touched, rows: Sequence[EntryRow]) -> None:
        if touched.row.context is not None:
            touched.parties_before = decode_context(touched.row.context).parties
        folded = fold(self.held(rows), self._judge)
        touched.missing = folded.missing
        _set_state(touched, folded.context, folded.delivered, simple=folded.simple, waiting=_is_waiting(folded), parties=folded.parties)

    def held(self, rows: Sequence[EntryRow]) -> list[Held]:
        """Return stored entries of a case as the fold takes them; what cannot be read is left out."""
        return held_of(self._conn, self._rules, rows, self._logs)

    def refold(self, rows: Sequence[CaseRow]) -> list[Touched]:
        """Fold some cases again, because something they waited for is here."""
        held = logs.entries_of_cases(self._conn, [row.id for row in rows])
        changed = []
        for row in rows:
            touched = Touched(row, first=0, last=max((one.id for one in held[row.id]), default=0))
            self._fold(touched, held[row.id])
            touched.authors = _authors(held[row.id])
            changed.append(touched)
        cases.save(self._conn, [touched.row for touched in changed])
        return changed

    def _save_labels(self, changed: Sequence[Touched]) -> None:
        names, sources = [], []
        for touched in changed:
            stated: list[str] = []
            for entry_id, _, _, entry in touched.new:
                header = entry.header
                assert header is not None  # it has a case
                if header.type in NAMING:
                    stated += _names(header, entry.body)
                if "source" in header.fields and (source := _source(header)) is not None:
                    sources.append((source, entry_id))
            for entry in touched.filled:
                stated += _names(entry.header, entry.body) if entry.header is not None else []
            if not stated:
                continue
            before = self._names_before(touched)
            if before:
                cases.replace_name(self._conn, touched.row.id, _index(before), _index([*before, *stated]))
            else:
                names.append((touched.row.id, _index(stated)))
        cases.save_names(self._conn, names)
        cases.save_sources(self._conn, sources)

    def _names_before(self, touched: Touched) -> list[str]:
        """Return the names under which a case is found already."""
        if touched.row.entries == len(touched.new):
            return []
        new = {entry.raw for _, _, _, entry in touched.new} | {entry.raw for entry in touched.filled}
        rows = logs.entries_of_cases(self._conn, [touched.row.id])[touched.row.id]
        earlier = ((_readable(row.raw), row.body) for row in rows if row.raw not in new)
        return [name for header, body in earlier if header is not None for name in _names(header, body)]


def held_of(
    conn: Connection, rules: Rules, rows: Sequence[EntryRow], known: dict[int, LogRow] | None = None
) -> list[Held]:
    """Return stored entries of a case as the fold takes them; what cannot be read is left out.

    `known` holds logs loaded before, by id; it gains those that are needed.
    """
    known = {} if known is None else known
    found = []
    for row in rows:
        header = _readable(row.raw)
        if header is None:
            continue
        if row.log not in known:
            known[row.log] = logs.load_log(conn, row.log)
        found.append(_stand(rules, known[row.log], row.index, hash_header(row.raw), header))
    return found


def _authors(rows: Sequence[EntryRow]) -> set[str]:
    return {header.node for row in rows if (header := _readable(row.raw)) is not None}


def _stand(rules: Rules, log: LogRow, index: int, leaf: bytes, header: Header) -> Held:
    return Held(leaf, header, order_of(rules, log.log, log.branch, index), is_cut(rules, log.log, log.key, index, log.branch))


class _Stated(msgspec.Struct):
    """What search needs of a body; it is proven by its hash, and what else it holds is left unread."""

    applicant: str | None = None


class _Corrected(msgspec.Struct):
    """The new values that a correction states."""

    new: _Stated = msgspec.field(default_factory=_Stated)


_opened = msgspec.msgpack.Decoder(_Stated)
_corrected = msgspec.msgpack.Decoder(_Corrected)


def case_key(entry: Rebuilt) -> bytes | None:
    """Return the key of the case to which an entry belongs, if to any."""
    header = entry.header
    if header is None:
        return None
    return entry.leaf[:16] if header.type == "open" and header.case is None else header.case


def _set_state(
    touched: Touched,
    context: Context | None,
    delivered: bool,
    *,
    simple: bool,
    waiting: bool,
    parties: tuple[str, ...] | None = None,
) -> None:
    row = touched.row
    row.simple, row.waiting = int(simple), int(waiting)
    if context is None:
        row.state, row.context = "waiting", None
        return
    row.state, row.holder, row.delivered = state_word(context), context.holder, int(delivered)
    row.number, row.item = context.terms.number, context.terms.item
    row.opener, row.opened_at = context.terms.opener, context.clock.opened_at
    touched.parties = parties if parties is not None else context.parties
    row.context = encode_context(context)


def _is_waiting(folded: Folded) -> bool:
    return bool(folded.missing) or any(one.effect is Effect.WAITING for one in folded.verdicts.values())


def _names(header: Header, body: bytes | None) -> list[str]:
    """Return the applicant's name that an opening or a correction states: a case is found by the old and the new one."""
    if body is None or not (header.type == "correct" or (header.type == "open" and header.case is None)):
        return []
    try:
        stated = _opened.decode(body) if header.type == "open" else _corrected.decode(body).new
    except (msgspec.DecodeError, RecursionError):
        return []
    return [stated.applicant] if stated.applicant else []


def _index(names: Sequence[str]) -> str:
    return " ".join(filter(None, map(text.index_text, dict.fromkeys(names))))


def _source(header: Header) -> str | None:
    source = header.fields.get("source")
    return source[0] if isinstance(source, (list, tuple)) and source and isinstance(source[0], str) else None


def _readable(raw: bytes) -> Header | None:
    try:
        return decode_header(raw)
    except DecodeError:
        return None


def rebuild_rows(conn: Connection, rules: Rules, judge: RulesJudge) -> int:
    """Drop every projection and make it again from entries; returns how many entries were read."""
    cases.clear(conn)
    count = 0
    batch = Batch(conn, rules, judge)
    ids = [row[0] for row in conn.execute("SELECT id FROM cases ORDER BY id")]
    for begin in range(0, len(ids), 500):
        part = cases.load_by_ids(conn, ids[begin : begin + 500])
        held = logs.entries_of_cases(conn, [row.id for row in part])
        for row in part:
            count += len(held[row.id])
            _rebuild_case(conn, batch, row, held[row.id])
        cases.save(conn, part)
    return count


def _rebuild_case(conn: Connection, batch: Batch, row: CaseRow, held: Sequence[EntryRow]) -> None:
    touched = Touched(row)
    row.entries = len(held)
    names: list[str] = []
    for one in held:
        header = _readable(one.raw)
        if header is None:
            continue
        if header.type == "open" and row.open_log is None:
            row.open_log, row.salt = one.log, _salt(one.body)
        names += _names(header, one.body)
        if (source := _source(header)) is not None:
            cases.save_sources(conn, [(source, one.id)])
    if names:
        cases.save_names(conn, [(row.id, _index(names))])
    batch._fold(touched, held)  # noqa: SLF001 - the same module


def _salt(body: bytes | None) -> bytes | None:
    if body is None:
        return None
    try:
        return salt_of(body)
    except DecodeError:
        return None
