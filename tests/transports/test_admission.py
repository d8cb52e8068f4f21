"""A herd at the door: handshakes wait in order, others are served meanwhile, nobody is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.transports import http
from server.transports.admission import Admission, AdmissionLimits
from server.transports.http import HttpProtocol
from tests.conftest import StartServer
from tests.harness import APP_KEY, DEADLINE_S, HOTEL, ROOMS, Server, eventually, room_updated, token

HERD = 50
ONE_A_TURN = "[walls]\nhandshakes_turn_ms = 0.001\n"
HEAD = (
    "HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
METRICS = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"


def upgrade(number: int = 0) -> bytes:
    """Return a handshake of a staff member."""
    return f"GET /t/{token(f'staff-{number}')}/app/{APP_KEY}?protocol=7 {HEAD}".encode()


@contextlib.contextmanager
def asleep(server: Server) -> Iterator[None]:
    """Keep the server from its work: what is sent meanwhile reaches it all at once."""
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


class Comer:
    """One client's bare connection."""

    def __init__(self, server: Server, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
        self.socket.sendall(request)

    def told(self) -> dict[str, Any]:
        """Return the first frame, after the upgrade that everybody gets."""
        with self.socket.makefile("rb") as wire:
            assert wire.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
            while wire.readline() != b"\r\n":
                pass
            opcode, length = wire.read(2)
            assert opcode == 0x81
            if length == 126:
                length = int.from_bytes(wire.read(2))
            frame: dict[str, Any] = json.loads(wire.read(length))
        if isinstance(frame["data"], str):
            frame["data"] = json.loads(frame["data"])
        return frame

    def answered(self) -> bytes:
        """Return the body of the answer to a request, without its chunks' lengths."""
        with self.socket.makefile("rb") as wire:
            assert wire.readline() == b"HTTP/1.1 200 OK\r\n"
            head = dict(
                line.rstrip().lower().split(b": ", 1) for line in iter(wire.readline, b"\r\n")
            )
            if b"content-length" in head:
                return wire.read(int(head[b"content-length"]))
            chunks = []
            while length := int(wire.readline(), 16):
                chunks.append(wire.read(length + 2)[:-2])
            return b"".join(chunks)


Come = Callable[[Server, bytes], Comer]


@pytest.fixture
def come() -> Iterator[Come]:
    """Open connections that are closed after the test."""
    with contextlib.ExitStack() as stack:

        def connect(server: Server, request: bytes) -> Comer:
            comer = Comer(server, request)
            stack.callback(comer.socket.close)
            return comer

        yield connect


async def herd_of(
    start_server: StartServer, tmp_path: Path, toml: str = ONE_A_TURN, **settings: str
) -> Server:
    """Start a server with these walls."""
    file = tmp_path / "walls.toml"
    file.write_text(toml, "utf-8")
    return await start_server("--config", str(file), **settings)


def greeted(frames: list[dict[str, Any]]) -> list[str]:
    """Return the socket ids of those that were greeted."""
    event = "pusher:connection_established"
    return [frame["data"]["socket_id"] for frame in frames if frame["event"] == event]


async def opened(server: Server, count: int) -> list[str]:
    """Return the socket ids of all sessions ever, in order, once there are as many as that."""
    event = "connection.opened"
    entries = await eventually(
        lambda: entries if len(entries := server.log_events(event)) >= count else None
    )
    return [entry["socket_id"] for entry in entries]


async def test_herd_is_greeted_in_order(
    start_server: StartServer, come: Come, tmp_path: Path
) -> None:
    """Whoever comes first is greeted first, though each turn of the loop greets but one."""
    server = await herd_of(start_server, tmp_path)
    with asleep(server):
        comers = [come(server, upgrade(number)) for number in range(HERD)]
    ids = greeted([comer.told() for comer in comers])
    assert len(ids) == HERD
    assert await opened(server, HERD) == ids


async def test_others_are_served_while_a_herd_waits(
    start_server: StartServer, come: Come, tmp_path: Path
) -> None:
    """A request on HTTP is answered, and an event delivered, before the herd's last is greeted."""
    server = await herd_of(start_server, tmp_path)
    async with server.staff(ROOMS, hotels=[HOTEL]) as client, server.redis() as redis:
        with asleep(server):
            comers = [come(server, upgrade(number)) for number in range(200)]
            asking = come(server, METRICS)
            body = json.dumps(room_updated())
            await redis.publish(f"bellhop:publish:{ROOMS}", body)
        with asking.socket.makefile("rb") as answer:
            lines = iter(answer.readline, b"")
            waiting = next(line for line in lines if line.startswith(b"bellhop_handshakes_waiting"))
        assert float(waiting.split()[1]) > 0
        assert (await client.next())["event"] == "room_updated"
        assert len(greeted([comer.told() for comer in comers])) == 200


async def test_herd_is_told_when_too_many_wait(
    start_server: StartServer, come: Come, tmp_path: Path
) -> None:
    """Upgraded, told 4100 and closed, never refused; the first ones in the queue are greeted."""
    server = await herd_of(start_server, tmp_path, f"{ONE_A_TURN}waiting_handshakes = 10\n")
    with asleep(server):
        comers = [come(server, upgrade(number)) for number in range(HERD)]
    frames = [comer.told() for comer in comers]
    assert len(greeted(frames[:10])) == 10
    turned = [frame["data"] for frame in frames if frame["event"] == "pusher:error"]
    assert {each["code"] for each in turned} == {4100}
    assert {each["message"] for each in turned} == {"too many are connecting now: come again"}
    assert len(turned) + len(greeted(frames)) == HERD
    assert len(server.log_events("handshakes.crowded")) == 1
    assert greeted([come(server, upgrade()).told()])


async def test_client_that_leaves_the_queue_is_forgotten(
    start_server: StartServer, come: Come, tmp_path: Path
) -> None:
    """No session is made for it, and those before and behind it are greeted."""
    server = await herd_of(start_server, tmp_path)
    with asleep(server):
        comers = [come(server, upgrade(number)) for number in range(3 * HERD)]
        for gone in comers[HERD : 2 * HERD]:
            gone.socket.close()
    staying = comers[:HERD] + comers[2 * HERD :]
    assert len(greeted([comer.told() for comer in staying])) == 2 * HERD
    assert len(await opened(server, 2 * HERD)) == 2 * HERD


async def test_herd_is_told_when_the_server_stops(
    start_server: StartServer, come: Come, tmp_path: Path
) -> None:
    """Who waits then is told to come again, by a code that brings it to another node."""
    server = await herd_of(start_server, tmp_path)
    assert server.process is not None
    with asleep(server):
        comers = [come(server, upgrade(number)) for number in range(HERD)]
        server.process.send_signal(signal.SIGTERM)
    for comer in comers:
        frame = comer.told()
        if frame["event"] == "pusher:error":
            assert frame["data"]["code"] == 4100
    assert server.end() == 0


# --- sessions over HTTP --------------------------------------------------------------------------


def poll(session: str = "session", user: str = "over-http") -> bytes:
    """Return the request that opens a session over HTTP."""
    target = f"/pusher/t/{token(user)}/app/{APP_KEY}/1/{session}/xhr?protocol=7"
    return f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode()


async def test_session_over_http_waits_with_the_others(
    start_server: StartServer, come: Come, tmp_path: Path
) -> None:
    """It is greeted behind those who came before it; none is made for a client that has left.

    Of two requests for one session the first opens it. The second finds it, and takes the place of
    the first, as at any time.
    """
    server = await herd_of(start_server, tmp_path)
    with asleep(server):
        before = [come(server, upgrade(number)) for number in range(HERD)]
        polling = come(server, poll("polls"))
        come(server, poll("leaves")).socket.close()
        streaming = poll("twice").replace(b"/xhr?", b"/xhr_streaming?")
        first, _ = [come(server, streaming) for _ in range(2)]
        after = [come(server, upgrade(number)) for number in range(HERD)]
    ids = greeted([comer.told() for comer in before])
    assert b"connection_established" in await asyncio.to_thread(polling.answered)
    said = await asyncio.to_thread(first.answered)
    assert said.endswith(b'c[2010,"another receiver has come"]\n')
    ids_after = greeted([comer.told() for comer in after])
    in_order = await opened(server, 2 * HERD + 2)
    assert len(in_order) == 2 * HERD + 2
    assert in_order[:HERD] == ids
    # A request is read a moment later than a handshake that comes with it.
    assert [each for each in in_order[HERD:] if each in ids_after] == ids_after


async def test_session_over_http_is_told_when_too_many_wait(
    start_server: StartServer, come: Come, tmp_path: Path
) -> None:
    """4100 in the words of its own transport, in either kind of answer."""
    server = await herd_of(start_server, tmp_path, f"{ONE_A_TURN}waiting_handshakes = 10\n")
    streaming = b"/xhr_streaming?"
    with asleep(server):
        comers = [come(server, upgrade(number)) for number in range(HERD)]
        polling = [come(server, poll(f"poll{number}")) for number in range(HERD)]
        pouring = [
            come(server, poll(f"pour{number}").replace(b"/xhr?", streaming))
            for number in range(HERD)
        ]
    end = b'c[4100,"too many are connecting now: come again"]\n'
    said = [await asyncio.to_thread(comer.answered) for comer in polling]
    told = [each for each in said if each.endswith(end)]
    assert told
    assert all(each.startswith(b"o\na") for each in told)
    # Who comes last finds no room; whoever did has a response without an end.
    last = await asyncio.to_thread(pouring[-1].answered)
    assert last.startswith(b"h" * 2048 + b"\no\na")
    assert last.endswith(end)
    assert len(greeted([comer.told() for comer in comers])) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has prlimit")
async def test_connections_wait_when_there_are_no_file_descriptors(
    start_server: StartServer, come: Come
) -> None:
    """Nobody is reset; when there are some again, the connection is accepted."""
    server = await start_server()
    assert server.process is not None
    pid = server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), limits[1]))
    comer = come(server, upgrade())
    await eventually(lambda: server.log_events("accepting.failed"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert greeted([comer.told()])


# --- the queue alone -----------------------------------------------------------------------------


class Arrival:
    """A handshake that notes when it is answered."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def greet(self, *, crowded: bool) -> None:
        self.notes.append(f"{self.name} is told" if crowded else self.name)


class Broker:
    """Says whether it is behind."""

    def __init__(self) -> None:
        self.is_behind = False

    def __call__(self) -> bool:
        return self.is_behind


async def test_turn_ends_when_its_time_is_over() -> None:
    """Each turn answers as many as fit, and the loop looks at everything else in between."""
    times = iter(range(1000))
    admission = Admission(AdmissionLimits(turn_s=2), clock=lambda: float(next(times)))
    notes: list[str] = []
    for name in "abcdefg":
        admission.come(Arrival(name, notes))
    assert notes == []
    while admission.waiting:
        await asyncio.sleep(0)
        notes.append("-")
    assert "".join(notes) == "ab-cd-ef-g-"


async def test_nobody_is_let_in_while_the_broker_is_behind() -> None:
    """Whoever waits stays in line, and is answered when the broker has caught up."""
    broker = Broker()
    admission = Admission(behind=broker)
    broker.is_behind = True
    notes: list[str] = []
    stays, goes = Arrival("a", notes), Arrival("b", notes)
    admission.come(stays)
    admission.come(goes)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (notes, admission.waiting) == ([], 2)
    admission.leave(goes)
    broker.is_behind = False
    await eventually(lambda: notes == ["a"])
    assert (admission.waiting, admission.turned_away) == (0, 0)


async def test_queue_has_no_bound_when_that_is_set() -> None:
    """0 is no limit."""
    notes: list[str] = []
    bounded, unbounded = (Admission(AdmissionLimits(waiting=most)) for most in (1, 0))
    for admission in (bounded, unbounded):
        for name in "ab":
            admission.come(Arrival(name, notes))
    assert notes == ["b is told"]
    await eventually(lambda: not (bounded.waiting or unbounded.waiting))
    assert notes == ["b is told", "a", "a", "b"]


# --- the wire ------------------------------------------------------------------------------------


class Upgraded(asyncio.Protocol):
    """What an upgraded connection is handed to: echoes everything but the handshake."""

    def __init__(self, **_: object) -> None:
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"upgraded " if data.startswith(b"GET ") else data)


@contextlib.asynccontextmanager
async def waiting_wire(
    broker: Broker,
) -> AsyncIterator[tuple[HttpProtocol, Admission, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection whose handshake waits for the broker."""
    admission = Admission(behind=broker)
    broker.is_behind = True
    made: list[HttpProtocol] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer nothing."""

    config = uvicorn.Config(app, log_config=None, lifespan="off", ws=Upgraded)
    config.load()

    def protocol() -> HttpProtocol:
        made.append(HttpProtocol(config, ServerState(), {}, admission=admission))
        return made[0]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(upgrade())
    await eventually(lambda: admission.waiting)
    try:
        yield made[0], admission, reader, writer
    finally:
        writer.close()
        server.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        made[0].transport.abort()
        await server.wait_closed()


async def test_wait_is_no_delay_of_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits longer than a head may take is not cut, and what it has said early is not lost."""
    monkeypatch.setattr(http, "HEAD_S", 0.1)
    broker = Broker()
    async with waiting_wire(broker) as (_, _, reader, writer):
        writer.write(b"early")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.4)
        broker.is_behind = False
        came = await asyncio.wait_for(reader.readexactly(len("upgraded early")), DEADLINE_S)
        assert came == b"upgraded early"


async def test_client_that_talks_while_it_waits_is_cut() -> None:
    """What it may say early is bounded as a head is."""
    async with waiting_wire(Broker()) as (_, admission, reader, writer):
        writer.write(b"x" * (http.MAX_HEAD + 1))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        await eventually(lambda: not admission.waiting)


async def test_handshake_that_waits_is_answered_when_the_server_stops() -> None:
    """It is upgraded, so that it can be told why it must go."""
    async with waiting_wire(Broker()) as (protocol, admission, reader, _):
        protocol.shutdown()
        assert await asyncio.wait_for(reader.readexactly(9), DEADLINE_S) == b"upgraded "
        assert admission.waiting == 0
