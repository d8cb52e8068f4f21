"""`bellhop revoke`: end access now, on every node."""

from __future__ import annotations

from pathlib import Path

import click

from server.backend import signed_post
from server.command_settings import default_app
from server.usage import CONFIG, URL, Misconfigured


@click.command()
@CONFIG
@click.option("--sub", help="A person: closes their connections, refuses their tokens.")
@click.option("--jti", help="One token.")
@click.option("--hotel", metavar="SLUG", help="Everybody's right to one hotel.")
@click.option("--role", help="Everybody's right to what one role sees.")
@click.option("--undo", is_flag=True, help="End the revocation instead.")
@URL
def revoke(*, config: Path | None, undo: bool, url: str, **named: str | None) -> None:
    """End access now, for tokens issued until now; prints the revocation's id."""
    asked: dict[str, object] = {name: value for name, value in named.items() if value is not None}
    if len(asked) != 1:
        raise Misconfigured("name one of --sub, --jti, --hotel and --role")
    body = {**asked, **({"undo": True} if undo else {})}
    answer = signed_post(default_app(config), url, "/revocations", body)
    click.echo(answer.json().get("id", "lifted"))
