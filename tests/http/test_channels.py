"""Reading who is there: `GET /channels`, one of them, its users; `GET /connections`."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.broker.embedded import EmbeddedValkey
from tests.harness import Server, free_port_pair
from tests.http.state import State, bus_message

CHANNELS = "/apps/1/channels"
StartServer = Callable[..., Awaitable[Server]]


@pytest.fixture
def name() -> str:
    """Return a part of channels' names that no other test has."""
    return uuid.uuid4().hex


async def get(server: Server, path: str, *, status: int = 200, **params: Any) -> dict[str, Any]:
    """Ask, and return the answer's body."""
    answer = await server.api("GET", path, params=params)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


async def test_channels_are_listed(plain: Server, state: State, name: str) -> None:
    """The occupied ones, of this app alone, by prefix where one is asked."""
    await state.subscribed(f"{name}-b", 1)
    await state.subscribed(f"{name}-a", 2)
    await state.subscribed(f"presence-{name}", 2)
    await state.subscribed(f"{name}-gone", 0)
    await state.subscribed(f"{name}-foreign", 1, app="2")
    everything = (await get(plain, CHANNELS))["channels"]
    assert {f"{name}-a", f"{name}-b", f"presence-{name}"} <= everything.keys()
    assert set(map(str, everything.values())) == {"{}"}
    answer = await get(plain, CHANNELS, filter_by_prefix=name)
    assert answer == {"channels": {f"{name}-a": {}, f"{name}-b": {}}}
    answer = await get(plain, CHANNELS, filter_by_prefix=name, info="subscription_count")
    assert answer["channels"] == {
        f"{name}-a": {"subscription_count": 2},
        f"{name}-b": {"subscription_count": 1},
    }


async def test_channels_are_an_object_when_there_are_none(plain: Server, name: str) -> None:
    """PHP's library breaks on `[]`."""
    answer = await plain.api("GET", CHANNELS, params={"filter_by_prefix": name})
    assert answer.content == b'{"channels":{}}'
    params = {"filter_by_prefix": f"presence-{name}", "info": "user_count"}
    assert (await plain.api("GET", CHANNELS, params=params)).content == b'{"channels":{}}'


async def test_users_are_counted_by_channel(plain: Server, state: State, name: str) -> None:
    """Distinct users; only where the list is limited to presence channels."""
    await state.members(f"presence-{name}-a", "u-1", "u-2")
    await state.members(f"presence-{name}-b", "u-1")
    params: dict[str, Any] = {"filter_by_prefix": f"presence-{name}", "info": "user_count"}
    assert await get(plain, CHANNELS, **params) == {
        "channels": {
            f"presence-{name}-a": {"user_count": 2},
            f"presence-{name}-b": {"user_count": 1},
        }
    }
    both = await get(plain, CHANNELS, **{**params, "info": "subscription_count,user_count"})
    assert both["channels"][f"presence-{name}-a"] == {"user_count": 2, "subscription_count": 2}
    for prefix in ("", name, "presence"):
        wrong = {**params, "filter_by_prefix": prefix}
        body = await get(plain, CHANNELS, status=400, **wrong)
        assert "filter_by_prefix=presence-" in body["error"]


@pytest.mark.parametrize("kind", ["", "private-", "presence-", "private-encrypted-", "cache-"])
async def test_channel_is_told_of(plain: Server, state: State, name: str, kind: str) -> None:
    """Occupied or not, and an unknown one is no error."""
    channel = kind + name
    assert await get(plain, f"{CHANNELS}/{channel}") == {"occupied": False}
    await state.subscribed(channel, 3)
    assert await get(plain, f"{CHANNELS}/{channel}") == {"occupied": True}
    answer = await get(plain, f"{CHANNELS}/{channel}", info="subscription_count")
    assert answer == {"occupied": True, "subscription_count": 3}


async def test_presence_channel_tells_its_users(plain: Server, state: State, name: str) -> None:
    """Both counts: distinct users, and sockets."""
    channel = f"presence-{name}"
    await state.members(channel, "u-2", "u-1")
    await state.subscribed(channel, 5)
    answer = await get(plain, f"{CHANNELS}/{channel}", info="user_count,subscription_count")
    assert answer == {"occupied": True, "user_count": 2, "subscription_count": 5}
    answer = await get(plain, f"{CHANNELS}/{channel}/users")
    assert answer == {"users": [{"id": "u-1"}, {"id": "u-2"}]}
    assert await get(plain, f"{CHANNELS}/{channel}-none/users") == {"users": []}


@pytest.mark.parametrize(
    "kind", ["cache-", "private-cache-", "presence-cache-", "private-encrypted-cache-"]
)
async def test_cache_channel_tells_its_event(
    plain: Server, state: State, name: str, kind: str
) -> None:
    """Its data as subscribers got it and the seconds left; null where nothing is remembered."""
    channel = kind + name
    assert await get(plain, f"{CHANNELS}/{channel}", info="cache") == {
        "occupied": False,
        "cache": None,
    }
    await state.cached(channel, bus_message('{"a":1}', channel), 1_799_500)
    answer = await get(plain, f"{CHANNELS}/{channel}", info="cache,subscription_count")
    assert answer == {
        "occupied": False,
        "cache": {"data": '{"a":1}', "ttl": 1800},
        "subscription_count": 0,
    }


@pytest.mark.parametrize("attribute", ["user_count", "cache"])
@pytest.mark.parametrize("kind", ["", "private-", "private-encrypted-"])
async def test_attribute_is_refused_when_not_of_the_kind(
    plain: Server, name: str, kind: str, attribute: str
) -> None:
    """400: only presence channels have users, only cache channels a cached event."""
    body = await get(plain, f"{CHANNELS}/{kind}{name}", status=400, info=attribute)
    assert attribute in body["error"]


@pytest.mark.parametrize("kind", ["", "private-", "private-encrypted-", "cache-"])
async def test_users_are_refused_when_not_presence(plain: Server, name: str, kind: str) -> None:
    """400, as on Pusher."""
    assert "presence" in (await get(plain, f"{CHANNELS}/{kind}{name}/users", status=400))["error"]


async def test_name_may_be_escaped(plain: Server, state: State, name: str) -> None:
    """Every character of a channel's name, as it is or percent-encoded, whatever was signed."""
    user, odd = f"#server-to-user-{name}", f"{name};a@b=c,d.e_f"
    await state.subscribed(user, 1)
    await state.subscribed(odd, 1)
    escaped = odd
    for character in ";@=,":
        escaped = escaped.replace(character, f"%{ord(character):02X}")
    for path in (f"%23server-to-user-{name}", odd, escaped):
        assert await get(plain, f"{CHANNELS}/{path}") == {"occupied": True}


async def test_info_may_be_escaped(plain: Server, state: State, name: str) -> None:
    """Libraries sign `a,b` and send `a%2Cb`; spaces and repetitions do no harm."""
    channel = f"presence-{name}"
    await state.members(channel, "u")
    for info in ("user_count,subscription_count", " user_count , subscription_count,user_count,"):
        answer = await get(plain, f"{CHANNELS}/{channel}", info=info)
        assert answer == {"occupied": True, "user_count": 1, "subscription_count": 1}


async def test_connections_are_counted(plain: Server, state: State) -> None:
    """Those of this app, on every living node."""
    before = (await get(plain, "/apps/1/connections"))["connections"]
    await state.connected(1_000_000)
    await state.connected(5, app="2")
    assert (await get(plain, "/apps/1/connections"))["connections"] >= before + 1_000_000 - 100
    await state.beat(age_ms=60_000)
    assert (await get(plain, "/apps/1/connections"))["connections"] < 1_000_000


async def test_nothing_is_claimed_without_redis(start_server: StartServer) -> None:
    """503: an empty list would be a lie, and what asks for counts publishes nothing."""
    async with EmbeddedValkey(free_port_pair()) as url:
        server = await start_server(REDIS_URL=url, BELLHOP_UNLISTED_CHANNELS="pusher")
        assert await get(server, CHANNELS) == {"channels": {}}
    for path in (CHANNELS, f"{CHANNELS}/a", f"{CHANNELS}/presence-a/users", "/apps/1/connections"):
        assert "Redis" in (await get(server, path, status=503))["error"]
    event = {"name": "e", "channel": "a", "data": "x", "info": "subscription_count"}
    for path, body in (
        ("/apps/1/events", event),
        ("/apps/1/batch_events", {"batch": [event]}),
        ("/apps/1/users/u/terminate_connections", {}),
    ):
        answer = await server.api("POST", path, body)
        assert answer.status_code == 503
        assert "Redis" in answer.json()["error"]
