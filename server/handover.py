"""What was PUBLISHed and is to go out: handed to the broker in order, until it is taken.

Whoever PUBLISHed has had an answer, and nobody else has the message. So what Redis does not take
waits for it, and is refused only after a while. Again is safe: the script knows an event's id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from server.broker.interface import Receipt
from server.broker.message import Publication
from server.errors import BrokerRefused, BrokerUnavailable
from server.publisher import Publisher

_AGAIN_S: Final = 0.1
_KEPT_S: Final = 60.0
"""How long something waits for Redis."""
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class _Taken(Generic[M]):
    """A message that is to go out."""

    message: M
    publication: Publication
    at: float


class Handover(Generic[M]):
    """The messages between their entrance and the broker."""

    def __init__(self, publisher: Publisher, refuse: Callable[[M, int, str], None]) -> None:
        """Create it; ``refuse`` is called with a message, a status and the reason."""
        self._publisher = publisher
        self._refuse = refuse
        self._waiting: deque[_Taken[M]] = deque()
        """What Redis did not take yet, in order; it is under way, too."""
        self.handed = 0
        """Messages, ever."""
        self.under_way = 0
        """Of these, those that are neither published nor refused."""

    @property
    def settled(self) -> int:
        """How many of the messages are published or refused, at least the first ones."""
        return self.handed - self.under_way

    def put(self, message: M, publication: Publication) -> None:
        """Publish a message after all that were put before."""
        self.handed += 1
        self.under_way += 1
        taken = _Taken(message, publication, asyncio.get_running_loop().time())
        if self._waiting:
            self._waiting.append(taken)
        else:
            self._publish(taken)

    async def run(self) -> None:
        """Publish what Redis did not take, when it answers again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_AGAIN_S)
            while self._waiting and loop.time() - self._waiting[0].at > _KEPT_S:
                self.under_way -= 1
                self._refuse(self._waiting.popleft().message, 503, "Redis did not answer in time")
            if self._waiting and self._publisher.ready:
                waiting, self._waiting = self._waiting, deque()
                for taken in waiting:
                    self._publish(taken)

    def _publish(self, taken: _Taken[M]) -> None:
        published = self._publisher.publish(taken.publication, "redis")
        published.add_done_callback(partial(self._done, taken))

    def _done(self, taken: _Taken[M], future: asyncio.Future[Receipt]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, BrokerUnavailable) and not isinstance(error, BrokerRefused):
            self._waiting.append(taken)
            return
        self.under_way -= 1
        if error is not None:
            self._refuse(taken.message, 503, str(error))
