"""The HTTP fallbacks on the wire: what pusher-js' `xhr_streaming` and `xhr_polling` need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.harness import APP_KEY, Server, eventually, new_hotel, room_updated, token
from tests.transports.fallback import GREETING, SUCCEEDED, Fallback, decoded, fallback, told

PATH = f"/pusher/app/{APP_KEY}/7/abcd1234"
WHATS = ("xhr_streaming", "xhr", "xhr_send")
LIMIT = 256 * 1024
"""Characters after which pusher-js drops a response, at the end of a line."""


def staff_of(hotel: str) -> str:
    """Return a token for somebody who was never here: nobody asks for a connection before."""
    return token(f"staff-of-{hotel}", hotels=[hotel])


@asynccontextmanager
async def at_hotel(server: Server, hotel: str) -> AsyncIterator[Fallback]:
    """Return a session of the hotel's staff, known by the path."""
    async with fallback(server, f"/t/{staff_of(hotel)}") as client:
        yield client


async def request(server: Server, method: str, path: str, **headers: str) -> httpx.Response:
    """Send a request as a browser does."""
    async with httpx.AsyncClient() as client:
        return await client.request(method, server.url + path, headers=headers)


# --- the way of a frame --------------------------------------------------------------------------


async def test_stream_carries_a_session(server: Server) -> None:
    """The prelude, `o`, then frames as they come; what is sent is answered 204 at once."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with at_hotel(server, hotel) as client, client.streaming() as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert "no-store" in headers["cache-control"]
        assert headers["x-accel-buffering"] == "no"
        assert headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in headers
        assert (await stream.next())["event"] == GREETING
        answer = await client.send("pusher:subscribe", {"channel": rooms})
        assert (answer.status_code, answer.content) == (204, b"")
        assert await stream.next() == {"event": SUCCEEDED, "channel": rooms, "data": {}}
        for note in ("plain", "Säule € 😀 \u2028 \\ \" ' <", "x" * 9_000):
            await server.publish(rooms, room_updated(hotel=hotel, note=note))
            frame = await stream.next()
            assert frame["data"]["payload"]["note"] == note
        await client.send("pusher:ping")
        assert (await stream.next())["event"] == "pusher:pong"


async def test_polls_carry_a_session(server: Server) -> None:
    """`o` in the first answer only; a poll waits, and gets what came between two of them."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with at_hotel(server, hotel) as client:
        first = await client.poll()
        assert first[0] == "o"
        assert decoded(first[1])[0]["event"] == GREETING
        polling = asyncio.create_task(client.poll())
        assert (await client.send("pusher:subscribe", {"channel": rooms})).status_code == 204
        (line,) = await polling
        assert decoded(line) == [{"event": SUCCEEDED, "channel": rooms, "data": {}}]
        for room in ("101", "102"):
            await server.publish(rooms, room_updated(room, hotel=hotel))
        seen: list[str] = []
        while len(seen) < 2:
            for line in await client.poll():
                seen += [frame["data"]["payload"]["room_number"] for frame in decoded(line)]
        assert seen == ["101", "102"]


async def test_messages_of_one_request_are_obeyed_in_order(server: Server) -> None:
    """As WebSocket's, malformed ones included, which close nothing; `[]` is a sign of life."""
    async with fallback(server) as client, client.streaming() as stream:
        await stream.until(GREETING)
        assert (await client.post("xhr_send", b"[]")).status_code == 204
        ping = {"event": "pusher:ping", "data": {}}
        assert (await client.messages(ping, {"no": "event"}, ping)).status_code == 204
        assert [(await stream.next())["event"] for _ in range(3)] == [
            "pusher:pong",
            "pusher:error",
            "pusher:pong",
        ]


async def test_subscribe_may_overtake_the_signin(server: Server) -> None:
    """Requests have no order: a subscribe that comes first waits for who speaks."""
    hotel = new_hotel()
    async with fallback(server) as client, client.streaming() as stream:
        await stream.until(GREETING)
        await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        user_data = json.dumps({"id": f"staff-of-{hotel}"})
        signin = {"auth": staff_of(hotel), "user_data": user_data}
        await client.send("pusher:signin", signin)
        events = {(await stream.next())["event"] for _ in range(2)}
        assert events == {"pusher:signin_success", SUCCEEDED}


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'"x"', b"[1]", b'["x"', b'[["x"]]', b"null", b'["\xff"]', b'["\\ud800"]'],
)
async def test_body_is_refused_that_is_no_list_of_messages(server: Server, body: bytes) -> None:
    """400 says why, and the session goes on."""
    async with fallback(server) as client, client.streaming() as stream:
        await stream.until(GREETING)
        answer = await client.post("xhr_send", body)
        assert answer.status_code == 400
        assert "array of strings" in answer.json()["error"]
        assert answer.headers["access-control-allow-origin"] == "*"
        await client.send("pusher:ping")
        assert (await stream.next())["event"] == "pusher:pong"


@pytest.mark.parametrize("size, status", [(64 * 1024 - 40, 204), (65 * 1024, 204), (300_000, 413)])
async def test_message_ends_the_session_when_too_large(
    server: Server, size: int, status: int
) -> None:
    """64 KiB as on a WebSocket, 1009; a request over its own bound ends it as well."""
    async with fallback(server) as client, client.streaming() as stream:
        await stream.until(GREETING)
        answer = await client.send("pusher:ping", "x" * size)
        assert answer.status_code == status
        if size < 64 * 1024:
            assert (await stream.next())["event"] == "pusher:pong"
        else:
            assert told(await stream.rest()) == (1009, "message too big")
            assert (await client.post("xhr_send", b"[]")).status_code == 404


# --- receivers -----------------------------------------------------------------------------------


async def test_next_receiver_goes_on_where_the_last_one_ended(server: Server) -> None:
    """The same session takes another response without a new `o`, with what came meanwhile."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with at_hotel(server, hotel) as client:
        async with client.subscribed(rooms):
            pass
        await server.publish(rooms, room_updated("204", hotel=hotel))
        async with client.streaming(opened=False) as stream:
            assert (await stream.next())["data"]["payload"]["room_number"] == "204"
        await server.publish(rooms, room_updated("205", hotel=hotel))
        frame = await client.poll_until("room_updated")
        assert frame["data"]["payload"]["room_number"] == "205"


async def test_second_receiver_takes_the_place_of_the_first(server: Server) -> None:
    """The first is told 2010 and ends; frames go to the second alone."""
    async with fallback(server) as client, client.streaming() as first:
        await first.until(GREETING)
        async with client.streaming(opened=False) as second:
            assert told(await first.rest())[0] == 2010
            await client.send("pusher:ping")
            assert (await second.next())["event"] == "pusher:pong"
        polling = asyncio.create_task(client.poll())
        # The second response is gone: its end may be noticed after the poll has come.
        await client.send("pusher:ping")
        (line,) = await polling
        assert decoded(line)[0]["event"] == "pusher:pong"


async def test_response_says_nothing_behind_the_line_at_which_it_is_dropped(
    server: Server,
) -> None:
    """pusher-js drops it over 256 KiB at the end of a line: what follows comes in the next."""
    hotel, count = new_hotel(), 60
    rooms = f"{hotel}.rooms"
    async with at_hotel(server, hotel) as client:
        async with client.subscribed(rooms) as stream:
            for number in range(count):
                note = "ä" * 1_000 + "x" * 6_000
                await server.publish(rooms, room_updated(str(number), hotel=hotel, note=note))
            seen: list[int] = []
            while stream.said <= LIMIT:
                seen.append(int((await stream.next())["data"]["payload"]["room_number"]))
                # Several frames may share a line, and only its end counts.
                while stream.waiting:
                    seen.append(int((await stream.next())["data"]["payload"]["room_number"]))
            assert seen[-1] < count - 1
        # Whatever the response said behind that line is gone with it.
        while seen[-1] < count - 1:
            # A poll has the same bound, and more than one is needed.
            for line in await client.poll():
                frames = decoded(line) if line.startswith("a") else []
                seen += [int(frame["data"]["payload"]["room_number"]) for frame in frames]
        assert seen == list(range(count))


async def test_repeated_send_is_obeyed_once(server: Server) -> None:
    """Browsers repeat a request whose answer went astray; pusher-js numbers its own."""
    async with fallback(server) as client, client.streaming() as stream:
        await stream.until(GREETING)
        for n in ("1", "1", "2"):
            assert (await client.send("pusher:ping", t="1700", n=n)).status_code == 204
        await client.send("pusher:nonsense", t="1700", n="3")
        events = [(await stream.next())["event"] for _ in range(3)]
        assert events == ["pusher:pong", "pusher:pong", "pusher:error"]


async def test_repeated_receiver_ends_the_session(server: Server) -> None:
    """What was in an answer that went astray is unknown: the client must come again."""
    async with fallback(server) as client:
        await client.poll(t="1700", n="1")
        lines = await client.poll(t="1700", n="1")
        assert decoded(lines[0])[0]["data"]["code"] == told(lines)[0] == 4201
        assert (await client.poll(t="1700", n="2"))[0] == "o"


# --- whose a session is --------------------------------------------------------------------------


async def test_unknown_session_is_not_found(server: Server) -> None:
    """404 with a reason that a page can read, whatever was sent."""
    async with fallback(server) as client:
        for body in (b"[]", b"nonsense"):
            answer = await client.post("xhr_send", body)
            assert answer.status_code == 404
            assert answer.headers["access-control-allow-origin"] == "*"


async def test_session_is_its_paths_and_its_pages_alone(server: Server) -> None:
    """With another token, instance or origin the same names are another session."""
    hotel = new_hotel()
    jwt = staff_of(hotel)
    async with at_hotel(server, hotel) as client, client.subscribed(f"{hotel}.rooms") as stream:
        own = client.path
        others = [
            (f"/app/{APP_KEY}", None),
            (f"/t/{token('staff-2', hotels=[hotel])}/app/{APP_KEY}", None),
            (f"/s/12345678/t/{jwt}/app/{APP_KEY}", None),
            (own, "https://elsewhere.example"),
        ]
        for client.path, client.origin in others:
            assert (await client.send("pusher:ping")).status_code == 404
            lines = await client.poll()
            assert lines[0] == "o"
            assert decoded(lines[1])[0]["event"] == GREETING
        client.path, client.origin = own, None
        await client.send("pusher:ping")
        assert (await stream.next())["event"] == "pusher:pong"


# --- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", WHATS)
async def test_preflight_is_answered_for_any_page(server: Server, what: str) -> None:
    """Each URL has one, as pusher-js sends JSON; credentials are not for other origins."""
    answer = await request(
        server,
        "OPTIONS",
        f"{PATH}/{what}?t=1&n=1",
        Origin="https://desk.example",
        Access_Control_Request_Method="POST",
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-type" in answer.headers["access-control-allow-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("what", WHATS)
async def test_only_post_is_allowed(server: Server, what: str) -> None:
    """405 names the methods."""
    answer = await request(server, "GET", f"{PATH}/{what}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    "path",
    [
        f"{PATH}/eventsource",
        f"{PATH}/xhr/",
        f"{PATH}\n/xhr",
        f"/pusher/app/{APP_KEY}/xhr",
        f"/pusher/app/{APP_KEY}/7/xhr",
        f"/pusher/app/{APP_KEY}/x/abcd1234/xhr",
        f"/pusher/app/{APP_KEY}/7/{'a' * 65}/xhr",
        f"/elsewhere/app/{APP_KEY}/7/abcd1234/xhr",
    ],
)
async def test_other_paths_are_not_found(server: Server, path: str) -> None:
    """404: none of pusher-js' URLs look so."""
    assert (await request(server, "POST", path.replace("\n", "%0A"))).status_code == 404


# --- the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["xhr_streaming", "xhr"])
@pytest.mark.parametrize(
    "path, query, code",
    [
        ("/app/no-such-key", "protocol=7", 4001),
        ("/nowhere", "protocol=7", 4005),
        (f"/s/short/app/{APP_KEY}", "protocol=7", 4005),
        (f"/app/{APP_KEY}", "protocol=4", 4007),
        (f"/app/{APP_KEY}", "t=1", 4008),
        (f"/t/not.a.token/app/{APP_KEY}", "protocol=7", 4009),
        (f"/app/{APP_KEY}", "token=bad&z=?protocol=7", 4009),
    ],
)
async def test_door_is_shut_as_for_a_websocket(
    server: Server, what: str, path: str, query: str, code: int
) -> None:
    """Never by an HTTP status: `o`, the error frame, and the code that pusher-js obeys."""
    answer = await request(server, "POST", f"/pusher{path}/7/abcd1234/{what}?{query}")
    assert answer.status_code == 200
    lines = answer.text.splitlines()[1 if what == "xhr_streaming" else 0 :]
    assert lines[0] == "o"
    (frame,) = decoded(lines[1])
    assert frame["event"] == "pusher:error"
    assert (frame["data"]["code"], frame["data"]["message"]) == told(lines)
    assert told(lines)[0] == code
    sent = await request(server, "POST", f"/pusher{path}/7/abcd1234/xhr_send")
    assert sent.status_code == 404


async def test_token_may_come_by_every_way_of_a_handshake(server: Server) -> None:
    """Header, query and the cookie of our own pages, as on a WebSocket."""
    for way in ("header", "cookie", "query"):
        hotel = new_hotel()
        jwt = staff_of(hotel)
        async with fallback(server) as client:
            if way == "header":
                client.http.headers["Authorization"] = f"Bearer {jwt}"
            elif way == "cookie":
                client.http.headers["Cookie"] = f"other=1; bellhop_token={jwt}"
            client.origin = server.url
            await client.poll(**({"token": jwt} if way == "query" else {}))
            await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
            assert (await client.poll_until(SUCCEEDED))["channel"] == f"{hotel}.rooms"


async def test_cookie_of_another_page_says_nothing(server: Server) -> None:
    """A page elsewhere may post without a preflight: its visitor's cookie counts for nobody."""
    hotel = new_hotel()
    async with fallback(server) as client:
        client.http.headers["Cookie"] = f"bellhop_token={token(hotels=[hotel])}"
        client.origin = "https://elsewhere.example"
        await client.poll()
        await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        await client.send("pusher:ping")
        # The subscribe waits for somebody to say who speaks.
        assert [frame["event"] for line in await client.poll() for frame in decoded(line)] == [
            "pusher:pong"
        ]


# --- counting ------------------------------------------------------------------------------------


async def test_session_counts_as_a_connection(server: Server) -> None:
    """In the metrics, and in the log, where its token does not stand."""
    hotel, sub = new_hotel(), f"staff-{new_hotel()}"
    jwt = token(sub, hotels=[hotel])

    async def open_here() -> float:
        metrics = (await request(server, "GET", "/metrics")).text.splitlines()
        line = next(line for line in metrics if line.startswith("bellhop_connections "))
        return float(line.split()[1])

    async with fallback(server, f"/t/{jwt}") as client, client.streaming() as stream:
        await stream.until(GREETING)
        assert await open_here() >= 1
        await client.send("pusher:ping", "x" * 70_000)
        await stream.rest()
    closing = await eventually(
        lambda: [line for line in server.log_events("connection.closed") if line["sub"] == sub]
    )
    assert [(line["code"], line["received"]) for line in closing] == [(1009, 0)]
    assert jwt not in server.log
