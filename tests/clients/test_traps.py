"""What breaks some real client when a server gets it wrong, frame by frame, on every topology.

Swift's client cannot run here: what it needs is held by its frames. Data are strings, the
subprotocol is echoed, control pings are answered.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.clients.backends import PythonBackend
from tests.clients.topology import Topology
from tests.harness import APP_KEY, Client, token

pytestmark = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="session")]

SUCCEEDED = "pusher_internal:subscription_succeeded"
SUBPROTOCOL = "pusher-channels-protocol-7"
CLIENTS = {
    "java": "client=java-client&protocol=5&version=2.4.4",
    "pysher": "client=Pysher&version=1.0.7&protocol=6",
    "pusher-js": "protocol=7&client=js&version=8.6.0&flash=false",
    "swift": "client=pusher-websocket-swift&version=10.1.10&protocol=7",
}


@pytest.fixture
def backend(topology: Topology) -> PythonBackend:
    """What signs for the tests."""
    return PythonBackend(topology.backend())


async def raw(client: Client, event: str) -> dict[str, Any]:
    """Return the next frame of an event as it is on the wire."""
    while True:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(client.socket.recv(), 15))
        if frame["event"] == event:
            return frame


async def signin(client: Client, backend: PythonBackend, **user: Any) -> None:
    """Send a signin that the backend's library has signed."""
    await client.send("pusher:signin", await backend.authenticate(client.socket_id, user))


async def join(client: Client, backend: PythonBackend, channel: str, member: Any = None) -> None:
    """Subscribe with the signature of the backend's library."""
    await client.subscribe(channel, **await backend.authorize(client.socket_id, channel, member))


# --- connecting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("query", CLIENTS.values(), ids=CLIENTS)
async def test_every_clients_query_is_welcome(topology: Topology, query: str) -> None:
    """Protocols 5, 6 and 7, in the words of each client; the greeting's data is a string."""
    async with topology.door.connect(query=query) as socket:
        frame = await raw(Client(socket), "pusher:connection_established")
    data = json.loads(frame["data"])
    assert data["activity_timeout"] > 0


async def test_subprotocol_is_echoed_where_offered(topology: Topology) -> None:
    """Swift gives up without the echo, a browser with one that it has not offered."""
    async with topology.door.connect(subprotocols=[SUBPROTOCOL]) as socket:
        assert socket.subprotocol == SUBPROTOCOL
    async with topology.door.connect() as socket:
        assert socket.subprotocol is None


async def test_control_ping_is_answered(topology: Topology) -> None:
    """Swift's pings are control frames."""
    async with topology.door.client() as client:
        await asyncio.wait_for(await client.socket.ping(b"swift"), 15)


async def test_pings_of_every_client_are_answered_with_data(topology: Topology) -> None:
    """Pysher's ping has an empty string and comes before it has read anything; Java reads data."""
    async with topology.door.connect() as socket:
        await socket.send('{"event":"pusher:ping","data":""}')
        client = Client(socket)
        await client.greeted()
        assert (await raw(client, "pusher:pong"))["data"] == {}
        await socket.send('{"event":"pusher:ping","data":{}}')
        assert (await raw(client, "pusher:pong"))["data"] == {}


@pytest.mark.parametrize(
    "target, code",
    [
        ("/app/no-such-key?protocol=7", 4001),
        (f"/app/{APP_KEY}/elsewhere?protocol=7", 4005),
        (f"/app/{APP_KEY}?protocol=4", 4007),
        (f"/app/{APP_KEY}", 4008),
        (f"/t/not.a.token/app/{APP_KEY}?protocol=7", 4009),
    ],
)
async def test_door_is_shut_by_a_frame_and_a_code(
    topology: Topology, target: str, code: int
) -> None:
    """Never by an HTTP status (15 s of waiting), nor by 42xx (a hot loop); Pysher reads frames."""
    async with topology.door.dial(target) as socket:
        closed, before = await Client(socket).closed()
    assert closed == code
    (frame,) = before
    assert frame["event"] == "pusher:error"
    # Pysher and Swift take an object, and Java a number.
    assert frame["data"].keys() == {"code", "message"}
    assert frame["data"]["code"] == code


# --- subscribing ---------------------------------------------------------------------------------


async def test_data_of_every_channel_frame_is_a_string(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """Swift drops whatever else: successes, misses, members, events, client events."""
    presence, cache = f"presence-cache-{name}", f"cache-{name}"
    async with topology.door.client() as one, topology.door.client() as two:
        await one.send("pusher:subscribe", {"channel": cache})
        assert (await raw(one, SUCCEEDED))["data"] == "{}"
        assert (await raw(one, "pusher:cache_miss"))["data"] == "{}"
        signed = await backend.authorize(one.socket_id, presence, {"user_id": "ada"})
        await one.send("pusher:subscribe", {"channel": presence, **signed})
        roster = json.loads((await raw(one, SUCCEEDED))["data"])
        # Without the hash pusher-js throws.
        assert roster == {"presence": {"ids": ["ada"], "hash": {"ada": {}}, "count": 1}} or roster[
            "presence"
        ]["hash"].keys() == {"ada"}
        await join(two, backend, presence, {"user_id": "ben"})
        added = await raw(one, "pusher_internal:member_added")
        assert json.loads(added["data"])["user_id"] == "ben"
        await two.send("client-note", {"deep": [1]}, channel=presence)
        note = await raw(one, "client-note")
        assert json.loads(note["data"]) == {"deep": [1]}
        assert note["user_id"] == "ben"
        await backend.trigger([cache], "news", {"n": 1})
        assert json.loads((await raw(one, "news"))["data"]) == {"n": 1}
        await two.send("pusher:unsubscribe", {"channel": presence})
        removed = await raw(one, "pusher_internal:member_removed")
        assert json.loads(removed["data"]) == {"user_id": "ben"}


async def test_publishers_string_arrives_as_it_was(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """Byte for byte: spaces, escapes, numbers that look like something else."""
    texts = ['{ "a":  1.0,"b":"\\u00e9" }', "123", "", "true", "ü\n\t\u2028", '"quoted"']
    async with topology.door.client() as client:
        await client.subscribe(name)
        for text in texts:
            await backend.trigger([name], "news", text)
            assert (await raw(client, "news"))["data"] == text


async def test_subscribe_may_carry_its_data_as_a_string(topology: Topology, name: str) -> None:
    """Some clients encode the data of their own frames too."""
    async with topology.door.client() as client:
        await client.socket.send(
            json.dumps({"event": "pusher:subscribe", "data": json.dumps({"channel": name})})
        )
        await raw(client, SUCCEEDED)


async def test_repeated_subscribe_is_confirmed_and_counted_once(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """pusher-js subscribes to its own user's channel after each signin; an event comes once."""
    async with topology.door.client() as client:
        for _ in range(2):
            await client.subscribe(name)
        info = await backend.channel(name, "subscription_count")
        assert info["subscription_count"] == 1
        await backend.trigger([name], "news", "once")
        await client.until("news")
        await client.quiet()


async def test_unsubscribe_is_silent_however_often(topology: Topology, name: str) -> None:
    """Nothing is answered, whether or not there was a subscription."""
    async with topology.door.client() as client:
        for _ in range(2):
            await client.send("pusher:unsubscribe", {"channel": name})
        await client.quiet()


@pytest.mark.parametrize(
    "channel", ["hotel-private-dining-{}", "the-cache-of-{}", "my-presence-{}"]
)
async def test_prefix_counts_at_the_beginning_only(
    topology: Topology, name: str, channel: str
) -> None:
    """A public name may have any word in it."""
    async with topology.door.client() as client:
        await client.subscribe(channel.format(name))
        await client.send("client-note", {}, channel=channel.format(name))
        await client.until("pusher:error")
        assert not [frame for frame in client.frames if frame["event"] == "pusher:cache_miss"]


async def test_private_subscribe_may_be_signed_with_channel_data(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """The auth server of pusher-js' own suite signs channel_data on private channels too."""
    async with topology.door.client() as client:
        await join(client, backend, f"private-{name}", {"user_id": "10", "user_info": {"a": 1}})


async def test_number_as_a_user_id_becomes_a_string(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """Pusher's own documents sign `"user_id":10`; Swift and pusher-js want strings back."""
    channel = f"presence-{name}"
    async with topology.door.client() as one, topology.door.client() as two:
        await join(one, backend, channel, {"user_id": 10})
        await join(two, backend, channel, {"user_id": 11})
        added = await one.until("pusher_internal:member_added")
        assert added["data"]["user_id"] == "11"
        await two.send("client-note", {}, channel=channel)
        assert (await one.until("client-note"))["user_id"] == "11"
    assert sorted((await _ids(two, SUCCEEDED)).keys()) == ["10", "11"]


async def _ids(client: Client, event: str) -> dict[str, Any]:
    (frame,) = [frame for frame in client.frames if frame["event"] == event]
    found: dict[str, Any] = frame["data"]["presence"]["hash"]
    return found


async def test_member_hears_nothing_of_itself(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """Neither its coming nor, on another connection of the same user, its going."""
    channel = f"presence-{name}"
    async with topology.door.client() as one, topology.door.client() as two:
        for client in (one, two):
            await join(client, backend, channel, {"user_id": "ada"})
        await two.send("pusher:unsubscribe", {"channel": channel})
        await two.quiet()
        await join(two, backend, channel, {"user_id": "ada"})
        await one.quiet()


# --- client events -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event, prefix",
    [
        ("client-note", ""),
        ("client-note", "private-"),
        ("client-" + "x" * 194, "private-"),
        ("note", "private-"),
    ],
    ids=["public", "stranger", "endless", "other prefix"],
)
async def test_refused_client_event_names_its_channel(
    topology: Topology, name: str, event: str, prefix: str
) -> None:
    """4301 with `channel`, so that the channel's own callback hears of it; nothing closes."""
    async with topology.door.client() as client:
        await client.subscribe(name)
        await client.send(event, {}, channel=f"{prefix}{name}")
        frame = await client.until("pusher:error")
        assert frame["data"]["code"] == 4301
        assert frame["channel"] == f"{prefix}{name}"
        await client.quiet()


async def test_channel_that_can_be_none_is_named_by_its_error(topology: Topology) -> None:
    """pusher-js hands `pusher:error` to the bindings of its channel: whoever asked learns of it."""
    async with topology.door.client() as client:
        await client.send("pusher:subscribe", {"auth": "", "channel": "no name!"})
        frame = await client.until("pusher:error")
        assert (frame["data"]["code"], frame["channel"]) == (4300, "no name!")
        await client.quiet()


async def test_client_events_are_limited_without_a_close(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """The eleventh within a second is refused with 4301."""
    channel = f"private-{name}"
    async with topology.door.client() as client:
        await join(client, backend, channel)
        for number in range(30):
            await client.send("client-note", {"n": number}, channel=channel)
        frame = await client.until("pusher:error")
        assert (frame["data"]["code"], frame["channel"]) == (4301, channel)
        await client.send("pusher:ping")
        await client.until("pusher:pong")


# --- users ---------------------------------------------------------------------------------------


async def test_users_channel_is_the_users_alone(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """`#server-to-user-` opens to who signed in as that user, and to nobody else."""
    user = f"ada-{name}"
    async with topology.door.client() as ada, topology.door.client() as other:
        await signin(ada, backend, id=user)
        await ada.until("pusher:signin_success")
        await ada.subscribe(f"#server-to-user-{user}")
        await signin(other, backend, id=f"ben-{name}")
        await other.until("pusher:signin_success")
        await other.refused(f"#server-to-user-{user}")
        await backend.to_user(user, "news", "private")
        await ada.until("news")
        await other.quiet()


async def test_signin_may_be_repeated_by_the_same_user_only(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """The same user is confirmed again, with the very string; another one is turned away."""
    async with topology.door.client() as client:
        for _ in range(2):
            await signin(client, backend, id=f"ada-{name}")
            success = await client.until("pusher:signin_success")
            assert json.loads(success["data"]["user_data"]) == {"id": f"ada-{name}"}
        await signin(client, backend, id=f"ben-{name}")
        code, before = await client.closed()
        assert code == 4009
        assert before[-1]["data"]["code"] == 4009


async def test_nobody_is_signed_in_who_did_not_ask(topology: Topology) -> None:
    """`signin_success` throws in a pusher-js that never called signin()."""
    async with topology.door.client(f"/t/{token()}") as client:
        await client.send("bellhop:auth", {"token": token()})
        await client.until("bellhop:authenticated")
        await client.quiet()
        events = {frame["event"] for frame in client.frames}
        assert "pusher:signin_success" not in events


async def test_long_watchlist_is_cut_and_the_signin_stands(
    topology: Topology, backend: PythonBackend, name: str
) -> None:
    """4302, as an error that closes nothing; the first hundred are watched."""
    watched = [f"user-{name}-{number}" for number in range(101)]
    async with topology.door.client() as client:
        await signin(client, backend, id=f"ada-{name}", watchlist=watched)
        await client.until("pusher:signin_success")
        error = await client.until("pusher:error")
        assert error["data"]["code"] == 4302
        frame = await raw(client, "pusher_internal:watchlist_events")
        told = json.loads(frame["data"])["events"]
        assert {event["name"] for event in told} == {"offline"}
        assert sorted(told[0]["user_ids"]) == sorted(watched[:100])


# --- the HTTP API --------------------------------------------------------------------------------


async def test_php_says_channel_for_one_and_reads_objects(topology: Topology, name: str) -> None:
    """PHP sends `channel` where there is one, and breaks on `[]` where no channel is."""
    async with topology.door.client() as client:
        await client.subscribe(name)
        body = {"name": "news", "data": '"x"', "channel": name}
        answer = await topology.api.api("POST", "/apps/1/events", body)
        assert (answer.status_code, answer.text) == (200, "{}")
        await client.until("news")
    params = {"filter_by_prefix": f"presence-{name}", "info": "user_count"}
    answer = await topology.api.api("GET", "/apps/1/channels", params=params)
    assert answer.json() == {"channels": {}}


async def test_python_signs_the_digest_of_nothing(topology: Topology, name: str) -> None:
    """Its GETs have a body_md5 of no body, and that is signed with the rest."""
    nothing = {"body_md5": "d41d8cd98f00b204e9800998ecf8427e"}
    answer = await topology.api.api("GET", f"/apps/1/channels/{name}", params=nothing)
    assert answer.json() == {"occupied": False}


async def test_query_is_verified_as_it_was_before_escaping(topology: Topology, name: str) -> None:
    """`info=a,b` is signed with its comma and sent as `%2C`."""
    params = {"info": "subscription_count,cache"}
    answer = await topology.api.api("GET", f"/apps/1/channels/cache-{name}", params=params)
    assert answer.status_code == 200, answer.text
