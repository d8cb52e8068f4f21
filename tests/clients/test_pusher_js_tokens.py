"""The ways in which an unmodified pusher-js says who speaks, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.clients.driver import REFUSED, SUCCEEDED, PusherJs, own_token
from tests.harness import APP_KEY, HOTEL, ROOMS, Server, room_updated

pytestmark = pytest.mark.clients

Way = Callable[[Server, str], dict[str, Any]]

WAYS: dict[str, Way] = {
    "signin with the token itself": lambda _server, _jwt: {"sub": "staff-1"},
    "signin at the endpoint": lambda server, _jwt: {"userAuth": f"{server.url}/pusher/user-auth"},
    "path": lambda _server, jwt: {"options": {"wsPath": f"/t/{jwt}"}},
    "path with an instance": lambda _server, jwt: {"options": {"wsPath": f"/s/{uuid4()}/t/{jwt}"}},
    "query by way of the key": lambda _server, jwt: {"key": f"{APP_KEY}?token={jwt}&z="},
}
SIGNIN_WAYS = [name for name in WAYS if name.startswith("signin")]


@pytest.mark.parametrize("way", WAYS)
async def test_pusher_js_hears_its_hotel_when_the_token_comes_by(
    way: str, server: Server, pusher_js: PusherJs
) -> None:
    """Every documented way admits to the hotel's channels, with no state but `connected`."""
    jwt = own_token()
    await pusher_js.open(server, token=jwt, **WAYS[way](server, jwt))
    if way in SIGNIN_WAYS:
        await pusher_js.tell("signin")
    await pusher_js.subscribed(ROOMS)
    await server.publish(ROOMS, room_updated("204"))
    event = await pusher_js.until("event", event="room_updated")
    assert event["channel"] == ROOMS
    assert event["data"]["payload"]["room_number"] == "204"
    assert event["data"]["meta"]["sequence"] >= 1
    assert pusher_js.states() == ["connected"]


async def test_token_on_a_live_connection_lets_parked_subscribes_in(
    server: Server, pusher_js: PusherJs
) -> None:
    """`bellhop:auth`, sent by the page itself, is a way in as well, before the first subscribe."""
    await pusher_js.open(server, token=own_token())
    await pusher_js.tell("authOnConnect")
    await pusher_js.subscribed(ROOMS)
    assert pusher_js.seen("frame", event="bellhop:authenticated")


@pytest.mark.parametrize("way", SIGNIN_WAYS)
async def test_subscribe_waits_until_the_client_signs_in(
    way: str, server: Server, pusher_js: PusherJs
) -> None:
    """A subscribe ahead of its token is parked: pusher-js would never retry a refused one."""
    await pusher_js.open(server, token=own_token(), **WAYS[way](server, ""))
    await pusher_js.tell("subscribe", channel=ROOMS)
    await pusher_js.until("state", current="connected")
    await pusher_js.fence()
    assert not pusher_js.seen("event", channel=ROOMS)
    await pusher_js.tell("signin")
    await pusher_js.until("event", channel=ROOMS, event=SUCCEEDED)
    assert not pusher_js.seen("event", event=REFUSED)


@pytest.mark.parametrize("way", SIGNIN_WAYS)
async def test_signed_in_user_has_a_channel_of_its_own(
    way: str, server: Server, pusher_js: PusherJs
) -> None:
    """After a signin pusher-js subscribes to `#server-to-user-{id}`, and is let in."""
    await pusher_js.open(server, token=own_token(), **WAYS[way](server, ""))
    await pusher_js.tell("signin")
    success = await pusher_js.until(
        "frame",
        event="pusher_internal:subscription_succeeded",
        channel="#server-to-user-staff-1",
    )
    assert success["data"] == {}


async def test_refused_subscribe_reaches_the_channel(server: Server, pusher_js: PusherJs) -> None:
    """Staff who ask for another hotel are told 403 on that channel, and keep their own."""
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    await pusher_js.tell("subscribe", channel="hotel-dingle.rooms")
    refusal = await pusher_js.until("event", channel="hotel-dingle.rooms")
    assert refusal["event"] == REFUSED
    assert refusal["data"]["type"] == "AuthError"
    assert refusal["data"]["status"] == 403
    await server.publish(ROOMS, room_updated())
    await pusher_js.until("event", channel=ROOMS, event="room_updated")


async def test_private_channel_opens_by_its_endpoint_alone(
    server: Server, pusher_js: PusherJs
) -> None:
    """A page that only authorizes its private- channel needs no token on the connection."""
    channel = f"private-{ROOMS}"
    await pusher_js.open(server, token=own_token(), channelAuth=f"{server.url}/pusher/auth")
    await pusher_js.subscribed(channel)
    await server.publish(channel, room_updated("12"))
    event = await pusher_js.until("event", channel=channel, event="room_updated")
    assert event["data"]["payload"]["room_number"] == "12"


async def test_endpoint_refuses_a_private_channel_of_another_hotel(
    server: Server, pusher_js: PusherJs
) -> None:
    """The endpoint's 403 becomes the channel's `subscription_error`."""
    channel = "private-hotel-dingle.rooms"
    await pusher_js.open(server, token=own_token(), channelAuth=f"{server.url}/pusher/auth")
    await pusher_js.tell("subscribe", channel=channel)
    refusal = await pusher_js.until("event", channel=channel)
    assert refusal["event"] == REFUSED
    assert refusal["data"]["status"] == 403


async def test_endpoint_refuses_to_sign_in_with_a_bad_token(
    server: Server, pusher_js: PusherJs
) -> None:
    """pusher-js learns the status, and what it subscribed to stays unanswered."""
    bad = own_token(secret="another-secret-of-sufficient-length!!")
    await pusher_js.open(server, token=bad, userAuth=f"{server.url}/pusher/user-auth")
    await pusher_js.tell("signin")
    await pusher_js.tell("subscribe", channel=ROOMS)
    failure = await pusher_js.until("user", event="pusher:signin_error")
    assert failure["data"]["status"] == 403
    await pusher_js.fence()
    assert not pusher_js.seen("event", channel=ROOMS)


async def test_renewal_leaves_a_client_alone_that_never_signed_in(
    server: Server, pusher_js: PusherJs
) -> None:
    """A fresh token is answered with its end; `signin_success` would throw in this pusher-js."""
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    await pusher_js.tell("send", event="bellhop:auth", data={"token": own_token(exp=4_000_000_000)})
    answer = await pusher_js.until("frame", event="bellhop:authenticated")
    assert answer["data"] == {"exp": 4_000_000_000}
    await server.publish(ROOMS, room_updated())
    await pusher_js.until("event", event="room_updated")
    assert not pusher_js.seen("frame", event="pusher:signin_success")


async def test_roster_of_the_shift_names_its_member(server: Server, pusher_js: PusherJs) -> None:
    """A presence channel opened by the endpoint hands pusher-js a roster that it understands."""
    channel = f"presence-{HOTEL}.front-desk"
    jwt = own_token(name="Niamh Kelly")
    await pusher_js.open(server, token=jwt, channelAuth=f"{server.url}/pusher/auth")
    await pusher_js.tell("subscribe", channel=channel)
    success = await pusher_js.until("event", channel=channel, event=SUCCEEDED)
    assert success["data"]["members"]["staff-1"]["name"] == "Niamh Kelly"
