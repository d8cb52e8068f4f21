"""`GET /apps/{id}/channels/{name}/stream`: a channel's events as they are published."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness import (
    DEADLINE_S,
    Server,
    eventually,
    new_hotel,
    room_updated,
    signed_query,
)
from tests.http.test_past import PAYMENT, carry, past

GAP = "bellhop:gap"


def path_of(channel: str) -> str:
    """Return the path of a channel's stream."""
    return f"/apps/1/channels/{channel}/stream"


def url_of(server: Server, channel: str, **params: str) -> str:
    """Return a stream's URL, signed."""
    path = path_of(channel)
    return f"{server.url}{path}?{urlencode(signed_query('GET', path, b'', params))}"


@dataclass
class Reader:
    """A reader of server-sent events that remembers where it stands, as EventSource does."""

    response: httpx.Response
    last_id: str = ""
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = self.response.aiter_lines()

    async def next(self, within_s: float = DEADLINE_S) -> tuple[str, str]:
        """Return the next event's name and data."""
        async with asyncio.timeout(within_s):
            return await self._event()

    async def _event(self) -> tuple[str, str]:
        name, data = "message", []
        async for line in self.lines:
            key, _, value = line.partition(": ")
            if key == "id":
                self.last_id = value
            elif key == "event":
                name = value
            elif key == "data":
                data.append(value)
            elif not line and data:
                return name, "\n".join(data)
            elif key == "":
                self.comments.append(value)
        raise EOFError("the stream has ended")

    async def rooms(self, count: int) -> list[int]:
        """Return the rooms that so many events are about; each has its number in its id."""
        rooms = []
        for _ in range(count):
            name, data = await self.next()
            assert name == "room_updated", (name, data)
            envelope = json.loads(data)
            meta = envelope["meta"]
            assert self.last_id == f"{meta['epoch']}:{meta['sequence']}"
            rooms.append(int(envelope["payload"]["room_number"]))
        return rooms

    async def ended(self) -> None:
        """Await the end of the response."""
        with pytest.raises(EOFError):
            await self.next()


@contextlib.asynccontextmanager
async def reader(
    server: Server, channel: str, last_id: str = "", **params: str
) -> AsyncIterator[Reader]:
    """Open a channel's stream; it is there."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    url = url_of(server, channel, **params)
    async with (
        httpx.AsyncClient(timeout=DEADLINE_S + 5, verify=False) as client,  # noqa: S501  no TLS
        client.stream("GET", url, headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        yield Reader(response)


async def test_events_come_as_they_are_published(server: Server) -> None:
    """In order, from now on, `data` the very string that staff with the fullest view get."""
    hotel = new_hotel()
    channel = await carry(server, hotel, 2)
    roles = {"slug": hotel, "roles": ["finance"]}
    async with (
        reader(server, channel) as stream,
        server.staff(channel, hotels=[roles]) as client,
    ):
        assert stream.response.headers["content-type"] == "text/event-stream"
        assert stream.response.headers["cache-control"] == "no-store"
        assert stream.response.headers["x-accel-buffering"] == "no"
        await carry(server, hotel, 3, **PAYMENT)
        epoch = (await past(server, channel))["epoch"]
        for number in (3, 4, 5):
            frame = json.loads(await client.socket.recv())
            assert await stream.next() == (frame["event"], frame["data"])
            assert stream.last_id == f"{epoch}:{number}"
            assert json.loads(frame["data"])["payload"]["payment_status"] == "PAID"


async def test_reader_that_comes_back_gets_what_it_missed(server: Server) -> None:
    """Without hole or repeat or another order, though events keep coming all the while."""
    hotel = new_hotel()
    channel = f"{hotel}.rooms"
    count = 150

    async def publish() -> None:
        for room in range(1, count + 1):
            await server.publish(channel, room_updated(str(room), hotel=hotel))

    seen: list[int] = []
    last_id = ""
    async with reader(server, channel) as stream:
        publishing = asyncio.create_task(publish())
        seen += await stream.rooms(1)
        last_id = stream.last_id
    while len(seen) < count:
        async with reader(server, channel, last_id) as stream:
            seen += await stream.rooms(min(13, count - len(seen)))
            last_id = stream.last_id
    await publishing
    assert sorted(seen) == list(range(1, count + 1))
    assert last_id.endswith(f":{count}")
    kept = (await past(server, channel, limit="1000"))["events"]
    assert seen == [int(json.loads(each["data"])["payload"]["room_number"]) for each in kept]


async def test_reader_that_was_cut_off_before_the_first_event_misses_none(server: Server) -> None:
    """The begin of a stream says where it stands."""
    hotel = new_hotel()
    channel = await carry(server, hotel, 2)
    epoch = (await past(server, channel))["epoch"]
    async with reader(server, channel) as stream:
        line = await anext(stream.lines)
        assert line == f"id: {epoch}:2"
    await carry(server, hotel, 1)
    async with reader(server, channel, line.removeprefix("id: ")) as stream:
        assert await stream.rooms(1) == [1]
        assert stream.last_id == f"{epoch}:3"


async def test_since_stands_in_the_query_too(server: Server) -> None:
    """The header wins: a client that comes back repeats the URL that it began with."""
    channel = await carry(server, new_hotel(), 4)
    epoch = (await past(server, channel))["epoch"]
    async with reader(server, channel, since=f"{epoch}:1") as stream:
        assert await stream.rooms(3) == [2, 3, 4]
    async with reader(server, channel, f"{epoch}:3", since=f"{epoch}:1") as stream:
        assert await stream.rooms(1) == [4]


@pytest.mark.parametrize(
    "since,reason,rooms",
    [
        ("0ther:2", "epoch_changed", [2, 3]),
        ("EPOCH:0", "window_exceeded", [2, 3]),
        ("EPOCH:99", "history_lost", []),
    ],
)
async def test_what_may_be_missed_is_told_first(
    server: Server, since: str, reason: str, rooms: list[int]
) -> None:
    """Then what there is; whoever comes back from there is not told again."""
    hotel = new_hotel()
    channel = await carry(server, hotel, 3)
    epoch = (await past(server, channel))["epoch"]
    async with server.redis() as redis:
        log = f"bellhop:{{1:{channel}}}:log"
        entries: Any = await redis.xrange(log)
        await redis.xdel(log, entries[0][0])
    async with reader(server, channel, since.replace("EPOCH", epoch)) as stream:
        assert await stream.next() == (GAP, json.dumps({"reason": reason}, separators=(",", ":")))
        stands = stream.last_id
        await carry(server, hotel, 1)
        assert await stream.rooms(len(rooms) + 1) == [*rooms, 1]
    async with reader(server, channel, stands) as stream:
        assert await stream.rooms(len(rooms) + 1) == [*rooms, 1]


async def test_forgotten_channel_is_a_gap(server: Server) -> None:
    """Nothing is kept of it: nobody can say what there was."""
    async with reader(server, f"{new_hotel()}.rooms", "gone:7") as stream:
        assert await stream.next() == (GAP, '{"reason":"history_lost"}')
        assert stream.last_id == ""


async def test_plain_channel_has_ids_and_its_text_cannot_forge_events(plain: Server) -> None:
    """The number is not in the publisher's string; line ends in it end no field and no event."""
    channel = uuid.uuid4().hex
    async with reader(plain, channel) as stream:
        for name, data in (("posted", "one\r\ntwo\rthree\n\nid: x"), ("a\nid: b", "")):
            await asyncio.to_thread(plain.pusher().trigger, channel, name, data)
        assert await stream.next() == ("posted", "one\ntwo\nthree\n\nid: x")
        assert stream.last_id.endswith(":1")
        assert await stream.next() == ("a id: b", "")
        assert stream.last_id.endswith(":2")


async def test_only_published_events_are_told(plain: Server) -> None:
    """Neither members that come and go, nor what clients say to each other."""
    channel = f"presence-{uuid.uuid4().hex}"
    async with reader(plain, channel) as stream, plain.client() as one, plain.client() as two:
        for client, user in ((one, "a"), (two, "b")):
            said = plain.pusher().authenticate(channel, client.socket_id, {"user_id": user})
            await client.subscribe(channel, **said)
        await two.send("client-typing", {}, channel=channel)
        await one.until("client-typing")
        await two.send("pusher:unsubscribe", {"channel": channel})
        await one.until("pusher_internal:member_removed")
        await asyncio.to_thread(plain.pusher().trigger, channel, "posted", "x")
        assert await stream.next() == ("posted", "x")


async def test_stream_is_no_subscriber(server: Server) -> None:
    """It occupies no channel, and is no connection."""
    hotel = new_hotel()
    channel = f"{hotel}.rooms"
    before = (await server.api("GET", "/apps/1/connections")).json()
    async with reader(server, channel) as stream:
        await carry(server, hotel, 1)
        assert await stream.rooms(1) == [1]
        one = await server.api("GET", f"/apps/1/channels/{channel}")
        assert one.json()["occupied"] is False
        listing = await server.api("GET", "/apps/1/channels")
        assert channel not in listing.json()["channels"]
        assert (await server.api("GET", "/apps/1/connections")).json() == before


WRONG: dict[str, tuple[str, dict[str, str], dict[str, str], int, str]] = {
    "since": ("c.d", {"since": "5"}, {}, 400, "since is EPOCH:SEQUENCE"),
    "header": ("c.d", {}, {"Last-Event-ID": "5"}, 400, "Last-Event-ID is EPOCH:SEQUENCE"),
    "name": ("a%20b", {}, {}, 400, "not a channel name"),
    "unlisted": ("never.heard.of", {}, {}, 403, "is not in the contract"),
}


@pytest.mark.parametrize("fault", WRONG)
async def test_wrong_request_is_refused_as_json(server: Server, fault: str) -> None:
    """Before the stream begins it is an endpoint like the others."""
    channel, params, headers, status, reason = WRONG[fault]
    answer = await server.api("GET", path_of(channel), params=params, headers=headers)
    assert answer.status_code == status
    assert reason in answer.json()["error"]


async def test_stream_needs_the_signature(server: Server) -> None:
    """401: it shows everything."""
    answer = await server.api("GET", path_of(f"{new_hotel()}.rooms"), secret="another")
    assert answer.status_code == 401


async def test_streams_of_an_app_are_bounded(start_server: StartServer) -> None:
    """429; as soon as one has ended there is room again."""
    server = await start_server()
    channel = f"{new_hotel()}.rooms"

    async def answers() -> int:
        async with (
            httpx.AsyncClient(timeout=DEADLINE_S) as client,
            client.stream("GET", url_of(server, channel)) as response,
        ):
            return response.status_code

    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        client = await stack.enter_async_context(
            httpx.AsyncClient(limits=limits, timeout=DEADLINE_S)
        )
        first = await client.send(client.build_request("GET", url_of(server, channel)), stream=True)
        for _ in range(99):
            opened = client.stream("GET", url_of(server, channel))
            assert (await stack.enter_async_context(opened)).status_code == 200
        assert await answers() == 429
        await first.aclose()

        async def room() -> bool:
            return await answers() == 200

        await eventually(room)


async def test_cut_from_the_bus_nothing_is_missed(start_server: StartServer) -> None:
    """What was published while the node was deaf comes from the history, once and in order."""
    server = await start_server()
    hotel = new_hotel()
    async with reader(server, f"{hotel}.rooms") as stream, server.redis() as redis:
        for round_ in (1, 2):
            await redis.client_kill_filter(_type="pubsub")
            await carry(server, hotel, 20)
            assert await stream.rooms(20) == list(range(1, 21))
            assert stream.last_id.endswith(f":{20 * round_}")


@contextlib.contextmanager
def deaf_reader(server: Server, channel: str) -> Iterator[socket.socket]:
    """Open a channel's stream, and read no more than that it has begun."""
    target = url_of(server, channel).removeprefix(server.url)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(DEADLINE_S)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert deaf.recv(15) == b"HTTP/1.1 200 OK"
        yield deaf


async def publish_much(server: Server, channel: str) -> None:
    """Publish 100 kB in ten events."""
    batch = [{"channel": channel, "name": "big", "data": "x" * 10_000}] * 10
    await asyncio.to_thread(server.pusher().trigger_batch, batch)


async def test_reader_that_does_not_read_is_ended(start_server: StartServer) -> None:
    """When more than 1 MiB waits for it; others do not notice. A node that stops cuts it sooner."""
    server = await start_server(BELLHOP_UNLISTED_CHANNELS="pusher", BELLHOP_REQUIRE_TOKEN="false")
    channel = uuid.uuid4().hex
    sent = 0
    with deaf_reader(server, channel) as deaf:
        async with reader(server, channel) as stream:
            while not server.log_events("stream.slow"):
                assert sent < 200, "it should have been ended"
                await publish_much(server, channel)
                for _ in range(10):
                    await stream.next()
                sent += 1
            assert stream.last_id.endswith(f":{sent * 10}")
        with contextlib.suppress(ConnectionResetError):
            while deaf.recv(1 << 20):
                pass
    channel = uuid.uuid4().hex
    with deaf_reader(server, channel):
        for _ in range(sent - 4):
            await publish_much(server, channel)
        assert await asyncio.to_thread(server.end) == 0
    assert len(server.log_events("stream.slow")) == 1
    assert "timeout" not in server.log


async def test_stopping_node_ends_its_streams(start_server: StartServer) -> None:
    """Well, and at once; what is published since is had from another node."""
    server = await start_server()
    hotel = new_hotel()
    other = await start_server(REDIS_URL=server.redis_url)
    async with reader(other, f"{hotel}.rooms") as stream:
        await carry(server, hotel, 1)
        assert await stream.rooms(1) == [1]
        ending = asyncio.create_task(asyncio.to_thread(other.end))
        await stream.ended()
        assert await ending == 0
        await carry(server, hotel, 3)
    async with reader(server, f"{hotel}.rooms", stream.last_id) as again:
        assert await again.rooms(3) == [1, 2, 3]


@pytest.mark.long
async def test_silent_stream_shows_that_it_lives(server: Server) -> None:
    """A comment every 15 s, which no reader takes for an event."""
    async with reader(server, f"{new_hotel()}.rooms") as stream:
        event = asyncio.create_task(stream.next(within_s=40))
        await eventually(partial(stream.comments.count, "heartbeat"), within_s=30)
        await eventually(lambda: stream.comments.count("heartbeat") > 1, within_s=30)
        event.cancel()
