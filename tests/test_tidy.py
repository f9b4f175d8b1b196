"""The habits of this code base that no linter knows, as checks that name file and line."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from tests import sources
from tests.sources import PACKAGES, ROOT, Source

# What each package must not import, at any depth of its own files.
FORBIDDEN_IMPORTS: Final = {
    "protocol": {"node", "hub"},
    "node": {"hub"},
    "hub": set[str](),
}
IMPURE: Final = {
    *("aiohttp", "aiosqlite", "asyncio", "datetime.datetime.now", "logging", "os", "pathlib", "random", "secrets"),
    *("socket", "sqlite3", "ssl", "subprocess", "threading", "time", "uuid"),
}

# One library, one door: where each may be imported. A path that ends in / is a whole folder.
DOORS: Final = {
    "msgpack": ("protocol/codec.py",),
    "zstandard": ("protocol/codec.py",),
    "cryptography": ("protocol/keys.py", "node/tls.py"),
    "sqlite3": ("node/store/",),
    "aiosqlite": ("node/store/",),
    "filelock": ("node/folder.py",),
    "rich": ("node/console.py",),
    "segno": ("node/console.py",),
    "tomllib": ("node/config.py", "node/inputs.py"),
    "logging": ("node/logs.py",),
    "ssl": ("node/tls.py",),
    "random": ("node/system.py",),
    "secrets": ("node/system.py",),
    "time": ("node/system.py",),
    "uuid": (),
    "fcntl": (),
    "pwd": (),
    "resource": (),
    "zoneinfo": (),
}
LAZY: Final = {"rich", "segno"}  # imported only inside functions: `run` stays small

# Calls that only one module may make; everything else takes a port.
RAW_CALLS: Final = {
    "time.time": "node/system.py",
    "time.time_ns": "node/system.py",
    "time.monotonic": "node/system.py",
    "time.sleep": "node/system.py",
    "datetime.now": "",
    "datetime.utcnow": "",
    "datetime.today": "",
    "date.today": "",
    "os.urandom": "node/system.py",
    "uuid4": "",
    "asyncio.sleep": "node/system.py",
    "print": "",
    "add_signal_handler": "",
}
# Names that Windows lacks, or that do something else there (os.kill ends a process whatever the signal).
UNIX_ONLY: Final = {
    *(
        "SIGKILL",
        "SIGSTOP",
        "SIGCONT",
        "SIGHUP",
        "SIGUSR1",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "setitimer",
        "pthread_kill",
    ),
    *(
        "fork",
        "killpg",
        "setsid",
        "getuid",
        "geteuid",
        "chown",
        "mkfifo",
        "statvfs",
        "sched_setaffinity",
        "O_DIRECTORY",
    ),
    *("AF_UNIX", "open_unix_connection", "start_unix_server", "preexec_fn", "os.kill"),
}
# Modules whose tests stand elsewhere, and where.
TESTED_ELSEWHERE: Final[dict[str, str]] = {}
FUNCTION_LINES_MAX: Final = 40
FUNCTION_LINES_MEDIAN: Final = 13


def package(source: Source) -> str:
    return source.path.partition("/")[0]


def report(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n".join(["", *sorted(set(problems))]), pytrace=False)


def test_imports_go_one_way() -> None:
    """Imports go hub → node → protocol, and never back."""
    report(
        [
            f"{source.at(node)}: {package(source)} imports {name}"
            for source in sources.read(*PACKAGES)
            for name, node in sources.imports(source)
            if name.partition(".")[0] in FORBIDDEN_IMPORTS[package(source)]
        ]
    )


def test_protocol_is_pure() -> None:
    """Time, randomness and bytes come in as arguments."""
    report(
        [
            f"{source.at(node)}: imports {name}"
            for source in sources.read("protocol")
            for name, node in sources.imports(source)
            if name.partition(".")[0] in IMPURE
        ]
    )


def test_each_library_has_one_door() -> None:
    """A library that may be exchanged one day is imported in one place."""
    report(
        [
            f"{source.at(node)}: {library} is imported only in {', '.join(DOORS[library]) or 'no module'}"
            for source in sources.read(*PACKAGES)
            for name, node in sources.imports(source)
            if (library := name.partition(".")[0]) in DOORS and not _is_door(source.path, DOORS[library])
        ]
    )


def test_heavy_libraries_are_imported_where_used() -> None:
    """A village PC pays for progress bars only when it draws one."""
    report(
        [
            f"{source.path}:{node.lineno}: {name} at module level"
            for source in sources.read(*PACKAGES)
            for node in source.tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name]
            if name.partition(".")[0] in LAZY
        ]
    )


def test_raw_calls_stay_behind_ports() -> None:
    """The world of virtual nodes repeats exactly only if nobody asks the machine for time or randomness."""
    report(
        [
            f"{source.at(call)}: {name}()" + (f" belongs in {RAW_CALLS[raw]}" if RAW_CALLS[raw] else " is not used")
            for source in sources.read(*PACKAGES)
            for name, call in sources.calls(source)
            for raw in RAW_CALLS
            if (name == raw or name.endswith("." + raw)) and source.path != RAW_CALLS[raw]
        ]
    )


def test_nothing_needs_unix() -> None:
    """Village PCs run Windows as well as Linux."""
    report(
        [
            f"{source.at(node)}: {sources.dotted(node)} is not on Windows"
            for source in sources.read(*PACKAGES)
            for node in source.nodes(ast.Attribute, ast.Name)
            if sources.dotted(node) in UNIX_ONLY or sources.dotted(node).rpartition(".")[2] in UNIX_ONLY
        ]
        + [
            f"{source.at(word)}: {word.arg} is not on Windows"
            for source in sources.read(*PACKAGES)
            for word in source.nodes(ast.keyword)
            if isinstance(word, ast.keyword) and word.arg in UNIX_ONLY
        ]
    )


def test_text_files_are_opened_with_an_encoding() -> None:
    """What Windows would guess differs from machine to machine."""
    report(
        [
            f"{source.at(call)}: {name}() without encoding"
            for source in sources.read(*PACKAGES, "bench", "tools")
            for name, call in sources.calls(source)
            if _opens_text(name, call) and not any(word.arg in {"encoding", None} for word in call.keywords)
        ]
    )


def test_fault_labels_are_unique_and_plain() -> None:
    """A label names one point of the program."""
    labels = sources.fault_labels()
    report(
        [f"{', '.join(places)}: {label!r} stands twice" for label, places in labels.items() if len(places) > 1]
        + [
            f"{places[0]}: {label!r} is not a literal of words and dots"
            for label, places in labels.items()
            if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", label)
        ]
    )


def test_tests_mirror_the_modules() -> None:
    """The tests of X.py are in test_X.py, and no test file outlives its module."""
    modules = {source.path for source in sources.read(*PACKAGES) if not source.path.endswith("__init__.py")}
    expected = {_mirror(path): path for path in modules - TESTED_ELSEWHERE.keys()}
    found = {source.path for source in sources.read(*(f"tests/{name}" for name in PACKAGES))}
    tests = {path for path in found if path.rpartition("/")[2].startswith("test_")}
    report(
        [f"{path}: no tests at {test}" for test, path in expected.items() if test not in tests]
        + [f"{test}: tests no module" for test in tests if test not in expected and not _tests_a_folder(test)]
    )


def test_every_test_states_its_rule() -> None:
    """The docstring of a test is the rule that it keeps, in one line."""
    report(
        [
            f"{source.at(node)}: {node.name} has no one-line docstring"
            for source in sources.read("tests")
            for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and "\n" in (ast.get_docstring(node) or "\n")
        ]
    )


def test_test_folders_are_packages() -> None:
    """Without __init__.py in each folder, `import node` inside tests/ would find the tests."""
    folders = {file.parent for file in (ROOT / "tests").rglob("*.py")}
    report(
        [f"{folder.relative_to(ROOT)}: no __init__.py" for folder in folders if not (folder / "__init__.py").exists()]
    )


def test_functions_are_small() -> None:
    """A function does one thing at one level: at most 40 lines of code, 13 in the middle."""
    sizes = {
        f"{source.at(node)} {node.name}": _code_lines(node)
        for source in sources.read(*PACKAGES)
        for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    report([f"{name}: {lines} lines" for name, lines in sizes.items() if lines > FUNCTION_LINES_MAX])
    assert statistics.median(sizes.values()) <= FUNCTION_LINES_MEDIAN


def test_no_machine_and_no_index_is_named() -> None:
    """What we commit names no place on one machine and no package index."""
    patterns = [rf"/{name}/" for name in ("work", "root", "farm")] + [
        "py" + "pi",
        "registry" + r"\.",
        "files" + r"\.python",
    ]
    listed = subprocess.run(
        ["git", "grep", "-nIiE", "|".join(patterns)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    report(listed.stdout.splitlines())


def _is_door(path: str, doors: tuple[str, ...]) -> bool:
    return any(path == door or (door.endswith("/") and path.startswith(door)) for door in doors)


def _opens_text(name: str, call: ast.Call) -> bool:
    last = name.rpartition(".")[2]
    if last in {"read_text", "write_text"}:
        return "." in name and not name.startswith("inputs.")  # ours: it looks for the encoding itself
    if last != "open" or name.startswith(("os.", "webbrowser.")):
        return False
    modes = [*call.args[: 1 if "." in name else 2], *(word.value for word in call.keywords if word.arg == "mode")]
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    if "." in name and call.args and not texts:
        return False  # a method of ours that is called open: a path's takes the mode first
    return not any(re.fullmatch(r"[rwxa+]*b[rwxa+]*", text) for text in texts)


def _mirror(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"tests/{folder}/test_{name}"


def _tests_a_folder(test: str) -> bool:
    """A package's own file, tests/node/store/test_store.py say, may test the folder as a whole."""
    folder, _, name = test.removeprefix("tests/").rpartition("/")
    return name == f"test_{folder.rpartition('/')[2]}.py"


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines that carry code of the body; not docstring, comments, blank lines, nor functions inside."""
    lines: set[int] = set()
    for statement in function.body:
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            lines.update(_lines_of(statement))
    return len(lines)


def _lines_of(statement: ast.stmt) -> Iterator[int]:
    for node in ast.walk(statement):
        if isinstance(node, ast.expr | ast.stmt) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno
