"""How sessions over HTTP end: told with a code, or lost when nobody comes for their frames."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness import (
    APP_ID,
    APP_KEY,
    Server,
    eventually,
    new_hotel,
    room_updated,
    started,
    token,
)
from tests.transports.fallback import GREETING, decoded, fallback, told

DESK = "https://desk.example"


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows its pages."""
    settings = {"BELLHOP_ALLOWED_ORIGINS": DESK}
    with started(tmp_path_factory.mktemp("guarded") / "server.log", settings) as running:
        yield running


async def plain_server(start_server: StartServer) -> Server:
    """Start a plain Pusher server."""
    return await start_server(BELLHOP_UNLISTED_CHANNELS="pusher", BELLHOP_REQUIRE_TOKEN="false")


async def closings(server: Server, sub: str, count: int = 1) -> list[dict[str, Any]]:
    """Await that so many connections of a user have ended; return their lines of the log."""

    def ended() -> list[dict[str, Any]]:
        return [line for line in server.log_events("connection.closed") if line["sub"] == sub]

    await eventually(lambda: len(ended()) >= count)
    return ended()


async def connections(server: Server) -> int:
    """Return how many connections the app has."""
    answer = await server.api("GET", f"/apps/{APP_ID}/connections")
    return int(answer.json()["connections"])


# --- told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoked", "terminated"])
async def test_ended_by_the_backend_is_told_to_both_kinds(server: Server, how: str) -> None:
    """4009 ends the open response; a session between two polls is told in the next answer."""
    sub = f"staff-{uuid.uuid4().hex[:8]}"
    path = f"/t/{token(sub)}"
    async with fallback(server, path) as stays, fallback(server, path) as polls:
        await polls.poll()
        async with stays.streaming() as stream:
            await stream.until(GREETING)
            if how == "revoked":
                answer = await server.api("POST", f"/apps/{APP_ID}/revocations", {"sub": sub})
            else:
                signin = {"auth": token(sub), "user_data": f'{{"id":"{sub}"}}'}
                for client in (stays, polls):
                    await client.send("pusher:signin", signin)
                await polls.poll_until("pusher:signin_success")
                await stream.until("pusher:signin_success")
                users = f"/apps/{APP_ID}/users/{sub}/terminate_connections"
                answer = await server.api("POST", users, {})
            assert answer.status_code == 200
            lines = await stream.rest()
            assert decoded(lines[-2])[-1]["data"]["code"] == told(lines)[0] == 4009
        lines = await polls.poll()
        assert decoded(lines[-2])[-1]["event"] == "pusher:error"
        assert told(lines)[0] == 4009
        # Nothing is left of either.
        for client in (stays, polls):
            assert (await client.post("xhr_send", b"[]")).status_code == 404
    assert {line["code"] for line in await closings(server, sub, 2)} == {4009}


@pytest.mark.parametrize("signals", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_stopping_server_tells_its_clients_and_ends(
    start_server: StartServer, signals: int
) -> None:
    """4200 ends streams and polls, open ones of both, before the process; asked twice, at once."""
    if signals == 1:
        server = await start_server()
    else:
        # While another node is there, one signal ends sessions a few at a time.
        other = await start_server()
        server = await start_server(REDIS_URL=other.redis_url, BELLHOP_DRAIN_S="600")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(fallback(server)) for _ in range(3)]
        stream = await stack.enter_async_context(clients[0].streaming())
        await stream.until(GREETING)
        polling = [await client.waiting() for client in clients[1:]]
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        if signals == 2:
            await eventually(lambda: server.log_events("node.draining"))
            server.process.send_signal(signal.SIGTERM)
        assert told(await stream.rest()) == (4200, "the node is draining")
        for poll in polling:
            assert told((await poll).text.splitlines())[0] == 4200
    assert await asyncio.to_thread(server.process.wait, 15) == 0
    server.process = None
    assert len(server.log_events("connection.closed")) == len(clients)


async def test_refused_page_is_told(guarded_server: Server) -> None:
    """4009 can be read by the page that is refused, with no word of anything else."""
    for origin, code in ((DESK, None), ("https://elsewhere.example", 4009), ("null", 4009)):
        async with fallback(guarded_server) as client:
            client.origin = origin
            answer = await client.post("xhr", protocol="7")
            assert answer.headers["access-control-allow-origin"] == "*"
            lines = answer.text.splitlines()
            if code is None:
                assert decoded(lines[1])[0]["event"] == GREETING
            else:
                assert told(lines) == (code, "the page's origin is not allowed")


async def test_flood_is_told_and_ended(start_server: StartServer, tmp_path: Path) -> None:
    """4301 for each message that is not obeyed, then 4100; signs of life count too."""
    file = tmp_path / "walls.toml"
    file.write_text("[walls]\nmessages_per_s = 0.001\nmessages_burst = 5\n", "utf-8")
    server = await start_server("--config", str(file))
    ping = {"event": "pusher:ping", "data": {}}
    async with fallback(server) as client, client.streaming() as stream:
        await stream.until(GREETING)
        await client.messages(*[ping] * 11)
        frames = [await stream.next() for _ in range(11)]
        assert [frame["event"] for frame in frames[:5]] == ["pusher:pong"] * 5
        assert [frame["data"]["code"] for frame in frames[5:]] == [4301] * 5 + [4100]
        assert told(await stream.rest())[0] == 4100
    async with fallback(server) as client, client.streaming() as stream:
        await stream.until(GREETING)
        codes = {(await client.post("xhr_send", b"[]")).status_code for _ in range(12)}
        assert codes <= {204, 404}
        assert told(await stream.rest())[0] == 4100


async def test_walls_count_sessions_by_address_and_user(
    start_server: StartServer, tmp_path: Path
) -> None:
    """As WebSockets: too many without a token, too many of one user however it signs in."""
    file = tmp_path / "walls.toml"
    limits = "handshakes_per_s = 0.001\nhandshakes_burst = 2\nuser_connections = 1\n"
    file.write_text(f"[walls]\n{limits}", "utf-8")
    server = await start_server("--config", str(file))
    async with AsyncExitStack() as stack:
        first, signs_in, third = [
            await stack.enter_async_context(fallback(server)) for _ in range(3)
        ]
        owner, second = [
            await stack.enter_async_context(fallback(server, f"/t/{token()}")) for _ in range(2)
        ]
        for client in (first, signs_in, owner):
            assert len(await client.poll()) == 2
        assert "without a token from this address" in told(await third.poll())[1]
        reason = (4100, "the user has 1 open connections")
        assert told(await second.poll()) == reason
        signin = {"auth": token(), "user_data": '{"id":"staff-1"}'}
        await signs_in.send("pusher:signin", signin)
        assert told(await signs_in.poll()) == reason
        # Whose session has ended makes room.
        await owner.send("pusher:ping", "x" * 70_000)
        assert told(await owner.poll())[0] == 1009
        assert len(await second.poll()) == 2


# --- nobody reads --------------------------------------------------------------------------------


async def test_client_that_fetches_nothing_is_a_slow_consumer(
    start_server: StartServer,
) -> None:
    """What waits for a poll is bounded: over 1 MiB the next one is told 4100."""
    server = await plain_server(start_server)
    pusher = server.pusher()
    async with fallback(server) as client:
        await client.poll()
        await client.send("pusher:subscribe", {"channel": "news"})
        await client.poll_until("pusher_internal:subscription_succeeded")
        batch = [{"channel": "news", "name": "n", "data": "x" * 10_000} for _ in range(10)]
        for _ in range(8):
            await asyncio.to_thread(pusher.trigger_batch, batch)
        # Below the bound everything is kept, in order, over as many answers as it takes.
        assert not server.log_events("connection.closed")
        count = 0
        while count < 80:
            lines = await client.poll()
            count += sum(len(decoded(line)) for line in lines)
        for _ in range(13):
            await asyncio.to_thread(pusher.trigger_batch, batch)
        lines = await client.poll()
        assert told(lines) == (4100, "slow consumer: too much waits to be read")


@pytest.mark.long
async def test_response_that_nobody_reads_is_cut(start_server: StartServer) -> None:
    """A client whose socket takes nothing any more is ended, and its connection is cut."""
    server = await plain_server(start_server)
    pusher = server.pusher()
    # Nothing is read of it, and little fits between.
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4_096)
    try:
        target = f"/pusher/app/{APP_KEY}/1/abcdefgh/xhr_streaming?protocol=7"
        writer.write(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
        await reader.readuntil(b"connection_established")
        async with fallback(server) as client:
            client.session = "1/abcdefgh"
            await client.send("pusher:subscribe", {"channel": "news"})
            await reader.readuntil(b"subscription_succeeded")
            batch = [{"channel": "news", "name": "n", "data": "x" * 10_000} for _ in range(10)]
            while not (lines := server.log_events("connection.closed")):
                await asyncio.to_thread(pusher.trigger_batch, batch)
            assert [line["code"] for line in lines] == [4100]
            assert await connections(server) == 0
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
    finally:
        writer.close()


# --- silence -------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("kind", ["stream", "poll"])
async def test_session_is_lost_when_nobody_comes_for_it(guarded_server: Server, kind: str) -> None:
    """Ten seconds after its last response; until then it is there, and hears."""
    hotel, sub = new_hotel(), f"staff-{uuid.uuid4().hex[:8]}"
    async with fallback(guarded_server, f"/t/{token(sub, hotels=[hotel])}") as client:
        async with client.subscribed(f"{hotel}.rooms"):
            pass
        if kind == "poll":
            await guarded_server.publish(f"{hotel}.rooms", room_updated(hotel=hotel))
            await client.poll_until("room_updated")
        (line,) = await closings(guarded_server, sub)
        assert line["cause"] == "the client left"
        assert line["seconds"] >= 10
        assert (await client.post("xhr_send", b"[]")).status_code == 404
        assert (await client.poll())[0] == "o"


@pytest.mark.long
async def test_silent_responses_get_a_heartbeat(start_server: StartServer) -> None:
    """`h` after 25 s, which ends a poll and not a stream: clients give up after 30."""
    server = await start_server(BELLHOP_PING_S="3600", BELLHOP_REQUIRE_TOKEN="false")
    async with fallback(server) as polls, fallback(server) as stays:
        polls.http.timeout = stays.http.timeout = 40
        await polls.poll()
        polling = asyncio.create_task(polls.poll())
        async with stays.streaming() as stream:
            await stream.until(GREETING)
            async with asyncio.timeout(40):
                assert await anext(stream.lines) == "h"
            await stays.post("xhr_send", b"[]")
            await stays.send("pusher:ping")
            assert (await stream.next())["event"] == "pusher:pong"
        assert await polling == ["h"]
