"""`bellhop rejected`: what was refused of what came in through Redis, and publishing it again."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.redis import connect
from server.config import load_settings, named
from server.errors import ConfigError
from server.usage import CONFIG, Failed, Misconfigured, OneLine, config_file, misconfigured, run

_PAGE: Final = 100
"""Entries that are read at once; each may have 64 kB."""
_BESIDE: Final = frozenset({"app", "channel", "event", "socket_id"})
"""What an entry of the entrance's stream has beside its data, under the same names here."""
_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One refused event as it is kept."""

    id: str
    fields: dict[str, str]

    @property
    def time(self) -> str:
        """When it was refused: a stream's ids begin with milliseconds."""
        refused = datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)
        return refused.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be published again, if so."""
        if self.fields.get("source") not in {"redis", "stream"}:
            return f"came by {self.fields.get('source')}, not by PUBLISH or the stream"
        if self.fields.get("complete") != "1":
            return "is not kept as it came: it was too long, held card data, or was no UTF-8"
        return None


class _Stream:
    """The stream of refused events, and the entrance by which they came."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._name = f"{prefix}rejected"

    async def newest(self, limit: int) -> list[_Entry]:
        found: Any = await self._redis.xrevrange(self._name, count=limit)
        return [_entry(*each) for each in found]

    async def get(self, entry_id: str) -> _Entry:
        found: Any = await self._redis.xrange(self._name, entry_id, entry_id)
        if not found:
            raise Failed(f"there is no entry {entry_id} (see bellhop rejected list)")
        return _entry(*found[0])

    async def oldest_first(self) -> AsyncIterator[_Entry]:
        """Give every entry that is there now, and none that is added meanwhile."""
        newest = await self.newest(1)
        after = "-"
        while newest:
            found: Any = await self._redis.xrange(self._name, after, newest[0].id, _PAGE)
            if not found:
                return
            for each in found:
                yield _entry(*each)
            after = f"({found[-1][0].decode()}"

    async def publish_again(self, entry: _Entry) -> int:
        """Publish it by the way it came, and remove it; return how many take it, which may be 0.

        What came by the stream is added to it once more, and waits there for a node.
        """
        if entry.fields["source"] == "stream":
            fields: dict[Any, Any] = {
                name: entry.fields[name] for name in _BESIDE & {*entry.fields}
            }
            await self._redis.xadd(
                f"{self._prefix}publish", {**fields, "data": entry.fields["body"]}
            )
            await self._redis.xdel(self._name, entry.id)
            return 1
        address = f"publish@{entry.fields['app']}:{entry.fields['channel']}"
        listening: int = await self._redis.publish(self._prefix + address, entry.fields["body"])
        if listening:
            await self._redis.xdel(self._name, entry.id)
        return listening


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> _Entry:
    decoded = {key.decode(): value.decode(errors="replace") for key, value in fields.items()}
    return _Entry(entry_id.decode(), decoded)


def _with_stream(config: Path | None, use: Callable[[_Stream], Awaitable[None]]) -> None:
    try:
        settings = load_settings(config_file(config), os.environ, {}).redis
    except ConfigError as error:
        raise misconfigured(error) from None
    url = settings.url
    if url is None:
        missing = "missing; refused events are kept there (an embedded Valkey is at PORT + 1)"
        raise Misconfigured(f"{named('redis.url')}: {missing}")

    async def main_() -> None:
        try:
            redis = connect(url)
        except ValueError as error:
            raise Misconfigured(f"{named('redis.url')}: {error}") from None
        try:
            await use(_Stream(redis, settings.prefix))
        except (RedisError, OSError) as error:
            raise Failed(f"{named('redis.url')}: {error}") from None
        finally:
            await redis.aclose()

    run(main_)


def _printable(text: str, keep: str = "") -> str:
    """Escape what would move a terminal's cursor, or end a line: a refused text may be anything."""
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode()
        for each in text
    )


def _checked_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not an id such as 1766226600000-0")
    return value


@click.group(cls=OneLine)
def rejected() -> None:
    """Show what was refused of what came through Redis, and publish it again."""


_LIMIT: Final = click.IntRange(1, 10_000)


@rejected.command(name="list")
@CONFIG
@click.option("--limit", type=_LIMIT, default=50, show_default=True, help="How many at most.")
def list_command(config: Path | None, limit: int) -> None:
    """Print a line per refused event, newest first: id, time, app, channel, status, reason."""

    async def list_(stream: _Stream) -> None:
        for entry in await stream.newest(limit):
            told = [entry.fields.get(name, "") for name in ("app", "channel", "status", "reason")]
            click.echo("\t".join(map(_printable, (entry.id, entry.time, *told))))

    _with_stream(config, list_)


@rejected.command()
@CONFIG
@click.argument("entry_id", metavar="ID", callback=lambda _ctx, _param, value: _checked_id(value))
def show(config: Path | None, entry_id: str) -> None:
    """Print everything that is kept of one refused event; its body comes last."""

    async def show_(stream: _Stream) -> None:
        entry = await stream.get(entry_id)
        told = {"id": entry.id, "time": entry.time, **entry.fields}
        body = told.pop("body", "")
        for name, value in told.items():
            click.echo(f"{name}: {_printable(value)}")
        click.echo(f"body:\n{_printable(body, keep=chr(10) + chr(9))}")

    _with_stream(config, show_)


@rejected.command()
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
    """Publish refused events again, by the way they came; what is refused again is kept anew."""
    if every is bool(entry_ids):
        raise click.UsageError("Name the entries to publish again, or say --all.")
    _with_stream(config, lambda stream: _retry(stream, entry_ids, limit))


async def _retry(stream: _Stream, entry_ids: Sequence[str], limit: int | None) -> None:
    problems: list[str] = []
    published = 0
    entries = _named(stream, entry_ids, problems) if entry_ids else stream.oldest_first()
    async for entry in entries:
        if entry.obstacle is not None:
            problems.append(f"{entry.id} {entry.obstacle}")
            continue
        if not await stream.publish_again(entry):
            problems.append(f"{entry.id} stays: no node listens (is the server running?)")
            break
        click.echo(f"{entry.id}\tpublished again")
        published += 1
        if published == limit:
            break
    if problems:
        raise Failed("\nbellhop: ".join(problems))


async def _named(
    stream: _Stream, entry_ids: Sequence[str], problems: list[str]
) -> AsyncIterator[_Entry]:
    for entry_id in entry_ids:
        try:
            yield await stream.get(entry_id)
        except Failed as error:
            problems.append(error.message)
