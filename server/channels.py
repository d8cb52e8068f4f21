"""One channel on this node: its subscribers by what they may hear, and what is held for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from auth.access import Grant
from channels_spec.pusher import SERVER_TO_USER_PREFIX, CloseCode
from server.broker.message import EVERYONE, BusMessage, Kind
from server.outbox import Outbox
from server.protocol import frames
from server.protocol.presence import Entered, GapReason


class Subscriber(Protocol):
    """A live session, as the hub sees it."""

    @property
    def socket_id(self) -> str:
        """Its socket id."""

    @property
    def app_id(self) -> str:
        """The app that it is connected to."""

    def is_of(self, user_id: str) -> bool:
        """Whether it is this user's, by signin or by its token."""

    @property
    def identity(self) -> str | None:
        """Which device it is, if that is known."""

    @property
    def proven_at(self) -> float | None:
        """When the last ping was sent that the client has answered."""

    @property
    def channels(self) -> list[str]:
        """The channels that it has, or is about to have."""

    def probe(self) -> None:
        """Have the client answer a ping."""

    @property
    def outbox(self) -> Outbox:
        """Where its frames go."""

    def joined(self, channel: str) -> None:
        """Learn that this node listens to the channel: from now on events are held back for it."""

    def fell_behind(self) -> None:
        """Learn that it is a slow consumer: end it."""

    def end(self, code: CloseCode, reason: str) -> None:
        """End it, telling the client why."""

    def refresh(self, channel: str) -> None:
        """Learn that members of the channel may have come and gone unheard."""

    def revoked(self) -> None:
        """Learn that what is revoked has changed."""


class Onlooker(Protocol):
    """Somebody who watches users come and go."""

    def listens(self, user_id: str) -> None:
        """Learn that this node hears of the user from now on."""

    def status_changed(self, user_id: str) -> None:
        """Learn that the user came online or went offline."""


class Watcher(Protocol):
    """The part of the broker that the hub uses."""

    def watch(self, app_id: str, channel: str) -> bool:
        """Listen to a channel; True where that is in force already."""

    def unwatch(self, app_id: str, channel: str) -> None:
        """Stop listening to a channel."""


Key = tuple[str, str]
"""(app's id, channel)."""
Group = dict[Outbox, Subscriber]
MAX_BACKLOG: Final = 10_000
"""Messages of one channel that may be held back while the broker lets subscribers in."""


class Held:
    """A subscriber for whom events are held back."""

    __slots__ = ("entered", "fenced", "grants")

    def __init__(self, grant: Grant, since: int) -> None:
        self.entered: Entered | None = None
        """What it knows of the channel, once the broker has let it in."""
        self.fenced = False
        """Whether the bus has come to where the broker let it in."""
        self.grants = [(since, grant)]
        """What it may hear of the channel's backlog, from where on."""

    def frames(
        self, backlog: Sequence[BusMessage], entered: Entered, socket_id: str
    ) -> list[bytes]:
        """Return what of the backlog is for the subscriber, and news to it."""
        ends = [since for since, _ in self.grants[1:]] + [len(backlog)]
        return [
            frame
            for (since, grant), end in zip(self.grants, ends, strict=True)
            for message in backlog[since:end]
            if _follows(message, entered)
            and message.exclude != socket_id
            and (frame := frame_for(message, grant)) is not None
        ]


class Channel:
    """One channel that this node has subscribers for."""

    __slots__ = (
        "backlog",
        "epoch",
        "groups",
        "heard_ms",
        "held",
        "joining",
        "key",
        "number",
        "onlookers",
        "pending",
        "repair",
        "repairing",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.groups: dict[Grant, Group] = {}
        self.joining: dict[Subscriber, Grant] = {}
        self.held: dict[Subscriber, Held] = {}
        self.backlog: list[BusMessage] = []
        self.pending: list[BusMessage] = []
        self.onlookers: dict[Onlooker, None] = {}
        self.number = 0
        """The last event's that came in; with it its epoch and its time."""
        self.epoch = ""
        self.heard_ms = 0
        self.repairing = False
        """Whether events may have been missed: nothing goes out until they are here."""
        self.repair: object | None = None
        """What was asked for them; an answer to anything else is from before they were missed."""

    def heard(self, number: int, epoch: str, time_ms: int) -> None:
        """Note up to where the channel is known here."""
        if epoch != self.epoch or number >= self.number:
            self.number, self.epoch = number, epoch
        self.heard_ms = max(self.heard_ms, time_ms)

    def entered(self, entered: Entered) -> None:
        """Note up to where the broker knew the channel when it let somebody in."""
        is_newer = bool(entered.epoch) and entered.time_ms >= self.heard_ms
        if entered.epoch == self.epoch or is_newer:
            # Else the channel was numbered anew since: that has come in, and was held back.
            self.heard(entered.number, entered.epoch, entered.time_ms)

    def hold(self, subscriber: Subscriber, entered: Entered) -> bool:
        """Hold events back for somebody who has been let in; True where it may have got some."""
        held = self.held.get(subscriber)
        if held is not None:
            # It waits for its fence, or for a repair: nothing has reached it yet.
            held.entered = None
            return False
        grant = self.remove(subscriber)
        if grant is None:
            return False
        self.held[subscriber] = held = Held(grant, len(self.backlog))
        held.fenced = True
        return (self.epoch, self.number) != (entered.epoch, entered.number)

    def remove(self, subscriber: Subscriber) -> Grant | None:
        """Take an admitted subscriber out of its group; ``None`` where it is in none."""
        for grant, group in self.groups.items():
            if group.pop(subscriber.outbox, None) is not None:
                if not group:
                    del self.groups[grant]
                return grant
        return None

    def missed(self, carried: Sequence[BusMessage]) -> list[BusMessage]:
        """Return what was missed of what the channel carried, then what came in since."""
        missed = [
            message
            for message in carried
            if message.epoch != self.epoch or message.number > self.number
        ]
        seen = {(message.epoch, message.number) for message in missed}
        live = [
            message
            for message in self.pending
            if message.kind > Kind.NUMBERED_EVENT or (message.epoch, message.number) not in seen
        ]
        return missed + live

    @property
    def unused(self) -> bool:
        """Whether nobody here needs it any more."""
        return not (self.groups or self.joining or self.held or self.onlookers)


def frame_for(message: BusMessage, grant: Grant) -> bytes | None:
    """Return what a subscriber with this grant gets of a message, if anything."""
    if message.kind > Kind.NUMBERED_EVENT:
        return message.frames.get(EVERYONE) if message.kind < Kind.USER_STATUS else None
    view = grant.view_for(message.hotel_slug)
    if view is None or (grant.scope and not grant.wants(message.filter_values)):
        return None
    return message.frames.get(view)


def _follows(message: BusMessage, entered: Entered) -> bool:
    """Whether a message is news for who knows the channel as it was on entering."""
    if message.kind is Kind.ROSTER:
        return message.number > entered.version
    return (
        message.kind > Kind.NUMBERED_EVENT
        or message.epoch != entered.epoch
        or message.number > entered.number
    )


def gap_message(channel: str, reason: GapReason, since_ms: int) -> BusMessage:
    """Return a message that tells every subscriber of a gap."""
    return BusMessage(
        kind=Kind.COUNT,
        number=0,
        time_ms=since_ms,
        epoch="",
        event_id="",
        hotel_slug="",
        exclude="",
        conflation_key="",
        filter_values=(),
        frames={EVERYONE: frames.gap(channel, reason, since_ms)},
    )


def tell_onlookers(channel: Channel, messages: Sequence[BusMessage]) -> None:
    """Tell who watches a user where the messages say that it came or went."""
    user_id = channel.key[1].removeprefix(SERVER_TO_USER_PREFIX)
    if any(message.kind is Kind.USER_STATUS for message in messages):
        for onlooker in list(channel.onlookers):
            onlooker.status_changed(user_id)
