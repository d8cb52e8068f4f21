"""What stands around a hub in tests: subscribers that remember, a broker, a turn of the loop."""

from __future__ import annotations

from collections.abc import Callable

from auth.access import Grant
from server.broker.message import BusMessage
from server.hub import Hub, Key
from server.outbox import Outbox

KEY: Key = ("1", "staff-hotel-1")


class Wire:
    """A transport that remembers what was written, piece by piece."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Client:
    """A session as the hub sees it; it leaves everything when it falls behind, as sessions do."""

    def __init__(self, hub: Hub, socket_id: str, limit: int = 1_000) -> None:
        self.hub = hub
        self.socket_id = socket_id
        self.wire = Wire()
        self.outbox = Outbox(self.wire, limit)
        self.confirmed: list[str] = []
        self.keys: list[Key] = []
        self.fell = 0
        hub.sessions[socket_id] = self

    def join(self, grant: Grant, key: Key = KEY) -> None:
        self.keys.append(key)
        self.hub.join(key, self, grant)

    def leave(self, key: Key = KEY) -> None:
        self.keys.remove(key)
        self.hub.leave(key, self)

    def joined(self, channel: str) -> None:
        self.confirmed.append(channel)

    def fell_behind(self) -> None:
        if self.fell:
            return
        self.fell += 1
        del self.hub.sessions[self.socket_id]
        for key in self.keys:
            self.hub.leave(key, self)
        self.outbox.close()

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
        self.hub = Hub(
            self,
            join=lambda frames: b"".join(frame + b" " for frame in frames),
            defer=self.deferred.append,
        )

    def watch(self, app_id: str, channel: str) -> bool:
        self.watched.append((app_id, channel))
        return self.listens

    def unwatch(self, app_id: str, channel: str) -> None:
        self.unwatched.append((app_id, channel))

    def client(self, socket_id: str, grant: Grant | None = None, limit: int = 1_000) -> Client:
        """Return a client, with a grant one that has joined."""
        client = Client(self.hub, socket_id, limit)
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
    ) -> None:
        """Fan out an event whose frame in each view is `text:view`."""
        frames = {view: f"{text}:{view}".encode() for view in views.split()}
        self.hub.fan_out(*key, message(frames, hotel, exclude))

    def turn(self) -> None:
        """Come to the end of this turn of the event loop."""
        deferred, self.deferred[:] = self.deferred[:], []
        for callback in deferred:
            callback()


def message(frames: dict[str, bytes], hotel: str = "", exclude: str = "") -> BusMessage:
    """Return a bus message of which the hub uses frames, hotel and excluded socket."""
    return BusMessage(
        sequence=1,
        time_ms=0,
        epoch="e",
        event_id="id",
        hotel_slug=hotel,
        exclude=exclude,
        conflation_key="",
        filter_values=(),
        frames=frames,
    )
