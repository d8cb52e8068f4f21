"""Webhooks: a backend is told what happens, once it is so, by POSTs that it can trust."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
import pusher
import pytest

from auth.apps import App, AppRegistry, Webhook, WebhookKind
from server.webhooks import Webhooks
from tests.harness import eventually
from tests.server.webhooks.ground import (
    ADDED,
    CLIENT,
    FAST,
    HELD,
    MISS,
    OCCUPIED,
    REMOVED,
    VACATED,
    Ground,
    misses,
    numbered,
    running,
)
from tests.server.webhooks.receiver import Receiver, has, receiving

# --- what is posted -------------------------------------------------------------------------------


EVENTS: dict[WebhookKind, tuple[dict[str, Any], dict[str, Any]]] = {
    OCCUPIED: ({}, {}),
    VACATED: ({}, {}),
    ADDED: ({"user_id": "7"}, {"user_id": "7"}),
    REMOVED: ({"user_id": "Zoë:7"}, {"user_id": "Zoë:7"}),
    CLIENT: (
        {"event": "client-typing", "data": '{"é": 1}', "socket_id": "1.2", "user_id": None},
        {"event": "client-typing", "data": '{"é": 1}', "socket_id": "1.2"},
    ),
    MISS: ({}, {}),
    WebhookKind.SUBSCRIPTION_COUNT: ({"subscription_count": 3}, {"subscription_count": 3}),
}


@pytest.mark.parametrize("kind", WebhookKind)
async def test_webhook_is_believed_by_the_released_library(
    ground: Ground, receiver: Receiver, kind: WebhookKind
) -> None:
    """Every kind with exactly Pusher's fields, in a body that Pusher's own library accepts."""
    given, told = EVENTS[kind]
    webhooks = ground.webhooks(Webhook(receiver.url))
    async with running(webhooks):
        webhooks.emit("1", kind, "presence-x", **given)
        await eventually(lambda: webhooks.counts["delivered"])
    assert webhooks.counts == {"delivered": 1, "retried": 0, "dead": 0, "dropped": 0}
    (post,) = receiver.posts
    library: Any = pusher.Pusher(app_id="1", key="key-1", secret="secret-1")
    sent = {name.lower(): value for name, value in post.headers.items()}
    accepted = library.validate_webhook(
        sent["x-pusher-key"], sent["x-pusher-signature"], post.body.decode()
    )
    assert accepted["events"] == [{"name": kind.value, "channel": "presence-x", **told}]
    assert set(accepted) == {"time_ms", "events"}
    assert sent["content-type"] == "application/json"
    assert sent["user-agent"].startswith("Bellhop")
    assert re.fullmatch("[0-9a-f]{64}", sent["x-pusher-signature"])


async def test_webhook_carries_up_to_a_hundred_events_in_order(
    ground: Ground, receiver: Receiver
) -> None:
    """What waits goes out in as few POSTs as it fits into, as it happened; nothing is left."""
    webhooks = ground.webhooks(Webhook(receiver.url))
    misses(webhooks, *numbered(250))
    await webhooks.flush()
    async with running(webhooks):
        await eventually(lambda: len(receiver.taken) == 250)
        await eventually(ground.empty)
    assert [len(post.events) for post in receiver.posts] == [100, 100, 50]
    assert receiver.seen() == numbered(250)


async def test_webhook_is_split_where_it_would_be_very_large(
    ground: Ground, receiver: Receiver
) -> None:
    """A hundred events of the largest size are more than many servers take at once."""
    webhooks = ground.webhooks(Webhook(receiver.url))
    for _ in range(100):
        webhooks.emit("1", CLIENT, "private-x", event="client-x", data="x" * 10_000, socket_id="1")
    await webhooks.flush()
    async with running(webhooks):
        await eventually(lambda: len(receiver.taken) == 100)
    assert max(len(post.body) for post in receiver.posts) < 600_000


# --- what is wanted -------------------------------------------------------------------------------


async def test_webhook_gets_what_its_kinds_and_pattern_name(ground: Ground) -> None:
    """Each endpoint gets its own share, and one that is named twice gets an event once."""
    async with receiving() as some, receiving() as all_:
        webhooks = ground.webhooks(
            Webhook(some.url, frozenset({MISS}), "cache-[ab]*"),
            Webhook(some.url, frozenset({MISS, CLIENT}), "cache-b"),
            Webhook(all_.url),
        )
        misses(webhooks, "cache-a", "cache-b", "cache-c", "xcache-a")
        webhooks.emit("1", CLIENT, "cache-a", event="client-x")
        webhooks.emit("1", CLIENT, "cache-b", event="client-x")
        webhooks.emit("2", MISS, "cache-a")
        async with running(webhooks):
            await eventually(lambda: len(some.taken) == 3 and len(all_.taken) == 6)
            await eventually(ground.empty)
        told = zip(some.seen("name"), some.seen(), strict=True)
        assert list(told) == [(MISS, "cache-a"), (MISS, "cache-b"), (CLIENT, "cache-b")]


async def test_app_without_webhooks_leaves_no_trace(ground: Ground, receiver: Receiver) -> None:
    """Nothing is queued for what nobody wants."""
    webhooks = ground.webhooks(Webhook(receiver.url, frozenset({CLIENT})))
    misses(webhooks, "a")
    webhooks.emit("1", OCCUPIED, "a")
    ground.webhooks().emit("1", OCCUPIED, "a")
    await webhooks.flush()
    assert await ground.redis.keys(f"{ground.prefix}*") == []


async def test_each_app_signs_with_its_own_secret(ground: Ground, receiver: Receiver) -> None:
    """Two apps with one URL are two endpoints."""
    hook = (Webhook(receiver.url),)
    apps = [App(each, f"key-{each}", f"secret-{each}", webhooks=hook) for each in "12"]
    webhooks = Webhooks(ground.redis, ground.prefix, AppRegistry(apps), timing=FAST)
    for app in apps:
        webhooks.emit(app.id, MISS, f"cache-{app.id}")
    async with running(webhooks):
        await eventually(lambda: len(receiver.posts) == 2)
    for post in receiver.posts:
        sent = {name.lower(): value for name, value in post.headers.items()}
        (event,) = post.events
        number = event["channel"].removeprefix("cache-")
        library: Any = pusher.Pusher("1", f"key-{number}", f"secret-{number}")
        assert library.validate_webhook(
            sent["x-pusher-key"], sent["x-pusher-signature"], post.body.decode()
        )


# --- what comes back in time ----------------------------------------------------------------------


async def test_end_is_held_and_forgotten_when_it_is_undone(
    ground: Ground, receiver: Receiver
) -> None:
    """A channel or member that is back within the time was never away, on whichever node."""
    here, there = (ground.webhooks(Webhook(receiver.url), timing=HELD) for _ in range(2))
    before = await ground.now_ms()
    here.emit("1", VACATED, "a")
    here.emit("1", VACATED, "b")
    here.emit("1", REMOVED, "presence-x", user_id="7")
    here.emit("1", REMOVED, "presence-x", user_id="8")
    await here.flush()
    after = await ground.now_ms()
    held = await ground.waiting(receiver.url)
    assert set(held) == {
        "vacated:a:",
        "vacated:b:",
        "member_removed:presence-x:7",
        "member_removed:presence-x:8",
    }
    assert all(before - 1 <= due - 3_600_000 <= after for due in held.values())
    there.emit("1", OCCUPIED, "a")
    there.emit("1", ADDED, "presence-x", user_id="8")
    await there.flush()
    assert set(await ground.waiting(receiver.url)) == {
        "vacated:b:",
        "member_removed:presence-x:7",
    }
    assert await ground.redis.hlen(f"{ground.prefix}{{webhooks}}:jobs") == 2
    there.emit("1", OCCUPIED, "a")
    async with running(here, there):
        await eventually(lambda: receiver.taken)
    assert receiver.taken == [{"name": "channel_occupied", "channel": "a"}]


async def test_end_is_told_when_its_time_has_come(ground: Ground, receiver: Receiver) -> None:
    """Nobody came back; what begins anew afterwards is told after it."""
    webhooks = ground.webhooks(Webhook(receiver.url))
    async with running(webhooks):
        for kind in (OCCUPIED, VACATED, OCCUPIED, VACATED):
            webhooks.emit("1", kind, "a")
            count = len(receiver.taken)
            await eventually(partial(has, receiver, count + 1))
        await eventually(ground.empty)
    assert receiver.seen("name") == ["channel_occupied", "channel_vacated"] * 2


async def test_last_member_is_told_before_the_channel_that_it_leaves_empty(
    ground: Ground, receiver: Receiver
) -> None:
    """They happen in one moment, and the one is the cause of the other."""
    webhooks = ground.webhooks(Webhook(receiver.url))
    for channel in ("presence-a", "presence-b"):
        webhooks.emit("1", REMOVED, channel, user_id="7")
        webhooks.emit("1", VACATED, channel)
    await webhooks.flush()
    assert len(set((await ground.waiting(receiver.url)).values())) == 1
    async with running(webhooks):
        await eventually(lambda: len(receiver.taken) == 4)
    for channel in ("presence-a", "presence-b"):
        told = [event["name"] for event in receiver.taken if event["channel"] == channel]
        assert told == ["member_removed", "channel_vacated"]


async def test_end_that_is_on_its_way_is_not_recalled(ground: Ground, receiver: Receiver) -> None:
    """Once a node has taken it the backend may have heard of it: both are told, in order."""
    webhooks = ground.webhooks(Webhook(receiver.url), timing=replace(FAST, hold_s=0.0))
    webhooks.emit("1", VACATED, "a")
    await webhooks.flush()
    (batch,) = (await ground.queue().claim("another node", 8)).batches
    webhooks.emit("1", OCCUPIED, "a")
    await webhooks.flush()
    await ground.queue().release(batch)
    async with running(webhooks):
        await eventually(lambda: len(receiver.taken) == 2)
    assert receiver.seen("name") == ["channel_vacated", "channel_occupied"]


# What happened (when, what), in the order in which nodes write it; what waits to be told then.
LATE: Final = {
    "the end comes late": ([(2, OCCUPIED), (1, VACATED)], []),
    "the end comes late, and another was before": (
        [(2, OCCUPIED), (3, VACATED), (1, VACATED)],
        [3],
    ),
    "the beginning comes late": ([(1, VACATED), (3, VACATED), (2, OCCUPIED)], [3]),
    "everything comes late": ([(3, VACATED), (1, VACATED), (2, OCCUPIED)], [3]),
    "the beginning of a new life comes late": ([(2, VACATED), (1, OCCUPIED)], [1, 2]),
    "in order": ([(1, VACATED), (2, OCCUPIED)], []),
    "in order, and away again": ([(1, VACATED), (2, OCCUPIED), (3, VACATED)], [3]),
}


@pytest.mark.parametrize("happened, told", LATE.values(), ids=LATE)
async def test_order_in_which_nodes_write_does_not_count(
    ground: Ground,
    receiver: Receiver,
    happened: list[tuple[int, WebhookKind]],
    told: list[int],
) -> None:
    """Only that in which things happened: no channel is told to be empty that is not."""
    start = 1_000 * int(await ground.now_ms())
    for at, kind in happened:
        node = ground.webhooks(Webhook(receiver.url), timing=HELD)
        node.emit("1", kind, "a", at_us=start + at, number=at)
        await node.flush()
    jobs = await ground.redis.hvals(f"{ground.prefix}{{webhooks}}:jobs")
    assert sorted(orjson.loads(job)["event"]["number"] for job in jobs) == told


@pytest.mark.parametrize("wanted, told", [(OCCUPIED, []), (VACATED, ["b"])])
async def test_half_of_a_pair_is_told_rightly(
    ground: Ground, receiver: Receiver, wanted: WebhookKind, told: list[str]
) -> None:
    """An endpoint that wants one kind alone hears it where one that wants both would."""
    webhooks = ground.webhooks(
        Webhook(receiver.url, frozenset({wanted})), Webhook(receiver.url, frozenset({MISS}))
    )
    webhooks.emit("1", VACATED, "a")
    webhooks.emit("1", VACATED, "b")
    webhooks.emit("1", OCCUPIED, "a")
    async with running(webhooks):
        await eventually(lambda: len(receiver.taken) == len(told))
        await eventually(ground.empty)
        misses(webhooks, "cache-a")
        await eventually(lambda: len(receiver.taken) == len(told) + 1)
    assert receiver.seen() == [*told, "cache-a"]
