"""pusher-js by HTTP alone on a server of several workers: each request may reach any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.clients.driver import SUCCEEDED, PusherJs, fallback_options, own_token
from tests.clients.hosts import NODE, process_host
from tests.conftest import StartServer
from tests.harness import new_hotel, room_updated
from tests.transports.workers import COUNT, Workers

pytestmark = [pytest.mark.clients]

EACH = 4
"""Clients of each kind."""


@asynccontextmanager
async def connected(crew: Workers, rooms: str, hotel: str) -> AsyncIterator[list[PusherJs]]:
    """Give clients that have subscribed, half of them by each of the fallbacks."""
    async with process_host(NODE) as host:
        clients = [host.new("pusher-js", PusherJs) for _ in range(2 * EACH)]
        for number, client in enumerate(clients):
            transport = ("xhr_streaming", "xhr_polling")[number % 2]
            options = {**fallback_options(crew.server.port, transport), "wsHost": "127.0.0.1"}
            sub = f"staff-{number}"
            given = {"token": own_token(sub, hotels=[hotel]), "sub": sub}
            await client.open(crew.server, options=options, **given)
            await client.tell("signin")
            await client.tell("subscribe", channel=rooms, events=["room_updated"])
        for client in clients:
            await client.until("event", channel=rooms, event=SUCCEEDED)
        yield clients
        for client in clients:
            await client.tell("disconnect")


async def all_hear(clients: list[PusherJs], crew: Workers, rooms: str, room: str) -> None:
    """Hold that an event reaches each of them."""
    await crew.server.publish(rooms, room_updated(room, hotel=rooms.partition(".")[0]))
    for client in clients:
        heard = ""
        while heard != room:
            event = await client.until("event", channel=rooms, event="room_updated")
            heard = event["data"]["payload"]["room_number"]


async def test_clients_hear_and_are_heard_by_whatever_worker(start_server: StartServer) -> None:
    """Nobody has to balance anything: each has one session, and keeps it."""
    crew = Workers(await start_server("--workers", str(COUNT)))
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with connected(crew, rooms, hotel) as clients:
        await all_hear(clients, crew, rooms, "417")
        for client in clients:
            assert client.states() == ["connected"]


@pytest.mark.long
async def test_clients_come_back_after_every_worker_was_killed(start_server: StartServer) -> None:
    """Each with a new session, at one of the new workers."""
    crew = Workers(await start_server("--workers", str(COUNT)))
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with connected(crew, rooms, hotel) as clients:
        for worker in (await crew.all()).values():
            worker.kill()
        for client in clients:
            await client.has(2, "event", channel=rooms, event=SUCCEEDED)
        await all_hear(clients, crew, rooms, "418")
