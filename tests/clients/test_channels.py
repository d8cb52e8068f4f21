"""Released clients on every kind of channel."""

from __future__ import annotations

import pytest

from tests.clients.cast import Cast
from tests.clients.driver import REFUSED, SUCCEEDED, Driven
from tests.clients.features import JAVASCRIPT, PUSHER_JS, SUBSCRIBERS, Feature, Kind, each, feature
from tests.clients.talk import hears, publish, vacated
from tests.clients.topology import Topology
from tests.harness import new_hotel, room_updated, token

pytestmark = [
    pytest.mark.clients,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]

CACHES = ["cache-", "private-cache-", "presence-cache-", "private-encrypted-cache-"]
MISS = "pusher:cache_miss"


@feature(Feature.PUBLIC)
@each(SUBSCRIBERS)
async def test_public_channel_is_heard_while_subscribed(
    cast: Cast, topology: Topology, name: str
) -> None:
    """Events arrive as they were; nothing after an unsubscribe; again after a subscribe."""
    client = await cast.open()
    await client.subscribed(name, "news")
    await hears(client, topology, name)
    await client.tell("unsubscribe", channel=name)
    await vacated(topology, name)
    await publish(topology, name, "news", "unheard")
    await client.subscribed(name, "news")
    await publish(topology, name, "news", "heard")
    await client.until("event", channel=name, event="news", data="heard")
    assert not client.seen("event", channel=name, data="unheard")


@feature(Feature.TOKEN)
@each(SUBSCRIBERS)
async def test_token_opens_the_hotels_own_channels(cast: Cast, topology: Topology) -> None:
    """A client that presents a JWT hears its hotel, and not another."""
    hotel = new_hotel()
    channel, foreign = f"{hotel}.rooms", f"{new_hotel()}.rooms"
    client = await cast.open(token=token(hotels=[hotel]))
    await client.tell("subscribe", channel=foreign, events=["room_updated"])
    await client.subscribed(channel, "room_updated")
    await topology.nodes[-1].publish(channel, room_updated("204", hotel=hotel))
    event = await client.until("event", channel=channel, event="room_updated")
    assert event["data"]["payload"]["room_number"] == "204"
    assert not client.seen("event", channel=foreign, event=SUCCEEDED)


@feature(Feature.PRIVATE)
@each(SUBSCRIBERS)
async def test_private_channel_opens_by_the_backends_signature(
    cast: Cast, topology: Topology, name: str
) -> None:
    """The released library signs, or Pysher with the secret itself."""
    client = await cast.open()
    await client.subscribed(f"private-{name}", "news")
    await hears(client, topology, f"private-{name}")


@feature(Feature.PRIVATE)
@each([Kind.PYSHER])
async def test_pysher_asks_an_endpoint(cast: Cast, topology: Topology, name: str) -> None:
    """The signature of a private channel comes from the backend's endpoint."""
    client = await cast.open(endpoint=cast.site.channel_auth("ada"))
    await client.subscribed(f"private-{name}", "news")
    await hears(client, topology, f"private-{name}")


@feature(Feature.PRIVATE_REFUSED)
@each([*JAVASCRIPT, Kind.JAVA])
async def test_private_channel_stays_shut_when_the_backend_refuses(
    cast: Cast, topology: Topology, name: str
) -> None:
    """The application is told, and other channels are as they were."""
    channel = f"private-forbidden-{name}"
    client = await cast.open()
    await client.tell("subscribe", channel=channel, events=["news"])
    if cast.kind is Kind.JAVA:
        await client.until("refused")
    else:
        refusal = await client.until("event", channel=channel, event=REFUSED)
        assert refusal["data"]["status"] == 403
    await client.subscribed(name, "news")
    await publish(topology, channel, "news", "secret")
    await hears(client, topology, name)
    assert not client.seen("event", channel=channel, event="news")


@feature(Feature.ENDPOINT)
@each([*JAVASCRIPT, Kind.JAVA])
async def test_our_endpoint_authorizes_by_the_token(cast: Cast, topology: Topology) -> None:
    """`/pusher/auth` with a bearer token opens the hotel's private channel and its roster."""
    hotel = new_hotel()
    channel, roster = f"private-{hotel}.rooms", f"presence-{hotel}.front-desk"
    jwt = token(hotels=[hotel], name="Niamh Kelly")
    client = await cast.open(token=jwt, endpoint=f"{topology.api.url}/pusher/auth")
    await client.subscribed(channel, "room_updated")
    await topology.nodes[-1].publish(channel, room_updated("12", hotel=hotel))
    event = await client.until("event", channel=channel, event="room_updated")
    assert event["data"]["payload"]["room_number"] == "12"
    await client.tell("subscribe", channel=roster, events=[])
    here = await client.until("here", channel=roster)
    # Echo shows what is in user_info, and that has the name alone.
    assert here["ids"] == ([None] if cast.kind is Kind.ECHO else ["staff-1"])


@feature(Feature.ENCRYPTED)
@each([*JAVASCRIPT, Kind.JAVA])
async def test_encrypted_channel_is_read_by_its_subscriber(
    cast: Cast, topology: Topology, name: str
) -> None:
    """What the library encrypted is what the application gets."""
    channel = f"private-encrypted-{name}"
    client = await cast.open()
    await client.subscribed(channel, "news")
    await hears(client, topology, channel)
    for frame in client.seen("frame", channel=channel, event="news"):
        assert frame["data"].keys() == {"nonce", "ciphertext"}


async def _caches(client: Driven, late: Driven, topology: Topology, channel: str) -> None:
    """Hold that the first one misses, and that who comes later gets the last event at once."""
    await client.subscribed(channel, "news", MISS)
    await client.until("event", channel=channel, event=MISS)
    await publish(topology, channel, "news", {"number": 1})
    await publish(topology, channel, "news", {"number": 2})
    await client.until("event", channel=channel, event="news", data={"number": 2})
    await late.subscribed(channel, "news", MISS)
    await late.until("event", channel=channel, event="news")
    (got,) = late.seen("event", channel=channel, event="news")
    assert got["data"] == {"number": 2}
    assert not late.seen("event", channel=channel, event=MISS)


@feature(Feature.CACHE)
@each(SUBSCRIBERS)
async def test_cache_channel_hands_the_last_event_out(
    cast: Cast, topology: Topology, name: str
) -> None:
    """Public, private and presence caches, and encrypted ones where the client knows them."""
    client, late = await cast.open("ada"), await cast.open("ben")
    for prefix in CACHES[:3] if cast.kind is Kind.PYSHER else CACHES:
        await _caches(client, late, topology, f"{prefix}{name}")


@feature(Feature.CLIENT_EVENTS)
@each(SUBSCRIBERS)
async def test_client_events_reach_the_others(cast: Cast, name: str) -> None:
    """Both hear each other, and neither hears itself."""
    channel = f"private-{name}"
    ada, ben = await cast.open("ada"), await cast.open("ben")
    for client in (ada, ben):
        await client.subscribed(channel, "client-note")
    await ada.tell("trigger", channel=channel, event="client-note", data={"from": "ada"})
    await ben.until("event", event="client-note", data={"from": "ada"})
    await ben.tell("trigger", channel=channel, event="client-note", data={"from": "ben"})
    await ada.until("event", event="client-note", data={"from": "ben"})
    assert len(ada.seen("event", event="client-note")) == 1
    assert len(ben.seen("event", event="client-note")) == 1


@feature(Feature.CLIENT_EVENTS_USER)
@each([*PUSHER_JS, Kind.JAVA])
async def test_client_event_names_its_user(cast: Cast, name: str) -> None:
    """On a presence channel the server says who sent it, whatever the event says."""
    channel = f"presence-{name}"
    ada, ben = await cast.open("ada"), await cast.open("ben")
    for client in (ada, ben):
        await client.subscribed(channel, "client-note")
    await ada.tell("trigger", channel=channel, event="client-note", data={"user_id": "mallory"})
    event = await ben.until("event", event="client-note")
    assert event["user_id"] == "ada"


@feature(Feature.COUNT)
@each(PUSHER_JS)
async def test_subscribers_are_told_how_many_they_are(cast: Cast, name: str) -> None:
    """Each change is told to those who stay."""
    first, second = await cast.open(), await cast.open()
    await first.subscribed(name)

    async def counted(number: int) -> None:
        data = {"subscription_count": number}
        await first.until("event", channel=name, event="pusher:subscription_count", data=data)

    await counted(1)
    await second.subscribed(name)
    await counted(2)
    await second.tell("unsubscribe", channel=name)
    await counted(1)


@feature(Feature.PUBLIC)
@each([Kind.ECHO])
async def test_echo_hears_classes_and_names(cast: Cast, topology: Topology, name: str) -> None:
    """`listen("RoomCleaned")` is the backend's class, `listen(".room.cleaned")` the name itself."""
    client = await cast.open()
    await client.subscribed(name, "RoomCleaned", "room.cleaned")
    await publish(topology, name, "App\\Events\\RoomCleaned", {"by": "class"})
    await client.until("event", event="RoomCleaned", data={"by": "class"})
    await publish(topology, name, "room.cleaned", {"by": "name"})
    await client.until("event", event="room.cleaned", data={"by": "name"})
