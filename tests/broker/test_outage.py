"""Redis goes and comes again: nobody is disconnected, and nothing is claimed that is not so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pusher.errors
import pytest

from server.broker.embedded import EmbeddedValkey
from tests.harness import (
    Server,
    ended,
    eventually,
    free_port_pair,
    make_server,
    new_hotel,
    room_updated,
)

StartServer = Callable[..., Awaitable[Server]]


async def readiness(server: Server) -> tuple[int, dict[str, Any]]:
    """Return what `/health/ready` answers; nothing, while nobody listens yet."""
    async with httpx.AsyncClient() as client:
        try:
            answer = await client.get(f"{server.url}/health/ready")
        except httpx.ConnectError:
            return 0, {}
    return answer.status_code, answer.json()


async def _is(server: Server, status: int) -> bool:
    return (await readiness(server))[0] == status


async def trigger(server: Server, hotel: str) -> None:
    """Publish by HTTP, as a backend does."""
    event = room_updated(hotel=hotel)
    await asyncio.to_thread(server.pusher().trigger, f"{hotel}.rooms", "room_updated", event)


async def test_clients_outlive_redis(start_server: StartServer) -> None:
    """Unready and 503 while it is away; then those who stayed get events, in a new epoch.

    The embedded Valkey keeps nothing, so that before any of them they are told of a gap.
    """
    port = free_port_pair()
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with EmbeddedValkey(port) as url:
        server = await start_server(REDIS_URL=url)
        context = server.staff(rooms, hotels=[hotel])
        client = await context.__aenter__()
        await trigger(server, hotel)
        before = (await client.until("room_updated"))["data"]["meta"]
    try:
        await eventually(lambda: _is(server, 503))
        _, body = await readiness(server)
        assert "Redis" in body["reason"]
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{server.url}/health/live")).status_code == 200
        with pytest.raises(pusher.errors.PusherBadStatus, match="not published"):
            await trigger(server, hotel)
        # The connection itself is as good as before; a new channel waits for Redis.
        await client.quiet()
        await client.send("pusher:subscribe", {"channel": f"{hotel}.room-bookings"})
        await client.quiet()
        async with EmbeddedValkey(port):
            await eventually(lambda: _is(server, 200))
            came = sorted([await client.next() for _ in range(2)], key=lambda frame: frame["event"])
            assert [(frame["event"], frame["channel"]) for frame in came] == [
                ("bellhop:gap", rooms),
                ("pusher_internal:subscription_succeeded", f"{hotel}.room-bookings"),
            ]
            assert came[0]["data"]["reason"] == "history_lost"
            await trigger(server, hotel)
            after = (await client.until("room_updated"))["data"]["meta"]
            await server.publish(rooms, room_updated(hotel=hotel))
            assert (await client.until("room_updated"))["data"]["meta"]["sequence"] == 2
            async with server.staff(rooms, hotels=[hotel]) as newcomer:
                await trigger(server, hotel)
                await newcomer.until("room_updated")
            assert await asyncio.to_thread(server.end) == 0
    finally:
        await context.__aexit__(None, None, None)
    assert (before["sequence"], after["sequence"]) == (1, 1)
    assert before["epoch"] != after["epoch"]
    assert server.log_events("broker.lost")


async def test_server_starts_unready_without_redis_and_recovers(tmp_path: Path) -> None:
    """A node that comes up before its Redis lives, says that it is not ready, and waits."""
    port = free_port_pair()
    settings = {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    server = make_server(tmp_path / "server.log", settings)
    with ended(server):
        server.start()
        await eventually(lambda: _is(server, 503))
        async with EmbeddedValkey(port):
            await server.wait_until_ready()
            hotel = new_hotel()
            async with server.staff(f"{hotel}.rooms", hotels=[hotel]) as client:
                await server.publish(f"{hotel}.rooms", room_updated(hotel=hotel))
                await client.until("room_updated")
            assert server.end() == 0
