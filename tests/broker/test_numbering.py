"""Numbers and epochs: per channel, rising by one, whichever entrance an event took."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from tests.harness import Client, Server, new_hotel, room_updated


def identified(hotel: str, event_id: str, room: str = "101") -> dict[str, Any]:
    """Return a `room_updated` with an event id of its own."""
    event = room_updated(room, hotel=hotel)
    event["meta"]["event_id"] = event_id
    return event


async def metas(client: Client, count: int) -> list[dict[str, Any]]:
    """Return the `meta` of the next events."""
    return [(await client.until("room_updated"))["data"]["meta"] for _ in range(count)]


async def test_events_are_numbered_from_one_in_one_epoch(server: Server) -> None:
    """1, 2, 3 … whether they came through Redis or HTTP, in the order of publishing."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        for number in range(1, 7):
            event = room_updated(str(number), hotel=hotel)
            if number % 2:
                await server.publish(rooms, event)
                await client.until("room_updated")
            else:
                await asyncio.to_thread(server.pusher().trigger, rooms, "room_updated", event)
        while len([f for f in client.frames if f["event"] == "room_updated"]) < 6:
            await client.next()
    bodies = [frame["data"] for frame in client.frames if frame["event"] == "room_updated"]
    assert [body["meta"]["sequence"] for body in bodies] == [1, 2, 3, 4, 5, 6]
    assert [body["payload"]["room_number"] for body in bodies] == list("123456")
    (epoch,) = {body["meta"]["epoch"] for body in bodies}
    assert isinstance(epoch, str)
    assert epoch


async def test_a_burst_keeps_its_order(server: Server) -> None:
    """Hundreds at once arrive in the order in which Redis took them, without a hole."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client, server.redis() as redis:
        pipeline = redis.pipeline(transaction=False)
        for number in range(300):
            await pipeline.publish(
                f"bellhop:publish:{rooms}",
                json.dumps(identified(hotel, f"{hotel}-{number}", f"{number}")),
            )
        await pipeline.execute()
        frames = [await client.until("room_updated") for _ in range(300)]
    assert [frame["data"]["meta"]["sequence"] for frame in frames] == list(range(1, 301))
    assert [frame["data"]["payload"]["room_number"] for frame in frames] == [
        str(number) for number in range(300)
    ]


async def test_channels_are_numbered_apart(server: Server) -> None:
    """Another channel's events take none of this one's numbers."""
    hotel = new_hotel()
    channels = [f"{hotel}.rooms", f"private-{hotel}.rooms"]
    async with server.staff(*channels, hotels=[hotel]) as client:
        for channel in (*channels, *channels):
            await server.publish(channel, room_updated(hotel=hotel))
        seen = await metas(client, 4)
    assert [meta["sequence"] for meta in seen] == [1, 1, 2, 2]


async def test_producers_own_numbers_are_removed(server: Server) -> None:
    """`meta.sequence` and `meta.epoch` are the server's alone; the rest of meta passes."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    event = room_updated(hotel=hotel)
    event["meta"] |= {"sequence": 900, "epoch": "mine", "producer": "django"}
    async with server.staff(rooms, hotels=[hotel]) as client:
        await server.publish(rooms, event)
        (meta,) = await metas(client, 1)
    assert meta["sequence"] == 1
    assert meta["epoch"] != "mine"
    assert meta["producer"] == "django"


async def test_event_id_is_delivered_once_on_a_channel(server: Server) -> None:
    """The same id again takes no number, by Redis or by HTTP; its receipt is the first one's."""
    hotel, event_id = new_hotel(), str(uuid.uuid4())
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        for room in ("1", "2"):
            await server.publish(rooms, identified(hotel, event_id, room))
        await asyncio.to_thread(
            server.pusher().trigger, rooms, "room_updated", identified(hotel, event_id, "3")
        )
        await server.publish(rooms, identified(hotel, "another", "4"))
        bodies = [(await client.until("room_updated"))["data"] for _ in range(2)]
    assert [(b["meta"]["sequence"], b["payload"]["room_number"]) for b in bodies] == [
        (1, "1"),
        (2, "4"),
    ]


async def test_event_id_is_delivered_on_each_of_two_channels(server: Server) -> None:
    """The hotel's feed and its private twin: two deliveries, two numbers."""
    hotel, event_id = new_hotel(), str(uuid.uuid4())
    channels = [f"{hotel}.rooms", f"private-{hotel}.rooms"]
    async with server.staff(*channels, hotels=[hotel]) as client:
        for channel in channels:
            await server.publish(channel, identified(hotel, event_id))
        frames = [await client.until("room_updated") for _ in range(2)]
    assert [frame["channel"] for frame in frames] == channels
    assert {frame["data"]["meta"]["event_id"] for frame in frames} == {event_id}


async def test_missing_event_id_is_filled_in(server: Server) -> None:
    """Every event has an id that a client may deduplicate by, and a time."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    event = room_updated(hotel=hotel)
    del event["meta"]["ts"]
    async with server.staff(rooms, hotels=[hotel]) as client:
        for _ in range(2):
            await server.publish(rooms, event)
        seen = await metas(client, 2)
    assert len({uuid.UUID(meta["event_id"]) for meta in seen}) == 2
    assert all(meta["ts"].endswith("Z") for meta in seen)


async def test_frame_is_the_envelope_in_a_json_string(server: Server) -> None:
    """What every Pusher client expects: `data` is a string, here of the whole envelope."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    event = room_updated(hotel=hotel, note='quote " backslash \\ ünïcode \u2028 \U0001f6ce')
    async with server.staff(rooms, hotels=[hotel]) as client:
        await server.publish(rooms, event)
        frame = json.loads(await client.socket.recv())
    assert set(frame) == {"event", "channel", "data"}
    assert isinstance(frame["data"], str)
    body = json.loads(frame["data"])
    assert set(body) == {"category", "type", "payload", "meta"}
    assert body["payload"] == event["payload"]
    assert (body["category"], body["type"]) == ("rooms", "room_updated")
