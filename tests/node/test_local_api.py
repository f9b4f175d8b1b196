"""The running node's door for commands: who may enter, what goes through, and what happens when things break."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from node import local_api
from node.command import COMMAND_BYTES_MAX, MARK, PATH, Claim, Command, Relayed, Run
from node.config import Local
from node.folder import ApiPlace, Folder
from node.local_client import NoAnswer, answers, call
from node.system import SystemClock, SystemEntropy
from protocol.errors import LinkError, NotFound, StoreError


class Kept:
    """Keeps what a command answered."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.rows: list[Any] = []

    def value(self, value: Any) -> None:
        self.values.append(value)

    def row(self, row: Any) -> None:
        self.rows.append(row)


async def carry_out(command: Command) -> object:
    """Answer as use cases do: a value, rows, a refusal, or a mistake."""
    match command.name:
        case "echo":
            return {"params": command.params, "officer": command.act.officer, "at_ms": command.act.at_ms}
        case "list":
            return rows(command.params["count"], command.params.get("fails"))
        case "refused":
            raise NotFound("no case X", hint="look")
        case _:
            raise ZeroDivisionError("张三 is in this message")


async def rows(count: int, fails: str | None) -> AsyncIterator[dict[str, object]]:
    for number in range(count):
        yield {"n": number, "name": "张三"}
    if fails == "refused":
        raise NotFound("gone meanwhile")
    if fails == "mistake":
        raise ZeroDivisionError("张三 is in this message")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "node")
    made.create()
    return made


def serving(
    folder: Folder, run: Run = carry_out, settings: Local | None = None
) -> AbstractAsyncContextManager[ApiPlace]:
    return local_api.serving(run, folder, settings or Local(), SystemClock(), SystemEntropy())


async def asked(place: ApiPlace, name: str, timeout_s: float | None = 20, /, **params: object) -> Kept:
    kept = Kept()
    await asyncio.to_thread(call, place, Command(name, params, Claim("A1", None, 5)), kept, timeout_s)
    return kept


def raw(place: ApiPlace, method: str = "POST", path: str = PATH, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    """Ask by hand; returns status and the error's code."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(place.url).netloc, timeout=20)
    told = {"Authorization": f"Bearer {place.token}"} | {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request(method, path, body, told)
    response = connection.getresponse()
    assert response.getheader(MARK[0]) == MARK[1]
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer.get("error", {}).get("code")


async def test_a_command_goes_through(folder: Folder) -> None:
    """Options and claim reach the use case, its value comes back."""
    async with serving(folder) as place:
        kept = await asked(place, "echo", name="张三", n=1)
        assert kept.values == [{"params": {"name": "张三", "n": 1}, "officer": "A1", "at_ms": 5}]
        assert kept.rows == []


@pytest.mark.parametrize("count", [0, 1, 20_000])
async def test_lists_come_row_by_row(folder: Folder, count: int) -> None:
    """Any number of rows, in order, none lost."""
    async with serving(folder) as place:
        kept = await asked(place, "list", count=count)
        assert [row["n"] for row in kept.rows] == list(range(count))
        assert kept.values == []


async def test_refusals_come_back_as_they_are(folder: Folder) -> None:
    """Code, message and hint are those of the use case."""
    async with serving(folder) as place:
        with pytest.raises(Relayed) as caught:
            await asked(place, "refused")
    assert caught.value.as_dict() == NotFound("no case X", hint="look").as_dict()
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("fails", "code"), [("refused", "not_found"), ("mistake", "error")])
async def test_a_failure_in_the_middle_of_a_list_is_told(folder: Folder, fails: str, code: str) -> None:
    """A list that breaks off is never taken for a whole one."""
    async with serving(folder) as place:
        kept = Kept()
        command = Command("list", {"count": 3, "fails": fails})
        with pytest.raises(Relayed) as caught:
            await asyncio.to_thread(call, place, command, kept, 20)
    assert (caught.value.code, len(kept.rows)) == (code, 3)
    assert "张三" not in caught.value.message


async def test_a_mistake_in_one_command_stops_nobody(folder: Folder) -> None:
    """It is told by its class only, and the next command works."""
    async with serving(folder) as place:
        with pytest.raises(Relayed) as caught:
            await asked(place, "mistake")
        assert "ZeroDivisionError" in caught.value.message
        assert "张三" not in caught.value.message
        assert (await asked(place, "echo")).values


class Gone(Kept):
    """A reader of our output that has left."""

    def row(self, row: Any) -> None:
        raise BrokenPipeError(row)


async def test_a_reader_who_leaves_is_not_taken_for_a_node_that_stops(folder: Folder) -> None:
    """`case list | head` is no failure of the node, and the node goes on."""
    async with serving(folder) as place:
        with pytest.raises(BrokenPipeError):
            await asyncio.to_thread(call, place, Command("list", {"count": 20_000}), Gone(), 20)
        assert (await asked(place, "echo")).values


async def test_only_the_token_opens(folder: Folder) -> None:
    """Without it, with another one, or under another scheme nothing is carried out."""
    async with serving(folder) as place:
        body = b'{"name":"echo"}'
        for value in (
            "",
            "Bearer",
            f"Bearer {place.token}x",
            f"Basic {place.token}",
            "Bearer 张".encode().decode("latin-1"),
        ):
            assert await asyncio.to_thread(raw, place, body=body, Authorization=value) == (403, "not_permitted")
        assert await asyncio.to_thread(raw, place, body=body) == (200, None)


@pytest.mark.parametrize("host", ["evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil.example"])
async def test_a_name_made_to_point_here_is_refused(folder: Folder, host: str) -> None:
    """A page in a browser cannot reach the node by a name of its own (DNS rebinding)."""
    async with serving(folder) as place:
        assert await asyncio.to_thread(raw, place, body=b'{"name":"echo"}', Host=host) == (403, "not_permitted")


async def test_what_is_no_command_is_refused(folder: Folder) -> None:
    """Other bytes, other paths, other methods and too much at once each get an answer in our form."""
    async with serving(folder) as place:
        assert await asyncio.to_thread(raw, place, body=b"\xff") == (400, "input")
        assert await asyncio.to_thread(raw, place, body=b"x" * (COMMAND_BYTES_MAX + 1)) == (413, "limit")
        assert await asyncio.to_thread(raw, place, path="/other") == (404, "not_found")
        assert await asyncio.to_thread(raw, place, method="GET") == (404, "not_found")
        assert (await asked(place, "echo")).values


async def test_the_address_is_told_and_taken_back(folder: Folder) -> None:
    """run/api.json is there while the node answers, with a new token at each start, and private."""
    tokens = set()
    for _ in range(2):
        async with serving(folder) as place:
            assert folder.load_api() == place
            assert await asyncio.to_thread(answers, place)
            tokens.add(place.token)
        assert folder.load_api() is None
        assert not await asyncio.to_thread(answers, place)
    assert len(tokens) == 2


async def test_commands_under_way_are_finished_when_the_node_stops(folder: Folder) -> None:
    """Who asked before the end gets the answer; who asks afterwards hears that nobody is there."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_command: Command) -> object:
        begun.set()
        await go_on.wait()
        return "done"

    async with serving(folder, slow) as place:
        asking = asyncio.create_task(asked(place, "echo"))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.2, go_on.set)
    assert (await asking).values == ["done"]
    with pytest.raises(NoAnswer):
        await asked(place, "echo")


async def test_an_asker_who_goes_away_cancels_nothing(folder: Folder) -> None:
    """A command that was begun is finished."""
    finished = asyncio.Event()
    begun = asyncio.Event()

    async def slow(_command: Command) -> object:
        begun.set()
        await asyncio.sleep(0.2)
        finished.set()
        return None

    async with serving(folder, slow) as place:
        with pytest.raises(LinkError) as caught:
            await asked(place, "echo", 0.05)
        assert not isinstance(caught.value, NoAnswer)
        assert "look" in caught.value.hint
        await asyncio.wait_for(finished.wait(), 20)


async def test_a_taken_port_is_named(folder: Folder) -> None:
    """The administrator hears which setting to change; no address is left behind."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StoreError, match="cannot listen") as caught:
            async with serving(folder, settings=Local(port=other.getsockname()[1])):
                pass
    assert "[local] port" in caught.value.hint
    assert folder.load_api() is None


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"])
async def test_another_program_on_an_old_port_is_not_believed(folder: Folder, reply: bytes) -> None:
    """What does not answer as a node does is no node."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        place = ApiPlace(1, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "t")
        assert not await asyncio.to_thread(answers, place)
        with pytest.raises(LinkError):
            await asked(place, "echo")


def truncated(lines: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    head = f"HTTP/1.1 200 OK\r\n{MARK[0]}: {MARK[1]}\r\nConnection: close\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(head + lines)
        await writer.drain()
        writer.close()

    return answer


@pytest.mark.parametrize("lines", [b"", b'{"row":1}\n', b'{"row":1}\n{"ro', b'{"row":1}\nxyz\n', b"[]\n"])
async def test_an_answer_that_breaks_off_is_a_failure(folder: Folder, lines: bytes) -> None:
    """A node that is killed in the middle of a list leaves no list that looks whole."""
    server = await asyncio.start_server(truncated(lines), "127.0.0.1", 0)
    async with server:
        place = ApiPlace(1, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "t")
        with pytest.raises(LinkError) as caught:
            await asked(place, "list", count=1)
    assert caught.value.exit_code == 3
