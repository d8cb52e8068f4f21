"""`bellhop webhooks dead`: what could not be delivered to a backend, and delivering it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import orjson
from redis.asyncio import Redis

from auth.apps import WebhookKind
from server.command_settings import settings_of, with_redis
from server.kept_streams import (
    ENTRIES,
    ENTRY,
    EVERY,
    LISTED,
    MOST,
    Entry,
    KeptStream,
    Obstacle,
    printable,
    send_again,
)
from server.usage import CONFIG, OneLine
from server.webhooks.delivery import printable_url
from server.webhooks.queue import NewJob, Timing, WebhookQueue


class _Dead(KeptStream):
    """The stream of undelivered events, and the queue that they were in."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._queue = WebhookQueue(redis, prefix, Timing())
        super().__init__(redis, self._queue.dead, "bellhop webhooks dead list")

    async def queue_again(self, entry: Entry) -> None:
        """Move it to the queue; raises `Obstacle` where that has no room: it is kept anew."""
        try:
            refused = await self._queue.add([_job(entry)])
        except (ValueError, KeyError):
            raise Obstacle("is no event of a webhook") from None
        await self.remove(entry)
        if refused:
            raise Obstacle("is kept anew: too many events wait for its endpoint")


def _event(entry: Entry) -> dict[str, object]:
    """Return what was to be told; empty where it cannot be read."""
    try:
        event = orjson.loads(entry.fields.get("event", ""))
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _told(entry: Entry) -> dict[str, str]:
    """Return its fields for a terminal: the URL without what may be secret in it."""
    return {**entry.fields, "url": printable_url(entry.fields.get("url", ""))}


def _job(entry: Entry) -> NewJob:
    """Return it for the queue; raises ValueError or KeyError where it is not one of ours."""
    return NewJob(
        app_id=entry.fields["app"],
        url=entry.fields["url"],
        kind=WebhookKind(entry.fields["kind"]),
        channel=str(_event(entry)["channel"]),
        user_id="",
        event=entry.fields["event"].encode(),
        again=True,
    )


def _with_dead(config: Path | None, use: Callable[[_Dead], Awaitable[None]]) -> None:
    with_redis(
        settings_of(config), "undelivered events", lambda redis, prefix: use(_Dead(redis, prefix))
    )


@click.group(cls=OneLine)
def webhooks() -> None:
    """See to webhooks."""


@webhooks.group(cls=OneLine)
def dead() -> None:
    """Show what could not be delivered, and deliver it again."""


@dead.command(name="list")
@CONFIG
@LISTED
def list_command(config: Path | None, limit: int) -> None:
    """Print a line per event, newest first: id, time, app, URL, kind, channel, reason."""

    async def list_(stream: _Dead) -> None:
        for entry in await stream.newest(limit):
            told = {**_told(entry), "channel": str(_event(entry).get("channel", ""))}
            names = ("app", "url", "kind", "channel", "reason")
            parts = (entry.id, entry.time, *(told.get(name, "") for name in names))
            click.echo("\t".join(map(printable, parts)))

    _with_dead(config, list_)


@dead.command()
@CONFIG
@ENTRY
def show(config: Path | None, entry_id: str) -> None:
    """Print everything that is kept of one event; the event itself comes last."""

    async def show_(stream: _Dead) -> None:
        entry = await stream.get(entry_id)
        told = {"id": entry.id, "time": entry.time, **_told(entry)}
        event = told.pop("event", "")
        for name, value in {**told, "event": event}.items():
            click.echo(f"{name}: {printable(value)}")

    _with_dead(config, show_)


@dead.command()
@CONFIG
@ENTRIES
@EVERY
@MOST
def retry(config: Path | None, entry_ids: list[str], limit: int | None, *, every: bool) -> None:
    """Put events into the queue again; what cannot be delivered again is kept anew."""
    if every is bool(entry_ids):
        raise click.UsageError("Name the entries to deliver again, or say --all.")

    async def retry_(stream: _Dead) -> None:
        await send_again(stream, entry_ids, limit, stream.queue_again, done="queued again")

    _with_dead(config, retry_)
