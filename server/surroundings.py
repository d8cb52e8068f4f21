"""What stands around a session: its wire, and what all sessions of a node share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from auth.apps import App
from auth.errors import AuthError
from auth.principal import Principal
from server.authorizer import Answer
from server.hub import Hub
from server.outbox import Writable
from server.presence import Notify, Presence
from server.protocol.effects import Relay
from server.protocol.rules import Rules
from server.resuming import Resuming
from server.session_audit import SILENT, SessionAudit
from server.users import Users
from server.wheel import Wheel


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
        """Return the token's principal; raises `UnknownKey` where its key may be fetched."""

    def verify_later(self, token: str, answer: Callable[[Principal | AuthError], None]) -> None:
        """Fetch the keys, then answer on the event loop, once."""


class Relayer(Protocol):
    """The way of client events to every node."""

    def relay(self, app: App, sender: str, relay: Relay) -> None:
        """Send a client's event to the channel's other subscribers."""


class Authorizer(Protocol):
    """The way to the backend's own decision."""

    def ask(
        self, app: App, socket_id: str, channel: str, principal: Principal
    ) -> asyncio.Future[Answer]:
        """Ask whether somebody may enter a channel; no answer is a refusal."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session of a node shares."""

    hub: Hub
    presence: Presence
    resuming: Resuming
    users: Users
    relayer: Relayer
    notify: Notify
    wheel: Wheel
    verifier: Verifier
    rules: Rules
    authorizer: Authorizer | None = None
    """``None``: no family of the contract asks the backend."""
    clock: Callable[[], float] = time.time
    audit: SessionAudit = SILENT
