"""pusher-js in a real browser, on a page of another origin: who hears, and who does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import jwt
import pytest

from tests.browser.conftest import Desk
from tests.clients.driver import REFUSED, SUCCEEDED, own_token
from tests.harness import ROOMS, Server, guest_token, room_updated, started

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]

Token = Callable[[], str]


@pytest.fixture(scope="module")
def listing_server(tmp_path_factory: pytest.TempPathFactory, site_port: int) -> Iterator[Server]:
    """A server that allows the pages of our site, by 127.0.0.1, and no other."""
    log = tmp_path_factory.mktemp("listing") / "server.log"
    allowed = {"BELLHOP_ALLOWED_ORIGINS": f"http://127.0.0.1:{site_port}"}
    with started(log, allowed) as running:
        yield running


async def _go(desk: Desk, port: int, host: str = "127.0.0.1") -> None:
    await desk.page.goto(f"http://{host}:{port}/")


async def _put_cookie(desk: Desk, value: str) -> None:
    await desk.page.context.add_cookies(
        [
            {
                "name": "bellhop_token",
                "value": value,
                "domain": "127.0.0.1",
                "path": "/",
                "httpOnly": True,
                "sameSite": "Lax",
            }
        ]
    )


async def _open(desk: Desk, server: Server, way: str, jwt_: str, sub: str = "staff-1") -> None:
    """Create the page's Pusher object, with the token presented in one of the ways."""
    given: dict[str, Any] = {}
    match way:
        case "cookie":
            await _put_cookie(desk, jwt_)
        case "signin with the token itself":
            given = {"sub": sub}
        case "signin at the endpoint":
            given = {"userAuth": f"{server.url}/pusher/user-auth"}
        case "path":
            given = {"options": {"wsPath": f"/s/{uuid4()}/t/{jwt_}"}}
        case _:
            raise ValueError(way)
    await desk.pusher_js.open(server, token=jwt_, **given)
    if way.startswith("signin"):
        await desk.pusher_js.tell("signin")


async def _heard(desk: Desk, server: Server) -> None:
    """Hold that an event published now arrives."""
    event = room_updated()
    event["meta"]["event_id"] = str(uuid4())
    await server.publish(ROOMS, event)
    got = await desk.pusher_js.until("event", channel=ROOMS, event="room_updated")
    assert got["data"]["meta"]["event_id"] == event["meta"]["event_id"]
    assert got["data"]["meta"]["sequence"] >= 1


async def _hears_nothing(desk: Desk, server: Server) -> None:
    """Hold that an event that a colleague hears does not arrive."""
    async with server.staff(ROOMS, jti=uuid4().hex) as colleague:
        await server.publish(ROOMS, room_updated())
        await colleague.until("room_updated")
    if (await desk.pusher_js.standing())["state"] == "connected":
        await desk.pusher_js.fence()
    assert not desk.pusher_js.seen("frame", event="room_updated")
    assert not desk.pusher_js.seen("event", event=SUCCEEDED)


WAYS = ["cookie", "signin with the token itself", "signin at the endpoint", "path"]


@pytest.mark.parametrize("way", WAYS)
async def test_page_of_an_allowed_origin_hears_its_hotel(
    way: str, listing_server: Server, site_port: int, desk: Desk
) -> None:
    """Every way works across origins: the cookie's port does not matter, preflights pass."""
    await _go(desk, site_port)
    await _open(desk, listing_server, way, own_token())
    await desk.pusher_js.subscribed(ROOMS)
    await _heard(desk, listing_server)


@pytest.mark.parametrize("way", WAYS[1:])
async def test_page_of_any_origin_hears_its_hotel_by_an_explicit_token(
    way: str, server: Server, site_port: int, desk: Desk
) -> None:
    """Where no origins are listed, a token that the page itself presents counts from anywhere."""
    await _go(desk, site_port, "localhost")
    await _open(desk, server, way, own_token())
    await desk.pusher_js.subscribed(ROOMS)
    await _heard(desk, server)


async def test_cookie_does_not_speak_for_a_page_of_another_origin(
    server: Server, site_port: int, desk: Desk
) -> None:
    """Without a list, a cookie counts for the server's own pages only; the page may yet sign in."""
    await _go(desk, site_port)
    await _open(desk, server, "cookie", own_token())
    await desk.pusher_js.tell("subscribe", channel=ROOMS)
    await desk.pusher_js.until("state", current="connected")
    await _hears_nothing(desk, server)
    await desk.pusher_js.tell("send", event="bellhop:auth", data={"token": own_token()})
    await desk.pusher_js.until("event", channel=ROOMS, event=SUCCEEDED)
    await _heard(desk, server)


@pytest.mark.parametrize("way", WAYS[1:])
async def test_page_of_an_unlisted_origin_is_turned_away(
    way: str, listing_server: Server, site_port: int, desk: Desk
) -> None:
    """With a list, no token helps a page of another origin: 4009, and no retry."""
    await _go(desk, site_port, "localhost")
    await _open(desk, listing_server, way, own_token())
    await desk.pusher_js.tell("subscribe", channel=ROOMS)
    await desk.pusher_js.until("state", current="disconnected")
    assert desk.pusher_js.seen("error", code=4009)
    await _hears_nothing(desk, listing_server)


async def test_private_channel_is_authorized_across_origins(
    listing_server: Server, site_port: int, desk: Desk
) -> None:
    """`/pusher/auth` too answers the preflight that the Authorization header brings about."""
    channel = f"private-{ROOMS}"
    endpoint = f"{listing_server.url}/pusher/auth"
    await _go(desk, site_port)
    await desk.pusher_js.open(listing_server, token=own_token(), channelAuth=endpoint)
    await desk.pusher_js.subscribed(channel)
    await listing_server.publish(channel, room_updated("17"))
    got = await desk.pusher_js.until("event", channel=channel, event="room_updated")
    assert got["data"]["payload"]["room_number"] == "17"


def _unsigned() -> str:
    claims = jwt.decode(own_token(), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none")


BAD_TOKENS: dict[str, Token] = {
    "expired": lambda: own_token(exp=int(time.time()) - 60),
    "of another key": lambda: own_token(secret="another-secret-of-sufficient-length!!"),
    "unsigned": _unsigned,
}
STRANGERS: dict[str, tuple[str, Token]] = {
    "staff of another hotel": (
        "staff-1",
        lambda: own_token(hotels=[{"slug": "hotel-dingle", "id": 2}]),
    ),
    "a guest": ("guest-BK-1", lambda: guest_token("BK-1")),
}


@pytest.mark.parametrize("bad", BAD_TOKENS)
@pytest.mark.parametrize("way", ["signin with the token itself", "path"])
async def test_bad_token_closes_the_connection(
    bad: str, way: str, listing_server: Server, site_port: int, desk: Desk
) -> None:
    """A token that is presented and bad ends in `disconnected` by 4009, without a retry."""
    await _go(desk, site_port)
    await _open(desk, listing_server, way, BAD_TOKENS[bad]())
    await desk.pusher_js.tell("subscribe", channel=ROOMS)
    await desk.pusher_js.until("state", current="disconnected")
    assert desk.pusher_js.seen("error", code=4009)
    assert (await desk.pusher_js.standing())["retrying"] is False
    await _hears_nothing(desk, listing_server)


@pytest.mark.parametrize("bad", BAD_TOKENS)
async def test_endpoint_does_not_sign_for_a_bad_token(
    bad: str, listing_server: Server, site_port: int, desk: Desk
) -> None:
    """The page can read the endpoint's 403, and its subscribes stay unanswered."""
    await _go(desk, site_port)
    await _open(desk, listing_server, "signin at the endpoint", BAD_TOKENS[bad]())
    await desk.pusher_js.tell("subscribe", channel=ROOMS)
    failure = await desk.pusher_js.until("user", event="pusher:signin_error")
    assert failure["data"]["status"] == 403
    await _hears_nothing(desk, listing_server)


@pytest.mark.parametrize("bad", BAD_TOKENS)
async def test_bad_cookie_speaks_for_nobody(
    bad: str, listing_server: Server, site_port: int, desk: Desk
) -> None:
    """A stale cookie is no reason to close: the page is connected, and nobody."""
    await _go(desk, site_port)
    await _open(desk, listing_server, "cookie", BAD_TOKENS[bad]())
    await desk.pusher_js.tell("subscribe", channel=ROOMS)
    await desk.pusher_js.until("state", current="connected")
    await _hears_nothing(desk, listing_server)


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("way", WAYS)
async def test_stranger_is_refused_on_the_channel(
    stranger: str, way: str, listing_server: Server, site_port: int, desk: Desk
) -> None:
    """A good token of somebody else is told 403 by `subscription_error`, and hears nothing."""
    sub, minted = STRANGERS[stranger]
    await _go(desk, site_port)
    await _open(desk, listing_server, way, minted(), sub)
    await desk.pusher_js.tell("subscribe", channel=ROOMS)
    refusal = await desk.pusher_js.until("event", channel=ROOMS)
    assert refusal["event"] == REFUSED
    assert refusal["data"]["type"] == "AuthError"
    assert refusal["data"]["status"] == 403
    await _hears_nothing(desk, listing_server)
