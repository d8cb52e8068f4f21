"""`bellhop audit`: who did what is kept, and nothing of what was said."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from redis.asyncio import Redis

from server.audit import Audit, AuditStream
from server.audit_reading import audit_rows
from server.broker.embedded import EmbeddedValkey
from server.cli import bellhop
from tests.conftest import StartServer
from tests.harness import (
    APP_SECRET,
    JWT_SECRET,
    Server,
    environment,
    eventually,
    free_port_pair,
    new_hotel,
    room_updated,
    token,
)
from tests.server.test_cli import Outcome

CARD = "4111111111111111"
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


async def run(*arguments: str, **settings: str) -> Outcome:
    """Run a command with these settings and no others."""
    given: dict[str, str | None] = dict.fromkeys(os.environ)
    given |= environment(settings)
    result = await asyncio.to_thread(CliRunner().invoke, bellhop, arguments, env=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


async def rows(server: Server, *arguments: str) -> Rows:
    """Return the rows that `bellhop audit` prints."""
    outcome = await run("audit", *arguments, REDIS_URL=server.redis_url)
    assert (outcome.code, outcome.err) == (0, "")
    return [json.loads(line) for line in outcome.out.splitlines()]


async def until(
    server: Server, *arguments: str, enough: Callable[[Rows], Any] = lambda found: found
) -> Rows:
    """Await rows: they are written a moment later."""

    async def there() -> Rows | None:
        found = await rows(server, *arguments)
        return found if enough(found) else None

    awaited: Rows = await eventually(there)
    return awaited


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a row without these fields, its time and its node."""
    return {name: value for name, value in row.items() if name not in {"time_ms", "node", *names}}


def kinds(found: Rows) -> list[str]:
    """Return what happened, in order."""
    return [row["kind"] for row in found]


async def test_publishes_have_a_row_each_and_say_nothing_of_the_payload(server: Server) -> None:
    """Where it came in, its number, and that the second one was the same; no payload anywhere."""
    hotel, event_id, before = new_hotel(), str(uuid.uuid4()), time.time() * 1000
    rooms, secret = f"{hotel}.rooms", uuid.uuid4().hex
    envelope = room_updated(secret, hotel=hotel)
    envelope["meta"] |= {"event_id": event_id, "scope": {}}
    body = {"name": "room_updated", "channels": [rooms], "data": json.dumps(envelope)}
    first = await server.api("POST", "/apps/1/events", {**body, "socket_id": "1.2"})
    await server.publish(rooms, envelope)
    http, redis = await until(
        server, "--event-id", event_id, "--kind", "publish", enough=lambda found: len(found) == 2
    )
    assert before - 1 <= http["time_ms"] <= redis["time_ms"] <= time.time() * 1000
    assert http["node"] == redis["node"]
    assert without(http, "size", "epoch") == {
        "kind": "publish",
        "app": "1",
        "hotel": hotel,
        "channel": rooms,
        "event": "room_updated",
        "event_id": event_id,
        "sequence": int(first.headers["Bellhop-Sequence"]),
        "entrance": "http",
        "exclude": "1.2",
        "outcome": "published",
    }
    assert len(json.dumps(envelope)) < http["size"] < len(json.dumps(envelope)) + 300
    assert (redis["outcome"], redis["entrance"], redis["sequence"], redis["epoch"]) == (
        "duplicate",
        "redis",
        1,
        http["epoch"],
    )
    async with server.redis() as client:
        kept = await client.xrange("bellhop:audit")
    assert secret not in str(kept)
    assert APP_SECRET not in str(kept)


async def test_refused_publishes_have_their_status_and_reason(server: Server) -> None:
    """By either entrance, with the event's own id; card numbers in what a peer chose are masked."""
    hotel, event_id, since = new_hotel(), str(uuid.uuid4()), datetime.now(UTC).isoformat()
    envelope = room_updated(hotel=new_hotel())
    envelope["meta"]["event_id"] = event_id
    rooms = f"{hotel}.rooms"
    body = {"name": "room_updated", "channel": rooms, "data": json.dumps(envelope)}
    assert (await server.api("POST", "/apps/1/events", body)).status_code == 422
    await server.publish(rooms, envelope)
    http, redis = await until(server, "--channel", rooms, enough=lambda found: len(found) == 2)
    for row, entrance in ((http, "http"), (redis, "redis")):
        assert (row["kind"], row["what"], row["status"]) == ("refuse", "publish", 422)
        assert (row["entrance"], row["event_id"], row["app"]) == (entrance, event_id, "1")
        assert "hotel" in row["reason"]
    assert (await server.api("POST", "/apps/1/events", body, secret="another")).status_code == 401
    await server.api("POST", "/apps/1/events", {**body, "channel": f"up\x1b-{CARD}-x"})
    found = await until(
        server, "--since", since, enough=lambda found: "up" in found[-1].get("channel", "")
    )
    unsigned, named = found[-2:]
    assert (unsigned["status"], unsigned["what"]) == (401, "publish")
    assert "channel" not in unsigned
    assert CARD not in named["channel"]
    assert named["channel"].startswith("up\x1b-************1111-")


async def test_access_is_told_from_the_door_to_the_end(server: Server) -> None:
    """Connect, subscribe with what may be heard, narrow, leave, disconnect: by whom and when."""
    hotel, sub = new_hotel(), f"staff-{uuid.uuid4().hex}"
    rooms, bookings = f"{hotel}.rooms", f"{hotel}.room-bookings"
    claims: dict[str, Any] = {"sub": sub, "hotels": [hotel], "roles": ["finance"]}
    async with server.staff(rooms, bookings, **claims) as client:
        await client.send("bellhop:filter", {"channel": rooms, "scope": {"room_number": ["7"]}})
        await client.until("bellhop:filter:ok")
        await client.refused(f"{new_hotel()}.rooms")
        await client.send("pusher:unsubscribe", {"channel": bookings})
        await client.quiet()
        socket_id = client.socket_id
    found = await until(server, "--sub", sub, enough=lambda found: "disconnect" in kinds(found))
    assert {(row["app"], row["socket_id"], row["sub"]) for row in found} == {("1", socket_id, sub)}
    connected, first, second, narrowed, refused, left, ended = found
    assert (connected["kind"], connected["entrance"]) == ("connect", "path")
    assert (first["kind"], first["channel"]) == ("subscribe", rooms)
    assert (second["kind"], second["channel"]) == ("subscribe", bookings)
    assert second["views"] == {"hotels": {hotel: "finance"}}
    assert narrowed["kind"] == "change"
    assert narrowed["views"] == {
        "hotels": {hotel: first["views"]["hotels"][hotel]},
        "filter": {"room_number": ["7"]},
    }
    assert (refused["kind"], refused["what"], refused["status"]) == ("refuse", "subscribe", 403)
    assert "does not name the hotel" in refused["reason"]
    assert (left["kind"], left["channel"]) == ("leave", bookings)
    assert (ended["kind"], ended["status"], ended["by"]) == ("disconnect", 1000, "client")


async def test_tokens_that_are_refused_are_told_without_themselves(server: Server) -> None:
    """At the door and on an open connection: the reason, and nothing of the token."""
    forged = token(secret="another secret that is long enough")
    since = datetime.now(UTC).isoformat()
    async with server.connect(f"/t/{forged}") as socket:
        await socket.wait_closed()
    async with server.client() as client:
        await client.signin(forged)
        await client.closed()
        socket_id = client.socket_id
    found = await until(
        server, "--since", since, "--kind", "refuse", enough=lambda found: len(found) >= 2
    )
    door, live = (row for row in found if row["what"] in {"connect", "token"})
    assert without(door, "reason") == {
        "kind": "refuse",
        "what": "connect",
        "status": 4009,
        "app": "1",
    }
    assert (live["what"], live["status"], live["socket_id"]) == ("token", 4009, socket_id)
    assert door["reason"] == live["reason"]
    async with server.redis() as redis:
        kept = str(await redis.xrange("bellhop:audit"))
    assert forged.rpartition(".")[2] not in kept
    assert JWT_SECRET not in kept


async def test_revocations_and_ended_connections_are_told_once(server: Server) -> None:
    """By either entrance, its undoing too; what changes nothing has no row."""
    sub, since = f"staff-{uuid.uuid4().hex}", datetime.now(UTC).isoformat()
    path = "/apps/1/revocations"
    made = (await server.api("POST", path, {"sub": sub})).json()["id"]
    await server.api("POST", path, {"sub": sub, "undo": True})
    await server.api("POST", path, {"sub": sub, "undo": True})
    async with server.redis() as redis:
        await redis.publish("bellhop:revoke", json.dumps({"sub": sub}))
    await server.api("POST", f"/apps/1/users/{sub}/terminate_connections", {})
    await until(server, "--since", since, "--kind", "terminate", "--sub", sub)
    found = await until(
        server, "--since", since, "--kind", "revoke", enough=lambda found: len(found) == 3
    )
    assert without(found[0]) == {
        "kind": "revoke",
        "outcome": "revoked",
        "entrance": "http",
        "what": "sub",
        "value": sub,
        "revocation": made,
    }
    assert (found[1]["outcome"], found[1]["entrance"]) == ("lifted", "http")
    assert (found[2]["outcome"], found[2]["entrance"]) == ("revoked", "redis")


async def test_revocation_that_every_node_hears_is_told_once(start_server: StartServer) -> None:
    """Two nodes hear what a backend publishes; one of them is the one that did it."""
    first = await start_server()
    second = await start_server(REDIS_URL=first.redis_url)
    async with first.redis() as redis:
        for sub in ("a", "b", "c"):
            await redis.publish("bellhop:revoke", json.dumps({"sub": sub}))

    for node in (first, second):
        # A request is done after what was published before it; this one changes nothing.
        await node.api("POST", "/apps/1/revocations", {"sub": "d", "undo": True})
    written = [node.log_events("revocation.written") for node in (first, second)]
    assert sum(map(len, written)) == 3
    # What waits is written as a node stops.
    assert second.end() == 0
    found = await until(first, "--kind", "revoke", enough=lambda found: len(found) >= 3)
    assert sorted(row["value"] for row in found) == ["a", "b", "c"]


async def test_signatures_for_clients_are_told(server: Server) -> None:
    """Whom the server has signed a channel for, and whom not."""
    hotel, sub = new_hotel(), f"guest-{uuid.uuid4().hex}"
    channel = f"private-{hotel}.rooms"
    bearer = token(sub, hotels=[hotel])
    async with httpx.AsyncClient() as http:
        for asked in (channel, f"private-{new_hotel()}.rooms"):
            await http.post(
                f"{server.url}/pusher/auth",
                data={"socket_id": "1.2", "channel_name": asked},
                headers={"Authorization": f"Bearer {bearer}"},
            )
    signed, refused = await until(server, "--sub", sub, enough=lambda found: len(found) == 2)
    assert without(signed) == {
        "kind": "sign",
        "outcome": "accepted",
        "app": "1",
        "channel": channel,
        "socket_id": "1.2",
        "sub": sub,
    }
    assert (refused["kind"], refused["what"], refused["status"]) == ("refuse", "sign", 403)


async def test_rows_are_bounded_and_counted(start_server: StartServer) -> None:
    """About as many as the setting says are kept, the newest ones; all are on the metrics."""
    server = await start_server(BELLHOP_AUDIT_EVENTS="30", BELLHOP_UNLISTED_CHANNELS="pusher")
    for number in range(100):
        body = {"name": f"e{number}", "channel": "x", "data": "d"}
        assert (await server.api("POST", "/apps/1/events", body)).status_code == 200

    found = await until(server, enough=lambda found: found[-1:] and found[-1]["event"] == "e99")
    names = [row["event"] for row in found]
    assert names == [f"e{number}" for number in range(100 - len(names), 100)]
    async with server.redis() as redis:
        entries: Any = await redis.xrange("bellhop:audit")
        sizes = [int(fields[b"count"]) for _, fields in entries]
        assert sum(sizes) == len(names) == int(await redis.get("{bellhop:audit}:count") or 0)
    # Without the oldest entry there would be too few.
    assert sum(sizes[1:]) < 30 <= sum(sizes)
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{server.url}/metrics")).text
    assert 'bellhop_audit_total{outcome="kept"} 100.0' in metrics
    assert 'bellhop_audit_total{outcome="dropped"} 0.0' in metrics


async def test_nothing_is_kept_where_the_setting_says_so(
    start_server: StartServer, tmp_path: Path
) -> None:
    """`audit.events = 0` keeps no row, and `audit.publishes = false` none of accepted events."""
    file = tmp_path / "quiet.toml"
    file.write_text("[audit]\npublishes = false\n")
    body = {"name": "e", "channel": "x", "data": "d"}
    silent = await start_server(BELLHOP_AUDIT_EVENTS="0", BELLHOP_UNLISTED_CHANNELS="pusher")
    quiet = await start_server("--config", str(file), BELLHOP_UNLISTED_CHANNELS="pusher")
    for server in (silent, quiet):
        assert (await server.api("POST", "/apps/1/events", body)).status_code == 200
        assert (await server.api("POST", "/apps/1/events", {})).status_code == 400
    (row,) = await until(quiet)
    assert (row["kind"], row["status"]) == ("refuse", 400)
    # What waits is written as the node stops.
    assert await rows(silent) == []


async def test_strangers_push_nothing_out(server: Server) -> None:
    """Of refusals of whoever is not known, so many a second are kept and the others counted."""
    since = datetime.now(UTC).isoformat()

    async def knock() -> None:
        async with server.connect(f"/t/{uuid.uuid4().hex}") as socket:
            await socket.wait_closed()

    async def left_out() -> bool:
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{server.url}/metrics")).text
        return 'bellhop_audit_total{outcome="left_out"} 0.0' not in metrics

    async def knocked() -> bool:
        await asyncio.gather(*(knock() for _ in range(100)))
        return await left_out()

    await eventually(knocked)
    await until(server, "--since", since, "--kind", "refuse", "--limit", "3")


async def test_rows_come_in_order_whoever_wrote_them() -> None:
    """Over many entries of ten nodes; one that Redis did not take at first comes all the same."""
    port = free_port_pair()
    redis = Redis.from_url(f"redis://127.0.0.1:{port}")
    now = 0.0

    def clock() -> float:
        return now

    nodes = [Audit(on=True, clock=clock) for _ in range(10)]
    streams = [
        AuditStream(redis, "b:", audit, node_id=f"n{index}", most=100_000)
        for index, audit in enumerate(nodes)
    ]
    running = [asyncio.create_task(stream.run()) for stream in streams]
    now = time.time()
    nodes[0].note("n", number=0)
    async with EmbeddedValkey(port):
        await eventually(lambda: not nodes[0].waiting)
        now = time.time()
        for number in range(1, 1200):
            now += 0.001
            nodes[number % 10].note("n", number=number)
        await eventually(lambda: not any(audit.waiting for audit in nodes))
        nodes[0].note("n", number=1200)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        found = [row async for row in audit_rows(redis, "b:")]
        later = [row async for row in audit_rows(redis, "b:", found[1190]["time_ms"])]
        await redis.aclose()
    assert [row["number"] for row in found] == [*range(1201)]
    assert {row["node"] for row in found} == {f"n{index}" for index in range(10)}
    assert [row["number"] for row in later] == [*range(1190, 1201)]
    assert [audit.counts["dropped"] for audit in nodes] == [0] * 10


def test_audit_drops_and_counts_what_nobody_writes() -> None:
    """What waits is bounded: the oldest stay, and the others are counted."""
    audit = Audit(on=True)
    for number in range(10_003):
        audit.note("n", number=number)
    assert len(audit.waiting) == 10_000
    last = audit.waiting[-1]
    assert isinstance(last, dict)
    assert last["number"] == 9_999
    assert audit.counts["dropped"] == 3


async def test_audit_is_exported_by_what_is_asked_for(server: Server) -> None:
    """Each option narrows it; what is no time is said in one line."""
    first, second = new_hotel(), new_hotel()
    for hotel in (first, second):
        for kind in ("rooms", "room-bookings"):
            async with server.staff(f"{hotel}.{kind}", sub=f"{hotel}-{kind}", hotels=[hotel]):
                pass
            await server.publish(f"{hotel}.rooms", room_updated(hotel=hotel))
    ended = lambda found: kinds(found).count("disconnect") == 1  # noqa: E731
    for sub in (f"{first}-rooms", f"{second}-room-bookings"):
        found = await until(server, "--sub", sub, enough=ended)
        assert kinds(found) == ["connect", "subscribe", "disconnect"]
    found = await until(server, "--hotel", first, enough=lambda found: len(found) == 2)
    assert [row["sequence"] for row in found] == [1, 2]
    assert len(await rows(server, "--hotel", first, "--limit", "1")) == 1
    found = await rows(server, "--channel", f"{first}.rooms", "--kind", "subscribe")
    assert [row["sub"] for row in found] == [f"{first}-rooms"]
    assert await rows(server, "--hotel", first, "--since", "2h") != []
    assert await rows(server, "--hotel", first, "--since", "2999-01-01") == []
    wrong = await run("audit", "--since", "yesterday", REDIS_URL=server.redis_url)
    assert wrong.code == 2
    assert "'yesterday' is neither ISO 8601" in wrong.mistakes[0]
    missing = await run("audit")
    assert (missing.code, len(missing.mistakes)) == (2, 1)
    assert missing.mistakes[0].startswith("redis.url (REDIS_URL): missing; rows of the audit")
