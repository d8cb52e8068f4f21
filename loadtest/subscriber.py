"""One subscriber's connection: WebSocket by hand, every event frame counted."""

import asyncio
import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing.connection import Connection
from typing import cast

from loadtest.hotel import CLIENT_QUERY, Keys, staff_token
from loadtest.server import HOST

_PROTOCOL = (b'{"event":"pusher', b'{"event":"bellhop:')
WS_KEY = base64.b64encode(secrets.token_bytes(16)).decode()
_WS_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_WS_ACCEPT = base64.b64encode(
    hashlib.sha1((WS_KEY + _WS_GUID).encode(), usedforsecurity=False).digest()
)


class DrainFailed(Exception):
    """A subscriber was refused, lost, or did not get everything it should."""


class Opcode(IntEnum):
    """First byte of an unfragmented WebSocket frame, FIN bit included (RFC 6455, 5.2)."""

    TEXT = 0x81
    CLOSE = 0x88
    PING = 0x89
    PONG = 0x8A


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What the least and the best served subscriber of a group received; bytes with headers."""

    min_frames: int
    max_frames: int
    min_bytes: int
    max_bytes: int
    last_frame: bytes


class Group:
    """Subscribers that are counted together."""

    def __init__(self, control: Connection) -> None:
        self.control = control
        self.subscribers: list[Subscriber] = []
        self.frames = 0
        self.awaited = 0
        self.last_frame = b""
        self.live = False
        self._loss: str | None = None

    def opened(self) -> None:
        """Answer that all are ready, or which of them has already gone again."""
        self.live = True
        self.control.send(self._loss)

    def await_frames(self, total: int) -> None:
        """Answer now or as soon as `total` frames have arrived."""
        self.awaited = total
        self.arrived(0)

    def arrived(self, frames: int) -> None:
        """Count frames in; the total is absolute, so an early frame is never missed."""
        self.frames += frames
        if self.awaited and self.frames >= self.awaited:
            self.awaited = 0
            self.control.send(None)

    def lost(self, reason: str) -> None:
        """Tell the other process that a ready subscriber went away; the first one is enough."""
        if self._loss is None:
            self._loss = reason
            if self.live:
                self.control.send(reason)

    def report(self) -> GroupReport:
        """Sum up what each subscriber received."""
        frames = [subscriber.frames for subscriber in self.subscribers]
        sizes = [subscriber.bytes for subscriber in self.subscribers]
        return GroupReport(min(frames), max(frames), min(sizes), max(sizes), self.last_frame)


class Subscriber(asyncio.Protocol):
    """One connection: the WebSocket handshake and framing by hand, then counting."""

    __slots__ = (
        "_channel",
        "_group",
        "_ready",
        "_request",
        "_rest",
        "_transport",
        "bytes",
        "frames",
    )

    def __init__(
        self, group: Group, ready: asyncio.Future[None], request: bytes, channel: str
    ) -> None:
        self.frames = 0
        self.bytes = 0
        self._group = group
        self._ready = ready
        self._request = request
        self._channel = channel
        self._rest = b""
        self._transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade; a bare connection has nothing to ask."""
        self._transport = cast("asyncio.Transport", transport)
        if self._request:
            self._transport.write(self._request)
        else:
            self._ready.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into frames and count them."""
        if self._rest:
            data = self._rest + data
        if self._request:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._upgraded(head)
        before = self.frames
        consumed = self._count(data)
        self._rest = data[consumed:]
        if self.frames != before:
            self._group.arrived(self.frames - before)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss, unless the group is being closed."""
        self._fail(f"connection lost: {exc!r}")

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:  # it never came to a connection
            self._transport.abort()

    def _upgraded(self, head: bytes) -> None:
        self._request = b""
        if not head.startswith(b"HTTP/1.1 101 ") or _WS_ACCEPT not in head:
            self._fail(f"refused: {head[:200]!r}")

    def _count(self, data: bytes) -> int:
        """Count the whole frames in `data` and answer how many bytes they took."""
        at, size = 0, len(data)
        while size - at >= 2:
            length, header = data[at + 1], 2
            if length == 126:
                header = 4
                if size - at < header:
                    break
                length = data[at + 2] << 8 | data[at + 3]
            elif length == 127:
                header = 10
                if size - at < header:
                    break
                length = int.from_bytes(data[at + 2 : at + 10])
            body = at + header
            end = body + length
            if end > size:
                break
            if data[at] == Opcode.TEXT and not data.startswith(_PROTOCOL, body, end):
                self.frames += 1
                self.bytes += end - at
                self._group.last_frame = data[at:end]
            else:
                self._control_frame(data[at], data[body:end])
            at = end
        return at

    def _control_frame(self, opcode: int, body: bytes) -> None:
        """Act on everything that is not a counted event."""
        if opcode == Opcode.PING:
            self._send(Opcode.PONG, body)
        elif opcode != Opcode.TEXT:
            self._fail(f"frame {opcode:#x} {body[:200]!r}")
        else:
            self._pusher_event(body)

    def _pusher_event(self, body: bytes) -> None:
        match json.loads(body)["event"]:
            case "pusher:ping":
                self._send(Opcode.TEXT, b'{"event":"pusher:pong","data":{}}')
            case "pusher:connection_established" if self._channel:
                data = {"event": "pusher:subscribe", "data": {"channel": self._channel, "auth": ""}}
                self._send(Opcode.TEXT, json.dumps(data).encode())
            case "pusher:connection_established" | "pusher_internal:subscription_succeeded":
                if not self._ready.done():
                    self._ready.set_result(None)
            case "pusher:error" | "pusher:subscription_error" | "bellhop:gap":
                self._fail(body[:200].decode())
            case _:
                pass

    def _send(self, opcode: Opcode, payload: bytes) -> None:
        # The mask is all zeros: the server unmasks at the usual cost, we mask for nothing.
        # Nothing we say is longer than 125 bytes, so the length fits into the second byte.
        self._transport.write(bytes([opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def _fail(self, reason: str) -> None:
        if self._ready.done():
            self._group.lost(reason)
        else:
            self._ready.set_exception(DrainFailed(reason))


def upgrade_request(keys: Keys, sub: str, hotel: str) -> bytes:
    """Write the HTTP request that opens an authenticated WebSocket."""
    token = staff_token(keys, sub, hotel)
    return (
        f"GET /t/{token}/app/{keys.key}?{CLIENT_QUERY} HTTP/1.1\r\nHost: {HOST}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {WS_KEY}\r\n\r\n"
    ).encode()
