"""Taps beside the hub: a channel is listened to as long as either needs it."""

from __future__ import annotations

from collections.abc import Callable

from auth.access import PLAIN_GRANT
from channels_spec.views import PLAIN_VIEW
from server.broker.message import EVERYONE, BusMessage, Kind
from server.hub import Hub
from server.taps import Taps
from tests.server.room import KEY, Client, message


class Listening:
    """A tap that remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def listens(self) -> None:
        self.told.append("listens")

    def took(self, message: BusMessage) -> None:
        self.told.append(f"took {message.number}")

    def lost(self) -> None:
        self.told.append("lost")


class Place:
    """Taps between a hub and a broker that listens at once, or when it is told to."""

    def __init__(self, *, listens: bool = True) -> None:
        self.in_force = listens
        self.unwatched = 0
        self.taps = Taps(self)
        self.deferred: list[Callable[[], None]] = []
        self.hub = Hub(self.taps, join=b"".join, defer=self.deferred.append)
        self.taps.bring_to(self.hub)

    def watch(self, app_id: str, channel: str) -> bool:
        return self.in_force

    def unwatch(self, app_id: str, channel: str) -> None:
        self.unwatched += 1


def test_tap_gets_events_alone() -> None:
    """Of its channel; the hub gets everything."""
    place, tap = Place(), Listening()
    place.taps.add(KEY, tap)
    client = Client(place.hub, "1.1")
    client.join(PLAIN_GRANT)
    place.taps.fan_out(*KEY, message({PLAIN_VIEW: b"event"}, number=7))
    place.taps.fan_out(*KEY, message({EVERYONE: b"count"}, kind=Kind.COUNT))
    place.taps.fan_out("1", "another", message({PLAIN_VIEW: b"event"}, number=8))
    assert tap.told == ["listens", "took 7"]
    place.deferred[0]()
    assert b"".join(client.wire.written) == b"eventcount"


def test_tap_learns_when_it_is_deaf() -> None:
    """And when it is not any more: what came in between it has to find out."""
    place, tap = Place(listens=False), Listening()
    place.taps.add(KEY, tap)
    assert tap.told == []
    place.taps.watched(*KEY)
    place.taps.lost(0)
    place.taps.watched(*KEY)
    assert tap.told == ["listens", "lost", "listens"]


def test_channel_is_listened_to_while_the_hub_or_a_tap_needs_it() -> None:
    """Whichever leaves last lets it go."""
    place, taps = Place(), [Listening(), Listening()]
    client = Client(place.hub, "1.1")
    client.join(PLAIN_GRANT)
    for tap in taps:
        place.taps.add(KEY, tap)
    client.leave()
    place.taps.remove(KEY, taps[0])
    assert place.unwatched == 0
    place.taps.remove(KEY, taps[1])
    assert place.unwatched == 1
    place.taps.remove(KEY, taps[1])
    assert place.unwatched == 1
    place.taps.add(KEY, taps[0])
    client.join(PLAIN_GRANT)
    place.taps.remove(KEY, taps[0])
    assert place.unwatched == 1
    client.leave()
    assert place.unwatched == 2
