"""`bellhop audit`: who did what, one line of JSON per row."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import orjson
from redis.asyncio import Redis

from server.audit_reading import audit_rows, matches
from server.command_settings import settings_of, with_redis
from server.usage import CONFIG

_DURATION: Final = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>[smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    """Return a moment in ms: given as one, or as so long ago."""
    del ctx, param
    if value is None:
        return 0
    found = _DURATION.fullmatch(value)
    if found is not None:
        ago = int(found["count"]) * _SECONDS[found["unit"]]
        return max(round((time.time() - ago) * 1000), 0)
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(round(moment.timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is neither ISO 8601 (2026-01-05T12:00:00Z) nor like 90s, 15m, 2h, 7d"
        ) from None


SINCE: Final = click.option(
    "--since",
    "since_ms",
    metavar="TIME|DURATION",
    callback=_since,
    help="From then on: ISO 8601 (UTC where it has no zone), or 90s, 15m, 2h, 7d ago.",
)


@click.command()
@CONFIG
@click.option("--hotel", metavar="SLUG", help="Of one hotel.")
@click.option("--channel", help="Of one channel.")
@click.option("--sub", help="Of one person: the subject of tokens.")
@click.option("--event-id", metavar="ID", help="Of one event.")
@click.option("--kind", help="connect, subscribe, publish, refuse, revoke, …")
@SINCE
@click.option("--limit", type=click.IntRange(min=1), help="How many rows at most: the oldest.")
def audit(*, config: Path | None, since_ms: int, limit: int | None, **wanted: str | None) -> None:
    """Print who was let in, what was published, refused and revoked, oldest first."""

    async def print_(redis: Redis, prefix: str) -> None:
        printed = 0
        async for row in audit_rows(redis, prefix, since_ms):
            if not matches(row, wanted):
                continue
            click.echo(orjson.dumps(row))
            printed += 1
            if printed == limit:
                return

    with_redis(settings_of(config), "rows of the audit", print_)
