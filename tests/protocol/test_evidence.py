"""Evidence files: they prove offline that one key signed two histories; and nothing else passes for a proof."""

from __future__ import annotations

import msgspec
import pytest

from protocol import evidence, keys, merkle
from protocol.errors import ProofInvalid
from protocol.evidence import Evidence, How, OtherBeginning, TwoEntries
from protocol.log import FORMAT, Checkpoint, Signed, sign_checkpoint
from tests.protocol.network import EAST, WEST, Net, city, key_of
from tests.protocol.test_chain import chain_to

INCARNATION = b"i" * 16
SHARED = [keys.sha256(b"shared %d" % number) for number in range(5)]
ONE = [*SHARED, *(keys.sha256(b"one %d" % number) for number in range(7))]
OTHER = [*SHARED, *(keys.sha256(b"other %d" % number) for number in range(9))]


@pytest.fixture(scope="module")
def net() -> Net:
    return city()


def head(leaves: list[bytes], start: int, size: int, node: str = EAST, incarnation: bytes = INCARNATION) -> Checkpoint:
    root, run = merkle.root(leaves[:size]), merkle.root(leaves[start:size])
    return Checkpoint(FORMAT, 1, node, incarnation, start, size, root, run, key_of(node).id)


def made(net: Net, first: Checkpoint, second: Checkpoint, **more: object) -> Evidence:
    signed = [sign_checkpoint(one, key_of(one.node), net.root.network) for one in (first, second)]
    return Evidence(evidence.FORMAT, net.root.network, *signed, tuple(chain_to(net, first.node)), **more)  # type: ignore[arg-type]


def two_entries(one: Checkpoint, other: Checkpoint, index: int) -> TwoEntries:
    parts = []
    for leaves, checkpoint in ((ONE, one), (OTHER, other)):
        run = leaves[checkpoint.start : checkpoint.size]
        parts += [leaves[index], merkle.inclusion_proof(run, index - checkpoint.start)]
    return TwoEntries(index, *parts)  # type: ignore[arg-type]


def proves(file: Evidence) -> How:
    return evidence.verify(evidence.encode(file)).how


def proves_nothing(file: Evidence, why: str = "") -> None:
    with pytest.raises(ProofInvalid, match="proves nothing.*" + why):
        evidence.verify(evidence.encode(file))


def test_two_roots_of_one_size_prove_by_themselves(net: Net) -> None:
    """The simplest lie: the finding names network, node, log and sizes."""
    finding = evidence.verify(evidence.encode(made(net, head(ONE, 5, 8), head(OTHER, 0, 8))))
    assert (finding.node, finding.incarnation, finding.sizes, finding.how) == (EAST, INCARNATION, (8, 8), How.ROOTS)
    assert finding.network == net.root.network


def test_two_runs_over_one_span_prove(net: Net) -> None:
    """One root with two runs cannot both be true either."""
    first = head(ONE, 5, 8)
    second = Checkpoint(*(getattr(first, name) for name in first.__struct_fields__[:7]), merkle.root(OTHER[5:8]), first.key)
    assert proves(made(net, first, second)) is How.RUNS


@pytest.mark.parametrize(("one", "other"), [((5, 8), (4, 14)), ((0, 12), (6, 7)), ((7, 8), (7, 9))])
def test_two_entries_under_one_index_prove(net: Net, one: tuple[int, int], other: tuple[int, int]) -> None:
    """Heads of different sizes: each with its leaf at the same place, and its path."""
    first, second = head(ONE, *one), head(OTHER, *other)
    index = max(5, first.start, second.start)
    assert proves(made(net, first, second, entries=two_entries(first, second, index))) is How.ENTRIES


@pytest.mark.parametrize(("short", "long"), [(6, 14), (8, 9), (12, 13)])
def test_a_longer_history_that_began_otherwise_proves(net: Net, short: int, long: int) -> None:
    """Runs that do not touch: the longer history's own root at the shorter one's size is another."""
    first, second = head(ONE, short - 1, short), head(OTHER, long - 1, long)
    beginning = OtherBeginning(merkle.root(OTHER[:short]), merkle.consistency_proof(OTHER[:long], short))
    assert proves(made(net, first, second, beginning=beginning)) is How.BEGINNING
    assert proves(made(net, second, first, beginning=beginning)) is How.BEGINNING


def test_an_honest_log_cannot_be_accused(net: Net) -> None:
    """Two heads of one growing history, with whatever data of it: nothing is proved."""
    first, second = head(ONE, 5, 8), head(ONE, 6, 12)
    proves_nothing(made(net, first, second), "both be true")
    proves_nothing(made(net, first, first), "both be true")
    honest = OtherBeginning(first.root, merkle.consistency_proof(ONE, 8))
    proves_nothing(made(net, first, second, beginning=honest), "begins with")
    lie = OtherBeginning(merkle.root(OTHER[:8]), merkle.consistency_proof(OTHER[:12], 8))
    proves_nothing(made(net, first, second, beginning=lie))
    paths = [merkle.inclusion_proof(ONE[one.start : one.size], 7 - one.start) for one in (first, second)]
    same = TwoEntries(7, ONE[7], paths[0], ONE[7], paths[1])
    proves_nothing(made(net, first, second, entries=same), "are one")
    proves_nothing(made(net, first, second, entries=msgspec.structs.replace(same, second_leaf=OTHER[7])))


def test_heads_of_two_logs_are_no_contradiction(net: Net) -> None:
    """Another node's, or another incarnation's: two logs have two histories."""
    proves_nothing(made(net, head(ONE, 5, 8), head(OTHER, 5, 8, incarnation=b"j" * 16)), "different logs")
    wests = made(net, head(ONE, 5, 8, WEST), head(OTHER, 5, 8))
    proves_nothing(wests)
    with_both = msgspec.structs.replace(wests, chain=(*wests.chain, *chain_to(net, EAST)[1:]))
    proves_nothing(with_both, "different logs")


def test_heads_that_nobody_signed_prove_nothing(net: Net) -> None:
    """A forged signature, one for another network, or a signer without a chain."""
    good = made(net, head(ONE, 5, 8), head(OTHER, 0, 8))
    assert proves(good) is How.ROOTS
    forged = Signed(good.second.checkpoint, bytes(64))
    proves_nothing(msgspec.structs.replace(good, second=forged))
    foreign = sign_checkpoint(head(OTHER, 0, 8), key_of(EAST), b"n" * 32)
    proves_nothing(msgspec.structs.replace(good, second=foreign))
    stranger = sign_checkpoint(msgspec.structs.replace(head(OTHER, 0, 8), key=key_of(WEST).id), key_of(WEST), net.root.network)
    proves_nothing(msgspec.structs.replace(good, second=stranger))
    proves_nothing(msgspec.structs.replace(good, chain=good.chain[:1]))
    proves_nothing(msgspec.structs.replace(good, network=b"n" * 32), "genesis")


def test_a_path_of_another_place_proves_nothing(net: Net) -> None:
    """Leaf, index and path belong together, inside the run that was signed."""
    first, second = head(ONE, 5, 8), head(OTHER, 4, 14)
    good = two_entries(first, second, 6)
    assert proves(made(net, first, second, entries=good)) is How.ENTRIES
    for index in (4, 5, 7, 8, 2**40):
        proves_nothing(made(net, first, second, entries=msgspec.structs.replace(good, index=index)))
    proves_nothing(made(net, first, second, entries=msgspec.structs.replace(good, first_path=good.first_path[:-1])))


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 5_000, b"\xff\xfe", b'{"format":"tongban-evidence/1"}', b" " * (evidence.FILE_BYTES_MAX + 1)])
def test_what_is_no_evidence_file_proves_nothing(data: bytes) -> None:
    """Damaged, too large, or something else."""
    with pytest.raises(ProofInvalid, match="proves nothing"):
        evidence.verify(data)


def test_a_file_of_another_format_is_named(net: Net) -> None:
    """A later program's file is not judged by this one."""
    other = msgspec.structs.replace(made(net, head(ONE, 5, 8), head(OTHER, 0, 8)), format="tongban-evidence/2")
    proves_nothing(other, "not known")


def test_the_file_is_text_that_a_person_can_look_into(net: Net) -> None:
    """JSON, and the same file again when it is read and written."""
    file = made(net, head(ONE, 5, 8), head(OTHER, 0, 8))
    data = evidence.encode(file)
    assert data.decode("ascii").startswith('{\n "format": "tongban-evidence/1"')
    assert evidence.encode(evidence.decode(data)) == data
