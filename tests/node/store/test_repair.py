"""Evidence is written over only where it differs, and only with what the caller has verified."""

from __future__ import annotations

from pathlib import Path

from node.store import logs, repair
from node.store.database import Connection
from tests.node.building import found, seal


async def test_an_entry_is_put_right_only_if_it_differs(tmp_path: Path) -> None:
    """What is as it was signed stays untouched; a withheld body stays withheld; no entry is invented."""
    city = await found(tmp_path)

    def work(conn: Connection) -> list[int]:
        row = city.ledger.own_row(conn)
        entry = logs.entry_at(conn, row.id, 0)
        assert entry is not None
        done = [repair.put_right(conn, row.id, 0, entry.raw, entry.body), repair.put_right(conn, row.id, 9, entry.raw, None)]
        done.append(repair.put_right(conn, row.id, 0, b"other", b"body"))
        again = logs.entry_at(conn, row.id, 0)
        assert again is not None
        assert (again.raw, again.body) == (b"other", None)
        done.append(repair.put_right(conn, row.id, 0, entry.raw, None))
        return done

    assert await city.write(lambda conn, _: work(conn)) == [0, 0, 1, 1]
    await city.close()


async def test_checkpoints_are_found_by_their_span_and_dropped(tmp_path: Path) -> None:
    """Of the checkpoints that end within a span, those named go."""
    city = await found(tmp_path)
    await seal(city)

    def work(conn: Connection) -> tuple[int, int, int]:
        row = city.ledger.own_row(conn)
        inside = repair.checkpoint_rows(conn, row.id, 0, row.size)
        beyond = repair.checkpoint_rows(conn, row.id, row.size, row.size + 9)
        repair.drop_checkpoints(conn, [one for one, _, _ in inside])
        return len(inside), len(beyond), len(repair.checkpoint_rows(conn, row.id, 0, row.size))

    assert await city.write(lambda conn, _: work(conn)) == (1, 0, 0)
    assert await city.read(lambda conn: repair.keys_of_sparse(conn, city.ledger.own_row(conn).id, None)) == set()
    await city.close()
