"""What backends PUBLISH to have revoked, in one order that all nodes agree on.

Every node hears every message, and each writes it, so that none is lost with a node. But one may be
slow: what it writes late must not undo what was asked for, and done, since. So a message has a
place, the same on every node: the mark that came next, and how many messages came between. Redis
brings all nodes the same in the same order, marks rise, and the script that writes does nothing for
a place that is not behind the last one. Any node that has heard a message sends a mark.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.resources import files
from typing import Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.keys import Keys
from server.cancellation import raise_if_cancelled

_MOST: Final = 1_000
_AGAIN_S: Final = 0.25
"""After how long a mark that has not come is sent again."""

log = structlog.get_logger()


class Place(NamedTuple):
    """Where a message stands: a later one has a higher mark, or fewer before the same mark."""

    mark: int
    before: int


class Asked(NamedTuple):
    """A message, and its place."""

    body: bytes
    place: Place


class Docket:
    """The messages that this node has heard, until it has written them."""

    def __init__(self, redis: Redis, keys: Keys, most: int = _MOST) -> None:
        self.key = keys.beside("revocations", "docket")
        self._control = keys.control
        self._most = most
        source = files("server.broker").joinpath("scripts/mark.lua").read_text("utf-8")
        self._send = redis.register_script(source)
        self._heard: list[tuple[int, bytes]] = []
        """Messages since the last mark, numbered."""
        self._count = 0
        """How many those are; some may have been too many to keep."""
        self._last = 0
        self._awaited: set[tuple[int, asyncio.Future[None]]] = set()
        """Who waits for their turn, which is behind a mark."""
        self._placed: asyncio.Queue[Asked | asyncio.Future[None]] = asyncio.Queue()
        self._open, self._closed = asyncio.Event(), asyncio.Event()

    # --- hearing ---------------------------------------------------------------------------------

    def hear(self, body: bytes) -> None:
        """Take a message; its place is known when the next mark comes."""
        if len(self._heard) + self._placed.qsize() < self._most:
            self._heard.append((self._count, body))
        else:
            log.error("revocation.dropped", waiting=self._most)
        self._count += 1
        self._closed.clear()
        self._open.set()

    def mark(self, mark: int) -> None:
        """Take a mark: what came before it has its place."""
        for number, body in self._heard:
            self._placed.put_nowait(Asked(body, Place(mark, self._count - number)))
        self._last = mark
        self._give_turns()
        self._close()

    def deaf(self) -> None:
        """Learn that messages and marks may have been missed.

        What is here without a place could be given a later one than other nodes have given it.
        """
        if self._count:
            log.error("revocation.lost", reason="Redis was lost", messages=self._count)
        self._close()

    def _close(self) -> None:
        self._heard.clear()
        self._count = 0
        self._open.clear()
        self._closed.set()

    # --- writing ---------------------------------------------------------------------------------

    async def next(self) -> Asked:
        """Return the next message; to be asked when the one before it has been written."""
        while not isinstance(item := await self._placed.get(), Asked):
            if not item.done():
                item.set_result(None)
        return item

    async def turn(self, within_s: float) -> bool:
        """Wait until all that was PUBLISHed before has been written, by this node or another.

        Returns whether that is so within some time; raises as redis-py does.
        """
        mark: int = await self._send(keys=[self.key], args=[self._control])
        awaited = mark, asyncio.get_running_loop().create_future()
        self._awaited.add(awaited)
        self._give_turns()
        try:
            async with asyncio.timeout(within_s):
                await awaited[1]
        except TimeoutError:
            return False
        finally:
            self._awaited.discard(awaited)
        return True

    def _give_turns(self) -> None:
        for awaited in [each for each in self._awaited if each[0] <= self._last]:
            self._awaited.discard(awaited)
            self._placed.put_nowait(awaited[1])

    async def run(self) -> None:
        """Send marks where they are wanted, until cancelled."""
        while True:
            await self._open.wait()
            try:
                await self._send(keys=[self.key], args=[self._control])
            except (RedisError, OSError) as error:
                log.warning("revocation.waits", error=type(error).__name__)
            raise_if_cancelled()
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S):
                    await self._closed.wait()
