"""`BELLHOP_ALLOWED_ORIGINS`: which pages may connect, ask for signatures, and use the cookie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.harness import Client, Server, new_hotel, started, token

DESK = "https://desk.example"
PORTAL = "http://portal.example:8080"
ELSEWHERE = "https://elsewhere.example"


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows its pages."""
    settings = {"BELLHOP_ALLOWED_ORIGINS": f"{DESK}, {PORTAL}"}
    with started(tmp_path_factory.mktemp("guarded") / "server.log", settings) as running:
        yield running


async def ask(server: Server, method: str, origin: str | None, **options: Any) -> httpx.Response:
    """Send a request to `/pusher/user-auth` from a page."""
    headers = {**options.pop("headers", {}), **({"Origin": origin} if origin else {})}
    async with httpx.AsyncClient() as client:
        url = f"{server.url}/pusher/user-auth"
        return await client.request(method, url, headers=headers, **options)


@pytest.mark.parametrize(
    "origin", [DESK, f"{DESK}:443", "https://DESK.example", PORTAL, None], ids=str
)
async def test_listed_page_connects(guarded_server: Server, origin: str | None) -> None:
    """Listed origins by scheme, host and port; no Origin is no browser, and is allowed."""
    hotel = new_hotel()
    path = f"/t/{token(hotels=[hotel])}"
    async with guarded_server.connect(path, origin=origin) as socket:
        client = Client(socket)
        await client.greeted()
        await client.subscribe(f"{hotel}.rooms")


@pytest.mark.parametrize(
    "origin",
    [
        ELSEWHERE,
        "http://desk.example",
        f"{DESK}:444",
        f"{DESK}.evil.example",
        "https://evil-desk.example",
        "http://portal.example",
        "null",
        "http://127.0.0.1:{port}",
    ],
)
async def test_other_page_is_refused_whatever_its_token(
    guarded_server: Server, origin: str
) -> None:
    """4009, said over the WebSocket; our own host too, when it is not on the list."""
    origin = origin.format(port=guarded_server.port)
    async with guarded_server.connect(f"/t/{token()}", origin=origin) as socket:
        code, before = await Client(socket).closed()
    assert code == 4009
    assert "origin" in before[0]["data"]["message"]


async def test_cookie_counts_from_listed_pages(guarded_server: Server) -> None:
    """A listed page may be of another host: it is trusted by name."""
    hotel = new_hotel()
    headers = {"Cookie": f"bellhop_token={token(hotels=[hotel])}"}
    async with guarded_server.connect(origin=DESK, additional_headers=headers) as socket:
        client = Client(socket)
        await client.greeted()
        await client.subscribe(f"{hotel}.rooms")


async def test_preflight_is_answered_for_listed_pages(guarded_server: Server) -> None:
    """POST with `authorization` and `content-type`, and credentials: the cookie may come along."""
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = await ask(guarded_server, "OPTIONS", DESK, headers=asked)
    assert answer.status_code in {200, 204}
    allowed = answer.headers
    assert allowed["Access-Control-Allow-Origin"] == DESK
    assert allowed["Access-Control-Allow-Methods"] == "POST"
    assert allowed["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert allowed["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in allowed["Vary"]
    refused = await ask(guarded_server, "OPTIONS", ELSEWHERE, headers=asked)
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


async def test_signature_is_given_to_listed_pages_alone(guarded_server: Server) -> None:
    """403 for a page that is not listed, though its token is good."""
    bearer = {"Authorization": f"Bearer {token()}"}
    form = {"socket_id": "1.2"}
    for origin in (DESK, PORTAL, None):
        answer = await ask(guarded_server, "POST", origin, headers=bearer, data=form)
        assert answer.status_code == 200
        assert answer.headers.get("Access-Control-Allow-Origin") == origin
    refused = await ask(guarded_server, "POST", ELSEWHERE, headers=bearer, data=form)
    assert refused.status_code == 403
    assert "origin" in refused.json()["error"]
    assert "Access-Control-Allow-Origin" not in refused.headers


async def test_cookie_asks_for_a_signature_from_listed_pages(guarded_server: Server) -> None:
    """Where the cookie counts on the socket it counts here."""
    cookie = {"Cookie": f"bellhop_token={token()}"}
    answer = await ask(guarded_server, "POST", DESK, headers=cookie, data={"socket_id": "1.2"})
    assert answer.status_code == 200
