"""Filters over a real socket."""

from __future__ import annotations

from typing import Any

from tests.harness import Client, Server, room_updated

HOTEL = "filtered-hotel"
ROOMS = f"{HOTEL}.rooms"


async def test_filtered_subscriber_hears_its_rooms_only(server: Server) -> None:
    """Events of other rooms do not come; their numbers are missing, and that is no gap."""
    async with (
        server.staff(ROOMS, hotels=[HOTEL]) as narrow,
        server.staff(ROOMS, hotels=[HOTEL]) as wide,
    ):
        await narrow.send("bellhop:filter", {"channel": ROOMS, "scope": {"room_number": [101]}})
        assert (await narrow.next())["event"] == "bellhop:filter:ok"
        for room in ("102", "101", "103"):
            await server.publish(ROOMS, room_updated(room, hotel=HOTEL))
        assert [await _room(wide) for _ in range(3)] == ["102", "101", "103"]

        await narrow.send("bellhop:filter", {"channel": ROOMS, "scope": None})
        first, answer = await narrow.next(), await narrow.next()
        assert first["data"]["payload"]["room_number"] == "101"
        assert answer["event"] == "bellhop:filter:ok"
        await server.publish(ROOMS, room_updated("104", hotel=HOTEL))
        last = await narrow.until("room_updated")
    assert last["data"]["payload"]["room_number"] == "104"
    assert last["data"]["meta"]["sequence"] - first["data"]["meta"]["sequence"] == 2


async def _room(client: Client) -> Any:
    return (await client.until("room_updated"))["data"]["payload"]["room_number"]
