"""The commands as processes: what they do with a running server, and how they end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from server.broker.embedded import EmbeddedValkey
from tests.harness import (
    DEADLINE_S,
    ROOT,
    Server,
    command_line,
    ended,
    environment,
    eventually,
    free_port_pair,
    make_server,
    new_hotel,
    room_updated,
    token,
)
from tests.server.test_cli import Outcome

NOTHING: Final[Mapping[str, str]] = {}


@asynccontextmanager
async def process(
    *arguments: str, settings: Mapping[str, str] = NOTHING
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m server` beside the test, and kill it if it still runs at the end."""
    command = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "server", *arguments),
        cwd=ROOT,
        env=environment(settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield command
    finally:
        if command.returncode is None:
            command.kill()
            await command.communicate()


async def finished(
    *arguments: str, settings: Mapping[str, str] = NOTHING, stdin: bytes = b""
) -> Outcome:
    """Run `python -m server` to its end."""
    async with process(*arguments, settings=settings) as command:
        out, err = await asyncio.wait_for(command.communicate(stdin), DEADLINE_S)
        assert command.returncode is not None
        return Outcome(command.returncode, out.decode(), err.decode())


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; one that nobody has waited for runs no more."""
    return [member for member in processes if command_line(member)]


def workers(supervisor: psutil.Process) -> list[psutil.Process]:
    """Return the living worker processes."""
    return [child for child in supervisor.children() if "--fd" in command_line(child)]


async def test_server_refuses_a_port_in_use(server: Server) -> None:
    """One line that names the address, and 2; not a server that nobody reaches."""
    outcome = await finished("serve", "--port", str(server.port))
    (line,) = outcome.mistakes
    assert outcome.code == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in line


async def test_server_refuses_a_port_of_valkey_in_use() -> None:
    """Another Redis on the port after ours is not taken for our own."""
    port = free_port_pair()
    async with EmbeddedValkey(port + 1):
        outcome = await finished("serve", "--port", str(port))
    (line,) = outcome.mistakes
    assert outcome.code == 2
    assert f"did not start on port {port + 1}" in line
    assert "REDIS_URL" in line


async def test_token_opens_what_it_says(server: Server) -> None:
    """A guest's and an operator's, presented to a server of the same configuration."""
    hotel = new_hotel()
    guest = ["--kind", "guest", "--booking", "BK-5", "--scope", "STATUS_READ", "--hotel", hotel]
    outcome = await finished("token", "--sub", "guest-5", *guest)
    async with server.client(f"/t/{outcome.out.strip()}") as client:
        await client.subscribe("private-guest-booking.BK-5")
        await client.refused(f"{hotel}.rooms")
    outcome = await finished("token", "--sub", "ops", "--kind", "service", "--hotel", "*")
    async with server.client(f"/t/{outcome.out.strip()}") as client:
        await client.subscribe(f"{hotel}.rooms")


async def test_publish_by_http_prints_the_receipt(server: Server, tmp_path: Path) -> None:
    """Event id and sequence; bare data becomes the payload of an envelope, a whole one stays."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    file = tmp_path / "event.json"
    file.write_text(json.dumps(room_updated("8", hotel=hotel)))
    bare = '{"room_number": "7", "is_occupied": true}'
    async with server.staff(rooms, hotels=[hotel]) as client:
        for event, data, stdin in (
            ("room_occupancy_updated", "-", bare.encode()),
            ("room_updated", f"@{file}", b""),
        ):
            command = ("publish", rooms, event, "--data", data, "--url", server.url)
            outcome = await finished(*command, stdin=stdin)
            assert (outcome.code, outcome.err) == (0, "")
            frame = await client.next()
            meta = frame["data"]["meta"]
            assert outcome.out == f"{meta['event_id']} sequence {meta['sequence']}\n"
            assert frame["event"] == event
            assert meta["hotel_slug"] == hotel
    assert [frame["data"]["payload"]["room_number"] for frame in client.frames[-2:]] == ["7", "8"]


async def test_publish_by_redis_prints_the_event_id(server: Server) -> None:
    """The same event by the other entrance."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    data = '{"room_number": "7", "is_occupied": true}'
    async with server.staff(rooms, hotels=[hotel]) as client:
        command = ("publish", rooms, "room_occupancy_updated", "--data", data, "--via", "redis")
        outcome = await finished(*command, settings={"REDIS_URL": server.redis_url})
        assert (outcome.code, outcome.err) == (0, "")
        assert (await client.next())["data"]["meta"]["event_id"] == outcome.out.strip()


async def test_publish_says_why_it_was_refused(server: Server) -> None:
    """1, and the server's own reason."""
    cases: list[tuple[str, dict[str, str], str]] = [
        ("news", {}, "403"),
        (f"{new_hotel()}.rooms", {"PUSHER_SECRET": "wrong"}, "check the secret"),
    ]
    for channel, settings, reason in cases:
        outcome = await finished("publish", channel, "e", "--url", server.url, settings=settings)
        assert outcome.code == 1
        assert reason in outcome.mistakes[0]


async def test_tail_prints_a_line_per_event(server: Server) -> None:
    """As a real client: by default with an operator's token; Ctrl-C ends it well."""
    hotel = new_hotel()
    channels = [f"{hotel}.rooms", f"private-{hotel}.rooms"]
    async with process("tail", *channels, "--url", server.url) as tail:
        await eventually(lambda: _listened(server, channels))
        for channel in channels:
            await server.publish(channel, room_updated(hotel=hotel))
        assert tail.stdout is not None
        for channel in channels:
            line = json.loads(await asyncio.wait_for(tail.stdout.readline(), DEADLINE_S))
            assert (line["channel"], line["event"]) == (channel, "room_updated")
            assert line["data"]["meta"]["hotel_slug"] == hotel
        tail.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(tail.communicate(), DEADLINE_S)
        assert (tail.returncode, err) == (0, b"")


async def _listened(server: Server, channels: list[str]) -> bool:
    """Whether the server has subscribers for all the channels."""
    async with server.redis() as redis:
        answer: Any = await redis.pubsub_numsub(*(f"bellhop:{{1:{name}}}:bus" for name in channels))
    return all(count == 1 for _, count in answer)


async def test_tail_says_why_it_was_turned_away(server: Server) -> None:
    """1 with the reason of the close or of the refused subscription."""
    rooms = f"{new_hotel()}.rooms"
    cases: list[tuple[list[str], dict[str, str], str]] = [
        (["--token", token(exp=1_000_000_000)], {}, "expired"),
        (["--token", token()], {}, "does not name the hotel"),
        ([], {"PUSHER_KEY": "other"}, "4001"),
    ]
    for arguments, settings, reason in cases:
        outcome = await finished("tail", rooms, *arguments, "--url", server.url, settings=settings)
        assert outcome.code == 1
        (line,) = outcome.mistakes
        assert reason in line


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_serve_ends_well_when_asked(tmp_path: Path, how: signal.Signals) -> None:
    """0, clients are told 4200, and the embedded Valkey is gone with it."""
    server = make_server(tmp_path / "server.log", {})
    with ended(server):
        server.start()
        await server.wait_until_ready()
        async with server.client() as client:
            code = asyncio.create_task(asyncio.to_thread(server.end, how))
            assert (await client.closed())[0] == 4200
            assert await code == 0


async def test_serve_shares_its_port_among_workers(tmp_path: Path) -> None:
    """`--workers`: one embedded Valkey, any worker publishes to all; a dead one is replaced."""
    server = make_server(tmp_path / "server.log", {}, "--workers", "2")
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    with ended(server):
        server.start()
        await server.wait_until_ready()
        assert server.process is not None
        supervisor = psutil.Process(server.process.pid)
        await eventually(lambda: len(workers(supervisor)) == 2)
        first = workers(supervisor)[0]
        first.kill()
        await eventually(lambda: len(workers(supervisor)) == 2 and not first.is_running())
        await server.wait_until_ready()
        async with (
            server.staff(rooms, hotels=[hotel]) as one,
            server.staff(rooms, hotels=[hotel]) as other,
        ):
            # With an id of its own any worker takes it, whoever the dead one was.
            event = room_updated(hotel=hotel)
            event["meta"]["event_id"] = hotel
            await server.publish(rooms, event)
            for client in (one, other):
                await client.until("room_updated")
        family = supervisor.children(recursive=True)
        assert await asyncio.to_thread(server.end) == 0
        assert not living(family)
