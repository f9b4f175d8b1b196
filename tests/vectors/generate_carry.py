"""Writes carry.json: files carried by hand, byte for byte, with the keys that open them, and files that are refused.

Run `python -m tests.vectors.generate` after a deliberate change of the format. Seeds of keys are hashes of plain words.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from protocol import carry, keys, messages
from protocol.carry import Kind
from tests.protocol.network import CITY, VILLAGE, seed_of
from tests.vectors.generate_protocol import scene

FOLDER = Path(__file__).parent
MADE_AT = 1_795_305_600_000
TARGET_SEED = keys.sha256(b"sealing seed of the city")


def build_carry() -> dict[str, object]:
    log = scene().net.logs[VILLAGE]
    signer, target = keys.SigningKey(seed_of(VILLAGE)), keys.SealingKey(TARGET_SEED)
    head = carry.Head(log.network, VILLAGE, CITY, MADE_AT, keys.sha256(b"file")[:16], signer.id, keys.key_id(target.public))
    cursors = messages.Cursors(3, 2, keys.sha256(b"run")[:16], 40)
    bundle = log.bundle([1])
    held = [
        (Kind.KEYS, carry.Keys((bundle,))),
        (Kind.STATE, carry.State(cursors, "tongban/0.1")),
        (Kind.PUSH, messages.Push((log.change_set(0),), log.seal(0))),
        (Kind.PAGE, carry.Page(cursors, messages.PullReply(cursors, cases=(bundle,)), (bundle,))),
        (Kind.RECEIPTS, carry.Receipts((bundle,))),
        (Kind.END, carry.End(len(log.entries))),
    ]
    writer = carry.Writer(head, signer, target.public)
    packed = [messages.encode(message) for _, message in held]
    pieces = [
        writer.piece(index, kind, packed[index], keys.sha256(b"piece %d" % index)) for index, (kind, _) in enumerate(held)
    ]
    opening, first = writer.opening, pieces[0][carry.LENGTH_BYTES :]
    return {
        "network_id": log.network.hex(),
        "from": VILLAGE,
        "to": CITY,
        "made_at": MADE_AT,
        "id": head.id.hex(),
        "public": signer.public.hex(),
        "sealing_seed": TARGET_SEED.hex(),
        "opening": opening.hex(),
        "pieces": [
            {"kind": int(kind), "message": msgspec.msgpack.encode(message).hex(), "piece": piece.hex()}
            for (kind, message), piece in zip(held, pieces, strict=True)
        ],
        "refused_openings": {
            "another magic": (b"\x89PNG\r\n\x1a\n" + opening[8:]).hex(),
            "line ends exchanged on the way": opening.replace(b"\r\n", b"\n", 1).hex(),
            "version 2": (opening[:13] + b"\x02" + opening[14:]).hex(),
            "cut off": opening[:-1].hex(),
            "something behind it": (opening + b"\x00").hex(),
            "long form of a number": (opening[:14] + bytes([0, opening[15] + 2]) + opening[16:17] + b"\xc5\x00" + opening[18:]).hex(),
        },
        "refused_first_pieces": {
            "a bit changed": (first[:-1] + bytes([first[-1] ^ 1])).hex(),
            "cut off": first[:-1].hex(),
            "the second one": pieces[1][carry.LENGTH_BYTES :].hex(),
            "by another key": carry.Writer(head, keys.SigningKey(seed_of(CITY)), target.public)
            .piece(0, Kind.KEYS, packed[0], bytes(32))[carry.LENGTH_BYTES :]
            .hex(),
            "of another file": carry.Writer(msgspec.structs.replace(head, id=bytes(16)), signer, target.public)
            .piece(0, Kind.KEYS, packed[0], bytes(32))[carry.LENGTH_BYTES :]
            .hex(),
            "of an unknown kind": writer.piece(0, 99, packed[0], bytes(32))[carry.LENGTH_BYTES :].hex(),  # type: ignore[arg-type]
        },
    }


BUILDERS = {"carry": build_carry}


def render(name: str) -> str:
    """Return the text of one file of vectors."""
    return json.dumps(BUILDERS[name](), ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Write all files beside this one."""
    for name in BUILDERS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
