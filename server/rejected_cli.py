"""`bellhop rejected`: what was refused of what came in through Redis, and publishing it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import click
from redis.asyncio import Redis

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

_BESIDE: Final = frozenset({"app", "channel", "event", "socket_id"})
"""What an entry of the entrance's stream has beside its data, under the same names here."""


class _Rejected(KeptStream):
    """The stream of refused events, and the entrance by which they came."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        super().__init__(redis, f"{prefix}rejected", "bellhop rejected list")
        self._prefix = prefix

    async def publish_again(self, entry: Entry) -> None:
        """Publish it by the way it came, and remove it; raises `Obstacle`.

        What came by the stream is added to it once more, and waits there for a node.
        """
        source = entry.fields.get("source")
        if source not in {"redis", "stream"}:
            raise Obstacle(f"came by {source}, not by PUBLISH or the stream")
        if entry.fields.get("complete") != "1":
            raise Obstacle(
                "is not kept as it came: it was too long, held card data, or was no UTF-8"
            )
        if source == "stream":
            fields: dict[Any, Any] = {
                name: entry.fields[name] for name in _BESIDE & {*entry.fields}
            }
            fields["data"] = entry.fields["body"]
            await self._redis.xadd(f"{self._prefix}publish", fields)
            await self.remove(entry)
            return
        address = f"publish@{entry.fields['app']}:{entry.fields['channel']}"
        if not await self._redis.publish(self._prefix + address, entry.fields["body"]):
            raise Obstacle("stays: no node listens (is the server running?)", of_all=True)
        await self.remove(entry)


def _with_stream(config: Path | None, use: Callable[[_Rejected], Awaitable[None]]) -> None:
    with_redis(
        settings_of(config), "refused events", lambda redis, prefix: use(_Rejected(redis, prefix))
    )


@click.group(cls=OneLine)
def rejected() -> None:
    """Show what was refused of what came through Redis, and publish it again."""


@rejected.command(name="list")
@CONFIG
@LISTED
def list_command(config: Path | None, limit: int) -> None:
    """Print a line per refused event, newest first: id, time, app, channel, status, reason."""

    async def list_(stream: _Rejected) -> None:
        for entry in await stream.newest(limit):
            told = [entry.fields.get(name, "") for name in ("app", "channel", "status", "reason")]
            click.echo("\t".join(map(printable, (entry.id, entry.time, *told))))

    _with_stream(config, list_)


@rejected.command()
@CONFIG
@ENTRY
def show(config: Path | None, entry_id: str) -> None:
    """Print everything that is kept of one refused event; its body comes last."""

    async def show_(stream: _Rejected) -> None:
        entry = await stream.get(entry_id)
        told = {"id": entry.id, "time": entry.time, **entry.fields}
        body = told.pop("body", "")
        for name, value in told.items():
            click.echo(f"{name}: {printable(value)}")
        click.echo(f"body:\n{printable(body, keep=chr(10) + chr(9))}")

    _with_stream(config, show_)


@rejected.command()
@CONFIG
@ENTRIES
@EVERY
@MOST
def retry(config: Path | None, entry_ids: list[str], limit: int | None, *, every: bool) -> None:
    """Publish refused events again, by the way they came; what is refused again is kept anew."""
    if every is bool(entry_ids):
        raise click.UsageError("Name the entries to publish again, or say --all.")

    async def retry_(stream: _Rejected) -> None:
        send = stream.publish_again
        await send_again(stream, entry_ids, limit, send, done="published again")

    _with_stream(config, retry_)
