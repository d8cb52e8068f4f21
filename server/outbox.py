"""One client's bounded send queue: backpressure as a return value.

While the transport takes bytes, an offer is the transport's own `write` and nothing is kept: not
even a function of ours stands in between, for it is called once per delivery. When the transport's
buffer is full, offers wait here, and go out joined as soon as it has drained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

MAX_WAITING_BYTES: Final = 1024 * 1024
"""What may wait for a client that does not read; more makes it a slow consumer."""


class Writable(Protocol):
    """The part of an asyncio transport that an outbox uses."""

    def write(self, data: bytes) -> None:
        """Send the bytes, or buffer them."""


class Outbox:
    """The way of encoded frames to one client."""

    __slots__ = ("_limit", "_transport", "_waiting", "_waiting_bytes", "offer")

    def __init__(self, transport: Writable, limit: int = MAX_WAITING_BYTES) -> None:
        self._transport = transport
        self._limit = limit
        self._waiting: list[bytes] = _NOTHING
        self._waiting_bytes = 0
        self.offer: Callable[[bytes], bool | None] = transport.write
        """Send these bytes, or keep them in order; never waits. False: a slow consumer."""

    def pause(self) -> None:
        """Stop writing: the transport's buffer is full."""
        if self.offer not in (_drop, self._keep):
            self._waiting = []
            self.offer = self._keep

    def resume(self) -> None:
        """Write what waited: the transport's buffer has drained."""
        if self.offer == _drop:
            return
        waiting, self._waiting, self._waiting_bytes = self._waiting, _NOTHING, 0
        self.offer = self._transport.write
        if waiting:
            self._transport.write(b"".join(waiting))

    def close(self) -> None:
        """Forget what waits; later offers go nowhere."""
        self._waiting, self._waiting_bytes = _NOTHING, 0
        self.offer = _drop

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait here, beside those in the transport's own buffer."""
        return self._waiting_bytes

    def _keep(self, data: bytes) -> bool:
        if self._waiting_bytes + len(data) > self._limit:
            return False
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        return True


_NOTHING: Final[list[bytes]] = []
"""What waits in every outbox that is not paused; nothing is ever put in it."""


def _drop(data: bytes) -> None:
    """Take what is offered to a client that is gone."""
    del data
