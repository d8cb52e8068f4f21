"""Two nodes of one plain Pusher installation, and what a test says to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from tests.harness import Client, Server

MEMBERS: Final = 4
CLIENT_EVENTS: Final = 5
WATCHED: Final = 3
COUNTED: Final = {"app_id": "2", "key": "counted-key", "secret": "counted-secret"}
"""An app whose subscribers are told how many they are."""
SILENT: Final = {"app_id": "3", "key": "silent-key", "secret": "silent-secret"}
"""An app whose clients cannot send events."""
CONFIGURATION: Final = f"""
[app.limits]
presence_members = {MEMBERS}
client_events_per_s = {CLIENT_EVENTS}
watchlist = {WATCHED}

[[apps]]
id = "2"
key = "counted-key"
secret = "counted-secret"
subscription_count = true

[[apps]]
id = "3"
key = "silent-key"
secret = "silent-secret"
client_events = false
"""
FENCE: Final = "fence"


@dataclass
class Pair:
    """Both nodes, how to start more, and how to speak to any."""

    nodes: tuple[Server, Server]
    settings: dict[str, str]
    arguments: tuple[str, ...]

    @property
    def prefix(self) -> str:
        """Of its keys in Redis."""
        return self.settings["BELLHOP_REDIS_PREFIX"]

    async def trigger(self, channel: str, event: str, data: Any = "", **app: str) -> None:
        """Publish an event by the released library."""
        await asyncio.to_thread(self.nodes[0].pusher(**app).trigger, channel, event, data)

    async def before_fence(
        self, client: Client, channel: str, **app: str
    ) -> list[tuple[str, dict[str, Any]]]:
        """Publish a fence on the channel; return the names and data of what the client got."""
        await self.trigger(channel, FENCE, **app)
        frames = []
        while (frame := await client.next())["event"] != FENCE:
            frames.append((frame["event"], frame["data"]))
        return frames


def new_channel(kind: str = "") -> str:
    """Return the name of a channel that no other test speaks of."""
    return f"{kind}{uuid.uuid4().hex[:12]}"


@contextlib.asynccontextmanager
async def client_of(node: Server, key: str) -> AsyncIterator[Client]:
    """Open a client of another app than the default one."""
    # Frames that a test does not read must not hold up the close.
    async with node.dial(f"/app/{key}?protocol=7", max_queue=None) as socket:
        client = Client(socket)
        await client.greeted()
        yield client


def signed(
    node: Server, client: Client, channel: str, user_id: Any = None, user_info: Any = None
) -> dict[str, Any]:
    """Return what a backend's authorizer answers, by the released library."""
    member = None
    if user_id is not None:
        member = {"user_id": user_id}
        if user_info is not None:
            member["user_info"] = user_info
    answer: dict[str, Any] = node.pusher().authenticate(channel, client.socket_id, member)
    return answer


async def enter(
    node: Server, client: Client, channel: str, user_id: Any = None, user_info: Any = None
) -> Any:
    """Subscribe to a signed channel; return the roster's hash where there is one."""
    auth = signed(node, client, channel, user_id, user_info)
    frame = await client.subscribe(channel, **auth)
    roster = frame["data"].get("presence")
    if roster is None:
        return None
    assert sorted(roster["ids"]) == sorted(roster["hash"])
    assert roster["count"] == len(roster["ids"])
    return roster["hash"]


def added(user_id: str, user_info: Any = None) -> tuple[str, dict[str, Any]]:
    """Return the news that a member came."""
    return "pusher_internal:member_added", {"user_id": user_id, "user_info": user_info}


def removed(user_id: str) -> tuple[str, dict[str, Any]]:
    """Return the news that a member went."""
    return "pusher_internal:member_removed", {"user_id": user_id}


async def sign_in(node: Server, client: Client, user: dict[str, Any]) -> None:
    """Sign in with user_data that the backend has signed."""
    answer = node.pusher().authenticate_user(client.socket_id, user)
    await client.send("pusher:signin", answer)
    frame = await client.until("pusher:signin_success")
    assert json.loads(frame["data"]["user_data"])["id"] == user["id"]
