"""A channel's events as they are published, over HTTP as server-sent events; ours, not Pusher's.

A stream is a backend's reader: no session, no subscriber, counted nowhere. It knows the last event
that it has sent by epoch and number. Whenever it is not sure to have heard everything since (as it
begins, and when the node was cut off from the bus), it listens first and then reads the channel's
history once; what came in meanwhile is merged by number. So nothing is missing, and nothing comes
twice, or it says so with a gap.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from channels_spec.contract import Contract
from channels_spec.pusher import Event, is_channel_name
from server.broker.message import BusMessage
from server.channels import Key
from server.errors import BrokerUnavailable
from server.history import Carried, ChannelHistory
from server.http.answers import Refused
from server.http.past import fullest, position
from server.http.signed import SignedRequest
from server.protocol.presence import GapReason
from server.taps import Taps

MOST: Final = 100
"""Streams of one app on one node."""
MAX_WAITING_BYTES: Final = 1024 * 1024
"""What may wait for a reader that does not read; more ends it."""
HEARTBEAT_S: Final = 15.0
_LISTEN_S: Final = 5.0
"""How long the begin of a stream may wait for Redis."""
_RETRY_S: Final = 0.25
_CUT_S: Final = 1.0
"""How long a stream that is to end may take to be read."""
_CHUNK: Final = 64 * 1024
_LATER: Final = 2**53
"""A moment (ms) from which on no history has anything."""
_LINE_END: Final = re.compile("\r\n|\r|\n")
_LAST_EVENT_ID: Final = b"last-event-id"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)
_HEARTBEAT: Final = b": heartbeat\n\n"

log = structlog.get_logger()


class _Heard(NamedTuple):
    """One event of the channel."""

    epoch: str
    number: int
    frame: bytes
    """In the fullest view."""


class EventStreams:
    """The endpoint that opens streams, and the streams that are open."""

    def __init__(
        self,
        taps: Taps,
        history: ChannelHistory,
        contract: Contract,
        *,
        serves_unlisted: bool,
        connection: str,
    ) -> None:
        """Create the endpoint.

        Args:
            taps: bring what is live.
            history: of channels.
            contract: says which channels there are.
            serves_unlisted: whether there are others.
            connection: the scope's extension whose ``abort`` cuts a request's connection.

        """
        self._taps = taps
        self._history = history
        self._contract = contract
        self._serves_unlisted = serves_unlisted
        self._connection = connection
        self._open: dict[Stream, None] = {}
        self._counts: Counter[str] = Counter()
        self.draining = False
        """Whether readers should go elsewhere."""

    async def open(self, request: SignedRequest) -> Stream:
        """Return the stream of a channel: what came after a position, then what is live."""
        (channel,) = request.names
        if not is_channel_name(channel):
            raise Refused(400, "not a channel name")
        since = _since(request)
        if not (self._serves_unlisted or channel.startswith("#") or self._contract.match(channel)):
            raise Refused(403, f"the channel {channel} is not in the contract")
        app_id = request.app.id
        if self.draining:
            raise Refused(503, "the node is draining")
        if self._counts[app_id] >= MOST:
            raise Refused(429, f"the app has {MOST} streams on this node already")
        stream = Stream((app_id, channel), self._history, self._connection, self._closed)
        self._counts[app_id] += 1
        self._open[stream] = None
        try:
            self._taps.add(stream.key, stream)
            await stream.begin(since)
        except BaseException:
            self._closed(stream)
            raise
        return stream

    def end(self) -> None:
        """End every stream; their readers come back somewhere else."""
        self.draining = True
        for stream in list(self._open):
            stream.end()

    def _closed(self, stream: Stream) -> None:
        self._taps.remove(stream.key, stream)
        if stream in self._open:
            del self._open[stream]
            self._counts[stream.key[0]] -= 1


class Stream:
    """One reader's response, and a tap of its channel."""

    def __init__(
        self,
        key: Key,
        history: ChannelHistory,
        connection: str,
        closed: Callable[[Stream], None],
    ) -> None:
        self.key = key
        self._history = history
        self._connection = connection
        self._closed = closed
        self._abort: Callable[[], None] | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._woken = asyncio.Event()
        self._listening = False
        self._unsure = True
        """Whether something may have come that was not heard: the history knows."""
        self._over = False
        self._epoch, self._number = "", 0
        """The last event that the reader has been sent, or has had before."""
        self._heard: list[_Heard] = []
        self._size = 0
        self._first: list[bytes] = []

    # --- the tap ---------------------------------------------------------------------------------

    def listens(self) -> None:
        """Learn that from now on every event comes in."""
        self._listening = True
        self._woken.set()

    def took(self, message: BusMessage) -> None:
        """Keep an event until it can be written."""
        heard = _of(message)
        self._heard.append(heard)
        self._size += len(heard.frame)
        self._woken.set()
        if self._size > MAX_WAITING_BYTES and not self._over:
            log.info("stream.slow", app=self.key[0], channel=self.key[1])
            self._cut_off()

    def lost(self) -> None:
        """Learn that events may be missed."""
        self._listening, self._unsure = False, True

    # --- its life --------------------------------------------------------------------------------

    async def begin(self, since: tuple[str, int] | None) -> None:
        """Listen, and find out what comes first; may raise `BrokerUnavailable`."""
        try:
            async with asyncio.timeout(_LISTEN_S):
                while not self._listening:
                    self._woken.clear()
                    await self._woken.wait()
        except TimeoutError:
            raise BrokerUnavailable("Redis does not answer") from None
        if since is not None:
            self._epoch, self._number = since
            self._first = await self._caught_up()
            return
        self._unsure = False
        carried = await self._history.since(*self.key, _LATER)
        self._epoch, self._number = carried.epoch, carried.number
        if carried.epoch:
            # No event, but where a reader stands that is cut off before the first one.
            self._first = [_position(carried.epoch, carried.number) + b"\n"]

    async def pour(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the response, until the reader is gone or the stream is to end."""
        self._abort = scope["extensions"][self._connection]["abort"]
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(receive))
                await self._write(send)
                watching.cancel()
        finally:
            self._over = True
            if self._cut is not None:
                self._cut.cancel()
            self._closed(self)

    def end(self) -> None:
        """End it; it is cut where its reader does not read."""
        self._over = True
        self._woken.set()
        if self._cut is None and self._abort is not None:
            self._cut = asyncio.get_running_loop().call_later(_CUT_S, self._abort)

    def _cut_off(self) -> None:
        self._over = True
        self._heard.clear()
        self._closed(self)
        self._woken.set()
        if self._abort is not None:
            self._abort()

    async def _watch(self, receive: Receive) -> None:
        """Learn that the reader is gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._over = True
        self._woken.set()

    # --- what is written -------------------------------------------------------------------------

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        blocks, self._first = self._first or [_HEARTBEAT], []
        while not self._over:
            for chunk in _chunks(blocks):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            blocks = await self._next()
        await send({"type": "http.response.body", "body": b""})

    async def _next(self) -> list[bytes]:
        """Await something to write; after a while a sign of life."""
        if self._unsure and self._listening:
            try:
                return await self._caught_up()
            except BrokerUnavailable:
                await asyncio.sleep(_RETRY_S)
                return []
        if self._heard and not self._unsure:
            return self._told(self._taken())
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._woken.wait()
        except TimeoutError:
            return [_HEARTBEAT]
        self._woken.clear()
        return []

    async def _caught_up(self) -> list[bytes]:
        """Read what the channel has carried since the last event; then nothing is unsure."""
        self._unsure = False
        try:
            carried = await self._history.since(*self.key, 0)
        except BaseException:
            self._unsure = True
            raise
        # Where the bus was lost meanwhile, this is a part of what is missed, and the rest follows.
        return self._resumed(carried)

    def _resumed(self, carried: Carried) -> list[bytes]:
        """Tell what follows the last event: of the history, and of what came in meanwhile."""
        gap = self._gap(carried)
        before, after = self._epoch, 0
        if before == carried.epoch:
            # It is beyond the channel's own where Redis has fallen back.
            after = min(self._number, carried.number)
        kept = [heard for heard in map(_of, carried.messages) if heard.epoch == carried.epoch]
        taken = self._taken()
        mine = {heard.number: heard for heard in (*taken, *kept) if heard.epoch == carried.epoch}
        events = [mine[number] for number in sorted(mine) if number > after]
        self._epoch, self._number = carried.epoch, after
        notice = []
        if gap is not None:
            first = events[0].number if events else carried.number + 1
            notice = [_gap_notice(gap, carried.epoch, first - 1)]
        # An epoch that has begun since, and not what is left of one that has ended.
        events += [heard for heard in taken if heard.epoch not in (before, carried.epoch)]
        return notice + self._told(events)

    def _gap(self, carried: Carried) -> GapReason | None:
        """Say why something after the last event may be missed, if it may."""
        if not self._epoch:
            # The channel had carried nothing.
            first = carried.messages[0].number if carried.messages else carried.number + 1
            return GapReason.WINDOW_EXCEEDED if first > 1 else None
        if self._epoch == carried.epoch and self._number > carried.number:
            return GapReason.HISTORY_LOST
        return self._history.gap_by_number(self._epoch, self._number, carried)

    def _told(self, events: Iterable[_Heard]) -> list[bytes]:
        """Return events as they are written, without those that were."""
        blocks = []
        for heard in events:
            if heard.epoch != self._epoch or heard.number > self._number:
                self._epoch, self._number = heard.epoch, heard.number
                blocks.append(_block(heard))
        return blocks

    def _taken(self) -> list[_Heard]:
        heard, self._heard, self._size = self._heard, [], 0
        return heard


def _since(request: SignedRequest) -> tuple[str, int] | None:
    """Return where a reader stands: a client that comes back repeats what it first asked for."""
    given = [value for name, value in request.headers if name == _LAST_EVENT_ID and value]
    if given:
        return position(given[-1].decode("latin-1"), "Last-Event-ID")
    asked = request.parameter("since")
    return None if asked is None else position(asked, "since")


def _of(message: BusMessage) -> _Heard:
    return _Heard(message.epoch, message.number, fullest(message))


def _position(epoch: str, number: int) -> bytes:
    return f"id: {epoch}:{number}\n".encode()


def _gap_notice(reason: GapReason, epoch: str, number: int) -> bytes:
    """Build the notice of a gap; whoever has it has all up to a number, as far as can be."""
    stands = _position(epoch, number) if epoch else b""
    return stands + _event(Event.GAP, orjson.dumps({"reason": reason}).decode())


def _block(heard: _Heard) -> bytes:
    frame = orjson.loads(heard.frame)
    return _position(heard.epoch, heard.number) + _event(frame["event"], frame["data"])


def _event(name: str, data: str) -> bytes:
    # Whoever publishes says neither where a field ends, nor where an event does.
    lines = [f"event: {_LINE_END.sub(' ', name)}"]
    lines += [f"data: {line}" for line in _LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode()


def _chunks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Join blocks to pieces that are written at once."""
    gathered: list[bytes] = []
    size = 0
    for block in blocks:
        gathered.append(block)
        size += len(block)
        if size >= _CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
