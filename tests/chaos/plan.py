"""Who takes part in a chaos run: channels, clients, and how long everything takes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from tests.harness import token


class Feed(Enum):
    """What a channel carries."""

    ROOMS = "rooms"
    BOOKINGS = "room-bookings"
    STAFF = "staff-hotel"
    GUEST = "guest-booking"
    CHAT = "staff-chat-conversation"
    PLAIN = "outside the contract"


@dataclass(frozen=True)
class Channel:
    """A channel that is published to."""

    name: str
    feed: Feed
    hotel: str = ""
    of: str = ""
    """The booking or the conversation."""


class Identity(Enum):
    """By what a client is known when it comes back, and how it brings its token."""

    INSTANCE = "instance, token in the path"
    TOKEN = "jti, token in the path"
    SIGNIN = "jti, token by signin"
    DEVICE = "sid, token in the path"


class Part(Enum):
    """What a client does in the run."""

    STAYS = "is to miss nothing"
    AWAY = "is away for longer than the window"
    LEAVES = "goes for good"


@dataclass(frozen=True)
class Person:
    """One pusher-js."""

    who: int
    identity: Identity
    part: Part
    channels: tuple[str, ...]
    rosters: tuple[str, ...]
    """Presence channels."""
    claims: dict[str, Any]
    patient: bool
    """Whether it has the pong timeout of pusher-js, half a minute."""
    sub: str = ""
    instance: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def token(self) -> str:
        """What it presents, on every connection the same."""
        return token(self.sub, **self.claims)

    @property
    def path(self) -> str:
        """Its `wsPath`."""
        instance = f"/s/{self.instance}" if self.identity is Identity.INSTANCE else ""
        carried = "" if self.identity is Identity.SIGNIN else f"/t/{self.token}"
        return instance + carried


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    clients: int
    hosts: int
    """Processes that the clients run in."""
    pyshers: int
    hotels: int
    plain: int
    """Channels outside the contract."""
    lobbies: int
    """Presence channels outside the contract."""
    per_s: float
    seconds: float
    """How long is published; clients and nodes suffer meanwhile."""
    window_s: int
    away_s: float
    cuts_s: tuple[float, float]
    """For how long links are cut, at least and at most."""
    cut_every_s: float
    strike_every_s: float
    """Seconds between two blows at nodes and Redis."""
    activity_s: int
    drain_s: float
    patient: bool
    """Whether every other client has the pong timeout of pusher-js."""
    deliveries: int
    """To be due at least."""


NODES: Final = 3
PING_S: Final = 1
_GUESTS_EVERY: Final = 7
_LEAVES_EVERY, _AWAY_EVERY = 17, 13


class Plan:
    """The channels and clients of a run."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.hotels = [f"hotel-{uuid.uuid4().hex[:6]}" for _ in range(size.hotels)]
        self.lobbies = [f"presence-lobby-{number}" for number in range(size.lobbies)]
        self.channels = {channel.name: channel for channel in self._channels()}
        self.people = [self._person(who) for who in range(size.clients)]
        heard = {name for person in self.people for name in person.channels}
        self.channels = {name: each for name, each in self.channels.items() if name in heard}

    def _channels(self) -> Iterator[Channel]:
        for number, hotel in enumerate(self.hotels):
            yield Channel(f"{hotel}.rooms", Feed.ROOMS, hotel)
            yield Channel(f"{hotel}.room-bookings", Feed.BOOKINGS, hotel)
            yield Channel(f"staff-hotel-{number + 1}", Feed.STAFF, hotel)
            chat = f"staff-chat-conversation-{number + 1}"
            yield Channel(chat, Feed.CHAT, hotel, str(number + 1))
        for number in range(0, self.size.clients, _GUESTS_EVERY):
            booking = f"B-{number}"
            hotel = self.hotels[number % len(self.hotels)]
            # Some speak of the feed by its older name.
            name = f"private-guest-booking.{booking}" if number % 2 else f"guest-booking-{booking}"
            yield Channel(name, Feed.GUEST, hotel, booking)
        for number in range(self.size.plain):
            yield Channel(f"news-{number}", Feed.PLAIN)

    def _person(self, who: int) -> Person:
        identity = list(Identity)[(0, 0, 1, 0, 2, 3, 0, 1)[who % 8]]
        part = Part.STAYS
        if who % _AWAY_EVERY == _AWAY_EVERY // 2:
            part = Part.AWAY
        elif who % _LEAVES_EVERY == _LEAVES_EVERY // 2:
            part = Part.LEAVES
        guest = who % _GUESTS_EVERY == 0
        channels = list(self._guests(who) if guest else self._staffs(who))
        if who % 2:
            channels.append(f"news-{who // 2 % self.size.plain}")
        rosters = [self.lobbies[who // 2 % len(self.lobbies)]]
        hotel = self._hotel(who)
        if not guest and who % 3 == 0:
            rosters.append(f"presence-{self.hotels[hotel]}.desk")
        claims: dict[str, Any] = {
            "hotels": [{"slug": self.hotels[hotel], "id": hotel + 1}],
            "exp": int(time.time()) + 3600,
        }
        if identity in {Identity.TOKEN, Identity.SIGNIN}:
            claims["jti"] = uuid.uuid4().hex
        if identity is Identity.DEVICE:
            claims["sid"] = uuid.uuid4().hex
        # Every tenth is a second tab of the one before it.
        sub = f"user-{who - (who % 10 == 9)}"
        if guest:
            booking = f"B-{who}"
            claims |= {"kind": "guest", "booking_id": booking, "scope": ["STATUS_READ", "CHAT"]}
            claims["hotels"] = [self.hotels[hotel]]
            sub = f"guest-{who}"
        elif who % 5 == 0:
            claims["conversations"] = [str(hotel + 1)]
            channels.append(f"staff-chat-conversation-{hotel + 1}")
        patient = self.size.patient and who % 2 == 0
        return Person(
            who, identity, part, tuple(channels), tuple(rosters), claims, patient, sub=sub
        )

    def _hotel(self, who: int) -> int:
        return who % len(self.hotels)

    def _guests(self, who: int) -> Iterator[str]:
        yield f"private-guest-booking.B-{who}" if who % 2 else f"guest-booking-B-{who}"

    def _staffs(self, who: int) -> Iterator[str]:
        hotel = self._hotel(who)
        yield f"{self.hotels[hotel]}.rooms"
        yield f"{self.hotels[hotel]}.room-bookings"
        if who % 2 == 0:
            yield f"staff-hotel-{hotel + 1}"
