"""Accepting connections: many of those that wait, in each turn of the event loop.

libuv accepts one per listening socket and turn. That is plenty while a turn takes microseconds; but
with a herd at the door a turn takes milliseconds, the kernel's queue fills, and it drops whoever
comes then, a balancer's health check among them. They try again after one, three and seven seconds.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

_AT_ONCE: Final = 128
"""Connections accepted in one turn: a few milliseconds."""
_PAUSE_S: Final = 0.5
"""After which it is tried again to accept, where the process has no file descriptors left."""

log = structlog.get_logger()


class Acceptor:
    """Accepts from one listening socket; stands in for asyncio's `Server`."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[socket.socket], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None = None,
        tls_handshake_s: float | None = None,
    ) -> None:
        """Begin to accept; the socket listens already. ``protocol`` is given each connection."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._protocol = protocol
        self._tls = tls
        self._tls_handshake_s = tls_handshake_s
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listening.settimeout(0)
        self._loop.add_reader(listening.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more, and close the socket."""
        if self._listening.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()

    async def wait_closed(self) -> None:
        """Await that nobody stands in the door any more."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # Another worker was quicker, or the client has gone.
                return
            except OSError as error:
                log.warning("accepting.failed", error=str(error))
                self._loop.remove_reader(self._listening.fileno())
                self._pause = self._loop.call_later(_PAUSE_S, self._again)
                return
            opening = self._loop.create_task(self._open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opened)

    def _again(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening.fileno(), self._accept)

    async def _open(self, connection: socket.socket) -> object:
        return await self._loop.connect_accepted_socket(
            partial(self._protocol, connection),
            connection,
            ssl=self._tls,
            ssl_handshake_timeout=self._tls_handshake_s,
        )

    def _opened(self, opening: asyncio.Task[object]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled():
            # A client that has gone meanwhile, or that speaks no TLS: it is nobody's concern.
            opening.exception()
