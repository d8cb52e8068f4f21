"""Repair of a node that was cut off: what the bus carried meanwhile, from channel histories."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final, Protocol

from server.channels import Key
from server.errors import BrokerUnavailable
from server.history import Carried, ChannelHistory, Known
from server.protocol.presence import GapReason

_RETRY_S: Final = 0.25


class Repaired(Protocol):
    """Who waits for what was missed; the hub."""

    def repaired(self, key: Key, known: Known, carried: Carried, gap: GapReason | None) -> None:
        """Take what a channel carried, and why that may not be all."""


class Repairing:
    """Reads histories for the hub, and reads again where Redis did not answer."""

    def __init__(self, history: ChannelHistory) -> None:
        self._history = history
        self._hub: Repaired | None = None
        self._again: dict[Key, Known] = {}

    def bring_to(self, hub: Repaired) -> None:
        """Set who waits."""
        self._hub = hub

    def ask(self, key: Key, known: Known) -> None:
        """Read what a channel carried beyond what is known of it; `repaired` is called."""
        future = self._history.since(*key, known.since_ms)
        future.add_done_callback(partial(self._answered, key, known))

    async def run(self) -> None:
        """Read again what could not be read, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_S)
            again, self._again = self._again, {}
            for key, known in again.items():
                self.ask(key, known)

    def _answered(self, key: Key, known: Known, future: asyncio.Future[Carried]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, BrokerUnavailable):
            self._again[key] = known
        elif self._hub is not None:
            carried = future.result()
            gap = self._history.gap_by_time(known, carried, round(time.time() * 1000))
            self._hub.repaired(key, known, carried, gap)
