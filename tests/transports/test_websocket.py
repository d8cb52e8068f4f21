"""The WebSocket wire: what RFC 6455 allows a client, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from tests.harness import APP_KEY, Client, Server, eventually, new_hotel, room_updated, token

MAX_MESSAGE = 64 * 1024


def subscribing(channel: str) -> str:
    """The text of a subscribe."""
    return json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}})


class RawSocket:
    """A WebSocket of bytes: sends frames that no well-behaved library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def dial(cls, server: Server, path: str = "") -> AsyncIterator[RawSocket]:
        """Upgrade by hand and take the greeting."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"GET {path}/app/{APP_KEY}?protocol=7 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "\r\n".encode()
        )
        status = await reader.readuntil(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 101 "), status
        raw = cls(reader, writer)
        assert b"connection_established" in (await raw.read()).data
        try:
            yield raw
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def send(self, *frames: Frame) -> None:
        """Send frames in one write."""
        self.writer.write(b"".join(frame.serialize(mask=True) for frame in frames))

    async def read(self) -> Frame:
        """Return the next frame."""
        async with asyncio.timeout(15):
            first, second = await self.reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2))
            return Frame(Opcode(first & 0x0F), await self.reader.readexactly(length))

    async def close_code(self) -> int:
        """Pass over everything up to the close frame, and return its code."""
        while True:
            frame = await self.read()
            if frame.opcode is Opcode.CLOSE:
                return int.from_bytes(frame.data[:2])

    async def ended(self) -> bool:
        """Whether the server ends the TCP connection too."""
        async with asyncio.timeout(15):
            return await self.reader.read() == b""

    def abort(self) -> None:
        """Cut the TCP connection, without a close frame."""
        self.writer.transport.abort()


async def test_message_in_fragments_is_one_message(server: Server) -> None:
    """Any split, empty pieces and pieces of a character included, gives the same text."""
    text = json.dumps(
        {"event": "pusher:subscribe", "data": {"channel": "Zürich"}}, ensure_ascii=False
    )
    async with server.client() as client:
        await client.socket.send([b"", *[bytes([byte]) for byte in text.encode()], b""], text=True)
        frame = await client.next()
    assert frame["data"]["code"] == 4300
    assert "channel must be a name" in frame["data"]["message"]


async def test_control_frame_between_fragments_is_answered(server: Server) -> None:
    """A ping may stand inside a fragmented message, and leaves it whole."""
    hotel = new_hotel()
    async with RawSocket.dial(server, f"/t/{token(hotels=[hotel])}") as raw:
        text = subscribing(f"{hotel}.rooms").encode()
        raw.send(
            Frame(Opcode.TEXT, text[:20], fin=False),
            Frame(Opcode.PING, b"are you there"),
            Frame(Opcode.CONT, text[20:], fin=True),
        )
        pong, succeeded = await raw.read(), await raw.read()
        assert (pong.opcode, pong.data) == (Opcode.PONG, b"are you there")
        assert (
            json.loads(bytes(succeeded.data))["event"] == "pusher_internal:subscription_succeeded"
        )


async def test_control_ping_is_ponged(server: Server) -> None:
    """Swift keeps its connection alive by control pings."""
    async with server.client() as client:
        for payload in (b"", b"x" * 125):
            await asyncio.wait_for(await client.socket.ping(payload), 15)
        await client.quiet()


async def test_message_of_the_largest_size_is_read(server: Server) -> None:
    """64 KiB are read, in one frame or several."""
    text = "x" * MAX_MESSAGE
    async with server.client() as client:
        for message in (text, [text[:1000], text[1000:]]):
            await client.socket.send(message)
            assert (await client.next())["data"]["code"] == 4300


@pytest.mark.parametrize("pieces", [1, 4])
async def test_message_closes_when_too_large(server: Server, pieces: int) -> None:
    """1009, by the sum of a message's fragments too."""
    size = MAX_MESSAGE // pieces + 1
    async with server.client() as client:
        await client.socket.send(["x" * size] * pieces if pieces > 1 else "x" * size)
        code, _ = await client.closed()
    assert code == 1009


@pytest.mark.parametrize(
    "text", [b"\xff", b'{"event":"\xc3\x28"}', b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
async def test_text_closes_when_it_is_not_utf8(server: Server, text: bytes) -> None:
    """1007, overlong, surrogate and truncated sequences included; the error frame comes first."""
    async with server.client() as client:
        await client.socket.send(text, text=True)
        code, before = await client.closed()
    assert code == 1007
    assert [frame["data"]["code"] for frame in before] == [1007]


async def test_binary_frame_closes(server: Server) -> None:
    """1003: the protocol is text; the error frame comes first."""
    async with server.client() as client:
        await client.socket.send(b'{"event":"pusher:ping"}')
        code, before = await client.closed()
    assert code == 1003
    assert [(frame["event"], frame["data"]["code"]) for frame in before] == [("pusher:error", 1003)]


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02{}",
        b"\x80\x82\0\0\0\0{}",
        b"\x01\x81\0\0\0\0{\x81\x81\0\0\0\0}",
        b"\xc1\x82\0\0\0\0{}",
        b"\x83\x82\0\0\0\0{}",
        b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126,
    ],
    ids=[
        "unmasked",
        "continuation of nothing",
        "text inside fragments",
        "unknown extension",
        "unknown opcode",
        "long ping",
    ],
)
async def test_frame_closes_when_the_rfc_forbids_it(server: Server, data: bytes) -> None:
    """1002, whatever the fault."""
    async with RawSocket.dial(server) as raw:
        raw.writer.write(data)
        assert await raw.close_code() == 1002


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_close_is_answered_with_the_same_code(server: Server, code: int) -> None:
    """The closing handshake: the client's code comes back, then the server ends TCP."""
    async with RawSocket.dial(server) as raw:
        raw.send(Frame(Opcode.CLOSE, code.to_bytes(2) + b"bye"))
        assert await raw.close_code() == code
        assert await raw.ended()


async def test_servers_close_ends_when_the_client_confirms(server: Server) -> None:
    """Frames that were on their way are read over, and the confirmed close ends TCP."""
    async with RawSocket.dial(server) as raw:
        raw.send(Frame(Opcode.BINARY, b"x"), Frame(Opcode.TEXT, b'{"event":"pusher:ping"}'))
        error = await raw.read()
        assert json.loads(bytes(error.data))["data"]["code"] == 1003
        assert (await raw.read()).opcode is Opcode.CLOSE
        raw.send(Frame(Opcode.CLOSE, (1003).to_bytes(2)))
        assert await raw.ended()


async def test_servers_close_cuts_a_client_that_never_confirms(server: Server) -> None:
    """A socket cannot be held open by silence after the close frame."""
    async with RawSocket.dial(server) as raw:
        raw.send(Frame(Opcode.BINARY, b"x"))
        assert await raw.close_code() == 1003
        with contextlib.suppress(ConnectionResetError):
            assert await raw.ended()


@pytest.mark.parametrize("way", ["close frame", "end of TCP", "reset"])
async def test_lost_client_is_logged_once_without_its_token(server: Server, way: str) -> None:
    """However a connection ends, its subscriptions go and one line says who it was."""
    hotel, sub = new_hotel(), f"staff-{new_hotel()}"
    jwt = token(sub, hotels=[hotel])
    async with RawSocket.dial(server, f"/t/{jwt}") as raw:
        raw.send(Frame(Opcode.TEXT, subscribing(f"{hotel}.rooms").encode()))
        await raw.read()
        match way:
            case "close frame":
                raw.send(Frame(Opcode.CLOSE, (1000).to_bytes(2)))
            case "end of TCP":
                raw.writer.write_eof()
            case _:
                raw.abort()

        def closing() -> list[dict[str, Any]]:
            return [line for line in server.log_events("connection.closed") if line["sub"] == sub]

        (line,) = await eventually(closing)
        assert line["received"] == 1
        assert line["by"] == "client"
        assert line["code"] == (1000 if way == "close frame" else None)
        assert jwt not in server.log


async def test_extensions_are_not_negotiated(server: Server) -> None:
    """One encoded frame serves all subscribers, so none of them gets it compressed."""
    async with server.connect(compression="deflate") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        await Client(socket).greeted()


async def test_large_event_arrives_whole(server: Server) -> None:
    """Frames of every size that an event may have reach the client."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        for size in (0, 200, 9_000):
            await server.publish(rooms, room_updated(hotel=hotel, note="ä" * (size // 2)))
            frame = await client.until("room_updated")
            assert len(frame["data"]["payload"]["note"]) == size // 2
