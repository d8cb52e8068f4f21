"""`Occupancy`: what several nodes have written, read as one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from server.broker.occupancy import NODE_DEAD_AFTER_MS, Attribute, Cached, Occupancy
from server.broker.redis import connect
from server.errors import BrokerUnavailable
from tests.harness import Server, free_port_pair
from tests.http.state import State, bus_message

APP = "1"


@dataclass
class Nodes:
    """Two nodes by hand under a prefix of the test's own."""

    redis: Redis
    occupancy: Occupancy
    one: State
    two: State


@pytest.fixture
async def nodes(server: Server) -> AsyncIterator[Nodes]:
    """Two living nodes."""
    prefix = f"test-{uuid.uuid4().hex}:"
    redis = connect(server.redis_url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        one, two = [await stack.enter_async_context(State.of(redis, prefix)) for _ in range(2)]
        yield Nodes(redis, Occupancy(redis, prefix), one, two)


async def test_channels_are_the_union_over_living_nodes(nodes: Nodes) -> None:
    """Each once, in order, with the sum of its sockets; another app's are not among them."""
    for state, channel, sockets in (
        (nodes.one, "b", 2),
        (nodes.two, "b", 3),
        (nodes.two, "a;x=1@2,3.4", 1),
        (nodes.one, "gone", 0),
    ):
        await state.subscribed(channel, sockets)
    await nodes.one.subscribed("foreign", 1, app="11")
    channels = await nodes.occupancy.channels(APP)
    assert list(channels.items()) == [("a;x=1@2,3.4", 1), ("b", 5)]
    assert await nodes.occupancy.channels("11") == {"foreign": 1}
    assert await nodes.occupancy.channels(APP, "a;") == {"a;x=1@2,3.4": 1}
    assert await nodes.occupancy.channels(APP, "z") == {}
    assert await nodes.occupancy.channels("2") == {}


async def test_dead_node_does_not_count(nodes: Nodes) -> None:
    """Whatever a node has left behind: without a heartbeat within 12 s nobody is there."""
    await nodes.one.subscribed("a", 2)
    await nodes.two.subscribed("a", 3)
    await nodes.two.subscribed("b", 1)
    await nodes.one.connected(5)
    await nodes.two.connected(7)
    assert await nodes.occupancy.connections(APP) == 12
    assert await nodes.occupancy.subscription_count(APP, "a") == 5
    await nodes.two.beat(age_ms=NODE_DEAD_AFTER_MS + 1000)
    assert await nodes.occupancy.connections(APP) == 5
    assert await nodes.occupancy.subscription_count(APP, "a") == 2
    assert await nodes.occupancy.channels(APP) == {"a": 2}
    await nodes.two.beat(age_ms=NODE_DEAD_AFTER_MS - 2000)
    assert await nodes.occupancy.subscription_count(APP, "a") == 5


async def test_users_are_counted_once(nodes: Nodes) -> None:
    """A presence channel's members, whatever node they are on and however many sockets."""
    await nodes.one.members("presence-x", "u-2", "u-1")
    await nodes.two.members("presence-x", "u-2", "u-3é")
    assert await nodes.occupancy.user_count(APP, "presence-x") == 3
    assert await nodes.occupancy.user_ids(APP, "presence-x") == ["u-1", "u-2", "u-3é"]
    assert await nodes.occupancy.user_ids(APP, "presence-y") == []


async def test_cached_event_is_its_data(nodes: Nodes) -> None:
    """The string that subscribers got, and the seconds it has left; nothing where there is none."""
    await nodes.one.cached("cache-x", bus_message('{"a":1}'), 1_800_000)
    assert await nodes.occupancy.cached(APP, "cache-x") == Cached('{"a":1}', 1800)
    await nodes.one.cached("cache-y", b"\x07 of another format", 1_800_000)
    assert await nodes.occupancy.cached(APP, "cache-y") is None
    assert await nodes.occupancy.cached(APP, "cache-z") is None


async def test_values_are_read_for_any_count_of_channels(nodes: Nodes) -> None:
    """Each channel gets what was asked of it, in the order asked; the same one may come twice."""
    await nodes.one.members("presence-x", "u-1", "u-2")
    await nodes.two.subscribed("presence-x", 5)
    users, sockets, cache = Attribute.USER_COUNT, Attribute.SUBSCRIPTION_COUNT, Attribute.CACHE
    asked = [("presence-x", (users, sockets)), ("a", ()), ("presence-x", (cache, users))]
    assert await nodes.occupancy.values(APP, asked) == [
        {users: 2, sockets: 7},
        {},
        {cache: None, users: 2},
    ]
    assert await nodes.occupancy.values(APP, []) == []
    many = [(f"a-{number}", (sockets,)) for number in range(2000)]
    assert await nodes.occupancy.values(APP, many) == [{sockets: 0}] * 2000


async def test_no_node_means_nobody(server: Server) -> None:
    """Before any node has written, all is empty."""
    redis = connect(server.redis_url)
    occupancy = Occupancy(redis, f"test-{uuid.uuid4().hex}:")
    assert await occupancy.channels(APP) == {}
    assert await occupancy.connections(APP) == 0
    assert await occupancy.subscription_count(APP, "a") == 0
    await redis.aclose()


async def test_lost_redis_is_told_as_such() -> None:
    """`BrokerUnavailable`, whatever the client library raised."""
    redis = connect(f"redis://127.0.0.1:{free_port_pair()}/0")
    occupancy = Occupancy(redis, "x:")
    for asked in (
        occupancy.channels(APP),
        occupancy.values(APP, [("a", tuple(Attribute))]),
        occupancy.user_ids(APP, "presence-a"),
        occupancy.connections(APP),
        occupancy.terminate(APP, "u"),
    ):
        with pytest.raises(BrokerUnavailable, match="Redis"):
            await asked
    await redis.aclose()
