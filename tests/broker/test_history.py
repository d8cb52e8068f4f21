"""What Redis keeps of a channel, how much of it, and for how long."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.harness import Server, eventually, new_hotel, room_updated, started

PREFIX: Final = f"history-{uuid.uuid4().hex[:8]}:"
EVENTS: Final = 10
BLOCK: Final = 100
"""Entries that Redis keeps together in a stream: it trims whole blocks."""


@pytest.fixture(scope="module")
def forgetful(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on the shared Valkey that remembers little, for a second."""
    settings = {
        "REDIS_URL": shared_server.redis_url,
        "BELLHOP_REDIS_PREFIX": PREFIX,
        "BELLHOP_HISTORY_EVENTS": str(EVENTS),
        "BELLHOP_HISTORY_S": "1",
        "BELLHOP_DEDUPE_S": "1",
    }
    with started(tmp_path_factory.mktemp("forgetful") / "server.log", settings) as running:
        yield running


async def trigger(server: Server, hotel: str, event_id: str | None = None) -> None:
    """Publish one `room_updated` of a hotel."""
    event = room_updated(hotel=hotel)
    if event_id is not None:
        event["meta"]["event_id"] = event_id
    await asyncio.to_thread(server.pusher().trigger, f"{hotel}.rooms", "room_updated", event)


async def test_history_holds_the_channels_events(server: Server) -> None:
    """One entry per event, for as long as the window; everything expires by itself."""
    hotel = new_hotel()
    base = f"bellhop:{{1:{hotel}.rooms}}"
    for event_id in ("one", "two", "two"):
        await trigger(server, hotel, event_id)
    async with server.redis() as redis:
        assert await redis.xlen(f"{base}:log") == 2
        assert 0 < await redis.ttl(f"{base}:log") <= 120
        assert 600 < await redis.ttl(base) <= 86_400
        assert 120 < await redis.ttl(f"{base}:seen:one") <= 600
        state: Any = await redis.hgetall(base)
        assert state[b"sequence"] == b"2"
        assert {key async for key in redis.scan_iter(match=f"*{hotel}*")} == {
            f"{base}{part}".encode() for part in ("", ":log", ":seen:one", ":seen:two", ":states")
        }
        for key in (base, f"{base}:log", f"{base}:seen:one", f"{base}:states"):
            assert await redis.ttl(key) > 0


async def test_history_is_bounded_by_events(forgetful: Server) -> None:
    """However many come within the window, the stream stays near its bound."""
    hotel, count = new_hotel(), 5 * BLOCK
    rooms = f"{hotel}.rooms"
    async with forgetful.staff(rooms, hotels=[hotel]) as client, forgetful.redis() as redis:
        pipeline = redis.pipeline(transaction=False)
        for _ in range(count):
            message = json.dumps(room_updated(hotel=hotel))
            await pipeline.publish(f"{PREFIX}publish:{rooms}", message)
        await pipeline.execute()
        while (await client.until("room_updated"))["data"]["meta"]["sequence"] < count:
            pass
        assert await redis.xlen(f"{PREFIX}{{1:{rooms}}}:log") <= EVENTS + BLOCK


async def test_history_is_bounded_by_seconds(forgetful: Server) -> None:
    """Out of the window everything goes but the number, which goes on in the same epoch."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    base = f"{PREFIX}{{1:{rooms}}}"
    async with forgetful.staff(rooms, hotels=[hotel]) as client, forgetful.redis() as redis:
        await trigger(forgetful, hotel, "same")
        first = (await client.until("room_updated"))["data"]["meta"]
        await eventually(lambda: _gone(redis, f"{base}:log", f"{base}:seen:same"))
        # Out of the dedupe window the same id is a new event.
        await trigger(forgetful, hotel, "same")
        second = (await client.until("room_updated"))["data"]["meta"]
    assert (first["sequence"], second["sequence"]) == (1, 2)
    assert first["epoch"] == second["epoch"]


async def _gone(redis: Any, *keys: str) -> bool:
    return not await redis.exists(*keys)


async def test_channel_begins_a_new_epoch_when_it_was_forgotten(forgetful: Server) -> None:
    """Number and epoch are forgotten together, so that no number means two events."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with forgetful.staff(rooms, hotels=[hotel]) as client, forgetful.redis() as redis:
        seen = []
        for _ in range(2):
            await trigger(forgetful, hotel)
            seen.append((await client.until("room_updated"))["data"]["meta"])
            await redis.delete(f"{PREFIX}{{1:{rooms}}}")
    assert [meta["sequence"] for meta in seen] == [1, 1]
    assert seen[0]["epoch"] != seen[1]["epoch"]
