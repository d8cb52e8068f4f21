"""Who speaks on a connection: signin, renewal, bad tokens, and subscribes that wait for it."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.frames import Frame, Opcode

from tests.harness import (
    APP_KEY,
    JWT_SECRET,
    Client,
    Server,
    new_hotel,
    room_updated,
    token,
)

SUCCEEDED = "pusher_internal:subscription_succeeded"
NOW = int(time.time())


def unsigned() -> str:
    """Return a token that claims to need no signature."""
    return pyjwt.encode({"sub": "staff-1", "exp": NOW + 600, "hotels": ["hotel-a"]}, "", "none")


BAD_TOKENS = {
    "expired": (token(iat=NOW - 20, exp=NOW - 10), "expired"),
    "wrong key": (token(secret="another-secret-that-is-long-enough"), "signature does not match"),
    "alg none": (unsigned(), "algorithm none is not accepted"),
    "another algorithm": (
        pyjwt.encode(
            {"sub": "s", "exp": NOW + 600}, ec.generate_private_key(ec.SECP256R1()), "ES256"
        ),
        "algorithm ES256 is not accepted",
    ),
    "no exp": (pyjwt.encode({"sub": "staff-1"}, JWT_SECRET, "HS256"), '"exp" is missing'),
    "reserved slug": (token(hotels=["guest-booking"]), "is taken"),
    "garbage": ("e30.e30.", "malformed"),
}
WAYS = ("path", "query", "header", "signin", "bellhop:auth")


async def presented(server: Server, way: str, jwt: str) -> tuple[int, list[dict[str, Any]]]:
    """Present a token in one way; return the close code and the frames before it."""
    path = f"/t/{jwt}" if way == "path" else ""
    query = f"protocol=7&token={jwt}" if way == "query" else "protocol=7"
    headers = {"Authorization": f"Bearer {jwt}"} if way == "header" else None
    async with server.connect(path, query=query, additional_headers=headers) as socket:
        client = Client(socket)
        if way == "signin":
            await client.greeted()
            await client.signin(jwt)
        elif way == "bellhop:auth":
            await client.greeted()
            await client.send("bellhop:auth", {"token": jwt})
        return await client.closed()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", BAD_TOKENS)
async def test_bad_token_closes_with_its_reason(server: Server, way: str, fault: str) -> None:
    """4009 at once, whichever way it was presented: there is no use in retrying it."""
    jwt, reason = BAD_TOKENS[fault]
    code, before = await presented(server, way, jwt)
    assert code == 4009
    (error,) = before
    assert error["event"] == "pusher:error"
    assert error["data"]["code"] == 4009
    assert reason in error["data"]["message"]
    assert jwt not in json.dumps(before)


async def test_waiting_subscribes_are_judged_in_order_by_a_signin(server: Server) -> None:
    """What came before anybody was known is answered in its order: success or refusal."""
    mine, theirs = new_hotel(), new_hotel()
    wanted = [f"{mine}.rooms", f"{theirs}.rooms", f"{mine}.room-bookings", f"{mine}.booking"]
    async with server.client() as client:
        for channel in wanted:
            await client.send("pusher:subscribe", {"channel": channel})
        await client.quiet()
        await client.signin(token(hotels=[mine]))
        assert (await client.next())["event"] == "pusher:signin_success"
        refused = await client.next()
        assert (refused["event"], refused["channel"]) == ("pusher:subscription_error", wanted[1])
        assert refused["data"]["status"] == 403
        succeeded = [await client.next() for _ in range(3)]
    assert [(frame["event"], frame["channel"]) for frame in succeeded] == [
        (SUCCEEDED, channel) for channel in wanted if channel != wanted[1]
    ]


async def test_signin_through_the_endpoint_admits_by_the_tokens_claims(server: Server) -> None:
    """`/pusher/user-auth` signs the claims: public subscribes, sent before, are released by it."""
    hotel = new_hotel()
    async with server.client() as client, httpx.AsyncClient() as http:
        await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        answer = await http.post(
            f"{server.url}/pusher/user-auth",
            data={"socket_id": client.socket_id},
            headers={"Authorization": f"Bearer {token('staff-7', hotels=[hotel])}"},
        )
        await client.send("pusher:signin", answer.json())
        signed_in = await client.next()
        assert signed_in["event"] == "pusher:signin_success"
        # The very string that was signed comes back; pusher-js wants a string id in it.
        assert signed_in["data"]["user_data"] == answer.json()["user_data"]
        assert json.loads(signed_in["data"]["user_data"])["id"] == "staff-7"
        assert (await client.next())["channel"] == f"{hotel}.rooms"
        await client.subscribe("#server-to-user-staff-7")
        await client.refused("#server-to-user-staff-8")
        assert (await client.refused(f"{new_hotel()}.rooms"))["status"] == 403


async def test_signin_without_claims_opens_no_guarded_channel(server: Server) -> None:
    """The backend's own signature gives the user's channel, and what waited is refused."""
    rooms = f"{new_hotel()}.rooms"
    async with server.client() as client:
        await client.send("pusher:subscribe", {"channel": rooms})
        signed = server.pusher().authenticate_user(client.socket_id, {"id": "user-9"})
        await client.send("pusher:signin", signed)
        assert (await client.next())["event"] == "pusher:signin_success"
        refused = await client.next()
        assert (refused["channel"], refused["data"]["status"]) == (rooms, 403)
        await client.subscribe("#server-to-user-user-9")


@pytest.mark.parametrize(
    "fault", ["another secret", "another socket", "another key", "changed data", "no signature"]
)
async def test_signin_closes_when_its_signature_is_bad(server: Server, fault: str) -> None:
    """4009: nobody becomes a user by a signature that is not over this socket and this data."""
    async with server.client() as client:
        secret = {"secret": "not-the-secret"} if fault == "another secret" else {}
        socket_id = "1.2" if fault == "another socket" else client.socket_id
        signed = server.pusher(**secret).authenticate_user(socket_id, {"id": "user-9"})
        match fault:
            case "another key":
                signed["auth"] = signed["auth"].replace(APP_KEY, "other-key")
            case "changed data":
                signed["user_data"] = signed["user_data"].replace("user-9", "user-1")
            case "no signature":
                del signed["auth"]
            case _:
                pass
        await client.send("pusher:signin", signed)
        code, before = await client.closed()
    assert code == 4009
    assert [frame["event"] for frame in before] == ["pusher:error"]


async def test_signin_closes_when_the_token_is_anothers(server: Server) -> None:
    """`user_data.id` is the client's word: it must equal the token's subject."""
    async with server.client() as client:
        await client.signin(token("staff-1"), sub="manager-1")
        code, before = await client.closed()
    assert code == 4009
    assert "differs from the token's subject" in before[0]["data"]["message"]


async def test_signin_closes_when_it_changes_the_user(server: Server) -> None:
    """A connection is one user's: as another one, reconnect."""
    async with server.client() as client:
        await client.signin(token("staff-1"))
        await client.until("pusher:signin_success")
        await client.signin(token("staff-2"), sub="staff-2")
        code, _ = await client.closed()
    assert code == 4009


async def test_signin_weighs_more_than_the_header(server: Server) -> None:
    """The first of all ways: its token's hotels replace those of the handshake."""
    by_header, by_signin = new_hotel(), new_hotel()
    headers = {"Authorization": f"Bearer {token(hotels=[by_header])}"}
    async with server.connect(additional_headers=headers) as socket:
        client = Client(socket)
        await client.greeted()
        await client.signin(token(hotels=[by_signin]))
        await client.subscribe(f"{by_signin}.rooms")
        await client.refused(f"{by_header}.rooms")


async def test_repeated_signin_renews(server: Server) -> None:
    """The same user again: answered with success, and the fresh token's hotels count."""
    one, other = new_hotel(), new_hotel()
    async with server.client() as client:
        for hotel in (one, other):
            await client.signin(token(hotels=[hotel]))
            assert (await client.next())["event"] == "pusher:signin_success"
        await client.subscribe(f"{other}.rooms")
        await client.refused(f"{one}.rooms")


@pytest.mark.parametrize("way", ["path", "cookie", "signin"])
async def test_renewal_takes_the_lost_channel_and_keeps_the_rest(server: Server, way: str) -> None:
    """`bellhop:auth` with other hotels: 403 on the lost channel, and the socket goes on."""
    kept, lost, gained = new_hotel(), new_hotel(), new_hotel()
    before = token(hotels=[kept, lost])
    path = f"/t/{before}" if way == "path" else ""
    headers = {"Cookie": f"bellhop_token={before}"} if way == "cookie" else None
    exp = int(time.time()) + 300
    async with server.connect(path, additional_headers=headers) as socket:
        client = Client(socket)
        await client.greeted()
        if way == "signin":
            await client.signin(before)
            await client.until("pusher:signin_success")
        await client.subscribe(f"{kept}.rooms")
        await client.subscribe(f"{lost}.rooms")
        await client.send("bellhop:auth", {"token": token(hotels=[kept, gained], exp=exp)})
        renewed = await client.next()
        # Never signin_success: it throws in a pusher-js that did not sign in.
        assert renewed == {"event": "bellhop:authenticated", "data": {"exp": exp}}
        refused = await client.next()
        assert (refused["event"], refused["channel"]) == (
            "pusher:subscription_error",
            f"{lost}.rooms",
        )
        assert refused["data"]["status"] == 403
        assert refused["data"]["type"] == "AuthError"
        await client.subscribe(f"{gained}.rooms")
        for hotel in (lost, kept):
            await server.publish(f"{hotel}.rooms", room_updated(hotel=hotel))
        assert (await client.next())["channel"] == f"{kept}.rooms"


async def test_renewal_changes_the_view_of_a_kept_channel(server: Server) -> None:
    """A role gained or lost counts from the next event on."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        seen = []
        for roles in ([], ["manager"], ["housekeeping"]):
            await client.send("bellhop:auth", {"token": token(hotels=[hotel], roles=roles)})
            await client.until("bellhop:authenticated")
            await server.publish(rooms, room_updated(hotel=hotel, payment={"total": 9}))
            seen.append("payment" in (await client.until("room_updated"))["data"]["payload"])
    assert seen == [False, True, False]


async def test_renewal_closes_when_the_subject_is_another(server: Server) -> None:
    """A live connection is renewed for the same subject or not at all."""
    async with server.client(f"/t/{token('staff-1')}") as client:
        await client.send("bellhop:auth", {"token": token("staff-2")})
        code, before = await client.closed()
    assert code == 4009
    assert "another subject" in before[-1]["data"]["message"]


async def test_renewal_authenticates_a_connection_that_nobody_has(server: Server) -> None:
    """The first token of a connection may come this way too; what waited is released."""
    hotel = new_hotel()
    async with server.client() as client:
        await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        await client.send("bellhop:auth", {"token": token(hotels=[hotel])})
        assert (await client.next())["event"] == "bellhop:authenticated"
        assert (await client.next())["event"] == SUCCEEDED


async def test_channel_lost_while_joining_is_judged_anew(server: Server) -> None:
    """A subscribe straight after the right was lost cannot ride on the judgement before it."""
    lost = f"{(hotel := new_hotel())}.rooms"
    subscribe = {"event": "pusher:subscribe", "data": {"channel": lost}}
    renew = {"event": "bellhop:auth", "data": {"token": token(hotels=[new_hotel()])}}
    async with server.client(f"/t/{token(hotels=[hotel])}") as client:
        # In one write, so that Redis cannot have answered in between.
        messages = (json.dumps(message).encode() for message in (subscribe, renew, subscribe))
        frames = (Frame(Opcode.TEXT, message).serialize(mask=True) for message in messages)
        client.socket.transport.write(b"".join(frames))
        await client.until("bellhop:authenticated")
        for _ in range(2):
            refused = await client.next()
            assert (refused["event"], refused["channel"]) == ("pusher:subscription_error", lost)
        await server.publish(lost, room_updated(hotel=hotel))
        await client.quiet()


async def test_unsubscribed_while_waiting_is_not_subscribed_later(server: Server) -> None:
    """A page that has left a view before the token came hears nothing of it."""
    left, kept = new_hotel(), new_hotel()
    async with server.client() as client:
        for hotel in (left, kept):
            await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        await client.send("pusher:unsubscribe", {"channel": f"{left}.rooms"})
        await client.signin(token(hotels=[left, kept]))
        await client.until("pusher:signin_success")
        assert (await client.next())["channel"] == f"{kept}.rooms"
        await client.quiet()


async def test_waiting_is_bounded(server: Server) -> None:
    """4100 once more subscribes wait than a page has; the same one again counts once."""
    hotel = new_hotel()
    async with server.client() as client:
        for number in range(256):
            for _ in range(2):
                await client.send("pusher:subscribe", {"channel": f"{hotel}-{number}.rooms"})
        await client.quiet()
        await client.send("pusher:subscribe", {"channel": f"{hotel}.rooms"})
        code, before = await client.closed()
    assert code == 4100
    assert before[-1]["data"]["code"] == 4100


async def test_channel_outside_the_contract_is_refused_without_waiting(server: Server) -> None:
    """No token could open it, so nothing is gained by making it wait."""
    async with server.client() as client:
        for channel in ("news", "private-news", "presence-news", "hotel.rooms.more", "cache-x"):
            refused = await client.refused(channel)
            assert (refused["type"], refused["status"]) == ("AuthError", 403)
