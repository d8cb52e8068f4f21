"""The HTTP wire: uvicorn's, with an end to how long and how large a request's head may be.

A WebSocket's opening handshake is such a head, so this bounds handshakes too. uvicorn has a timeout
between requests alone, and its parser takes heads of any size. A handshake then waits for its turn
(`admission`); any other request is answered at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

from server.transports.admission import Admission

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request line and headers."""
HEAD_S: Final = 10.0
"""How long they may take, from the connection's begin or the first byte of the next request."""
BODY_S: Final = 60.0
"""How long a body may take: the largest that is read has 1 MiB."""
CONNECTION: Final = "bellhop.connection"
"""The scope's extension whose ``abort`` cuts a request's connection, whatever waits there."""
_LINGER_S: Final = 1.0
"""How long a client that was answered 431 may go on sending."""
_BETWEEN: Final = 4
"""`: ` and the line's end, of each header."""
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


class _HeadTooLarge(Exception):
    """Ends the parsing; uvicorn answers for it."""


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection; made by uvicorn."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401  uvicorn's own
        admission: Admission,
        send: Callable[[bytes], int] | None = None,
        **options: Any,  # noqa: ANN401  likewise
    ) -> None:
        """Create it; ``send`` is the socket's own, for a WebSocket to send with."""
        super().__init__(*args, **options)
        self._send = send
        self._admission = admission
        self._waits = False
        """Whether a handshake waits for its turn."""
        self._early = b""
        """What its client has said meanwhile, though it should not."""
        self._refused = False
        self._in_head = True
        self._head_bytes = 0
        """What has come of the head, beside what came in one piece with something before it."""
        self._piece = 0
        self._first_piece = 0
        """The length of that piece."""
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for a request."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._expect(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._admission.leave(self)
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, as long as the head is not too large."""
        if self._over():
            return
        if self._waits:
            self._keep(data)
            return
        self._piece = len(data)
        if self._in_head:
            self._head_bytes += self._piece
        super().data_received(data)
        if self._over():
            return
        if self._in_head and self._head_bytes > MAX_HEAD:
            self.send_400_response("")
        elif self._due is None and self.timeout_keep_alive_task is None and not self._answering:
            # Line ends between requests count as data and begin nothing.
            self._expect(HEAD_S)

    def handle_websocket_upgrade(self) -> None:
        """Have the handshake answered in its turn; nothing more is waited for here."""
        self._expect_nothing()
        self._due = math.inf
        self._waits = True
        self._admission.come(self)

    def greet(self, *, crowded: bool) -> None:
        """Hand the connection over."""
        self._waits = False
        early, self._early = self._early, b""
        protocol = partial(cast("Any", self.ws_protocol_class), send=self._send, crowded=crowded)
        self.ws_protocol_class = cast("type[asyncio.Protocol]", protocol)
        super().handle_websocket_upgrade()
        # It knows this protocol, as this one knows it: without it both are gone at once.
        self.parser = cast("Any", None)
        if early:
            cast("asyncio.Protocol", self.transport.get_protocol()).data_received(early)

    def shutdown(self) -> None:
        """End the connection because the server stops; uvicorn calls it."""
        self._admission.leave(self)
        if self._waits:
            # It is told why, as everybody is.
            self.greet(crowded=False)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or one whose head is too large."""
        if not self._in_head or max(self._head_size(), self._head_bytes) <= MAX_HEAD:
            super().send_400_response(msg)
            return
        self.transport.write(_TOO_LARGE)
        self._refused = True
        self._expect_nothing()
        if self.transport.can_write_eof():
            # Closing with something unread would reset the connection, and the answer be lost.
            self.transport.write_eof()
            self._expect(_LINGER_S)
        else:
            self.transport.close()

    # --- the parser's calls ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        if not self._in_head:
            self._in_head, self._head_bytes, self._first_piece = True, 0, self._piece
            self._expect(HEAD_S)
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: {"abort": self.transport.abort}}

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        if self._head_bytes + self._first_piece > MAX_HEAD and self._head_size() > MAX_HEAD:
            raise _HeadTooLarge
        self._in_head = False
        self._expect(BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing until the next request begins."""
        self._due = None
        super().on_message_complete()

    # --- waiting ---------------------------------------------------------------------------------

    def _keep(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > MAX_HEAD:
            self.transport.abort()

    def _over(self) -> bool:
        return self._refused or self.transport.is_closing()

    @property
    def _answering(self) -> bool:
        # uvicorn types these two as if they were always there.
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _head_size(self) -> int:
        headers = cast("list[tuple[bytes, bytes]] | None", self.headers)
        if headers is None:
            return 0
        return len(self.url) + sum(len(name) + len(value) + _BETWEEN for name, value in headers)

    def _expect(self, seconds: float) -> None:
        """Have what comes next come in time.

        The timer is left to run: for a connection with many requests it costs nothing.
        """
        self._due = self.loop.time() + seconds
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._look)

    def _expect_nothing(self) -> None:
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due is None or self.transport.is_closing():
            return
        left = self._due - self.loop.time()
        if self._in_head and self._answering:
            # The next request waits for the answer to the last: the client is not slow, we are.
            left = HEAD_S
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        else:
            self.transport.abort()
