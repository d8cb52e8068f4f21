"""A subscription on its way in: let in by the broker, then told what it missed."""

from __future__ import annotations

from typing import Protocol

from auth.access import Grant
from server.protocol.effects import Enter
from server.protocol.presence import Entered, Past
from server.protocol.subscription import Subscription
from server.resuming import Asking, Client, Resuming


class Admitting(Client, Protocol):
    """A session, as an arrival sees it."""

    def entered(
        self, channel: str, subscription: Subscription, entered: Entered, past: Past
    ) -> None:
        """Learn that the broker has let a subscription in, and what it had missed."""

    def not_entered(self, channel: str, subscription: Subscription, reason: str) -> None:
        """Learn that the broker has refused a subscription."""


class Arrival:
    """A subscription of a session that the broker is asked to let in."""

    __slots__ = ("_after", "_channel", "_entered", "_resuming", "_session", "_subscription")

    def __init__(self, session: Admitting, asked: Enter, resuming: Resuming) -> None:
        self._session = session
        self._channel = asked.channel
        self._subscription = asked.subscription
        self._after = asked.after
        self._resuming = resuming
        self._entered = Entered()

    @property
    def grant(self) -> Grant:
        """What the subscriber may hear now."""
        return self._subscription.grant

    def entered(self, entered: Entered) -> None:
        """Learn that the broker has let it in; it may have missed something before."""
        self._entered = entered
        asking = Asking(self._session, self._channel, entered, self._after, self)
        self._resuming.enter(asking)

    def told(self, past: Past) -> None:
        """Learn what it has missed."""
        self._session.entered(self._channel, self._subscription, self._entered, past)

    def refused(self, reason: str) -> None:
        """Learn that it has not."""
        self._session.not_entered(self._channel, self._subscription, reason)
