"""Signed-in users: what only they get, who watches them, and how a backend ends them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.broker.pair import WATCHED, Pair, new_channel, sign_in
from tests.harness import Client, Server, eventually, token

NEWS = "pusher_internal:watchlist_events"


def user() -> str:
    """Return the id of a user that no other test speaks of."""
    return new_channel("u-")


async def own(node: Server, client: Client, user_id: str) -> None:
    """Sign in and subscribe to one's own channel, as pusher-js does."""
    await sign_in(node, client, {"id": user_id})
    await client.subscribe(f"#server-to-user-{user_id}")


def statuses(frame: dict[str, Any]) -> dict[str, list[str]]:
    """Return the users in news of a watchlist, by what became of them."""
    assert frame["event"] == NEWS, frame
    return {event["name"]: event["user_ids"] for event in frame["data"]["events"]}


# --- server to user ------------------------------------------------------------------------------


async def test_user_gets_what_the_backend_sends_on_every_socket(pair: Pair) -> None:
    """On both nodes, by the released library; nobody else gets it."""
    one, two = pair.nodes
    ann, bob = user(), user()
    async with one.client() as first, two.client() as second, two.client() as other:
        await own(one, first, ann)
        await own(two, second, ann)
        await own(two, other, bob)
        await asyncio.to_thread(one.pusher().send_to_user, ann, "told", "x")
        for client in (first, second):
            frame = await client.next()
            assert frame == {"event": "told", "channel": f"#server-to-user-{ann}", "data": "x"}
            await client.quiet()
        await asyncio.to_thread(two.pusher().send_to_user, bob, "told", "y")
        assert (await other.next())["data"] == "y"


async def test_own_channel_is_refused_to_anybody_else(pair: Pair) -> None:
    """To another user, and to whom nobody knows once it is clear that nobody will."""
    node = pair.nodes[0]
    ann, bob = user(), user()
    async with node.client() as client:
        await sign_in(node, client, {"id": bob})
        refused = await client.refused(f"#server-to-user-{ann}")
        assert (refused["status"], refused["error"]) == (403, "the channel is of another user")


async def test_signin_by_token_makes_a_user_too(pair: Pair) -> None:
    """What looks like a JWT in auth is one."""
    one, two = pair.nodes
    ann = user()
    async with two.client() as client:
        await client.signin(token(ann), ann)
        await client.until("pusher:signin_success")
        await client.subscribe(f"#server-to-user-{ann}")
        await asyncio.to_thread(one.pusher().send_to_user, ann, "told", "x")
        assert (await client.next())["event"] == "told"


# --- watchlists ----------------------------------------------------------------------------------


async def test_watchlist_tells_who_is_online_and_who_changes(pair: Pair) -> None:
    """All at first, then each change once: from the first socket on any node to the last."""
    one, two = pair.nodes
    here, away = user(), user()
    async with two.client() as there:
        await sign_in(two, there, {"id": here})
        async with one.client() as watcher:
            await sign_in(one, watcher, {"id": user(), "watchlist": [here, away]})
            assert statuses(await watcher.next()) == {"online": [here], "offline": [away]}
            async with two.client() as first, one.client() as second:
                await sign_in(two, first, {"id": away})
                assert statuses(await watcher.next()) == {"online": [away]}
                await sign_in(one, second, {"id": away})
                await first.socket.close()
                await sign_in(one, second, {"id": away})
                await watcher.quiet()
            assert statuses(await watcher.next()) == {"offline": [away]}
            await there.socket.close()
            assert statuses(await watcher.next()) == {"offline": [here]}
            await watcher.quiet()


async def test_watchlist_of_a_user_who_watches_himself(pair: Pair) -> None:
    """He is online: he is the one who asks."""
    node, ann = pair.nodes[0], user()
    async with node.client() as client:
        await sign_in(node, client, {"id": ann, "watchlist": [ann]})
        assert statuses(await client.next()) == {"online": [ann]}


async def test_watchlist_that_is_too_long_is_cut(pair: Pair) -> None:
    """Error 4302, and the first ones are watched; the connection goes on."""
    one, two = pair.nodes
    watched = [user() for _ in range(WATCHED + 1)]
    async with one.client() as watcher, two.client() as beyond, two.client() as within:
        await sign_in(one, watcher, {"id": user(), "watchlist": watched})
        error = await watcher.next()
        assert (error["event"], error["data"]["code"]) == ("pusher:error", 4302)
        assert statuses(await watcher.next()) == {"offline": watched[:-1]}
        await sign_in(two, beyond, {"id": watched[-1]})
        await sign_in(two, within, {"id": watched[0]})
        assert statuses(await watcher.next()) == {"online": [watched[0]]}


async def test_watchlist_may_be_changed_by_signing_in_again(pair: Pair) -> None:
    """Who is no longer on it is not told of; who is new on it is."""
    one, two = pair.nodes
    ann, bob, me = user(), user(), user()
    async with one.client() as watcher, two.client() as first, two.client() as second:
        await sign_in(one, watcher, {"id": me, "watchlist": [ann]})
        assert statuses(await watcher.next()) == {"offline": [ann]}
        await sign_in(one, watcher, {"id": me, "watchlist": [bob]})
        assert statuses(await watcher.next()) == {"offline": [bob]}
        await sign_in(two, first, {"id": ann})
        await sign_in(two, second, {"id": bob})
        assert statuses(await watcher.next()) == {"online": [bob]}


async def test_nothing_is_left_of_watchlists_and_users(pair: Pair) -> None:
    """When all have gone, neither a node listens nor a key counts."""
    one, two = pair.nodes
    ann, bob = user(), user()
    bus = f"{pair.prefix}{{1:#server-to-user-{ann}}}:bus"
    online = f"{pair.prefix}{{1:#server-to-user-{ann}}}:online"
    async with one.redis() as redis:
        async with one.client() as watcher, two.client() as client:
            await sign_in(one, watcher, {"id": bob, "watchlist": [ann]})
            await watcher.next()
            await sign_in(two, client, {"id": ann})
            await watcher.next()
            assert await redis.exists(online)

        async def gone() -> bool:
            (_, listeners), *_ = await redis.pubsub_numsub(bus)
            return not listeners and not await redis.exists(online)

        await eventually(gone)


# --- terminate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1])
async def test_backend_ends_a_users_connections_on_all_nodes(pair: Pair, at: int) -> None:
    """4009 with an error before it, so that no client comes back; others stay."""
    one, two = pair.nodes
    ann, bob = user(), user()
    async with (
        one.client() as first,
        two.client() as second,
        two.client(f"/t/{token(ann)}") as by_token,
        two.client() as other,
        one.client() as unknown,
    ):
        await sign_in(one, first, {"id": ann})
        await sign_in(two, second, {"id": ann})
        await sign_in(two, other, {"id": bob})
        await asyncio.to_thread(pair.nodes[at].pusher().terminate_user_connections, ann)
        for client in (first, second, by_token):
            code, before = await client.closed()
            assert code == 4009
            assert [frame["data"]["code"] for frame in before] == [4009]
        await other.quiet()
        await unknown.quiet()


@pytest.mark.parametrize("named", ["by its token", "by its signin"])
async def test_socket_of_two_names_is_ended_by_either(pair: Pair, named: str) -> None:
    """Whom a token names and whom the backend signed in may differ, whichever came first."""
    one, two = pair.nodes
    ann, bob = user(), user()
    async with (
        two.client(f"/t/{token(ann)}") as token_first,
        two.client() as signin_first,
        one.client(f"/t/{token(user())}") as other,
    ):
        for client in (token_first, signin_first):
            await sign_in(two, client, {"id": bob})
        await signin_first.send("bellhop:auth", {"token": token(ann)})
        await signin_first.until("bellhop:authenticated")
        await sign_in(one, other, {"id": user()})
        ended = ann if named == "by its token" else bob
        await asyncio.to_thread(one.pusher().terminate_user_connections, ended)
        for client in (token_first, signin_first):
            code, _ = await client.closed()
            assert code == 4009
        await other.quiet()


async def test_users_of_two_apps_are_two_users(pair: Pair) -> None:
    """One app's backend ends nobody of another's."""
    node, ann = pair.nodes[0], user()
    async with node.client() as client:
        await sign_in(node, client, {"id": ann})
        backend = node.pusher(app_id="2", key="counted-key", secret="counted-secret")
        await asyncio.to_thread(backend.terminate_user_connections, ann)
        await asyncio.to_thread(node.pusher().terminate_user_connections, user())
        await client.quiet()
