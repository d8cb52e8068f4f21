"""A room that does what rooms do not: delivered, and counted where the operator sees it."""

from __future__ import annotations

import httpx

from tests.harness import Client, Server, eventually, new_hotel, room_updated

FAULT = "/payload/room_status: unusual move"


async def counted(server: Server, hotel: str) -> float:
    """Return how many unusual moves the metrics tell of a hotel."""
    labels = f'event="room_updated",fault="{FAULT}",hotel="{hotel}"'
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{server.url}/metrics")).text
    lines = [line for line in text.splitlines() if labels in line]
    for line in lines:
        assert line.startswith(f"bellhop_contract_faults_total{{{labels}}} ")
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


async def say(server: Server, client: Client, room: str, status: str, hotel: str) -> None:
    """Publish a room's state, and see it arrive."""
    event = room_updated(room, hotel=hotel, room_status=status)
    await server.publish(f"{hotel}.rooms", event)
    payload = (await client.until("room_updated"))["data"]["payload"]
    assert (payload["room_number"], payload["room_status"]) == (room, status)


async def test_unusual_moves_are_delivered_and_counted_by_hotel(server: Server) -> None:
    """Each room for itself; the first state that is heard of, and staying, is no move."""
    hotel, other = new_hotel(), new_hotel()
    async with server.staff(f"{hotel}.rooms", f"{other}.rooms", hotels=[hotel, other]) as client:
        for room, status in (
            ("101", "OCCUPIED"),
            ("101", "OCCUPIED"),
            ("102", "READY_FOR_GUEST"),
            ("101", "CHECKOUT_DIRTY"),
            ("102", "OCCUPIED"),
        ):
            await say(server, client, room, status, hotel)
        assert await counted(server, hotel) == 0
        await say(server, client, "101", "OCCUPIED", hotel)
        await say(server, client, "101", "OCCUPIED", other)
        await say(server, client, "102", "CLEANING_IN_PROGRESS", hotel)
        await eventually(lambda: _is(server, hotel, 2))
        assert await counted(server, other) == 0


async def _is(server: Server, hotel: str, count: int) -> bool:
    return await counted(server, hotel) == count


async def test_repeated_event_id_moves_nothing(server: Server) -> None:
    """What was delivered before is neither delivered nor counted again."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        await say(server, client, "101", "OCCUPIED", hotel)
        odd = room_updated("101", hotel=hotel, room_status="CLEANING_IN_PROGRESS")
        odd["meta"]["event_id"] = f"odd-{hotel}"
        for _ in range(3):
            await server.publish(rooms, odd)
        await client.until("room_updated")
        await say(server, client, "101", "CLEANED_UNINSPECTED", hotel)
        assert await counted(server, hotel) == 1
