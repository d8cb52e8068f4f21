"""Expiry: when a connection ends because a token does, and when its client is told before."""

from __future__ import annotations

from math import inf
from typing import Final

LATEST_TICK_S: Final = 1.0
"""How late a tick may come: what must not happen too late is due that much earlier."""
WARNING_S: Final = 60.0
"""How long before the end of its token a client is told."""
_NEVER: Final = inf


class Expiry:
    """The ends of one connection's tokens, in seconds since the epoch."""

    __slots__ = ("_signed_until", "_spread", "_spread_s", "_token_until", "_warn_at")

    def __init__(self, spread: float, spread_s: float) -> None:
        """``spread``: its place, in [0, 1), among those whose tokens end within ``spread_s``."""
        self._spread = spread
        self._spread_s = spread_s
        self._token_until = _NEVER
        self._signed_until = _NEVER
        """When the first token ends that a signed subscription was made with."""
        self._warn_at = _NEVER

    @property
    def due(self) -> float:
        """When the connection ends, or its client is told, whichever is first."""
        return min(self._token_until, self._signed_until, self._warn_at)

    def replace(self, exp: float, now: float) -> bool:
        """Take the end of a new token for that of the one before; False where it has come."""
        self._token_until = self._before(exp, now)
        if self._token_until <= now:
            # A tick may come a second late: who comes in a token's last moments gets none of them.
            return False
        self._warn_at = exp - WARNING_S
        return True

    def signed(self, exp: float, now: float) -> None:
        """Note the end of a token that a signed subscription was made with."""
        self._signed_until = min(self._before(exp, now), self._signed_until)

    def has_come(self, now: float) -> bool:
        """Whether the connection ends now."""
        return now >= self._token_until or now >= self._signed_until

    def warns(self, now: float) -> bool:
        """Whether the client is told now that its token ends; True once for each token."""
        if now < self._warn_at:
            return False
        self._warn_at = _NEVER
        return True

    def _before(self, exp: float, now: float) -> float:
        """Return when to close for a token: before its end, those of one minute spread."""
        spread = min(self._spread_s, max(exp - now, 0.0) / 2)
        return exp - LATEST_TICK_S - self._spread * spread
