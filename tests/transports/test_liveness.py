"""Who is still there: pings both ways, and what happens to those who say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websockets

from tests.harness import DEADLINE_S, Client, Server, new_hotel, started, token


@pytest.fixture(scope="module")
def hasty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that pings every second or two, and soon gives up those who say nothing."""
    settings = {
        "BELLHOP_PING_S": "1",
        "BELLHOP_ACTIVITY_TIMEOUT_S": "2",
        "BELLHOP_AUTH_TIMEOUT_S": "1",
    }
    with started(tmp_path_factory.mktemp("hasty") / "server.log", settings) as running:
        yield running


async def frames_until_closed(socket: Any) -> list[dict[str, Any]]:
    """Read without ever answering."""
    frames = []
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            frames.append(json.loads(await asyncio.wait_for(socket.recv(), DEADLINE_S)))
    return frames


async def test_clients_ping_is_answered(server: Server) -> None:
    """Whatever `data` is; Pysher's is an empty string, and comes before it has read anything."""
    async with server.connect() as socket:
        given: tuple[Any, ...] = ("", {}, None, [])
        for data in given:
            await socket.send(json.dumps({"event": "pusher:ping", "data": data}))
        await socket.send('{"event":"pusher:ping"}')
        client = Client(socket)
        await client.greeted()
        for _ in range(5):
            assert await client.next() == {"event": "pusher:pong", "data": {}}


async def test_activity_timeout_is_advertised(hasty_server: Server) -> None:
    """Clients learn from the greeting after how much silence to ping."""
    async with hasty_server.client() as client:
        pass
    assert client.frames[0]["data"]["activity_timeout"] == 2


async def answering(server: Server, answer: str, while_open: asyncio.Event) -> None:
    """Answer pings in one way, and assert that the connection outlives the event."""
    path = f"/t/{token(hotels=[new_hotel()])}"
    async with server.connect(path, ping_interval=None) as socket:
        while not while_open.is_set():
            frame = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE_S))
            if frame["event"] != "pusher:ping":
                continue
            if answer == "control ping":
                await asyncio.wait_for(await socket.ping(), DEADLINE_S)
            else:
                await socket.send(json.dumps({"event": answer, "data": {}}))
        await Client(socket).quiet()


async def test_client_closes_when_it_never_answers_and_stays_when_it_does(
    hasty_server: Server,
) -> None:
    """4201 after pings that nobody answered; a pong, any other frame and a control ping count."""
    closed = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for answer in ("pusher:pong", "pusher:ping", "control ping"):
            tasks.create_task(answering(hasty_server, answer, closed))
        path = f"/t/{token(hotels=[new_hotel()])}"
        async with hasty_server.connect(path, ping_interval=None) as socket:
            _greeting, *frames = await frames_until_closed(socket)
            assert socket.close_code == 4201
        closed.set()
    *pings, error = frames
    assert pings
    assert all(frame == {"event": "pusher:ping", "data": {}} for frame in pings)
    assert (error["event"], error["data"]["code"]) == ("pusher:error", 4201)


async def test_connection_closes_when_nobody_authenticates(hasty_server: Server) -> None:
    """4102, whether or not subscribes wait; pusher-js comes back after a second."""
    rooms = f"{new_hotel()}.rooms"

    async def closed(*channels: str) -> None:
        async with hasty_server.client() as client:
            for channel in channels:
                await client.send("pusher:subscribe", {"channel": channel})
            code, before = await client.closed()
        assert code == 4102
        (error,) = before
        assert (error["event"], error["data"]["code"]) == ("pusher:error", 4102)

    await asyncio.gather(closed(), closed(rooms, rooms))


async def test_bad_cookie_is_ignored(hasty_server: Server) -> None:
    """A stale cookie is nobody's decision: not 4009, but 4102 when nobody signs in."""

    async def closed(jwt: str) -> int:
        headers = {"Cookie": f"bellhop_token={jwt}"}
        async with hasty_server.connect(additional_headers=headers) as socket:
            client = Client(socket)
            await client.greeted()
            code, _ = await client.closed()
            return code

    expired = token(exp=1_000_000_000)
    of_another_key = token(secret="another-secret-that-is-long-enough")
    of_no_hotel = token(hotels=["staff-slug"])
    cookies = (expired, of_another_key, of_no_hotel, "not-a-token")
    assert await asyncio.gather(*map(closed, cookies)) == [4102] * 4


async def test_connection_stays_when_a_signature_proves_it(hasty_server: Server) -> None:
    """Who holds the backend's signature for one channel is known, though not by a token."""
    channel = f"private-{new_hotel()}.rooms"
    async with hasty_server.client() as client, hasty_server.client() as unknown:
        signed = hasty_server.pusher().authenticate(channel, client.socket_id)
        await client.subscribe(channel, **signed)
        assert (await unknown.closed())[0] == 4102
        # It proves that channel and no other.
        other = await client.refused(f"{new_hotel()}.rooms")
        assert other["status"] == 401


async def test_signin_is_in_time_after_a_bad_cookie(hasty_server: Server) -> None:
    """The page may still sign in, and what it subscribed to meanwhile is not lost."""
    hotel = new_hotel()
    headers = {"Cookie": "bellhop_token=stale"}
    async with hasty_server.connect(additional_headers=headers) as socket:
        client = Client(socket)
        await client.greeted()
        await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        await client.signin(token(hotels=[hotel]))
        await client.until("pusher_internal:subscription_succeeded")


async def test_token_that_expires_closes_before_its_end(hasty_server: Server) -> None:
    """4101 in the seconds before `exp`: nothing is heard with an expired token."""
    exp = int(time.time()) + 4
    jwt = token(exp=exp, hotels=[new_hotel()])

    async def closed() -> None:
        async with hasty_server.client(f"/t/{jwt}") as client:
            code, before = await client.closed()
        assert time.time() < exp
        assert (code, before[-1]["data"]["code"]) == (4101, 4101)

    await asyncio.gather(*(closed() for _ in range(8)))
