"""A backend in a process of its own: signed triggers over connections that stay open."""

import asyncio
import hashlib
import hmac
import json
import multiprocessing
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Never, TypeAlias, assert_never, cast

import uvloop

from loadtest.hotel import EVENT, Keys
from loadtest.server import HOST
from loadtest.subscriber import DrainFailed, Group, Subscriber, upgrade_request

PATIENCE_S = 60.0
_DISTINCT = 256
"""Requests that are signed beforehand; they are sent again and again."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class PostingFailed(Exception):
    """A trigger was not answered with 200, or its event did not arrive."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """What is sent: to whom, how large, by how many at once."""

    keys: Keys
    channel: str
    data_bytes: int
    connections: int
    pipelined: int
    """Requests that a connection sends before it has the answer to the first."""


@dataclass(frozen=True, slots=True)
class Open:
    """Give a server a name; with `subscribed`, send it one subscriber. Answered with None."""

    server: str
    port: int
    subscribed: bool


@dataclass(frozen=True, slots=True)
class Post:
    """Send so many triggers and await their answers; answered with the seconds it took."""

    server: str
    count: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """Answer None once the subscriber of a server has as many events in all."""

    server: str
    total: int


Command: TypeAlias = Open | Post | Arrived


def signed_request(triggers: Triggers, data: str) -> bytes:
    """Write the whole HTTP request of a trigger, as Pusher's libraries sign it."""
    keys = triggers.keys
    given = {"name": EVENT, "channels": [triggers.channel], "data": data}
    body = json.dumps(given).encode()
    path = f"/apps/{keys.app_id}/events"
    query = (
        f"auth_key={keys.key}&auth_timestamp={int(time.time())}&auth_version=1.0"
        f"&body_md5={hashlib.md5(body, usedforsecurity=False).hexdigest()}"
    )
    message = f"POST\n{path}\n{query}".encode()
    signature = hmac.digest(keys.secret.encode(), message, "sha256").hex()
    return (
        f"POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: {HOST}\r\n"
        "X-Pusher-Library: loadtest\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Round:
    """So many requests, handed out one by one until all are answered."""

    def __init__(self, triggers: Triggers, count: int) -> None:
        padding = "x" * max(0, triggers.data_bytes - len('{"number":000,"note":""}'))
        data = (f'{{"number":{100 + n},"note":"{padding}"}}' for n in range(_DISTINCT))
        self._requests = cycle([signed_request(triggers, text) for text in data])
        self._unsent = count
        self._unanswered = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes:
        """Return the next request; nothing when all are on their way."""
        if self._unsent == 0:
            return b""
        self._unsent -= 1
        return next(self._requests)

    def answered(self) -> None:
        """Count an answer in."""
        self._unanswered -= 1
        if self._unanswered == 0 and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        """End the round with what went wrong."""
        if not self.done.done():
            self.done.set_exception(PostingFailed(reason))


class _Poster(asyncio.Protocol):
    """One connection: writes requests, reads answers, and writes again as they come."""

    def __init__(self) -> None:
        self.open = False
        self._transport = cast("asyncio.Transport", None)
        self._rest = b""
        self._round: _Round | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.open = True
        self._transport = cast("asyncio.Transport", transport)

    def begin(self, posting: _Round, pipelined: int) -> None:
        """Send the first requests of a round."""
        self._round = posting
        self._transport.write(b"".join(posting.next() for _ in range(pipelined)))

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into answers, and send a request for each."""
        if self._round is None:
            return
        data = self._rest + data
        at, more = 0, []
        while (end := data.find(b"\r\n\r\n", at)) >= 0:
            length = _LENGTH.search(data, at, end + 2)
            after = end + 4 + (int(length[1]) if length else 0)
            if after > len(data):
                break
            if data[at + 9 : at + 12] != b"200":
                self._round.fail(data[at:after].decode(errors="replace"))
            more.append(self._round.next())
            self._round.answered()
            at = after
        self._rest = data[at:]
        if any(more):
            self._transport.write(b"".join(more))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the round that is on, if one is."""
        self.open = False
        if self._round is not None:
            self._round.fail(f"connection lost: {exc!r}")


class _Backend:
    """The process's own side of the pipe."""

    def __init__(self, triggers: Triggers, control: Connection) -> None:
        self._triggers = triggers
        self._control = control
        self._ports: dict[str, int] = {}
        self._posters: dict[str, list[_Poster]] = {}
        self._groups: dict[str, Group] = {}

    async def run(self) -> None:
        """Obey commands until the other side goes away."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                command: Command = await loop.run_in_executor(None, self._control.recv)
            except (EOFError, OSError):
                return
            try:
                await self._obey(command)
            except (PostingFailed, DrainFailed, OSError, TimeoutError) as failed:
                self._control.send(f"{type(failed).__name__}: {failed}")

    async def _obey(self, command: Command) -> None:
        match command:
            case Open():
                await self._open(command)
            case Post():
                self._control.send(await self._post(command))
            case Arrived():
                self._groups[command.server].await_frames(command.total)
            case _:
                assert_never(command)

    async def _open(self, command: Open) -> None:
        loop = asyncio.get_running_loop()
        self._ports[command.server] = command.port
        if not command.subscribed:
            self._control.send(None)
            return
        group = self._groups[command.server] = Group(self._control)
        ready: asyncio.Future[None] = loop.create_future()
        request = upgrade_request(self._triggers.keys, "loadtest", "hotel")
        subscriber = Subscriber(group, ready, request, self._triggers.channel)
        group.subscribers.append(subscriber)
        await loop.create_connection(lambda: subscriber, HOST, command.port)
        await ready
        group.opened()

    async def _post(self, command: Post) -> float:
        posting = _Round(self._triggers, command.count)
        posters = await self._connected(command.server)
        began = time.perf_counter()
        for poster in posters:
            poster.begin(posting, self._triggers.pipelined)
        async with asyncio.timeout(PATIENCE_S):
            await posting.done
        return time.perf_counter() - began

    async def _connected(self, server: str) -> list[_Poster]:
        """Return the connections, new ones for those that the server has closed as idle."""
        loop = asyncio.get_running_loop()
        posters = [poster for poster in self._posters.get(server, []) if poster.open]
        while len(posters) < self._triggers.connections:
            _, poster = await loop.create_connection(_Poster, HOST, self._ports[server])
            posters.append(poster)
        self._posters[server] = posters
        return posters


def _backend_process(triggers: Triggers, control: Connection) -> None:
    with suppress(BrokenPipeError):  # the measuring process gave up and has said why
        uvloop.run(_Backend(triggers, control).run())


@dataclass(frozen=True, slots=True)
class Backend:
    """The measuring process's side: every call returns once it is done."""

    control: Connection

    def open(self, server: str, port: int, *, subscribed: bool) -> None:
        """Name a server, and subscribe to the channel there."""
        self._ask(Open(server, port, subscribed))

    def post(self, server: str, count: int) -> float:
        """Send triggers and await their answers; the seconds it took."""
        return float(self._ask(Post(server, count)) or 0)

    def await_arrival(self, server: str, total: int) -> None:
        """Wait until the subscriber has all events since it came."""
        self._ask(Arrived(server, total))

    def _ask(self, command: Command) -> float | None:
        self.control.send(command)
        if not self.control.poll(PATIENCE_S + 5):
            _fail(f"no answer to {command}")
        try:
            reply: float | str | None = self.control.recv()
        except EOFError:
            reply = "the posting process ended early"
        if isinstance(reply, str):
            _fail(reply)
        return reply


def _fail(reason: str) -> Never:
    raise PostingFailed(reason)


@contextmanager
def backend(triggers: Triggers) -> Iterator[Backend]:
    """Run the posting process until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_backend_process, args=(triggers, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Backend(ours)
    finally:
        ours.close()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
