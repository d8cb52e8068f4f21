"""What tests of webhooks stand on: a Redis, and the webhooks of nodes with one app."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis

from auth.apps import App, AppRegistry, Webhook, WebhookKind
from server.webhooks import Webhooks
from server.webhooks.queue import Timing, WebhookQueue, endpoint_id

OCCUPIED = WebhookKind.CHANNEL_OCCUPIED
VACATED = WebhookKind.CHANNEL_VACATED
ADDED = WebhookKind.MEMBER_ADDED
REMOVED = WebhookKind.MEMBER_REMOVED
MISS = WebhookKind.CACHE_MISS
CLIENT = WebhookKind.CLIENT_EVENT
FAST = Timing(hold_s=0.01, first_retry_s=0.01, max_retry_s=0.02, poll_s=0.05)
HELD = replace(FAST, hold_s=3600.0)


@dataclass
class Ground:
    """A Redis with a prefix of the test's own."""

    redis: Redis
    prefix: str

    def webhooks(self, *webhooks: Webhook, timing: Timing = FAST) -> Webhooks:
        """Return the webhooks of a node whose only app has these."""
        apps = AppRegistry([App("1", "key-1", "secret-1", webhooks=webhooks)])
        return Webhooks(self.redis, self.prefix, apps, timing=timing)

    def queue(self, timing: Timing = FAST) -> WebhookQueue:
        """Return the queue as any node sees it."""
        return WebhookQueue(self.redis, self.prefix, timing)

    async def waiting(self, url: str) -> dict[str, float]:
        """Return what waits for an endpoint: when it is due, by the rest of its id."""
        endpoint = endpoint_id("1", url)
        found: Any = await self.redis.zrange(
            f"{self.prefix}{{webhooks}}:due:{endpoint}", 0, -1, withscores=True
        )
        return {name.decode().partition(":")[2]: due for name, due in found}

    async def dead(self) -> list[dict[str, str]]:
        """Return the dead ones, oldest first."""
        found: Any = await self.redis.xrange(f"{self.prefix}{{webhooks}}:dead")
        return [{key.decode(): value.decode() for key, value in each.items()} for _, each in found]

    async def empty(self) -> bool:
        """Whether nothing is left but the counter, the dead ones, and what is known for a while."""
        left: Any = await self.redis.keys(f"{self.prefix}*")
        names = {name.decode().partition("{webhooks}:")[2] for name in left}
        return {name for name in names if not name.startswith("last:")} <= {"number", "dead"}

    async def now_ms(self) -> float:
        """Return the time by Redis' clock."""
        seconds, micros = await self.redis.time()
        return float(seconds) * 1000 + micros / 1000


@contextlib.asynccontextmanager
async def running(*nodes: Webhooks) -> AsyncIterator[None]:
    """Run webhooks of one or more nodes around the body."""
    tasks = [asyncio.create_task(node.run()) for node in nodes]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def misses(webhooks: Webhooks, *channels: str) -> None:
    """Emit an event on each of the channels."""
    for channel in channels:
        webhooks.emit("1", MISS, channel)


def numbered(count: int) -> list[str]:
    """Return names of as many channels."""
    return [f"cache-{number}" for number in range(count)]
