"""A listener keeps what is wanted of it through outages, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib

from server.broker.listener import Listener
from server.broker.redis import connect
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
