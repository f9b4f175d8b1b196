"""`python -m bench [--full] [--quick] [--only GROUP…] [--out FILE]`: measure, print the table, write JSON.

Exit code 0 also when a goal is missed: the table says so; a bench measures, tests judge.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench import measures
from bench.measures import FULL, QUICK, Row, Size

OUT: Final = Path(__file__).parent / "out"
CROWD: Final = "crowd"


def run(size: Size, groups: list[str]) -> list[Row]:
    """Measure some groups; the crowd is held against the backlog of the same run."""
    rows: list[Row] = []
    for name in groups:
        if name != CROWD:
            rows += measures.GROUPS[name](size)
            continue
        backlog = [row for row in rows if row.key == "backlog"] or measures.backlog(size)
        rows += measures.crowd(size, backlog[0].seen["per_s"])
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    lines = []
    for row in rows:
        told = row.as_dict()
        more = ", ".join(f"{key} {value}" for key, value in row.seen.items())
        lines.append(f"{'met ' if row.met else 'NOT '} {row.value:>9g} {row.unit:<2} {told['goal']:>7}  {row.what}")
        lines += [f"{'':26}{more}"] if more else []
    return "\n".join(lines)


def report(rows: list[Row], size: Size, span_s: float) -> dict[str, Any]:
    """Return what the JSON file holds."""
    machine = {"system": platform.platform(), "python": platform.python_version(), "processor": platform.machine()}
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "took_s": round(span_s, 1),
        "machine": machine,
        "stations": size.stations,
        "changes": size.cases * 5,
        "rows": [row.as_dict() for row in rows],
    }


def main() -> None:
    """Measure."""
    names = ["backlog", CROWD, *(name for name in measures.GROUPS if name != "backlog")]
    parser = argparse.ArgumentParser(prog="python -m bench", description="The speed table.")
    parser.add_argument("--full", action="store_true", help="a million stored entries, more rounds; takes long")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs, measures nothing")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="GROUP", help=", ".join(names))
    parser.add_argument("--out", type=Path, default=OUT / "latest.json")
    told = parser.parse_args()
    size, start = FULL if told.full else QUICK if told.quick else Size(), time.monotonic()
    rows = run(size, told.only)
    print(table(rows))
    told.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report(rows, size, time.monotonic() - start), ensure_ascii=False, indent=1)
    told.out.write_text(text + "\n", encoding="utf-8")
    print(f"{time.monotonic() - start:.0f} s; {told.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
