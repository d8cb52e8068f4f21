"""One client's bounded send queue: backpressure as a return value.

While the client keeps up, an offer is the socket's own `send`, or where that may not be (TLS) the
transport's own `write`, and nothing is kept: not even a function of ours stands in between, for it
is called once per delivery. What the kernel does not take goes to the transport, and the client is
behind: what else is for it waits here, and goes out joined as soon as the transport has sent all it
had. Of the events that may be conflated only the latest per key waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

MAX_WAITING_BYTES: Final = 1024 * 1024
"""What may wait for a client that does not read; more makes it a slow consumer."""


_MAX_HOLES: Final = 1_000
"""Places of conflated events that may stand empty in what waits."""


class Writable(Protocol):
    """The part of an asyncio transport that an outbox uses."""

    def write(self, data: bytes) -> None:
        """Send the bytes, or buffer them."""


Offer = Callable[[bytes], int | None]
"""Sends bytes or buffers them; returns how many were sent, where it knows."""


class Waiting(NamedTuple):
    """Something that waits to be sent."""

    data: bytes
    """A whole frame as it goes over the wire."""
    conflation_key: str = ""
    """A later one with the same key takes its place; empty: nothing does."""


class Outbox:
    """The way of encoded frames to one client."""

    __slots__ = (
        "_holes",
        "_latest",
        "_limit",
        "_transport",
        "_waiting",
        "_waiting_bytes",
        "_write",
        "offer",
    )

    def __init__(self, transport: Writable, limit: int = MAX_WAITING_BYTES) -> None:
        self._transport = transport
        self._limit = limit
        self._waiting: list[bytes] = _NOTHING
        self._waiting_bytes = 0
        self._holes = 0
        self._latest: dict[str, int] | None = None
        """Where in ``_waiting`` the latest event of a conflation key stands."""
        self._write: Offer = transport.write
        self.offer: Offer = self._write
        """Send these bytes; never waits. ``None`` or their number: done. Any other number, or an
        `OSError` in the place of 0: `spill` what was not sent."""

    def go_direct(self, send: Callable[[bytes], int]) -> None:
        """Send past the transport from now on: by its socket's own ``send``.

        All that was written to the transport has gone, and it will pause with the first byte that
        waits there: so what is written to it and what is offered here keep their order.
        """
        if self.offer == self._write:
            self.offer = send
        self._write = send

    def take(self, data: bytes) -> bool:
        """Send these bytes; never waits. False: the client is behind, `keep` them."""
        try:
            sent = self.offer(data)
        except OSError:
            sent = 0
        return sent is None or sent == len(data) or self.spill(data, sent)

    def spill(self, data: bytes, sent: int) -> bool:
        """Give the transport what the kernel did not take, or learn there that the socket is gone.

        False: the client is behind, and nothing of the data has been sent.
        """
        if sent == _BEHIND:
            return False
        self._transport.write(data[sent:])
        return True

    def send(self, data: bytes) -> bool:
        """Send one frame, or keep it in order; False for a slow consumer."""
        return self.take(data) or self.keep((Waiting(data),))

    def owe(self, data: bytes) -> None:
        """Send what a client missed, or keep it in order, however much that is.

        The channel's history bounds it, and whoever was closed for it would come back to the same.
        """
        if not self.take(data):
            self._waiting.append(data)

    def keep(self, more: Iterable[Waiting]) -> bool:
        """Keep for a client that is behind, in order; False where that is too much for it."""
        for data, key in more:
            if key:
                self._forget(key)
            if self._waiting_bytes + len(data) > self._limit:
                return False
            if key and self._latest is not None:
                self._latest[key] = len(self._waiting)
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        return True

    def pause(self) -> None:
        """Stop writing: bytes wait in the transport."""
        if self.offer not in (_drop, _behind):
            self._waiting, self._latest, self._holes = [], {}, 0
            self.offer = _behind

    def resume(self) -> None:
        """Write what waited: the transport has sent what it had."""
        if self.offer == _drop:
            return
        waiting = self._waiting
        self._waiting, self._waiting_bytes, self._latest = _NOTHING, 0, None
        self.offer = self._write
        if waiting:
            self._transport.write(b"".join(waiting))

    def close(self) -> None:
        """Forget what waits; later offers go nowhere."""
        self._waiting, self._waiting_bytes, self._latest = _NOTHING, 0, None
        self.offer = _drop

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait here, beside those in the transport's own buffer."""
        return self._waiting_bytes

    def _forget(self, key: str) -> None:
        """Drop the event of this key that waits, if one does; places behind it stay as they are."""
        latest = self._latest
        at = latest.pop(key, None) if latest is not None else None
        if latest is None or at is None:
            return
        self._waiting_bytes -= len(self._waiting[at])
        self._waiting[at] = b""
        self._holes += 1
        if self._holes > _MAX_HOLES:
            self._close_holes(latest)

    def _close_holes(self, latest: dict[str, int]) -> None:
        """Give back the places of what was conflated away: a client may be behind for hours."""
        places = [place for place, data in enumerate(self._waiting) if data]
        moved = {place: index for index, place in enumerate(places)}
        self._waiting = [self._waiting[place] for place in places]
        self._latest = {key: moved[place] for key, place in latest.items()}
        self._holes = 0


def offer_all(outboxes: Iterable[Outbox], data: bytes) -> list[Outbox]:
    """Offer many the same bytes, as `Outbox.take` does; return those that are behind."""
    size = len(data)
    behind = []
    for outbox in outboxes:
        try:
            sent = outbox.offer(data)
        except OSError:
            sent = 0
        if sent != size and sent is not None and not outbox.spill(data, sent):
            behind.append(outbox)
    return behind


_NOTHING: Final[list[bytes]] = []
"""What waits in every outbox that is not paused; nothing is ever put in it."""


def _drop(data: bytes) -> None:
    """Take what is offered to a client that is gone."""
    del data


_BEHIND: Final = -1


def _behind(data: bytes) -> int:
    """Tell that the client takes no bytes now."""
    del data
    return _BEHIND
