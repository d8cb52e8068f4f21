"""Streams of what was refused or given up: listed, shown, and sent again by commands."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click
from redis.asyncio import Redis

from server.usage import Failed

_PAGE: Final = 100
"""Entries that are read at once; each may have 64 kB."""
_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)
LIMIT: Final = click.IntRange(1, 10_000)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is kept."""

    id: str
    fields: dict[str, str]

    @property
    def time(self) -> str:
        """When it was added: a stream's ids begin with milliseconds."""
        return iso_time(int(self.id.partition("-")[0]))


class Obstacle(Exception):
    """Why an entry cannot be sent again; ``of_all``: nor can those after it."""

    def __init__(self, reason: str, *, of_all: bool = False) -> None:
        super().__init__(reason)
        self.of_all = of_all


class KeptStream:
    """One such stream; ``listed_by`` is the command that lists it."""

    def __init__(self, redis: Redis, name: str, listed_by: str) -> None:
        self._redis = redis
        self._name = name
        self._listed_by = listed_by

    async def newest(self, limit: int) -> list[Entry]:
        """Return the newest entries, newest first."""
        found: Any = await self._redis.xrevrange(self._name, count=limit)
        return [_entry(*each) for each in found]

    async def get(self, entry_id: str) -> Entry:
        """Return one entry; raises `Failed` where there is none."""
        found: Any = await self._redis.xrange(self._name, entry_id, entry_id)
        if not found:
            raise Failed(f"there is no entry {entry_id} (see {self._listed_by})")
        return _entry(*found[0])

    async def oldest_first(self) -> AsyncIterator[Entry]:
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

    async def remove(self, entry: Entry) -> None:
        """Take an entry away."""
        await self._redis.xdel(self._name, entry.id)


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    decoded = {key.decode(): value.decode(errors="replace") for key, value in fields.items()}
    return Entry(entry_id.decode(), decoded)


async def send_again(
    stream: KeptStream,
    entry_ids: Sequence[str],
    limit: int | None,
    send: Callable[[Entry], Awaitable[None]],
    *,
    done: str,
) -> None:
    """Send the named entries again, or without names every one, oldest first, and tell of each.

    Args:
        stream: that they are in.
        entry_ids: which; empty: all.
        limit: how many at most.
        send: sends one and removes it; raises `Obstacle`.
        done: what is said of one that was sent.

    Raises:
        Failed: with a line for each that was not.

    """
    problems: list[str] = []
    sent = 0
    entries = _named(stream, entry_ids, problems) if entry_ids else stream.oldest_first()
    async for entry in entries:
        try:
            await send(entry)
        except Obstacle as obstacle:
            problems.append(f"{entry.id} {obstacle}")
            if obstacle.of_all:
                break
            continue
        click.echo(f"{entry.id}\t{done}")
        sent += 1
        if sent == limit:
            break
    if problems:
        raise Failed("\nbellhop: ".join(problems))


async def _named(
    stream: KeptStream, entry_ids: Sequence[str], problems: list[str]
) -> AsyncIterator[Entry]:
    for entry_id in entry_ids:
        try:
            yield await stream.get(entry_id)
        except Failed as error:
            problems.append(error.message)


def iso_time(time_ms: int) -> str:
    """Return a time as ISO 8601 in UTC."""
    text = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def printable(text: str, keep: str = "") -> str:
    """Escape what would move a terminal's cursor, or end a line: peers choose some of it."""
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode()
        for each in text
    )


def _checked_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not an id such as 1766226600000-0")
    return value


LISTED: Final = click.option(
    "--limit", type=LIMIT, default=50, show_default=True, help="How many at most."
)
ENTRY: Final = click.argument(
    "entry_id", metavar="ID", callback=lambda _ctx, _param, value: _checked_id(value)
)
ENTRIES: Final = click.argument(
    "entry_ids",
    metavar="[ID]...",
    nargs=-1,
    callback=lambda _ctx, _param, values: [_checked_id(value) for value in values],
)
EVERY: Final = click.option("--all", "every", is_flag=True, help="Every entry, oldest first.")
MOST: Final = click.option("--limit", type=LIMIT, help="With --all: how many at most.")
