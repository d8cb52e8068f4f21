"""The HTTP wire's own bounds, with times that a test can wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.transports import http
from server.transports.admission import Admission
from server.transports.http import HttpProtocol
from tests.harness import DEADLINE_S

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body that came."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(b"got:" + body)(scope, receive, send)


@contextlib.asynccontextmanager
async def wire() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to a server of the protocol alone."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    admission = Admission()
    server = await loop.create_server(
        lambda: HttpProtocol(config, state, {}, admission=admission), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await server.wait_closed()


async def cut(reader: asyncio.StreamReader) -> bytes:
    """Await the end of the connection; return what came before it."""
    came = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := await asyncio.wait_for(reader.read(4096), DEADLINE_S):
            came += piece
    return bytes(came)


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send a byte now and then until nobody takes it any more."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.01)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the protocol wait for a fraction of a second."""
    for name in ("HEAD_S", "BODY_S"):
        monkeypatch.setattr(http, name, 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "begin",
    [b"", b"G", b"GET /app/key HTTP/1.1\r\nHost: h\r\nX-Long: ", HEAD, HEAD + b"o"],
    ids=["nothing", "a byte", "a part of the head", "no body", "a part of the body"],
)
async def test_connection_is_cut_when_a_request_does_not_come(begin: bytes) -> None:
    """The head is awaited from the connection's begin, the body from the head's end."""
    async with wire() as (reader, writer):
        writer.write(begin)
        assert await cut(reader) == b""


@pytest.mark.usefixtures("hasty")
async def test_connection_is_cut_when_bytes_drip() -> None:
    """A byte now and then buys no time: not in a head, and not of one between two requests."""
    for before, dripped in ((b"", b"GET / HTTP/1.1\r\nX: " + b"x" * 500), (HEAD + b"ok", b"\r\n")):
        async with wire() as (reader, writer):
            writer.write(before)
            dripping = asyncio.create_task(drip(writer, dripped * 300))
            came = await cut(reader)
            assert came.endswith(b"got:ok") if before else came == b""
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)


async def test_requests_of_one_connection_are_all_answered() -> None:
    """One after the other, in one piece, in pieces, with line ends in between."""
    async with wire() as (reader, writer):
        for pieces in (
            [HEAD + b"ok"],
            [HEAD[:20], HEAD[20:], b"o", b"k"],
            [b"\r\n" + HEAD + b"ok"],
        ):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            await asyncio.wait_for(reader.readuntil(b"got:ok"), DEADLINE_S)
        writer.write((HEAD + b"ok") * 3)
        for _ in range(3):
            await asyncio.wait_for(reader.readuntil(b"got:ok"), DEADLINE_S)


@pytest.mark.parametrize(
    "size, status",
    [(http.MAX_HEAD, b"200"), (http.MAX_HEAD + 64, b"431"), (400_000, b"431")],
)
@pytest.mark.parametrize("before", [b"", HEAD + b"ok"], ids=["first", "second"])
async def test_head_has_so_many_bytes(before: bytes, size: int, status: bytes) -> None:
    """The request line, of which the target counts, and the headers together."""
    rest: dict[str, Any] = {"line": b"GET / HTTP/1.1\r\n", "name": b"X-Filler: "}
    filler = b"x" * (size - len(rest["line"]) - len(rest["name"]) - 4)
    head = rest["line"] + rest["name"] + filler + b"\r\n\r\n"
    assert len(head) == size
    async with wire() as (reader, writer):
        if before:
            writer.write(before)
            await asyncio.wait_for(reader.readuntil(b"got:ok"), DEADLINE_S)
        writer.write(head)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), DEADLINE_S)
        assert answer.split(b" ")[1] == status


async def test_garbage_is_answered_400() -> None:
    """What is no request is not large."""
    async with wire() as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await cut(reader)).startswith(b"HTTP/1.1 400")
