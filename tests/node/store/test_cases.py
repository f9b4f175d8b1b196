"""Case rows: found by number, key and prefix; listed; named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store import cases
from node.store.cases import CaseRow, Filter
from node.store.database import Connection, connect, migrate
from protocol.text import index_text, query_phrase


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    """A store with three cases."""
    conn = connect(str(tmp_path / "a.sqlite3"), False)
    migrate(conn)
    rows = [
        CaseRow(1, bytes.fromhex("aabbccdd" + "00" * 12), "N-1", "a", "received", "h1", opened_at=1),
        CaseRow(2, bytes.fromhex("aabbccdd" + "11" * 12), "N-2", "b", "accepted", "h1", opened_at=2),
        CaseRow(3, bytes.fromhex("ff" * 16), None, None, waiting=1),
    ]
    cases.save(conn, rows)
    yield conn
    conn.close()


def ids(rows: list[CaseRow]) -> list[int]:
    return [row.id for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("N-1", [1]),
        ("aabbccdd", [1, 2]),
        ("AABBCCDD1", [2]),
        ("ff" * 16, [3]),
        ("ff" * 17, []),
        ("fffffff", []),
        ("nothing!", []),
    ],
)
def test_a_name_finds_what_it_may_mean(conn: Connection, text: str, expected: list[int]) -> None:
    """A number first; else a key or its beginning of eight digits and more."""
    assert sorted(ids(cases.resolve(conn, text))) == expected


def test_saving_again_replaces_everything_but_the_key(conn: Connection) -> None:
    """One upsert a case: the row is what the fold says now."""
    (row,) = cases.load_by_ids(conn, [3])
    row.number, row.state, row.waiting = "N-3", "received", 0
    cases.save(conn, [row])
    assert cases.load_by_keys(conn, [row.key]) == {row.key: row}
    assert cases.is_number_known(conn, "N-3")
    assert cases.next_case_id(conn) == 4


def test_a_list_is_filtered_and_paged(conn: Connection) -> None:
    """Newest first; `after` is the id of the last case of the page before."""
    assert ids(cases.search(conn, Filter())) == [3, 2, 1]
    assert ids(cases.search(conn, Filter(limit=2))) == [3, 2]
    assert ids(cases.search(conn, Filter(after=2))) == [1]
    assert ids(cases.search(conn, Filter(holder="h1", state="accepted"))) == [2]
    assert ids(cases.search(conn, Filter(item="a"))) == [1]
    assert cases.waiting_ids(conn, 10) == [3]


def test_names_are_found_and_replaced(conn: Connection) -> None:
    """A name is found by any of its characters and pairs, and no longer after it was replaced."""
    cases.save_names(conn, [(1, index_text("王伟明")), (2, index_text("李娜"))])
    assert ids(cases.search(conn, Filter(grams=query_phrase("伟明")))) == [1]
    cases.replace_name(conn, 1, index_text("王伟明"), index_text("赵一"))
    assert ids(cases.search(conn, Filter(grams=query_phrase("伟")))) == []
    assert ids(cases.search(conn, Filter(grams=query_phrase("赵")))) == [1]


def test_a_source_is_kept_once(conn: Connection) -> None:
    """The first entry that took an event in stands."""
    log = "INSERT INTO logs (id, node, incarnation, key, size, peaks, root) VALUES (1, 'n', ?, x'', 0, x'', x'')"
    conn.execute(log, (bytes(16),))
    conn.execute("INSERT INTO entries (id, log, idx, raw) VALUES (1, 1, 0, x''), (2, 1, 1, x'')")
    cases.save_sources(conn, [("s-1", 1), ("s-1", 2), ("s-2", 2)])
    assert [cases.find_source(conn, source) for source in ("s-1", "s-2", "s-3")] == [1, 2, None]
    assert cases.known_sources(conn, ["s-1", "s-3"]) == {"s-1"}


def test_clearing_keeps_only_who_the_case_is(conn: Connection) -> None:
    """All that comes from entries goes; ids and keys stay, since entries point to them."""
    cases.save_names(conn, [(1, index_text("王"))])
    cases.clear(conn)
    assert [(row.id, row.state, row.number) for row in cases.load_by_ids(conn, [1, 2, 3])] == [
        (1, "waiting", None),
        (2, "waiting", None),
        (3, "waiting", None),
    ]
    assert cases.search(conn, Filter(grams=query_phrase("王"))) == []


def test_cases_of_an_author_in_which_its_order_may_count(conn: Connection) -> None:
    """Those that are no plain line, and plain lines in which it answered a task: the row keeps that answer's place."""
    conn.execute("UPDATE cases SET simple = 1 WHERE id < 3")
    conn.execute("INSERT INTO logs (id, node, incarnation, key, size, peaks, root) VALUES (1, 'n', ?, x'00', 4, x'', x'')", (b"i" * 16,))
    raws = [(1, b"\xa4note"), (2, b"\xa4task"), (3, b"\xa4note")]
    conn.executemany("INSERT INTO entries (log, idx, case_id, raw) VALUES (1, ?1, ?1, ?2)", raws)
    assert cases.ids_of_author(conn, "n", simple_too=False) == [2, 3]
    assert cases.ids_of_author(conn, "n", simple_too=True) == [1, 2, 3]
    assert cases.ids_of_author(conn, "m", simple_too=True) == []
