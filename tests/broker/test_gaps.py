"""Where it cannot be proven that nothing is missing, the client is told before anything live."""

from __future__ import annotations

import json
import uuid

import pytest
import redis.asyncio

from tests.broker.returns import SETTINGS, Device, Nodes, Place, dropped, proves
from tests.conftest import StartServer
from tests.harness import eventually


async def test_return_after_the_window_is_told_once(start_server: StartServer) -> None:
    """What has gone out of the history is told as a gap, before anything live, and never twice."""
    node = await start_server(**SETTINGS, BELLHOP_HISTORY_S="1")
    place, quiet = Place(), Place()
    quiet.hotel = place.hotel
    quiet.name = f"lobby-{uuid.uuid4().hex[:8]}"
    device = Device(place)
    async with device.subscribed(node) as before:
        await before.subscribe(quiet.channel)
        await dropped(node, before)
    await place.publish(node)
    async with node.redis() as client:
        await eventually(lambda: _is_gone(client, f"bellhop:{{1:{place.channel}}}:log"))
    await place.publish(node)
    async with device.subscribed(node) as after:
        await after.subscribe(quiet.channel)
        await place.publish(node)
        told = await place.last_of(after)
        assert told[-2:] == [2, 3]
        assert place.gaps(after) == ["window_exceeded"]
        assert quiet.gaps(after) == []
        names = [frame["event"] for frame in after.frames]
        assert names.index("bellhop:gap") < names.index("room_updated")
        # Told again until the client has proven that it was told.
        await proves(after)
        await dropped(node, after)
    async with device.subscribed(node) as again:
        await place.publish(node)
        await place.last_of(again)
        assert place.gaps(again) == []


async def _is_gone(client: redis.asyncio.Redis, key: str) -> bool:
    return await client.exists(key) == 0


async def test_more_events_than_are_kept_is_a_gap(start_server: StartServer) -> None:
    """The oldest have made room for the newest."""
    node = await start_server(**SETTINGS, BELLHOP_HISTORY_EVENTS="100")
    place = Place()
    device = Device(place)
    async with device.subscribed(node) as before:
        await dropped(node, before)
    await place.publish(node, 300)
    async with device.subscribed(node) as after:
        told = await place.last_of(after)
        assert place.gaps(after) == ["window_exceeded"]
        assert told == place.since(told[0])
        assert 1 < told[0] <= 201


async def test_history_that_redis_has_lost_is_told(start_server: StartServer) -> None:
    """Events are gone with the number that the channel had: another epoch, or none yet."""
    for published, reason in ((0, "history_lost"), (1, "epoch_changed")):
        node = await start_server(**SETTINGS)
        place = Place()
        device = Device(place)
        async with device.subscribed(node) as before:
            await place.publish(node)
            await place.last_of(before)
            await dropped(node, before)
        async with device.subscribed(node) as between:
            await place.last_of(between)
            await dropped(node, between)
        async with node.redis() as client:
            async for key in client.scan_iter(match=f"bellhop:{{1:{place.channel}}}*"):
                await client.delete(key)
        await place.publish(node, published)
        async with device.subscribed(node) as after:
            await place.publish(node)
            await place.last_of(after)
            assert place.gaps(after) == [reason]


async def test_redis_that_has_lost_everything_leaves_no_silence(
    start_server: StartServer,
) -> None:
    """Clients that lived through it and are lost later are still known when they come back."""
    node = await start_server(**SETTINGS)
    place = Place()
    device = Device(place)
    async with device.subscribed(node) as before:
        await place.publish(node)
        await place.last_of(before)
        async with node.redis() as client:
            await client.flushall()
            # The node notices with its next heartbeat.
            await eventually(lambda: client.keys("bellhop:session:*"))
        await dropped(node, before)
    await place.publish(node)
    async with device.subscribed(node) as after:
        await place.publish(node)
        told = await place.last_of(after)
    assert 2 in told or place.gaps(after)


# --- aware clients -------------------------------------------------------------------------------


async def test_client_names_the_point_itself(nodes: Nodes, place: Place) -> None:
    """`bellhop:resume` before the subscribe: everything after that number, and no more."""
    await place.publish(nodes[0])
    async with Device(place).subscribed(nodes[0]) as before:
        await place.publish(nodes[0])
        await place.last_of(before)
        meta = before.frames[-1]["data"]["meta"]
    await place.publish(nodes[0], 2)
    point = {"channel": place.channel, "epoch": meta["epoch"], "sequence": meta["sequence"]}
    async with Device(place).client(nodes[1]) as after:
        await after.send("bellhop:resume", point)
        assert (await after.until("bellhop:resume:ok"))["data"] == {"channel": place.channel}
        await after.subscribe(place.channel)
        await place.publish(nodes[0])
        assert await place.last_of(after) == [3, 4, 5]
        assert place.gaps(after) == []
        await after.send("bellhop:resume", point)
        refused = (await after.until("bellhop:resume:error"))["data"]
        assert refused == {
            "channel": place.channel,
            "error": "the channel is subscribed to already",
        }


@pytest.mark.parametrize(
    "epoch, published, reason", [("other", 1, "epoch_changed"), ("other", 0, "history_lost")]
)
async def test_point_of_another_time_is_a_gap(
    nodes: Nodes, place: Place, epoch: str, published: int, reason: str
) -> None:
    """All that is there follows, for nobody can say what is new."""
    await place.publish(nodes[0], published)
    async with Device(place).client(nodes[0]) as client:
        point = {"channel": place.channel, "epoch": epoch, "sequence": 5}
        await client.send("bellhop:resume", point)
        await client.subscribe(place.channel)
        await place.publish(nodes[0])
        assert await place.last_of(client) == place.since(1)
        assert place.gaps(client) == [reason]
        frame = next(frame for frame in client.frames if frame["event"] == "bellhop:gap")
        assert json.dumps(frame["data"]["since"]) == "null"
