"""The walls of a running server: small limits, and what those behind them are told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import websockets

from tests.conftest import StartServer
from tests.harness import APP_KEY, DEADLINE_S, Client, Server, eventually, new_hotel, token

PLAIN = f"/app/{APP_KEY}?protocol=7"
DEVICES = 1_000


async def walled(
    start_server: StartServer, tmp_path: Path, server_table: str = "", /, **walls: float
) -> Server:
    """Start a server whose walls are as given."""
    file = tmp_path / "walls.toml"
    table = "\n".join(f"{name} = {value}" for name, value in walls.items())
    file.write_text(f"[server]\n{server_table}\n[walls]\n{table}\n", "utf-8")
    return await start_server("--config", str(file))


async def told(server: Server, target: str, **options: Any) -> tuple[int | None, str]:
    """Dial, and return code and reason where it is turned away; ``None`` where it is greeted."""
    async with server.dial(target, **options) as socket:
        first = await Client(socket).next()
        if first["event"] == "pusher:connection_established":
            return None, ""
        data = first["data"]
        await socket.wait_closed()
        assert socket.close_code == data["code"]
        return data["code"], data["message"]


def forwarded(*hops: str) -> dict[str, Any]:
    """Options of a request that says for whom it asks."""
    return {"additional_headers": {"X-Forwarded-For": ", ".join(hops)}}


async def greeting(server: Server, turns: asyncio.Semaphore, target: str) -> bytes:
    """Open a socket as cheaply as can be, and return the beginning of its first frame."""
    request = (
        f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with turns:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request.encode())
        await reader.readuntil(b"\r\n\r\n")
        frame = await reader.readuntil(b'","')
        writer.close()
        return frame


async def test_devices_behind_one_address_all_come_back(start_server: StartServer) -> None:
    """A thousand at once pass the walls as they are by default, and so does a bad token's 4009."""
    server = await start_server()
    turns = asyncio.Semaphore(100)
    greetings = await asyncio.gather(*(greeting(server, turns, PLAIN) for _ in range(DEVICES)))
    assert all(b"pusher:connection_established" in frame for frame in greetings)
    assert (await told(server, f"/t/bad{PLAIN}"))[0] == 4009


async def test_address_is_told_when_too_many_come_without_a_token(
    start_server: StartServer, tmp_path: Path
) -> None:
    """4100, so that a stock client comes back; a good token opens all the same."""
    server = await walled(start_server, tmp_path, handshakes_per_s=0.001, handshakes_burst=3)
    for _ in range(3):
        assert await told(server, PLAIN) == (None, "")
    reason = "too many connections without a token from this address"
    assert await told(server, PLAIN) == (4100, reason)
    assert await told(server, PLAIN, **forwarded("192.0.2.1")) == (4100, reason)
    cookie = {"additional_headers": {"Cookie": "bellhop_token=stale"}}
    assert await told(server, PLAIN, **cookie) == (4100, reason)
    async with server.staff(f"{(hotel := new_hotel())}.rooms", hotels=[hotel]):
        pass


async def test_address_is_told_when_too_many_fail(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Bad tokens, paths and apps count alike; who says nothing of a token is not meant."""
    server = await walled(start_server, tmp_path, failures_per_s=0.001, failures_burst=4)
    codes = [
        (await told(server, target))[0]
        for target in (f"/t/bad{PLAIN}", "/app/nobody?protocol=7", "/nowhere", f"/app/{APP_KEY}")
    ]
    assert codes == [4009, 4001, 4005, 4008]
    reason = "too many failed attempts from this address"
    assert await told(server, f"/t/bad{PLAIN}") == (4100, reason)
    assert await told(server, "/nowhere") == (4100, reason)
    assert await told(server, PLAIN) == (None, "")
    assert await told(server, f"/t/{token()}{PLAIN}") == (None, "")


async def test_trusted_proxy_says_for_whom_it_asks(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The client is the last address that no trusted proxy has; its own word counts for nothing."""
    trusted = 'trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]'
    limits = {"handshakes_per_s": 0.001, "handshakes_burst": 1}
    server = await walled(start_server, tmp_path, trusted, **limits)
    for hops, code in (
        (["192.0.2.1"], None),
        (["192.0.2.1"], 4100),
        (["198.51.100.9", "192.0.2.1", "10.1.1.1"], 4100),
        (["192.0.2.2"], None),
        (["2001:db8::1"], None),
        (["2001:db8::2"], 4100),
    ):
        assert (await told(server, PLAIN, **forwarded(*hops)))[0] == code, hops
    assert (await told(server, PLAIN))[0] is None
    assert (await told(server, PLAIN))[0] == 4100


async def test_user_is_told_when_too_many_are_open(
    start_server: StartServer, tmp_path: Path
) -> None:
    """However they came, by path or by signing in; one that leaves makes room."""
    server = await walled(start_server, tmp_path, user_connections=2)
    mine = f"/t/{token('u')}{PLAIN}"
    async with server.client(f"/t/{token('u')}"):
        async with server.client() as second:
            await second.signin(token("u"), "u")
            await second.until("pusher:signin_success")
            assert await told(server, mine) == (4100, "the user has 2 open connections")
            async with server.client() as late:
                await late.signin(token("u"), "u")
                code, before = await late.closed()
                assert code == 4100
                assert before[-1]["data"]["message"] == "the user has 2 open connections"
            assert (await told(server, f"/t/{token('v')}{PLAIN}"))[0] is None

        async def room() -> bool:
            return (await told(server, mine))[0] is None

        await eventually(room)


async def test_user_is_told_when_connecting_too_often(
    start_server: StartServer, tmp_path: Path
) -> None:
    """A page in a loop is slowed down, and nobody else is."""
    limits = {"user_handshakes_per_s": 0.001, "user_handshakes_burst": 2}
    server = await walled(start_server, tmp_path, **limits)
    codes = [(await told(server, f"/t/{token('u')}{PLAIN}"))[0] for _ in range(3)]
    assert codes == [None, None, 4100]
    assert (await told(server, f"/t/{token('v')}{PLAIN}"))[0] is None


async def test_client_is_told_of_messages_too_many_and_then_closed(
    start_server: StartServer, tmp_path: Path
) -> None:
    """4301 for each that is not obeyed, which closes nothing; 4100 for who goes on and on."""
    server = await walled(start_server, tmp_path, messages_per_s=0.001, messages_burst=5)
    async with server.client() as client:
        for _ in range(11):
            await client.send("pusher:ping")
        code, frames = await client.closed()
    pongs, refusals, end = frames[:5], frames[5:10], frames[10:]
    assert {frame["event"] for frame in pongs} == {"pusher:pong"}
    assert [frame["data"]["code"] for frame in refusals] == [4301] * 5
    assert [frame["data"]["code"] for frame in end] == [code] == [4100]


async def test_page_takes_up_all_its_channels_when_its_messages_are_few(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Subscribing to many channels at once is no flood; control frames and pieces count."""
    server = await walled(start_server, tmp_path, messages_per_s=0.001, messages_burst=2)
    hotel = new_hotel()
    channels = [f"{hotel}.rooms", *(f"staff-chat-conversation-{n}" for n in range(50))]
    jwt = token(hotels=[hotel], conversations=list(range(50)))
    async with server.client(f"/t/{jwt}") as client:
        await asyncio.gather(*(client.subscribe(name) for name in channels[:1]))
        for name in channels[1:]:
            await client.send("pusher:subscribe", {"channel": name})
        for _ in channels[1:]:
            await client.until("pusher_internal:subscription_succeeded")
        await client.socket.ping()
        await client.socket.ping()
        await client.socket.send([json.dumps({"event": "pusher:"}), "ping"])
        code, _ = await client.closed()
        assert code == 4100


async def test_walls_are_off_when_nothing_is_limited(
    start_server: StartServer, tmp_path: Path
) -> None:
    """0 is no limit."""
    server = await walled(
        start_server,
        tmp_path,
        **{
            f"{name}_per_s": 0 for name in ("handshakes", "failures", "user_handshakes", "messages")
        },
        **{
            f"{name}_burst": 1 for name in ("handshakes", "failures", "user_handshakes", "messages")
        },
        user_connections=0,
    )
    for target, code in ((PLAIN, None), (f"/t/{token()}{PLAIN}", None), ("/nowhere", 4005)):
        assert [(await told(server, target))[0] for _ in range(3)] == [code] * 3
    async with server.client() as client:
        for _ in range(50):
            await client.send("pusher:ping")
        assert [(await client.next())["event"] for _ in range(50)] == ["pusher:pong"] * 50


async def test_large_head_is_refused(server: Server) -> None:
    """431 over 16 KiB, of a handshake and of a request, in one piece or in many."""
    line = "X-Filler: " + "x" * 4_000 + "\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    for headers, end in ((line * 5, "\r\n"), (upgrade + line * 5, "\r\n"), (line * 9, "")):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {PLAIN} HTTP/1.1\r\nHost: h\r\n{headers}{end}".encode())
        answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
        assert answer.startswith(b"HTTP/1.1 431 "), answer
        writer.close()


async def test_head_of_many_headers_is_served(server: Server) -> None:
    """What a browser with many cookies sends is not too much."""
    headers = {f"X-Filler-{number}": "x" * 3_000 for number in range(5)}
    async with server.connect(additional_headers=headers) as socket:
        await Client(socket).greeted()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    body = b"x" * 100_000
    head = f"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(2):
        # A large body in one piece with its head is not a large head.
        writer.write(head.encode() + body)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404")
        await reader.readuntil(b"Not Found")
    writer.close()


async def test_flood_of_one_leaves_the_others_alone(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Who is stopped at a wall is stopped alone."""
    server = await walled(start_server, tmp_path, messages_per_s=0.001, messages_burst=20)
    async with server.client(f"/t/{token('u')}") as flood, server.client(f"/t/{token()}") as calm:
        try:
            for _ in range(100):
                await flood.send("pusher:ping")
        except websockets.ConnectionClosed:
            pass
        code, _ = await flood.closed()
        assert code == 4100
        await calm.quiet()
