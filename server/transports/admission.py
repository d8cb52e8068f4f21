"""Admission: who comes is greeted in order of coming, a few in each turn of the event loop.

After a power cut, or when another node has died, thousands come in one moment, and each handshake
costs as much as dozens of deliveries. So an upgrade waits here until its turn: those who are
connected already get their events meanwhile, health checks and triggers their answers, and whoever
waits needs no more memory than its request. Nobody is refused for coming in a crowd. Only where
more wait than the settings allow is a socket upgraded, told 4100 and closed, so that its client
comes back after a second.

What waits has no session yet, and so no deadline: the time to authenticate begins when it is
greeted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

_BROKER_S: Final = 0.005
"""Seconds after which it is looked again whether the broker has caught up."""

log = structlog.get_logger()


class Arrival(Protocol):
    """A handshake that is not answered yet."""

    def greet(self, *, crowded: bool) -> None:
        """Answer it, or tell it that too many wait; it may end the connection, never raise."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much of the node those who arrive may take."""

    waiting: int = 20_000
    """Handshakes that may wait; 0: no limit."""
    turn_s: float = 0.005
    """Seconds of handshakes in one turn of the event loop; at least one is answered in each."""


class Admission:
    """The queue of one node's handshakes."""

    def __init__(
        self,
        limits: AdmissionLimits = AdmissionLimits(),
        *,
        behind: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Create a queue; nobody is let in while the broker is ``behind``."""
        self._limits = limits
        self._behind = behind
        self._clock = clock
        self._queue: dict[Arrival, None] = {}
        self._due = False
        self._crowded = False
        self.turned_away = 0
        """Handshakes that were told 4100, ever."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def come(self, arrival: Arrival) -> None:
        """Have a handshake answered when its turn comes."""
        if self._limits.waiting and len(self._queue) >= self._limits.waiting:
            if not self._crowded:
                self._crowded = True
                log.warning("handshakes.crowded", waiting=len(self._queue))
            self.turned_away += 1
            arrival.greet(crowded=True)
            return
        self._queue[arrival] = None
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def leave(self, arrival: Arrival) -> None:
        """Forget a handshake whose client has gone; nothing where it does not wait."""
        self._queue.pop(arrival, None)

    def _turn(self) -> None:
        """Answer as many as one turn has time for."""
        self._due = False
        broker_is_behind = self._behind()
        try:
            until = self._clock() + self._limits.turn_s
            while self._queue and not broker_is_behind:
                arrival = next(iter(self._queue))
                del self._queue[arrival]
                arrival.greet(crowded=False)
                if self._clock() >= until:
                    break
        finally:
            self._go_on(_BROKER_S if broker_is_behind else 0.0)

    def _go_on(self, after_s: float) -> None:
        if not self._queue:
            self._crowded = False
            return
        self._due = True
        loop = asyncio.get_running_loop()
        # In between the loop looks at its sockets: that is what the turns are for.
        if after_s:
            loop.call_later(after_s, self._turn)
        else:
            loop.call_soon(self._turn)
