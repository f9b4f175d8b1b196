"""Lock the dependencies: `make lock` asks pip what it would install on every platform that we serve, and writes the hashes.

`requirements.lock` holds what the program needs (and what builds the project itself); `requirements-dev.lock` adds what the
checks need. Both are read by `pip install --require-hashes`. Wheels only: no village PC has a compiler. Under each package
stand the file names of its wheels, each after the first 16 digits of its hash, so that `tests/test_lock.py` can show from
the lock alone that no platform was forgotten.

The versions are chosen on this machine first and hold for all platforms. pip judges markers such as
`sys_platform == "win32"` by the machine that it runs on, so they are judged here once more for each target.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
GLIBC_MINORS: Final = (28, 27, 26, 24, 17, 12, 5)  # newest first: Debian 10, RHEL 8 and everything after
ROUNDS_MAX: Final = 5  # of adding what only another platform needs
HASH_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of machine: pip's platform tags and what markers see there."""

    name: str
    tags: tuple[str, ...]
    sys_platform: str
    platform_system: str
    machine: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file that may be installed."""

    package: str
    version: str
    file: str
    sha256: str
    target: str


def _linux(machine: str) -> Target:
    tags = (
        *(f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS),
        f"manylinux2014_{machine}",
        f"linux_{machine}",
    )
    return Target(f"linux-{machine}", tags, "linux", "Linux", machine)


TARGETS: Final = (
    _linux("x86_64"),
    _linux("aarch64"),
    Target("win_amd64", ("win_amd64",), "win32", "Windows", "AMD64"),
    Target("macosx-arm64", ("macosx_11_0_arm64", "macosx_14_0_arm64"), "darwin", "Darwin", "arm64", required=False),
)


def main() -> int:
    """Write both lock files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    develop = [*runtime, *project["project"]["optional-dependencies"]["dev"]]
    chosen = lock(ROOT / "requirements.lock", runtime, {})
    lock(ROOT / "requirements-dev.lock", develop, chosen)
    return 0


def lock(path: Path, roots: list[str], pinned: Mapping[str, str]) -> dict[str, str]:
    """Resolve for every target and write one lock file; return the version of each package."""
    versions = dict(pinned)
    wheels: dict[str, Wheel] = {}
    needed: dict[str, set[str]] = {}
    for target in TARGETS:
        for python in PYTHONS:
            for wheel in resolve(target, python, roots, versions):
                versions.setdefault(wheel.package, wheel.version)
                wheels[wheel.file] = wheel
                needed.setdefault(wheel.package, set()).add(target.name)
    path.write_text("\n".join(render(wheels.values(), needed)) + "\n", encoding="utf-8", newline="\n")
    print(f"{path.name}: {len(versions)} packages, {len(wheels)} wheels")
    return versions


def resolve(target: Target, python: str, roots: list[str], versions: Mapping[str, str]) -> list[Wheel]:
    """Ask pip for the wheels of one target; nothing at all when an optional target has no full set."""
    asked = list(roots)
    for _ in range(ROUNDS_MAX):
        try:
            items = ask_pip(target, python, asked, versions)
        except subprocess.CalledProcessError as exc:
            if target.required:
                sys.exit(f"{target.name} {python}: {exc.stderr[-2000:]}")
            print(f"{target.name} {python}: left out")
            return []
        found = {canonicalize_name(item["metadata"]["name"]): item for item in items}
        missing = [need for need in needs(found.values(), target, python) if canonicalize_name(need.name) not in found]
        if not missing:
            used = reachable(found, asked, target, python)
            return [to_wheel(found[name], target) for name in sorted(used)]
        asked += [str(Requirement(f"{need.name}{need.specifier}")) for need in missing]
    sys.exit(f"{target.name} {python}: no end of dependencies")


def ask_pip(target: Target, python: str, asked: list[str], versions: Mapping[str, str]) -> list[Any]:
    """Run pip's resolver without installing, and return its report."""
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
        tags = [part for tag in target.tags for part in ("--platform", tag)]
        command = [
            *(
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--dry-run",
                "--ignore-installed",
                "--only-binary=:all:",
            ),
            *("--target", str(Path(folder) / "unused"), "--report", str(report), "--constraint", str(constraints)),
            *("--python-version", python, "--implementation", "cp", *tags, *asked),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(report.read_text(encoding="utf-8"))["install"]  # type: ignore[no-any-return]


def needs(items: Iterable[Any], target: Target, python: str) -> Iterator[Requirement]:
    """List what these packages need on the target, its markers judged there."""
    for item in items:
        for text in item["metadata"].get("requires_dist", ()):
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate(environment(target, python)):
                yield need


def reachable(found: Mapping[str, Any], asked: list[str], target: Target, python: str) -> set[str]:
    """Leave out what pip took in only because of the machine that it ran on."""
    waiting = [canonicalize_name(Requirement(text).name) for text in asked]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [canonicalize_name(need.name) for need in needs([found[name]], target, python)]
    return seen


def environment(target: Target, python: str) -> dict[str, str]:
    """Return what markers see on the target."""
    return {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "nt" if target.sys_platform == "win32" else "posix",
        "sys_platform": target.sys_platform,
        "platform_system": target.platform_system,
        "platform_machine": target.machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_version": f"{python}.0",
        "extra": "",
    }


def to_wheel(item: Any, target: Target) -> Wheel:  # noqa: ANN401 - one item of pip's report
    """Take name, version, file and hash out of one item of the report."""
    download = item["download_info"]
    return Wheel(
        package=canonicalize_name(item["metadata"]["name"]),
        version=item["metadata"]["version"],
        file=download["url"].rpartition("/")[2],
        sha256=download["archive_info"]["hashes"]["sha256"],
        target=target.name,
    )


def render(wheels: Iterable[Wheel], needed: Mapping[str, set[str]]) -> Iterator[str]:
    """Write the lines of a lock file."""
    yield "# Made by `make lock` (tools/lock.py): edit pyproject.toml, not this file."
    by_package: dict[str, list[Wheel]] = {}
    for wheel in sorted(wheels, key=lambda wheel: wheel.file.lower()):
        by_package.setdefault(wheel.package, []).append(wheel)
    for package, files in sorted(by_package.items()):
        only_windows = needed[package] == {"win_amd64"}
        marker = ' ; sys_platform == "win32"' if only_windows else ""
        lines = [f"{package}=={files[0].version}{marker}", *(f"    --hash=sha256:{wheel.sha256}" for wheel in files)]
        yield " \\\n".join(lines)
        yield from (f"    # {wheel.sha256[:HASH_DIGITS]} {wheel.file}" for wheel in files)


if __name__ == "__main__":
    sys.exit(main())
