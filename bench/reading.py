"""The case API as the bench asks it: the local API of a running node, and a client that costs little."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Final

from node.command import MARK, PATH

POLL_S: Final = 0.0005
GIVE_UP_S: Final = 120.0


@dataclass(slots=True)
class Reader:
    """One kept connection to a node's local API."""

    url: str
    token: str
    _line: http.client.HTTPConnection | None = None

    def entries(self, case: str) -> int:
        """Return how many entries of a case the node shows; 0 when it does not know the case."""
        if self._line is None:
            self._line = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        body = json.dumps({"name": "show", "params": {"case": case}})
        headers = {"Authorization": f"Bearer {self.token}", MARK[0]: MARK[1], "Content-Type": "application/json"}
        self._line.request("POST", PATH, body, headers)
        reply = self._line.getresponse()
        answer = json.loads(reply.read().splitlines()[0])
        return len(answer["value"]["timeline"]) if "value" in answer else 0

    def wait_for(self, case: str, entries: int) -> float:
        """Ask until so many entries are shown; returns when that was (monotonic, s)."""
        end = time.monotonic() + GIVE_UP_S
        while self.entries(case) < entries:
            if time.monotonic() > end:
                raise TimeoutError(f"case {case} is not shown after {GIVE_UP_S} s")
            time.sleep(POLL_S)
        return time.monotonic()
