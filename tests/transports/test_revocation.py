"""Rights that end before their tokens do, on every node, by every entrance."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tests.harness import (
    APP_ID,
    Client,
    Server,
    eventually,
    new_hotel,
    room_updated,
    token,
)
from tests.transports.revoking import (
    ERROR,
    SUCCEEDED,
    command,
    ended,
    on_both,
    recorded,
    revoke,
    somebody,
)

# --- entrances ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what, by", [("sub", "http"), ("sub", "cli"), ("sub", "redis"), ("jti", "redis")]
)
async def test_revocation_of_a_person_or_token_ends_connections(
    pair: tuple[Server, Server], what: str, by: str
) -> None:
    """On both nodes, with 4009; the token opens no door, and neither does an older one."""
    rooms, sub, jti = f"{new_hotel()}.rooms", somebody(), somebody()
    claims: dict[str, Any] = {"sub": sub, "jti": jti, "hotels": [rooms.removesuffix(".rooms")]}
    colleague = {**claims, "sub": somebody(), "jti": somebody()}
    jwt = token(**claims)
    async with (
        on_both(pair, rooms, **claims) as clients,
        pair[1].staff(rooms, **colleague) as other,
    ):
        await revoke(pair[0], by, **{what: claims[what]})
        for client in clients:
            await ended(client)
        await other.quiet()
    for node in pair:
        async with node.connect(f"/t/{jwt}") as socket:
            await ended(Client(socket))
        async with node.client() as client:
            await client.send("bellhop:auth", {"token": jwt})
            await client.until("pusher:error")
            assert (await client.closed())[0] == 4009


@pytest.mark.parametrize("by", ["http", "cli"])
async def test_revocation_of_a_hotel_takes_its_channels_and_undoing_gives_them_back(
    pair: tuple[Server, Server], by: str
) -> None:
    """Who lost a channel is told, and let in again unasked; other hotels go on."""
    hotel, other = new_hotel(), new_hotel()
    rooms, others = f"{hotel}.rooms", f"{other}.rooms"
    async with on_both(pair, rooms, others, hotels=[hotel, other]) as clients:
        await revoke(pair[1], by, hotel=hotel)
        for client in clients:
            frame = await client.until(ERROR)
            assert frame["channel"] == rooms
            assert frame["data"]["status"] == 403
            assert (await client.refused(rooms))["type"] == "AuthError"
        await pair[0].publish(rooms, room_updated("1", hotel=hotel))
        await pair[0].publish(others, room_updated("2", hotel=other))
        for client in clients:
            assert (await client.next())["channel"] == others
        await revoke(pair[0], by, undo=True, hotel=hotel)
        for client in clients:
            frame = await client.until(SUCCEEDED)
            assert frame["channel"] == rooms
        await pair[0].publish(rooms, room_updated("3", hotel=hotel))
        for client in clients:
            event = await client.until("room_updated")
            assert event["data"]["payload"]["room_number"] == "3"
            await client.quiet()


@pytest.mark.parametrize("by", ["redis", "http"])
async def test_revocation_of_a_role_takes_what_only_that_role_sees(
    pair: tuple[Server, Server], by: str
) -> None:
    """The channel stays; payment fields go, and come back when the revocation is undone."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    claims = {"hotels": [{"slug": hotel, "roles": ["admin"]}]}

    async def sees_payment() -> list[bool]:
        await pair[0].publish(rooms, room_updated(hotel=hotel, payment={"sum": 1}))
        frames = [await client.until("room_updated") for client in clients]
        return ["payment" in frame["data"]["payload"] for frame in frames]

    async def all_see(*, payment: bool) -> bool:
        return await sees_payment() == [payment] * 2

    async with on_both(pair, rooms, **claims) as clients:
        assert await sees_payment() == [True, True]
        await revoke(pair[0], by, role="admin")
        try:
            # Nothing is said to the client: events of afterwards are without them.
            await eventually(lambda: all_see(payment=False))
        finally:
            await revoke(pair[0], by, undo=True, role="admin")
        await eventually(lambda: all_see(payment=True))


async def test_event_after_a_revocation_is_not_heard_on_the_other_node(
    pair: tuple[Server, Server],
) -> None:
    """What is published once a revocation was answered reaches nobody whose right it ended."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with on_both(pair, rooms, hotels=[hotel]) as clients:
        await revoke(pair[0], hotel=hotel)
        for number in range(20):
            await pair[number % 2].publish(rooms, room_updated(hotel=hotel))
        for client in clients:
            assert (await client.next())["event"] == ERROR
            await client.quiet()


# --- which tokens ---------------------------------------------------------------------------------


async def test_token_issued_later_is_good(pair: tuple[Server, Server]) -> None:
    """Whoever issues one after it knows better; one that says no time is not believed."""
    sub = somebody()
    before = (token(sub), token(sub, iat=None), token(sub, iat=time.time() - 60))
    await revoke(pair[0], sub=sub)
    for node in pair:
        for refused in before:
            async with node.connect(f"/t/{refused}") as socket:
                await ended(Client(socket))
        async with node.staff(sub=sub, iat=time.time()) as client:
            await client.quiet()


async def test_second_revocation_ends_what_was_issued_after_the_first(
    pair: tuple[Server, Server],
) -> None:
    """However soon it comes."""
    sub = somebody()
    await revoke(pair[0], sub=sub)
    issued = time.time()
    await revoke(pair[0], sub=sub)
    entry = await recorded(pair[0], f"sub:{sub}")
    assert entry is not None
    assert entry["at"] >= issued


async def test_renewed_token_outlives_the_revocation_of_the_old_one(
    pair: tuple[Server, Server],
) -> None:
    """A connection is judged by the token that it has now."""
    sub, jti = somebody(), somebody()
    async with pair[1].staff(sub=sub, jti=jti) as client:
        await client.send("bellhop:auth", {"token": token(sub, jti=somebody())})
        await client.until("bellhop:authenticated")
        await revoke(pair[0], jti=jti)
        await revoke(pair[0], sub=sub)
        await ended(client)


async def test_undone_revocation_of_a_person_opens_the_door_again(
    pair: tuple[Server, Server],
) -> None:
    """With the very token that it had refused."""
    sub = somebody()
    jwt = token(sub)
    await revoke(pair[0], sub=sub)
    async with pair[1].connect(f"/t/{jwt}") as socket:
        await ended(Client(socket))
    await revoke(pair[0], undo=True, sub=sub)

    async def opens() -> bool:
        async with pair[1].connect(f"/t/{jwt}") as socket:
            first = await Client(socket).next()
            return bool(first["event"] == "pusher:connection_established")

    await eventually(opens)


async def test_cookie_with_a_revoked_token_is_ignored(pair: tuple[Server, Server]) -> None:
    """Nobody decided to send it: the page may still say who speaks."""
    sub = somebody()
    jwt = token(sub)
    await revoke(pair[0], sub=sub)
    cookie = {"Cookie": f"bellhop_token={jwt}"}
    async with pair[0].client(additional_headers=cookie) as client:
        await client.send("pusher:subscribe", {"channel": "hotel-killarney.rooms"})
        await client.quiet()
        await client.send("bellhop:auth", {"token": token(somebody())})
        assert (await client.until(SUCCEEDED))["channel"] == "hotel-killarney.rooms"


async def signature(node: Server, client: Client, channel: str, jwt: str) -> httpx.Response:
    """Ask `/pusher/auth` for a signature."""
    async with httpx.AsyncClient() as http:
        return await http.post(
            f"{node.url}/pusher/auth",
            data={"socket_id": client.socket_id, "channel_name": channel},
            headers={"Authorization": f"Bearer {jwt}"},
        )


async def test_signature_of_our_own_ends_with_the_token_behind_it(
    pair: tuple[Server, Server],
) -> None:
    """What `/pusher/auth` signed is lost and given back like a token's own right."""
    hotel, sub = new_hotel(), somebody()
    channel, jwt = f"private-{hotel}.rooms", token(sub, hotels=[hotel])
    async with pair[1].client() as client:
        signed = await signature(pair[0], client, channel, jwt)
        await client.subscribe(channel, **signed.json())
        await revoke(pair[0], sub=sub)
        frame = await client.until(ERROR)
        assert (frame["channel"], frame["data"]["status"]) == (channel, 403)
        refused = await signature(pair[0], client, channel, jwt)
        assert (refused.status_code, refused.json()) == (403, {"error": "the token was revoked"})
        await revoke(pair[0], undo=True, sub=sub)
        await client.until(SUCCEEDED)
        await pair[0].publish(channel, room_updated(hotel=hotel))
        await client.until("room_updated")


# --- who asks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"sub": "a", "jti": "b"},
        {"sub": 7},
        {"sub": ""},
        {"hotel": "x" * 513},
        {"booking": "grand/7"},
        {"undo": True},
    ],
)
async def test_revocation_of_nothing_in_particular_is_refused(
    pair: tuple[Server, Server], asked: dict[str, Any]
) -> None:
    """By HTTP with 400 and the reason; by Redis in the log, and the node goes on."""
    answer = await pair[0].api("POST", f"/apps/{APP_ID}/revocations", asked)
    assert answer.status_code == 400
    assert answer.json()["error"]
    before = len(pair[0].log_events("revocation.refused"))
    async with pair[0].redis() as redis:
        await redis.publish("bellhop:revoke", json.dumps(asked))
    await eventually(lambda: len(pair[0].log_events("revocation.refused")) > before)


async def test_revocation_needs_the_apps_signature(pair: tuple[Server, Server]) -> None:
    """A stranger ends nobody's access."""
    path = f"/apps/{APP_ID}/revocations"
    answer = await pair[0].api("POST", path, {"sub": "staff-1"}, secret="a guess")
    assert answer.status_code == 401
    assert await recorded(pair[0], "sub:staff-1") is None


async def test_revoke_command_says_what_is_wrong(pair: tuple[Server, Server]) -> None:
    """Exit 2 and one line where it names nothing, or two things; an id where it is done."""
    for options in ([], ["--sub=a", "--role=admin"]):
        answered = await command(pair[0], *options)
        assert answered.returncode == 2
        assert "name one of --sub, --jti, --hotel and --role" in answered.stderr
    sub = somebody()
    answered = await command(pair[0], f"--sub={sub}")
    entry = await recorded(pair[0], f"sub:{sub}")
    assert entry is not None
    assert answered.stdout.strip() == entry["id"]
    assert entry["until"] - entry["at"] >= 86_400 - 1
    answered = await command(pair[0], f"--sub={sub}", "--undo")
    assert answered.stdout.strip() == "lifted"
    assert await recorded(pair[0], f"sub:{sub}") is None
