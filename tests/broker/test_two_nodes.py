"""Two nodes on one Valkey are one server: what one takes in, both bring to their clients."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from server.broker.keys import Keys
from tests.harness import Client, Server, eventually, guest_token, new_hotel, room_updated, started


@pytest.fixture(scope="module")
def second_node(
    shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A second node on the shared server's Valkey."""
    settings = {"REDIS_URL": shared_server.redis_url}
    with started(tmp_path_factory.mktemp("second") / "server.log", settings) as running:
        yield running


@pytest.fixture
async def nodes(server: Server, second_node: Server) -> list[Server]:
    """Both nodes; the first holds the lease on what has no event id."""
    return [server, second_node]


async def numbers(client: Client, count: int) -> list[int]:
    """Return the sequence numbers of the next events."""
    return [(await client.until("room_updated"))["data"]["meta"]["sequence"] for _ in range(count)]


async def listeners(server: Server, channel: str) -> int:
    """How many nodes listen to a channel's bus."""
    name = f"bellhop:{{1:{channel}}}:bus"
    async with server.redis() as redis:
        answer: Any = await redis.pubsub_numsub(name)
    count: int = answer[0][1]
    return count


async def test_event_reaches_the_clients_of_both_nodes(nodes: list[Server]) -> None:
    """With an event id or without: numbered once, delivered once on each node."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    plain = room_updated(hotel=hotel)
    named = room_updated(hotel=hotel)
    named["meta"]["event_id"] = str(uuid.uuid4())
    async with (
        nodes[0].staff(rooms, hotels=[hotel]) as one,
        nodes[1].staff(rooms, hotels=[hotel]) as other,
    ):
        for event in (plain, named, plain, plain):
            await nodes[0].publish(rooms, event)
        assert await numbers(one, 4) == [1, 2, 3, 4]
        assert await numbers(other, 4) == [1, 2, 3, 4]
        assert [frame["data"] for frame in one.frames[-4:]] == [
            frame["data"] for frame in other.frames[-4:]
        ]
        for client in (one, other):
            await client.quiet()


@pytest.mark.parametrize("publishing", [0, 1])
async def test_trigger_at_either_node_reaches_both(nodes: list[Server], publishing: int) -> None:
    """A backend may post to any node; an id is known to both."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    event = room_updated(hotel=hotel)
    event["meta"]["event_id"] = str(uuid.uuid4())
    backends = [node.pusher() for node in (nodes[publishing], *nodes)]
    async with (
        nodes[0].staff(rooms, hotels=[hotel]) as one,
        nodes[1].staff(rooms, hotels=[hotel]) as other,
    ):
        for backend in backends:
            await asyncio.to_thread(backend.trigger, rooms, "room_updated", event)
        await nodes[0].publish(rooms, room_updated(hotel=hotel))
        assert await numbers(one, 2) == [1, 2]
        assert await numbers(other, 2) == [1, 2]


@pytest.mark.parametrize("entrance", ["redis", "http"])
async def test_socket_is_excluded_wherever_it_is(nodes: list[Server], entrance: str) -> None:
    """The node that publishes need not be the one that has the excluded socket."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    event = room_updated(hotel=hotel)
    async with (
        nodes[0].staff(rooms, hotels=[hotel]) as other,
        nodes[1].staff(rooms, hotels=[hotel]) as cause,
    ):
        if entrance == "redis":
            body = {"event": "room_updated", "data": event, "socket_id": cause.socket_id}
            await nodes[0].publish(rooms, body)
        else:
            trigger = nodes[0].pusher().trigger
            await asyncio.to_thread(trigger, rooms, "room_updated", event, cause.socket_id)
        await nodes[0].publish(rooms, event)
        assert await numbers(other, 2) == [1, 2]
        assert await numbers(cause, 1) == [2]


async def test_signature_holds_for_its_socket_on_any_node(nodes: list[Server]) -> None:
    """Nodes share the app's secret, so `/pusher/auth` may be asked at either."""
    channel = f"private-{new_hotel()}.rooms"
    async with nodes[1].client() as client:
        await client.subscribe(channel, **nodes[0].pusher().authenticate(channel, client.socket_id))


async def test_rejected_message_is_kept_once(nodes: list[Server]) -> None:
    """Both nodes refuse it; one of them says so."""
    rooms = f"{new_hotel()}.rooms"
    await nodes[0].publish(rooms, "{")
    await nodes[0].publish(f"{rooms}x", "{")

    async def kept() -> list[bytes]:
        async with nodes[0].redis() as redis:
            entries: Any = await redis.xrevrange("bellhop:rejected", count=20)
        return [fields[b"channel"] for _, fields in entries]

    await eventually(lambda: _contains(kept, f"{rooms}x"))
    assert (await kept()).count(rooms.encode()) == 1


async def _contains(kept: Any, channel: str) -> bool:
    return channel.encode() in await kept()


async def test_node_listens_to_what_it_has_subscribers_for(nodes: list[Server]) -> None:
    """A node's share of the traffic is that of its own clients; what all left, it drops."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    assert await listeners(nodes[0], rooms) == 0
    async with nodes[1].staff(rooms, hotels=[hotel]):
        assert await listeners(nodes[0], rooms) == 1
        async with nodes[0].staff(rooms, hotels=[hotel]), nodes[0].staff(rooms, hotels=[hotel]):
            assert await listeners(nodes[0], rooms) == 2
    await eventually(lambda: _is(nodes[0], rooms, 0))


async def _is(server: Server, channel: str, count: int) -> bool:
    return await listeners(server, channel) == count


async def test_refused_and_waiting_subscribes_make_no_node_listen(nodes: list[Server]) -> None:
    """Nobody without the right can make a node listen to a channel."""
    rooms = f"{new_hotel()}.rooms"
    async with nodes[1].client() as waiting:
        await waiting.send("pusher:subscribe", {"channel": rooms})
        await waiting.quiet()
        async with nodes[1].client(f"/t/{guest_token('BK-1')}") as guest:
            await guest.refused(rooms)
        assert await listeners(nodes[0], rooms) == 0


async def test_prefixes_are_installations_of_their_own(server: Server, start_server: Any) -> None:
    """Two on one Valkey, told apart by `BELLHOP_REDIS_PREFIX`: neither hears of the other."""
    prefix = f"group-{uuid.uuid4().hex[:8]}:"
    apart = await start_server(REDIS_URL=server.redis_url, BELLHOP_REDIS_PREFIX=prefix)
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with (
        server.staff(rooms, hotels=[hotel]) as ours,
        apart.staff(rooms, hotels=[hotel]) as theirs,
        server.redis() as redis,
    ):
        for channel_prefix, room in (("bellhop:", "1"), (prefix, "2"), (prefix, "3")):
            body = json.dumps(room_updated(room, hotel=hotel))
            await redis.publish(f"{channel_prefix}publish:{rooms}", body)
        assert await numbers(theirs, 2) == [1, 2]
        assert await numbers(ours, 1) == [1]
        assert theirs.frames[-1]["data"]["payload"]["room_number"] == "3"
        assert ours.frames[-1]["data"]["payload"]["room_number"] == "1"
        await redis.publish(f"{prefix}publish:{rooms}", "{")
        await eventually(lambda: redis.exists(f"{prefix}rejected"))
        named = {key.decode() async for key in redis.scan_iter(match=f"*{hotel}*")}
    assert {key.startswith(("bellhop:", prefix)) for key in named} == {True}
    assert {key.removeprefix(prefix) for key in named if key.startswith(prefix)} >= {
        f"{{1:{rooms}}}",
        f"{{1:{rooms}}}:log",
    }


async def test_lease_is_given_up_by_a_node_that_ends(server: Server, start_server: Any) -> None:
    """The next node takes what has no event id at once, without waiting for the lease's end."""
    prefix = f"group-{uuid.uuid4().hex[:8]}:"
    settings = {"REDIS_URL": server.redis_url, "BELLHOP_REDIS_PREFIX": prefix}
    first = await start_server(**settings)
    async with server.redis() as redis:
        lease = Keys(prefix).beside("ingress", "lease")
        await eventually(lambda: redis.exists(lease))
        holder = await redis.get(lease)
        first.end()
        assert await redis.get(lease) is None
        second = await start_server(**settings)
        await eventually(lambda: redis.exists(lease))
        assert await redis.get(lease) != holder
        hotel = new_hotel()
        async with second.staff(f"{hotel}.rooms", hotels=[hotel]) as client:
            body = json.dumps(room_updated(hotel=hotel))
            await redis.publish(f"{prefix}publish:{hotel}.rooms", body)
            assert await numbers(client, 1) == [1]
