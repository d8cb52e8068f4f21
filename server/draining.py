"""Leaving well: a node that is to stop sends its clients to the others, a few at a time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

import structlog

from channels_spec.pusher import CloseCode
from server.hub import Hub
from server.presence import Presence

_TICK_S: Final = 0.05

log = structlog.get_logger()


class Draining:
    """The end of a node's sessions."""

    def __init__(
        self, hub: Hub, presence: Presence, others: Callable[[], bool], *, over_s: float
    ) -> None:
        """Create the end.

        Args:
            hub: has the sessions.
            presence: hands members over to the nodes that they go to.
            others: whether another node is there that stays.
            over_s: seconds over which closes are spread, while one is.

        """
        self._hub = hub
        self._presence = presence
        self._others = others
        self._over_s = over_s
        self.begun = False
        """Whether clients should not come here any more."""

    async def drain(self) -> None:
        """End every session: paced while there is another node to go to, else all at once."""
        self.begun = True
        log.info("node.draining", connections=len(self._hub.sessions))
        loop = asyncio.get_running_loop()
        began, count = loop.time(), len(self._hub.sessions)
        self._presence.hands_over = self._others()
        while self._hub.sessions and self._others():
            done = (loop.time() - began) / self._over_s if self._over_s else 1.0
            if done >= 1.0:
                break
            self._end(len(self._hub.sessions) - math.floor(count * (1.0 - done)))
            await asyncio.sleep(_TICK_S)
        self._presence.hands_over = self._others()
        self._end(len(self._hub.sessions))

    def hurry(self) -> None:
        """End every session now, however many there are."""
        self._over_s = 0.0
        self._end(len(self._hub.sessions))

    def _end(self, count: int) -> None:
        for session in list(self._hub.sessions.values())[: max(count, 0)]:
            session.end(CloseCode.DRAINING, "the node is draining")
