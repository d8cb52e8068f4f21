"""`bellhop rejected`: what was refused is seen, and goes out again once nothing is in its way."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from server.cli import bellhop
from server.rejected import MAX_BODY
from tests.conftest import StartServer
from tests.harness import Server, environment, eventually, new_hotel, room_updated, started
from tests.server.test_cli import Outcome


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that refuses what breaks the contract; nobody else's events are on its stream."""
    log = tmp_path_factory.mktemp("strict") / "server.log"
    with started(log, {"BELLHOP_CONTRACT_MODE": "enforce"}) as running:
        yield running


@pytest.fixture
async def strict(strict_server: Server) -> Server:
    """The server with nothing on its stream."""
    async with strict_server.redis() as redis:
        await redis.delete("bellhop:rejected")
    return strict_server


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


async def rejected(*arguments: str, **settings: str) -> Outcome:
    """Run `bellhop rejected` with these settings and no others."""
    given: dict[str, str | None] = dict.fromkeys(os.environ)
    given |= environment(settings)
    run = CliRunner().invoke
    result = await asyncio.to_thread(run, bellhop, ["rejected", *arguments], env=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


async def entries(server: Server, count: int, prefix: str = "bellhop:") -> list[tuple[str, Any]]:
    """Await as many entries, and return them, oldest first, with their ids."""
    kept: list[Any] = []

    async def all_there() -> bool:
        async with server.redis() as redis:
            found: Any = await redis.xrange(f"{prefix}rejected")
        kept[:] = found
        return len(kept) == count

    await eventually(all_there)
    return [
        (each.decode(), {key.decode(): value.decode() for key, value in fields.items()})
        for each, fields in kept
    ]


async def listened_to(server: Server, patterns: int) -> bool:
    """Whether the server's Valkey knows of exactly as many patterns."""
    async with server.redis() as redis:
        return bool(await redis.pubsub_numpat() == patterns)


async def refused(server: Server, *messages: Any) -> list[str]:
    """Publish what is refused on channels of their own; return the ids of the entries."""
    for message in messages:
        await server.publish(f"{new_hotel()}.rooms", message)
    return [each for each, _ in await entries(server, len(messages))]


async def test_list_has_a_line_per_event_newest_first(strict: Server) -> None:
    """Id, time, app, channel, status and reason; nothing of it can end the line."""
    rooms = f"{new_hotel()}.rooms"
    await strict.publish(rooms, "{")
    await strict.publish("up\x1b[1A\n", "[]")
    (first, second) = [each for each, _ in await entries(strict, 2)]
    outcome = await rejected("list", REDIS_URL=strict.redis_url)
    assert (outcome.code, outcome.err) == (0, "")
    newer, older = (line.split("\t") for line in outcome.out.splitlines())
    assert (newer[0], older[0]) == (second, first)
    assert int(datetime.fromisoformat(older[1]).timestamp() * 1000) == int(first.partition("-")[0])
    assert older[2:] == ["1", rooms, "400", "the message is not valid JSON"]
    assert newer[3] == "up\\x1b[1A\\n"
    outcome = await rejected("list", "--limit", "1", REDIS_URL=strict.redis_url)
    assert [line.partition("\t")[0] for line in outcome.out.splitlines()] == [second]


async def test_list_of_nothing_is_empty(strict: Server) -> None:
    """No event was refused: no line, and 0."""
    assert await rejected("list", REDIS_URL=strict.redis_url) == Outcome(0, "", "")
    assert await rejected("retry", "--all", REDIS_URL=strict.redis_url) == Outcome(0, "", "")


async def test_show_has_every_field_and_the_body_last(strict: Server) -> None:
    """As it is kept, a line each; the body is whole, whatever lines it has."""
    body = json.dumps({"event": "e", "data": "Zoë"}, indent=1, ensure_ascii=False)
    ((entry_id),) = await refused(strict, body)
    ((_, kept),) = await entries(strict, 1)
    outcome = await rejected("show", entry_id, REDIS_URL=strict.redis_url)
    assert (outcome.code, outcome.err) == (0, "")
    before, _, after = outcome.out.partition("body:\n")
    assert after == body + "\n"
    told = dict(line.split(": ", 1) for line in before.splitlines())
    assert set(told) == {"id", "time", *kept} - {"body"}
    assert {name: told[name] for name in kept if name != "body"} == {
        name: value for name, value in kept.items() if name != "body"
    }
    assert (told["id"], told["source"], told["complete"]) == (entry_id, "redis", "1")


async def test_retry_delivers_what_is_no_longer_refused(
    strict: Server, start_server: StartServer
) -> None:
    """Kept while nobody listens; then in its order to the subscribers, and off the stream."""
    settings = {"REDIS_URL": strict.redis_url, "BELLHOP_REDIS_PREFIX": "retry:"}
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with strict.redis() as redis:
        patterns = await redis.pubsub_numpat()
        refusing = await start_server(**settings, BELLHOP_CONTRACT_MODE="enforce")
        for room in ("1", "2", "3"):
            body = room_updated(room, hotel=hotel, is_occupied="perhaps")
            await redis.publish(f"retry:publish:{rooms}", json.dumps(body))
        kept = [each for each, _ in await entries(strict, 3, "retry:")]
        refusing.end()
        await eventually(partial(listened_to, strict, patterns))
    outcome = await rejected("retry", "--all", **settings)
    assert (outcome.code, outcome.out) == (1, "")
    (line,) = outcome.mistakes
    assert line == f"{kept[0]} stays: no node listens (is the server running?)"
    accepting = await start_server(**settings, BELLHOP_CONTRACT_MODE="warn")
    async with accepting.staff(rooms, hotels=[hotel]) as client:
        outcome = await rejected("retry", kept[1], **settings)
        assert (outcome.code, outcome.out) == (0, f"{kept[1]}\tpublished again\n")
        outcome = await rejected("retry", "--all", "--limit", "1", **settings)
        assert (outcome.code, outcome.out) == (0, f"{kept[0]}\tpublished again\n")
        outcome = await rejected("retry", "--all", **settings)
        assert (outcome.code, outcome.out) == (0, f"{kept[2]}\tpublished again\n")
        frames = [await client.next() for _ in kept]
    assert [frame["data"]["payload"]["room_number"] for frame in frames] == ["2", "1", "3"]
    assert await entries(strict, 0, "retry:") == []


async def test_retry_of_what_is_refused_again_is_kept_anew(strict: Server) -> None:
    """Handed over is not accepted: it is on the stream again, once, and `--all` ends."""
    kept = await refused(strict, "{", "[]")
    outcome = await rejected("retry", "--all", REDIS_URL=strict.redis_url)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [f"{each}\tpublished again" for each in kept]

    async def anew() -> bool:
        return not {each for each, _ in await entries(strict, 2)} & set(kept)

    await eventually(anew)
    assert [fields["body"] for _, fields in await entries(strict, 2)] == ["{", "[]"]


INCOMPLETE: dict[str, bytes] = {
    "masked": b'{"note": "paid with 4111 1111 1111 1111"',
    "cut": b'{"note": "' + b"x" * MAX_BODY,
    "no text": b"\xff{}",
}


@pytest.mark.parametrize("case", INCOMPLETE)
async def test_retry_refuses_what_is_not_kept_as_it_came(strict: Server, case: str) -> None:
    """Another body than the backend's is never published: it stays, and 1 says why."""
    entry_id, whole = await refused(strict, INCOMPLETE[case], "{")
    outcome = await rejected("retry", "--all", REDIS_URL=strict.redis_url)
    cause = "is not kept as it came: it was too long, held card data, or was no UTF-8"
    assert (outcome.code, outcome.err) == (1, f"bellhop: {entry_id} {cause}\n")
    assert outcome.out == f"{whole}\tpublished again\n"
    assert (await entries(strict, 2))[0][0] == entry_id


async def test_retry_refuses_a_channel_that_was_cut(strict: Server) -> None:
    """What is left of a name that is too long may be another channel."""
    await strict.publish("x" * 201, "{}")
    ((entry_id, fields),) = await entries(strict, 1)
    assert (len(fields["channel"]), fields["complete"]) == (200, "0")
    outcome = await rejected("retry", entry_id, REDIS_URL=strict.redis_url)
    assert (outcome.code, len(outcome.mistakes)) == (1, 1)


async def test_retry_goes_on_after_an_entry_that_is_not_there(strict: Server) -> None:
    """Every problem is told, and what can be published is."""
    (entry_id,) = await refused(strict, "{")
    async with strict.redis() as redis:
        added: Any = await redis.xadd("bellhop:rejected", {"source": "mail"})
    mailed = added.decode()
    outcome = await rejected("retry", "4-1", mailed, entry_id, REDIS_URL=strict.redis_url)
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "bellhop: there is no entry 4-1 (see bellhop rejected list)",
        f"bellhop: {mailed} came by mail, not by PUBLISH or the stream",
    ]
    assert outcome.out == f"{entry_id}\tpublished again\n"


NOWHERE = "redis://127.0.0.1:1"
MISTAKES: dict[str, tuple[tuple[str, ...], str, int, str]] = {
    "no Redis": (("list",), "", 2, "redis.url (REDIS_URL): missing"),
    "Redis's scheme": (("list",), "http://x", 2, "redis.url (REDIS_URL): "),
    "Redis away": (("retry", "--all"), NOWHERE, 1, "redis.url (REDIS_URL): "),
    "no file": (("list", "--config", "no.toml"), NOWHERE, 2, "no.toml: No such file"),
    "limit": (("list", "--limit", "0"), NOWHERE, 2, "--limit"),
    "id to show": (("show", "newest"), NOWHERE, 2, "'newest' is not an id such as"),
    "id to retry": (("retry", "1-1", "2"), NOWHERE, 2, "'2' is not an id such as"),
    "nothing to show": (("show",), NOWHERE, 2, "Missing argument 'ID'"),
    "nothing to retry": (("retry",), NOWHERE, 2, "Name the entries to publish again"),
    "all and one": (("retry", "1-1", "--all"), NOWHERE, 2, "Name the entries to publish again"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_wrong_use_is_one_line(mistake: str) -> None:
    """The cause on stderr, 2 for wrong use and 1 for what failed."""
    arguments, url, code, cause = MISTAKES[mistake]
    outcome = await rejected(*arguments, REDIS_URL=url)
    (line,) = outcome.mistakes
    assert outcome.code == code
    assert cause in line


async def test_show_of_what_is_not_there_fails(strict: Server) -> None:
    """1, and where to look."""
    outcome = await rejected("show", "1-1", REDIS_URL=strict.redis_url)
    assert outcome.code == 1
    assert outcome.mistakes == ["there is no entry 1-1 (see bellhop rejected list)"]
