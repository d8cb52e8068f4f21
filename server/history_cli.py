"""`bellhop history`: what a channel carried."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click
import orjson

from server.backend import signed_get
from server.command_settings import default_app
from server.usage import CONFIG, URL


@click.command()
@CONFIG
@click.argument("channel")
@click.option("--since", metavar="EPOCH:SEQUENCE", help="Only what came after this event.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@URL
def history(*, config: Path | None, channel: str, since: str | None, limit: int, url: str) -> None:
    """Print what a channel carried, one line of JSON per event, oldest first."""
    params = {"limit": str(limit), **({"since": since} if since is not None else {})}
    # A name may begin with a #; what is no name is the server's to refuse.
    path = f"/channels/{quote(channel, safe='')}/events"
    answer = signed_get(default_app(config), url, path, params).json()
    for event in answer["events"]:
        click.echo(orjson.dumps(event))
    if not answer["complete"]:
        click.echo("bellhop: something between is not kept any more", err=True)
