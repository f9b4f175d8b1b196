"""Chains of keys in files: what was written is read, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import chains, faults
from protocol import limits
from protocol.chain import verify_chain
from protocol.errors import InputError, StoreError
from tests.node.building import CITY, EAST, enrol, found


async def test_a_chain_goes_through_a_file(tmp_path: Path) -> None:
    """It is read as it was written, leads to the node, and is written again only when it is another one."""
    city = await found(tmp_path / "city")
    east = await enrol(tmp_path / "east", city, EAST)
    path = tmp_path / "chain"
    chain = await east.store.own(lambda conn: chains.chain_of(east.ledger, conn, EAST))
    assert chains.save(path, chain)
    assert chains.load(path) == tuple(chain)
    record = verify_chain(east.ledger.identity.network, chains.load(path)).record(EAST)
    assert record is not None
    assert record.key == east.ledger.identity.key.public
    assert not chains.save(path, chain)
    assert chains.save(path, await city.store.own(lambda conn: chains.chain_of(city.ledger, conn, CITY)))


@pytest.mark.parametrize("content", [None, b"", b"a backup", bytes(limits.MESSAGE_BYTES_MAX + 9)])
def test_another_file_is_no_chain(content: bytes | None, tmp_path: Path) -> None:
    """Missing, empty, something else or too long: said in words."""
    if content is not None:
        (tmp_path / "chain").write_bytes(content)
    with pytest.raises(InputError):
        chains.load(tmp_path / "chain")


async def test_a_chain_is_replaced_wholly_or_not_at_all(tmp_path: Path) -> None:
    """A crash while it is written leaves the old one; a disk that refuses is named."""
    city = await found(tmp_path / "city")
    chain = await city.store.own(lambda conn: chains.chain_of(city.ledger, conn, CITY))
    path = tmp_path / "chain"
    path.write_bytes(b"old")

    def crash(label: str) -> None:
        if label == "folder.drafted":
            raise faults.Crash(label)

    with faults.hooked(crash), pytest.raises(faults.Crash):
        chains.save(path, chain)
    assert path.read_bytes() == b"old"
    with pytest.raises(StoreError):
        chains.save(tmp_path, chain)
