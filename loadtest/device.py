"""One device of the herd: it comes, takes its channels up, counts, and comes back when it is lost.

It does what pusher-js does, with as little of the machine as it can: a token and the page's
instance in the path, one subscribe per channel, an answer to every ping, and one second flat
between the end of a connection and the next one.
"""

import asyncio
import json
import re
import socket
import struct
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from loadtest.hotel import CLIENT_QUERY, Keys, bookings_channel, rooms_channel, staff_token
from loadtest.server import HOST
from loadtest.subscriber import WS_KEY, Opcode

RETURN_S = 1.0
"""What pusher-js waits before it comes back: all of them the same."""
_NUMBER = re.compile(rb'_number\\":(\d+)')
_PUBLISHED_AT = re.compile(rb'published_at\\":([0-9.e+]+)')
_PONG = b'{"event":"pusher:pong","data":{}}'


@dataclass(slots=True)
class Herd:
    """What the devices of one process have in common."""

    port: int
    away: int = 0
    """Devices that are not back: not connected, or not subscribed to all their channels."""
    greeted_at: list[float] = field(default_factory=list)
    """When devices were greeted; by the monotonic clock, which all processes share."""
    back_at: list[float] = field(default_factory=list)
    """When they had all their channels."""
    counts: Counter[str] = field(default_factory=Counter)
    """What else happened: events received, repeated, and everything that should not have been."""
    delays: list[tuple[float, float]] | None = None
    """(when it arrived, how long it took) of every event, where that is wanted."""
    changed: Callable[[], None] = lambda: None
    """Called when a device is back, or has caught up with what is awaited."""
    awaited: Sequence[tuple[int, int]] | None = None
    """By hotel: up to which number everybody must have the events of both channels."""
    behind: int = 0
    """Devices that do not."""
    connecting: set[asyncio.Task[None]] = field(default_factory=set)
    left_open: list[asyncio.Transport] = field(default_factory=list)
    """Connections that nobody reads any more."""
    ended: bool = False
    """Whether devices stay away from now on."""


class Device:
    """One page of one member of staff, over all of its connections."""

    __slots__ = ("_herd", "_hotel", "_on_shift", "_request", "_wire", "have", "opened")

    def __init__(
        self, herd: Herd, keys: Keys, number: int, hotel: int, *, on_shift: bool = False
    ) -> None:
        slug = hotel_slug(hotel)
        token = staff_token(keys, f"staff-{number}", slug)
        path = f"/s/{uuid.uuid4()}/t/{token}/app/{keys.key}?{CLIENT_QUERY}"
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {WS_KEY}\r\n\r\n"
        ).encode()
        self._herd = herd
        self._hotel = hotel
        self._on_shift = on_shift
        self._wire: _Wire | None = None
        self.have = [0, 0]
        """The last number of rooms and bookings."""
        self.opened: asyncio.Future[None] | None = None
        herd.away += 1

    async def connect(self) -> None:
        """Open a connection; what becomes of it, the wire tells."""
        wire = _Wire(self, self._request)
        self._wire = wire
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: wire, HOST, self._herd.port)
        except OSError:
            self._herd.counts["refused"] += 1
            self.come_back()

    def cut(self, *, silently: bool) -> None:
        """Lose the connection: its end reaches the server, or (silently) nothing ever does."""
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if wire.back:
            self._herd.away += 1
        transport = wire.lose(silently=silently)
        if silently and transport is not None:
            self._herd.left_open.append(transport)
        self.come_back()

    def come_back(self) -> None:
        """Connect anew, when pusher-js would."""
        asyncio.get_running_loop().call_later(RETURN_S, self._again)

    def _again(self) -> None:
        if not self._herd.ended:
            task = asyncio.get_running_loop().create_task(self.connect())
            self._herd.connecting.add(task)
            task.add_done_callback(self._herd.connecting.discard)

    # --- what its wire tells ---------------------------------------------------------------------

    def greeted(self, wire: "_Wire") -> None:
        """Take the channels up."""
        self._herd.greeted_at.append(time.monotonic())
        slug = hotel_slug(self._hotel)
        channels = [rooms_channel(slug), bookings_channel(slug)]
        if self._on_shift:
            channels.append(f"presence-{slug}.front-desk")
        wire.awaited = len(channels)
        for channel in channels:
            data = {"event": "pusher:subscribe", "data": {"channel": channel, "auth": ""}}
            wire.send(Opcode.TEXT, json.dumps(data).encode())

    def is_back(self) -> None:
        """Note that all channels are confirmed."""
        herd = self._herd
        herd.away -= 1
        herd.back_at.append(time.monotonic())
        if self.opened is not None and not self.opened.done():
            self.opened.set_result(None)
        herd.changed()

    def heard(self, kind: int, number: int, body: bytes) -> None:
        """Count an event: each comes in its turn, a replay may repeat what came before."""
        herd, have = self._herd, self.have
        herd.counts["received"] += 1
        if number == have[kind] + 1:
            have[kind] = number
            if herd.awaited is not None and number == herd.awaited[self._hotel][kind]:
                self._caught_up()
        elif number <= have[kind]:
            herd.counts["repeated"] += 1
        else:
            herd.counts["lost"] += number - have[kind] - 1
            have[kind] = number
        if herd.delays is not None and (found := _PUBLISHED_AT.search(body)):
            now = time.time()
            herd.delays.append((time.monotonic(), now - float(found[1])))

    def _caught_up(self) -> None:
        if not self.is_behind():
            self._herd.behind -= 1
            self._herd.changed()

    def is_behind(self) -> bool:
        """Whether something is missing of what is awaited."""
        awaited = self._herd.awaited
        if awaited is None:
            return False
        rooms, bookings = awaited[self._hotel]
        return self.have[0] < rooms or self.have[1] < bookings

    def lost(self, wire: "_Wire") -> None:
        """Come back, unless this device has cut the connection itself."""
        if wire is self._wire and not self._herd.ended:
            self._wire = None
            self._herd.counts["ended by the server"] += 1
            if wire.back:
                self._herd.away += 1
            self.come_back()

    def told(self, what: str) -> None:
        """Count what the server said that it should not have had to say."""
        self._herd.counts[what] += 1


class _Wire(asyncio.Protocol):
    """One connection of a device: the WebSocket's handshake and framing by hand."""

    __slots__ = ("_device", "_request", "_rest", "_transport", "awaited", "back", "connected")

    def __init__(self, device: Device, request: bytes) -> None:
        self.awaited = 0
        """Channels that are not confirmed yet."""
        self.back = False
        self.connected = False
        self._device = device
        self._request = request
        self._rest = b""
        self._transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.connected = True
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into frames and obey them."""
        if self._rest:
            data = self._rest + data
        if self._request:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._request = b""
            if not head.startswith(b"HTTP/1.1 101 "):
                self._device.told(f"HTTP {head[9:12].decode()}")
                self._transport.abort()
                return
        at = 0
        for opcode, body, end_ in _frames(data):
            at = end_
            self._obey(opcode, body)
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the device."""
        del exc
        self._device.lost(self)

    def lose(self, *, silently: bool) -> asyncio.Transport | None:
        """Drop the connection, or leave it to itself: open, and never read again."""
        if not self.connected:
            return None
        if silently:
            self._transport.pause_reading()
        else:
            drop(self._transport)
        return self._transport

    def send(self, opcode: Opcode, payload: bytes) -> None:
        """Send a frame of at most 125 bytes; the mask is all zeros."""
        self._transport.write(bytes([opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def _obey(self, opcode: int, body: bytes) -> None:
        if opcode == Opcode.PING:
            self.send(Opcode.PONG, body)
        elif opcode == Opcode.CLOSE:
            self._transport.close()
        elif body.startswith(b'{"event":"room_updated'):
            self._event(0, body)
        elif body.startswith(b'{"event":"booking_updated'):
            self._event(1, body)
        else:
            self._pusher_event(body)

    def _event(self, kind: int, body: bytes) -> None:
        found = _NUMBER.search(body)
        self._device.heard(kind, int(found[1]) if found else 0, body)

    def _pusher_event(self, body: bytes) -> None:
        frame = json.loads(body)
        match frame["event"]:
            case "pusher:ping":
                self.send(Opcode.TEXT, _PONG)
            case "pusher:connection_established":
                self._device.greeted(self)
            case "pusher_internal:subscription_succeeded":
                self.awaited -= 1
                if not self.awaited:
                    self.back = True
                    self._device.is_back()
            case "pusher:error":
                self._device.told(f"error {frame['data'].get('code')}")
            case "pusher:subscription_error" | "bellhop:gap" as event:
                self._device.told(event)
            case _:
                pass


def drop(transport: asyncio.Transport) -> None:
    """End a connection at once, without leaving its port in TIME_WAIT: there are not that many."""
    if transport.is_closing():
        return
    wire: socket.socket = transport.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Cut whole frames off: first byte, body, and where the frame ends."""
    at, size = 0, len(data)
    while size - at >= 2:
        length, body = data[at + 1], at + 2
        if length == 126:
            body += 2
            length = int.from_bytes(data[at + 2 : body]) if size >= body else size
        elif length == 127:
            body += 8
            length = int.from_bytes(data[at + 2 : body]) if size >= body else size
        end = body + length
        if end > size:
            return
        yield data[at], data[body:end], end
        at = end


def hotel_slug(number: int) -> str:
    """Name a hotel of the herd."""
    return f"hotel-herd-{number}"
