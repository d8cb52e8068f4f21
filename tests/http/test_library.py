"""The released `pusher` library, unchanged: every request it can make."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pusher.errors
import pytest

from tests.harness import Server
from tests.http.state import State, bus_message

pytestmark = pytest.mark.clients


async def called(method: Any, *arguments: Any) -> Any:
    """Call the library, which waits for its answer."""
    return await asyncio.to_thread(method, *arguments)


@pytest.fixture
def name() -> str:
    """Return a part of channels' names that no other test has."""
    return uuid.uuid4().hex


async def test_library_triggers(plain: Server, name: str) -> None:
    """One channel, a hundred, an excluded socket, a user."""
    backend = plain.pusher()
    async with plain.client() as client, plain.client() as other:
        for each in (client, other):
            await each.subscribe(name)
        assert await called(backend.trigger, name, "e", {"a": "é"}) == {}
        assert (await client.next())["data"] == {"a": "é"}
        channels = [name, *(f"{name}-{number}" for number in range(99))]
        assert await called(backend.trigger, channels, "e", "plain") == {}
        assert (await client.next())["data"] == "plain"
        assert await called(backend.trigger, name, "e", {}, client.socket_id) == {}
        await client.quiet()
        assert [(await other.next())["event"] for _ in range(3)] == ["e"] * 3
    assert await called(backend.send_to_user, "user-1", "e", {}) == {}


async def test_library_triggers_a_batch(plain: Server, name: str) -> None:
    """In order, encrypted channels among them."""
    backend = plain.pusher(
        encryption_master_key_base64="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    )
    async with plain.client() as client:
        await client.subscribe(name)
        encrypted = f"private-encrypted-{name}"
        batch = [
            {"channel": name, "name": "one", "data": {"a": 1}},
            {"channel": encrypted, "name": "two", "data": "secret"},
            {"channel": name, "name": "three", "data": "plain", "socket_id": "1.1"},
        ]
        assert await called(backend.trigger_batch, batch) == {}
        assert [(await client.next())["event"] for _ in range(2)] == ["one", "three"]
        await client.quiet()
    assert "secret" not in json.dumps(batch)


async def test_library_reads_channels(plain: Server, state: State, name: str) -> None:
    """All, by prefix, with user counts."""
    backend = plain.pusher()
    await state.subscribed(name, 1)
    await state.members(f"presence-{name}", "u-1", "u-2")
    assert {name, f"presence-{name}"} <= (await called(backend.channels_info))["channels"].keys()
    assert await called(backend.channels_info, name) == {"channels": {name: {}}}
    answer = await called(backend.channels_info, f"presence-{name}", ["user_count"])
    assert answer == {"channels": {f"presence-{name}": {"user_count": 2}}}
    with pytest.raises(pusher.errors.PusherBadRequest, match="presence-"):
        await called(backend.channels_info, None, ["user_count"])


async def test_library_reads_one_channel(plain: Server, state: State, name: str) -> None:
    """Whether it is occupied, and each attribute."""
    backend = plain.pusher()
    presence = f"presence-cache-{name}"
    assert await called(backend.channel_info, name) == {"occupied": False}
    await state.members(presence, "u-1")
    await state.cached(presence, bus_message("x", presence), 60_000)
    asked = ["user_count", "subscription_count", "cache"]
    assert await called(backend.channel_info, presence, asked) == {
        "occupied": True,
        "user_count": 1,
        "subscription_count": 1,
        "cache": {"data": "x", "ttl": 60},
    }
    with pytest.raises(pusher.errors.PusherBadRequest, match="user_count"):
        await called(backend.channel_info, name, ["user_count"])


async def test_library_reads_users(plain: Server, state: State, name: str) -> None:
    """Ids, each as an object."""
    backend = plain.pusher()
    await state.members(f"presence-{name}", "u-2", "u-1")
    answer = await called(backend.users_info, f"presence-{name}")
    assert answer == {"users": [{"id": "u-1"}, {"id": "u-2"}]}
    with pytest.raises(pusher.errors.PusherBadRequest, match="presence"):
        await called(backend.users_info, name)


@pytest.mark.parametrize("user", ["user-1", "a@b.c;d=e,f"])
async def test_library_terminates_connections(plain: Server, user: str) -> None:
    """It posts to `/users/…` without the app: every node is told, and of the right app."""
    backend = plain.pusher()
    async with plain.redis() as redis, redis.pubsub() as control:
        await control.subscribe("bellhop:control")
        assert (await control.get_message(timeout=5) or {})["type"] == "subscribe"
        assert await called(backend.terminate_user_connections, user) == {}
        message = await control.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message is not None
    assert json.loads(message["data"]) == {"terminate": {"app": "1", "user": user}}


@pytest.mark.parametrize("user", ["auth0|12 3", "a/b", "ü"])
async def test_user_id_may_hold_what_a_path_may_not(plain: Server, user: str) -> None:
    """Libraries sign the id as it is and send it escaped, or sign what they send."""
    escaped = "".join(f"%{byte:02X}" for byte in user.encode())
    async with plain.redis() as redis, redis.pubsub() as control:
        await control.subscribe("bellhop:control")
        assert (await control.get_message(timeout=5) or {})["type"] == "subscribe"
        path = f"/apps/1/users/{escaped}/terminate_connections"
        for signed in (path, f"/apps/1/users/{user}/terminate_connections"):
            answer = await plain.api("POST", path, {}, signed_path=signed)
            assert answer.status_code == 200, answer.text
            message = await control.get_message(ignore_subscribe_messages=True, timeout=5)
            assert message is not None
            assert json.loads(message["data"]) == {"terminate": {"app": "1", "user": user}}


async def test_library_is_told_what_is_wrong(plain: Server, name: str) -> None:
    """Its own errors, with our reasons in them."""
    with pytest.raises(pusher.errors.PusherBadAuth, match="check the secret"):
        await called(plain.pusher(secret="wrong").channels_info)
    with pytest.raises(pusher.errors.PusherBadAuth, match="auth_key"):
        await called(plain.pusher(key="wrong").terminate_user_connections, "u")
    with pytest.raises(pusher.errors.PusherBadStatus, match="413"):
        await called(plain.pusher().trigger, name, "e", "x" * 10_241)
    with pytest.raises(pusher.errors.PusherBadStatus, match="no such app"):
        await called(plain.pusher(app_id="77").users_info, f"presence-{name}")
