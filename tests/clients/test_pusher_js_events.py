"""What an unmodified pusher-js makes of events, errors and close codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clients.driver import SUCCEEDED, PusherJs, own_token
from tests.conftest import StartServer
from tests.harness import ROOMS, Server, room_updated

pytestmark = pytest.mark.clients


async def test_events_arrive_parsed_and_numbered_in_order(
    server: Server, pusher_js: PusherJs
) -> None:
    """A callback gets the envelope as an object, and the numbers rise by one."""
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    rooms = [str(number) for number in range(301, 306)]
    for room in rooms:
        await server.publish(ROOMS, room_updated(room, guests_in_room=2))
    events = [await pusher_js.until("event", event="room_updated") for _ in rooms]
    assert [event["data"]["payload"]["room_number"] for event in events] == rooms
    assert {event["data"]["payload"]["guests_in_room"] for event in events} == {2}
    numbers = [event["data"]["meta"]["sequence"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(rooms)))
    assert len({event["data"]["meta"]["epoch"] for event in events}) == 1


async def test_unsubscribed_channel_is_silent_until_subscribed_again(
    server: Server, pusher_js: PusherJs
) -> None:
    """An unsubscribe takes effect at once, and is no obstacle to a later subscribe."""
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    await pusher_js.tell("unsubscribe", channel=ROOMS)
    await pusher_js.fence()
    async with server.staff(ROOMS, jti=uuid4().hex) as witness:
        await server.publish(ROOMS, room_updated("unheard"))
        await witness.until("room_updated")
    await pusher_js.fence()
    assert not pusher_js.seen("frame", event="room_updated")
    await pusher_js.subscribed(ROOMS)
    await server.publish(ROOMS, room_updated("heard"))
    event = await pusher_js.until("event", event="room_updated")
    assert event["data"]["payload"]["room_number"] == "heard"


@pytest.mark.parametrize(
    "event, code",
    [("pusher:no-such", 4300), ("no-such-event", 4301), ("client-knock", 4301)],
)
async def test_error_frame_leaves_the_connection_as_it_was(
    event: str, code: int, server: Server, pusher_js: PusherJs
) -> None:
    """Codes from 4300 on reach the page as an error; nothing is thrown, nothing reconnects."""
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    await pusher_js.tell("send", event=event, channel=ROOMS, data={})
    error = await pusher_js.until("error")
    assert error["code"] == code
    await server.publish(ROOMS, room_updated())
    await pusher_js.until("event", event="room_updated")
    assert pusher_js.states() == ["connected"]


async def test_subscribe_over_the_bound_leaves_the_others_at_work(
    start_server: StartServer, pusher_js: PusherJs, tmp_path: Path
) -> None:
    """It is told as a refusal: a close would bring the client back with the same, for ever."""
    file = tmp_path / "bellhop.toml"
    file.write_text("[app.limits]\nmax_subscriptions = 1\n", "utf-8")
    server = await start_server(BELLHOP_CONFIG=str(file))
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    other = ROOMS.replace(".rooms", ".booking")
    await pusher_js.tell("subscribe", channel=other)
    refused = await pusher_js.until("event", event="pusher:subscription_error", channel=other)
    reason = "more than 1 subscriptions on one connection"
    assert refused["data"] == {"type": "AuthError", "error": reason, "status": 403}
    await server.publish(ROOMS, room_updated("heard"))
    await pusher_js.until("event", event="room_updated")
    assert pusher_js.states() == ["connected"]


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "expired": lambda: own_token(exp=int(time.time()) - 60),
    "of another key": lambda: own_token(secret="another-secret-of-sufficient-length!!"),
    "not a token": lambda: "not.a.token",
}


@pytest.mark.parametrize("bad", BAD_TOKENS)
async def test_bad_token_at_the_door_ends_in_disconnected(
    bad: str, server: Server, pusher_js: PusherJs
) -> None:
    """4009 stops pusher-js for good: no retry is on its clock."""
    await pusher_js.open(server, options={"wsPath": f"/t/{BAD_TOKENS[bad]()}"})
    await pusher_js.tell("subscribe", channel=ROOMS)
    await pusher_js.until("state", current="disconnected")
    standing = await pusher_js.standing()
    assert (standing["state"], standing["retrying"]) == ("disconnected", False)
    assert pusher_js.seen("error", code=4009)
    assert not pusher_js.seen("event")


async def test_bad_signin_stops_the_client_until_the_page_connects_with_a_good_one(
    server: Server, pusher_js: PusherJs
) -> None:
    """After 4009 it is the page's turn: `connect()` asks its provider anew, and all is well."""
    await pusher_js.open(server, token="not.a.token", sub="staff-1")
    await pusher_js.tell("signin")
    await pusher_js.tell("subscribe", channel=ROOMS)
    await pusher_js.until("error", code=4009)
    await pusher_js.until("state", current="disconnected")
    assert (await pusher_js.standing())["retrying"] is False
    assert not pusher_js.seen("event")
    await pusher_js.tell("token", value=own_token())
    await pusher_js.tell("connect")
    await pusher_js.until("event", channel=ROOMS, event=SUCCEEDED)
    assert pusher_js.states() == ["connected", "disconnected", "connecting", "connected"]


async def test_unknown_app_ends_in_disconnected(server: Server, pusher_js: PusherJs) -> None:
    """A wrong key is told by a code, not by a refused upgrade that pusher-js would try again."""
    await pusher_js.open(server, key="no-such-key")
    await pusher_js.until("state", current="disconnected")
    assert pusher_js.seen("error", code=4001)


async def test_expired_token_brings_the_client_back_with_a_fresh_one(
    start_server: StartServer, pusher_js: PusherJs
) -> None:
    """4101 before the token's end: pusher-js reconnects, asks its provider, and hears on."""
    server = await start_server(BELLHOP_EXPIRY_SPREAD_S="1")
    short = own_token(exp=int(time.time()) + 3)
    await pusher_js.open(server, token=short, sub="staff-1")
    await pusher_js.tell("signin")
    await pusher_js.subscribed(ROOMS)
    before = (await pusher_js.standing())["socket_id"]
    await pusher_js.tell("token", value=own_token())
    await pusher_js.until("error", code=4101)
    await pusher_js.until("event", channel=ROOMS, event=SUCCEEDED)
    await server.publish(ROOMS, room_updated("after"))
    event = await pusher_js.until("event", event="room_updated")
    assert event["data"]["payload"]["room_number"] == "after"
    assert (await pusher_js.standing())["socket_id"] != before
    assert len(pusher_js.seen("token_asked")) == 2
