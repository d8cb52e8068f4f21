"""The simulated backend, publishing into a real server."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import UTC, datetime

import httpx
import pytest
from structlog.testing import capture_logs

from auth.apps import App
from server.demo.hotel import Hotel
from server.demo.simulator import (
    EntranceFailed,
    EventRefused,
    HttpEntrance,
    RedisEntrance,
    deliver,
    simulate,
)
from server.demo.state import DemoEvent
from tests.harness import (
    APP_ID,
    APP_KEY,
    APP_SECRET,
    BOOKINGS,
    DEADLINE_S,
    ROOMS,
    Server,
    room_updated,
)

APP = App(APP_ID, APP_KEY, APP_SECRET)


async def test_simulator_publishes_by_both_entrances_in_order(server: Server) -> None:
    """Events of both entrances arrive, each channel's sequence rising by one."""
    hotel = Hotel(random.Random(7), lambda: datetime.now(UTC))
    async with server.staff(ROOMS, BOOKINGS) as client:
        running = asyncio.create_task(
            simulate(
                hotel,
                redis_url=server.redis_url,
                redis_prefix="bellhop:",
                http_url=server.url,
                app=APP,
                interval_s=0,
            )
        )
        try:
            frames = [await client.next() for _ in range(60)]
        finally:
            running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    for channel in (ROOMS, BOOKINGS):
        numbers = [f["data"]["meta"]["sequence"] for f in frames if f["channel"] == channel]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert {frame["data"]["meta"]["hotel_slug"] for frame in frames} == {"hotel-killarney"}


async def test_http_entrance_refuses_an_event_that_will_never_get_in(server: Server) -> None:
    """A wrong key is a refusal; a server that is not there is worth another try."""
    event = DemoEvent(ROOMS, "room_updated", room_updated())
    async with httpx.AsyncClient(base_url=server.url) as http:
        with pytest.raises(EventRefused, match="401"):
            await HttpEntrance(http, App(APP_ID, APP_KEY, "another secret")).publish(event)
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as http:
        with pytest.raises(EntranceFailed):
            await HttpEntrance(http, APP).publish(event)


async def test_redis_entrance_fails_where_nobody_listens(server: Server) -> None:
    """A PUBLISH that no node heard is worth another try."""
    event = DemoEvent(ROOMS, "room_updated", room_updated())
    async with server.redis() as client:
        with pytest.raises(EntranceFailed, match="no node"):
            await RedisEntrance(client, "another-prefix:").publish(event)
    async with server.redis() as client:
        client.connection_pool.connection_kwargs["port"] = 1
        with pytest.raises(EntranceFailed):
            await RedisEntrance(client, "bellhop:").publish(event)


async def test_deliver_tries_again_until_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing entrance is logged and tried again; a refusal is logged and passed over."""
    monkeypatch.setattr("server.demo.simulator._FIRST_RETRY_S", 0)
    outcomes: list[Exception | None] = [EntranceFailed("away"), EntranceFailed("away"), None]

    async def publish(_: DemoEvent) -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    event = DemoEvent(ROOMS, "room_updated", room_updated())
    with capture_logs() as logs:
        await deliver(event, publish)
        assert outcomes == []
        outcomes.append(EventRefused("no"))
        await deliver(event, publish)
    assert [entry["event"] for entry in logs] == ["demo_entrance.failed"] * 2 + [
        "demo_event.refused"
    ]


@pytest.mark.parametrize("outcome", [None, EntranceFailed("lost"), EventRefused("no")])
async def test_deliver_ends_when_a_cancellation_was_swallowed(outcome: Exception | None) -> None:
    """However the attempt ended meanwhile: redis-py may return, or fail, instead of raising."""
    waits = asyncio.Event()
    attempts: list[DemoEvent] = []

    async def publish(event: DemoEvent) -> None:
        attempts.append(event)
        waits.set()
        if len(attempts) > 1:
            return
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if outcome is not None:
            raise outcome

    event = DemoEvent(ROOMS, "room_updated", room_updated())
    with capture_logs():
        delivering = asyncio.create_task(deliver(event, publish))
        await waits.wait()
        delivering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(delivering, DEADLINE_S)
    assert attempts == [event]
