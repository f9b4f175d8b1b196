"""Evidence on the command line: listed, written to a file, and checked by somebody who has nothing but that file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from node import setup
from node.folder import Folder
from node.ledger import Changes
from node.store import logs
from node.store.database import Connection
from node.system import SystemClock, SystemEntropy
from protocol import codec
from protocol.log import Signed, decode_checkpoint, sign_checkpoint
from tests.hub.test_cli import ROOT_NODE
from tests.shell import give, run

pytestmark = pytest.mark.processes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a root whose key has signed two heads of one size."""
    data = tmp_path / "city"
    assert give("init", "--division", ROOT_NODE, "--name", "乌鲁木齐", "--listen", "127.0.0.1:0", data=data).code == 0
    asyncio.run(lie(Folder(data)))
    return data


async def lie(folder: Folder) -> None:
    node = await setup.open_node(folder, SystemClock(), SystemEntropy())

    def sign_twice(conn: Connection, _: Changes) -> None:
        ledger = node.ledger
        ledger.seal(conn)
        first = ledger.newest_seal(conn)
        assert first is not None
        other = msgspec.structs.replace(decode_checkpoint(first.checkpoint), root=bytes(32))
        second = sign_checkpoint(other, ledger.identity.key, ledger.identity.network)
        logs.save_evidence(conn, ledger.own_row(conn).id, 0, packed(first), packed(second), 0)

    await node.write(sign_twice)
    await node.close()


def packed(signed: Signed) -> bytes:
    return codec.encode([signed.checkpoint, signed.signature])


def test_evidence_is_written_and_checked_offline(folder: Path, tmp_path: Path) -> None:
    """List, export, check, each in a process of its own and without a node that runs: a sentence says whose key signed two histories."""
    (row,) = run("evidence", "list", "--json", data=folder).rows
    assert (row["node"], row["sizes"]) == (ROOT_NODE, [1, 1])
    file = tmp_path / "proof.json"
    assert run("evidence", "export", row["number"], file, data=folder).code == 0
    done = run("verify", "--evidence", file)
    assert done.code == 0
    assert f"证明成立：{ROOT_NODE}" in done.out.decode()
    done = run("verify", "--evidence", file, "--json")
    assert (done.code, done.value["proved"], done.value["node"]) == (0, True, ROOT_NODE)


def test_a_file_that_proves_nothing_says_so(folder: Path, tmp_path: Path) -> None:
    """Exit 1 with the reason; a file that cannot be read is exit 2."""
    file = tmp_path / "proof.json"
    assert give("evidence", "export", 1, file, data=folder).code == 0
    whole = file.read_bytes()
    for damaged in (whole.replace(b'"network": "', b'"network": "AAAA', 1), whole[:-20], b"{}", b""):
        file.write_bytes(damaged)
        done = give("verify", "--evidence", file, "--json")
        assert (done.code, done.error["code"]) == (1, "proof")
        assert "proves nothing" in done.error["message"]
    assert give("verify", "--evidence", tmp_path / "none.json", "--json").code == 2


def test_an_export_replaces_no_file_and_leaves_none_when_it_fails(folder: Path, tmp_path: Path) -> None:
    """A file that is there stays as it is; a number that is not there leaves nothing."""
    file = tmp_path / "mine.txt"
    file.write_text("mine", encoding="utf-8")
    assert give("evidence", "export", 1, file, "--json", data=folder).code == 2
    assert file.read_text(encoding="utf-8") == "mine"
    missing = tmp_path / "other.json"
    done = give("evidence", "export", 7, missing, "--json", data=folder)
    assert (done.code, done.error["code"]) == (1, "not_found")
    assert not missing.exists()
