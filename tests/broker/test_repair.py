"""A node that was cut off from the bus brings its clients what they missed, or tells them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.broker.returns import Device, Place
from tests.conftest import StartServer
from tests.harness import Client, Server, eventually
from tests.transports.cut import Wire, wire_to


async def kill_listening(node: Server) -> None:
    """End every connection on which a node hears the bus."""
    async with node.redis() as client:
        await client.client_kill_filter(_type="pubsub")


async def rejoined(node: Server, lost: int) -> bool:
    """Whether a node has lost the bus so often, and listens again."""
    return len(node.log_events("broker.lost")) >= lost and len(
        node.log_events("broker.connected")
    ) > len(node.log_events("broker.lost"))


async def test_subscribers_get_everything_once_when_the_bus_is_cut(
    start_server: StartServer, place: Place
) -> None:
    """In order, whatever was published while the node was deaf; and again, the next time."""
    node = await start_server()
    stop = asyncio.Event()
    async with (
        Device(place).subscribed(node) as client,
        Device(place).subscribed(node) as other,
    ):
        publishing = asyncio.create_task(place.publish_on(node, stop))
        try:
            for lost in (1, 2, 3):
                await kill_listening(node)
                await eventually(partial(rejoined, node, lost))
        finally:
            stop.set()
            await publishing
        for each in (client, other):
            assert await place.last_of(each) == place.since(1)
            assert place.gaps(each) == []
            await each.quiet()


@pytest.fixture
async def cut_off(start_server: StartServer) -> AsyncIterator[tuple[Server, Server, Wire]]:
    """A node, and another one whose wire to Redis can be cut."""
    here = await start_server()
    async with wire_to(here.port + 1) as wire:
        there = await start_server(REDIS_URL=f"redis://127.0.0.1:{wire.port}/0")
        yield here, there, wire
        there.end()


async def test_what_other_nodes_publish_meanwhile_is_brought(
    cut_off: tuple[Server, Server, Wire], place: Place
) -> None:
    """The node hears nothing and can ask nobody; its clients miss nothing all the same."""
    here, there, wire = cut_off
    async with Device(place).subscribed(there) as client:
        await place.publish(here, 2)
        await place.last_of(client)
        wire.cut()
        await place.publish(here, 20)
        await client.quiet()
        wire.mend()
        assert await place.last_of(client) == place.since(1)
        await place.publish(here)
        assert await place.last_of(client) == place.since(1)
        assert place.gaps(client) == []


async def test_newcomer_during_the_outage_costs_nobody_an_event(
    cut_off: tuple[Server, Server, Wire], place: Place
) -> None:
    """Whoever subscribes meanwhile waits; those who were there get what came before it."""
    here, there, wire = cut_off
    async with (
        Device(place).subscribed(there) as client,
        Device(place).client(there) as newcomer,
    ):
        wire.cut()
        await place.publish(here, 5)
        await newcomer.send("pusher:subscribe", {"channel": place.channel})
        await newcomer.quiet()
        wire.mend()
        await newcomer.until("pusher_internal:subscription_succeeded")
        await place.publish(here)
        assert await place.last_of(client) == place.since(1)
        assert (await place.last_of(newcomer))[-1] == place.published


async def test_members_that_came_and_went_meanwhile_are_told(
    cut_off: tuple[Server, Server, Wire],
) -> None:
    """Presence subscribers get a fresh roster: who is there now."""
    here, there, wire = cut_off
    place = Place()
    channel = f"presence-{place.hotel}.rooms"

    async def enter(node: Server, client: Client, user: str) -> list[str]:
        said = {"user_id": user, "user_info": {}}
        signed = node.pusher().authenticate(channel, client.socket_id, said)
        frame = await client.subscribe(channel, **signed)
        return sorted(frame["data"]["presence"]["ids"])

    first, second = (f"user-{uuid.uuid4().hex[:6]}" for _ in range(2))
    async with there.client() as stays, here.client() as comes:
        await enter(there, stays, "stays")
        async with here.client() as goes:
            assert await enter(here, goes, first) == [*sorted(["stays", first])]
            await stays.until("pusher_internal:member_added")
            wire.cut()
        await enter(here, comes, second)
        wire.mend()
        frame = await stays.until("pusher_internal:subscription_succeeded")
        assert sorted(frame["data"]["presence"]["ids"]) == sorted(["stays", second])


async def test_gap_is_told_when_the_history_is_gone(
    cut_off: tuple[Server, Server, Wire], place: Place
) -> None:
    """Redis has lost the channel while the node was cut off: before the first live event."""
    here, there, wire = cut_off
    async with Device(place).subscribed(there) as client:
        await place.publish(here)
        await place.last_of(client)
        wire.cut()
        await place.publish(here, 2)
        async with here.redis() as redis:
            async for key in redis.scan_iter(match=f"bellhop:{{1:{place.channel}}}*"):
                await redis.delete(key)
        wire.mend()
        gap = await client.until("bellhop:gap")
        assert gap["data"]["reason"] == "history_lost"
        assert gap["data"]["since"].endswith("Z")
        await place.publish(here)
        assert await place.last_of(client) == [1, 4]
        assert len(place.gaps(client)) == 1


async def test_subscriber_without_events_meanwhile_is_told_nothing(
    cut_off: tuple[Server, Server, Wire], place: Place
) -> None:
    """No gap where nothing can have been missed."""
    here, there, wire = cut_off
    async with Device(place).subscribed(there) as client:
        await place.publish(here)
        await place.last_of(client)
        wire.cut()
        await client.quiet()
        wire.mend()
        await there.wait_until_ready()
        await place.publish(here)
        assert await place.last_of(client) == [1, 2]
        await client.quiet()
        assert place.gaps(client) == []
