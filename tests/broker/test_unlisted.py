"""`BELLHOP_UNLISTED_CHANNELS=pusher`: a plain Pusher server beside the contract; several apps."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pusher.errors
import pytest

from tests.harness import Client, Server, new_hotel, room_updated, started, token

PREFIX: Final = f"plain-{uuid.uuid4().hex[:8]}:"
SECOND: Final = {"app_id": "2", "key": "second-key", "secret": "second-secret"}
CONFIGURATION: Final = """
[[apps]]
id = "2"
key = "second-key"
secret = "second-secret"

[[apps]]
id = "3"
key = "third-key"
secret = "third-secret"
enabled = false
"""


@pytest.fixture(scope="module")
def settings(shared_server: Server) -> dict[str, str]:
    """Settings of a plain Pusher server on the shared Valkey."""
    return {
        "REDIS_URL": shared_server.redis_url,
        "BELLHOP_REDIS_PREFIX": PREFIX,
        "BELLHOP_UNLISTED_CHANNELS": "pusher",
        "BELLHOP_REQUIRE_TOKEN": "false",
        "BELLHOP_AUTH_TIMEOUT_S": "1",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration file."""
    path = tmp_path_factory.mktemp("plain")
    (path / "bellhop.toml").write_text(CONFIGURATION)
    return path


@pytest.fixture(scope="module")
def plain(settings: dict[str, str], folder: Path) -> Iterator[Server]:
    """A server with three apps, the third disabled."""
    arguments = ("--config", str(folder / "bellhop.toml"))
    with started(folder / "server.log", settings, *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def second_node(plain: Server, settings: dict[str, str], folder: Path) -> Iterator[Server]:
    """Another node of the same installation."""
    with started(folder / "second.log", settings, *plain.arguments) as running:
        yield running


def news() -> str:
    """Return the name of a channel outside the contract."""
    return f"news.{uuid.uuid4().hex}"


async def trigger(server: Server, channel: str, data: Any, **app: str) -> None:
    """Publish an event by the released library."""
    await asyncio.to_thread(server.pusher(**app).trigger, channel, "posted", data)


@pytest.mark.parametrize(
    "data", ["plain words", "123", '{"a": [1, null]}', "", '"quoted"', "ü\u2028"]
)
async def test_public_channel_relays_the_very_string(plain: Server, data: str) -> None:
    """No token, no envelope, no number: `data` leaves as the publisher's string came."""
    channel = news()
    async with plain.client() as client:
        await client.subscribe(channel)
        await trigger(plain, channel, data)
        frame = json.loads(await client.socket.recv())
    assert frame == {"event": "posted", "channel": channel, "data": data}


async def test_object_is_encoded_to_a_string(plain: Server) -> None:
    """Whatever a producer puts into Redis, `data` is a string on the wire (Swift)."""
    channel = news()
    async with plain.client() as client, plain.redis() as redis:
        await client.subscribe(channel)
        message = json.dumps({"event": "posted", "data": {"a": 1}})
        await redis.publish(f"{PREFIX}publish:{channel}", message)
        frame = json.loads(await client.socket.recv())
    assert frame["data"] == '{"a":1}'


@pytest.mark.parametrize("kind", ["private-", "presence-", "private-encrypted-"])
async def test_signed_channel_is_admitted_by_the_backend(plain: Server, kind: str) -> None:
    """As on Pusher: 401 without a signature; what is encrypted passes as it is."""
    channel = kind + news()
    key = {"encryption_master_key_base64": base64.b64encode(bytes(32)).decode()}
    async with plain.client() as client:
        assert (await client.refused(channel))["status"] == 401
        member = {"user_id": "u-1"} if kind == "presence-" else None
        signed = plain.pusher(**key).authenticate(channel, client.socket_id, member)
        signed.pop("shared_secret", None)
        await client.subscribe(channel, **signed)
        await trigger(plain, channel, "secret", **key)
        frame = await client.until("posted")
    if kind == "private-encrypted-":
        assert set(frame["data"]) == {"nonce", "ciphertext"}
    else:
        assert frame["data"] == "secret"


async def test_contract_channels_stay_guarded(plain: Server) -> None:
    """Nobody in time: what waited is refused, and the connection goes on without a token."""
    rooms = f"{new_hotel()}.rooms"
    async with plain.client() as client:
        refused = await client.refused(rooms)
        assert refused["status"] == 401
        channel = news()
        await client.subscribe(channel)
        assert (await client.refused(rooms))["status"] == 401
        await trigger(plain, channel, "still here")
        await client.until("posted")


async def test_token_opens_the_contract_beside_them(plain: Server) -> None:
    """Both on one connection."""
    hotel, channel = new_hotel(), news()
    rooms = f"{hotel}.rooms"
    async with plain.client(f"/t/{token(hotels=[hotel])}") as client, plain.redis() as redis:
        await client.subscribe(channel)
        await client.subscribe(rooms)
        await redis.publish(f"{PREFIX}publish:{rooms}", json.dumps(room_updated(hotel=hotel)))
        assert (await client.next())["data"]["meta"]["sequence"] == 1


async def test_event_is_delivered_once_on_two_nodes(plain: Server, second_node: Server) -> None:
    """Outside the contract an event id is data like any other; one node takes the message."""
    channel = news()
    async with plain.client() as one, second_node.client() as other, plain.redis() as redis:
        for client in (one, other):
            await client.subscribe(channel)
        body = {"payload": {}, "meta": {"event_id": str(uuid.uuid4())}}
        for event in ("first", "last"):
            message = json.dumps({"event": event, "data": body})
            await redis.publish(f"{PREFIX}publish:{channel}", message)
        for client in (one, other):
            assert [(await client.next())["event"] for _ in range(2)] == ["first", "last"]
            await client.quiet()


async def test_apps_are_kept_apart(plain: Server) -> None:
    """The same channel name is another channel in another app, by Redis and by HTTP."""
    channel = news()
    async with (
        plain.client() as first,
        plain.dial(f"/app/{SECOND['key']}?protocol=7") as socket,
        plain.redis() as redis,
    ):
        second = Client(socket)
        await second.greeted()
        for client in (first, second):
            await client.subscribe(channel)
        await trigger(plain, channel, "for the second", **SECOND)
        message = json.dumps({"event": "posted", "data": "for the second, by Redis"})
        await redis.publish(f"{PREFIX}publish@2:{channel}", message)
        await trigger(plain, channel, "for the first")
        assert (await first.next())["data"] == "for the first"
        assert [(await second.next())["data"] for _ in range(2)] == [
            "for the second",
            "for the second, by Redis",
        ]
        # One app's signature opens nothing in another.
        private = f"private-{channel}"
        signed = plain.pusher().authenticate(private, second.socket_id)
        assert (await second.refused(private, **signed))["status"] == 401
        signed = plain.pusher(**SECOND).authenticate(private, second.socket_id)
        await second.subscribe(private, **signed)


async def test_disabled_app_is_closed_everywhere(plain: Server) -> None:
    """4003 on a socket, 403 over HTTP."""
    async with plain.dial("/app/third-key?protocol=7") as socket:
        code, before = await Client(socket).closed()
    assert (code, before[0]["data"]["code"]) == (4003, 4003)
    with pytest.raises(pusher.errors.PusherForbidden, match="disabled"):
        await trigger(plain, news(), "x", app_id="3", key="third-key", secret="third-secret")


async def test_event_on_nobodys_channel_is_accepted(plain: Server) -> None:
    """A publish is good whether or not anybody listens; so is one for a user that is away."""
    await trigger(plain, news(), "x")
    await asyncio.to_thread(plain.pusher().send_to_user, "user-away", "posted", "x")
