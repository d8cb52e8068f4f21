"""Released clients that get through by HTTP alone: pusher-js, and laravel-echo with it.

In a page every request is of another origin: each has its preflight.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.cast import Cast
from tests.clients.driver import REFUSED, SUCCEEDED, Driven
from tests.clients.features import JAVASCRIPT, PUSHER_JS, Feature, Kind, each, feature
from tests.clients.talk import hears, publish, signed_in, vacated
from tests.clients.topology import Topology
from tests.harness import new_hotel, room_updated, token

pytestmark = [
    pytest.mark.clients,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
    pytest.mark.parametrize(
        "fallback",
        [
            pytest.param("xhr_streaming", marks=feature(Feature.XHR_STREAMING)),
            pytest.param("xhr_polling", marks=feature(Feature.XHR_POLLING)),
        ],
    ),
]


@pytest.fixture
def cast(cast: Cast, fallback: str) -> Cast:
    """Clients that do not try a WebSocket."""
    cast.fallback = fallback
    return cast


async def hears_rooms(client: Driven, topology: Topology, hotel: str) -> None:
    """Hold that an event of the hotel's rooms arrives, and that the client asked for once."""
    channel = f"{hotel}.rooms"
    await client.until("event", channel=channel, event=SUCCEEDED)
    await topology.nodes[-1].publish(channel, room_updated("204", hotel=hotel, note="Säule € 😀"))
    event = await client.until("event", channel=channel, event="room_updated")
    assert event["data"]["payload"]["note"] == "Säule € 😀"
    assert len(client.seen("event", channel=channel, event="room_updated")) == 1


@each(JAVASCRIPT)
async def test_token_in_the_path_opens_the_hotels_channels(cast: Cast, topology: Topology) -> None:
    """By `httpPath: "/pusher/t/JWT"`; a channel of another hotel is refused on that channel."""
    hotel, foreign = new_hotel(), f"{new_hotel()}.rooms"
    client = await cast.open(token=token(f"staff-of-{hotel}", hotels=[hotel]))
    for channel in (foreign, f"{hotel}.rooms"):
        await client.tell("subscribe", channel=channel, events=["room_updated"])
    await hears_rooms(client, topology, hotel)
    await client.has(1, "event", channel=foreign, event=REFUSED)
    (refusal,) = client.seen("event", channel=foreign)
    assert refusal["data"]["status"] == 403


@each(PUSHER_JS)
async def test_token_at_signin_opens_what_was_asked_for_before(
    cast: Cast, topology: Topology
) -> None:
    """Each message is a request of its own: whichever comes first, nothing is refused."""
    hotel = new_hotel()
    sub = f"staff-of-{hotel}"
    client = await cast.create(token=token(sub, hotels=[hotel]), sub=sub)
    await client.tell("subscribe", channel=f"{hotel}.rooms", events=["room_updated"])
    await client.tell("signin")
    await hears_rooms(client, topology, hotel)
    assert not client.seen("event", event=REFUSED)


@each(JAVASCRIPT)
async def test_client_does_all_that_it_does_on_a_websocket(
    cast: Cast, topology: Topology, name: str
) -> None:
    """Signin, private and presence channels, client events, unsubscribe."""
    ada, ben = await cast.open(f"ada-{name}"), await cast.open("ben")
    await signed_in(cast, ada, f"ada-{name}")
    private, presence = f"private-{name}", f"presence-{name}"
    for client in (ada, ben):
        await client.subscribed(private, "news", "client-note")
    await hears(ada, topology, private)
    await ada.tell("trigger", channel=private, event="client-note", data={"text": "“hi”"})
    await ben.until("event", channel=private, event="client-note", data={"text": "“hi”"})
    await ada.tell("subscribe", channel=presence, events=[])
    assert (await ada.until("here", channel=presence))["ids"] == [f"ada-{name}"]
    await ben.tell("subscribe", channel=presence, events=[])
    await ada.until("joined", channel=presence, id="ben")
    for client in (ada, ben):
        await client.tell("unsubscribe", channel=private)
    await vacated(topology, private)
    assert not ada.seen("event", event="client-note")


@each([Kind.NODE, Kind.PAGE])
async def test_more_comes_than_one_response_can_carry(
    cast: Cast, topology: Topology, name: str
) -> None:
    """pusher-js drops a response over 256 KiB and asks for the next: every event is there, once."""
    client = await cast.open()
    await client.subscribed(name, "news")
    count = 90
    for first in range(0, count, 10):
        batch = [
            {"channel": name, "name": "news", "data": {"number": number, "text": "x" * 9_000}}
            for number in range(first, first + 10)
        ]
        await asyncio.to_thread(topology.backend().trigger_batch, batch)
    await publish(topology, name, "news", {"number": count})
    await client.until("event", channel=name, event="news", data={"number": count})
    heard = [report["data"]["number"] for report in client.seen("event", event="news")]
    assert heard == list(range(count + 1))
    assert client.states() == ["connected"]


@each([Kind.NODE, Kind.PAGE])
async def test_close_codes_are_obeyed(cast: Cast, topology: Topology, name: str) -> None:
    """4001 at the door and 4009 later: it gives up, and is not seen again."""
    stranger = await cast.create(key="no-such-key")
    await stranger.until("state", current="disconnected")
    user = f"ada-{name}"
    client = await cast.open(user)
    await signed_in(cast, client, user)
    await asyncio.to_thread(topology.backend().terminate_user_connections, user)
    await client.until("state", current="disconnected")
    for each_one, code in ((stranger, 4001), (client, 4009)):
        assert not (await each_one.standing())["retrying"]
        assert each_one.seen("error", code=code)
