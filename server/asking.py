"""A subscription that may have a past: who asks for it, and who is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from auth.access import Grant
from server.broker.message import BusMessage
from server.channels import frame_for
from server.probing import Probed
from server.protocol.commands import Resume
from server.protocol.presence import Entered, Past


class Client(Probed, Protocol):
    """A session, as resumption sees it."""

    @property
    def app_id(self) -> str:
        """The app that it is connected to."""

    @property
    def socket_id(self) -> str:
        """Its socket id."""

    @property
    def identity(self) -> str | None:
        """Which device it is."""

    @property
    def proven_at(self) -> float | None:
        """When the last ping was sent that it has answered."""

    @property
    def channels(self) -> list[str]:
        """The channels that it has, or is about to have."""


class Told(Protocol):
    """Who waits for what it missed."""

    @property
    def grant(self) -> Grant:
        """What it may hear now."""

    def told(self, past: Past) -> None:
        """Learn what was missed; it hears what is live from then on."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A subscription that the broker has let in, and that may have a past."""

    client: Client
    channel: str
    entered: Entered
    after: Resume | None
    told: Told
    told_ms: int | None = None
    """From when on it has been told all already, where it asks a second time."""
    has_last: bool = False
    """Whether it has got the last event from before it entered: the cached one."""
    has_newer: bool = False
    """Whether it has got events since it entered: nothing older may follow them."""

    def awaits(self, message: BusMessage) -> bool:
        """Whether it may have missed a message: what came after it entered is held back.

        A channel that had carried nothing, or that Redis has lost since, had another epoch then.
        """
        entered = self.entered
        if message.epoch != entered.epoch:
            return message.time_ms < entered.time_ms
        return message.number < entered.number or (
            message.number == entered.number and not self.has_last
        )

    def missed(
        self, messages: Iterable[BusMessage], first: int, exclude: str | None
    ) -> tuple[bytes, ...]:
        """Return the frames of these messages that it may have missed, in order.

        ``first`` is the number from which on it wants them; ``exclude`` is the socket that the
        client had then.
        """
        grant = self.told.grant
        excluded = {exclude, self.client.socket_id}
        return tuple(
            frame
            for message in messages
            if message.number >= first
            and self.awaits(message)
            and message.exclude not in excluded
            and (frame := frame_for(message, grant)) is not None
        )
