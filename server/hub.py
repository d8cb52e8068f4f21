"""The node's registry of sessions and subscribers, and the fan-out.

A channel's subscribers stand in groups by what they may hear (their `Grant`). What arrives within
one turn of the event loop is joined once per group and written once per subscriber: between publish
and socket nothing depends on the number of subscribers but the write itself. Before a subscriber
comes, goes or changes its group, what its channel has gathered is written, so that nobody gets what
was published before his time, or under another right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from auth.access import Grant
from server.broker.message import BusMessage
from server.outbox import Outbox, Waiting


class Subscriber(Protocol):
    """A live session, as the hub sees it."""

    @property
    def socket_id(self) -> str:
        """Its socket id."""

    @property
    def outbox(self) -> Outbox:
        """Where its frames go."""

    def joined(self, channel: str) -> None:
        """Learn that this node listens to the channel: events follow."""

    def fell_behind(self) -> None:
        """Learn that it is a slow consumer: end it."""


class Watcher(Protocol):
    """The part of the broker that the hub uses."""

    def watch(self, app_id: str, channel: str) -> bool:
        """Listen to a channel; True where that is in force already."""

    def unwatch(self, app_id: str, channel: str) -> None:
        """Stop listening to a channel."""


Key = tuple[str, str]
"""(app's id, channel)."""
Group = dict[Outbox, Subscriber]


class _Channel:
    """One channel that this node has subscribers for."""

    __slots__ = ("groups", "joining", "key", "pending")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.groups: dict[Grant, Group] = {}
        self.joining: dict[Subscriber, Grant] = {}
        self.pending: list[BusMessage] = []


class Hub:
    """The node's sessions by socket id, and its subscribers by channel."""

    def __init__(
        self,
        watcher: Watcher,
        *,
        join: Callable[[Sequence[bytes]], bytes],
        defer: Callable[[Callable[[], None]], object],
    ) -> None:
        """Create a hub.

        Args:
            watcher: the broker.
            join: makes the bytes on the wire from frames.
            defer: runs a callback at the end of this turn of the event loop (`loop.call_soon`).

        """
        self._watcher = watcher
        self._join = join
        self._defer = defer
        self._channels: dict[Key, _Channel] = {}
        self._dirty: list[_Channel] = []
        self.sessions: dict[str, Subscriber] = {}
        self.delivered = 0
        """Frames offered to subscribers, ever."""
        self.slow_consumers = 0

    # --- subscribers -----------------------------------------------------------------------------

    def join(self, key: Key, subscriber: Subscriber, grant: Grant) -> None:
        """Admit a subscriber as soon as this node listens; then its `joined` is called."""
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel(key)
        channel.joining[subscriber] = grant
        # Asked anew each time: after an outage a channel with subscribers is not listened to yet.
        if self._watcher.watch(*key):
            self._admit(channel)

    def watched(self, app_id: str, channel: str) -> None:
        """Learn from the broker that this node listens to a channel."""
        entry = self._channels.get((app_id, channel))
        if entry is not None:
            self._admit(entry)

    def leave(self, key: Key, subscriber: Subscriber) -> None:
        """Remove a subscriber, admitted or not yet."""
        channel = self._channels.get(key)
        if channel is None:
            return
        self._flush(channel)
        channel.joining.pop(subscriber, None)
        self._remove(channel, subscriber)
        # The flush may have ended slow consumers, this one among them: then it has left already.
        if not channel.groups and not channel.joining and self._channels.pop(key, None) is not None:
            self._watcher.unwatch(*key)

    def regroup(self, key: Key, subscriber: Subscriber, grant: Grant) -> None:
        """Give a subscriber another view; what was published before goes out under the old one."""
        channel = self._channels.get(key)
        if channel is None:
            return
        if subscriber in channel.joining:
            channel.joining[subscriber] = grant
            return
        self._flush(channel)
        if self._remove(channel, subscriber):
            channel.groups.setdefault(grant, {})[subscriber.outbox] = subscriber

    def subscribers(self, key: Key) -> list[Subscriber]:
        """Return the subscribers of a channel on this node."""
        channel = self._channels.get(key)
        if channel is None:
            return []
        return [subscriber for group in channel.groups.values() for subscriber in group.values()]

    @property
    def channel_count(self) -> int:
        """How many channels this node has subscribers for."""
        return len(self._channels)

    def _admit(self, channel: _Channel) -> None:
        self._flush(channel)
        joining, channel.joining = channel.joining, {}
        for subscriber, grant in joining.items():
            channel.groups.setdefault(grant, {})[subscriber.outbox] = subscriber
        for subscriber in joining:
            subscriber.joined(channel.key[1])

    def _remove(self, channel: _Channel, subscriber: Subscriber) -> bool:
        """Take an admitted subscriber out of its group; False where it is in none."""
        for grant, group in channel.groups.items():
            if group.pop(subscriber.outbox, None) is not None:
                if not group:
                    del channel.groups[grant]
                return True
        return False

    # --- the hot path ----------------------------------------------------------------------------

    def fan_out(self, app_id: str, channel: str, message: BusMessage) -> None:
        """Take one event for this node's subscribers; written at the end of the loop's turn."""
        entry = self._channels.get((app_id, channel))
        if entry is None:
            return
        if not entry.pending:
            if not self._dirty:
                self._defer(self._flush_all)
            self._dirty.append(entry)
        entry.pending.append(message)

    def _flush_all(self) -> None:
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            self._flush(channel)

    def _flush(self, channel: _Channel) -> None:
        messages = channel.pending
        if not messages:
            return
        channel.pending = []
        slow: list[Subscriber] = []
        for grant, group in channel.groups.items():
            seen = [
                (message, frame)
                for message in messages
                if (view := grant.view_for(message.hotel_slug)) is not None
                and (frame := message.frames.get(view)) is not None
                and (not grant.scope or grant.wants(message.filter_values))
            ]
            if not seen:
                continue
            special = self._excluded(group, seen)
            data = self._join([frame for _, frame in seen])
            self.delivered += len(seen) * len(group)
            if special:
                behind = self._write_each(group, data, special)
            else:
                behind = [outbox for outbox in group if outbox.offer(data) is not None]
            if behind:
                slow += self._keep(channel, group, seen, behind)
        for subscriber in slow:
            self.slow_consumers += 1
            subscriber.fell_behind()

    def _excluded(
        self, group: Group, seen: Sequence[tuple[BusMessage, bytes]]
    ) -> dict[Outbox, bytes]:
        """Return what the excluded sockets of the group get: the batch without their own."""
        special: dict[Outbox, bytes] = {}
        for socket_id in {message.exclude for message, _ in seen if message.exclude}:
            subscriber = self.sessions.get(socket_id)
            if subscriber is not None and subscriber.outbox in group:
                frames = [frame for message, frame in seen if message.exclude != socket_id]
                special[subscriber.outbox] = self._join(frames) if frames else b""
        return special

    def _write_each(self, group: Group, data: bytes, special: dict[Outbox, bytes]) -> list[Outbox]:
        """Offer each outbox its own bytes; return those that are behind."""
        return [
            outbox
            for outbox in group
            if (own := special.get(outbox, data)) and outbox.offer(own) is not None
        ]

    def _keep(
        self,
        channel: _Channel,
        group: Group,
        seen: Sequence[tuple[BusMessage, bytes]],
        behind: Sequence[Outbox],
    ) -> list[Subscriber]:
        """Have those that are behind keep the events one by one; return the slow consumers."""
        _, name = channel.key
        kept = [
            (message.exclude, Waiting(self._join([frame]), _conflation_key(name, message)))
            for message, frame in seen
        ]
        return [
            group[outbox]
            for outbox in behind
            if not outbox.keep(
                [waiting for exclude, waiting in kept if exclude != group[outbox].socket_id]
            )
        ]


def _conflation_key(channel: str, message: BusMessage) -> str:
    """Return what makes a later event take an earlier one's place; empty: nothing does."""
    return f"{channel} {message.conflation_key}" if message.conflation_key else ""
