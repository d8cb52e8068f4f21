"""Webhooks that are not taken: they are repeated, kept, and in nobody's way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from structlog.testing import capture_logs

from auth.apps import AppRegistry, Webhook
from server.webhooks import Webhooks
from tests.harness import eventually, free_port_pair
from tests.server.webhooks.ground import (
    CLIENT,
    FAST,
    MISS,
    OCCUPIED,
    VACATED,
    Ground,
    misses,
    numbered,
    running,
)
from tests.server.webhooks.receiver import CUT, HANG, Post, Receiver, receiving

FAILURES: dict[str, tuple[int, str]] = {
    "error": (500, "answered 500"),
    "unavailable": (503, "answered 503"),
    "refusal": (400, "answered 400"),
    "redirect": (302, "answered 302"),
    "cut": (CUT, "failed (RemoteProtocolError)"),
    "hang": (HANG, "no answer within 0.2 s"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_failed_post_is_repeated_with_a_new_stamp(ground: Ground, failure: str) -> None:
    """Whatever but 2xx: the same events again, in order, signed anew; a redirect leads nowhere."""
    answer, reason = FAILURES[failure]
    async with receiving(answer, answer) as receiver:
        timing = replace(FAST, timeout_s=0.2)
        webhooks = ground.webhooks(Webhook(receiver.url), timing=timing)
        with capture_logs() as logs:
            async with running(webhooks):
                misses(webhooks, "cache-a")
                await eventually(lambda: receiver.posts)
                misses(webhooks, "cache-b", "cache-c")
                await eventually(lambda: len(receiver.taken) == 3)
                await eventually(ground.empty)
    assert receiver.seen() == ["cache-a", "cache-b", "cache-c"]
    assert {post.path for post in receiver.posts} == {"/hook"}
    first, second = receiver.posts[0], receiver.posts[2]
    assert first.time_ms < second.time_ms
    assert first.headers["X-Pusher-Signature"] != second.headers["X-Pusher-Signature"]
    assert [entry["reason"] for entry in logs if entry["event"] == "webhook.failed"] == [reason] * 2
    assert webhooks.counts["delivered"] == 3
    assert webhooks.counts["retried"] >= 2


async def test_nobody_there_is_a_failure_like_another(ground: Ground) -> None:
    """An endpoint that is not up yet gets everything once it is."""
    port = free_port_pair()
    receiver = Receiver(port)
    webhooks = ground.webhooks(Webhook(receiver.url))
    async with running(webhooks):
        misses(webhooks, *numbered(5))
        await eventually(lambda: webhooks.counts["retried"])
        async with await asyncio.start_server(receiver.serve, "127.0.0.1", port):
            await eventually(lambda: len(receiver.taken) == 5)
    assert receiver.seen() == numbered(5)


async def test_hanging_endpoint_is_in_nobodys_way(ground: Ground, receiver: Receiver) -> None:
    """Others get theirs while one hangs, and that one is asked by one POST at a time."""
    async with receiving(*[HANG] * 99) as hanging:
        webhooks = ground.webhooks(Webhook(hanging.url), Webhook(receiver.url))
        async with running(webhooks, ground.webhooks(Webhook(hanging.url), Webhook(receiver.url))):
            misses(webhooks, *numbered(300))
            await eventually(lambda: len(receiver.taken) == 300)
            misses(webhooks, "cache-last")
            await eventually(lambda: len(receiver.taken) == 301)
            assert len(hanging.posts) == 1


async def test_event_that_is_refused_alone_does_not_keep_the_others(ground: Ground) -> None:
    """A backend that fails on one event gets all the others; that one is given up in its time."""

    def answer(post: Post) -> int:
        return 500 if any(event["channel"] == "cache-7" for event in post.events) else 200

    async with receiving() as receiver:
        receiver.answer = answer
        timing = replace(FAST, give_up_s=1.0)
        webhooks = ground.webhooks(Webhook(receiver.url), timing=timing)
        misses(webhooks, *numbered(150))
        async with running(webhooks):
            await eventually(lambda: len(receiver.taken) == 149)
            await eventually(ground.dead)
            await eventually(ground.empty)
        alone = [
            post
            for post in receiver.posts
            if [each["channel"] for each in post.events] == ["cache-7"]
        ]
    assert sorted(receiver.seen()) == sorted(set(numbered(150)) - {"cache-7"})
    assert [each["event"] for each in await ground.dead()] == [
        '{"name":"cache_miss","channel":"cache-7"}'
    ]
    assert len(alone) > 1
    assert webhooks.counts["dead"] == 1


async def test_events_are_given_up_after_their_time(ground: Ground) -> None:
    """All that has been due for so long while the endpoint failed is kept with its reason."""
    async with receiving() as receiver:
        receiver.answer = lambda _post: 503
        url = f"{receiver.url}?key=x"
        timing = replace(FAST, give_up_s=0.3)
        webhooks = ground.webhooks(Webhook(url), Webhook(url, frozenset({OCCUPIED})), timing=timing)
        misses(webhooks, *numbered(450))
        async with running(webhooks):
            await eventually(lambda: webhooks.counts["dead"] == 450)
            await eventually(ground.empty)
            kept = await ground.dead()
            misses(webhooks, "cache-later")
            await eventually(lambda: webhooks.counts["dead"] == 451, within_s=45)
    assert len(receiver.posts) > 2
    assert [each["event"] for each in kept] == [
        f'{{"name":"cache_miss","channel":"cache-{number}"}}' for number in range(450)
    ]
    assert {(each["app"], each["url"], each["kind"], each["reason"]) for each in kept} == {
        ("1", url, "cache_miss", "answered 503")
    }
    assert webhooks.counts["delivered"] == 0


async def test_unwanted_half_is_no_dead_letter(ground: Ground) -> None:
    """What was only there to hold back its other half goes without a word."""
    async with receiving() as receiver:
        receiver.answer = lambda _post: 503
        hook = Webhook(receiver.url, frozenset({OCCUPIED, MISS}))
        webhooks = ground.webhooks(hook, timing=replace(FAST, give_up_s=0.1))
        misses(webhooks, "cache-a")
        webhooks.emit("1", VACATED, "a")
        async with running(webhooks):
            await eventually(lambda: webhooks.counts["dead"])
            await eventually(ground.empty)
    assert [each["kind"] for each in await ground.dead()] == ["cache_miss"]


async def test_events_of_an_app_that_is_gone_are_kept(ground: Ground, receiver: Receiver) -> None:
    """Nobody can sign for it; another node may know it, and in the end it is not lost."""
    webhooks = ground.webhooks(Webhook(receiver.url))
    misses(webhooks, "cache-a")
    await webhooks.flush()
    timing = replace(FAST, give_up_s=0.0)
    async with running(Webhooks(ground.redis, ground.prefix, AppRegistry([]), timing=timing)):
        await eventually(ground.dead)
    assert [each["reason"] for each in await ground.dead()] == ["the app is not configured"]
    assert receiver.posts == []


async def test_log_tells_neither_payload_nor_secret(ground: Ground) -> None:
    """The endpoint by host and path, and why; nothing of the event, the user or the query."""
    async with receiving() as receiver:
        receiver.answer = lambda _post: 500
        url = f"http://user:hush@127.0.0.1:{receiver.port}/hook?token=hush"
        webhooks = ground.webhooks(Webhook(url), timing=replace(FAST, give_up_s=0.0))
        with capture_logs() as logs:
            async with running(webhooks):
                webhooks.emit("1", CLIENT, "private-x", event="client-x", data="hush")
                await eventually(ground.dead)
    assert {entry["event"] for entry in logs} == {"webhook.failed", "webhook.dead"}
    assert {entry["url"] for entry in logs} == {receiver.url}
    assert "hush" not in str(logs)
    assert "secret-1" not in str(logs)
    assert "hush" not in repr(Webhook(url))


def took(receiver: Receiver, channel: str) -> bool:
    """Whether the receiver has taken an event of the channel."""
    return channel in receiver.seen()


@pytest.mark.parametrize("size, missing", [(1_000_000, 0), (10, 10)], ids=["large", "endless"])
async def test_status_alone_says_whether_events_were_taken(
    ground: Ground, receiver: Receiver, size: int, missing: int
) -> None:
    """What a backend answers besides is not waited for, and not repeated for."""
    receiver.body, receiver.missing = b"x" * size, missing
    webhooks = ground.webhooks(Webhook(receiver.url), timing=replace(FAST, timeout_s=0.3))
    async with running(webhooks):
        for channel in numbered(3):
            misses(webhooks, channel)
            await eventually(partial(took, receiver, channel))
        await eventually(ground.empty)
    assert receiver.seen() == numbered(3)
    assert webhooks.counts["retried"] == 0


async def test_many_hanging_endpoints_end_in_their_time(ground: Ground, receiver: Receiver) -> None:
    """More of them than POSTs a node has on their way: they are given up in time for another."""
    async with receiving() as hanging:
        hanging.answer = lambda _post: HANG
        hooks = [Webhook(f"{hanging.url}/{number}") for number in range(40)]
        timing = replace(FAST, timeout_s=0.3)
        webhooks = ground.webhooks(*hooks, Webhook(receiver.url), timing=timing)
        async with running(webhooks):
            misses(webhooks, "cache-a")
            await eventually(lambda: receiver.taken)
    assert receiver.seen() == ["cache-a"]
