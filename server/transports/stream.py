"""The wire of a session over HTTP: frames of SockJS, kept until a request comes to fetch them.

A session's frames go out in the bodies of responses, one response after the other. A stock client
drops a response at the end of the first line that brings it over `CLIENT_BUFFER`, and asks for the
next one; whatever was under way behind that line would be lost unseen. So nothing is written behind
it: what follows waits for the next request.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from channels_spec.pusher import MAX_CLIENT_MESSAGE, CloseCode
from server.session import Session
from server.transports.door import Entered
from server.transports.websocket import TOO_MANY, encode, split
from server.walls import Verdict, Visit

OPEN: Final = b"o\n"
HEARTBEAT: Final = b"h\n"
PRELUDE: Final = b"h" * 2048 + b"\n"
"""What some proxies and browsers want to see before they let a response through in pieces."""
HEARTBEAT_S: Final = 25.0
"""How long a response may be silent: a stock client gives up after 30 s without a byte."""
CLIENT_BUFFER: Final = 256 * 1024
"""Characters of one response that a stock client keeps."""
_HIGH_WATER: Final = 64 * 1024
"""Bytes that wait here before the client counts as behind."""
_CUT_S: Final = 5.0
"""How long a response that is over may take to be read."""
_MESSAGE_TOO_BIG: Final = 1009
"""WebSocket's own close code, as in `server.transports.websocket`."""
_REPLACED: Final = 2010
"""SockJS' code for a second receiver on one session."""
_SENDS_REMEMBERED: Final = 64


class Framing:
    """Makes a line of what a fan-out writes, once for all subscribers that it writes it to."""

    __slots__ = ("_given", "_line")

    def __init__(self) -> None:
        self._given, self._line = b"", b""

    def line(self, data: bytes) -> bytes:
        """Return WebSocket text frames as one array of SockJS."""
        if data is not self._given:
            texts = [frame.decode() for frame in split(data)]
            # All in ASCII: a byte is a character of the client's then, wherever it is cut.
            self._line = b"a%b\n" % json.dumps(texts, separators=(",", ":")).encode()
            self._given = data
        return self._line


def closing(code: int, reason: str) -> bytes:
    """Return the line that ends a session."""
    return b"c%b\n" % json.dumps([code, reason], separators=(",", ":")).encode()


class Receiver:
    """One response in which a session's frames go out."""

    __slots__ = ("_abort", "_cut", "_woken", "farewell", "over", "room", "was_cut")

    def __init__(self, abort: Callable[[], None], *, written: int = 0) -> None:
        """Create one that has ``written`` characters already; ``abort`` cuts its connection."""
        self._abort = abort
        self._cut: asyncio.TimerHandle | None = None
        self._woken = asyncio.Event()
        self.room = CLIENT_BUFFER - written
        """Characters that the client still keeps; below zero it drops the response."""
        self.over = False
        """Whether nothing more may be taken for it."""
        self.was_cut = False
        """Whether its client did not read it to the end."""
        self.farewell = b""
        """What is said last where another one has come in its place."""

    def wake(self) -> None:
        """Have it look again."""
        self._woken.set()

    def end(self) -> None:
        """Let it end; it is cut where its client does not read."""
        self.over = True
        self.wake()
        self.cut_later()

    def cut_later(self) -> None:
        """Cut the connection unless the response ends in time."""
        if self._cut is None:
            self._cut = asyncio.get_running_loop().call_later(_CUT_S, self._cut_off)

    def _cut_off(self) -> None:
        self.was_cut = True
        self._abort()

    def done(self) -> None:
        """Note that the response has ended."""
        self.over = True
        if self._cut is not None:
            self._cut.cancel()

    async def woken(self) -> bool:
        """Await that there is something to look at; False: only a sign of life is due."""
        # A response that is full stays silent: the client drops it without being asked.
        seconds = HEARTBEAT_S if self.room >= 0 else None
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Stream:
    """One session's wire and transport: bounded, for the outbox is paused when it fills."""

    __slots__ = (
        "_closed",
        "_framing",
        "_lines",
        "_paused",
        "_received",
        "_receiver",
        "_sends",
        "_session",
        "_size",
        "_visit",
    )

    def __init__(self, framing: Framing) -> None:
        """Create a wire; `enter` follows."""
        self._framing = framing
        self._lines = deque([OPEN])
        self._size = len(OPEN)
        self._paused = False
        self._closed = False
        self._receiver: Receiver | None = None
        self._received = ""
        """By what the request of the latest receiver was known."""
        self._sends: deque[str] = deque(maxlen=_SENDS_REMEMBERED)
        self._session: Session | None = None
        self._visit: Visit | None = None

    def enter(self, offered: Entered) -> None:
        """Take the session that was made for this wire, and greet the client."""
        self._session, self._visit = offered.session, offered.visit
        offered.open()

    @property
    def awaited(self) -> bool:
        """Whether a response is open."""
        return self._receiver is not None

    @property
    def finished(self) -> bool:
        """Whether the last line has been taken."""
        return self._closed and not self._lines

    # --- the session's transport -----------------------------------------------------------------

    @property
    def wire(self) -> Stream:
        """Itself: what is written here are whole frames, as a WebSocket has them."""
        return self

    def encode(self, frame: bytes) -> bytes:
        """Return one frame as it is written here."""
        return encode(frame)

    def write(self, data: bytes) -> None:
        """Keep frames for the client, who is behind where too many are kept."""
        self._say(self._framing.line(data))
        if self._size > _HIGH_WATER and not self._paused and self._session is not None:
            self._paused = True
            self._session.outbox.pause()

    def close(self, code: int, reason: str) -> None:
        """Say the last line; a client that does not take it is cut."""
        if self._closed:
            return
        self._closed = True
        self._say(closing(code, reason))
        if self._receiver is not None:
            self._receiver.cut_later()

    def _say(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._receiver is not None:
            self._receiver.wake()

    # --- responses -------------------------------------------------------------------------------

    def attach(self, receiver: Receiver, known_by: str) -> None:
        """Send what waits, and what comes, in this response instead of another.

        Args:
            receiver: the response.
            known_by: what no other request of the client has; empty where it says nothing.

        """
        if self._session is not None:
            self._session.heard()
            if known_by and known_by == self._received:
                # Browsers and proxies repeat a request whose answer went astray. What was in the
                # answer is unknown, so that the client must come again and be told what it missed.
                self._session.end(CloseCode.NO_PONG, "a request came twice: an answer was lost")
        self._received = known_by
        before, self._receiver = self._receiver, receiver
        if before is not None:
            before.farewell = closing(_REPLACED, "another receiver has come")
            before.end()
        if self._closed:
            receiver.cut_later()

    def detach(self, receiver: Receiver) -> None:
        """Note that a response has ended, however it did."""
        receiver.done()
        if self._receiver is receiver:
            self._receiver = None

    def take(self, receiver: Receiver) -> bytes:
        """Return what this response says next, up to where its client drops it."""
        taken = []
        while receiver.room >= 0 and (self._lines or self._resumed()):
            line = self._lines.popleft()
            receiver.room -= len(line)
            self._size -= len(line)
            taken.append(line)
        return b"".join(taken)

    def _resumed(self) -> bool:
        """Fetch what waits in the outbox since this was full; whether that is anything."""
        if not self._paused or self._session is None:
            return False
        self._paused = False
        self._session.outbox.resume()
        return bool(self._lines)

    # --- the client's messages -------------------------------------------------------------------

    def hear(self, messages: Sequence[str], known_by: str) -> None:
        """Obey what a request has brought; none is a sign of life."""
        if known_by and known_by in self._sends:
            return
        if known_by:
            self._sends.append(known_by)
        session, visit = self._session, self._visit
        if session is None or visit is None:
            return
        session.heard()
        if not messages and visit.message() is Verdict.END:
            self._flooded(session)
        for text in messages:
            if self._closed:
                return
            self._obey(session, visit, text.encode())

    def _obey(self, session: Session, visit: Visit, message: bytes) -> None:
        if len(message) > MAX_CLIENT_MESSAGE:
            self.overrun()
            return
        match visit.message(message):
            case Verdict.TAKE:
                session.receive(message)
            case Verdict.REFUSE:
                if not session.outbox.send(encode(TOO_MANY)):
                    session.fell_behind()
            case Verdict.END:
                self._flooded(session)
        if not visit.named and session.user_id is not None:
            reason = visit.name(session.user_id)
            if reason is not None:
                session.end(CloseCode.OVER_CAPACITY, reason)

    def _flooded(self, session: Session) -> None:
        session.end(CloseCode.OVER_CAPACITY, "too many messages, for too long")

    def overrun(self) -> None:
        """End a client that sends more than a message may have, without an error frame."""
        self.close(_MESSAGE_TOO_BIG, "message too big")
        self._leave(_MESSAGE_TOO_BIG)

    def lose(self) -> None:
        """Note that the client is gone."""
        self._closed = True
        self._leave(None)

    def _leave(self, code: int | None) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.lost(code)
        if self._visit is not None:
            self._visit.left()
