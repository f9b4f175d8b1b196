"""Writes evidence.json and trail.json: evidence files that prove and that do not, and a node's sessions step by step.

Run `python -m tests.vectors.generate` after a deliberate change of the format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from protocol import evidence, keys, merkle, trail
from protocol.evidence import Evidence, OtherBeginning
from protocol.log import Signed
from protocol.trail import Showing, Trail
from tests.protocol.network import EAST, city
from tests.protocol.test_evidence import ONE, OTHER, head, made, two_entries

FOLDER = Path(__file__).parent


def build_evidence() -> dict[str, object]:
    net = city()
    first, second = head(ONE, 5, 8), head(OTHER, 4, 14)
    far = head(OTHER, 13, 14)
    beginning = OtherBeginning(merkle.root(OTHER[:8]), merkle.consistency_proof(OTHER[:14], 8))
    roots = made(net, first, head(OTHER, 0, 8))
    proving = {
        "roots": roots,
        "entries": made(net, first, second, entries=two_entries(first, second, 6)),
        "beginning": made(net, first, far, beginning=beginning),
    }
    honest = OtherBeginning(merkle.root(ONE[:8]), merkle.consistency_proof(ONE[:12], 8))
    nothing = {
        "one history that grew": made(net, first, head(ONE, 8, 12)),
        "a beginning that is the same": made(net, first, head(ONE, 8, 12), beginning=honest),
        "two logs": made(net, first, head(OTHER, 0, 8, incarnation=b"j" * 16)),
        "a signature that is none": msgspec.structs.replace(roots, second=Signed(roots.second.checkpoint, bytes(64))),
        "no chain to the signer": msgspec.structs.replace(roots, chain=roots.chain[:1]),
    }
    return {
        "network_id": net.root.network.hex(),
        "node": EAST,
        "proving": [{"how": how, **_file(file)} for how, file in proving.items()],
        "proving_nothing": [{"why": why, **_file(file)} for why, file in nothing.items()],
    }


def _file(file: Evidence) -> dict[str, object]:
    return {"file": evidence.encode(file).decode("ascii")}


@dataclass
class Story:
    """Logins at one hub, each written down with what it came to."""

    trail: Trail = field(default_factory=Trail)
    steps: list[dict[str, object]] = field(default_factory=list)

    def login(self, last: str, given: str, choice: str = "", used: tuple[str, ...] = ()) -> None:
        """Let a machine show the mark named `last` and get the one named `given`."""
        at = 1_795_305_600_000 + len(self.steps)
        shown = Showing(_mark(last), at, tuple(map(_mark, used)), choice=choice)
        seen = trail.visit(self.trail, shown, _mark(given))
        self.trail = seen.trail
        step = {"at": at, "token": _token(given).hex(), "mark": _mark(given).hex(), "last": _mark(last).hex()}
        told = {"used": [_mark(one).hex() for one in used], "choice": choice}
        self.steps.append({**step, **told, "outcome": seen.outcome.value, "suspect": seen.suspect, "ends_others": seen.alone})


def _token(name: str) -> bytes:
    return keys.sha256(name.encode())[:16]


def _mark(name: str) -> bytes:
    return trail.mark_of(_token(name)) if name else b""


def build_trail() -> dict[str, object]:
    story = Story()
    for last, given in (("", "a1"), ("a1", "a2"), ("a2", "lost"), ("a2", "a3"), ("a3", "a4")):
        story.login(last, given)
    story.login("a2", "b1", used=("a4",))  # a backup put back, or a copy
    story.login("a4", "a5", used=("b1",))  # the first machine returns
    story.login("b1", "b2", used=("a5",))  # and the copy comes again
    story.login("a5", "a6")
    story.login("a6", "a7", "keep")
    story.login("b2", "b3")
    story.login("a7", "a8")
    story.login("b3", "b4", "retire")
    story.login("a8", "a9")
    return {"steps": story.steps}


BUILDERS: dict[str, Callable[[], dict[str, object]]] = {"evidence": build_evidence, "trail": build_trail}


def render(name: str) -> str:
    """Return the text of one file of vectors."""
    return json.dumps(BUILDERS[name](), ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Write all files beside this one."""
    for name in BUILDERS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
