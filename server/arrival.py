"""A subscription on its way in: let in by the broker, then told what it missed.

Who the client is may be known only later: then it is told later, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from auth.access import Grant
from server.asking import Asking, Client
from server.channels import Subscriber
from server.hub import Hub
from server.protocol.effects import Enter, Recall
from server.protocol.presence import Entered, Past
from server.protocol.subscription import Subscription
from server.resuming import Resuming


class Admitting(Client, Subscriber, Protocol):
    """A session, as an arrival sees it."""

    def entered(
        self, channel: str, subscription: Subscription, entered: Entered, past: Past
    ) -> None:
        """Learn that the broker has let a subscription in, and what it had missed."""

    def not_entered(self, channel: str, subscription: Subscription, reason: str) -> None:
        """Learn that the broker has refused a subscription."""

    def recalled(self, channel: str, subscription: Subscription, past: Past) -> None:
        """Learn what a subscription had missed that was let in before."""

    def recall(self, channel: str) -> None:
        """Have it found out what the channel's subscription had missed."""


class Arrival:
    """A subscription of a session that the broker is asked to let in."""

    __slots__ = (
        "_after",
        "_channel",
        "_entered",
        "_identity",
        "_resuming",
        "_session",
        "_subscription",
    )

    def __init__(self, session: Admitting, asked: Enter, resuming: Resuming) -> None:
        self._session = session
        self._channel = asked.channel
        self._subscription = asked.subscription
        self._after = asked.after
        self._resuming = resuming
        self._entered = Entered()
        self._identity: str | None = None

    @property
    def grant(self) -> Grant:
        """What the subscriber may hear now."""
        return self._subscription.grant

    def entered(self, entered: Entered) -> None:
        """Learn that the broker has let it in; it may have missed something before."""
        self._entered, self._identity = entered, self._session.identity
        if self._subscription.is_in:
            # It asks again who is there, and has missed nothing.
            self._session.entered(self._channel, self._subscription, entered, Past())
            return
        asking = Asking(self._session, self._channel, entered, self._after, self)
        self._resuming.enter(asking)

    def told(self, past: Past) -> None:
        """Learn what it has missed."""
        self._session.entered(self._channel, self._subscription, self._entered, past)
        if self._session.identity != self._identity:
            self._session.recall(self._channel)

    def refused(self, reason: str) -> None:
        """Learn that it has not."""
        self._session.not_entered(self._channel, self._subscription, reason)


class _Late:
    """A subscription that has been let in, of a client that is known only now."""

    __slots__ = ("_channel", "_identity", "_session", "_subscription")

    def __init__(
        self, session: Admitting, channel: str, subscription: Subscription, identity: str
    ) -> None:
        self._session = session
        self._channel = channel
        self._subscription = subscription
        self._identity = identity

    @property
    def grant(self) -> Grant:
        """What the subscriber may hear now."""
        return self._subscription.grant

    def told(self, past: Past) -> None:
        """Learn what it has missed."""
        self._session.recalled(self._channel, self._subscription, past)
        if self._session.identity != self._identity:
            self._session.recall(self._channel)


def recall(session: Admitting, asked: Recall, hub: Hub, resuming: Resuming) -> None:
    """Have it found out what a session missed of what it has; its events are held back."""
    resuming.recall(list(_askings(session, asked, hub)), asked.identity)


def _askings(session: Admitting, asked: Recall, hub: Hub) -> Iterable[Asking]:
    for channel, subscription in asked.channels:
        entered = subscription.entered
        has_newer = hub.hold((session.app_id, channel), session, entered)
        yield Asking(
            session,
            channel,
            entered,
            None,
            _Late(session, channel, subscription, asked.identity),
            told_ms=subscription.told_ms,
            has_last=subscription.got_cached,
            has_newer=has_newer or subscription.got_cached or subscription.told_ms is not None,
        )
