"""`bellhop webhooks dead`: what a backend did not take is seen, and delivered when it does."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import datetime
from typing import Any

import pytest
from click.testing import CliRunner

from auth.apps import Webhook, WebhookKind
from server.webhooks_cli import webhooks as command
from tests.harness import environment, eventually
from tests.server.test_cli import Outcome
from tests.server.webhooks.ground import (
    CLIENT,
    HELD,
    MISS,
    OCCUPIED,
    VACATED,
    Ground,
    misses,
    numbered,
    running,
)
from tests.server.webhooks.receiver import Receiver


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(ground: Ground, valkey: str) -> dict[str, str]:
    """The settings of an operator on this ground."""
    return {"REDIS_URL": valkey, "BELLHOP_REDIS_PREFIX": ground.prefix}


async def dead(*arguments: str, **settings: str) -> Outcome:
    """Run `bellhop webhooks dead` with these settings and no others."""
    given: dict[str, str | None] = dict.fromkeys(os.environ)
    given |= environment(settings)
    run = CliRunner().invoke
    result = await asyncio.to_thread(run, command, ["dead", *arguments], env=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


async def bury(ground: Ground, url: str, *events: tuple[WebhookKind, dict[str, Any]]) -> list[str]:
    """Keep events as dead; return their ids, oldest first."""
    stream = f"{ground.prefix}{{webhooks}}:dead"
    ids = []
    for kind, event in events:
        fields: dict[Any, Any] = {
            "app": "1",
            "url": url,
            "kind": kind.value,
            "reason": "answered 500",
        }
        fields["event"] = json.dumps({"name": kind.value, **event})
        added: Any = await ground.redis.xadd(stream, fields)
        ids.append(added.decode())
    return ids


async def test_list_has_a_line_per_event_newest_first(
    ground: Ground, settings: dict[str, str]
) -> None:
    """Id, time, app, URL, kind, channel, reason; no secret, and nothing that ends the line."""
    url = "http://user:hush@b.example:8/hook?key=hush"
    first, second = await bury(
        ground, url, (MISS, {"channel": "a"}), (OCCUPIED, {"channel": "up\x1b[1A\n"})
    )
    outcome = await dead("list", **settings)
    assert (outcome.code, outcome.err) == (0, "")
    newer, older = (line.split("\t") for line in outcome.out.splitlines())
    assert older[:1] + older[2:] == [
        first,
        "1",
        "http://b.example:8/hook",
        "cache_miss",
        "a",
        "answered 500",
    ]
    assert int(datetime.fromisoformat(older[1]).timestamp() * 1000) == int(first.partition("-")[0])
    assert (newer[0], newer[5]) == (second, "up\\x1b[1A\\n")
    outcome = await dead("list", "--limit", "1", **settings)
    assert [line.partition("\t")[0] for line in outcome.out.splitlines()] == [second]


async def test_nothing_dead_is_no_line(ground: Ground, settings: dict[str, str]) -> None:
    """Nothing was given up: 0, and nothing to say."""
    assert await dead("list", **settings) == Outcome(0, "", "")
    assert await dead("retry", "--all", **settings) == Outcome(0, "", "")


async def test_show_has_every_field_and_the_event_last(
    ground: Ground, settings: dict[str, str]
) -> None:
    """As it is kept, a line each, but for what is secret in the URL."""
    url = "https://user:hush@b.example/hook?key=hush"
    (entry_id,) = await bury(ground, url, (CLIENT, {"channel": "private-a", "data": "Zoë"}))
    outcome = await dead("show", entry_id, **settings)
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split(": ", 1) for line in outcome.out.splitlines()]
    assert [name for name, _ in rows] == ["id", "time", "app", "url", "kind", "reason", "event"]
    assert dict(rows)["url"] == "https://b.example/hook"
    assert json.loads(rows[-1][1]) == {
        "name": "client_event",
        "channel": "private-a",
        "data": "Zoë",
    }


async def test_retry_delivers_what_was_given_up(
    ground: Ground, receiver: Receiver, settings: dict[str, str]
) -> None:
    """In its order, off the stream; a pair's ends are neither held nor recalled by it."""
    events: list[tuple[WebhookKind, dict[str, Any]]] = [
        (VACATED, {"channel": "a"}),
        (OCCUPIED, {"channel": "a"}),
        *((MISS, {"channel": name}) for name in numbered(120)),
    ]
    ids = await bury(ground, receiver.url, *events)
    webhooks = ground.webhooks(Webhook(receiver.url), timing=HELD)
    webhooks.emit("1", VACATED, "a")
    await webhooks.flush()
    outcome = await dead("retry", ids[0], **settings)
    assert (outcome.code, outcome.out) == (0, f"{ids[0]}\tqueued again\n")
    outcome = await dead("retry", "--all", "--limit", "1", **settings)
    assert (outcome.code, outcome.out) == (0, f"{ids[1]}\tqueued again\n")
    outcome = await dead("retry", "--all", **settings)
    assert (outcome.code, outcome.out) == (0, "".join(f"{i}\tqueued again\n" for i in ids[2:]))
    assert await ground.dead() == []
    held = {"vacated:a:"}

    async def only_held() -> bool:
        return set(await ground.waiting(receiver.url)) == held

    async with running(webhooks):
        await eventually(only_held)
    assert receiver.taken == [{"name": kind.value, **event} for kind, event in events]


async def test_retry_goes_on_after_what_cannot_be_queued(
    ground: Ground, receiver: Receiver, settings: dict[str, str]
) -> None:
    """Every problem is told, and stays; what can be delivered is."""
    stream = f"{ground.prefix}{{webhooks}}:dead"
    foreign = []
    for fields in ({"app": "1"}, {"app": "1", "url": "u", "kind": "x", "event": "{"}):
        added: Any = await ground.redis.xadd(stream, fields)  # type: ignore[arg-type]  # invariant
        foreign.append(added.decode())
    (entry_id,) = await bury(ground, receiver.url, (MISS, {"channel": "a"}))
    outcome = await dead("retry", "4-1", *foreign, entry_id, **settings)
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "bellhop: there is no entry 4-1 (see bellhop webhooks dead list)",
        *(f"bellhop: {each} is no event of a webhook" for each in foreign),
    ]
    assert outcome.out == f"{entry_id}\tqueued again\n"
    assert (await dead("list", **settings)).out.count("\n") == 2


async def test_retry_into_a_full_queue_keeps_the_event(
    ground: Ground, receiver: Receiver, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no room for it: it is dead anew, and 1 says so."""
    monkeypatch.setattr("server.webhooks.queue._MAX_WAITING", 1)
    webhooks = ground.webhooks(Webhook(receiver.url))
    misses(webhooks, "a")
    await webhooks.flush()
    (entry_id,) = await bury(ground, receiver.url, (MISS, {"channel": "b"}))
    outcome = await dead("retry", "--all", **settings)
    assert outcome.code == 1
    assert outcome.mistakes == [f"{entry_id} is kept anew: too many events wait for its endpoint"]
    assert [json.loads(each["event"])["channel"] for each in await ground.dead()] == ["b"]


NOWHERE = "redis://127.0.0.1:1"
MISTAKES: dict[str, tuple[tuple[str, ...], str, int, str]] = {
    "no Redis": (("list",), "", 2, "redis.url (REDIS_URL): missing"),
    "Redis's scheme": (("list",), "http://x", 2, "redis.url (REDIS_URL): "),
    "Redis away": (("retry", "--all"), NOWHERE, 1, "redis.url (REDIS_URL): "),
    "no file": (("list", "--config", "no.toml"), NOWHERE, 2, "no.toml: No such file"),
    "limit": (("list", "--limit", "0"), NOWHERE, 2, "--limit"),
    "id to show": (("show", "newest"), NOWHERE, 2, "'newest' is not an id such as"),
    "id to retry": (("retry", "1-1", "2"), NOWHERE, 2, "'2' is not an id such as"),
    "nothing to retry": (("retry",), NOWHERE, 2, "Name the entries to deliver again"),
    "all and one": (("retry", "1-1", "--all"), NOWHERE, 2, "Name the entries to deliver again"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_wrong_use_is_one_line(mistake: str) -> None:
    """The cause on stderr, 2 for wrong use and 1 for what failed."""
    arguments, url, code, cause = MISTAKES[mistake]
    outcome = await dead(*arguments, REDIS_URL=url)
    (line,) = outcome.mistakes
    assert outcome.code == code
    assert cause in line


async def test_show_of_what_is_not_there_fails(ground: Ground, settings: dict[str, str]) -> None:
    """1, and where to look."""
    outcome = await dead("show", "1-1", **settings)
    assert outcome.code == 1
    assert outcome.mistakes == ["there is no entry 1-1 (see bellhop webhooks dead list)"]
