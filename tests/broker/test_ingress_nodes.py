"""PUBLISH without an event id, heard by several nodes: each once, in order, whoever leaves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from server.broker.keys import Keys
from tests.broker.stream import Entrance, new_prefix, told
from tests.conftest import StartServer
from tests.harness import Server, eventually

PER_S = 200
MARKS = 4
"""Marks after which a node that listens knows what is settled."""


@dataclass
class Talk:
    """A backend that publishes without a pause, and the nodes that hear it."""

    own: Entrance
    start: StartServer
    settings: dict[str, str]
    nodes: list[Server] = field(default_factory=list)
    ends: asyncio.Event = field(default_factory=asyncio.Event)

    async def join(self) -> Server:
        """Start one more node."""
        node = await self.start(**self.settings)
        self.nodes.append(node)
        return node

    async def publish(self) -> None:
        """Publish until told to end; the room is the number of the event."""
        name = f"{self.own.prefix}publish:{self.own.rooms}"
        while not self.ends.is_set():
            await self.own.redis.publish(name, self.own.update()["data"])
            await asyncio.sleep(1 / PER_S)

    async def settled(self) -> None:
        """Await that whoever listens now knows what is settled and what is not."""
        async with self.own.redis.pubsub() as heard:
            await heard.subscribe(f"{self.own.prefix}ingress")
            marks = 0
            while marks < MARKS:
                message = await heard.get_message(timeout=1.0)
                marks += message is not None and message["type"] == "message"

    async def holder(self) -> Server:
        """Return the node that publishes what has no id."""

        def last_taken(node: Server) -> str:
            lines = node.log_events("ingress.taken_over")
            return str(lines[-1]["timestamp"]) if lines else ""

        await self.settled()
        return max(self.nodes, key=last_taken)

    async def lease_runs_out(self) -> None:
        """Do what time does."""
        await self.own.redis.delete(Keys(self.own.prefix).beside("ingress", "lease"))

    async def more(self, count: int = 40) -> None:
        """Await that some more has been published."""
        until = self.own.added + count
        await eventually(lambda: self.own.added >= until)

    @asynccontextmanager
    async def heard_by(self, node: Server) -> AsyncIterator[list[int]]:
        """Publish as long as the body runs; afterwards have the list of all that was heard."""
        rooms: list[int] = []
        async with self.own.subscriber(node) as client:
            publishing = asyncio.create_task(self.publish())
            await self.more()
            yield rooms
            await self.more()
            self.ends.set()
            await publishing
            rooms += await told(client, self.own.added)


@pytest.fixture
async def talk(server: Server, start_server: StartServer) -> AsyncIterator[Talk]:
    """An installation of the test's own on the shared Valkey, without a node yet."""
    async with server.redis() as client:
        own = Entrance(client, new_prefix())
        where = {"REDIS_URL": server.redis_url, "BELLHOP_REDIS_PREFIX": own.prefix}
        yield Talk(own, start_server, where)


async def test_killed_holder_loses_and_repeats_nothing(talk: Talk) -> None:
    """SIGKILL: what it had heard and not published goes out, and nothing else again.

    A node that comes meanwhile has not heard all, and leaves it to one that has.
    """
    first = await talk.join()
    second = await talk.join()
    async with talk.heard_by(second) as rooms:
        assert await talk.holder() is first
        talk.nodes.remove(first)
        first.end(signal.SIGKILL)
        third = await talk.join()
        await talk.lease_runs_out()
        assert await talk.holder() is second
        assert not third.log_events("ingress.taken_over")
    assert rooms == list(range(1, talk.own.added + 1))


@pytest.mark.long
async def test_stopped_holder_loses_and_repeats_nothing(talk: Talk) -> None:
    """SIGTERM: it hands over what it holds, at once."""
    first = await talk.join()
    second = await talk.join()
    async with talk.heard_by(second) as rooms:
        assert await talk.holder() is first
        talk.nodes.remove(first)
        await asyncio.to_thread(first.end)
        assert not first.log_events("event.rejected")
        assert await talk.holder() is second
    assert rooms == list(range(1, talk.own.added + 1))


@pytest.mark.long
async def test_holder_that_was_held_up_repeats_nothing(talk: Talk) -> None:
    """It wakes with what another node has published by then, and does not know of it."""
    first = await talk.join()
    second = await talk.join()
    async with talk.heard_by(second) as rooms:
        assert await talk.holder() is first
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)
        await talk.more()
        await talk.lease_runs_out()
        assert await talk.holder() is second
        first.process.send_signal(signal.SIGCONT)
        await first.wait_until_ready()
        assert await talk.holder() is second
    assert rooms == list(range(1, talk.own.added + 1))


@pytest.mark.long
async def test_holder_that_went_deaf_lets_another_publish(talk: Talk) -> None:
    """It has missed what the other one has heard."""
    first = await talk.join()
    second = await talk.join()
    async with talk.heard_by(second) as rooms:
        assert await talk.holder() is first
        await talk.own.redis.client_kill_filter(_id=await listening(talk, first))
        await eventually(lambda: second.log_events("ingress.taken_over"))
    assert rooms == list(range(1, talk.own.added + 1))


async def listening(talk: Talk, node: Server) -> str:
    """Return the id of the connection by which a node hears what backends publish."""
    assert node.process is not None
    sockets = psutil.Process(node.process.pid).net_connections("tcp")
    ports = {socket.laddr.port for socket in sockets}
    (found,) = [
        client["id"]
        for client in await talk.own.redis.client_list()
        if client["psub"] == "2" and int(client["addr"].rpartition(":")[2]) in ports
    ]
    return str(found)


@pytest.mark.long
async def test_refusal_is_kept_once_also_when_its_node_has_died(talk: Talk) -> None:
    """What nobody may publish is not dropped in silence because nobody was there to say so."""
    first = await talk.join()
    await talk.join()
    assert await talk.holder() is first
    name = f"{talk.own.prefix}publish:{talk.own.rooms}"
    await talk.own.redis.publish(name, "{")
    await talk.own.rejected(1)
    await talk.settled()
    talk.nodes.remove(first)
    first.end(signal.SIGKILL)
    await talk.own.redis.publish(name, "[]")
    await talk.lease_runs_out()
    await talk.holder()
    assert [kept["body"] for kept in await talk.own.rejected(2)] == ["{", "[]"]


async def test_node_that_starts_alone_publishes_what_came_before_it_led(talk: Talk) -> None:
    """Another node's lease may stand yet: what comes meanwhile waits for its end."""
    keys = Keys(talk.own.prefix)
    await talk.own.redis.set(keys.beside("ingress", "lease"), "4711")
    node = await talk.join()
    async with talk.own.subscriber(node) as client:
        name = f"{talk.own.prefix}publish:{talk.own.rooms}"
        for _ in range(3):
            await talk.own.redis.publish(name, talk.own.update()["data"])
        await client.quiet()
        await talk.lease_runs_out()
        assert await told(client, 3) == [1, 2, 3]
        ids = [frame["data"]["meta"]["event_id"] for frame in client.frames if "meta" in str(frame)]
    assert len(set(ids)) == 3
