"""Rules for the whole run: logs are strict, the world outside is shut, and CI lets no test be skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from node import logs

settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
logs.set_strict(True)

_skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a night's run try more than a commit's."""
    parser.addoption("--deep", action="store_true", help="try a million cases where a commit's run tries thousands")


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """No test leaves log handlers, or lenient logs, to the next one."""
    yield
    logs.shutdown()
    logs.set_strict(True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember modules that were skipped as a whole."""
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true a skipped test is a failed run: nothing is left out silently."""
    if _skipped and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which skipped tests failed the run."""
    if _skipped and os.environ.get("CI") == "true":
        terminalreporter.write_line(f"CI lets no test be skipped: {', '.join(_skipped)}", red=True)
