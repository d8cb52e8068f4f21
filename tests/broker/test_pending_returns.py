"""What is published while a return is still being looked into: once, in its place, never lost."""

from __future__ import annotations

import uuid

import pytest

from tests.broker.pair import signed
from tests.broker.returns import SETTINGS, Device, Nodes, Place, drop, dropped
from tests.conftest import StartServer
from tests.harness import Client, Server, eventually


async def entered(node: Server, place: Place, sockets: int) -> None:
    """Await that so many sockets of all nodes have entered the channel."""
    prefix = node.environment.get("BELLHOP_REDIS_PREFIX", "bellhop:")
    async with node.redis() as redis:

        async def counted() -> bool:
            counts = await redis.hvals(f"{prefix}{{1:{place.channel}}}:sockets")
            return sum(map(int, counts)) == sockets

        await eventually(counted)


def beside(place: Place) -> Place:
    """Return a channel outside the contract that no other test speaks of."""
    return Place(place.hotel, name=f"lobby-{uuid.uuid4().hex[:8]}")


async def ask_for(client: Client, *places: Place) -> None:
    """Subscribe, and do not wait for what comes of it."""
    for place in places:
        await client.send("pusher:subscribe", {"channel": place.channel})


@pytest.mark.parametrize("back", [0, 1], ids=["same node", "other node"])
@pytest.mark.parametrize("before", [0, 1], ids=["fresh", "with a past"])
async def test_what_is_published_while_a_predecessor_is_asked_comes_once(
    nodes: Nodes, place: Place, back: int, before: int
) -> None:
    """Whether the channel had carried anything before or not: it has no epoch until then."""
    places = (place, beside(place))
    device = Device(place, instance=None)
    async with device.client(nodes[0]) as half_open:
        for each in places:
            await half_open.subscribe(each.channel)
            await each.publish(nodes[0], before)
        # It reads nothing from now on, and answers no ping.
        async with device.client(nodes[back]) as after:
            await ask_for(after, *places)
            for each in places:
                await entered(nodes[0], each, 2)
                await each.publish(nodes[0], 3)
            for each in places:
                await each.last_of(after)
            for each in places:
                await each.publish(nodes[1])
                assert await each.last_of(after) == each.since(1)
                assert each.gaps(after) == []
        drop(half_open)


async def test_channel_that_is_numbered_anew_meanwhile_is_told_as_a_gap(nodes: Nodes) -> None:
    """Redis has lost what was missed, and what came since comes once."""
    place = beside(Place())
    device = Device(place, instance=None)
    async with device.subscribed(nodes[0]) as half_open:
        await place.publish(nodes[0])
        async with device.client(nodes[0]) as after:
            await ask_for(after, place)
            await entered(nodes[0], place, 2)
            await forget(nodes[0], place)
            await place.publish(nodes[0], 2)
            await place.last_of(after)
            await place.publish(nodes[0])
            assert await place.last_of(after) == place.since(2)
            assert place.gaps(after) == ["epoch_changed"]
        drop(half_open)


async def forget(node: Server, place: Place) -> None:
    """Have Redis lose the channel's number and history, and what was seen there."""
    prefix = node.environment["BELLHOP_REDIS_PREFIX"]
    base = f"{prefix}{{1:{place.channel}}}"
    async with node.redis() as redis:
        assert await redis.delete(base, f"{base}:log") == 2


async def test_return_after_the_window_has_missed_nothing_that_came_after_it(
    start_server: StartServer,
) -> None:
    """What is published while its predecessor is asked is live: it is no gap."""
    node = await start_server(**SETTINGS, BELLHOP_HISTORY_S="1")
    place = beside(Place())
    device = Device(place, instance=None)
    await place.publish(node)
    async with device.subscribed(node) as half_open:
        async with device.client(node) as after:
            await ask_for(after, place)
            await entered(node, place, 2)
            await place.publish(node)
            assert await place.last_of(after) == [2]
            assert place.gaps(after) == []
        drop(half_open)


async def test_member_that_asks_again_who_is_there_has_proven_nothing(
    nodes: Nodes, place: Place
) -> None:
    """What it was sent before may not have arrived: it is no new entrance."""
    place.name = f"presence-lobby-{uuid.uuid4().hex[:8]}"
    device = Device(place)
    async with device.client(nodes[0]) as before:
        signature = signed(nodes[0], before, place.channel, device.sub)
        await before.subscribe(place.channel, **signature)
        await place.publish(nodes[0], 2)
        await place.last_of(before)
        await before.subscribe(place.channel, **signature)
        await dropped(nodes[0], before)
    async with device.client(nodes[1]) as after:
        await after.subscribe(place.channel, **signed(nodes[1], after, place.channel, device.sub))
        await place.publish(nodes[0])
        assert await place.last_of(after) == [1, 2, 3]
