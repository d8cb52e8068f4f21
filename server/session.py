"""One live client on any transport: runs the connection's core and carries out its effects."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

import structlog

from auth.apps import App
from auth.errors import AuthError
from auth.principal import Principal
from channels_spec.pusher import CloseCode
from server.hub import Hub
from server.outbox import Outbox, Writable
from server.protocol import frames
from server.protocol.connection import Connection, Way
from server.protocol.effects import (
    Close,
    Effect,
    Join,
    Leave,
    Regroup,
    Send,
    VerifyToken,
)
from server.protocol.rules import Rules
from server.wheel import Wheel

log = structlog.get_logger()


class Transport(Protocol):
    """A client's transport: how frames are written on its wire, and how it ends."""

    @property
    def wire(self) -> Writable:
        """Where encoded frames go, with nothing in between."""

    def encode(self, frame: bytes) -> bytes:
        """Return one frame as it goes over this wire."""

    def close(self, code: int, reason: str) -> None:
        """End the wire: what was written before still goes out, unless nobody reads it."""


class Verifier(Protocol):
    """Who knows the token keys."""

    def verify(self, token: str, now: float) -> Principal:
        """Return the token's principal; raises `AuthError`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session of a node shares."""

    hub: Hub
    wheel: Wheel
    verifier: Verifier
    rules: Rules
    clock: Callable[[], float] = time.time


class Session:
    """A connection's core, its outbox and its wire."""

    __slots__ = (
        "_around",
        "_closed",
        "_connection",
        "_fault",
        "_opened_at",
        "_received",
        "_transport",
        "due",
        "outbox",
    )

    def __init__(self, transport: Transport, app: App, around: Surroundings) -> None:
        """Create a session; `open` greets the client."""
        now = around.clock()
        # The two random numbers that real servers send; guessing one gives no right to anything.
        socket_id = f"{random.getrandbits(33)}.{random.getrandbits(33)}"
        spread = random.random()  # noqa: S311  jitter
        self._around = around
        self._connection = Connection(socket_id, app, around.rules, spread=spread, now=now)
        self._transport = transport
        self._opened_at = now
        self._received = 0
        self._closed = False
        self._fault: tuple[int, str] | None = None
        self.due = 0
        self.outbox = Outbox(transport.wire)

    @property
    def socket_id(self) -> str:
        """The client's socket id."""
        return self._connection.socket_id

    @property
    def principal(self) -> Principal | None:
        """Who speaks, where that is known."""
        return self._connection.principal

    def open(self, principal: Principal | None, way: Way) -> None:
        """Register the session and greet the client."""
        now = self._around.clock()
        self._around.hub.sessions[self.socket_id] = self
        self._apply(self._connection.open(principal, way, now))
        self._around.wheel.schedule(self, self._connection.deadline())
        log.info("connection.opened", socket_id=self.socket_id, app=self._connection.app.id)

    def heard(self) -> None:
        """Note a control frame from the client."""
        self._connection.heard(self._around.clock())

    def receive(self, text: bytes) -> None:
        """Take one text message from the client."""
        if self._closed:
            return
        self._received += 1
        try:
            self._apply(self._connection.receive(text, self._around.clock()))
        except Exception:
            log.exception("connection.failed", socket_id=self.socket_id)
            self.end(CloseCode.INTERNAL_ERROR, "the server failed on this message")
        # What it said may have brought a deadline nearer: its token's end, for one.
        self._around.wheel.schedule(self, self._connection.deadline())

    def joined(self, channel: str) -> None:
        """Learn from the hub that this node listens to the channel."""
        self._apply(self._connection.joined(channel))

    def tick(self, now: float) -> float | None:
        """Do what is due; the wheel calls it."""
        if self._closed:
            return None
        self._apply(self._connection.tick(now))
        return self._connection.deadline()

    def fell_behind(self) -> None:
        """End a slow consumer."""
        self.end(CloseCode.OVER_CAPACITY, "slow consumer: too much waits to be read")

    def end(self, code: CloseCode, reason: str) -> None:
        """Tell the client why, then close with the code; what still waits for it is dropped."""
        if self._closed:
            return
        self._fault = (code, reason)
        self._leave_all()
        self.outbox.close()
        self._transport.wire.write(self._transport.encode(frames.error(code, reason)))
        self._transport.close(code, reason)

    def lost(self, code: int | None) -> None:
        """Learn that the wire is gone; ``code`` is the client's close code, if it sent one."""
        self._leave_all()
        self.outbox.close()
        ended_by, why = self._fault or (code, "the client left")
        principal = self._connection.principal
        log.info(
            "connection.closed",
            socket_id=self.socket_id,
            app=self._connection.app.id,
            sub=principal.sub if principal is not None else None,
            seconds=round(self._around.clock() - self._opened_at, 1),
            received=self._received,
            code=ended_by,
            cause=why,
            by="server" if self._fault else "client",
        )

    def _leave_all(self) -> None:
        if self._closed:
            return
        self._closed = True
        # Leaving writes what a channel has gathered: the hub must still know whom to leave out.
        for channel in self._connection.channels:
            self._around.hub.leave((self._connection.app.id, channel), self)
        self._around.hub.sessions.pop(self.socket_id, None)

    # --- effects ---------------------------------------------------------------------------------

    def _apply(self, effects: list[Effect]) -> None:
        hub, app_id = self._around.hub, self._connection.app.id
        for effect in effects:
            if self._closed:
                return
            match effect:
                case Send(frame):
                    if not self.outbox.send(self._transport.encode(frame)):
                        self.fell_behind()
                case Join(channel, grant):
                    hub.join((app_id, channel), self, grant)
                case Regroup(channel, grant):
                    hub.regroup((app_id, channel), self, grant)
                case Leave(channel):
                    hub.leave((app_id, channel), self)
                case VerifyToken():
                    self._verify(effect)
                case Close(code, reason):
                    self.end(code, reason)
                case _:
                    assert_never(effect)

    def _verify(self, asked: VerifyToken) -> None:
        now = self._around.clock()
        try:
            principal = self._around.verifier.verify(asked.token, now)
        except AuthError as error:
            self._apply(self._connection.token_refused(error))
            return
        self._apply(self._connection.token_verified(asked, principal, now))
