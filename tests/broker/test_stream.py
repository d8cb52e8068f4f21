"""The durable entrance: what stands in the stream goes out once, in order, whoever dies."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from server.broker.keys import Keys
from tests.broker.stream import UPDATED, DurableValkey, Entrance, new_prefix, told
from tests.conftest import StartServer
from tests.harness import Server, ended, free_port_pair, make_server, room_updated
from tests.server.test_cli_rejected import rejected as bellhop_rejected

GROUP = "bellhop"


@pytest.fixture
async def entrance(server: Server) -> AsyncIterator[Entrance]:
    """The shared server's entrance, and a hotel of the test's own."""
    async with server.redis() as redis:
        yield Entrance(redis)


@pytest.fixture
async def own(server: Server) -> AsyncIterator[Entrance]:
    """The entrance of an installation of the test's own, on the shared Valkey."""
    async with server.redis() as redis:
        yield Entrance(redis, new_prefix())


def settings(server: Server, entrance: Entrance, **more: str) -> dict[str, str]:
    """Return the settings of a node at this entrance."""
    return {"REDIS_URL": server.redis_url, "BELLHOP_REDIS_PREFIX": entrance.prefix, **more}


async def test_order_of_adding_is_kept_and_nothing_stays(
    server: Server, entrance: Entrance
) -> None:
    """More than is taken at once arrives as it was added, and is removed."""
    async with entrance.subscriber(server) as client:
        await entrance.add_updates(450)
        assert await told(client, 450) == list(range(1, 451))
        numbers = [f["data"]["meta"]["sequence"] for f in client.frames if f["event"] == UPDATED]
        assert numbers == list(range(1, 451))
    await entrance.empty()


async def test_envelope_names_its_own_event(server: Server, entrance: Entrance) -> None:
    """Without the field `event` its `type` is the name; a field nobody knows does no harm."""
    fields = entrance.update()
    del fields["event"]
    async with entrance.subscriber(server) as client:
        await entrance.add(fields, colour="blue")
        frame = await client.next()
    assert (frame["event"], frame["channel"]) == (UPDATED, entrance.rooms)


async def test_socket_that_caused_the_event_is_excluded(server: Server, entrance: Entrance) -> None:
    """The field `socket_id`: that one does not get it, and everybody else does."""
    async with entrance.subscriber(server) as cause, entrance.subscriber(server) as other:
        await entrance.add(entrance.update(), socket_id=cause.socket_id)
        await entrance.add(entrance.update())
        assert await told(other, 2) == [1, 2]
        assert await told(cause, 2) == [2]


async def test_app_may_be_named(server: Server, entrance: Entrance) -> None:
    """The field `app`; without it, or empty, it is the default one."""
    async with entrance.subscriber(server) as client:
        for app in ("1", ""):
            await entrance.add(entrance.update(), app=app)
        assert await told(client, 2) == [1, 2]


async def test_same_event_id_is_delivered_once(server: Server, entrance: Entrance) -> None:
    """However often it is added; entries without an id are events of their own."""
    async with entrance.subscriber(server) as client:
        fields = entrance.update("the-same")
        await entrance.add(fields)
        await entrance.add(fields)
        again = entrance.update()
        await entrance.add(again)
        await entrance.add(again)
        await entrance.add(entrance.update())
        assert await told(client, 3) == [1, 2, 2, 3]


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "not JSON": ({"data": "{"}, "400", "the field data is not valid JSON"),
    "no text": ({"data": b"\xff"}, "400", "the field data is not valid JSON"),
    "no channel": ({"channel": None}, "400", "the entry has no field channel"),
    "no data": ({"data": None}, "400", "the entry has no field data"),
    "unknown app": ({"app": "77"}, "404", "no such app"),
    "reserved name": ({"event": "pusher:ping"}, "400", "reserved"),
    "socket id": ({"socket_id": "x"}, "400", "socket_id must look"),
    "another hotel's": ({"data": json.dumps(room_updated())}, "422", "differs from the channel's"),
    "over the event's bound": ({"data": json.dumps("x" * 20_000)}, "422", "JSON object"),
    "over what is looked into": ({"data": "x" * (1024 * 1024 + 1)}, "413", "exceeds 1048576 bytes"),
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_unacceptable_entry_is_kept_with_its_reason(
    server: Server, entrance: Entrance, fault: str
) -> None:
    """Nothing is dropped in silence, and what stands behind it is not held up."""
    change, status, reason = REFUSED[fault]
    fields = {**entrance.update(), **change}
    given = {name: value for name, value in fields.items() if value is not None}
    async with entrance.subscriber(server) as client:
        await entrance.add(given)
        await entrance.add(entrance.update())
        assert await told(client, 2) == [2]
    (kept,) = await entrance.rejected(1)
    assert (kept["source"], kept["status"], kept["app"]) == (
        "stream",
        status,
        given.get("app", "1"),
    )
    assert reason in kept["reason"]
    assert (kept["channel"], kept.get("event")) == (given.get("channel", ""), given.get("event"))
    await entrance.empty()


async def test_refused_entry_is_listed_shown_and_tried_again(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """`bellhop rejected retry` adds it as it was, excluded socket and all, and it goes out."""
    where = settings(server, own)
    fields = own.update()
    data = json.loads(fields["data"])
    data["payload"]["is_occupied"] = "perhaps"
    refusing = await start_server(**where, BELLHOP_CONTRACT_MODE="enforce")
    await own.add(fields, data=json.dumps(data), socket_id="1.2")
    (kept,) = await own.rejected(1)
    refusing.end()
    listed = await bellhop_rejected("list", **where)
    assert listed.out.split("\t")[0] == kept["id"]
    shown = (await bellhop_rejected("show", kept["id"], **where)).out
    for line in ("source: stream", f"event: {UPDATED}", "socket_id: 1.2", "complete: 1"):
        assert line in shown.splitlines()
    # No node is there: it waits in the stream.
    outcome = await bellhop_rejected("retry", kept["id"], **where)
    assert (outcome.code, outcome.out) == (0, f"{kept['id']}\tpublished again\n")
    await own.rejected(0)
    found: Any = await own.redis.xrange(own.stream)
    ((_, added),) = found
    expected = {**fields, "app": "1", "socket_id": "1.2", "data": json.dumps(data)}
    assert {name.decode(): value.decode() for name, value in added.items()} == expected
    accepting = await start_server(**where, BELLHOP_CONTRACT_MODE="warn")
    await own.empty()
    assert await carried(accepting, own) == ["1"]


async def test_hotel_over_its_wall_waits_in_order(
    server: Server, own: Entrance, start_server: StartServer, tmp_path: Path
) -> None:
    """What would be refused over HTTP waits here, and nothing is counted as refused."""
    (tmp_path / "bellhop.toml").write_text("[walls]\npublishes_per_s = 200\npublishes_burst = 20\n")
    node = await start_server("--config", str(tmp_path / "bellhop.toml"), **settings(server, own))
    async with own.subscriber(node) as client:
        await own.add_updates(120)
        assert await told(client, 120) == list(range(1, 121))
    await own.empty()
    await own.rejected(0)


def low_wall(folder: Path) -> tuple[str, str]:
    """Return arguments of a node that lets a hotel's first five events pass, then one a second."""
    (folder / "low.toml").write_text("[walls]\npublishes_per_s = 1\npublishes_burst = 5\n")
    return "--config", str(folder / "low.toml")


async def test_hotel_at_its_wall_holds_up_no_other_and_loses_nothing(
    server: Server, own: Entrance, start_server: StartServer, tmp_path: Path
) -> None:
    """Others go past; what waits is still in the stream, and goes out in order if its node dies."""
    where = settings(server, own)
    reader = await start_server(*low_wall(tmp_path), **where)
    other = Entrance(own.redis, own.prefix)
    async with own.subscriber(reader) as waits, other.subscriber(reader) as passes:
        await own.add_updates(60)
        await other.add_updates(5)
        assert await told(passes, 5) == [1, 2, 3, 4, 5]
        assert await told(waits, 5) == [1, 2, 3, 4, 5]
        assert await own.redis.xlen(own.stream) > 20
    next_one = await start_server(**where)
    async with own.subscriber(next_one) as client:
        reader.end(signal.SIGKILL)
        await own.redis.delete(Keys(own.prefix).beside("publish", "lease"))
        await told(client, 60)
    await own.empty()
    assert await carried(next_one, own) == [str(room) for room in range(1, 61)]
    assert await carried(next_one, other) == ["1", "2", "3", "4", "5"]


async def test_entry_that_nodes_may_have_died_of_waits_for_no_wall(
    server: Server, own: Entrance, start_server: StartServer, tmp_path: Path
) -> None:
    """Else it would be passed by, and not be the first that is left if it ends the next one too."""
    await own.add_updates(40)
    await own.redis.xgroup_create(own.stream, GROUP, "0")
    taken: Any = await own.redis.xreadgroup(GROUP, "dead", {own.stream: ">"})
    ids = [entry_id for entry_id, _ in taken[0][1]]
    await own.redis.xclaim(own.stream, GROUP, "dead", 0, ids, retrycount=2)
    node = await start_server(*low_wall(tmp_path), **settings(server, own))
    await own.empty()
    assert await carried(node, own) == [str(room) for room in range(1, 41)]


async def carried(node: Server, entrance: Entrance) -> list[str]:
    """Return the rooms of the events that the channel's history has, in order."""
    path = f"/apps/1/channels/{entrance.rooms}/events"
    answer = await node.api("GET", path, params={"limit": "1000"})
    events = answer.json()["events"]
    return [json.loads(event["data"])["payload"]["room_number"] for event in events]


async def until_some(client: Any) -> list[int]:
    """Await the first event; return its room."""
    frame = await client.until(UPDATED)
    return [int(frame["data"]["payload"]["room_number"])]


async def killed(
    server: Server, own: Entrance, start_server: StartServer, count: int, *, waits: bool
) -> None:
    """Kill the node that reads amid so many entries; unless told to wait, let its lease run out."""
    where = settings(server, own)
    reader = await start_server(**where)
    await own.add(own.update())
    await own.empty()
    other = await start_server(**where)
    async with own.subscriber(other) as client:
        adding = asyncio.create_task(own.add_updates(count))
        before = await until_some(client)
        reader.end(signal.SIGKILL)
        await adding
        assert await own.redis.xlen(own.stream)
        if not waits:
            await own.redis.delete(Keys(own.prefix).beside("publish", "lease"))
        rooms = before + await told(client, count + 1)
    assert rooms == list(range(2, count + 2))
    await own.empty()


async def test_killed_reader_loses_and_repeats_nothing(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """SIGKILL amid thousands: the other node goes on, each event once, in order."""
    await killed(server, own, start_server, 3_000, waits=False)


@pytest.mark.long
async def test_reader_killed_in_a_flood_loses_and_repeats_nothing(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """The same with more, and with nobody's help."""
    await killed(server, own, start_server, 30_000, waits=True)


async def test_reader_that_was_held_up_repeats_nothing(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """It wakes amid its work when another node has done that, and is no reader any more."""
    count, where = 3_000, settings(server, own)
    reader = await start_server(**where)
    await own.add(own.update())
    await own.empty()
    other = await start_server(**where)
    async with own.subscriber(other) as client:
        adding = asyncio.create_task(own.add_updates(count))
        rooms = await until_some(client)
        assert reader.process is not None
        reader.process.send_signal(signal.SIGSTOP)
        await adding
        assert await own.redis.xlen(own.stream)
        await own.redis.delete(Keys(own.prefix).beside("publish", "lease"))
        rooms += await told(client, count + 1)
        reader.process.send_signal(signal.SIGCONT)
        await reader.wait_until_ready()
        await own.add(own.update())
        rooms += await told(client, count + 2)
    assert rooms == list(range(2, count + 3))
    await own.empty()


async def outage(server: Server, own: Entrance, start_server: StartServer, count: int) -> None:
    """Add so many while no node is there, and see all of them arrive."""
    where = settings(server, own)
    await (node := await start_server(**where)).wait_until_ready()
    node.end()
    await own.add_updates(count)
    node = await start_server(**where)
    # The first subscriber may come after the first events: the history has them all.
    await own.empty()
    first, *others = map(int, await carried(node, own))
    # The history keeps some more than its bound, and the answer is bounded too.
    assert first == 1 or others[-1] >= count - 100
    assert [first, *others] == list(range(first, first + min(count, 1_000)))
    state: Any = await own.redis.hgetall(Keys(own.prefix).channel("1", own.rooms))
    assert int(state[b"sequence"]) == count


async def test_entries_of_an_outage_arrive(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """Added while every node was down: they go out when one comes back."""
    await outage(server, own, start_server, 50)


@pytest.mark.long
async def test_entries_of_a_long_outage_arrive(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """A backlog that takes many turns is no more than many turns."""
    await outage(server, own, start_server, 12_000)


async def test_entry_that_redis_refuses_is_given_up_alone(
    server: Server, entrance: Entrance
) -> None:
    """Tried five times, in its place; then it is kept with the refused, and the next go on."""
    broken = Entrance(entrance.redis)
    await entrance.redis.set(Keys("bellhop:").channel("1", broken.rooms), "no hash")
    async with entrance.subscriber(server) as client:
        await entrance.add(entrance.update())
        await broken.add(broken.update())
        await entrance.add(entrance.update())
        assert await told(client, 2) == [1, 2]
    (kept,) = await broken.rejected(1)
    assert kept["status"] == "500"
    assert kept["reason"].startswith("it failed 5 times: Redis: WRONGTYPE")
    await entrance.empty()


async def test_entry_that_no_node_finished_is_given_up_alone(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """Taken six times and still the first: it ends nodes, and those behind it do not."""
    for _ in range(3):
        await own.add(own.update())
    await own.redis.xgroup_create(own.stream, GROUP, "0")
    taken: Any = await own.redis.xreadgroup(GROUP, "dead", {own.stream: ">"})
    ids = [entry_id for entry_id, _ in taken[0][1]]
    await own.redis.xclaim(own.stream, GROUP, "dead", 0, ids, retrycount=5)
    node = await start_server(**settings(server, own))
    (kept,) = await own.rejected(1)
    assert (kept["status"], kept["reason"]) == ("500", "no node has finished it in 5 tries")
    assert json.loads(kept["body"])["payload"]["room_number"] == "1"
    await own.empty()
    assert await carried(node, own) == ["2", "3"]


async def test_stopped_reader_hands_over_at_once(
    server: Server, own: Entrance, start_server: StartServer
) -> None:
    """Stopped in order, its lease is free: another node need not wait for it to run out."""
    where = settings(server, own)
    reader = await start_server(**where)
    await own.add(own.update())
    await own.empty()
    reader.end()
    lease = Keys(own.prefix).beside("publish", "lease")
    assert not await own.redis.exists(lease)


async def test_entries_outlive_a_redis_that_keeps_them(tmp_path: Path) -> None:
    """With an append-only file: Redis ends amid them, and each goes out once, in order."""
    count = 2_000
    valkey = DurableValkey(free_port_pair(), tmp_path / "valkey")
    node = make_server(tmp_path / "node.log", {"REDIS_URL": valkey.url})
    async with valkey:
        with ended(node):
            node.start()
            await node.wait_until_ready()
            own = Entrance(client := redis.asyncio.Redis.from_url(valkey.url))
            async with own.subscriber(node) as subscriber:
                await own.add_updates(count)
                rooms = await until_some(subscriber)
                await client.aclose()
                await valkey.kill()
                await valkey.start()
                rooms += await told(subscriber, count)
            assert rooms == list(range(1, count + 1))
            # A closed client connects anew.
            await own.empty()
            await client.aclose()
