"""Pings, and what their answers prove: that all that was sent before has arrived.

A written frame proves nothing, because a half-open socket swallows it.
"""

from __future__ import annotations

from typing import Final

_MAX_UNANSWERED: Final = 8
"""Pings whose answers are waited for: of more it could not be told which one is answered."""
_NOTHING: Final = 0.0
_NO_PINGS: Final[list[float]] = []
"""Replaced, never changed."""


class Proofs:
    """The pings of one connection."""

    __slots__ = ("_count", "_unanswered", "answered", "until")

    def __init__(self) -> None:
        self._unanswered: list[float] = _NO_PINGS
        self._count = True
        """Whether it can be told which ping is answered."""
        self.answered = 0
        """Pings that the client has answered."""
        self.until: float | None = None
        """Until when (s) the client has got everything, as far as that is proven."""

    @property
    def under_way(self) -> bool:
        """Whether a ping waits for its answer."""
        return bool(self._unanswered)

    def pinged(self, until: float | None) -> None:
        """Note a ping, and until when the client had been sent everything; ``None``: it had not."""
        if len(self._unanswered) < _MAX_UNANSWERED:
            self._unanswered = [*self._unanswered, _NOTHING if until is None else until]
        else:
            self._count = False

    def pong(self) -> None:
        """Note an answer; one that nobody asked for proves nothing."""
        if not self._unanswered:
            return
        self.answered += 1
        if self._count:
            self.until = max(self.until or _NOTHING, self._unanswered.pop(0)) or None
