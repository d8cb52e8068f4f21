"""What stands around a hub in tests: subscribers that remember, a broker, a turn of the loop."""

from __future__ import annotations

from collections.abc import Callable

from auth.access import Grant
from channels_spec.pusher import CloseCode
from server.broker.message import EVERYONE, BusMessage, Kind
from server.channels import Key
from server.history import Known
from server.hub import Hub
from server.outbox import Outbox
from server.protocol.presence import Entered

KEY: Key = ("1", "staff-hotel-1")
NEW = Entered()
"""What is known of a channel on which nothing has happened."""


class Wire:
    """A transport that remembers what was written, piece by piece."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Client:
    """A session as the hub sees it; it leaves everything when it falls behind, as sessions do.

    While `enters` is set the broker lets it in as soon as the node listens.
    """

    app_id = "1"
    identity: str | None = None
    proven_at: float | None = None

    def __init__(self, hub: Hub, socket_id: str, limit: int = 1_000) -> None:
        self.hub = hub
        self.socket_id = socket_id
        self.enters = True
        self.wire = Wire()
        self.outbox = Outbox(self.wire, limit)
        self.confirmed: list[str] = []
        self.keys: list[Key] = []
        self.channels: list[str] = []
        self.refreshed: list[str] = []
        self.fell = 0
        hub.opened(self)

    def join(self, grant: Grant, key: Key = KEY) -> None:
        self.keys.append(key)
        self.hub.join(key, self, grant)

    def leave(self, key: Key = KEY) -> None:
        self.keys.remove(key)
        self.hub.leave(key, self)

    def joined(self, channel: str) -> None:
        self.confirmed.append(channel)
        if self.enters:
            self.admit(key=(self.app_id, channel))

    def admit(self, entered: Entered = NEW, key: Key = KEY) -> None:
        self.hub.admit(key, self, entered)

    def is_of(self, user_id: str) -> bool:
        return False

    def fell_behind(self) -> None:
        if self.fell:
            return
        self.fell += 1
        self.hub.closed(self)
        for key in self.keys:
            self.hub.leave(key, self)
        self.outbox.close()

    def end(self, code: CloseCode, reason: str) -> None:
        raise AssertionError("the hub ends nobody but slow consumers")

    def probe(self) -> None:
        raise AssertionError("the hub asks nobody whether it lives")

    def revoked(self) -> None:
        raise AssertionError("the hub judges nobody")

    def refresh(self, channel: str) -> None:
        self.refreshed.append(channel)

    @property
    def got(self) -> list[str]:
        """The frames that it got, one by one."""
        return b"".join(self.wire.written).decode().split()


class Room:
    """A hub with a broker that listens at once, or when it is told to."""

    def __init__(self, *, listens: bool = True) -> None:
        self.listens = listens
        self.watched: list[Key] = []
        self.unwatched: list[Key] = []
        self.deferred: list[Callable[[], None]] = []
        self.repairs: list[tuple[Key, Known]] = []
        self.hub = Hub(
            self,
            join=lambda frames: b"".join(frame + b" " for frame in frames),
            defer=self.deferred.append,
            repair=lambda key, known: self.repairs.append((key, known)),
        )

    def watch(self, app_id: str, channel: str) -> bool:
        self.watched.append((app_id, channel))
        return self.listens

    def unwatch(self, app_id: str, channel: str) -> None:
        self.unwatched.append((app_id, channel))

    def client(
        self,
        socket_id: str,
        grant: Grant | None = None,
        limit: int = 1_000,
        *,
        enters: bool = True,
    ) -> Client:
        """Return a client, with a grant one that has joined, and is let in unless told not to."""
        client = Client(self.hub, socket_id, limit)
        client.enters = enters
        if grant is not None:
            client.join(grant)
        return client

    def publish(
        self,
        text: str,
        *,
        views: str = "staff",
        hotel: str = "a",
        exclude: str = "",
        key: Key = KEY,
        number: int = 1,
        epoch: str = "e",
        time_ms: int = 0,
    ) -> None:
        """Fan out an event whose frame in each view is `text:view`."""
        frames = {view: f"{text}:{view}".encode() for view in views.split()}
        event = message(frames, hotel, exclude, number=number)
        event.epoch, event.time_ms = epoch, time_ms
        self.hub.fan_out(*key, event)

    def announce(
        self, kind: Kind, text: str, *, exclude: str = "", number: int = 0, key: Key = KEY
    ) -> None:
        """Fan out something that is no event."""
        frames = {EVERYONE: text.encode()}
        self.hub.fan_out(*key, message(frames, "", exclude, kind=kind, number=number))

    def turn(self) -> None:
        """Come to the end of this turn of the event loop."""
        deferred, self.deferred[:] = self.deferred[:], []
        for callback in deferred:
            callback()


def message(
    frames: dict[str, bytes],
    hotel: str = "",
    exclude: str = "",
    *,
    kind: Kind = Kind.EVENT,
    number: int = 1,
) -> BusMessage:
    """Return a bus message of which the hub uses frames, hotel, excluded socket and number."""
    return BusMessage(
        kind=kind,
        number=number,
        time_ms=0,
        epoch="e",
        event_id="id",
        hotel_slug=hotel,
        exclude=exclude,
        conflation_key="",
        filter_values=(),
        frames=frames,
    )
