"""A listener keeps what is wanted of it through outages, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.listener import Listener
from server.broker.redis import connect
from tests.chaos.valkey import running_valkey
from tests.harness import Server, eventually
from tests.transports.cut import wire_to


async def test_what_was_wanted_only_during_an_outage_is_forgotten(server: Server) -> None:
    """A name that comes and goes between two attempts to connect does not end the listener."""
    confirmed: list[bytes] = []
    async with wire_to(server.port + 1) as wire:
        redis = connect(f"redis://127.0.0.1:{wire.port}/0")
        listener = Listener(
            redis.connection_pool,
            on_message=lambda _name, _data: None,
            on_confirmed=confirmed.append,
        )
        wire.cut()
        running = asyncio.create_task(listener.run())
        listener.watch(b"stays")
        listener.watch(b"came-and-went")
        listener.unwatch(b"came-and-went")
        refused = wire.refused
        await eventually(lambda: wire.refused >= refused + 2)
        wire.mend()
        await eventually(lambda: confirmed or running.done())
        assert confirmed == [b"stays"]
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await redis.aclose()


async def test_redis_that_reads_its_file_back_is_listened_to(tmp_path: Path) -> None:
    """It takes PUBLISHes meanwhile, though it refuses all else: who hangs up would miss them."""
    heard: list[bytes] = []
    lost: list[float] = []
    sent: list[bytes] = []
    async with running_valkey(tmp_path / "valkey") as valkey:
        redis = connect(valkey.url)
        async with redis.pipeline(transaction=False) as pipeline:
            for number in range(6_000):
                pipeline.set(f"key {number}", "")
            await pipeline.execute()
        valkey.end(signal.SIGTERM)
        valkey.spawn("--key-load-delay", "500")
        listener = Listener(
            redis.connection_pool,
            on_message=lambda _name, data: heard.append(data),
            on_confirmed=lambda _name: None,
            patterns=(b"news:*",),
            on_lost=lost.append,
        )
        running = asyncio.create_task(listener.run())
        while not await answers(redis):
            data = str(len(sent)).encode()
            with contextlib.suppress(RedisError):
                if await redis.publish("news:1", data):
                    sent.append(data)
        await eventually(lambda: heard == sent)
        assert sent
        assert not lost
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await redis.aclose()


async def answers(redis: Redis) -> bool:
    """Whether Redis is done with its file."""
    with contextlib.suppress(RedisError):
        return bool(await redis.ping())
    return False
