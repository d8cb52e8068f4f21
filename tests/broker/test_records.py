"""Session records survive an outage of Redis: what it did not take is written again."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from server.broker.keys import Keys
from server.broker.pipe import Pipe
from server.broker.records import Heard, SessionRecords
from server.broker.redis import connect
from tests.harness import Server, eventually
from tests.transports.cut import Wire, wire_to

HEARD = Heard("1.1", "news", "node", since_ms=1, entered_ms=2, number=3, epoch="e")
IDENTITY = "jti 1 staff-1"


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[Wire]:
    """The way to Redis."""
    async with wire_to(server.port + 1) as wire:
        yield wire


@pytest.fixture
async def pipe(wire: Wire) -> AsyncIterator[Pipe]:
    """A pipe over it."""
    redis = connect(f"redis://127.0.0.1:{wire.port}/0")
    pipe = Pipe(redis.connection_pool, {})
    running = asyncio.create_task(pipe.run())
    await eventually(lambda: pipe.ready)
    yield pipe
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await redis.aclose()


async def test_note_that_redis_did_not_take_is_written_again(pipe: Pipe, wire: Wire) -> None:
    """As it was last: a note, a loss, and a subscription that was ended on purpose."""
    keys = Keys(f"records-{uuid.uuid4().hex[:8]}:")
    records = SessionRecords(pipe, keys, "node", kept_s=60)
    records.note("1", IDENTITY, replace(HEARD, channel="left"))
    await records.read("1", IDENTITY)
    wire.cut()
    await eventually(lambda: not pipe.ready)
    records.forget("1", IDENTITY, "1.1", ["left"])
    records.note("1", IDENTITY, HEARD)
    records.note("1", IDENTITY, replace(HEARD, since_ms=7))
    records.lose("1", IDENTITY, "1.1", 5)
    # Nothing comes of it as long as Redis is away.
    await asyncio.sleep(0)
    records.write_again()
    wire.mend()
    await eventually(lambda: pipe.ready)
    records.write_again()
    record = await records.read("1", IDENTITY)
    assert record.heard == (replace(HEARD, since_ms=7),)
    assert record.lost == {"1.1": 5}
