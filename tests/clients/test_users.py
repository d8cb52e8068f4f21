"""Released clients as users: who is there, who signs in, who is watched, who is thrown out."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.cast import Cast
from tests.clients.features import JAVASCRIPT, PUSHER_JS, SUBSCRIBERS, Feature, Kind, each, feature
from tests.clients.talk import signed_in
from tests.clients.topology import Topology
from tests.harness import eventually, new_hotel, room_updated, token

pytestmark = [
    pytest.mark.clients,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]


@feature(Feature.PRESENCE)
@each(SUBSCRIBERS)
async def test_members_see_each_other_come_and_go_once(cast: Cast, name: str) -> None:
    """A user with two connections comes with the first one and goes with the last."""
    channel = f"presence-{name}"
    ada = await cast.open("ada")
    await ada.tell("subscribe", channel=channel, events=[])
    assert (await ada.until("here", channel=channel))["ids"] == ["ada"]

    ben, bens_other = await cast.open("ben"), await cast.open("ben")
    for client in (ben, bens_other):
        await client.tell("subscribe", channel=channel, events=[])
        assert sorted((await client.until("here", channel=channel))["ids"]) == ["ada", "ben"]
    await ada.until("joined", channel=channel, id="ben")

    await ben.tell("unsubscribe", channel=channel)
    cleo = await cast.open("cleo")
    await cleo.tell("subscribe", channel=channel, events=[])
    here = await cleo.until("here", channel=channel)
    assert sorted(here["ids"]) == ["ada", "ben", "cleo"]
    await ada.until("joined", channel=channel, id="cleo")
    assert not ada.seen("left")

    await bens_other.tell("unsubscribe", channel=channel)
    for client in (ada, cleo):
        await client.until("left", channel=channel, id="ben")
    await cleo.tell("unsubscribe", channel=channel)
    await ada.until("left", channel=channel, id="cleo")
    assert [report["id"] for report in ada.seen("joined")] == ["ben", "cleo"]
    assert [report["id"] for report in ada.seen("left")] == ["ben", "cleo"]
    assert not ben.seen("joined")


@feature(Feature.PRESENCE_SIGNED_IN)
@each(PUSHER_JS)
async def test_signed_in_user_is_a_member_without_channel_data(cast: Cast, name: str) -> None:
    """pusher-js then sends the signature alone: the server knows the user from the signin."""
    channel, user = f"presence-signedin-{name}", f"ada-{name}"
    ada, ben = await cast.open(user), await cast.open("ben")
    await ben.tell("signin")
    await ben.tell("subscribe", channel=channel)
    assert (await ben.until("here", channel=channel))["ids"] == ["ben"]
    await ada.tell("signin")
    await ada.tell("subscribe", channel=channel)
    here = await ada.until("here", channel=channel)
    assert (sorted(here["ids"]), here["me"]) == ([user, "ben"], user)
    await ben.until("joined", channel=channel, id=user)


@feature(Feature.SIGNIN_ENDPOINT)
@each([*JAVASCRIPT, Kind.JAVA])
async def test_client_signs_in_by_an_endpoint(cast: Cast, name: str) -> None:
    """The backend's signature makes the connection a user's, in JavaScript again after a cut."""
    user = f"ada-{name}"
    client = await cast.open(user)
    await signed_in(cast, client, user)
    assert not client.seen("user", event="pusher:signin_error")
    if cast.kind is Kind.JAVA:
        # How soon it signs in again is up to its own threads: seconds, with errors on the way.
        return
    cast.topology.sockets.cut()
    await client.has(2, "state", 30, current="connected")
    backend = cast.topology.backend()

    async def heard() -> bool:
        await asyncio.to_thread(backend.send_to_user, user, "note", "again")
        return bool(client.seen("user", event="note", data="again"))

    await eventually(heard)


@feature(Feature.SIGNIN_TOKEN)
@each(PUSHER_JS)
async def test_client_signs_in_with_the_token_itself(cast: Cast, topology: Topology) -> None:
    """A customHandler that answers with the JWT opens the hotel's channels."""
    hotel = new_hotel()
    client = await cast.open(token=token(hotels=[hotel]), sub="staff-1")
    await client.tell("subscribe", channel=f"{hotel}.rooms", events=["room_updated"])
    await signed_in(cast, client, "staff-1")
    await topology.nodes[0].publish(f"{hotel}.rooms", room_updated(hotel=hotel))
    await client.until("event", channel=f"{hotel}.rooms", event="room_updated")


@feature(Feature.TO_USER)
@each([*JAVASCRIPT, Kind.JAVA])
async def test_event_to_a_user_reaches_each_connection_of_theirs(
    cast: Cast, topology: Topology, name: str
) -> None:
    """Both devices hear it, somebody else does not."""
    user, other = f"ada-{name}", f"ben-{name}"
    devices = [await cast.open(user), await cast.open(user)]
    ben = await cast.open(other)
    for client, who in [(devices[0], user), (devices[1], user), (ben, other)]:
        await signed_in(cast, client, who)
    backend = topology.backend()
    await asyncio.to_thread(backend.send_to_user, user, "note", {"to": user})
    await asyncio.to_thread(backend.send_to_user, other, "note", {"to": other})
    for client in devices:
        await client.until("user", event="note", data={"to": user})
    await ben.until("user", event="note", data={"to": other})
    assert len(ben.seen("user", event="note")) == 1


@feature(Feature.WATCHLIST)
@each(PUSHER_JS)
async def test_watchlist_tells_who_is_online(cast: Cast, name: str) -> None:
    """Everybody's status at first, then each change: the first connection, the last."""
    ben, cleo = f"ben-{name}", f"cleo-{name}"
    there = await cast.open(cleo)
    await signed_in(cast, there, cleo)
    ada = await cast.open(f"ada-{name}", watched=(ben, cleo))
    await ada.tell("signin")
    await ada.until("watchlist", event="online", ids=[cleo])
    assert ada.seen("watchlist", event="offline", ids=[ben]) or await ada.until(
        "watchlist", event="offline", ids=[ben]
    )
    devices = [await cast.open(ben), await cast.open(ben)]
    for client in devices:
        await signed_in(cast, client, ben)
    await ada.until("watchlist", event="online", ids=[ben])
    for client in devices:
        await client.tell("disconnect")
    await ada.has(2, "watchlist", event="offline", ids=[ben])
    assert len(ada.seen("watchlist", event="online", ids=[ben])) == 1


@feature(Feature.TERMINATED)
@each([*JAVASCRIPT, Kind.JAVA])
async def test_terminated_user_does_not_come_back(
    cast: Cast, topology: Topology, name: str
) -> None:
    """4009 on every device: no retry; other users stay."""
    user = f"ada-{name}"
    devices = [await cast.open(user), await cast.open(user)]
    other = await cast.open(f"ben-{name}")
    for client, who in [*((device, user) for device in devices), (other, f"ben-{name}")]:
        await signed_in(cast, client, who)
    await asyncio.to_thread(topology.backend().terminate_user_connections, user)
    for client in devices:
        await client.until("state", current="disconnected")
        assert not (await client.standing()).get("retrying")
    assert (await other.standing())["state"] == "connected"
