"""`bellhop trace`: why an event did or did not arrive, and no more than is known."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness import Server, eventually, new_hotel, room_updated
from tests.server.test_cli_audit import kinds, run, until


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


async def text(server: Server, *arguments: str) -> str:
    """Return what `bellhop trace` says."""
    outcome = await run("trace", *arguments, REDIS_URL=server.redis_url)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


async def traced(server: Server, *arguments: str) -> dict[str, Any]:
    """Return the same as JSON."""
    found: dict[str, Any] = json.loads(await text(server, "--json", *arguments))
    return found


async def published(server: Server, hotel: str, channel: str = "", **envelope: Any) -> str:
    """Publish a room's change and await its row; return its id."""
    event_id, body = str(uuid.uuid4()), room_updated(hotel=hotel)
    body["meta"]["event_id"] = event_id
    await server.publish(channel or f"{hotel}.rooms", {**body, **envelope})
    await until(server, "--event-id", event_id)
    return event_id


async def verdict(server: Server, event_id: str, sub: str) -> dict[str, str]:
    """Return what is said of a person's one connection."""
    found = await traced(server, event_id, "--sub", sub)
    ((verdict_,),) = [each["person"]["connections"] for each in found["channels"]]
    return {name: verdict_[name] for name in ("outcome", "why")}


async def test_trace_tells_the_way_of_an_accepted_event(server: Server) -> None:
    """Entrance, node, number, what came again, the history, and who is subscribed now."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]):
        event_id = await published(server, hotel)
        again = room_updated(hotel=hotel)
        again["meta"]["event_id"] = event_id
        body = {"name": "room_updated", "channel": rooms, "data": json.dumps(again)}
        assert (await server.api("POST", "/apps/1/events", body)).status_code == 200
        await until(server, "--event-id", event_id, enough=lambda found: len(found) == 2)
        said = await text(server, event_id)
        found = await traced(server, event_id)
        assert await traced(server, "--channel", rooms) == found
    (channel,) = found["channels"]
    first, second = await until(server, "--event-id", event_id)
    assert (channel["channel"], channel["hotel"], channel["sequence"]) == (rooms, hotel, 1)
    assert (channel["accepted"], channel["duplicates"]) == (first, [second])
    assert channel["in_history"]
    assert channel["subscribed_now"] == {first["node"]: 1}
    for line in (
        f"event {event_id}",
        f"{rooms} (app 1, hotel {hotel})",
        f" by redis on node {first['node']}: room_updated, {first['size']} bytes",
        f"  number 1 in epoch {first['epoch']}",
        " by http: a duplicate, not delivered again",
        "  in the channel's history",
        "  subscribed now: 1 on 1 node(s)",
    ):
        assert line in said


async def test_trace_tells_why_an_event_was_refused(server: Server) -> None:
    """With the reason of the entrance; what came by Redis is found among the refused ones too."""
    hotel, other = new_hotel(), new_hotel()
    rooms = f"{other}.rooms"
    event_id = await published(server, hotel, rooms)
    found = await traced(server, event_id)
    (row,), (entry,) = found["refused"], found["rejected"]
    assert (row["status"], row["channel"], row["entrance"]) == (422, rooms, "redis")
    assert (entry["status"], entry["channel"], entry["reason"]) == ("422", rooms, row["reason"])
    assert found["channels"] == []
    said = await text(server, event_id, "--channel", rooms)
    assert f"by redis, for {rooms}: 422, {row['reason']}" in said
    assert f"bellhop rejected show {entry['id']}" in said


async def test_trace_says_what_is_not_known(start_server: StartServer, tmp_path: Path) -> None:
    """Of an event that never came nothing; without an audit the channel itself is asked."""
    server = await start_server(BELLHOP_AUDIT_EVENTS="0")
    said = await text(server, "never-was")
    assert "Nothing is known of it" in said
    assert "There is no audit" in said
    hotel, event_id = new_hotel(), str(uuid.uuid4())
    rooms, body = f"{hotel}.rooms", room_updated(hotel=hotel)
    body["meta"]["event_id"] = event_id
    trigger = {"name": "room_updated", "channel": rooms, "data": json.dumps(body)}
    async with server.staff(rooms, hotels=[hotel], sub="s"):
        assert (await server.api("POST", "/apps/1/events", trigger)).status_code == 200
        said = await text(server, event_id, "--channel", rooms, "--sub", "s")
    assert "accepted; when and by which way is not known" in said
    assert "s: not known: there is no audit" in said
    async with server.redis() as redis:
        await redis.delete(f"bellhop:{{1:{rooms}}}:log")
    said = await text(server, event_id, "--channel", rooms, "--sub", "s")
    assert "number 1 in epoch" in said
    assert "not in the channel's history" in said
    assert "s: not known, because it is not known when the event was published" in said
    empty = await run("trace", "--channel", rooms, REDIS_URL=server.redis_url)
    assert (empty.code, empty.mistakes[0]) == (
        1,
        f"the history of {rooms} is empty: name an event's id",
    )
    assert (await run("trace", REDIS_URL=server.redis_url)).code == 2


async def test_trace_follows_a_person(server: Server) -> None:
    """Sent with its view; kept away by hotel, filter or exclusion; not subscribed, or refused."""
    hotel, other = new_hotel(), new_hotel()
    sub = f"staff-{uuid.uuid4().hex}"
    rooms, user = f"{hotel}.rooms", f"staff-chat-{sub}"
    before = await published(server, hotel)
    async with server.staff(rooms, user, sub=sub, hotels=[hotel], roles=["finance"]) as client:
        await until(server, "--sub", sub, enough=lambda found: kinds(found)[-1:] == ["subscribe"])
        sent = await published(server, hotel)
        found = await verdict(server, sent, sub)
        assert found["outcome"] == "sent"
        assert found["why"].startswith("view ")
        body = {
            "name": "staff_chat_unread_updated",
            "channel": user,
            "data": {
                "category": "staff_chat",
                "type": "staff_chat_unread_updated",
                "payload": {},
                "meta": {"hotel_slug": other, "ts": "2026-01-05T12:00:00Z"},
            },
        }
        answer = await server.api("POST", "/apps/1/events", body)
        elsewhere = answer.headers["Bellhop-Event-Id"]
        await until(server, "--event-id", elsewhere)
        found = await verdict(server, elsewhere, sub)
        assert found["outcome"] == "kept from"
        assert f"the event is of the hotel {other}" in found["why"]
        await client.send("bellhop:filter", {"channel": rooms, "scope": {"room_number": ["7"]}})
        await client.until("bellhop:filter:ok")
        filtered = await published(server, hotel)
        found = await verdict(server, filtered, sub)
        assert found["outcome"] == "kept from"
        assert "the event's room_number is 101" in found["why"]
        socket_id = client.socket_id
    said = await text(server, sent, "--sub", sub)
    assert f"{sub}, connection {socket_id}: sent (view " in said
    await eventually(lambda: _ended(server, sent, sub))
    earlier = await traced(server, before, "--sub", sub)
    person = earlier["channels"][0]["person"]
    assert person["connections"] == []
    assert person["subscribed_later"] is not None
    await until(server, "--sub", sub, "--kind", "disconnect")
    after = await published(server, hotel)
    assert "has no subscription in the audit" in await text(server, after, "--sub", sub)
    async with server.staff(sub=sub, hotels=[other]) as client:
        await client.refused(rooms)
        await until(server, "--sub", sub, "--kind", "refuse")
        missed = await published(server, hotel)
        assert "was not subscribed: it was refused: the token" in await text(
            server, missed, "--sub", sub
        )


async def _ended(server: Server, event_id: str, sub: str) -> bool:
    return "its connection ended" in (await verdict(server, event_id, sub))["why"]


async def test_trace_knows_whom_the_backend_excluded(server: Server) -> None:
    """The connection that published through its backend did not get its own event."""
    hotel, sub = new_hotel(), f"staff-{uuid.uuid4().hex}"
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, sub=sub, hotels=[hotel]) as client:
        data = json.dumps(room_updated(hotel=hotel))
        body = {"name": "room_updated", "channel": rooms, "data": data}
        answer = await server.api("POST", "/apps/1/events", {**body, "socket_id": client.socket_id})
        event_id = answer.headers["Bellhop-Event-Id"]
        await until(server, "--event-id", event_id)
        await until(server, "--sub", sub, "--kind", "subscribe")
        found = await verdict(server, event_id, sub)
    assert found["outcome"] == "kept from"
    assert "the backend excluded this connection" in found["why"]
