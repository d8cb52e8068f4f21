"""Rosters are one over all nodes: who is there, who comes, who goes."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from auth.apps import App
from auth.channel_auth import sign_channel
from tests.broker.pair import MEMBERS, Pair, added, enter, new_channel, removed, sign_in, signed
from tests.conftest import StartServer
from tests.harness import APP_ID, APP_KEY, APP_SECRET, Server, eventually, new_hotel


def presence() -> str:
    """Return the name of a presence channel of the test's own."""
    return new_channel("presence-")


async def test_members_come_and_go_once_over_sockets_and_nodes(pair: Pair) -> None:
    """A user is there from the first socket to the last; nobody is told of himself."""
    one, two = pair.nodes
    channel = presence()
    async with one.client() as watcher:
        assert await enter(one, watcher, channel, "w") == {"w": None}
        async with one.client() as first:
            assert await enter(one, first, channel, "u", {"name": "Zoë"}) == {
                "w": None,
                "u": {"name": "Zoë"},
            }
            assert await pair.before_fence(first, channel) == []
            async with two.client() as second, one.client() as third:
                for node, client in ((two, second), (one, third)):
                    # Whom the first socket brought is the member; others bring nothing new.
                    assert await enter(node, client, channel, "u", {"name": "Z."}) == {
                        "w": None,
                        "u": {"name": "Zoë"},
                    }
                    assert await pair.before_fence(client, channel) == []
                await first.socket.close()
                await third.send("pusher:unsubscribe", {"channel": channel})
                await third.quiet()
                # One socket is still there.
                assert await pair.before_fence(watcher, channel) == [added("u", {"name": "Zoë"})]
        await _until_told(watcher, removed("u"))
        async with two.client() as other:
            await enter(two, other, channel, "o")
            await other.send("pusher:unsubscribe", {"channel": channel})
            await other.quiet()
            assert await pair.before_fence(watcher, channel) == [added("o"), removed("o")]


async def test_member_that_left_is_told_nothing_more(pair: Pair) -> None:
    """Neither of his own going, nor of who comes afterwards."""
    one, two = pair.nodes
    channel = presence()
    async with one.client() as leaver, two.client() as stays, two.client() as comes:
        await enter(one, leaver, channel, "l")
        await enter(two, stays, channel, "s")
        assert await leaver.next() == {
            "event": "pusher_internal:member_added",
            "channel": channel,
            "data": {"user_id": "s", "user_info": None},
        }
        await leaver.send("pusher:unsubscribe", {"channel": channel})
        await leaver.quiet()
        assert (await stays.next())["event"] == removed("l")[0]
        assert await enter(two, comes, channel, "c") == {"s": None, "c": None}
        assert await pair.before_fence(stays, channel) == [added("c")]
        await leaver.quiet()
        # Come again, he is new, and finds those who are there.
        assert await enter(one, leaver, channel, "l") == {"s": None, "c": None, "l": None}
        assert await pair.before_fence(stays, channel) == [added("l")]


async def test_repeated_subscribe_gets_the_roster_of_now(pair: Pair) -> None:
    """Idempotent: nobody is told anything, and the socket counts once."""
    one, two = pair.nodes
    channel = presence()
    async with one.client() as first, two.client() as second:
        await enter(one, first, channel, "1")
        await enter(two, second, channel, "2")
        await first.until("pusher_internal:member_added")
        assert await enter(one, first, channel, "1") == {"1": None, "2": None}
        assert await pair.before_fence(second, channel) == []
        await first.send("pusher:unsubscribe", {"channel": channel})
        assert await second.until("pusher_internal:member_removed")


async def test_roster_is_bounded(pair: Pair) -> None:
    """One more is refused and told why; another socket of a member is not; places come free."""
    one, two = pair.nodes
    channel = presence()
    async with one.client() as late, two.client() as twin, AsyncExitStack() as stack:
        clients = [
            (node, await stack.enter_async_context(node.client()))
            for node in (one, two) * (MEMBERS // 2)
        ]
        for number, (node, client) in enumerate(clients):
            await enter(node, client, channel, f"u{number}")
        auth = signed(one, late, channel, "late")
        assert await late.refused(channel, **auth) == {
            "type": "AuthError",
            "error": "the presence channel is full",
            "status": 403,
        }
        assert len(await enter(two, twin, channel, "u0")) == MEMBERS
        (_, last) = clients[-1]
        assert await pair.before_fence(last, channel) == []
        await last.socket.close()
        await _until_told(twin, removed(f"u{MEMBERS - 1}"))
        assert "late" in await enter(one, late, channel, "late")
        assert await pair.before_fence(twin, channel) == [added("late")]


async def _until_told(client: Any, news: tuple[str, dict[str, Any]]) -> None:
    while (frame := await client.next())["event"] != news[0] or frame["data"] != news[1]:
        pass


@pytest.mark.parametrize(
    "user_id, info, reason",
    [
        ("1", "x" * 1_023, "user_info exceeds 1024 bytes"),
        ("x" * 129, None, "user_id in channel_data is longer than 128 characters"),
    ],
)
async def test_member_is_bounded(pair: Pair, user_id: str, info: Any, reason: str) -> None:
    """Refused where it is too much for the others; one byte less is not."""
    node, channel = pair.nodes[0], presence()
    async with node.client() as client:
        auth = signed(node, client, channel, user_id, info)
        refused = await client.refused(channel, **auth)
        assert (refused["status"], refused["error"]) == (403, reason)
        less = info[:-1] if info else None
        assert await enter(node, client, channel, user_id[:128], less) == {user_id[:128]: less}


async def test_numeric_user_id_is_a_string_to_everybody(pair: Pair) -> None:
    """12 and "12" are one member, and Swift reads strings alone."""
    one, two = pair.nodes
    channel = presence()
    async with one.client() as number, two.client() as text, two.client() as watcher:
        await enter(two, watcher, channel, "w")
        assert "12" in await enter(one, number, channel, 12)
        await enter(two, text, channel, "12")
        assert await pair.before_fence(watcher, channel) == [added("12")]


async def test_signed_in_user_is_a_member_without_channel_data(pair: Pair) -> None:
    """pusher-js sends auth alone after a signin: who it is, the signin said."""
    one, two = pair.nodes
    channel = presence()
    async with one.client() as watcher, two.client() as client:
        await enter(one, watcher, channel, "w")
        await sign_in(two, client, {"id": "7", "user_info": {"name": "Ann"}})
        # The released library signs no presence channel without a member.
        auth = sign_channel(App(APP_ID, APP_KEY, APP_SECRET), client.socket_id, channel, None)
        roster = (await client.subscribe(channel, auth=auth))["data"]["presence"]
        assert roster["hash"] == {"w": None, "7": {"name": "Ann"}}
        assert await pair.before_fence(watcher, channel) == [added("7", {"name": "Ann"})]


async def test_staff_are_on_their_hotels_roster_under_their_tokens_name(server: Server) -> None:
    """In the contract a token is enough; roster and news carry the name in it."""
    hotel = new_hotel()
    channel = f"presence-{hotel}.front-desk"
    async with (
        server.staff(hotels=[hotel], name="Ann", sub="a") as ann,
        server.staff(hotels=[hotel], name="Zoë", sub="z") as zoe,
    ):
        await ann.subscribe(channel)
        frame = await zoe.subscribe(channel)
        assert frame["data"]["presence"]["hash"] == {"a": {"name": "Ann"}, "z": {"name": "Zoë"}}
        told = await ann.next()
        assert (told["event"], told["data"]) == added("z", {"name": "Zoë"})


async def test_node_that_drains_takes_its_members_along(
    pair: Pair, start_server: StartServer
) -> None:
    """A stopping node tells Redis before it goes: nobody waits for its heartbeat to stop."""
    one, channel = pair.nodes[0], presence()
    leaving = await start_server(*pair.arguments, **pair.settings, BELLHOP_DRAIN_S="0")
    async with one.client() as watcher, leaving.client() as client:
        await enter(one, watcher, channel, "w")
        await enter(leaving, client, channel, "m")
        await watcher.until("pusher_internal:member_added")
        leaving.end()
        assert await pair.before_fence(watcher, channel) == [removed("m")]
    async with pair.nodes[0].redis() as redis:
        assert len(await redis.zrange(f"{pair.prefix}nodes", 0, -1)) == 2
        assert not [key async for key in redis.scan_iter(f"{pair.prefix}*{leaving.port}*")]


@pytest.mark.parametrize("kind", ["", "presence-"])
async def test_subscribe_that_is_taken_back_at_once_leaves_no_trace(pair: Pair, kind: str) -> None:
    """Both in one piece, where the node listens already: nothing counts afterwards."""
    node, channel = pair.nodes[0], new_channel(kind)
    key = f"{pair.prefix}{{1:{channel}}}"
    async with node.client() as there, node.redis() as redis:
        if kind:
            await enter(node, there, channel, "t")
        else:
            await there.subscribe(channel)
        async with node.client() as client:
            auth: dict[str, Any] = signed(node, client, channel, "c") if kind else {}
            for _ in range(3):
                for event, more in (("subscribe", auth), ("unsubscribe", {})):
                    message = {"event": f"pusher:{event}", "data": {"channel": channel, **more}}
                    await client.socket.send(json.dumps(message))
            await there.send("pusher:unsubscribe", {"channel": channel})

        async def gone() -> bool:
            names = [f"{key}:{part}" for part in ("sockets", "members", "holders")]
            return not await redis.exists(*names)

        await eventually(gone)
        held: Any = [
            await redis.hkeys(name)
            async for name in redis.scan_iter(f"{pair.prefix}node:*:channels")
        ]
        assert not [name for names in held for name in names if channel.encode() in name]
