"""Filters over a real socket."""

from __future__ import annotations

from tests.harness import Server, room_updated

HOTEL = "filtered-hotel"
ROOMS = f"{HOTEL}.rooms"


async def test_filtered_subscriber_hears_its_rooms_only(server: Server) -> None:
    """Events of other rooms do not come; their numbers are missing, and that is no gap."""
    async with server.staff(ROOMS, hotels=[HOTEL]) as client:
        await client.send("bellhop:filter", {"channel": ROOMS, "scope": {"room_number": [101]}})
        assert (await client.next())["event"] == "bellhop:filter:ok"
        for room in ("102", "101", "103"):
            await server.publish(ROOMS, room_updated(room, hotel=HOTEL))
        heard = await client.until("room_updated")
        await client.send("bellhop:filter", {"channel": ROOMS, "scope": None})
        assert (await client.next())["event"] == "bellhop:filter:ok"
        await server.publish(ROOMS, room_updated("104", hotel=HOTEL))
        after = await client.until("room_updated")
    first, last = heard["data"], after["data"]
    assert (first["payload"]["room_number"], last["payload"]["room_number"]) == ("101", "104")
    assert last["meta"]["sequence"] - first["meta"]["sequence"] == 2
