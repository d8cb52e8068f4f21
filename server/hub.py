"""The node's registry of sessions and subscribers, and the fan-out.

A channel's subscribers stand in groups by what they may hear (their `Grant`). What arrives within
one turn of the event loop is joined once per group and written once per subscriber: between publish
and socket nothing depends on the number of subscribers but the write itself. Before a subscriber
comes, goes or changes its group, what its channel has gathered is written, so that nobody gets what
was published before his time, or under another right.

A subscriber comes in two steps: from `joined` on its events are held back, until `admit` says from
which number on it gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from auth.access import Grant
from channels_spec.pusher import SERVER_TO_USER_PREFIX, ChannelKind, kind_of
from server.broker.message import BusMessage, Kind
from server.channels import (
    MAX_BACKLOG,
    Channel,
    Group,
    Held,
    Key,
    Onlooker,
    Subscriber,
    Watcher,
    frame_for,
    gap_message,
    tell_onlookers,
)
from server.history import Carried, Known
from server.outbox import Outbox, Waiting, offer_all
from server.protocol.presence import Entered, GapReason


def _unrepaired(key: Key, known: Known) -> None:
    """Leave a channel as it is."""


class Hub:
    """The node's sessions by socket id, and its subscribers by channel."""

    def __init__(
        self,
        watcher: Watcher,
        *,
        join: Callable[[Sequence[bytes]], bytes],
        defer: Callable[[Callable[[], None]], object],
        stir: Callable[[], None] = lambda: None,
        repair: Callable[[Key, Known], None] = _unrepaired,
    ) -> None:
        """Create a hub.

        Args:
            watcher: the broker.
            join: makes the bytes on the wire from frames.
            defer: runs a callback at the end of this turn of the event loop (`loop.call_soon`).
            stir: called when a session has come or gone.
            repair: reads what a channel carried beyond what is known of it; `repaired` follows.

        """
        self._watcher = watcher
        self._join = join
        self._defer = defer
        self._stir = stir
        self._repair = repair
        self._channels: dict[Key, Channel] = {}
        self._dirty: list[Channel] = []
        self.sessions: dict[str, Subscriber] = {}
        self._by_app: dict[str, set[Subscriber]] = {}
        self.delivered = 0
        """Frames offered to subscribers, ever."""
        self.slow_consumers = 0
        self.heard_until: float | None = None
        """Until when (s) all that was published has been offered; ``None``: now."""
        self._deaf = False
        """Whether some channel may still be repairing."""

    # --- sessions --------------------------------------------------------------------------------

    def opened(self, session: Subscriber) -> None:
        """Learn of a live session."""
        self.sessions[session.socket_id] = session
        self._by_app.setdefault(session.app_id, set()).add(session)
        self._stir()

    def closed(self, session: Subscriber) -> None:
        """Learn that a session has ended."""
        if self.sessions.pop(session.socket_id, None) is not None:
            self._by_app[session.app_id].discard(session)
            self._stir()

    def connections(self) -> dict[str, int]:
        """Count the live sessions by app."""
        return {app_id: len(sessions) for app_id, sessions in self._by_app.items()}

    # --- subscribers -----------------------------------------------------------------------------

    def join(self, key: Key, subscriber: Subscriber, grant: Grant) -> None:
        """Hold events back for a subscriber as soon as this node listens; `joined` is called."""
        channel = self._channel(key)
        channel.joining[subscriber] = grant
        # Asked anew each time: after an outage a channel with subscribers is not listened to yet.
        if self._watcher.watch(*key):
            self._listens(channel)

    def watched(self, app_id: str, channel: str) -> None:
        """Learn from the broker that this node listens to a channel."""
        entry = self._channels.get((app_id, channel))
        if entry is not None:
            self._listens(entry)

    def admit(self, key: Key, subscriber: Subscriber, entered: Entered) -> None:
        """Let a subscriber hear: first what was held back and came after ``entered``.

        On a presence channel the bus must have come as far as the broker's answer, or changes of
        the roster that are in ``entered`` would be told again.
        """
        channel = self._channels.get(key)
        if channel is None:
            return
        self._flush(channel)
        held = channel.held.get(subscriber)
        if held is None:  # it has left, or the flush found that too much was held back
            return
        held.entered = entered
        if channel.repairing:
            # Then: what was missed goes to everybody, and it has got some of that already.
            return
        if held.fenced or kind_of(key[1]) is not ChannelKind.PRESENCE:
            self._let_in(channel, subscriber, held, entered)

    def hold(self, key: Key, subscriber: Subscriber, entered: Entered) -> bool:
        """Hold events back once more for somebody who was admitted, until it is `admit`ted again.

        Returns whether it may have got an event since it entered.
        """
        channel = self._channels.get(key)
        if channel is None:
            return False
        self._flush(channel)
        return channel.hold(subscriber, entered)

    def _let_in(
        self, channel: Channel, subscriber: Subscriber, held: Held, entered: Entered
    ) -> None:
        del channel.held[subscriber]
        frames = held.frames(channel.backlog, entered, subscriber.socket_id)
        channel.entered(entered)
        if not channel.held:
            channel.backlog = []
        _, grant = held.grants[-1]
        channel.groups.setdefault(grant, {})[subscriber.outbox] = subscriber
        self.delivered += len(frames)
        if frames and not subscriber.outbox.send(self._join(frames)):
            self.slow_consumers += 1
            subscriber.fell_behind()

    def _fence(self, channel: Channel, socket_id: str) -> None:
        """Note that the bus has come to where the broker let a socket in."""
        subscriber = self.sessions.get(socket_id)
        held = channel.held.get(subscriber) if subscriber is not None else None
        if subscriber is None or held is None:
            return
        held.fenced = True
        if held.entered is not None:
            self._let_in(channel, subscriber, held, held.entered)

    def leave(self, key: Key, subscriber: Subscriber) -> None:
        """Remove a subscriber, however far it has come."""
        channel = self._channels.get(key)
        if channel is None:
            return
        self._flush(channel)
        channel.joining.pop(subscriber, None)
        if channel.held.pop(subscriber, None) is not None and not channel.held:
            channel.backlog = []
        channel.remove(subscriber)
        self._let_go(channel)

    def regroup(self, key: Key, subscriber: Subscriber, grant: Grant) -> None:
        """Give a subscriber another view; what was published before goes out under the old one."""
        channel = self._channels.get(key)
        if channel is None:
            return
        if subscriber in channel.joining:
            channel.joining[subscriber] = grant
            return
        self._flush(channel)
        held = channel.held.get(subscriber)
        if held is not None:
            held.grants.append((len(channel.backlog), grant))
        elif channel.remove(subscriber) is not None:
            channel.groups.setdefault(grant, {})[subscriber.outbox] = subscriber

    def watch_user(self, app_id: str, user_id: str, onlooker: Onlooker) -> None:
        """Tell an onlooker of a user from now on; its `listens` is called when that is in force."""
        key = (app_id, SERVER_TO_USER_PREFIX + user_id)
        self._channel(key).onlookers[onlooker] = None
        if self._watcher.watch(*key):
            onlooker.listens(user_id)

    def unwatch_user(self, app_id: str, user_id: str, onlooker: Onlooker) -> None:
        """Stop telling an onlooker of a user."""
        channel = self._channels.get((app_id, SERVER_TO_USER_PREFIX + user_id))
        if channel is not None:
            channel.onlookers.pop(onlooker, None)
            self._let_go(channel)

    def subscribers(self, key: Key) -> list[Subscriber]:
        """Return the subscribers of a channel on this node."""
        channel = self._channels.get(key)
        if channel is None:
            return []
        return [subscriber for group in channel.groups.values() for subscriber in group.values()]

    def needs(self, key: Key) -> bool:
        """Whether anybody here has to do with a channel."""
        return key in self._channels

    @property
    def channel_count(self) -> int:
        """How many channels this node has subscribers for."""
        return len(self._channels)

    def _channel(self, key: Key) -> Channel:
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = Channel(key)
        return channel

    def _let_go(self, channel: Channel) -> None:
        # A flush may have ended slow consumers, the last one among them: then it is gone already.
        if channel.unused and self._channels.pop(channel.key, None) is not None:
            self._watcher.unwatch(*channel.key)

    def heard(self, until: float) -> None:
        """Learn from the broker that all that was published before then (s) has come in."""
        if self._deaf:
            self._deaf = any(channel.repairing for channel in self._channels.values())
        if not self._deaf:
            self.heard_until = until

    def lost(self, since_ms: int) -> None:
        """Learn from the broker that since then (ms) events have been missed."""
        self._deaf = True
        for channel in self._channels.values():
            self._flush(channel)
            channel.repair = None
            if not channel.repairing:
                channel.repairing = bool(channel.groups or channel.held)
                channel.heard_ms = max(channel.heard_ms, since_ms)

    def repaired(self, key: Key, known: Known, carried: Carried, gap: GapReason | None) -> None:
        """Take what a channel carried while this node was cut off, then what is live."""
        channel = self._channels.get(key)
        if channel is None or channel.repair is not known:
            return
        _, name = key
        notice = [gap_message(name, gap, channel.heard_ms)] if gap is not None else []
        channel.pending = [*notice, *channel.missed(carried.messages)]
        channel.repair, channel.repairing = None, False
        self._flush(channel)
        for subscriber, held in list(channel.held.items()):
            if held.entered is not None:
                # Its fence was missed with the rest.
                self._let_in(channel, subscriber, held, held.entered)
        if kind_of(name) is ChannelKind.PRESENCE:
            waiting = [each for each, held in channel.held.items() if held.fenced]
            for subscriber in self.subscribers(key) + waiting:
                subscriber.refresh(name)

    def _listens(self, channel: Channel) -> None:
        if channel.repairing and channel.repair is None:
            channel.repair = known = Known(channel.heard_ms, channel.number, channel.epoch)
            self._repair(channel.key, known)
        self._flush(channel)
        joining, channel.joining = channel.joining, {}
        for subscriber, grant in joining.items():
            channel.held[subscriber] = Held(grant, len(channel.backlog))
        for subscriber in joining:
            subscriber.joined(channel.key[1])
        for onlooker in list(channel.onlookers):
            onlooker.listens(channel.key[1].removeprefix(SERVER_TO_USER_PREFIX))

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
        if entry.repairing and len(entry.pending) > MAX_BACKLOG:
            # What is dropped here is in the channel's history, or will be told as a gap.
            entry.pending = entry.pending[MAX_BACKLOG // 2 :]

    def _flush_all(self) -> None:
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            self._flush(channel)

    def _flush(self, channel: Channel) -> None:
        messages = channel.pending
        if not messages or channel.repairing:
            return
        channel.pending = []
        for message in reversed(messages):
            if message.kind <= Kind.NUMBERED_EVENT:
                channel.heard(message.number, message.epoch, message.time_ms)
                break
        slow = self._hold_back(channel, messages) if channel.held else []
        if channel.onlookers:
            tell_onlookers(channel, messages)
        for grant, group in channel.groups.items():
            seen = [
                (message, frame)
                for message in messages
                if (frame := frame_for(message, grant)) is not None
            ]
            if not seen:
                continue
            special = self._excluded(group, seen)
            data = self._join([frame for _, frame in seen])
            self.delivered += len(seen) * len(group)
            behind = self._write_each(group, data, special) if special else offer_all(group, data)
            if behind:
                slow += self._keep(channel, group, seen, behind)
        for subscriber in slow:
            self.slow_consumers += 1
            subscriber.fell_behind()
        if channel.held:
            for message in messages:
                if message.kind is Kind.FENCE:
                    self._fence(channel, message.exclude)

    def _hold_back(self, channel: Channel, messages: Sequence[BusMessage]) -> list[Subscriber]:
        """Keep messages for who is being let in; return those for whom it became too much."""
        channel.backlog += messages
        if len(channel.backlog) <= MAX_BACKLOG:
            return []
        slow, channel.held, channel.backlog = list(channel.held), {}, []
        return slow

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
            if (own := special.get(outbox, data)) and not outbox.take(own)
        ]

    def _keep(
        self,
        channel: Channel,
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
