"""What a node keeps as evidence, read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import evidence
from protocol import codec
from protocol.errors import DecodeError, NotFound
from protocol.log import Signed
from tests.node.building import found


async def test_a_node_without_evidence_lists_nothing(tmp_path: Path) -> None:
    """And has no author for a number."""
    node = await found(tmp_path)
    assert await node.read(evidence.listed) == []
    with pytest.raises(NotFound):
        await node.read(lambda conn: evidence.author_of(conn, 1))


@pytest.mark.parametrize("value", [[], [b"a"], [b"a", "b"], {"a": b"b"}, [b"a", b"b", b"c"]])
def test_what_is_no_signed_head_is_named(value: object) -> None:
    """Evidence is outside data too."""
    with pytest.raises(DecodeError):
        evidence.signed_of(codec.encode(value))  # type: ignore[arg-type]
    assert evidence.signed_of(codec.encode([b"a", b"b"])) == Signed(b"a", b"b")
