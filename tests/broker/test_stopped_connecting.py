"""A node that is stopped while it connects to Redis ends, in whichever moment that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import pytest
import uvloop
from redis.asyncio import Redis

from server.broker.listener import Listener
from server.broker.pipe import Pipe
from server.broker.redis import connect
from tests.harness import Server, eventually

TURNS: Final = 30
"""Of the event loop: by then both are connected."""


def listener(redis: Redis) -> Listener:
    """Return one that has something to listen to from the beginning."""
    return Listener(
        redis.connection_pool,
        on_message=lambda _name, _data: None,
        on_confirmed=lambda _name: None,
        patterns=(b"news:*",),
        first=(b"orders",),
    )


def pipe(redis: Redis) -> Pipe:
    """Return one with scripts to load."""
    return Pipe(redis.connection_pool, {"one": "return 1", "two": "return 2"})


@pytest.mark.parametrize("make", [listener, pipe])
def test_stop_amid_connecting_is_not_swallowed(
    shared_server: Server, make: Callable[[Redis], Listener | Pipe]
) -> None:
    """redis-py loses a cancellation that comes as something has been sent."""

    async def stopped_after(turns: int) -> None:
        redis = connect(shared_server.redis_url)
        running = asyncio.create_task(make(redis).run())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await eventually(running.done)
        assert running.cancelled()
        await redis.aclose()

    async def stopped() -> None:
        for turns in range(TURNS):
            await stopped_after(turns)

    uvloop.run(stopped())
