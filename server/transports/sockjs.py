"""pusher-js' HTTP fallbacks: sessions of SockJS' kind, whose frames come in answers to requests.

The client chooses where its session is: `/pusher`, the path of a WebSocket, two names of its own,
and what it wants. A session belongs to the whole of that and to the page's origin: with another
token, or from another page, the same names are another session. Messages come in requests of their
own, in no certain order.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, NamedTuple

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from server.protocol import frames
from server.transports.door import Door, Handshake, Turned, judged_headers
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
from server.transports.websocket import encode

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
_MAX_BODY: Final = 256 * 1024
"""Bytes of a request: the largest message, escaped by JSON, and twice as much again."""
_MAX_STAMP: Final = 64

_Headers = tuple[tuple[bytes, bytes], ...]

# For any page: the answer to one whose origin is not allowed says just that. Cookies are no matter:
# without allow-credentials no page of another origin reads what it asks for with them.
_OPEN_TO_ALL: Final[_Headers] = ((b"access-control-allow-origin", b"*"),)
_PREFLIGHT: Final[_Headers] = (
    *_OPEN_TO_ALL,
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"content-type"),
)
_FRAMES: Final[_Headers] = (
    *_OPEN_TO_ALL,
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class _Key(NamedTuple):
    """Whose a session is."""

    path: str
    origin: str | None


class _Gone(Exception):
    """The client went away before it had sent its request."""


class _TooLarge(Exception):
    """A request's body exceeds its bound."""


class SockJs:
    """Answers the fallbacks' requests, and leaves the rest to another."""

    def __init__(self, door: Door, otherwise: ASGIApp) -> None:
        """Create it; what is not of a fallback goes to ``otherwise``."""
        self._door = door
        self._otherwise = otherwise
        self._framing = Framing()
        self._streams: dict[_Key, Stream] = {}
        self._waiting: dict[_Key, asyncio.TimerHandle] = {}
        """Those without an open response, by how long they have been."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = (
            scope["raw_path"].decode("ascii", errors="replace") if scope["type"] == "http" else ""
        )
        found = _PATH.fullmatch(path) if path.startswith(_PREFIX) else None
        if found is None:
            await self._otherwise(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await _answer(send, 204, headers=_PREFLIGHT)
        elif scope["method"] != "POST":
            allow = (b"allow", b"POST, OPTIONS")
            await _refuse(send, 405, "only POST is allowed here", allow)
        else:
            headers = Headers(scope=scope)
            key = _Key(f"{found['door']}/{found['session']}", headers.get("origin"))
            try:
                if found["what"] == "xhr_send":
                    await self._hear(key, scope, receive, send)
                else:
                    streaming = found["what"] == "xhr_streaming"
                    target = f"{found['door']}?{scope['query_string'].decode('latin-1')}"
                    peer = scope["client"][0] if scope["client"] else ""
                    given = Handshake(target, judged_headers(headers.getlist), peer)
                    await self._tell(key, given, scope, receive, send, streaming=streaming)
            except _TooLarge:
                await _refuse(send, 413, f"the request's body exceeds {_MAX_BODY} bytes")
            except _Gone:
                pass

    def end(self) -> None:
        """Lose every session: the process ends, and nobody can come for what is left."""
        for key in list(self._streams):
            self._lose(key)

    # --- from the client -------------------------------------------------------------------------

    async def _hear(self, key: _Key, scope: Scope, receive: Receive, send: Send) -> None:
        if key not in self._streams:
            await _refuse(send, 404, "no such session")
            return
        try:
            body = await _body(receive)
        except _TooLarge:
            # Nobody reads the answer, and a message is lost.
            if key in self._streams:
                self._streams[key].overrun()
            raise
        try:
            messages = orjson.loads(body)
        except orjson.JSONDecodeError:
            messages = None
        if not isinstance(messages, list) or not all(isinstance(each, str) for each in messages):
            await _refuse(send, 400, "the body is not a JSON array of strings")
            return
        stream = self._streams.get(key)
        if stream is None or stream.finished:
            await _refuse(send, 404, "no such session")
            return
        stream.hear(messages, _stamp(scope))
        await _answer(send, 204, headers=_OPEN_TO_ALL)

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
        await _body(receive)
        stream = self._streams.get(key)
        if stream is not None and stream.finished:
            self._lose(key)
            stream = None
        if stream is None:
            stream = Stream(self._framing)
            offered = self._door.enter(given, stream)
            if isinstance(offered, Turned):
                await _turn_away(send, offered, streaming=streaming)
                return
            self._streams[key] = stream
            stream.enter(offered)
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting.cancel()
        written = len(PRELUDE) if streaming else 0
        receiver = Receiver(scope["extensions"][CONNECTION]["abort"], written=written)
        stream.attach(receiver, _stamp(scope))
        answer = _pour if streaming else _once
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_watch(receive, receiver))
                await answer(stream, receiver, send)
                watching.cancel()
        finally:
            stream.detach(receiver)
            self._after(receiver, key, stream)

    def _after(self, receiver: Receiver, key: _Key, stream: Stream) -> None:
        """Have a session without a response wait for the next one, or end where all is said."""
        if stream.awaited or self._streams.get(key) is not stream:
            return
        if stream.finished or receiver.was_cut:
            self._lose(key)
            return
        self._waiting[key] = asyncio.get_running_loop().call_later(GRACE_S, self._lose, key)
        if len(self._waiting) > MAX_WAITING:
            self._lose(next(iter(self._waiting)))

    def _lose(self, key: _Key) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting.cancel()
        self._streams.pop(key).lose()


async def _pour(stream: Stream, receiver: Receiver, send: Send) -> None:
    """Answer with a response without an end: for a stock client its end is a broken connection."""
    await send({"type": "http.response.start", "status": 200, "headers": _FRAMES})
    await _more(send, PRELUDE)
    while not receiver.over:
        data = stream.take(receiver)
        if data:
            await _more(send, data)
        elif stream.finished:
            break
        elif not await receiver.woken():
            receiver.room -= len(HEARTBEAT)
            await _more(send, HEARTBEAT)
    await send({"type": "http.response.body", "body": receiver.farewell})


async def _once(stream: Stream, receiver: Receiver, send: Send) -> None:
    """Answer with what there is, as soon as there is something."""
    data = b""
    while not receiver.over and not data:
        data = stream.take(receiver) or (b"" if await receiver.woken() else HEARTBEAT)
    await _answer(send, 200, data or receiver.farewell, _FRAMES)


async def _turn_away(send: Send, turned: Turned, *, streaming: bool) -> None:
    told = Framing().line(encode(frames.error(turned.code, turned.reason)))
    said = OPEN + told + closing(turned.code, turned.reason)
    await _answer(send, 200, PRELUDE + said if streaming else said, _FRAMES)


async def _watch(receive: Receive, receiver: Receiver) -> None:
    """Learn that the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    receiver.over = True
    receiver.wake()


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > _MAX_BODY:
            raise _TooLarge
        more = message.get("more_body", False)
    return b"".join(chunks)


def _stamp(scope: Scope) -> str:
    """Return what pusher-js gives no other request of its page; empty where there is nothing."""
    query = QueryParams(scope["query_string"])
    if "n" not in query:
        return ""
    stamp = f"{query.get('t')} {query['n']}"
    return stamp if len(stamp) <= _MAX_STAMP else ""


async def _more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _refuse(send: Send, status: int, reason: str, *more: tuple[bytes, bytes]) -> None:
    headers = (*_OPEN_TO_ALL, (b"content-type", b"application/json"), *more)
    await _answer(send, status, orjson.dumps({"error": reason}), headers)


async def _answer(send: Send, status: int, body: bytes = b"", headers: _Headers = ()) -> None:
    # A 204 has no length, not even 0.
    length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)  # noqa: PLR2004
    await send({"type": "http.response.start", "status": status, "headers": (*headers, *length)})
    await send({"type": "http.response.body", "body": body})
