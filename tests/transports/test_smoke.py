"""The main job once."""

from tests.harness import ROOMS, Server, room_updated


async def test_event_reaches_the_hotels_staff(server: Server) -> None:
    """What a backend publishes into Redis arrives on the socket, numbered."""
    async with server.staff(ROOMS) as client:
        await server.publish(ROOMS, room_updated())
        frame = await client.until("room_updated")
    assert frame["data"]["meta"]["sequence"] >= 1
