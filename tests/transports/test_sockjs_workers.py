"""Sessions over HTTP on several workers: whichever has a connection, a session is one and the same.

Its worker is its home; a worker that sleeps accepts nothing, so that tests say who has accepted.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from server.transports.homes import Homes, private_sockets
from tests.conftest import StartServer
from tests.harness import (
    APP_KEY,
    DEADLINE_S,
    ROOT,
    ended,
    environment,
    eventually,
    free_port_pair,
    make_server,
    new_hotel,
    room_updated,
    started,
    token,
)
from tests.transports.fallback import GREETING, SUCCEEDED, decoded, fallback, told
from tests.transports.test_listening import ready, self_signed
from tests.transports.workers import COUNT, Workers

WORKERS = ("--workers", str(COUNT))


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """The workers of a server that tests leave as it was; whoever has no token comes but once."""
    folder = tmp_path_factory.mktemp("crew")
    limits = "handshakes_per_s = 0.001\nhandshakes_burst = 1\n"
    settings = f'[server]\ntrusted_proxies = ["127.0.0.1"]\n[walls]\n{limits}'
    file = folder / "bellhop.toml"
    file.write_text(settings, "utf-8")
    with started(folder / "server.log", {}, *WORKERS, "--config", str(file)) as server:
        yield Workers(server)


async def crew_of(start_server: StartServer, *arguments: str, **settings: str) -> Workers:
    """Start workers of a test's own."""
    workers = Workers(await start_server(*WORKERS, *arguments, **settings))
    await workers.all()
    return workers


# --- the same session ----------------------------------------------------------------------------


async def test_session_is_the_same_by_every_worker(crew: Workers) -> None:
    """A response by one, messages by the others and by its home: all of it is one session."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    path = f"/t/{token(hotels=[hotel])}"
    async with crew.session(0, 1, 2, 0, path=path) as (one, two, home), one.streaming() as stream:
        await stream.until(GREETING)
        await two.send("pusher:subscribe", {"channel": rooms})
        assert (await stream.until(SUCCEEDED))["channel"] == rooms
        await crew.server.publish(rooms, room_updated("204", hotel=hotel, note="Säule € 😀"))
        event = await stream.until("room_updated")
        assert event["data"]["payload"]["note"] == "Säule € 😀"
        # Whoever comes second, however that is, takes the place of the first.
        async with home.streaming(opened=False) as again:
            assert told(await stream.rest())[0] == 2010
            assert (await one.send("pusher:ping")).status_code == 204
            assert (await again.until("pusher:pong"))["data"] == {}


async def test_polls_by_several_workers_miss_nothing(crew: Workers) -> None:
    """What comes between two of them waits at home, and is told once, in order."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    path = f"/t/{token(hotels=[hotel])}"
    async with crew.session(1, 0, 1, 2, path=path) as ways:
        assert (await ways[0].poll())[0] == "o"
        await ways[1].send("pusher:subscribe", {"channel": rooms})
        await ways[2].poll_until(SUCCEEDED)
        heard: list[str] = []
        for number in range(9):
            await crew.server.publish(rooms, room_updated(str(number), hotel=hotel))
            for line in await ways[number % COUNT].poll():
                heard += [frame["data"]["payload"]["room_number"] for frame in decoded(line)]
    assert heard == [str(number) for number in range(9)]


async def test_any_connection_will_do(crew: Workers) -> None:
    """Nobody chooses a worker: each request comes by a connection of its own."""
    for _ in range(10):
        async with fallback(crew.server, f"/t/{token()}") as client:
            client.http.headers["Connection"] = "close"
            assert (await client.poll())[0] == "o"
            assert (await client.send("pusher:ping")).status_code == 204
            assert (await client.poll_until("pusher:pong"))["data"] == {}


async def test_what_is_refused_is_refused_by_every_worker(crew: Workers) -> None:
    """Without a session, by another method, in another form: the same as at home."""
    async with crew.session(2, 0, 1, 2, path=f"/t/{token()}") as ways:
        for way in ways:
            url = f"{crew.server.url}/pusher{way.path}/{way.session}/xhr_send"
            preflight = await way.http.options(url)
            assert (preflight.status_code, preflight.content) == (204, b"")
            assert preflight.headers["access-control-allow-methods"] == "POST"
            assert (await way.http.get(url)).status_code == 405
            missing = await way.post("xhr_send", b"[]")
            assert (missing.status_code, missing.json()) == (404, {"error": "no such session"})
            assert len(missing.headers.get_list("date")) == 1
        await ways[0].poll()
        for way in ways:
            assert (await way.post("xhr_send", b"{}")).status_code == 400
        # Nobody reads the answer to what is too large: its session is told.
        assert (await ways[1].post("xhr_send", b"x" * 300_000)).status_code == 413
        assert told(await ways[0].poll())[0] == 1009


async def test_turned_away_by_every_worker(crew: Workers) -> None:
    """A close code in SockJS' form, in either kind of answer."""
    async with crew.session(0, 1, 2, path="/t/no-token") as ways:
        for way in ways:
            assert told(await way.poll())[0] == 4009
            async with way.streaming() as stream:
                assert told(await stream.rest())[0] == 4009


# --- who asks ------------------------------------------------------------------------------------


async def test_address_is_the_clients_own(crew: Workers) -> None:
    """Walls and trusted proxies judge who came to the worker that accepted, whatever he says."""
    told_of: dict[str, list[int]] = {}
    for address in ("192.0.2.1", "192.0.2.2"):
        for _ in range(2):
            async with crew.session(1, 0) as (client,):
                forwarded = {"X-Forwarded-For": address, "Bellhop-Peer": "198.51.100.7"}
                client.http.headers.update(forwarded)
                lines = await client.poll()
                told_of.setdefault(address, []).append(len(lines))
    # One without a token from each: a greeting has two lines, a refusal three.
    assert told_of == {"192.0.2.1": [2, 3], "192.0.2.2": [2, 3]}


@pytest.mark.long
async def test_session_is_reached_over_tls(tmp_path: Path) -> None:
    """Between the workers there is none: what one has deciphered goes to the home as it is."""
    certificate, key = self_signed(tmp_path)
    files = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    trust = ssl.create_default_context(cafile=str(certificate))
    server = make_server(tmp_path / "server.log", {}, *WORKERS, *files)
    with ended(server):
        server.start()
        url = f"https://127.0.0.1:{server.port}"
        await eventually(lambda: ready(lambda: httpx.AsyncClient(verify=trust), url))
        async with httpx.AsyncClient(verify=trust, headers={"Connection": "close"}) as http:
            for number in range(12):
                session = f"{url}/pusher/t/{token()}/app/{APP_KEY}/7/session-{number}"
                answer = await http.post(f"{session}/xhr?protocol=7", timeout=DEADLINE_S)
                assert answer.text.startswith("o\n")
                assert (await http.post(f"{session}/xhr_send", content=b"[]")).status_code == 204


# --- ends ----------------------------------------------------------------------------------------


async def test_client_that_goes_is_gone_at_home(crew: Workers) -> None:
    """Nothing is left open between two workers for a client that has left."""
    home = (await crew.all())[0]

    def passed_on() -> int:
        path = str(directory / "0")
        return sum(each.laddr == path for each in home.net_connections("unix"))

    directory = await crew.directory()
    before = passed_on()
    async with crew.session(0, 1, path=f"/t/{token()}") as (client,):
        async with client.streaming() as stream:
            await stream.until(GREETING)
            await eventually(lambda: passed_on() > before)
        await eventually(lambda: passed_on() == before)


async def test_home_that_is_killed_and_replaced(crew: Workers) -> None:
    """A stream is cut, not ended, and an answer that has not begun is a 503.

    A stock client comes again after either. What it asks for meanwhile waits for the new worker,
    which knows nothing of the old one's sessions.
    """
    path = f"/t/{token()}"
    async with AsyncExitStack() as stack:
        stays, polls = [
            (await stack.enter_async_context(crew.session(0, 1, path=path)))[0] for _ in range(2)
        ]
        stream = await stack.enter_async_context(stays.streaming())
        await stream.until(GREETING)
        polling = await polls.waiting()
        old = crew.processes[0]
        old.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            await stream.rest()
        assert (await polling).status_code == 503
        for client in (stays, polls):
            assert (await client.post("xhr_send", b"[]")).status_code == 404
            assert (await client.poll())[0] == "o"
        assert (await crew.all())[0].pid != old.pid


async def test_stopping_workers_end_what_they_say_for_each_other(
    start_server: StartServer,
) -> None:
    """4200 by way of another worker too, and nothing has to be cut for the process to end."""
    crew = await crew_of(start_server)
    path = f"/t/{token()}"
    async with AsyncExitStack() as stack:
        ways = [
            (await stack.enter_async_context(crew.session(home, (home + 1) % COUNT, path=path)))[0]
            for home in range(COUNT)
        ]
        streams = [await stack.enter_async_context(way.streaming()) for way in ways]
        polls = [await stack.enter_async_context(crew.session(0, 2, path=path)) for _ in range(2)]
        polling = [await client.waiting() for (client,) in polls]
        directory = await crew.directory()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for stream in streams:
            await stream.until(GREETING)
        process = crew.server.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert told(await stream.rest())[0] == 4200
        for poll in polling:
            assert told((await poll).text.splitlines())[0] == 4200
    assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0
    crew.server.process = None
    assert "Cancel" not in crew.server.log
    assert not directory.exists()


async def test_worker_that_leaves_alone_keeps_nobody(crew: Workers) -> None:
    """What it says for a home that stays is cut, when its own clients have had time to go."""
    await _cut_by_leaving(crew, signals=1)


@pytest.mark.long
async def test_worker_that_is_asked_twice_keeps_nobody(start_server: StartServer) -> None:
    """The same at once, however much time its own clients have."""
    await _cut_by_leaving(await crew_of(start_server, BELLHOP_DRAIN_S="600"), signals=2)


async def _cut_by_leaving(crew: Workers, *, signals: int) -> None:
    """Hold that a session outlives the worker that spoke for it, and that the home goes on."""
    async with crew.session(0, 1, 2, path=f"/t/{token()}") as (one, two):
        async with one.streaming() as stream:
            await stream.until(GREETING)
            leaving = crew.processes[1]
            leaving.send_signal(signal.SIGTERM)
            if signals == 2:
                await eventually(lambda: crew.server.log_events("node.draining"))
                leaving.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                await stream.rest()
        await eventually(lambda: not leaving.is_running())
        assert (await two.send("pusher:ping")).status_code == 204
        assert (await two.poll_until("pusher:pong"))["data"] == {}
    assert "Cancel" not in crew.server.log


@pytest.mark.long
async def test_response_that_nobody_reads_is_cut_by_whoever_writes_it(
    start_server: StartServer,
) -> None:
    """The home ends the session, whose client takes nothing any more; the other worker cuts it."""
    crew = await crew_of(
        start_server, BELLHOP_UNLISTED_CHANNELS="pusher", BELLHOP_REQUIRE_TOKEN="false"
    )
    server, pusher = crew.server, crew.server.pusher()
    async with crew.session(0, 1) as (client,):
        with crew.asleep(0, 2):
            # Little fits between: the other worker has to keep what the client does not take.
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            narrow.connect(("127.0.0.1", server.port))
            reader, writer = await asyncio.open_connection(sock=narrow, limit=4_096)
            target = f"/pusher{client.path}/{client.session}/xhr_streaming?protocol=7"
            head = f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
            live = "GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"
            writer.write(f"{live}{head}".encode())
            await reader.readuntil(b"\r\n\r\n")
        other, ours = crew.processes[1], narrow.getsockname()[1]

        def held() -> bool:
            return any(each.raddr and each.raddr[1] == ours for each in other.net_connections())

        try:
            await reader.readuntil(b"connection_established")
            await client.send("pusher:subscribe", {"channel": "news"})
            await reader.readuntil(b"subscription_succeeded")
            await eventually(held)
            batch = [{"channel": "news", "name": "n", "data": "x" * 10_000} for _ in range(10)]
            while not (lines := server.log_events("connection.closed")):
                await asyncio.to_thread(pusher.trigger_batch, batch)
            assert [line["code"] for line in lines] == [4100]
            # Nothing is read here: only the kernel can say that it is cut.
            await eventually(lambda: not held(), within_s=60)
        finally:
            writer.close()


# --- where the sockets are -----------------------------------------------------------------------


def test_one_worker_is_home_to_all() -> None:
    """Of several, each session has one home, and each worker has sessions."""
    sessions = [f"/app/key/{number % 1000}/session{number}" for number in range(200)]
    assert {Homes().elsewhere(session) for session in sessions} == {None}
    for session in sessions:
        views = [Homes(number, COUNT, Path("/d")).elsewhere(session) for number in range(COUNT)]
        (home,) = {view for view in views if view is not None}
        assert views[int(home.name)] is None


def test_path_too_long_for_a_socket_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A socket's path has 100 bytes or so, which a TMPDIR may exceed: there is another place."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with private_sockets(64) as (directory, sockets):
        assert len(sockets) == len(list(directory.iterdir())) == 64
    assert not directory.exists()


async def test_no_place_for_the_sockets_is_said(tmp_path: Path) -> None:
    """In a line that names the cause, and 2."""
    code = "import tempfile; tempfile.tempdir = '/no-such'; from server.cli import main; main()"
    command = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", code, "serve", "--port", str(free_port_pair()), *WORKERS),
        cwd=ROOT,
        env=environment({}),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(command.communicate(), DEADLINE_S)
    assert command.returncode == 2
    assert b"cannot make the workers' sockets: No such file or directory" in said
    assert b"Traceback" not in said
