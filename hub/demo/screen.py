"""What the demo shows: its steps while they happen, then the summary with every step of the case that crossed districts.

With `--json` standard output is for the nodes' objects alone and all of this goes to standard error. A bar is drawn only on a
terminal, and nothing else is written while it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from hub.demo.story import PLACES, Step
from hub.demo.summary import Line
from node import console
from node.operations import time_text
from node.texts import TEXTS, t

GOOD: Final = "√"  # both are in GBK
BAD: Final = "×"
CLOCK: Final = slice(11, 19)  # of a printed time
MOMENT: Final = slice(0, 23)

_NAMES: Final = {place.node: place.name for place in PLACES}


class Screen:
    """Writes for people.

    Args:
        lang: "zh" or "en".
        aside: everything to standard error.
    """

    def __init__(self, lang: str, *, aside: bool) -> None:
        self._lang = lang
        self._write = console.write_message if aside else console.write

    def text(self, key: str, **values: object) -> str:
        """Return a text in the user's language."""
        return t(key, self._lang, **values)

    def listing(self, words: Iterable[str]) -> str:
        """Return words as a list in the user's language."""
        return (", " if self._lang == "en" else "、").join(words)

    def say(self, key: str, **values: object) -> None:
        """Write one text."""
        self._write(self.text(key, **values))

    def bar(self, key: str, total: int) -> AbstractContextManager[console.Advance]:
        """Draw a bar while the block runs."""
        return console.progress(self.text(key), total)

    def step(self, at_ms: int, name: str, step: Step, answer: Mapping[str, Any]) -> None:
        """Tell of a step just done."""
        words = (
            time_text(at_ms)[CLOCK],
            name,
            step.officer.name,
            self._word("step", step.command.removeprefix("case.")),
            str(answer["case"]),
            self._word("safety", answer["safety"]),
        )
        self._write(console.GAP.join(words))

    def summary(self, lines: Sequence[Line], seed: int) -> None:
        """Write the summary."""
        self._write()
        self.say("demo.summary", seed=seed)
        for line in lines:
            self._write(f"{BAD if line.wrong else GOOD} {self.line(line)}")

    def line(self, line: Line) -> str:
        """Return one line in words; what is wrong in it stands behind it."""
        said = {**line.values}
        for key, kind in (("outcome", "result"), ("state", "state")):
            if key in said:
                said[key] = self._word(kind, str(said[key]))
        if "down" in said:
            said["down"] = self.listing(map(str, line.values["down"]))  # type: ignore[call-overload] # a list of names
        if "delivered" in said:
            said["delivered"] = self.text("demo.delivered" if said["delivered"] else "demo.not_delivered")
        wrong = f" [{', '.join(line.wrong)}]" if line.wrong else ""
        return self.text(line.key, **said) + wrong

    def steps(self, shown: Mapping[str, Any], hub: str) -> None:
        """Write every step of a case as a hub shows it, with the time of its receipts."""
        self._write()
        self.say("demo.steps", case=shown.get("case"), name=_NAMES[hub])
        heads = [self.text(f"head.{key}") for key in ("time", "step", "node", "officer", "effect")]
        received = self.text("demo.received", name=_NAMES[hub])
        rows = [self._row(entry, hub) for entry in shown.get("timeline", ())]
        self._write(console.table([*heads, received], rows))

    def _row(self, entry: Mapping[str, Any], hub: str) -> list[str]:
        return [
            str(entry["claimed_at"])[MOMENT].replace("T", " "),
            self._word("step", entry["type"]),
            _NAMES.get(entry["node"], entry["node"]),
            f"{entry['officer_name']} ({entry['officer']})",
            self._word("effect", entry["effect"]),
            str(entry["received_at"].get(hub, "-"))[CLOCK],
        ]

    def kept(self, rows: Sequence[Mapping[str, object]], root: str) -> None:
        """Say how a kept network is reached, and how it is stopped."""
        self._write()
        self.say("demo.kept", root=root)
        heads = [self.text(f"head.{key}") for key in ("node", "name")]
        cells = [[str(row[key]) for key in ("node", "name", "url", "data")] for row in rows]
        self._write(console.table([*heads, "url", "data"], cells))
        self.say("demo.reach", data=rows[-1]["data"])
        self.say("demo.stop", root=root)

    def _word(self, kind: str, word: str) -> str:
        key = f"{kind}.{word}"
        return self.text(key) if key in TEXTS else word
