"""The machine's clock, moved: a bench writes the weeks of a workload in a minute, then lives after them."""

from __future__ import annotations

from node.system import SystemClock


class BenchClock(SystemClock):
    """True time plus an offset; or, while `fixed_ms` is set, exactly that. Owner of `fixed_ms`: the one who writes."""

    def __init__(self) -> None:
        self.offset_ms = 0
        self.fixed_ms: int | None = None

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch, as this bench wants them."""
        return super().wall_ms() + self.offset_ms if self.fixed_ms is None else self.fixed_ms
