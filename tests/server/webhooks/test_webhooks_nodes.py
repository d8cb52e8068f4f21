"""Webhooks of several nodes, of nodes that end, and of a Redis that does; and their bounds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from structlog.testing import capture_logs

import server.webhooks.emitter
import server.webhooks.queue
from auth.apps import Webhook
from server.broker.embedded import EmbeddedValkey
from server.broker.redis import connect
from server.webhooks.queue import Job
from tests.harness import eventually, free_port_pair
from tests.server.webhooks.ground import (
    CLIENT,
    FAST,
    HELD,
    VACATED,
    Ground,
    misses,
    numbered,
    running,
)
from tests.server.webhooks.receiver import HANG, Receiver, has, receiving

# --- several nodes --------------------------------------------------------------------------------


async def test_nodes_deliver_each_event_once(ground: Ground, receiver: Receiver) -> None:
    """Three nodes that emit and deliver at once: nothing twice, each node's in its order."""
    nodes = [ground.webhooks(Webhook(receiver.url)) for _ in range(3)]
    async with running(*nodes):
        for number in range(200):
            for name, node in enumerate(nodes):
                misses(node, f"cache-{name}-{number}")
            if number % 40 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: len(receiver.taken) >= 600)
        await eventually(ground.empty)
    assert len(set(receiver.seen())) == len(receiver.taken) == 600
    for name in range(3):
        own = [channel for channel in receiver.seen() if channel.startswith(f"cache-{name}-")]
        assert own == [f"cache-{name}-{number}" for number in range(200)]


async def test_claimed_events_of_a_dead_node_are_delivered_by_another(
    ground: Ground, receiver: Receiver
) -> None:
    """While a node's claim holds nobody else has them; when it has run out somebody does."""
    timing = replace(FAST, claim_s=0.5)
    webhooks = ground.webhooks(Webhook(receiver.url), timing=timing)
    misses(webhooks, "cache-a")
    await webhooks.flush()
    dead = ground.queue(timing)
    (batch,) = (await dead.claim("dead", 8)).batches
    nothing = await dead.claim("other", 8)
    assert nothing.batches == ()
    assert nothing.next_s is not None
    assert nothing.next_s <= 0.5
    async with running(webhooks):
        misses(webhooks, "cache-b")
        await eventually(lambda: len(receiver.taken) == 2)
        assert receiver.seen() == ["cache-a", "cache-b"]
        await dead.done(batch)
        assert not await dead.failed(batch, 3600, None)
        misses(webhooks, "cache-c")
        await eventually(lambda: len(receiver.taken) == 3)


async def test_stopped_node_hands_over_at_once(ground: Ground, receiver: Receiver) -> None:
    """What it had not written is written, and what it was posting is free for the next node."""
    async with receiving(HANG) as hanging:
        stopped = ground.webhooks(Webhook(hanging.url))
        async with running(stopped):
            misses(stopped, "cache-a")
            await eventually(lambda: hanging.posts)
            misses(stopped, "cache-b")
        async with running(ground.webhooks(Webhook(hanging.url))):
            await eventually(lambda: len(hanging.taken) == 2)
    assert hanging.seen() == ["cache-a", "cache-b"]


async def test_events_wait_for_redis() -> None:
    """What happens while it is away is told when it is back, in order; the node goes on."""
    port = free_port_pair()
    redis = connect(f"redis://127.0.0.1:{port}/0")
    async with receiving() as receiver:
        webhooks = Ground(redis, "bellhop:").webhooks(Webhook(receiver.url))
        async with running(webhooks):
            misses(webhooks, *numbered(150))
            for lost in (0, 1):
                async with EmbeddedValkey(port):
                    await eventually(partial(has, receiver, 150 + lost))
                misses(webhooks, f"later-{lost}")
            async with EmbeddedValkey(port):
                await eventually(lambda: len(receiver.taken) == 152)
    await redis.aclose()
    assert receiver.seen() == [*numbered(150), "later-0", "later-1"]


async def test_redis_that_goes_while_events_are_posted_costs_nothing() -> None:
    """The answer cannot be noted; the node goes on as soon as it can."""
    port = free_port_pair()
    redis = connect(f"redis://127.0.0.1:{port}/0")
    async with receiving() as receiver:
        webhooks = Ground(redis, "bellhop:").webhooks(Webhook(receiver.url))
        async with running(webhooks):
            async with EmbeddedValkey(port):
                receiver.gate.clear()
                misses(webhooks, "cache-a")
                await eventually(lambda: receiver.posts)
            receiver.gate.set()
            await eventually(lambda: webhooks.counts["delivered"])
            misses(webhooks, "cache-b")
            async with EmbeddedValkey(port):
                await eventually(lambda: len(receiver.taken) == 2)
    await redis.aclose()
    assert receiver.seen() == ["cache-a", "cache-b"]


# --- bounds ---------------------------------------------------------------------------------------


async def test_node_holds_a_bounded_number_of_events(
    ground: Ground, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than that while Redis is away are dropped, counted, and told once."""
    monkeypatch.setattr(server.webhooks.emitter, "_MAX_WAITING", 3)
    webhooks = ground.webhooks(Webhook(receiver.url))
    with capture_logs() as logs:
        misses(webhooks, *numbered(5))
    assert webhooks.counts["dropped"] == 2
    assert [entry["event"] for entry in logs] == ["webhooks.dropping"]
    async with running(webhooks):
        await eventually(lambda: len(receiver.taken) == 3)
    assert receiver.seen() == numbered(3)


async def test_endpoint_has_a_bounded_queue(
    ground: Ground, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than that are dead at once; another endpoint has its own room."""
    monkeypatch.setattr(server.webhooks.queue, "_MAX_WAITING", 2)
    webhooks = ground.webhooks(Webhook(receiver.url), timing=HELD)
    misses(webhooks, *numbered(4))
    webhooks.emit("1", VACATED, "a")
    await webhooks.flush()
    assert len(await ground.waiting(receiver.url)) == 2
    assert webhooks.counts["dead"] == 3
    assert [(each["kind"], each["reason"], each["event"]) for each in await ground.dead()] == [
        (
            kind,
            "too many events wait for this endpoint",
            f'{{"name":"{kind}","channel":"{channel}"}}',
        )
        for kind, channel in [
            ("cache_miss", "cache-2"),
            ("cache_miss", "cache-3"),
            ("channel_vacated", "a"),
        ]
    ]


async def test_text_that_json_cannot_carry_costs_one_event(
    ground: Ground, receiver: Receiver
) -> None:
    """Half of a surrogate pair is dropped and counted, and the rest goes on."""
    webhooks = ground.webhooks(Webhook(receiver.url))
    webhooks.emit("1", CLIENT, "private-x", event="client-x", data="\ud800")
    misses(webhooks, "cache-a")
    async with running(webhooks):
        await eventually(lambda: receiver.taken)
    assert receiver.seen() == ["cache-a"]
    assert webhooks.counts["dropped"] == 1


async def test_job_without_its_content_is_passed_over(ground: Ground, receiver: Receiver) -> None:
    """A Redis that evicted a part of a job costs that job."""
    webhooks = ground.webhooks(Webhook(receiver.url))
    misses(webhooks, "cache-a")
    await webhooks.flush()
    await ground.redis.delete(f"{ground.prefix}{{webhooks}}:jobs")
    misses(webhooks, "cache-b")
    async with running(webhooks):
        await eventually(lambda: receiver.taken)
        await eventually(ground.empty)
    assert receiver.seen() == ["cache-b"]


def test_job_knows_whether_it_was_refused_alone() -> None:
    """Its id says so."""
    ids = ("e:0001", "e:~0001", "e:vacated:~a:")
    jobs = [Job(each, 0, "1", "", "", {}, wanted=True) for each in ids]
    assert [job.alone for job in jobs] == [False, True, False]
