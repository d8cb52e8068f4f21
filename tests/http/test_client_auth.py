"""`/pusher/auth` and `/pusher/user-auth`: signatures for clients that hold a JWT."""

from __future__ import annotations

import hmac
import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.harness import APP_KEY, APP_SECRET, Server, guest_token, new_hotel, token

SOCKET_ID = "1234.5678"
ELSEWHERE = "https://desk.example"
CHANNEL_AUTH, USER_AUTH = "/pusher/auth", "/pusher/user-auth"


def bearer(jwt: str) -> dict[str, str]:
    """The header of whoever holds a token."""
    return {"Authorization": f"Bearer {jwt}".strip()}


def signature(message: str) -> str:
    """What the app's secret makes of a message: `KEY:hex`."""
    return f"{APP_KEY}:{hmac.new(APP_SECRET.encode(), message.encode(), 'sha256').hexdigest()}"


async def ask(server: Server, path: str, form: Any = None, **options: Any) -> httpx.Response:
    """Post a form, as pusher-js does, or whatever else is given."""
    async with httpx.AsyncClient() as client:
        return await client.post(f"{server.url}{path}", data=form, **options)


def form_for(channel: str) -> dict[str, str]:
    """The form of a subscribe."""
    return {"socket_id": SOCKET_ID, "channel_name": channel}


@pytest.mark.parametrize("kind", ["private-{}.rooms", "presence-{}.housekeeping"])
async def test_channel_is_signed_with_the_claims(server: Server, kind: str) -> None:
    """`channel_data` comes for private- too, is covered, and says who, until when, with what."""
    hotel, exp = new_hotel(), int(time.time()) + 300
    channel = kind.format(hotel)
    hotels = [{"slug": hotel, "id": 7, "roles": ["manager"]}]
    jwt = token("staff-3", name="Ann", exp=exp, jti="j-1", hotels=hotels, roles=["front_desk"])
    answer = await ask(server, CHANNEL_AUTH, form_for(channel), headers=bearer(jwt))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    signed = answer.json()
    assert set(signed) == {"auth", "channel_data"}
    assert signed["auth"] == signature(f"{SOCKET_ID}:{channel}:{signed['channel_data']}")
    data = json.loads(signed["channel_data"])
    assert (data["user_id"], data["user_info"]) == ("staff-3", {"name": "Ann"})
    claims = data["bellhop"]
    assert (claims["exp"], claims["jti"]) == (exp, "j-1")
    assert claims["hotels"] == [{"slug": hotel, "id": "7", "roles": ["manager"]}]
    assert claims["roles"] == ["front_desk"]


async def test_guests_channel_is_signed_for_its_guest(server: Server) -> None:
    """The newer name of the guests' feed is private-, so a stock client asks for a signature."""
    jwt = guest_token("BK-7", hotel=new_hotel())
    answer = await ask(
        server, CHANNEL_AUTH, form_for("private-guest-booking.BK-7"), headers=bearer(jwt)
    )
    assert answer.status_code == 200
    refused = await ask(
        server, CHANNEL_AUTH, form_for("private-guest-booking.BK-8"), headers=bearer(jwt)
    )
    assert refused.status_code == 403
    assert "another booking" in refused.json()["error"]


async def test_user_is_signed_with_the_claims(server: Server) -> None:
    """`user_data` has the string id that pusher-js needs, and the claims."""
    hotel = new_hotel()
    headers = bearer(token("staff-4", name="Bo", hotels=[hotel]))
    answer = await ask(server, USER_AUTH, {"socket_id": SOCKET_ID}, headers=headers)
    assert answer.status_code == 200
    signed = answer.json()
    assert set(signed) == {"auth", "user_data"}
    assert signed["auth"] == signature(f"{SOCKET_ID}::user::{signed['user_data']}")
    data = json.loads(signed["user_data"])
    assert (data["id"], data["user_info"]) == ("staff-4", {"name": "Bo"})
    assert data["bellhop"]["hotels"] == [hotel]


@pytest.mark.parametrize(
    "content_type, make",
    [
        ("application/json", json.dumps),
        ("application/json; charset=utf-8", json.dumps),
        (
            "application/x-www-form-urlencoded",
            lambda form: "&".join(f"{name}={quote(value)}" for name, value in form.items()),
        ),
        (
            "application/x-www-form-urlencoded; charset=UTF-8",
            lambda form: "extra=%20&" + "&".join(f"{name}={value}" for name, value in form.items()),
        ),
    ],
)
async def test_body_may_be_a_form_or_json(server: Server, content_type: str, make: Any) -> None:
    """Libraries post forms, hand-written clients JSON; parameters of their own do no harm."""
    hotel = new_hotel()
    headers = {**bearer(token(hotels=[hotel])), "Content-Type": content_type}
    body = make(form_for(f"private-{hotel}.rooms"))
    answer = await ask(server, CHANNEL_AUTH, headers=headers, content=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"socket_id": 5, "channel_name": "private-h.rooms"}',
        b'{"socket_id": "1.2.3", "channel_name": "private-h.rooms"}',
        b'{"socket_id": "1.2:x", "channel_name": "private-h.rooms"}',
        b'{"socket_id": "1.2", "channel_name": "h.rooms"}',
        b'{"socket_id": "1.2", "channel_name": "private-a b"}',
        b'{"socket_id": "1.2"}',
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
async def test_request_is_refused_when_malformed(
    server: Server, content_type: str, body: bytes
) -> None:
    """400 with a reason; a public channel is not signed, whoever asks."""
    headers = {**bearer(token()), "Content-Type": content_type}
    answer = await ask(server, CHANNEL_AUTH, headers=headers, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_request_is_refused_when_too_large(server: Server) -> None:
    """413: a form of two short fields has no megabytes."""
    form = {**form_for("private-h.rooms"), "more": "x" * 100_000}
    assert (await ask(server, CHANNEL_AUTH, form, headers=bearer(token()))).status_code == 413


@pytest.mark.parametrize(
    "jwt, reason",
    [
        (None, "no token"),
        ("", "no token"),
        ("garbage", "malformed"),
        (token(exp=1_000_000_000), "expired"),
        (token(secret="another-secret-that-is-long-enough"), "signature does not match"),
        (token(hotels=[]), "does not name the hotel"),
        (token(), "does not name the hotel"),
        (guest_token("BK-1"), "guests may not hear staff channels"),
    ],
    ids=["none", "empty", "garbage", "expired", "wrong key", "no hotel", "another hotel", "guest"],
)
async def test_channel_is_refused_with_its_reason(
    server: Server, jwt: str | None, reason: str
) -> None:
    """403, which pusher-js turns into a subscription_error."""
    headers = {} if jwt is None else bearer(jwt)
    form = form_for(f"private-{new_hotel()}.rooms")
    answer = await ask(server, CHANNEL_AUTH, form, headers=headers)
    assert answer.status_code == 403
    assert reason in answer.json()["error"]


async def test_channel_outside_the_contract_is_refused(server: Server) -> None:
    """A token opens what the contract lists; other channels are the backend's to sign."""
    for channel in ("private-news", "presence-news", "private-encrypted-news"):
        answer = await ask(server, CHANNEL_AUTH, form_for(channel), headers=bearer(token()))
        assert answer.status_code == 403
        assert "not in the contract" in answer.json()["error"]


async def test_preflight_is_answered_for_every_page_without_a_list(server: Server) -> None:
    """Explicit tokens may come from anywhere; credentials are allowed to our own pages alone."""
    for path in (CHANNEL_AUTH, USER_AUTH):
        async with httpx.AsyncClient() as client:
            for origin, credentials in ((ELSEWHERE, None), (server.url, "true")):
                headers = {
                    "Origin": origin,
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "authorization,content-type",
                }
                answer = await client.options(f"{server.url}{path}", headers=headers)
                assert answer.status_code in {200, 204}
                allowed = answer.headers
                assert allowed["Access-Control-Allow-Origin"] == origin
                assert allowed["Access-Control-Allow-Methods"] == "POST"
                assert "authorization" in allowed["Access-Control-Allow-Headers"]
                assert "content-type" in allowed["Access-Control-Allow-Headers"]
                assert allowed.get("Access-Control-Allow-Credentials") == credentials


async def test_page_may_read_every_answer(server: Server) -> None:
    """CORS headers stand on refusals too: else a page sees only that something failed."""
    headers = {"Origin": ELSEWHERE}
    for jwt, form, status in (
        (token(), {"socket_id": SOCKET_ID}, 200),
        (token(), {}, 400),
        ("garbage", {"socket_id": SOCKET_ID}, 403),
    ):
        answer = await ask(server, USER_AUTH, form, headers={**headers, **bearer(jwt)})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == ELSEWHERE
        assert "Origin" in answer.headers["Vary"]
    plain = await ask(server, USER_AUTH, {"socket_id": SOCKET_ID}, headers=bearer(token()))
    assert "Access-Control-Allow-Origin" not in plain.headers


async def test_cookie_counts_where_no_page_or_our_own_asks(server: Server) -> None:
    """The same rule as on the socket: another site's page cannot spend the user's cookie."""
    cookie = {"Cookie": f"other=1; bellhop_token={token()}"}
    form = {"socket_id": SOCKET_ID}
    for origin, status in ((None, 200), (server.url, 200), (ELSEWHERE, 403), ("null", 403)):
        headers = {**cookie, **({"Origin": origin} if origin else {})}
        assert (await ask(server, USER_AUTH, form, headers=headers)).status_code == status


async def test_header_weighs_more_than_the_cookie(server: Server) -> None:
    """A bad explicit token is not passed over for a good cookie."""
    headers = {**bearer("garbage"), "Cookie": f"bellhop_token={token()}"}
    answer = await ask(server, USER_AUTH, {"socket_id": SOCKET_ID}, headers=headers)
    assert answer.status_code == 403


async def test_signatures_are_asked_for_by_post(server: Server) -> None:
    """No JSONP: a GET is answered 405."""
    async with httpx.AsyncClient() as client:
        for path in (CHANNEL_AUTH, USER_AUTH):
            url = f"{server.url}{path}?callback=x&socket_id={SOCKET_ID}"
            assert (await client.get(url, headers=bearer(token()))).status_code == 405
