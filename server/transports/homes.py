"""Homes: which of the workers on one socket has a session over HTTP, and the way to it.

The kernel gives each connection to any of the workers, and a session's requests come by several
connections. So a session's name says at which worker it is at home, and any other passes its
requests on, each by a connection of its own to the home's private socket. The supervisor has bound
those sockets, in a directory that only its own user can enter, and keeps them while a worker is
replaced: what comes meanwhile waits.

A home that dies leaves an answer unfinished, or without a beginning: the first is cut, for a clean
end would say that it was all, and the second is a 503. pusher-js takes either for a lost connection
and opens a new session.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from httptools import HttpResponseParser
from starlette.types import Message, Receive, Scope, Send

from server.errors import ConfigError
from server.transports.door import JUDGED
from server.transports.exchange import gone, more, refuse
from server.transports.http import CONNECTION

PEER: Final = b"bellhop-peer"
"""The header that says, on a private socket, who has asked; no client's own is passed on."""
_PASSED_ON: Final = frozenset(name.encode() for name in JUDGED)
_NOT_PASSED_ON: Final = frozenset({b"connection", b"transfer-encoding", b"date"})
"""Of an answer: each connection has its own."""
_UNREAD_S: Final = 30.0
"""How long a piece of an answer may wait for its client to read: behind it nothing can be seen of
the home, which ends sessions whose client is silent."""
_LATE_S: Final = 1.0
"""How much later than this worker another one may have begun to drain."""
_PIECE: Final = 64 * 1024
_BACKLOG: Final = 4096
_LONGEST_ROOT: Final = 64
"""Bytes of the temporary directory's path; a socket's path may have 108, on macOS 104."""


class Homes:
    """One worker's view of all of them; without arguments, of one that is alone."""

    def __init__(self, number: int = 0, count: int = 1, directory: Path = Path()) -> None:
        """Create the view of worker ``number`` of ``count``, whose sockets are in a directory."""
        self._number = number
        self._count = count
        self._directory = directory
        self._passing: set[asyncio.Task[bool]] = set()
        self._closed = False

    def elsewhere(self, session: str) -> Path | None:
        """Return the socket of the worker that has a session; ``None``: it is this one."""
        home = zlib.crc32(session.encode()) % self._count
        return None if home == self._number else _address(self._directory, home)

    async def forward(
        self, home: Path, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        """Have a request answered at home; its client's end is the end of both."""
        if self._closed:
            await refuse(send, 503, "the node is stopping")
            return
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(gone(receive))
            passing = tasks.create_task(_pass_on(home, scope, body, send))
            self._passing.add(passing)
            passing.add_done_callback(self._passing.discard)
            await asyncio.wait((watching, passing), return_when=asyncio.FIRST_COMPLETED)
            if passing.done() and not passing.cancelled() and passing.result():
                watching.cancel()
            else:
                passing.cancel()
                scope["extensions"][CONNECTION]["abort"]()

    async def drain(self, within_s: float) -> None:
        """Await the end of what is passed on, for as long as homes drain too; cut the rest."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s + _LATE_S
        while self._passing and loop.time() < until:
            await asyncio.wait(self._passing, timeout=until - loop.time())
        self.end()

    def end(self) -> None:
        """Cut what is passed on, and pass on nothing more."""
        self._closed = True
        for passing in self._passing:
            passing.cancel()


class _Answer:
    """What the parser finds in a home's answer."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.begun = False
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if name.lower() not in _NOT_PASSED_ON:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note that the head is known."""
        self.begun = True

    def on_body(self, piece: bytes) -> None:
        """Take a piece."""
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note that nothing more comes."""
        self.complete = True


async def _pass_on(home: Path, scope: Scope, body: bytes, send: Send) -> bool:
    """Pass on a request, and its answer as it comes; whether that is complete."""
    told = _Answer()
    writer = None
    try:
        reader, writer = await asyncio.open_unix_connection(str(home))
        writer.write(_request(scope, body))
        await _tell(reader, told, _to_who_reads(send))
    except (OSError, EOFError):
        if told.begun:
            return False
        await refuse(send, 503, "the session's worker does not answer")
    finally:
        if writer is not None:
            writer.transport.abort()
    return True


async def _tell(reader: asyncio.StreamReader, told: _Answer, send: Send) -> None:
    """Pass on an answer; raises `OSError` or `EOFError` where that ends untimely."""
    parser = HttpResponseParser(told)
    started = False
    while not told.complete:
        data = await reader.read(_PIECE)
        if not data:
            raise EOFError
        parser.feed_data(data)
        if told.begun and not started:
            started = True
            status = parser.get_status_code()
            await send({"type": "http.response.start", "status": status, "headers": told.headers})
        if told.pieces:
            piece = b"".join(told.pieces)
            told.pieces.clear()
            await more(send, piece)
    await send({"type": "http.response.body", "body": b""})


def _to_who_reads(send: Send) -> Send:
    """Return the way to a client that raises `TimeoutError` where it takes nothing."""

    async def sending(message: Message) -> None:
        async with asyncio.timeout(_UNREAD_S):
            await send(message)

    return sending


def _request(scope: Scope, body: bytes) -> bytes:
    """Return a request as it goes over the private socket, which is kept for no other one."""
    peer = scope["client"][0].encode() if scope["client"] else b""
    # As the client wrote them: the parser has let no line's end through.
    headers = [(name, value) for name, value in scope["headers"] if name in _PASSED_ON]
    headers += [(PEER, peer), (b"content-length", b"%d" % len(body))]
    lines = [b"POST %b?%b HTTP/1.1" % (scope["raw_path"], scope["query_string"])]
    lines += [b"%b: %b" % header for header in headers]
    return b"\r\n".join([*lines, b"", body])


def told_client(scope: Scope) -> tuple[str, int] | None:
    """Return the client for whom a request on the private socket was passed on."""
    peer = dict(scope["headers"]).get(PEER, b"").decode("latin-1")
    return (peer, 0) if peer else None


def _address(directory: Path, number: int) -> Path:
    return directory / str(number)


@contextmanager
def private_sockets(count: int) -> Iterator[tuple[Path, list[socket.socket]]]:
    """Bind a socket for each worker, which listens already; raises `ConfigError`.

    The directory goes at the end. One whose supervisor was killed stays, with nothing in it but
    sockets that nobody listens on.
    """
    try:
        root = tempfile.gettempdir()
        if len(os.fsencode(root)) > _LONGEST_ROOT:
            root = "/tmp"  # noqa: S108  a directory of our own is made in it
        made = tempfile.TemporaryDirectory(
            prefix="bellhop-workers-", dir=root, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise ConfigError(f"cannot make the workers' sockets: {_reason(error)}") from None
    with made as name, ExitStack() as stack:
        directory, sockets = Path(name), []
        for number in range(count):
            each = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            path = _address(directory, number)
            try:
                each.bind(str(path))
                each.listen(_BACKLOG)
            except OSError as error:
                raise ConfigError(f"cannot listen on {path}: {_reason(error)}") from None
            sockets.append(each)
        yield directory, sockets


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
