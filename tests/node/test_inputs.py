"""Reading the files that people give us."""

from __future__ import annotations

import gzip
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.inputs import (
    decode_text,
    load_divisions,
    load_file,
    parse_json,
    read_bytes,
    read_csv,
    read_json_lines,
    read_mapping,
    read_text,
)
from protocol import limits
from protocol.calendar import parse_calendar
from protocol.catalogue import parse_catalogue
from protocol.errors import InputError, InputProblems

TEXT = "编码,名称\n650100000000,乌鲁木齐市 𠮷 é\n"
COLUMNS = ("a", "b")


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return path


def refused(path: Path, *, read: object = read_mapping) -> str:
    assert callable(read)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(path) in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_three_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    """UTF-8, UTF-8 with a byte order mark, and GBK with its extension give the same text."""
    assert read_text(write(tmp_path, "f.csv", TEXT.encode(encoding))) == TEXT


def test_plain_gbk_is_read(tmp_path: Path) -> None:
    """What an old office program saves as GBK is read without asking."""
    assert read_text(write(tmp_path, "f.csv", "沙依巴克区".encode("gbk"))) == "沙依巴克区"


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("乌".encode("utf-16"), "UTF-16"),
        (b"\x00\x01\x02", "not a text file"),
        (b"\xff\xff\xff", "neither UTF-8 nor GBK"),
        ("乌鲁".encode()[:-1], "neither UTF-8 nor GBK"),
    ],
)
def test_other_bytes_are_refused(tmp_path: Path, data: bytes, named: str) -> None:
    """UTF-16, binary files and broken text are refused with the way out."""
    assert named in refused(write(tmp_path, "f.json", data))


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    """No bytes give another error than a refusal."""
    with suppress(InputError):
        decode_text(data, "f")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """A wrong name is told as such."""
    assert "no such file" in refused(tmp_path / "none.json")
    assert "cannot be read" in refused(tmp_path, read=read_bytes)


def test_size_is_bounded(tmp_path: Path) -> None:
    """A file over the bound is refused, plain or packed; a small packed file cannot fill the memory."""
    plain, packed = write(tmp_path, "f", b"x" * 11), write(tmp_path, "f.gz", gzip.compress(b"x" * 10_000_000))
    assert len(read_bytes(plain, 11)) == 11
    for path in (plain, packed):
        with pytest.raises(InputError, match="larger than"):
            read_bytes(path, 10)


def test_packed_files_are_read(tmp_path: Path) -> None:
    """The name before .gz tells the format."""
    assert read_mapping(write(tmp_path, "f.json.gz", gzip.compress(b'{"a":1}'))) == {"a": 1}
    assert read_mapping(write(tmp_path, "f.toml.gz", gzip.compress(b"a = 1"))) == {"a": 1}


@pytest.mark.parametrize("cut", [1, 5, 12, 25])
def test_a_cut_packed_file_is_refused(tmp_path: Path, cut: int) -> None:
    """A download that broke off is no shorter file."""
    assert "damaged or cut off" in refused(write(tmp_path, "f.json.gz", gzip.compress(b'{"a":1}' * 9)[:cut]))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"a":1,\n "b":}', "line 2, column 6: this is not JSON"),
        ('{"a":1,"a":2}', "the key 'a' stands twice"),
        ('{"x":{"a":1,"a":1}}', "the key 'a' stands twice"),
        ('{"a":NaN}', "NaN is no JSON number"),
        ('{"a":-Infinity}', "-Infinity is no JSON number"),
        ("[1]", "must hold one JSON object"),
        ("", "this is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' + "1" * 5000 + "}", "Exceeds the limit"),
        (r'{"a":"\ud800"}', "half of a character"),
    ],
)
def test_bad_json_is_refused(tmp_path: Path, text: str, named: str) -> None:
    """What is not exactly one JSON object with each key once is refused with its place."""
    assert named in refused(write(tmp_path, "f.json", text))


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    """An escaped pair is the ideograph that it stands for."""
    assert read_mapping(write(tmp_path, "f.json", r'{"a":"\ud842\udfb7"}')) == {"a": "𠮷"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a = 1\nb = \n", "line 2"),
        ("a = 1\na = 2\n", "this is not TOML"),
        ("a = " + "[" * 5000, "nested too deeply"),
    ],
)
def test_bad_toml_is_refused(tmp_path: Path, text: str, named: str) -> None:
    """What is not TOML is refused with its line."""
    assert named in refused(write(tmp_path, "f.toml", text))


def test_the_name_tells_the_format(tmp_path: Path) -> None:
    """A name that ends in neither .toml nor .json is refused, not guessed."""
    assert "must end in .toml or .json" in refused(write(tmp_path, "f.yaml", "a: 1"))


def test_json_lines_come_with_their_numbers(tmp_path: Path) -> None:
    """Empty lines are passed over and still count; Windows line ends are no matter."""
    path = write(tmp_path, "f.jsonl", '{"a":1}\r\n\r\n{"a":2}\n')
    assert list(read_json_lines(path)) == [(1, {"a": 1}), (3, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"a":', "line 2: column 6: this is not JSON"),
        ("3", "line 2: must hold one JSON object"),
        ('{"a":1,"a":2}', "line 2: the key 'a'"),
        ('{"a":"' + "x" * limits.INPUT_LINE_BYTES_MAX + '"}', "line 2: is longer than 1024 KiB"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, named: str) -> None:
    """The line that breaks the format is named, after the good ones were given."""
    path = write(tmp_path, "f.jsonl", f'{{"a":1}}\n{line}\n')
    found = read_json_lines(path)
    assert next(found) == (1, {"a": 1})
    with pytest.raises(InputError) as caught:
        next(found)
    assert named in caught.value.message


def test_csv_rows_come_by_column(tmp_path: Path) -> None:
    """Columns may stand in any order, more may stand there, empty rows count but give nothing, cells may hold line ends."""
    path = write(tmp_path, "f.csv", '\ufeffb,a,c\r\n1,2,3\r\n,,\r\n"x\ny",4,\r\n')
    assert read_csv(path, COLUMNS) == [(2, {"b": "1", "a": "2", "c": "3"}), (5, {"b": "x\ny", "a": "4", "c": ""})]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "line 1: column a is missing"),
        ("a;b\n1;2\n", "line 1: column a is missing"),
        ("a,b,a\n", "line 1: column a stands twice"),
        ("a,b\n1\n", "line 2: has 1 cells; the first line names 2 columns"),
        ("a,b\n1,2,3\n", "line 2: has 3 cells"),
        ('a,b\n1,"2\n', "line 2"),
    ],
)
def test_bad_csv_is_refused(tmp_path: Path, text: str, named: str) -> None:
    """Missing columns, rows of another width and open quotes are named by line."""
    path = write(tmp_path, "f.csv", text)
    assert named in refused(path, read=lambda path: read_csv(path, COLUMNS))


def test_faults_of_the_content_name_the_file(tmp_path: Path) -> None:
    """What the parsers find is reported with the file's name, all faults together."""
    path = write(tmp_path, "calendar.json", '{"format":"tongban-calendar/1","region":"1"}')
    with pytest.raises(InputProblems) as caught:
        load_file(path, parse_calendar)
    assert caught.value.where == str(path)
    assert len(caught.value.problems) == 5
    rows = write(tmp_path, "d.csv", "code12,name,tier,parent12\n1,甲,1,\n2,乙,1,\n".encode("gbk").decode("gbk"))
    with pytest.raises(InputProblems) as caught:
        load_divisions(rows)
    assert [fault.split(":")[0] for fault in caught.value.problems] == ["line 2", "line 3"]


@given(st.text(max_size=60))
def test_any_text_is_json_or_refused(text: str) -> None:
    """No text gives another error than a refusal."""
    with suppress(InputError):
        parse_json(text, "f")


def test_the_documented_examples_are_accepted(tmp_path: Path) -> None:
    """The examples in the description of the formats follow it."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "FORMATS.md").read_text(encoding="utf-8")
    found = re.findall(r"```(toml|json|csv)\n(.*?)```", text, re.DOTALL)
    blocks = {kind: block for kind, block in found if "tongban-replay-map" not in block}  # tests of replay read that one
    assert blocks.keys() == {"toml", "json", "csv"}
    files = {kind: write(tmp_path, f"example.{kind}", block) for kind, block in blocks.items()}
    assert load_file(files["toml"], parse_catalogue)[0].code == "employment-hardship"
    assert load_file(files["json"], parse_calendar).region == "650000000000"
    assert len(load_divisions(files["csv"])) == 4
