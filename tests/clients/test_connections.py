"""Released clients connect, lose their connection, and come back."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest

from tests.clients.cast import Cast
from tests.clients.driver import SUCCEEDED
from tests.clients.features import JAVASCRIPT, SUBSCRIBERS, Feature, Kind, each, feature
from tests.clients.hosts import Host
from tests.clients.site import Site
from tests.clients.talk import hears, publish
from tests.clients.topology import Shape, Topology, nodes_of, topology_of

pytestmark = [
    pytest.mark.clients,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]

# Java waits 1, 4, 9 s between its tries, pusher-js up to 15 s after one that failed.
BACK_WITHIN_S = 60


@feature(Feature.CONNECT)
@each(SUBSCRIBERS)
async def test_client_connects(cast: Cast) -> None:
    """Every client is connected and knows its socket id."""
    client = await cast.open()
    standing = await client.standing()
    assert standing["state"] == "connected"
    assert re.fullmatch(r"\d+\.\d+", standing["socket_id"])


@feature(Feature.DROPPED)
@each(SUBSCRIBERS)
async def test_client_comes_back_after_a_cut(cast: Cast, topology: Topology, name: str) -> None:
    """A connection that breaks without a word is made anew, with another socket id."""
    client = await cast.open()
    channels = [name, f"private-{name}"]
    for channel in channels:
        await client.subscribed(channel, "news")
    before = (await client.standing())["socket_id"]
    topology.sockets.cut()
    for channel in channels:
        await client.has(2, "event", BACK_WITHIN_S, channel=channel, event=SUCCEEDED)
        await hears(client, topology, channel)
    assert (await client.standing())["socket_id"] != before


@feature(Feature.REFUSED_APP)
@each([*JAVASCRIPT, Kind.JAVA])
async def test_client_gives_up_on_an_unknown_app(cast: Cast) -> None:
    """4001 is told in a way that stops every client for good."""
    client = await cast.create(key="no-such-key")
    await client.until("state", current="disconnected")
    standing = await client.standing()
    assert standing["state"] == "disconnected"
    assert not standing.get("retrying")


@feature(Feature.STOPPED, *SUBSCRIBERS)
@pytest.mark.browser
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_clients_come_back_after_their_node_ended(
    *,
    how: signal.Signals,
    shape: Shape,
    every_host: dict[Kind, Host | None],
    site: Site,
    tmp_path: Path,
    name: str,
) -> None:
    """All are subscribed again, to a node that is up or to the same one once it is."""
    with nodes_of(shape, tmp_path, site) as nodes:
        for node in nodes:
            await node.wait_until_ready()
        async with topology_of(nodes) as topology:
            casts = [Cast(kind, host, topology, site) for kind, host in every_host.items()]
            clients = [await cast.open() for cast in casts]
            for client in clients:
                await client.subscribed(name, "news")

            # The first node has the Valkey of all.
            ended = nodes[-1]
            await asyncio.to_thread(ended.end, how)
            ended.start()

            for number, client in enumerate(clients):
                was_there = number % len(nodes) == len(nodes) - 1
                times = 2 if was_there else 1
                await client.has(times, "event", BACK_WITHIN_S, channel=name, event=SUCCEEDED)
            await ended.wait_until_ready()
            await publish(topology, name, "news", "all are back")
            for client in clients:
                await client.until("event", channel=name, event="news", data="all are back")
            for cast in casts:
                await cast.end()
