"""Clients that lose their connection and come back, and what they were told of a channel."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.asyncio.client import ClientConnection

from tests.clients.driver import PusherJs
from tests.harness import (
    APP_ID,
    DEADLINE_S,
    Client,
    Server,
    eventually,
    new_hotel,
    room_updated,
    token,
)

Nodes = tuple[Server, Server]
SETTINGS: Final = {"BELLHOP_PING_S": "1", "BELLHOP_UNLISTED_CHANNELS": "pusher"}
UPDATED: Final = "room_updated"
GAP: Final = "bellhop:gap"
PINGS: Final = 4
"""The server's pings, a second apart, after whose answers a first event is proven to be there."""


@dataclass
class Place:
    """A hotel's channel, whose events are counted: each names its number as the room."""

    hotel: str = field(default_factory=new_hotel)
    published: int = 0
    name: str = ""

    @property
    def channel(self) -> str:
        """The contract's, unless the place has a name of its own."""
        return self.name or f"{self.hotel}.rooms"

    async def publish(
        self, node: Server, events: int = 1, *, socket_id: str | None = None, **payload: Any
    ) -> None:
        """Publish one event after the other by HTTP, and await that each is taken."""
        for _ in range(events):
            self.published += 1
            data = room_updated(str(self.published), hotel=self.hotel, **payload)
            body = {"name": UPDATED, "channel": self.channel, "data": json.dumps(data)}
            if socket_id is not None:
                body["socket_id"] = socket_id
            answer = await node.api("POST", f"/apps/{APP_ID}/events", body)
            assert answer.status_code == 200, answer.text

    async def publish_on(self, node: Server, until: asyncio.Event) -> None:
        """Publish without a pause until told to stop."""
        while not until.is_set():
            await self.publish(node)

    def told(self, client: Client) -> list[int]:
        """Return which events a client got of the channel, in order."""
        return [
            int(frame["data"]["payload"]["room_number"])
            for frame in client.frames
            if frame["event"] == UPDATED and frame["channel"] == self.channel
        ]

    def gaps(self, client: Client) -> list[str]:
        """Return the reasons of the gaps that a client was told of on the channel."""
        return [
            frame["data"]["reason"]
            for frame in client.frames
            if frame["event"] == GAP and frame["channel"] == self.channel
        ]

    async def last_of(self, client: Client) -> list[int]:
        """Await the last event that was published; return all that the client got."""
        while self.published not in self.told(client):
            await client.next()
        return self.told(client)

    def since(self, first: int) -> list[int]:
        """Return the events from one on."""
        return list(range(first, self.published + 1))


@dataclass
class Device:
    """A client's machine: it opens connections under one identity."""

    place: Place
    sub: str = field(default_factory=lambda: f"staff-{uuid.uuid4().hex[:8]}")
    instance: str | None = field(default_factory=lambda: uuid.uuid4().hex)
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """What it presents."""
        return token(self.sub, **{"hotels": [self.place.hotel], **self.claims})

    @asynccontextmanager
    async def client(self, node: Server, port: int | None = None) -> AsyncIterator[Client]:
        """Connect, to another port than the node's where one is given."""
        path = f"/s/{self.instance}" if self.instance is not None else ""
        there = Server(port or node.port, node.environment, node.log_file)
        # Frames that a test does not read must not hold up the close.
        async with there.client(f"{path}/t/{self.token}", max_queue=None) as client:
            yield client

    @asynccontextmanager
    async def subscribed(self, node: Server, port: int | None = None) -> AsyncIterator[Client]:
        """Connect and subscribe to the place's channel."""
        async with self.client(node, port) as client:
            await client.subscribe(self.place.channel)
            yield client


def drop(client: Client) -> None:
    """Lose the connection without a word."""
    client.socket.transport.abort()


async def gone(node: Server, client: Client) -> None:
    """Await that the node has noticed."""
    await eventually(
        lambda: any(
            entry["socket_id"] == client.socket_id for entry in node.log_events("connection.closed")
        )
    )


async def dropped(node: Server, client: Client) -> None:
    """Lose the connection without a word, and await that the node has noticed."""
    drop(client)
    await gone(node, client)


async def proves(client: Client, pings: int = PINGS) -> None:
    """Answer as many pings of the server; what comes meanwhile is remembered."""
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(pings):
            await _answer_one(client)
        # The answer has been taken when what follows it has an answer of its own.
        await client.send("pusher:ping")
        await client.until("pusher:pong")


async def _answer_one(client: Client) -> None:
    socket: ClientConnection = client.socket
    while True:
        frame = json.loads(await socket.recv())
        if frame["event"] == "pusher:ping":
            await client.send("pusher:pong")
            return
        with suppress(TypeError, ValueError):
            frame["data"] = json.loads(frame["data"])
        client.frames.append(frame)


def shown(client: PusherJs) -> list[int]:
    """Return the events that an application would have shown, in order."""
    reports = client.seen("event", event=UPDATED)
    return [int(report["data"]["payload"]["room_number"]) for report in reports]
