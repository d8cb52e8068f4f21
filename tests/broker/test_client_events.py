"""Clients send events to each other, over all nodes, by Pusher's rules and the contract's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from channels_spec.reading import HOTEL_CONTRACT
from tests.broker.pair import (
    CLIENT_EVENTS,
    SILENT,
    Pair,
    client_of,
    enter,
    new_channel,
    signed,
)
from tests.conftest import StartServer
from tests.harness import Client, eventually, new_hotel


async def refusal(client: Client, channel: str, data: Any = "x") -> str:
    """Send a client event and return why it is refused; the connection goes on."""
    await client.send("client-x", data, channel=channel)
    frame = await client.until("pusher:error")
    assert (frame["channel"], frame["data"]["code"]) == (channel, 4301)
    await client.quiet()
    message: str = frame["data"]["message"]
    return message


async def test_client_event_reaches_all_others_and_not_its_sender(pair: Pair) -> None:
    """On the sender's node and the other one; data leaves as a string."""
    one, two = pair.nodes
    channel = new_channel("private-")
    async with (
        one.client() as sender,
        one.client() as near,
        two.client() as far,
        two.client() as stranger,
    ):
        for node, client in ((one, sender), (one, near), (two, far)):
            await enter(node, client, channel)
        await sender.send("client-moved", {"x": 1}, channel=channel)
        for client in (near, far):
            frame = await client.next()
            assert frame == {"event": "client-moved", "channel": channel, "data": {"x": 1}}
            assert await pair.before_fence(client, channel) == []
        # The fences of the others are all that the sender has got.
        assert [(await sender.next())["event"] for _ in range(2)] == ["fence"] * 2
        await stranger.quiet()


async def test_client_event_on_presence_names_who_sent_it(pair: Pair) -> None:
    """As the subscription says, not the payload; as a string."""
    one, two = pair.nodes
    channel = new_channel("presence-")
    async with one.client() as sender, two.client() as hears:
        await enter(two, hears, channel, "h")
        await enter(one, sender, channel, 12, {"name": "Ann"})
        await sender.send("client-x", {"user_id": "boss"}, channel=channel)
        assert await hears.until("client-x") == {
            "event": "client-x",
            "channel": channel,
            "data": {"user_id": "boss"},
            "user_id": "12",
        }
        # No number, no history: it is gone.
        async with one.redis() as redis:
            assert not await redis.exists(f"{pair.prefix}{{1:{channel}}}:log")


async def test_client_events_are_bounded(pair: Pair) -> None:
    """Over its rate the sender is told, others hear what was within it."""
    one, two = pair.nodes
    channel = new_channel("private-")
    async with one.client() as sender, two.client() as hears:
        await enter(one, sender, channel)
        await enter(two, hears, channel)
        for _ in range(3 * CLIENT_EVENTS):
            await sender.send("client-x", "y", channel=channel)
        error = await sender.until("pusher:error")
        assert error["data"] == {
            "code": 4301,
            "message": f"more than {CLIENT_EVENTS} client events a second",
        }
        heard = await pair.before_fence(hears, channel)
        assert CLIENT_EVENTS <= len(heard) < 3 * CLIENT_EVENTS

        async def again() -> bool:
            await sender.send("client-again", "y", channel=channel)
            await sender.send("pusher:ping")
            return (await sender.next())["event"] == "pusher:pong" or not await sender.until(
                "pusher:pong"
            )

        await sender.until("fence")
        await eventually(again)
        await hears.until("client-again")


@pytest.mark.parametrize("kind", ["", "cache-", "private-encrypted-"])
async def test_client_event_is_refused_on_other_kinds(pair: Pair, kind: str) -> None:
    """Also to a subscriber of the channel."""
    node, channel = pair.nodes[0], new_channel(kind)
    async with node.client() as client:
        if not kind.startswith("private-"):
            await client.subscribe(channel)
        assert await refusal(client, channel) == (
            "client events need a private- or presence- channel"
        )


async def test_client_event_is_refused_to_a_stranger(pair: Pair) -> None:
    """Who is not subscribed, or no longer, says nothing there."""
    one, two = pair.nodes
    channel = new_channel("private-")
    async with one.client() as stranger, two.client() as hears:
        await enter(two, hears, channel)
        reason = "only a subscriber may send client events"
        assert await refusal(stranger, channel) == reason
        await enter(one, stranger, channel)
        await stranger.send("pusher:unsubscribe", {"channel": channel})
        assert await refusal(stranger, channel) == reason
        assert await pair.before_fence(hears, channel) == []


async def test_client_event_is_refused_when_it_is_too_large(pair: Pair) -> None:
    """Ten kilobytes, as for the backend's events."""
    node, channel = pair.nodes[0], new_channel("private-")
    async with node.client() as client:
        await enter(node, client, channel)
        reason = await refusal(client, channel, "x" * 10_241)
        assert reason == "a client event's data exceeds 10240 bytes"


async def test_client_event_is_refused_where_the_app_allows_none(pair: Pair) -> None:
    """Each app for itself."""
    node, channel = pair.nodes[0], new_channel("private-")
    async with client_of(node, SILENT["key"]) as client:
        auth = node.pusher(**SILENT).authenticate(channel, client.socket_id)
        await client.subscribe(channel, **auth)
        assert await refusal(client, channel) == "client events are not enabled for this app"


async def test_contract_decides_on_its_own_channels(
    pair: Pair, start_server: StartServer, tmp_path: Path
) -> None:
    """Refused by the hotel contract; relayed, but for card data, where a contract allows them."""
    hotel = new_hotel()
    rooms = f"private-{hotel}.rooms"
    node = pair.nodes[0]
    async with node.client() as client:
        await client.subscribe(rooms, **signed(node, client, rooms))
        assert await refusal(client, rooms) == "client events are not enabled on this channel"
    document = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    document["channels"]["rooms"]["x-bellhop-client-events"] = True
    for schema in HOTEL_CONTRACT.parent.glob("schemas/*"):
        (tmp_path / "schemas").mkdir(exist_ok=True)
        (tmp_path / "schemas" / schema.name).write_bytes(schema.read_bytes())
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(document))
    own = await start_server(BELLHOP_CONTRACT=str(tmp_path / "own.yaml"))
    async with (
        own.staff(rooms, hotels=[hotel]) as sender,
        own.staff(rooms, f"{hotel}.rooms", hotels=[hotel]) as hears,
    ):
        await sender.send("client-typing", {"room": "101"}, channel=rooms)
        frame = await hears.next()
        assert (frame["event"], frame["data"]) == ("client-typing", {"room": "101"})
        assert await refusal(sender, rooms, "4111 1111 1111 1111") == "card data never passes"
        # Its prefix makes a channel fit for them: the same rooms without it are not.
        public = f"{hotel}.rooms"
        assert "private- or presence-" in await refusal(hears, public)
