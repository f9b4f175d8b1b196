"""Gives commands as people and scripts do: the real command line, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from hub.cli import main
from tests.sources import ROOT


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: bytes
    err: bytes

    @property
    def value(self) -> Any:
        """The one JSON value on standard output."""
        (line,) = self.out.decode("utf-8").splitlines()
        return json.loads(line)

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line) for line in self.out.decode("utf-8").splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        assert set(self.value) == {"error"}
        found: dict[str, Any] = self.value["error"]
        return found


def give(*args: object, data: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Give a command in this process."""
    told = {"TONGBAN_DATA": str(data) if data else "", "TONGBAN_LANG": "", **(env or {})}
    result = CliRunner().invoke(main, [str(arg) for arg in args], env=told)
    return Done(result.exit_code, result.stdout_bytes, result.stderr_bytes)


def run(*args: object, data: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Give a command in a process of its own."""
    done = subprocess.run(_line(args), env=_environ(data, env), capture_output=True, check=False, timeout=60)
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def started(*args: object, data: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process of its own; it is killed when the block ends."""
    process = subprocess.Popen(
        _line(args), env=_environ(data, None), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _line(args: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "hub.cli", *(str(arg) for arg in args)]


def _environ(data: Path | None, env: Mapping[str, str] | None) -> dict[str, str]:
    told = {"PYTHONPATH": str(ROOT), "TONGBAN_DATA": str(data) if data else "", "TONGBAN_LANG": ""}
    return os.environ | told | dict(env or {})
