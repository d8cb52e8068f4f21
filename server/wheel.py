"""A timer wheel: deadlines of thousands of connections with one timer, to the second.

An entry may be late by up to a second, never early. An entry that moves its deadline later stays
where it is, and says when it wants to be seen next once it comes up: activity costs nothing here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol


class Timed(Protocol):
    """Something with deadlines."""

    due: int
    """The second in which the wheel ticks it; the wheel's own, 0 at first."""

    def tick(self, now: float) -> float | None:
        """Do what is due and return the next deadline (seconds since the epoch), or ``None``."""


class Wheel:
    """Entries by the second in which they are due."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._slots: dict[int, dict[Timed, None]] = {}
        self._turned_to = math.floor(clock())

    def schedule(self, entry: Timed, deadline: float) -> None:
        """Have ``entry`` ticked at or after ``deadline``."""
        second = max(math.ceil(deadline), self._turned_to + 1)
        if self._turned_to < entry.due <= second:
            return
        # An entry that stands in a later slot already stays there too, and is passed over then.
        entry.due = second
        self._slots.setdefault(second, {})[entry] = None

    def turn(self) -> None:
        """Tick what has become due since the last turn."""
        now = self._clock()
        while self._turned_to < math.floor(now):
            self._turned_to += 1
            for entry in self._slots.pop(self._turned_to, ()):
                if entry.due != self._turned_to:
                    continue
                following = entry.tick(now)
                if following is not None:
                    self.schedule(entry, following)

    async def run(self) -> None:
        """Turn once a second until cancelled."""
        while True:
            self.turn()
            await asyncio.sleep(1.0 - self._clock() % 1.0 + 0.001)
