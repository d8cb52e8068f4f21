"""The WebSocket wire: an asyncio protocol around the sans-I/O `websockets.server.ServerProtocol`.

uvicorn parses the upgrade request and hands the connection over; between the hub and the socket
there is no ASGI `send`. Outgoing text frames are made here, once for all subscribers, and written
past the `ServerProtocol`, which has no say in unfragmented data frames of an open connection.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from channels_spec.pusher import MAX_CLIENT_MESSAGE, SUBPROTOCOL, CloseCode, ErrorCode
from server.protocol import frames
from server.session import Session
from server.transports.door import Door, Handshake, Turned, judged_headers
from server.walls import Verdict, Visit

_CLOSE_TIMEOUT_S: Final = 5.0
"""How long a closing handshake may take before the socket is cut."""
_TEXT: Final = 0x81
_MAX_7_BIT: Final = 125
_MAX_16_BIT: Final = 0xFFFF
_EXTENDED: Final = {126: 2, 127: 8}
"""Bytes of the length that follows, by what stands in its first place."""
_MAX_REASON: Final = 123
"""Bytes of a close frame's reason."""
_MESSAGES: Final = (Opcode.TEXT, Opcode.CONT, Opcode.BINARY)
TOO_MANY: Final = frames.error(
    ErrorCode.CLIENT_EVENT_REFUSED, "too many messages a second: this one was not obeyed"
)
"""What a message is answered with that is not obeyed."""
CROWDED: Final = Turned(CloseCode.OVER_CAPACITY, "too many are connecting now: come again")
"""What a client is told where there is no room to wait."""
_SUBPROTOCOLS: Final = (Subprotocol(SUBPROTOCOL),)
_CLOSES_WITH_1007: Final = "text frames must be UTF-8"
_CLOSES_WITH_1003: Final = "binary frames are not part of the protocol"


def encode(frame: bytes) -> bytes:
    """Return a text frame as it goes over the wire: final, unmasked."""
    length = len(frame)
    if length <= _MAX_7_BIT:
        return bytes((_TEXT, length)) + frame
    if length <= _MAX_16_BIT:
        return struct.pack(">BBH", _TEXT, 126, length) + frame
    return struct.pack(">BBQ", _TEXT, 127, length) + frame


def join(frames_: Sequence[bytes]) -> bytes:
    """Return several text frames as one piece."""
    if len(frames_) == 1:
        return encode(frames_[0])
    return b"".join(map(encode, frames_))


def split(data: bytes) -> list[bytes]:
    """Return the text frames of which `join` or `encode` made one piece."""
    found = []
    at = 0
    while at < len(data):
        length, at = data[at + 1], at + 2
        extended = _EXTENDED.get(length, 0)
        if extended:
            length, at = int.from_bytes(data[at : at + extended]), at + extended
        found.append(data[at : at + length])
        at += length
    return found


class _SilentLogger(logging.LoggerAdapter[logging.Logger]):
    """Stands in for the library's logger: the session logs what matters, in two lines."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's name
        """Nothing is logged."""
        del level
        return False


_SILENT: Final = _SilentLogger(logging.getLogger(__name__), {})


class _Handshake(ServerProtocol):
    """The opening handshake, with Pusher's subprotocol."""

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Echo Pusher's subprotocol when offered: Swift needs it, others must not get it."""
        return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in subprotocols else None


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket; made by uvicorn when an upgrade arrives."""

    __slots__ = (
        "_connections",
        "_crowded",
        "_door",
        "_fragments",
        "_send",
        "_session",
        "_transport",
        "_visit",
        "_websocket",
    )

    def __init__(
        self,
        door: Door,
        connections: set[Any],
        *,
        send: Callable[[bytes], int] | None = None,
        crowded: bool = False,
    ) -> None:
        """Create the protocol.

        Args:
            door: judges handshakes.
            connections: uvicorn's live ones.
            send: the socket's own, where bytes may go past the transport.
            crowded: there is no room for another one.

        """
        self._door = door
        self._send = send
        self._crowded = crowded
        self._connections = connections
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._session: Session | None = None
        self._visit: Visit | None = None
        self._fragments: list[bytes] | None = None
        self._websocket: ServerProtocol = _Handshake(subprotocols=_SUBPROTOCOLS, logger=_SILENT)

    # --- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from the HTTP protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser and obey what comes out."""
        if self._send is not None and self._session is not None:
            self._go_direct(self._send, self._session)
        self._websocket.receive_data(data)
        self._obey()

    def eof_received(self) -> None:
        """Note that the client has ended its side."""
        self._websocket.receive_eof()
        self._obey()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is gone."""
        del exc
        self._connections.discard(self)
        self._lose_session()

    def pause_writing(self) -> None:
        """Note that the transport's buffer is full."""
        if self._session is not None:
            self._session.outbox.pause()

    def resume_writing(self) -> None:
        """Note that the transport's buffer has drained."""
        if self._session is not None:
            self._session.outbox.resume()

    def shutdown(self) -> None:
        """End the connection because the server stops; uvicorn calls it."""
        if self._session is not None:
            self._session.end(CloseCode.DRAINING, "the server is stopping")
        else:
            self._transport.close()

    # --- the session's transport -----------------------------------------------------------------

    @property
    def wire(self) -> asyncio.Transport:
        """The socket's transport: what is written there are whole frames."""
        return self._transport

    def encode(self, frame: bytes) -> bytes:
        """Return one frame as it goes over this wire."""
        return encode(frame)

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the socket is cut if it does not end."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(code, _clip(reason))
            self._write_out()
        asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self._transport.abort)

    # --- frames ----------------------------------------------------------------------------------

    def _go_direct(self, send: Callable[[bytes], int], session: Session) -> None:
        """Have the session's frames go past the transport as soon as its greeting has gone."""
        if not self._transport.get_write_buffer_size():
            # With the first byte that the kernel does not take it will say so.
            self._transport.set_write_buffer_limits(high=0)
            session.outbox.go_direct(send)
            self._send = None

    def _obey(self) -> None:
        for event in self._websocket.events_received():
            if isinstance(event, Frame):
                self._take(event)
            elif isinstance(event, Request):
                self._greet(event)
        self._write_out()
        if self._websocket.state is not State.OPEN:
            # Nothing may be sent after a close frame, by the hub least of all.
            self._lose_session()
            if self._websocket.close_expected():
                asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self._transport.abort)

    def _lose_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            close = self._websocket.close_rcvd or self._websocket.close_sent
            session.lost(close.code if close is not None else None)
            if self._visit is not None:
                self._visit.left()

    def _write_out(self) -> None:
        for data in self._websocket.data_to_send():
            if data:
                self._transport.write(data)
            elif not self._transport.is_closing():
                # The parser's sign for "half-close now": everything is said.
                self._transport.close()

    def _greet(self, request: Request) -> None:
        response = self._websocket.accept(request)
        self._websocket.send_response(response)
        self._write_out()
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return
        # A `ServerProtocol` keeps its request for ever, a third of an idle connection's memory.
        # uvicorn hands over the request alone, so a fresh one, open from the start, misses nothing.
        self._websocket = ServerProtocol(
            state=State.OPEN, max_size=MAX_CLIENT_MESSAGE, logger=_SILENT
        )
        headers = judged_headers(request.headers.get_all)
        handshake = Handshake(request.path, headers, _peer(self._transport))
        offered = CROWDED if self._crowded else self._door.enter(handshake, self)
        if isinstance(offered, Turned):
            self._transport.write(encode(frames.error(offered.code, offered.reason)))
            self.close(offered.code, offered.reason)
            return
        self._session, self._visit = offered.session, offered.visit
        offered.open()

    def _take(self, frame: Frame) -> None:
        session, visit = self._session, self._visit
        if session is None or visit is None:
            return
        data = bytes(frame.data)
        verdict = visit.message(data)
        if verdict is not Verdict.TAKE and self._stopped(session, frame, verdict):
            return
        match frame.opcode:
            case Opcode.TEXT | Opcode.CONT:
                self._assemble(session, data, final=frame.fin)
            case Opcode.BINARY:
                session.end(CloseCode.UNSUPPORTED_DATA, _CLOSES_WITH_1003)
            case Opcode.PING | Opcode.PONG:
                session.heard()
            case Opcode.CLOSE:
                pass
        if not visit.named and session.user_id is not None:
            reason = visit.name(session.user_id)
            if reason is not None:
                session.end(CloseCode.OVER_CAPACITY, reason)

    def _stopped(self, session: Session, frame: Frame, verdict: Verdict) -> bool:
        """Tell a client that sends too much; whether the frame ends here."""
        if frame.opcode not in _MESSAGES and verdict is Verdict.REFUSE:
            return False
        # Without one of its fragments a message is another one: that cannot be told and gone on.
        whole = frame.fin and self._fragments is None
        if verdict is Verdict.END or not whole:
            session.end(CloseCode.OVER_CAPACITY, "too many messages, for too long")
        # No stock client closes on a code of 43xx, and Pusher's own for "too many" is this one.
        elif not session.outbox.send(encode(TOO_MANY)):
            session.fell_behind()
        return True

    def _assemble(self, session: Session, data: bytes, *, final: bool) -> None:
        if not final or self._fragments is not None:
            fragments = self._fragments = self._fragments or []
            if data:
                # Only bytes count against the largest message: empty pieces would pile up for ever.
                fragments.append(data)
            if not final:
                return
            data, self._fragments = b"".join(fragments), None
        try:
            data.decode()
        except UnicodeDecodeError:
            session.end(CloseCode.INVALID_UTF8, _CLOSES_WITH_1007)
            return
        session.receive(data)


def _peer(transport: asyncio.Transport) -> str:
    """Return the address of the other end; a unix socket's has none."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else ""


def _clip(reason: str) -> str:
    """Return a close reason that fits in a control frame."""
    return reason.encode()[:_MAX_REASON].decode(errors="ignore")
