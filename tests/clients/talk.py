"""What tests of released clients say to each other and to the backend."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.clients.cast import Cast
from tests.clients.driver import Driven
from tests.clients.features import Kind
from tests.clients.topology import Topology
from tests.harness import eventually

SERVER_TO_USER = "#server-to-user-{}"
SUCCEEDED_FRAME = "pusher_internal:subscription_succeeded"


async def publish(topology: Topology, channel: str, event: str, data: Any) -> None:
    """Publish as a backend does, at the next node."""
    assert await asyncio.to_thread(topology.backend().trigger, channel, event, data) == {}


async def hears(client: Driven, topology: Topology, channel: str, *, event: str = "news") -> None:
    """Hold that an event published now arrives as it was, once."""
    before = len(client.seen("event", channel=channel, event=event))
    data = {"number": before, "text": "Säule 1 – “ok”"}
    await publish(topology, channel, event, data)
    await client.until("event", channel=channel, event=event, data=data)
    assert len(client.seen("event", channel=channel, event=event)) == before + 1


async def vacated(topology: Topology, channel: str) -> None:
    """Await that nobody subscribes to a channel any more."""

    async def empty() -> bool:
        info = await asyncio.to_thread(topology.backend().channel_info, channel)
        return not info["occupied"]

    await eventually(empty)


async def signed_in(cast: Cast, client: Driven, user: str) -> None:
    """Sign in, and await that events to the user arrive."""
    await client.tell("signin")
    if cast.kind is not Kind.JAVA:
        channel = SERVER_TO_USER.format(user)
        await client.until("frame", event=SUCCEEDED_FRAME, channel=channel)
        return

    async def known() -> bool:
        return bool((await client.standing()).get("user_id") == user)

    await eventually(known)
