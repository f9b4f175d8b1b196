"""The vectors are what this program makes, and what it reads: another implementation can rely on both."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from protocol import carry, codec, evidence, keys, merkle, trail
from protocol.authority import RulesJudge
from protocol.cases import Held, state_code, state_word
from protocol.errors import DecodeError, JoinRefused, LimitExceeded, PeerError, ProofInvalid
from protocol.fold import fold
from protocol.joincode import parse_code
from protocol.log import (
    Bundle,
    ChangeSet,
    Known,
    LogId,
    Signed,
    decode_checkpoint,
    decode_header,
    hash_body,
    hash_header,
    rebuild,
    references,
    verify_bundle,
    verify_checkpoint,
)
from protocol.register import Fact, Rules, read_register
from protocol.standing import is_cut
from tests.sources import ROOT
from tests.vectors import generate_carry, generate_clones, generate_primitives, generate_protocol, generate_rekeying

FOLDER = ROOT / "tests" / "vectors"
GENERATORS = {
    **dict.fromkeys(generate_primitives.BUILDERS, generate_primitives),
    **dict.fromkeys(generate_protocol.BUILDERS, generate_protocol),
    **dict.fromkeys(generate_carry.BUILDERS, generate_carry),
    **dict.fromkeys(generate_clones.BUILDERS, generate_clones),
    **dict.fromkeys(generate_rekeying.BUILDERS, generate_rekeying),
}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def test_every_file_has_a_generator_and_a_section() -> None:
    """No file is left over, and docs/PROTOCOL.md names each."""
    assert {path.stem for path in FOLDER.glob("*.json")} == GENERATORS.keys()
    text = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    assert [name for name in GENERATORS if f"{name}.json" not in text] == []


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_files_are_what_the_generator_makes(name: str) -> None:
    """A change of the protocol is deliberate: `make vectors`, and the difference is read."""
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == GENERATORS[name].render(name)


def test_headers_and_checkpoints() -> None:
    """Bytes, leaves, body hashes and signatures, from the file alone."""
    found = load("log")
    for entry in found["entries"]:
        raw = bytes.fromhex(entry["header"])
        header = decode_header(raw)
        assert hash_header(raw).hex() == entry["leaf"] == keys.sha256(b"\x00" + raw).hex()
        assert generate_protocol.header_of(header) == entry["fields"]
        if entry["body"] is not None:
            assert header.body is not None
            assert hash_body(bytes.fromhex(entry["salt"]), 0, bytes.fromhex(entry["body"])) == header.body[2]
    for one in found["body_hashes"]:
        salt, body = bytes.fromhex(one["salt"]), bytes.fromhex(one["body"])
        assert keys.sha256(salt + bytes([one["scheme"]]) + body).hex() == one["hash"]
    for one in found["checkpoints"]:
        signed = Signed(bytes.fromhex(one["checkpoint"]), bytes.fromhex(one["signature"]))
        stated = verify_checkpoint(signed, bytes.fromhex(found["public"]), bytes.fromhex(found["network_id"]))
        leaves = [bytes.fromhex(entry["leaf"]) for entry in found["entries"]]
        assert merkle.root(leaves[: stated.size]) == stated.root
        assert merkle.root(leaves[stated.start : stated.size]) == stated.run
    for raw in found["refused_headers"].values():
        with pytest.raises((DecodeError, LimitExceeded)):
            decode_header(bytes.fromhex(raw))
    for raw in found["refused_checkpoints"].values():
        with pytest.raises(DecodeError):
            decode_checkpoint(bytes.fromhex(raw))


def test_change_sets() -> None:
    """The short form gives back the entries, with what is known of earlier ones."""
    for one in load("changeset")["sets"]:
        change = msgspec.msgpack.decode(bytes.fromhex(one["wire"]), type=ChangeSet)
        known = {
            int(index): Known(bytes.fromhex(said["link"]), bytes.fromhex(said["case"]), unhex(said["salt"]))
            for index, said in one["known"].items()
        }
        asked = references(change.entries, one["start"])
        came = rebuild(decode_checkpoint(change.signed.checkpoint), change.entries, {i: known[i] for i in asked})
        assert [entry.raw.hex() for entry in came] == [entry["header"] for entry in one["entries"]]
        assert [entry.body for entry in came] == [unhex(entry["body"]) for entry in one["entries"]]
        assert merkle.root([entry.leaf for entry in came]).hex() == one["run"]


def test_bundles() -> None:
    """Good ones prove their entries, the others nothing."""
    found = load("bundle")
    public, network = bytes.fromhex(found["public"]), bytes.fromhex(found["network_id"])
    for one in found["bundles"]:
        bundle = msgspec.msgpack.decode(bytes.fromhex(one["wire"]), type=Bundle)
        assert verify_bundle(bundle, public, network).start == one["start"]
        assert [entry.index for entry in bundle.entries] == one["indexes"]
    for wire in found["refused"].values():
        with pytest.raises(ProofInvalid):
            verify_bundle(msgspec.msgpack.decode(bytes.fromhex(wire), type=Bundle), public, network)


def rules_of(found: dict[str, Any]) -> Rules:
    """Fold the registers of a file."""
    rules = Rules()
    raw = bytes.fromhex(found["genesis"])
    rules.open(Fact(hash_header(raw), decode_header(raw)))
    for one in found["registers"]:
        entry = one["entry"]
        leaf, header = bytes.fromhex(entry["leaf"]), decode_header(bytes.fromhex(entry["header"]))
        facts = [
            Fact(bytes.fromhex(fact["leaf"]), decode_header(bytes.fromhex(fact["header"])), unhex(fact["body"]))
            for fact in one["facts"]
        ]
        rules.take(read_register(leaf, header, bytes.fromhex(entry["body"])), facts)
    return rules


def test_registers() -> None:
    """Genesis and registers give the network id, the void facts with their reasons, and every view."""
    found = load("register")
    rules = rules_of(found)
    assert rules.network.hex() == found["network_id"]
    voids: dict[str, str] = {}
    for one in found["registers"]:
        voids |= one["voids"]
    assert {leaf.hex(): reason for leaf, reason in rules.voids.items()} == voids != {}
    for view in found["views"]:
        now = rules.at(view["number"])
        assert {node: list(now.ancestors(node)) for node in view["ancestors"]} == view["ancestors"]


def test_joining_codes() -> None:
    """Codes are read however they are written; slips are refused."""
    found = load("joincode")
    for one in found["codes"]:
        code = parse_code(one["text"])
        assert [code.network.hex(), code.node, list(code.addresses), code.seed.hex()] == [
            one["network_id"],
            one["node"],
            one["addresses"],
            one["seed"],
        ]
    for text in found["read_as_the_first"]:
        assert parse_code(text) == parse_code(found["codes"][0]["text"])
    for text in found["refused"]:
        with pytest.raises(JoinRefused):
            parse_code(text)


@pytest.mark.parametrize("seed", range(5))
def test_a_case_in_any_order(seed: int) -> None:
    """From headers alone, shuffled and repeated, without any body: the stated verdicts, state and parties."""
    found = load("case")
    entries = []
    for one in found["entries"]:
        raw = bytes.fromhex(one["header"])
        entries.append(Held(hash_header(raw), decode_header(raw), (0, one["index"])))
    shuffled = entries + entries[::3]
    random.Random(seed).shuffle(shuffled)
    folded = fold(shuffled, RulesJudge(rules_of(load("register"))))
    context = folded.context
    assert context is not None
    assert (state_word(context), state_code(context)) == (found["state"], found["state_code"])
    assert (context.holder, context.epoch, context.outcome) == (found["holder"], found["epoch"], found["outcome"])
    assert (list(folded.parties), folded.delivered) == (found["parties"], found["delivered"])
    assert [link.hex() for link in folded.line] == found["line"]
    said = {one["leaf"][:32]: (one["effect"], one["reason"]) for one in found["entries"]}
    assert {link.hex(): (str(one.effect), str(one.reason)) for link, one in folded.verdicts.items()} == said
    assert {effect for effect, _ in said.values()} == {"applied", "void", "late", "waiting"}


def test_bodies_of_the_case_are_bound_by_its_salt() -> None:
    """With the salt of the opening each body is checked, and no header holds what a body says."""
    found = load("case")
    for one in found["entries"]:
        header = decode_header(bytes.fromhex(one["header"]))
        assert header.body is not None
        body = bytes.fromhex(one["body"])
        assert hash_body(bytes.fromhex(found["salt"]), 0, body) == header.body[2]
        assert isinstance(codec.decode(body), dict)
        assert "王小明".encode().hex() not in one["header"]


def test_carried_files() -> None:
    """A file opens with its target's key, piece by piece, each at its place; everything else about it is refused."""
    found = load("carry")
    opening, target = bytes.fromhex(found["opening"]), keys.SealingKey(bytes.fromhex(found["sealing_seed"]))
    head = carry.decode_opening(opening)
    assert [head.network.hex(), head.sender, head.target, head.made_at, head.id.hex()] == [
        *(found[name] for name in ("network_id", "from", "to", "made_at", "id"))
    ]
    public = bytes.fromhex(found["public"])
    for index, one in enumerate(found["pieces"]):
        piece = bytes.fromhex(one["piece"])
        assert carry.piece_bytes(piece[:4]) == len(piece) - 4
        kind, packed = carry.open_piece(opening, index, piece[4:], target, public)
        assert (int(kind), codec.decompress(packed, bytes_max=1 << 20).hex()) == (one["kind"], one["message"])
    for raw in found["refused_openings"].values():
        with pytest.raises(PeerError):
            carry.decode_opening(bytes.fromhex(raw))
    for raw in found["refused_first_pieces"].values():
        with pytest.raises(PeerError):
            carry.open_piece(opening, 0, bytes.fromhex(raw), target, public)


def test_evidence_files() -> None:
    """Each file proves what it says from its text alone, or proves nothing."""
    found = load("evidence")
    for one in found["proving"]:
        finding = evidence.verify(one["file"].encode())
        assert (finding.how.value, finding.node, finding.network.hex()) == (one["how"], found["node"], found["network_id"])
    for one in found["proving_nothing"]:
        with pytest.raises(PeerError):
            evidence.verify(one["file"].encode())


def test_trail_of_sessions() -> None:
    """A node's logins one after the other: what each is taken for, and what its machine is told."""
    kept = trail.Trail()
    for step in load("trail")["steps"]:
        last, mark, *used = (bytes.fromhex(one) for one in (step["last"], step["mark"], *step["used"]))
        assert trail.mark_of(bytes.fromhex(step["token"])) == mark
        seen = trail.visit(kept, trail.Showing(last, step["at"], tuple(used), choice=step["choice"]), mark)
        assert (seen.outcome.value, seen.suspect, seen.alone) == (step["outcome"], step["suspect"], step["ends_others"])
        kept = seen.trail


def test_keys_that_followed_others() -> None:
    """The registers give each node's keys and cuts, the void facts with their reasons; the signed messages are those named."""
    found = load("rekeying")
    rules = rules_of(found)
    assert {node: [record.key.hex() for record in rules.records(node)] for node in found["keys"]} == found["keys"]
    voids: dict[str, str] = {}
    for one in found["registers"]:
        voids |= one["voids"]
    assert {leaf.hex(): reason for leaf, reason in rules.voids.items()} == voids
    assert sorted(voids.values()) == ["bad_proof", "not_its_key", "not_newer"]
    for one in found["cuts"]:
        log = LogId(one["node"], bytes.fromhex(one["incarnation"]))
        assert is_cut(rules, log, bytes.fromhex(one["key"]), one["index"]) == one["cut"]
    rotation, recovery = found["rotation"], found["recovery"]
    for name, seed in (("by_old", found["rotation"]["node"]), ("by_new", "town 2")):
        key = keys.SigningKey(bytes.fromhex(found["seeds"][seed]))
        signature = key.sign(keys.SignedKind.ROTATE, rules.network, bytes.fromhex(rotation["message"]))
        assert rotation["fields"][name]["bytes"] == signature.hex()
    key = keys.SigningKey(bytes.fromhex(found["seeds"]["root 2"]))
    signature = key.sign(keys.SignedKind.RECOVERY, rules.network, bytes.fromhex(recovery["message"]))
    assert recovery["fields"]["proof"]["bytes"] == signature.hex()
