"""The fallbacks' own parts: how many sessions wait, and what becomes of joined frames."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from server.transports import homes, sockjs
from server.transports.admission import Admission
from server.transports.homes import Homes, private_sockets
from server.transports.http import CONNECTION
from server.transports.sockjs import SockJs
from server.transports.websocket import join, split
from tests.harness import eventually
from tests.transports.test_door import door


async def status(app: SockJs, session: str, what: str, body: bytes = b"") -> int:
    """Send one request and return the answer's status."""
    sent: list[Message] = []
    told = False

    async def receive() -> Message:
        nonlocal told
        if told:
            await asyncio.Event().wait()
        told = True
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "raw_path": f"/pusher/t/a.ok/app/key-1/1/{session}/{what}".encode(),
        "query_string": b"protocol=7",
        "headers": [],
        "client": ("192.0.2.1", 50_000),
        "extensions": {CONNECTION: {"abort": lambda: None}},
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_sessions_that_wait_longest_go_when_too_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks again and again waits for moments only: those who left make room."""
    monkeypatch.setattr(sockjs, "MAX_WAITING", 2)
    app = SockJs(door(), PlainTextResponse("elsewhere", 404))
    for session in ("one", "two"):
        assert await status(app, session, "xhr") == 200
    assert await status(app, "one", "xhr_send", b'["{\\"event\\":\\"pusher:ping\\"}"]') == 204
    assert await status(app, "one", "xhr") == 200
    assert await status(app, "three", "xhr") == 200
    assert [
        await status(app, session, "xhr_send", b"[]") for session in ("one", "two", "three")
    ] == [
        204,
        404,
        204,
    ]
    app.end()
    assert await status(app, "three", "xhr_send", b"[]") == 404


async def test_whoever_waits_is_told_when_the_node_drains() -> None:
    """The broker may stay behind: nobody waits for it at a door that is closed."""
    entrance = door()
    admission = Admission(behind=lambda: True)
    app = SockJs(entrance, PlainTextResponse("elsewhere", 404), admission=admission)
    asking = asyncio.create_task(status(app, "one", "xhr"))
    await eventually(lambda: admission.waiting)
    entrance.draining = True
    await app.drain(0.0)
    assert (await asking, admission.waiting) == (200, 0)
    assert await status(app, "two", "xhr") == 200
    for session in ("one", "two"):
        assert await status(app, session, "xhr_send", b"[]") == 404


async def test_client_that_takes_nothing_is_cut_by_whoever_writes_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that passes an answer on does not see its end behind what nobody reads."""
    monkeypatch.setattr(homes, "_UNREAD_S", 0.01)
    cut = asyncio.Event()

    async def home(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n")
        assert await reader.read() == b""
        writer.close()

    async def receive() -> Message:
        await cut.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    scope: dict[str, Any] = {
        "raw_path": b"/pusher/app/key-1/1/one/xhr_streaming",
        "query_string": b"",
        "headers": [],
        "client": None,
        "extensions": {CONNECTION: {"abort": cut.set}},
    }
    with private_sockets(2) as (directory, sockets):
        async with await asyncio.start_unix_server(home, sock=sockets[0]):
            await Homes(1, 2, directory).forward(directory / "0", scope, b"", receive, send)
    assert cut.is_set()


def test_joined_frames_are_found_again() -> None:
    """Whatever their lengths: each has one of three forms."""
    frames = [b"x" * size for size in (0, 1, 125, 126, 127, 65_535, 65_536, 300_000, 3)]
    assert split(join(frames)) == frames
    assert [split(join([frame])) for frame in frames] == [[frame] for frame in frames]
    assert split(b"") == []
