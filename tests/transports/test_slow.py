"""A client that does not read: what it gets when it does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import httpx
from websockets import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.harness import Server, eventually, new_hotel, room_updated, token


async def slow_consumers_of(server: Server) -> str:
    """Return what the server says of clients that did not keep up."""
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{server.url}/metrics")).text
    return next(line for line in metrics.splitlines() if line.startswith("bellhop_slow_consumers"))


async def until_closed(socket: ClientConnection) -> AsyncIterator[str | bytes]:
    """Give what comes, up to the end."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await socket.recv()


async def test_client_that_does_not_read_is_ended_behind_whole_frames(server: Server) -> None:
    """What the kernel took of a frame is followed by its rest, then by the reason for the end."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    note = "x" * 9_000
    path = f"/t/{token(hotels=[hotel])}"
    async with (
        server.connect(path, max_queue=1, ping_interval=None) as slow,
        server.client(path) as other,
    ):
        await slow.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": rooms}}))
        while "subscription_succeeded" not in str(await slow.recv()):
            pass
        await other.subscribe(rooms)
        published = 0

        async def ended() -> bool:
            nonlocal published
            async with server.redis() as redis:
                pipeline = redis.pipeline(transaction=False)
                for _ in range(100):
                    body = json.dumps(room_updated(hotel=hotel, note=note))
                    pipeline.publish(f"bellhop:publish:{rooms}", body)
                await pipeline.execute()
            published += 100
            for _ in range(100):
                await other.until("room_updated")
            return slow_consumers != (await slow_consumers_of(server))

        slow_consumers = await slow_consumers_of(server)
        await eventually(ended)
        frames = [json.loads(frame) async for frame in until_closed(slow)]
        numbers = [
            json.loads(frame["data"])["meta"]["sequence"]
            for frame in frames
            if frame["event"] == "room_updated"
        ]
        assert numbers == list(range(1, len(numbers) + 1))
        assert 0 < len(numbers) < published
        assert slow.close_code == 4100
        assert (frames[-1]["event"], frames[-1]["data"]["code"]) == ("pusher:error", 4100)
