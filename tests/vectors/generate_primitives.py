"""Writes codec.json, keys.json and merkle.json: what another implementation must reproduce, byte for byte.

Run `python -m tests.vectors.generate_primitives` after a deliberate change of a format; a test compares the files with what
this builds. Bytes are hex; inside codec values they are {"bytes": hex}, maps {"map": {...}}.
"""

from __future__ import annotations

import json
from pathlib import Path

from protocol import codec, keys, merkle
from protocol.codec import Value

FOLDER = Path(__file__).parent
NETWORK_ID = keys.sha256(b"network of the vectors")

VALUES: list[Value] = [
    *(None, False, True, 0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1),
    *(-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**63)),
    *("", "a", "办" * 10, "a" * 31, "a" * 32, "a" * 255, "a" * 256),
    *(b"", b"\x00", b"x" * 255, b"x" * 256),
    *([], [0] * 15, [0] * 16, [[[]]], {}, {"": None}),
    {"b": 1, "a": 2, "B": 3},
    {"é": 1, "z": 2, "\U00010000": 3, "\uffff": 4},
    {f"{n:02}": n for n in range(16)},
    [1, 1, "440000000000", "accept", {"z": [b"\xff", {"y": -1, "x": True}]}],
]

REFUSED: dict[str, str] = {
    "nothing": "",
    "cut off list": "91",
    "cut off text": "a261",
    "cut off header": "dd",
    "trailing byte": "0000",
    "never used byte": "c1",
    "long int 8": "cc01",
    "long int 16": "cd0001",
    "long int 32": "ce00000001",
    "long int 64": "cf0000000000000001",
    "long negative int": "d0ff",
    "positive int as signed": "d001",
    "long text": "d90161",
    "long bytes": "c5000178",
    "long list": "dc000100",
    "long map": "de0001a16100",
    "unsorted keys": "82a16200a16100",
    "duplicate keys": "82a16100a16100",
    "int key": "810100",
    "bytes key": "81c4016100",
    "nil key": "81c000",
    "list key": "819000",
    "map key": "818000",
    "float 32": "ca3f800000",
    "float 64": "cb3ff0000000000000",
    "NaN": "cb7ff8000000000000",
    "infinity": "cb7ff0000000000000",
    "extension": "d40100",
    "extension 8": "c70001",
    "timestamp": "d6ff00000000",
    "bad UTF-8": "a1ff",
    "overlong UTF-8": "a2c080",
    "surrogate": "a3eda080",
    "17 levels": "91" * 16 + "90",
    "2000 levels": "91" * 2000,
    "a list of 4294967295": "ddffffffff",
    "a map of 4294967295": "dfffffffff",
}

# The inputs of the tests of certificate transparency, so that roots can be compared with published ones.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]


def as_json(value: Value) -> object:
    """Return a codec value in the notation of the vectors."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"map": {key: as_json(item) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def build_codec() -> dict[str, object]:
    return {
        "encodings": [{"value": as_json(value), "hex": codec.encode(value).hex()} for value in VALUES],
        "refused": [{"why": why, "hex": data} for why, data in REFUSED.items()],
    }


def build_keys() -> dict[str, object]:
    key = keys.SigningKey(keys.sha256(b"signing seed of the vectors"))
    sealing = keys.SealingKey(keys.sha256(b"sealing seed of the vectors"))
    entropy = keys.sha256(b"entropy of the vectors")
    message = "通办".encode()
    return {
        "seed": keys.sha256(b"signing seed of the vectors").hex(),
        "public": key.public.hex(),
        "id": key.id.hex(),
        "network_id": NETWORK_ID.hex(),
        "message": message.hex(),
        "signatures": {kind.value.decode(): key.sign(kind, NETWORK_ID, message).hex() for kind in keys.SignedKind},
        "seal": {
            "seed": keys.sha256(b"sealing seed of the vectors").hex(),
            "public": sealing.public.hex(),
            "entropy": entropy.hex(),
            "aad": b"carry".hex(),
            "plaintext": message.hex(),
            "sealed": keys.seal(sealing.public, message, entropy, b"carry").hex(),
        },
    }


def build_merkle() -> dict[str, object]:
    leaves = [merkle.hash_leaf(bytes.fromhex(leaf)) for leaf in LEAVES]
    sizes = range(len(leaves) + 1)
    return {
        "leaves": LEAVES,
        "leaf_hashes": [leaf.hex() for leaf in leaves],
        "roots": [merkle.root(leaves[:size]).hex() for size in sizes],
        "ranges": [merkle.CompactRange().append_many(leaves[:size]).encode().hex() for size in sizes],
        "inclusion": [
            {
                "index": index,
                "size": size,
                "proof": [node.hex() for node in merkle.inclusion_proof(leaves[:size], index)],
            }
            for size in sizes
            for index in range(size)
        ],
        "consistency": [
            {"old": old, "new": new, "proof": [node.hex() for node in merkle.consistency_proof(leaves[:new], old)]}
            for new in sizes
            for old in range(new + 1)
        ],
    }


BUILDERS = {"codec": build_codec, "keys": build_keys, "merkle": build_merkle}


def render(name: str) -> str:
    """Return the text of one file of vectors."""
    return json.dumps(BUILDERS[name](), ensure_ascii=True, indent=1) + "\n"


def main() -> None:
    """Write all files beside this one."""
    for name in BUILDERS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
