"""A node's part of Redis, written by hand: who is where."""

from __future__ import annotations

import contextlib
import json
import struct
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from redis.asyncio import Redis

from server.broker.message import Publication, SplicedFrame
from tests.harness import APP_ID


def bus_message(data: str, channel: str = "cache-x") -> bytes:
    """Encode an event as it goes over the bus."""
    frame = json.dumps({"event": "e", "channel": channel, "data": data}).encode()
    publication = Publication(
        APP_ID, channel, "id", (SplicedFrame(frame),), views=(("plain", 0),), hotel_slug=""
    )
    head = struct.pack(">BBQQB", 1, 0, 1, 1, 1) + b"e"
    return head + publication.static_header() + struct.pack(">I", len(frame)) + frame


@dataclass
class State:
    """One node that lives until the test ends; dead ones are made by `die`."""

    redis: Redis
    prefix: str
    node: str = field(default_factory=lambda: f"by-hand-{uuid.uuid4().hex}")
    keys: set[str] = field(default_factory=set)

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, client: Redis, prefix: str) -> AsyncIterator[Self]:
        """Bring a node to life, and take away all that it wrote."""
        state = cls(client, prefix)
        await state.beat()
        try:
            yield state
        finally:
            await client.zrem(f"{prefix}nodes", state.node)
            if state.keys:
                await client.delete(*state.keys)

    async def beat(self, age_ms: int = 0) -> None:
        """Set the node's heartbeat to so long ago."""
        seconds, micros = await self.redis.time()
        now = seconds * 1000 + micros // 1000
        await self.redis.zadd(f"{self.prefix}nodes", {self.node: now - age_ms})

    async def subscribed(self, channel: str, sockets: int, *, app: str = APP_ID) -> None:
        """Have so many of the node's sockets subscribed to a channel."""
        await self._set(f"{{{app}:{channel}}}:sockets", {self.node: sockets})
        await self._set(f"node:{self.node}:channels", {f"{app}:{channel}": sockets})

    async def members(self, channel: str, *users: str) -> None:
        """Have users on a presence channel, one socket each."""
        await self.subscribed(channel, len(users))
        await self._set(f"{{{APP_ID}:{channel}}}:members", dict.fromkeys(users, "null"))

    async def connected(self, connections: int, *, app: str = APP_ID) -> None:
        """Have so many connections on the node."""
        await self._set(f"node:{self.node}:apps", {app: connections})

    async def cached(self, channel: str, message: bytes, ttl_ms: int) -> None:
        """Have a cache channel remember an event."""
        key = f"{self.prefix}{{{APP_ID}:{channel}}}:cache"
        self.keys.add(key)
        await self.redis.set(key, message, px=ttl_ms)

    async def _set(self, name: str, fields: Mapping[str, Any]) -> None:
        key = self.prefix + name
        self.keys.add(key)
        for each, value in fields.items():
            await self.redis.hset(key, each, value)
