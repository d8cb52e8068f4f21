"""What the server asks of its broker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from server.broker.message import Announcement, BusMessage, Publication


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the broker did with a publication."""

    event_id: str
    sequence: int
    epoch: str
    duplicate: bool
    """The event id was on this channel within the dedupe window: nothing was published again."""
    state_before: str = ""
    """Of the publication's move: the state before, or empty."""


class Receiver(Protocol):
    """Where the broker brings what it hears; the hub. All are called on the event loop."""

    def fan_out(self, app_id: str, channel: str, message: BusMessage) -> None:
        """Take one event of a channel that was watched; must not wait."""

    def watched(self, app_id: str, channel: str) -> None:
        """Learn that from now on every event of the channel comes in."""

    def heard(self, until: float) -> None:
        """Learn that all that was published before then (s) has come in."""

    def lost(self, since_ms: int) -> None:
        """Learn that since then (ms) nothing has come in, until a channel is `watched` again."""


class Broker(Protocol):
    """Publishing to all nodes, and listening for them."""

    @property
    def ready(self) -> bool:
        """Whether the broker answers and is listened to."""

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        """Dedupe, number, store and publish at once; may raise `BrokerUnavailable`."""

    def announce(self, app_id: str, channel: str, announcement: Announcement) -> None:
        """Tell every subscriber of a channel something that is no event, if Redis answers."""

    def watch(self, app_id: str, channel: str) -> bool:
        """Listen to a channel; True where that is in force, else `Receiver.watched` follows."""

    def unwatch(self, app_id: str, channel: str) -> None:
        """Stop listening to a channel."""
