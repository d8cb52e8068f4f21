"""One client's bounded send queue: backpressure as a return value.

While the transport takes bytes, an offer is one write and nothing is kept. When the transport's own
buffer is full, offers wait here, and go out joined as soon as it has drained.
"""

from __future__ import annotations

from typing import Final, Protocol

MAX_WAITING_BYTES: Final = 1024 * 1024
"""What may wait for a client that does not read; more makes it a slow consumer."""


class Writable(Protocol):
    """The part of an asyncio transport that an outbox uses."""

    def write(self, data: bytes) -> None:
        """Send the bytes, or buffer them."""


class Outbox:
    """The way of encoded frames to one client."""

    __slots__ = ("_closed", "_limit", "_paused", "_transport", "_waiting", "_waiting_bytes")

    def __init__(self, transport: Writable, limit: int = MAX_WAITING_BYTES) -> None:
        self._transport = transport
        self._limit = limit
        self._paused = False
        self._closed = False
        self._waiting: list[bytes] | None = None
        self._waiting_bytes = 0

    def offer(self, data: bytes) -> bool:
        """Send ``data`` or keep it in order, never waiting; False for a slow consumer."""
        if self._paused:
            return self._keep(data)
        if not self._closed:
            self._transport.write(data)
        return True

    def _keep(self, data: bytes) -> bool:
        if self._closed:
            return True
        if self._waiting_bytes + len(data) > self._limit:
            return False
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        return True

    def pause(self) -> None:
        """Stop writing: the transport's buffer is full."""
        self._paused = True

    def resume(self) -> None:
        """Write what waited: the transport's buffer has drained."""
        self._paused = False
        waiting, self._waiting, self._waiting_bytes = self._waiting, None, 0
        if waiting and not self._closed:
            self._transport.write(b"".join(waiting))

    def close(self) -> None:
        """Forget what waits; later offers go nowhere."""
        self._closed = True
        self._waiting, self._waiting_bytes = None, 0

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait here, beside those in the transport's own buffer."""
        return self._waiting_bytes
