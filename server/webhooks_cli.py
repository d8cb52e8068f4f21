"""`bellhop webhooks dead`: what could not be delivered to a backend, and delivering it again."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auth.apps import WebhookKind
from server.broker.redis import connect
from server.config import load_settings, named
from server.errors import ConfigError
from server.usage import CONFIG, Failed, Misconfigured, OneLine, config_file, misconfigured, run
from server.webhooks.delivery import printable_url
from server.webhooks.queue import NewJob, Timing, WebhookQueue

_PAGE: Final = 100
_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One undelivered event as it is kept."""

    id: str
    fields: dict[str, str]

    @property
    def time(self) -> str:
        """When it was given up: a stream's ids begin with milliseconds."""
        given_up = datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)
        return given_up.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def event(self) -> dict[str, object]:
        """What was to be told; empty where it cannot be read."""
        try:
            event = orjson.loads(self.fields.get("event", ""))
        except orjson.JSONDecodeError:
            return {}
        return event if isinstance(event, dict) else {}

    @property
    def told(self) -> dict[str, str]:
        """Its fields for a terminal: the URL without what may be secret in it."""
        return {**self.fields, "url": printable_url(self.fields.get("url", ""))}

    def job(self) -> NewJob:
        """Return it for the queue; raises ValueError or KeyError where it is not one of ours."""
        return NewJob(
            app_id=self.fields["app"],
            url=self.fields["url"],
            kind=WebhookKind(self.fields["kind"]),
            channel=str(self.event["channel"]),
            user_id="",
            event=self.fields["event"].encode(),
            again=True,
        )


class _Dead:
    """The stream of undelivered events, and the queue that they were in."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._queue = WebhookQueue(redis, prefix, Timing())

    async def newest(self, limit: int) -> list[_Entry]:
        found: Any = await self._redis.xrevrange(self._queue.dead, count=limit)
        return [_entry(*each) for each in found]

    async def get(self, entry_id: str) -> _Entry:
        found: Any = await self._redis.xrange(self._queue.dead, entry_id, entry_id)
        if not found:
            raise Failed(f"there is no entry {entry_id} (see bellhop webhooks dead list)")
        return _entry(*found[0])

    async def oldest_first(self) -> AsyncIterator[_Entry]:
        """Give every entry that is there now, and none that is added meanwhile."""
        newest = await self.newest(1)
        after = "-"
        while newest:
            found: Any = await self._redis.xrange(self._queue.dead, after, newest[0].id, _PAGE)
            if not found:
                return
            for each in found:
                yield _entry(*each)
            after = f"({found[-1][0].decode()}"

    async def queue_again(self, entry: _Entry) -> bool:
        """Move it to the queue; False where it had no room, and is kept anew.

        Raises ValueError or KeyError where the entry is not one of ours.
        """
        refused = await self._queue.add([entry.job()])
        await self._redis.xdel(self._queue.dead, entry.id)
        return not refused


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> _Entry:
    decoded = {key.decode(): value.decode(errors="replace") for key, value in fields.items()}
    return _Entry(entry_id.decode(), decoded)


def _with_dead(config: Path | None, use: Callable[[_Dead], Awaitable[None]]) -> None:
    try:
        settings = load_settings(config_file(config), os.environ, {}).redis
    except ConfigError as error:
        raise misconfigured(error) from None
    url = settings.url
    if url is None:
        missing = "missing; undelivered events are kept there (an embedded Valkey is at PORT + 1)"
        raise Misconfigured(f"{named('redis.url')}: {missing}")

    async def main_() -> None:
        try:
            redis = connect(url)
        except ValueError as error:
            raise Misconfigured(f"{named('redis.url')}: {error}") from None
        try:
            await use(_Dead(redis, settings.prefix))
        except (RedisError, OSError) as error:
            raise Failed(f"{named('redis.url')}: {error}") from None
        finally:
            await redis.aclose()

    run(main_)


def _printable(text: str) -> str:
    """Escape what would move a terminal's cursor, or end a line: clients choose some of it."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _checked_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not an id such as 1766226600000-0")
    return value


@click.group(cls=OneLine)
def webhooks() -> None:
    """See to webhooks."""


@webhooks.group(cls=OneLine)
def dead() -> None:
    """Show what could not be delivered, and deliver it again."""


_LIMIT: Final = click.IntRange(1, 10_000)


@dead.command(name="list")
@CONFIG
@click.option("--limit", type=_LIMIT, default=50, show_default=True, help="How many at most.")
def list_command(config: Path | None, limit: int) -> None:
    """Print a line per event, newest first: id, time, app, URL, kind, channel, reason."""

    async def list_(stream: _Dead) -> None:
        for entry in await stream.newest(limit):
            told = {**entry.told, "channel": str(entry.event.get("channel", ""))}
            names = ("app", "url", "kind", "channel", "reason")
            parts = (entry.id, entry.time, *(told.get(name, "") for name in names))
            click.echo("\t".join(map(_printable, parts)))

    _with_dead(config, list_)


@dead.command()
@CONFIG
@click.argument("entry_id", metavar="ID", callback=lambda _ctx, _param, value: _checked_id(value))
def show(config: Path | None, entry_id: str) -> None:
    """Print everything that is kept of one event; the event itself comes last."""

    async def show_(stream: _Dead) -> None:
        entry = await stream.get(entry_id)
        told = {"id": entry.id, "time": entry.time, **entry.told}
        event = told.pop("event", "")
        for name, value in {**told, "event": event}.items():
            click.echo(f"{name}: {_printable(value)}")

    _with_dead(config, show_)


@dead.command()
@CONFIG
@click.argument(
    "entry_ids",
    metavar="[ID]...",
    nargs=-1,
    callback=lambda _ctx, _param, values: [_checked_id(value) for value in values],
)
@click.option("--all", "every", is_flag=True, help="Every entry, oldest first.")
@click.option("--limit", type=_LIMIT, help="With --all: how many at most.")
def retry(config: Path | None, entry_ids: list[str], limit: int | None, *, every: bool) -> None:
    """Put events into the queue again; what cannot be delivered again is kept anew."""
    if every is bool(entry_ids):
        raise click.UsageError("Name the entries to deliver again, or say --all.")
    _with_dead(config, lambda stream: _retry(stream, entry_ids, limit))


async def _retry(stream: _Dead, entry_ids: Sequence[str], limit: int | None) -> None:
    problems: list[str] = []
    queued = 0
    entries = _named(stream, entry_ids, problems) if entry_ids else stream.oldest_first()
    async for entry in entries:
        try:
            if not await stream.queue_again(entry):
                problems.append(f"{entry.id} is kept anew: too many events wait for its endpoint")
                continue
        except (ValueError, KeyError):
            problems.append(f"{entry.id} is no event of a webhook")
            continue
        click.echo(f"{entry.id}\tqueued again")
        queued += 1
        if queued == limit:
            break
    if problems:
        raise Failed("\nbellhop: ".join(problems))


async def _named(
    stream: _Dead, entry_ids: Sequence[str], problems: list[str]
) -> AsyncIterator[_Entry]:
    for entry_id in entry_ids:
        try:
            yield await stream.get(entry_id)
        except Failed as error:
            problems.append(error.message)
