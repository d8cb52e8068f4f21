"""A node that is killed, and a Redis that forgets: rosters and figures come right by themselves."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

from server.broker.embedded import EmbeddedValkey
from tests.broker.pair import (
    COUNTED,
    Pair,
    added,
    client_of,
    enter,
    new_channel,
    removed,
    sign_in,
)
from tests.conftest import StartServer
from tests.harness import Client, Server, eventually, free_port_pair

SWEPT_WITHIN_S = 15.0


async def until(client: Client, event: str, data: Any) -> None:
    """Pass over frames until one says this."""
    while (frame := await client.next())["event"] != event or frame["data"] != data:
        pass


async def sees_gone(client: Client, user_id: str) -> None:
    """Pass over frames until the client is told that a user has left, or who is there instead.

    A node that was deaf meanwhile has the roster anew, and news of it only from then on.
    """
    while True:
        frame = await client.next()
        news = frame["event"], frame["data"]
        roster = frame["data"].get("presence") if isinstance(frame["data"], dict) else None
        if news == removed(user_id) or (roster is not None and user_id not in roster["ids"]):
            return


def count(number: int) -> tuple[str, dict[str, int]]:
    """Return the news of a subscription count."""
    return "pusher_internal:subscription_count", {"subscription_count": number}


async def occupancy(server: Server, channel: str, *what: str) -> dict[str, Any]:
    """Ask the HTTP API of a channel, by the released library."""
    answer: dict[str, Any] = await asyncio.to_thread(server.pusher().channel_info, channel, what)
    return answer


async def test_killed_node_is_swept_once(pair: Pair, start_server: StartServer) -> None:
    """Its members go once, its users go offline, its sockets count no more; all within 15 s."""
    one, two = pair.nodes
    roster, plain, alone = new_channel("presence-"), new_channel(), new_channel()
    counted, ann = new_channel(), new_channel("u-")
    victim = await start_server(*pair.arguments, **pair.settings)
    async with AsyncExitStack() as stack:
        watcher, twin, counts = [
            await stack.enter_async_context(each)
            for each in (one.client(), two.client(), client_of(two, COUNTED["key"]))
        ]
        dying = [await stack.enter_async_context(victim.client()) for _ in range(3)]
        await sign_in(one, watcher, {"id": new_channel("u-"), "watchlist": [ann]})
        await enter(one, watcher, roster, "w")
        await enter(two, twin, roster, "b")
        for client, user_id in zip(dying, ("b", "c", "c"), strict=True):
            await enter(victim, client, roster, user_id)
            await client.subscribe(plain)
        await dying[0].subscribe(alone)
        await sign_in(victim, dying[0], {"id": ann})
        await watcher.subscribe(plain)
        await counts.subscribe(counted)
        lost = await stack.enter_async_context(client_of(victim, COUNTED["key"]))
        await lost.subscribe(counted)
        await until(counts, *count(2))
        assert (await occupancy(one, plain, "subscription_count"))["subscription_count"] == 4
        before = time.monotonic()
        victim.end(signal.SIGKILL)
        await until(watcher, *removed("c"))
        await until(counts, *count(1))
        assert time.monotonic() - before < SWEPT_WITHIN_S
        offline = {"events": [{"name": "offline", "user_ids": [ann]}]}
        news = await pair.before_fence(watcher, roster)
        if ("pusher_internal:watchlist_events", offline) not in news:
            await until(watcher, "pusher_internal:watchlist_events", offline)
        # Exactly once, whichever node swept; and who is still there is still there.
        assert removed("c") not in news
        assert removed("b") not in news
        assert await pair.before_fence(twin, roster) == [added("c"), removed("c")]
        info = await occupancy(two, roster, "user_count")
        assert info["user_count"] == 2
        assert (await occupancy(two, plain, "subscription_count"))["subscription_count"] == 1
        assert (await occupancy(two, alone))["occupied"] is False
        async with one.redis() as redis:
            await eventually(lambda: _buried(redis, pair.prefix))


async def _buried(redis: Any, prefix: str) -> bool:
    """Whether nothing is left of any but the two nodes of the pair."""
    living = {node.decode() for node in await redis.zrange(f"{prefix}nodes", 0, -1)}
    named = {
        key.decode().removeprefix(prefix).split(":")[1]
        async for key in redis.scan_iter(f"{prefix}node:*")
    }
    return len(living) == 2 and named <= living


async def test_rosters_are_told_anew_when_redis_has_forgotten_them(
    pair: Pair, start_server: StartServer
) -> None:
    """Nobody is disconnected; who left meanwhile is seen to go, and newcomers find who is there."""
    port, channel, plain = free_port_pair(), new_channel("presence-"), new_channel()
    settings = {**pair.settings, "REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    async with AsyncExitStack() as stack:
        async with EmbeddedValkey(port):
            one = await start_server(*pair.arguments, **settings)
            two = await start_server(*pair.arguments, **settings)
            ann, bob, leaver = [
                await stack.enter_async_context(node.client()) for node in (one, two, two)
            ]
            await ann.subscribe(plain)
            await sign_in(two, bob, {"id": "bob"})
            await enter(one, ann, channel, "ann")
            await enter(two, bob, channel, "bob")
            await enter(two, leaver, channel, "leaver")
            await until(ann, *added("leaver"))
            await until(bob, *added("leaver"))
        await eventually(lambda: _not_ready(one))
        await eventually(lambda: _not_ready(two))
        await leaver.socket.close()
        async with EmbeddedValkey(port):
            for node in (one, two):
                await node.wait_until_ready()
            await sees_gone(ann, "leaver")
            await sees_gone(bob, "leaver")
            newcomer = await stack.enter_async_context(one.client())
            members = await enter(one, newcomer, channel, "new")
            await eventually(lambda: _users(two, channel, {"ann", "bob", "new"}))
            assert members.keys() <= {"ann", "bob", "new"}
            for client in (ann, bob):
                await until(client, *added("new"))
            await eventually(lambda: _count(one, plain, 1))
            watcher = await stack.enter_async_context(one.client())
            await sign_in(one, watcher, {"id": "watcher", "watchlist": ["bob"]})
            frame = await watcher.next()
            assert frame["data"]["events"] == [{"name": "online", "user_ids": ["bob"]}]
            await bob.socket.close()
            await until(ann, *removed("bob"))
            for node in (one, two):
                assert await asyncio.to_thread(node.end) == 0


async def _not_ready(server: Server) -> bool:
    return bool(server.log_events("broker.lost"))


async def _users(server: Server, channel: str, users: set[str]) -> bool:
    answer = await asyncio.to_thread(server.pusher().users_info, channel)
    return {user["id"] for user in answer["users"]} == users


async def _count(server: Server, channel: str, number: int) -> bool:
    answer = await occupancy(server, channel, "subscription_count")
    return bool(answer["subscription_count"] == number)


async def test_subscribers_that_come_while_redis_is_away_are_let_in_afterwards(
    pair: Pair, start_server: StartServer
) -> None:
    """Rosters too; and who gave up meanwhile is nowhere."""
    port, channel = free_port_pair(), new_channel("presence-")
    settings = {**pair.settings, "REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    async with EmbeddedValkey(port):
        node = await start_server(*pair.arguments, **settings)
    await eventually(lambda: _not_ready(node))
    async with node.client() as waits, node.client() as leaves, node.client() as closes:
        for client, user_id in ((waits, "w"), (leaves, "l"), (closes, "c")):
            auth = node.pusher().authenticate(channel, client.socket_id, {"user_id": user_id})
            await client.send("pusher:subscribe", {"channel": channel, **auth})
            await client.quiet()
        await leaves.send("pusher:unsubscribe", {"channel": channel})
        await leaves.quiet()
        await closes.socket.close()
        async with EmbeddedValkey(port):
            frame = await waits.until("pusher_internal:subscription_succeeded")
            assert frame["data"]["presence"]["ids"] == ["w"]
            await eventually(lambda: _users(node, channel, {"w"}))
            await leaves.quiet()
            assert await asyncio.to_thread(node.end) == 0
