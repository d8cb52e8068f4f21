"""What goes wrong in a chaos run: nodes, Redis, links."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from random import Random
from typing import Final

from tests.chaos.flock import Flock
from tests.chaos.links import Cut, Link
from tests.chaos.plan import Part, Size
from tests.chaos.publishing import Publishing
from tests.chaos.valkey import Valkey
from tests.harness import Server

_DOWN_S: Final = (0.2, 2.0)
_HEARD_S: Final = 0.2
"""What was PUBLISHed is given so long to be taken before no node is left to take it."""

Blow = Callable[[], Awaitable[None]]


class Weather:
    """Strikes nodes and Redis one after the other, and cuts links all the time."""

    def __init__(
        self,
        size: Size,
        random: Random,
        *,
        nodes: list[Server],
        valkey: Valkey,
        flock: Flock,
        backend: Publishing,
        others: list[Link],
    ) -> None:
        """Create it; ``others`` are links that are only ever reset: the backend's and Pyshers'."""
        self._size = size
        self._random = random
        self._nodes = nodes
        self._valkey = valkey
        self._flock = flock
        self._backend = backend
        self._others = others
        self._turns = cycle(nodes)
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Strike for a while; in the end everything is up and every link is mended."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._strike(seconds))
            tasks.create_task(self._cut_links(seconds))
            tasks.create_task(self._see_off(seconds))
            for who in self._flock.here(Part.AWAY):
                tasks.create_task(self._keep_away(who, seconds))

    # --- nodes and Redis -------------------------------------------------------------------------

    def _blows(self) -> Iterator[Blow]:
        return cycle(
            (
                self._kill_node,
                self._kill_redis,
                self._drain_node,
                self._restart_redis,
                self._kill_two,
                self._kill_redis_and_node,
                self._drain_node,
                self._kill_all,
            )
        )

    async def _strike(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        for blow in self._blows():
            await asyncio.sleep(self._size.strike_every_s * self._random.uniform(0.7, 1.3))
            if loop.time() >= until:
                break
            await blow()

    def _pause(self) -> Awaitable[None]:
        return asyncio.sleep(self._random.uniform(*_DOWN_S))

    def _kill(self, node: Server) -> None:
        self.counts["nodes killed"] += 1
        node.end(signal.SIGKILL)

    async def _start(self, *nodes: Server) -> None:
        for node in nodes:
            node.start()
        await asyncio.gather(*(node.wait_until_ready() for node in nodes))

    async def _kill_node(self) -> None:
        node = next(self._turns)
        self._kill(node)
        await self._pause()
        await self._start(node)

    async def _kill_two(self) -> None:
        two = [next(self._turns), next(self._turns)]
        for node in two:
            self._kill(node)
        await self._pause()
        await self._start(*two)

    async def _kill_all(self) -> None:
        # Redis counts receivers that are dead already: nobody publishes so at that moment.
        self._backend.by_publish.clear()
        await asyncio.sleep(_HEARD_S)
        for node in self._nodes:
            self._kill(node)
        self._backend.by_publish.set()
        await self._pause()
        await self._start(*self._nodes)

    async def _drain_node(self) -> None:
        self.counts["nodes drained"] += 1
        node = next(self._turns)
        await asyncio.to_thread(node.end, signal.SIGTERM)
        await self._pause()
        await self._start(node)

    async def _kill_redis(self) -> None:
        self.counts["Redis killed"] += 1
        await self._redis_down(signal.SIGKILL)

    async def _restart_redis(self) -> None:
        self.counts["Redis stopped"] += 1
        await self._redis_down(signal.SIGTERM)

    async def _redis_down(self, how: signal.Signals) -> None:
        await asyncio.to_thread(self._valkey.end, how)
        await self._pause()
        await self._valkey.start()
        await self._all_ready()

    async def _kill_redis_and_node(self) -> None:
        """A node dies while Redis is away: what it had not written there is gone."""
        node = next(self._turns)
        self.counts["Redis killed"] += 1
        await asyncio.to_thread(self._valkey.end, signal.SIGKILL)
        self._kill(node)
        await self._pause()
        await self._valkey.start()
        await self._start(node)
        await self._all_ready()

    async def _all_ready(self) -> None:
        # What is PUBLISHed while but one node hears is lost with that one.
        await asyncio.gather(*(node.wait_until_ready() for node in self._nodes))

    # --- links -----------------------------------------------------------------------------------

    async def _cut_links(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with asyncio.TaskGroup() as tasks:
            while loop.time() < until:
                await asyncio.sleep(self._size.cut_every_s * self._random.uniform(0.5, 1.5))
                here = self._flock.here(Part.STAYS)
                link = self._flock.links[self._random.choice(here)]
                if self._random.random() < 1 / len(here):
                    link = self._random.choice(self._others)
                if link.mended.is_set():
                    how = self._random.choice(list(Cut))
                    how = Cut.RESET if link in self._others else how
                    lasts = self._random.uniform(*self._size.cuts_s)
                    tasks.create_task(self._cut(link, how, lasts))

    async def _cut(self, link: Link, how: Cut, seconds: float) -> None:
        self.counts[f"links cut: {how.value}"] += 1
        link.cut(how)
        await asyncio.sleep(seconds)
        link.mend()

    async def _keep_away(self, who: int, seconds: float) -> None:
        # At different times, and back before it ends.
        spare = max(seconds - self._size.away_s, 0.0)
        await asyncio.sleep(self._random.uniform(0, spare))
        how = self._random.choice([Cut.RESET, Cut.SILENT])
        await self._cut(self._flock.links[who], how, self._size.away_s)

    async def _see_off(self, seconds: float) -> None:
        leaving = self._flock.here(Part.LEAVES)
        for who in leaving:
            await asyncio.sleep(seconds / (len(leaving) + 1))
            self.counts["clients gone for good"] += 1
            self._flock.leave(who)
