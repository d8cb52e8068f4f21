"""Parking: subscribes that wait until it is known who speaks, in order of arrival, bounded."""

from __future__ import annotations

from typing import Final

from server.protocol.commands import Subscribe

MAX_PARKED: Final = 256
"""Subscribes that wait for authentication; one more closes with 4100."""
MAX_PARKED_BYTES: Final = 256 * 1024


class Parking:
    """What waits for authentication on one connection."""

    __slots__ = ("_parked",)

    def __init__(self) -> None:
        self._parked: list[Subscribe] | None = None

    def add(self, command: Subscribe) -> bool:
        """Have a subscribe wait; False where that is too much."""
        parked = self._parked if self._parked is not None else []
        self._parked = parked
        if all(waiting.channel != command.channel for waiting in parked):
            parked.append(command)
        size = sum(
            len(waiting.channel) + len(waiting.auth) + len(waiting.channel_data or "")
            for waiting in parked
        )
        return len(parked) <= MAX_PARKED and size <= MAX_PARKED_BYTES

    def drop(self, channel: str) -> None:
        """Have a channel wait no more."""
        if self._parked:
            self._parked = [waiting for waiting in self._parked if waiting.channel != channel]

    def leave(self) -> list[Subscribe]:
        """Return what waits; nothing does any more."""
        parked, self._parked = self._parked or [], None
        return parked
