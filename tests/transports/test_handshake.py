"""What a handshake says, and what it is answered."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
import websockets

from tests.harness import APP_KEY, Client, Server, new_hotel, token

PUSHER_SUBPROTOCOL = "pusher-channels-protocol-7"
FAR_PAGE = "https://elsewhere.example"


async def turned_away(server: Server, target: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Dial, and return the close code and the data of the one frame before it."""
    async with server.dial(target, **options) as socket:
        code, before = await Client(socket).closed()
    assert [frame["event"] for frame in before] == ["pusher:error"]
    data: dict[str, Any] = before[0]["data"]
    return code, data


def bearer(jwt: str) -> dict[str, Any]:
    """Options that present a token as a native client does."""
    return {"additional_headers": {"Authorization": f"Bearer {jwt}"}}


def cookie(jwt: str, **options: Any) -> dict[str, Any]:
    """Options that present a token as a browser does."""
    return {"additional_headers": {"Cookie": f"theme=dark; bellhop_token={jwt}"}, **options}


async def hears(server: Server, hotel: str, target: str, **options: Any) -> None:
    """Assert that what dials so is at once admitted to the hotel's rooms."""
    async with server.dial(target, **options) as socket:
        client = Client(socket)
        await client.greeted()
        await client.subscribe(f"{hotel}.rooms")


async def test_first_frame_has_the_shape_that_every_client_reads(server: Server) -> None:
    """`data` is a JSON string (Pysher, Swift) with a socket id of two numbers and a timeout."""
    async with server.connect() as socket:
        frame = json.loads(await socket.recv())
    assert set(frame) == {"event", "data"}
    assert frame["event"] == "pusher:connection_established"
    data = json.loads(frame["data"])
    assert set(data) == {"socket_id", "activity_timeout"}
    assert re.fullmatch(r"\d+\.\d+", data["socket_id"])
    assert data["activity_timeout"] == 30


async def test_socket_ids_differ(server: Server) -> None:
    """Two connections never share a socket id."""
    async with server.client() as one, server.client() as other:
        assert one.socket_id != other.socket_id


@pytest.mark.parametrize("protocol", ["5", "6", "7"])
async def test_protocol_is_spoken(server: Server, protocol: str) -> None:
    """Java says 5, Pysher 6, pusher-js and Swift 7, each at a place of its own in the query."""
    query = f"client=Some&version=1.0.7&protocol={protocol}&flash=false"
    async with server.connect(query=query) as socket:
        await Client(socket).greeted()


@pytest.mark.parametrize(
    "protocol", ["4", "8", "0", "-7", "7.0", "seven", "7" * 5000, "%D9%A7%D9%A7"]
)
async def test_protocol_is_refused_when_it_is_another(server: Server, protocol: str) -> None:
    """4007: any protocol but 5, 6 and 7."""
    code, data = await turned_away(server, f"/app/{APP_KEY}?protocol={protocol}")
    assert (code, data["code"]) == (4007, 4007)


@pytest.mark.parametrize(
    "query", ["", "?", "?protocol=", "?client=js&version=8.6.0", "?Protocol=7"]
)
async def test_protocol_is_asked_for_when_missing(server: Server, query: str) -> None:
    """4008: the query names no protocol."""
    code, data = await turned_away(server, f"/app/{APP_KEY}{query}")
    assert (code, data["code"]) == (4008, 4008)
    assert "5, 6 and 7" in data["message"]


async def test_key_is_refused_when_unknown(server: Server) -> None:
    """4001, said over the WebSocket: pusher-js must see a code, not an HTTP status."""
    code, data = await turned_away(server, "/app/nobodys-key?protocol=7")
    assert (code, data["code"]) == (4001, 4001)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/app",
        "/app/",
        f"/app/{APP_KEY}/",
        f"/app/{APP_KEY}/more",
        f"//app/{APP_KEY}",
        f"/APP/{APP_KEY}",
        f"/s/short/app/{APP_KEY}",
        f"/s/{'x' * 65}/app/{APP_KEY}",
        f"/s/no.dots.here/app/{APP_KEY}",
        f"/t//app/{APP_KEY}",
        f"/t/a.b.c/s/instance-1/app/{APP_KEY}",
        f"/other/app/{APP_KEY}",
        "/pusher/auth",
        "/health/live",
    ],
)
async def test_path_is_refused_when_it_is_no_apps(server: Server, path: str) -> None:
    """4005, whatever else the path means over HTTP."""
    code, data = await turned_away(server, f"{path}?protocol=7")
    assert (code, data["code"]) == (4005, 4005)


@pytest.mark.parametrize(
    "offered, selected",
    [
        (None, None),
        ([PUSHER_SUBPROTOCOL], PUSHER_SUBPROTOCOL),
        (["other", PUSHER_SUBPROTOCOL, "third"], PUSHER_SUBPROTOCOL),
        (["other"], None),
    ],
)
async def test_subprotocol_is_echoed_only_when_offered(
    server: Server, offered: list[str] | None, selected: str | None
) -> None:
    """Swift aborts without the echo, browsers abort on one they have not asked for."""
    async with server.connect(subprotocols=offered) as socket:
        assert socket.subprotocol == selected
        await Client(socket).greeted()


@pytest.mark.parametrize("instance", ["", "/s/12345678", f"/s/{'aZ_-' * 16}"])
async def test_token_in_the_path_authenticates(server: Server, instance: str) -> None:
    """`/t/{jwt}`, with the device's instance before it or without."""
    hotel = new_hotel()
    path = f"{instance}/t/{token(hotels=[hotel])}/app/{APP_KEY}?protocol=7"
    await hears(server, hotel, path)


async def test_instance_alone_is_a_path(server: Server) -> None:
    """`/s/{instance}` names the device and authenticates nobody."""
    async with server.client("/s/3f2b8c1e-7a6d-4c1b-9e1f-000000000001") as client:
        assert client.socket_id


async def test_token_in_the_query_authenticates(server: Server) -> None:
    """`?token=` at any place of the query."""
    hotel = new_hotel()
    jwt = token(hotels=[hotel])
    await hears(server, hotel, f"/app/{APP_KEY}?token={jwt}&protocol=7")
    await hears(server, hotel, f"/app/{APP_KEY}?protocol=7&client=js&token={jwt}")


async def test_token_in_the_key_authenticates(server: Server) -> None:
    """A key of `KEY?token=JWT&z=`: the query proper is inside `z`, and is read all the same."""
    hotel = new_hotel()
    target = f"/app/{APP_KEY}?token={token(hotels=[hotel])}&z=?protocol=7&client=js&version=8.6.0"
    await hears(server, hotel, target)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_token_in_the_header_authenticates(server: Server, scheme: str) -> None:
    """`Authorization: Bearer`, for native clients."""
    hotel = new_hotel()
    headers = {"Authorization": f"{scheme} {token(hotels=[hotel])}"}
    await hears(server, hotel, f"/app/{APP_KEY}?protocol=7", additional_headers=headers)


async def test_cookie_authenticates_when_no_page_or_our_own_asks(server: Server) -> None:
    """No Origin is no browser; an Origin that is the Host is our own page."""
    hotel = new_hotel()
    jwt = token(hotels=[hotel])
    target = f"/app/{APP_KEY}?protocol=7"
    await hears(server, hotel, target, **cookie(jwt))
    await hears(server, hotel, target, **cookie(jwt, origin=f"http://127.0.0.1:{server.port}"))


@pytest.mark.parametrize(
    "origin", [FAR_PAGE, "http://127.0.0.1:1", "http://127.0.0.1.example:{port}", "null"]
)
async def test_cookie_does_not_count_when_another_page_asks(server: Server, origin: str) -> None:
    """A browser adds the cookie to whatever any page asks; the connection is unauthenticated."""
    hotel = new_hotel()
    jwt = token(hotels=[hotel])
    options = cookie(jwt, origin=origin.format(port=server.port))
    async with server.dial(f"/app/{APP_KEY}?protocol=7", **options) as socket:
        client = Client(socket)
        await client.greeted()
        await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        await client.quiet()


async def test_explicit_token_counts_from_any_page(server: Server) -> None:
    """Without a list of origins, what a page has to know itself may come from anywhere."""
    hotel = new_hotel()
    target = f"/t/{token(hotels=[hotel])}/app/{APP_KEY}?protocol=7"
    await hears(server, hotel, target, origin=FAR_PAGE)


async def test_weightier_way_wins(server: Server) -> None:
    """Header before path before query before cookie: the lighter tokens count for nothing."""
    hotels = [new_hotel() for _ in range(4)]
    header, path, query, cookie_ = (token(f"staff-{i}", hotels=[h]) for i, h in enumerate(hotels))
    headers = {"Authorization": f"Bearer {header}", "Cookie": f"bellhop_token={cookie_}"}
    plain = f"/app/{APP_KEY}?protocol=7"
    conversations: list[tuple[str, dict[str, str]]] = [
        (f"/t/{path}{plain}&token={query}", headers),
        (f"/t/{path}{plain}&token={query}", {"Cookie": headers["Cookie"]}),
        (f"{plain}&token={query}", {"Cookie": headers["Cookie"]}),
        (plain, {"Cookie": headers["Cookie"]}),
    ]
    for winner, (target, given) in enumerate(conversations):
        async with server.dial(target, additional_headers=given) as socket:
            client = Client(socket)
            await client.greeted()
            await client.subscribe(f"{hotels[winner]}.rooms")
            for loser in hotels[winner + 1 :]:
                assert (await client.refused(f"{loser}.rooms"))["status"] == 403


async def test_bad_token_is_not_passed_over_for_a_good_one(server: Server) -> None:
    """A token presented explicitly is what the client meant: 4009, though a lighter one is good."""
    target = f"/t/not-a-token/app/{APP_KEY}?protocol=7&token={token()}"
    code, data = await turned_away(server, target)
    assert (code, data["code"]) == (4009, 4009)


@pytest.mark.parametrize("scheme", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer "])
async def test_other_authorization_is_no_token(server: Server, scheme: str) -> None:
    """A proxy's own Authorization header neither authenticates nor turns away."""
    headers = {"Authorization": scheme}
    async with server.connect(additional_headers=headers) as socket:
        await Client(socket).greeted()


async def test_request_that_is_no_upgrade_is_answered_over_http(server: Server) -> None:
    """A browser's address bar gets an HTTP error, not a hanging socket."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{server.url}/app/{APP_KEY}?protocol=7")
    assert answer.status_code in {404, 426}


async def test_upgrade_that_is_no_handshake_is_refused_over_http(server: Server) -> None:
    """What cannot be upgraded cannot be told by a close code either."""
    with pytest.raises(websockets.InvalidStatus) as raised:
        await server.connect(additional_headers={"Sec-WebSocket-Version": "12"})
    assert raised.value.response.status_code in {400, 426}
