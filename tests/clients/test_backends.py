"""The released libraries of backends: publishing, asking, signing, being told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.backends import Backend, BackendError
from tests.clients.features import BACKENDS, Feature, each, feature
from tests.clients.site import MASTER_KEY, Hook, Site
from tests.clients.topology import Topology
from tests.harness import Client, eventually

pytestmark = [
    pytest.mark.clients,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]


async def _member(client: Client, backend: Backend, channel: str, user: str) -> None:
    member = {"user_id": user, "user_info": {"name": user.title()}}
    signed = await backend.authorize(client.socket_id, channel, member)
    await client.subscribe(channel, **signed)


async def _news(client: Client, data: Any) -> None:
    assert (await client.until("news"))["data"] == data


@feature(Feature.TRIGGER)
@each(BACKENDS)
async def test_library_triggers(backend: Backend, topology: Topology, name: str) -> None:
    """One channel, several at once, all but one socket, one that is long gone; on every node."""
    async with topology.door.client() as one, topology.door.client() as two:
        for client in (one, two):
            await client.subscribe(name)
        assert await backend.trigger([name], "news", {"n": 1}) == {}
        assert await backend.trigger([f"{name}-other", name], "news", "several") == {}
        assert await backend.trigger([name], "news", "without one", one.socket_id) == {}
        assert await backend.trigger([name], "news", "without nobody", "1.1") == {}
        for client in (one, two):
            await _news(client, {"n": 1})
            await _news(client, "several")
        await _news(two, "without one")
        for client in (one, two):
            await _news(client, "without nobody")


@feature(Feature.TRIGGER)
@each(BACKENDS)
async def test_library_is_told_why_not(backend: Backend, name: str) -> None:
    """413 for data that is too large, 400 for a name that is the protocol's own."""
    with pytest.raises(BackendError, match="413"):
        await backend.trigger([name], "news", "x" * 10_241)
    with pytest.raises(BackendError, match="pusher"):
        await backend.trigger([name], "pusher:news", "x")


@feature(Feature.BATCH)
@each(BACKENDS)
async def test_library_triggers_a_batch(backend: Backend, topology: Topology, name: str) -> None:
    """In order, on several channels."""
    async with topology.door.client() as client:
        for channel in (name, f"{name}-2"):
            await client.subscribe(channel)
        batch = [
            {"channel": channel, "name": "news", "data": {"n": number}}
            for number, channel in enumerate([name, f"{name}-2", name])
        ]
        assert await backend.trigger_batch(batch) == {}
        got = [await client.until("news") for _ in batch]
        on_first = [frame["data"]["n"] for frame in got if frame["channel"] == name]
        assert on_first == [0, 2]
        assert len(got) == 3


@feature(Feature.CHANNELS)
@each(BACKENDS)
async def test_library_asks_for_channels(backend: Backend, topology: Topology, name: str) -> None:
    """Subscribers and members of all nodes are counted, each user once."""
    presence, cache = f"presence-{name}", f"cache-{name}"
    assert await backend.channel(name) == {"occupied": False}
    assert await backend.channels(f"presence-{name}") == {"channels": {}}
    async with topology.door.client() as one, topology.door.client() as two:
        for client in (one, two):
            await client.subscribe(name)
            await client.subscribe(cache)
            await _member(client, backend, presence, "ada")
        assert await backend.channel(name, "subscription_count") == {
            "occupied": True,
            "subscription_count": 2,
        }
        assert (await backend.channel(presence, "user_count"))["user_count"] == 1
        assert await backend.channels(f"presence-{name}", "user_count") == {
            "channels": {presence: {"user_count": 1}}
        }
        assert {name, cache, presence} <= (await backend.channels())["channels"].keys()
        assert (await backend.channel(cache, "cache"))["cache"] is None
        await backend.trigger([cache], "news", {"n": 1})
        cached = (await backend.channel(cache, "cache"))["cache"]
        assert json.loads(cached["data"]) == {"n": 1}
        assert 0 < cached["ttl"] <= 1800
        with pytest.raises(BackendError, match="user_count"):
            await backend.channel(name, "user_count")


@feature(Feature.USERS)
@each(BACKENDS)
async def test_library_asks_for_users(backend: Backend, topology: Topology, name: str) -> None:
    """Each user once, wherever they are connected."""
    presence = f"presence-{name}"
    async with topology.door.client() as one, topology.door.client() as two:
        await _member(one, backend, presence, "ada")
        await _member(two, backend, presence, "ben")
        assert sorted(user["id"] for user in (await backend.users(presence))["users"]) == [
            "ada",
            "ben",
        ]
    with pytest.raises(BackendError):
        await backend.users(name)


@feature(Feature.ENCRYPTS)
@each(BACKENDS)
async def test_library_encrypts(backend: Backend, topology: Topology, name: str) -> None:
    """Only the channel's subscribers have the key; what passes here cannot be read."""
    channel = f"private-encrypted-{name}"
    async with topology.door.client() as client:
        signed = await backend.authorize(client.socket_id, channel)
        assert signed.pop("shared_secret") != MASTER_KEY
        await client.subscribe(channel, **signed)
        await backend.trigger([channel], "news", "the secret of room 12")
        frame = await client.until("news")
    assert frame["data"].keys() == {"nonce", "ciphertext"}


@feature(Feature.AUTHORIZES)
@each(BACKENDS)
async def test_library_authorizes(backend: Backend, topology: Topology, name: str) -> None:
    """Its signatures open private and presence channels, and sign a user in."""
    user = f"ada-{name}"
    async with topology.door.client() as client:
        await client.subscribe(
            f"private-{name}", **await backend.authorize(client.socket_id, f"private-{name}")
        )
        await _member(client, backend, f"presence-{name}", "ada")
        data = {"id": user, "user_info": {"name": "Ada"}}
        await client.send("pusher:signin", dict(await backend.authenticate(client.socket_id, data)))
        assert (
            json.loads((await client.until("pusher:signin_success"))["data"]["user_data"]) == data
        )
        await client.subscribe(f"#server-to-user-{user}")
        assert await backend.to_user(user, "news", {"n": 1}) == {}
        await _news(client, {"n": 1})
        refusal = await client.refused(f"private-{name}-2", auth="test-key:00")
        assert refusal["type"] == "AuthError"


@feature(Feature.TERMINATED)
@each(BACKENDS)
async def test_library_terminates_a_user(backend: Backend, topology: Topology, name: str) -> None:
    """Every connection that signed in as the user, on every node; presence alone is not enough."""
    user = f"ada-{name}"
    async with (
        topology.door.client() as one,
        topology.door.client() as two,
        topology.door.client() as member,
    ):
        for client in (one, two):
            await client.send(
                "pusher:signin", dict(await backend.authenticate(client.socket_id, {"id": user}))
            )
            await client.until("pusher:signin_success")
        await _member(member, backend, f"presence-{name}", user)
        assert await backend.terminate(user) == {}
        for client in (one, two):
            code, before = await client.closed()
            assert code == 4009
            assert before[-1]["data"]["code"] == 4009
        await member.quiet()


async def _told(site: Site, event: dict[str, Any]) -> Hook:
    try:
        hooks: list[Hook] = await eventually(lambda: site.told(**event))
    except AssertionError as error:
        error.add_note("\n".join([str(event), *(hook.body for hook in site.hooks)]))
        raise
    assert len(hooks) == 1
    return hooks[0]


@feature(Feature.WEBHOOKS, *BACKENDS)
async def test_libraries_read_every_kind_of_webhook(
    every_backend: list[Backend], topology: Topology, site: Site, name: str
) -> None:
    """Each of the seven kinds comes once, signed so that both libraries believe it."""
    backend, _ = every_backend
    private, presence, cache = f"private-{name}", f"presence-{name}", f"cache-{name}"
    async with topology.door.client() as one, topology.door.client() as two:
        for client in (one, two):
            signed = await backend.authorize(client.socket_id, private)
            await client.subscribe(private, **signed)
        await _member(one, backend, presence, "ada")
        await one.subscribe(cache)
        await one.send("client-note", {"n": 1}, channel=private)
        await two.until("client-note")
        sender = one.socket_id
    expected: list[dict[str, Any]] = [
        {"name": "channel_occupied", "channel": private},
        {"name": "channel_vacated", "channel": private},
        {"name": "member_added", "channel": presence, "user_id": "ada"},
        {"name": "member_removed", "channel": presence, "user_id": "ada"},
        {"name": "cache_miss", "channel": cache},
        {"name": "client_event", "channel": private, "event": "client-note", "socket_id": sender},
        {"name": "subscription_count", "channel": private, "subscription_count": 2},
    ]
    for event in expected:
        hook = await _told(site, event)
        for library in every_backend:
            events = await library.webhook(hook)
            assert events is not None
            assert any(event.items() <= each.items() for each in events)
            forged = Hook(hook.headers, hook.body.replace(name, "elsewhere"))
            assert await library.webhook(forged) is None
