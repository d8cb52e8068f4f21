"""pusher-js by HTTP alone on a server of several workers: each request may reach any of them."""

from __future__ import annotations

import pytest

from tests.clients.driver import SUCCEEDED, PusherJs, fallback_options, own_token
from tests.clients.hosts import NODE, process_host
from tests.conftest import StartServer
from tests.harness import eventually, new_hotel, room_updated
from tests.transports.workers import COUNT, Workers

pytestmark = [pytest.mark.clients]

EACH = 4
"""Clients of each kind."""


async def test_clients_hear_and_are_heard_by_whatever_worker(start_server: StartServer) -> None:
    """Nobody has to balance anything; and when a worker is killed, all are there again."""
    server = await start_server("--workers", str(COUNT))
    crew = Workers(server)
    await crew.all()
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with process_host(NODE) as host:
        clients = [host.new("pusher-js", PusherJs) for _ in range(2 * EACH)]
        for number, client in enumerate(clients):
            transport = ("xhr_streaming", "xhr_polling")[number % 2]
            options = {**fallback_options(server.port, transport), "wsHost": "127.0.0.1"}
            sub = f"staff-{number}"
            given = {"token": own_token(sub, hotels=[hotel]), "sub": sub}
            await client.open(server, options=options, **given)
            await client.tell("signin")
            await client.tell("subscribe", channel=rooms, events=["room_updated"])
        for client in clients:
            await client.until("event", channel=rooms, event=SUCCEEDED)
        await server.publish(rooms, room_updated("417", hotel=hotel))
        for client in clients:
            event = await client.until("event", channel=rooms, event="room_updated")
            assert event["data"]["payload"]["room_number"] == "417"
            # One session each, and never another.
            assert client.states() == ["connected"]
        crew.processes[0].kill()
        again = room_updated("418", hotel=hotel)

        async def all_heard() -> bool:
            await server.publish(rooms, again)
            return all(
                any(
                    event["data"]["payload"]["room_number"] == "418"
                    for event in client.seen("event", event="room_updated")
                )
                for client in clients
            )

        await eventually(all_heard)
        assert len(await crew.all()) == COUNT
        for client in clients:
            await client.tell("disconnect")
