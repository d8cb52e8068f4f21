"""Cache channels remember their last event, for whoever subscribes on any node."""

from __future__ import annotations

import json
from typing import Any

import pytest

from channels_spec.pusher import CACHE_S
from tests.broker.pair import Pair, enter, new_channel, signed
from tests.harness import Client, Server

KINDS = ("cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-")


async def subscribe(node: Server, client: Client, channel: str) -> dict[str, Any]:
    """Subscribe, signed where the kind needs it, and return the frame after the success."""
    if channel.startswith("presence-"):
        await enter(node, client, channel, "u")
    elif channel.startswith("private-"):
        await client.subscribe(channel, **_auth(node, client, channel))
    else:
        await client.subscribe(channel)
    return await client.next()


def _auth(node: Server, client: Client, channel: str) -> dict[str, Any]:
    name = channel.replace("private-encrypted-", "private-")
    if name == channel:
        return signed(node, client, channel)
    keyed = node.pusher(encryption_master_key_base64="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    auth: str = keyed.authenticate(channel, client.socket_id)["auth"]
    return {"auth": auth}


@pytest.mark.parametrize("kind", KINDS)
async def test_cache_channel_tells_its_last_event_or_a_miss(pair: Pair, kind: str) -> None:
    """At once after the success; the last one wins, wherever it was triggered."""
    one, two = pair.nodes
    channel = new_channel(kind)
    async with one.client() as first, two.client() as second, one.client() as third:
        assert await subscribe(one, first, channel) == {
            "event": "pusher:cache_miss",
            "channel": channel,
            "data": {},
        }
        for data in ("old", "new"):
            message = json.dumps({"event": "changed", "data": data})
            async with one.redis() as redis:
                await redis.publish(f"{pair.prefix}publish:{channel}", message)
            assert (await first.until("changed"))["data"] == data
        for node, client in ((two, second), (one, third)):
            assert await subscribe(node, client, channel) == {
                "event": "changed",
                "channel": channel,
                "data": "new",
            }
            # Asked again on the same socket, it is not told again.
            await client.quiet()


async def test_cached_event_is_forgotten_after_half_an_hour(pair: Pair) -> None:
    """By Redis itself; a miss is told from then on."""
    node, channel = pair.nodes[0], new_channel("cache-")
    await pair.trigger(channel, "changed", "x")
    key = f"{pair.prefix}{{1:{channel}}}:cache"
    async with node.redis() as redis, node.client() as client:
        assert CACHE_S - 60 < await redis.ttl(key) <= CACHE_S
        await redis.delete(key)
        assert (await subscribe(node, client, channel))["event"] == "pusher:cache_miss"


async def test_damaged_cached_event_is_a_miss(pair: Pair) -> None:
    """What another release may have left there fails nobody's subscribe."""
    node, channel = pair.nodes[0], new_channel("cache-")
    async with node.redis() as redis, node.client() as client:
        await redis.set(f"{pair.prefix}{{1:{channel}}}:cache", b"\xff" * 40)
        assert (await subscribe(node, client, channel))["event"] == "pusher:cache_miss"


async def test_other_channels_remember_nothing(pair: Pair) -> None:
    """The prefix decides, not a word inside the name."""
    node, channel = pair.nodes[0], f"my-{new_channel('cache-')}"
    await pair.trigger(channel, "changed", "x")
    async with node.client() as client, node.redis() as redis:
        await client.subscribe(channel)
        await client.quiet()
        assert not await redis.exists(f"{pair.prefix}{{1:{channel}}}:cache")


async def test_client_events_are_not_cached(pair: Pair) -> None:
    """What clients say to each other is gone when it is said."""
    one, two = pair.nodes
    channel = new_channel("private-cache-")
    async with one.client() as sender, two.client() as hears, one.client() as late:
        for node, client in ((one, sender), (two, hears)):
            assert (await subscribe(node, client, channel))["event"] == "pusher:cache_miss"
        await sender.send("client-x", "hello", channel=channel)
        assert (await hears.next())["event"] == "client-x"
        assert (await subscribe(one, late, channel))["event"] == "pusher:cache_miss"
