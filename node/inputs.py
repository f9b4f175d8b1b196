"""Reading the files that people give us: bounded, in the encodings that Chinese offices write, with line and field in faults.

Text is UTF-8, UTF-8 with a byte order mark, or GBK (read as GB 18030, which contains it). A name that ends in `.gz` is
unpacked, within the same bound. TOML, JSON, CSV and JSON lines come out as plain values; a key that stands twice in one JSON object
is refused, since two readers would take two different values.

Trust: everything here is outside data. What comes out is well-formed, not yet right: the parsers of `protocol` judge it.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import tomllib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from protocol import limits
from protocol.divisions import COLUMNS, Division, parse_divisions
from protocol.errors import InputError
from protocol.problems import Problems, clip

GZIP_SUFFIX: Final = ".gz"
UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
ENCODING_HINT: Final = (
    "Save the file as UTF-8 (Notepad and Excel: “UTF-8” or “CSV UTF-8”), then give the command again."
)
Out = TypeVar("Out")


def read_bytes(path: Path, bytes_max: int = limits.INPUT_FILE_BYTES_MAX) -> bytes:
    """Return the bytes of a file, unpacked if its name ends in `.gz`.

    Args:
        path: the file.
        bytes_max: most bytes, before and after unpacking.

    Raises:
        InputError: not there, not readable, damaged, or too large.
    """
    try:
        with path.open("rb") as file:
            data = _unpacked(file, bytes_max) if path.suffix.lower() == GZIP_SUFFIX else file.read(bytes_max + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file", hint="Check the name and the folder.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the packed file is damaged or cut off", hint="Fetch the file again.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > bytes_max:
        raise InputError(f"{path}: is larger than {bytes_max >> 20} MiB", hint="Split the file.")
    return data


def read_text(path: Path) -> str:
    """Return the text of a file in any of the encodings known here; raises InputError."""
    return decode_text(read_bytes(path), str(path))


def decode_text(data: bytes, where: str) -> str:
    """Return bytes as text: UTF-8 if they are that, else GB 18030.

    Raises:
        InputError: neither, or not text at all.
    """
    if data.startswith(UTF16_MARKS):
        raise InputError(f"{where}: is UTF-16 (“Unicode”) text", hint=ENCODING_HINT)
    if b"\0" in data:
        raise InputError(f"{where}: is not a text file", hint=ENCODING_HINT)
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(f"{where}: is neither UTF-8 nor GBK text", hint=ENCODING_HINT)


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the table in a `.toml` or `.json` file.

    Raises:
        InputError: unreadable, not well-formed (with its line), or not a table.
    """
    text = read_text(path)
    suffix = _suffix(path)
    if suffix == ".toml":
        return _toml(text, str(path))
    if suffix == ".json":
        value = parse_json(text, str(path))
        if isinstance(value, dict):
            return value
        raise InputError(f"{path}: must hold one JSON object, {{…}}")
    raise InputError(f"{path}: the name must end in .toml or .json")


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON lines file; empty lines are passed over.

    The whole file is bounded and decoded first, so encoding faults come before the first line.

    Raises:
        InputError: at the first line that is not one JSON object.
    """
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{path}: line {line}"
        if len(text.encode("utf-8")) > limits.INPUT_LINE_BYTES_MAX:
            raise InputError(f"{where}: is longer than {limits.INPUT_LINE_BYTES_MAX >> 10} KiB")
        value = parse_json(text, where, one_line=True)
        if not isinstance(value, dict):
            raise InputError(f"{where}: must hold one JSON object, {{…}}")
        yield line, value


def read_csv(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV file by column name.

    Args:
        path: the file; its first row names the columns, in any order; columns not asked for are kept too.
        columns: names that must be there.

    Returns:
        (line number from 1, cells) of each row that is not empty.

    Raises:
        InputProblems: columns missing, or rows with too few or too many cells, each with its line.
        InputError: the file cannot be read as CSV.
    """
    where = str(path)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    problems = Problems(where)
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_columns(names, columns, problems)
        rows = list(_rows(((reader.line_num, cells) for cells in reader), names, problems))
    except csv.Error as error:
        raise InputError(f"{where}: line {reader.line_num}: {error}") from error
    problems.check()
    return rows


def parse_json(text: str, where: str, *, one_line: bool = False) -> Any:  # noqa: ANN401 - JSON is any value
    """Return the value of a JSON text, refusing keys that stand twice, NaN, and nesting without end.

    Args:
        text: the JSON.
        where: file, or file and line, for messages.
        one_line: whether `where` names the line already.

    Raises:
        InputError: not such a JSON text.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        if not _is_unicode(value, text):
            raise InputError(f"{where}: holds half of a character (a lone \\ud800–\\udfff escape)")
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if one_line else f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{where}: {place}: this is not JSON: {error.msg}") from error
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply") from None
    except ValueError as error:  # a repeated key, NaN, or a number of thousands of digits
        raise InputError(f"{where}: {_plain(error)}") from error
    return value


def load_file(path: Path, parse: Callable[[dict[str, Any], str], Out]) -> Out:
    """Read a TOML or JSON file and hand it to a parser of `protocol` with its name."""
    return parse(read_mapping(path), str(path))


def load_divisions(path: Path) -> list[Division]:
    """Read a division file; raises InputError or InputProblems with line and field."""
    return parse_divisions(read_csv(path, COLUMNS), str(path))


def _unpacked(file: io.BufferedReader, bytes_max: int) -> bytes:
    """Unpack one byte more than allowed at most, so that a small file cannot fill the memory."""
    with gzip.GzipFile(fileobj=file) as packed:
        return packed.read(bytes_max + 1)


def _suffix(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() == GZIP_SUFFIX else path
    return name.suffix.lower()


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: this is not TOML: {error}") from error
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits, a date that does not exist
        raise InputError(f"{where}: {_plain(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {clip(key)!r} stands twice in one object")
        found[key] = value
    return found


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def _plain(error: ValueError) -> str:
    return str(error).split(";")[0][:200]


def _is_unicode(value: object, text: str) -> bool:
    r"""Tell whether the value can be written as UTF-8; only an escape like \ud800 without its other half cannot."""
    if "\\ud" not in text.lower():
        return True
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_columns(names: list[str], columns: tuple[str, ...], problems: Problems) -> None:
    for column in columns:
        if names.count(column) != 1:
            problems.add("line 1", f"column {column} {'stands twice' if column in names else 'is missing'}")
    problems.check()


def _rows(
    lines: Iterator[tuple[int, list[str]]], names: list[str], problems: Problems
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows; a row of the wrong width is noted, since its cells stand under the wrong names."""
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            problems.add(f"line {line}", f"has {len(cells)} cells; the first line names {len(names)} columns")
        yield line, dict(zip(names, cells, strict=False))
