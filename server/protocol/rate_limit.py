"""A token bucket: so many a second, and as many at once."""

from __future__ import annotations


class TokenBucket:
    """Counts what one connection may still do."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        """Start full; ``rate`` is per second, and times are in seconds."""
        self._rate = rate
        self._left = rate
        self._at = now

    def take(self, now: float) -> bool:
        """Take one; False where none is left."""
        self._left = min(self._rate, self._left + max(now - self._at, 0.0) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
