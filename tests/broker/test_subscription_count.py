"""Subscribers are told how many they are, where their app wants that."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from tests.broker.pair import COUNTED, Pair, client_of, new_channel
from tests.harness import Client

COUNT: Final = "pusher_internal:subscription_count"
MANY: Final = 100
"""From here on changes are told every five seconds."""


async def told(client: Client) -> int:
    """Return the figure of the next frame, which tells one."""
    frame = await client.next()
    assert frame["event"] == COUNT, frame
    count: int = frame["data"]["subscription_count"]
    return count


async def test_count_is_told_at_each_change_on_any_node(pair: Pair) -> None:
    """To those who are there, and to whoever comes, over all nodes."""
    one, two = pair.nodes
    channel, key = new_channel(), COUNTED["key"]
    async with client_of(one, key) as first, client_of(two, key) as second:
        await first.subscribe(channel)
        assert await told(first) == 1
        await second.subscribe(channel)
        assert [await told(first), await told(second)] == [2, 2]
        await second.subscribe(channel)
        async with client_of(two, key) as third:
            await third.subscribe(channel)
            assert [await told(each) for each in (first, second, third)] == [3, 3, 3]
        assert [await told(first), await told(second)] == [2, 2]
        await first.send("pusher:unsubscribe", {"channel": channel})
        assert await told(second) == 1
        await first.quiet()


async def test_count_is_not_told_on_presence_or_elsewhere(pair: Pair) -> None:
    """A roster has its own; an app that did not ask for it is not told."""
    node = pair.nodes[0]
    channel = new_channel("presence-")
    async with client_of(node, COUNTED["key"]) as member, node.client() as plain:
        auth = node.pusher(**COUNTED).authenticate(channel, member.socket_id, {"user_id": "u"})
        await member.subscribe(channel, **auth)
        assert await pair.before_fence(member, channel, **COUNTED) == []
        public = new_channel()
        await plain.subscribe(public)
        assert await pair.before_fence(plain, public) == []


async def test_large_channels_are_told_every_five_seconds(pair: Pair) -> None:
    """Not of each change any more; but of the last one, in the end."""
    one, two = pair.nodes
    channel, key = new_channel(), COUNTED["key"]
    async with AsyncExitStack() as stack:
        clients = await asyncio.gather(
            *(
                stack.enter_async_context(client_of(node, key))
                for node in (one, two)
                for _ in range(MANY // 2)
            )
        )
        await asyncio.gather(*(client.subscribe(channel) for client in clients))
        first = clients[0]
        while await told(first) < MANY:
            pass
        crowd = await asyncio.gather(
            *(stack.enter_async_context(client_of(one, key)) for _ in range(20))
        )
        seen: list[int] = []
        for client in crowd:
            await client.subscribe(channel)
        while not seen or seen[-1] < MANY + len(crowd):
            seen.append(await told(first))
        assert seen == sorted(seen)
        assert len(seen) < 5
