"""Presence: who a subscriber is on a presence channel, and what it learns as it enters one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from server.protocol.errors import SubscriptionRefused

MAX_USER_ID: Final = 128
"""Characters of a presence member's id."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a presence channel, as its roster knows it."""

    user_id: str
    user_info: bytes
    """JSON; ``null`` where nothing is told."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What the broker knew of a channel at the moment a subscriber was let in."""

    number: int = 0
    """The sequence of the channel's last event; 0 where there was none."""
    epoch: str = ""
    version: int = 0
    """The roster's."""
    roster: tuple[Member, ...] = ()
    cached: bytes | None = None
    """The frame of a cache channel's last event."""
    time_ms: int = 0
    """When it was let in, by the broker's clock."""
    last_ms: int = 0
    """When the channel's last event was published that is kept in its history."""

    @property
    def is_large(self) -> bool:
        """Whether it holds more than figures."""
        return bool(self.roster) or self.cached is not None


class GapReason(StrEnum):
    """Why it cannot be proven that a client has everything."""

    WINDOW_EXCEEDED = "window_exceeded"
    EPOCH_CHANGED = "epoch_changed"
    HISTORY_LOST = "history_lost"
    IDENTIFIED_LATE = "identified_late"


@dataclass(frozen=True, slots=True)
class Past:
    """What a returning subscriber missed of a channel."""

    frames: tuple[bytes, ...] = ()
    """In order; what its present right lets it see."""
    gap: GapReason | None = None
    since_ms: int | None = None
    """From when on something may be missing; ``None`` where that is not known."""


def member(channel: str, user_id: str, user_info: object, max_bytes: int) -> Member:
    """Return a member within Pusher's bounds; raises `SubscriptionRefused`."""
    if not 0 < len(user_id) <= MAX_USER_ID:
        reason = f"a presence member's user_id has 1 to {MAX_USER_ID} characters"
        raise SubscriptionRefused(channel, 403, reason)
    try:
        encoded = orjson.dumps(user_info)
    except TypeError:  # orjson reads four times as deep as it writes
        raise SubscriptionRefused(channel, 403, "user_info is nested too deeply") from None
    if len(encoded) > max_bytes:
        raise SubscriptionRefused(channel, 403, f"user_info exceeds {max_bytes} bytes")
    return Member(user_id, encoded)
