"""pusher-js' HTTP fallbacks: sessions of SockJS' kind, whose frames come in answers to requests.

The client chooses where its session is: `/pusher`, the path of a WebSocket, two names of its own,
and what it wants. A session belongs to the whole of that and to the page's origin: with another
token, or from another page, the same names are another session. Messages come in requests of their
own, in no certain order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from server.protocol import frames
from server.transports.admission import Admission
from server.transports.door import Door, Handshake, Turned, judged_headers
from server.transports.exchange import (
    MAX_BODY,
    OPEN_TO_ALL,
    Gone,
    Pairs,
    TooLarge,
    answer,
    body_of,
    gone,
    more,
    refuse,
    while_there,
)
from server.transports.homes import Homes, told_client
from server.transports.http import CONNECTION
from server.transports.stream import (
    HEARTBEAT,
    OPEN,
    PRELUDE,
    Framing,
    Receiver,
    Stream,
    closing,
)
from server.transports.websocket import CROWDED, encode

_PREFIX: Final = "/pusher"
_PATH: Final = re.compile(
    rf"{_PREFIX}(?P<door>/.+)/(?P<session>[0-9]{{1,3}}/[A-Za-z0-9_-]{{1,64}})"
    r"/(?P<what>xhr_streaming|xhr_send|xhr)",
    re.ASCII,
)
GRACE_S: Final = 10.0
"""How long a session waits for its client's next request."""
MAX_WAITING: Final = 10_000
"""Sessions that wait; of more, those that have waited longest are lost."""
_MAX_STAMP: Final = 64

_PREFLIGHT: Final[Pairs] = (
    *OPEN_TO_ALL,
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"content-type"),
)
_FRAMES: Final[Pairs] = (
    *OPEN_TO_ALL,
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class _Key(NamedTuple):
    """Whose a session is."""

    path: str
    origin: str | None


class _Opening:
    """A session that nobody has greeted yet: its request waits for its turn."""

    __slots__ = ("_open", "offered")

    def __init__(self, open_: Callable[[], Stream | Turned]) -> None:
        """Create it; ``open_`` says what becomes of the session."""
        self._open = open_
        self.offered: asyncio.Future[Stream | Turned] = asyncio.get_running_loop().create_future()

    def greet(self, *, crowded: bool) -> None:
        """Open the session, or say that there is no room to wait."""
        self.offered.set_result(CROWDED if crowded else self._open())


class SockJs:
    """Answers the fallbacks' requests, and leaves the rest to another."""

    def __init__(
        self,
        door: Door,
        otherwise: ASGIApp,
        *,
        admission: Admission | None = None,
        homes: Homes | None = None,
    ) -> None:
        """Create it.

        Args:
            door: judges who opens a session.
            otherwise: where what is not of a fallback goes.
            admission: where whoever opens one waits for its turn.
            homes: which sessions are other workers'.

        """
        self._door = door
        self._otherwise = otherwise
        self._admission = admission or Admission()
        self._homes = homes or Homes()
        self._framing = Framing()
        self._streams: dict[_Key, Stream] = {}
        self._openings: set[_Opening] = set()
        self._waiting: dict[_Key, asyncio.TimerHandle] = {}
        """Those without an open response, by how long they have been."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered where its session is at home."""
        found = _found(scope)
        if found is None:
            await self._otherwise(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await answer(send, 204, headers=_PREFLIGHT)
        elif scope["method"] != "POST":
            allow = (b"allow", b"POST, OPTIONS")
            await refuse(send, 405, "only POST is allowed here", allow)
        elif (home := self._homes.elsewhere(_session(found))) is not None:
            try:
                body = await body_of(receive)
            except TooLarge as error:
                # It is told by its session, which ends with it.
                body = error.read
            except Gone:
                return
            await self._homes.forward(home, scope, body, receive, send)
        else:
            await self._obey(found, scope, receive, send)

    async def at_home(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that another worker has passed on."""
        found = _found(scope)
        if found is None:
            await refuse(send, 404, "no request of a session")
        else:
            await self._obey(found, {**scope, "client": told_client(scope)}, receive, send)

    async def _obey(self, found: re.Match[str], scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        key = _Key(_session(found), headers.get("origin"))
        try:
            if found["what"] == "xhr_send":
                await self._hear(key, scope, receive, send)
            else:
                streaming = found["what"] == "xhr_streaming"
                target = f"{found['door']}?{scope['query_string'].decode('latin-1')}"
                peer = scope["client"][0] if scope["client"] else ""
                given = Handshake(target, judged_headers(headers.getlist), peer)
                await self._tell(key, given, scope, receive, send, streaming=streaming)
        except TooLarge:
            await refuse(send, 413, f"the request's body exceeds {MAX_BODY} bytes")
        except Gone:
            pass

    async def drain(self, within_s: float) -> None:
        """Tell whoever waits at the door, which is closed; await what other workers still say."""
        for opening in self._openings:
            self._admission.leave(opening)
            if not opening.offered.done():
                opening.greet(crowded=False)
        await self._homes.drain(within_s)

    def hurry(self) -> None:
        """Cut what other workers still say."""
        self._homes.end()

    def end(self) -> None:
        """Lose every session: the process ends, and nobody can come for what is left."""
        for key in list(self._streams):
            self._lose(key)

    # --- from the client -------------------------------------------------------------------------

    async def _hear(self, key: _Key, scope: Scope, receive: Receive, send: Send) -> None:
        if key not in self._streams:
            await refuse(send, 404, "no such session")
            return
        try:
            body = await body_of(receive)
        except TooLarge:
            # Nobody reads the answer, and a message is lost.
            if key in self._streams:
                self._streams[key].overrun()
            raise
        try:
            messages = orjson.loads(body)
        except orjson.JSONDecodeError:
            messages = None
        if not isinstance(messages, list) or not all(isinstance(each, str) for each in messages):
            await refuse(send, 400, "the body is not a JSON array of strings")
            return
        stream = self._streams.get(key)
        if stream is None or stream.finished:
            await refuse(send, 404, "no such session")
            return
        stream.hear(messages, _stamp(scope))
        await answer(send, 204, headers=OPEN_TO_ALL)

    # --- to the client ---------------------------------------------------------------------------

    async def _tell(
        self,
        key: _Key,
        given: Handshake,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        streaming: bool,
    ) -> None:
        await body_of(receive)
        stream = await self._offered(key, given, receive)
        if isinstance(stream, Turned):
            await _turn_away(send, stream, streaming=streaming)
            return
        if self._streams.get(key) is stream:
            self._wait_no_more(key)
        written = len(PRELUDE) if streaming else 0
        receiver = Receiver(scope["extensions"][CONNECTION]["abort"], written=written)
        stream.attach(receiver, _stamp(scope))
        say = _pour if streaming else _once
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_watch(receive, receiver))
                await say(stream, receiver, send)
                watching.cancel()
        finally:
            stream.detach(receiver)
            self._after(receiver, key, stream)

    async def _offered(self, key: _Key, given: Handshake, receive: Receive) -> Stream | Turned:
        """Return the session of a request, which waits for its turn to open one."""
        stream = self._streams.get(key)
        if self._door.draining or (stream is not None and not stream.finished):
            return self._met(key, given)
        opening = _Opening(partial(self._met, key, given))
        self._openings.add(opening)
        self._admission.come(opening)
        try:
            return await while_there(opening.offered, receive)
        finally:
            self._admission.leave(opening)
            self._openings.discard(opening)

    def _met(self, key: _Key, given: Handshake) -> Stream | Turned:
        """Return the session that has the key, a new one where there is none."""
        stream = self._streams.get(key)
        if stream is not None:
            if not stream.finished:
                return stream
            self._lose(key)
        stream = Stream(self._framing)
        offered = self._door.enter(given, stream)
        if isinstance(offered, Turned):
            return offered
        self._streams[key] = stream
        stream.enter(offered)
        # Its client may be gone before it learns of it.
        self._wait(key)
        return stream

    def _after(self, receiver: Receiver, key: _Key, stream: Stream) -> None:
        """Have a session without a response wait for the next one, or end where all is said."""
        if stream.awaited or self._streams.get(key) is not stream:
            return
        if stream.finished or receiver.was_cut:
            self._lose(key)
            return
        self._wait(key)

    def _wait(self, key: _Key) -> None:
        self._waiting[key] = asyncio.get_running_loop().call_later(GRACE_S, self._lose, key)
        if len(self._waiting) > MAX_WAITING:
            self._lose(next(iter(self._waiting)))

    def _wait_no_more(self, key: _Key) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting.cancel()

    def _lose(self, key: _Key) -> None:
        self._wait_no_more(key)
        self._streams.pop(key).lose()


async def _pour(stream: Stream, receiver: Receiver, send: Send) -> None:
    """Answer with a response without an end: for a stock client its end is a broken connection."""
    await send({"type": "http.response.start", "status": 200, "headers": _FRAMES})
    await more(send, PRELUDE)
    while not receiver.over:
        data = stream.take(receiver)
        if data:
            await more(send, data)
        elif stream.finished:
            break
        elif not await receiver.woken():
            receiver.room -= len(HEARTBEAT)
            await more(send, HEARTBEAT)
    await send({"type": "http.response.body", "body": receiver.farewell})


async def _once(stream: Stream, receiver: Receiver, send: Send) -> None:
    """Answer with what there is, as soon as there is something."""
    data = b""
    while not receiver.over and not data:
        data = stream.take(receiver) or (b"" if await receiver.woken() else HEARTBEAT)
    await answer(send, 200, data or receiver.farewell, _FRAMES)


async def _turn_away(send: Send, turned: Turned, *, streaming: bool) -> None:
    told = Framing().line(encode(frames.error(turned.code, turned.reason)))
    said = OPEN + told + closing(turned.code, turned.reason)
    await answer(send, 200, PRELUDE + said if streaming else said, _FRAMES)


async def _watch(receive: Receive, receiver: Receiver) -> None:
    """Learn that the client is gone."""
    await gone(receive)
    receiver.over = True
    receiver.wake()


def _found(scope: Scope) -> re.Match[str] | None:
    if scope["type"] != "http" or not scope["raw_path"].startswith(_PREFIX.encode()):
        return None
    return _PATH.fullmatch(scope["raw_path"].decode("ascii", errors="replace"))


def _session(found: re.Match[str]) -> str:
    return f"{found['door']}/{found['session']}"


def _stamp(scope: Scope) -> str:
    """Return what pusher-js gives no other request of its page; empty where there is nothing."""
    query = QueryParams(scope["query_string"])
    if "n" not in query:
        return ""
    stamp = f"{query.get('t')} {query['n']}"
    return stamp if len(stamp) <= _MAX_STAMP else ""
