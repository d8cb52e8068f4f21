"""`bellhop revoke`: end access now, on every node."""

from __future__ import annotations

import os
from pathlib import Path

import click

from server.backend import signed_post
from server.config import app_registry, load_settings
from server.errors import ConfigError
from server.usage import CONFIG, URL, Misconfigured, config_file, misconfigured


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
    problems: list[str] = []
    try:
        apps = app_registry(load_settings(config_file(config), os.environ, {}), problems)
        if problems:
            raise ConfigError(*problems)
    except ConfigError as error:
        raise misconfigured(error) from None
    answer = signed_post(
        next(iter(apps)), url, "/revocations", {**asked, **({"undo": True} if undo else {})}
    )
    click.echo(answer.json().get("id", "lifted"))
