"""The commands `bellhop contract`: the contract checked, or told in another form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from channels_spec.contract import Contract
from channels_spec.document import ContractError, Document, mapping, read_document
from channels_spec.reading import HOTEL_CONTRACT, contract_of
from channels_spec.render import asyncapi, reference
from channels_spec.render_markdown import markdown
from channels_spec.render_typescript import typescript
from server.config import read_settings
from server.errors import ConfigError
from server.usage import CONFIG, OneLine, config_file, misconfigured

_FILE: Final = click.option(
    "--contract",
    "file",
    type=click.Path(path_type=Path),
    help="A contract document; default: the one that the server would use.",
)


@click.group(cls=OneLine)
def contract() -> None:
    """Check the contract of channels and events, or print it in another form."""


def _loaded(file: Path | None, config: Path | None) -> tuple[Document, Contract]:
    try:
        if file is None:
            # Whatever else is wrong with the settings is the affair of `bellhop check`.
            settings, _, _ = read_settings(config_file(config), os.environ, {})
            file = settings.contract.file or HOTEL_CONTRACT
        document = read_document(file)
        return document, contract_of(document)
    except ConfigError as error:
        raise misconfigured(error) from None
    except ContractError as error:
        raise misconfigured(ConfigError(*map(str, error.problems))) from None


@contract.command()
@_FILE
@CONFIG
def validate(file: Path | None, config: Path | None) -> None:
    """Tell every problem with its file and line."""
    document, loaded = _loaded(file, config)
    told = reference(mapping(document.content, ""), loaded)
    counted = f"{len(told.families)} channel families, {len(told.events)} events"
    click.echo(f"good: {document.file}: {counted}")


@contract.command(name="asyncapi")
@_FILE
@CONFIG
def asyncapi_command(file: Path | None, config: Path | None) -> None:
    """Print the contract as AsyncAPI 3 for any tool that reads it."""
    _echo(lambda document, _: asyncapi(document), file, config)


@contract.command(name="markdown")
@_FILE
@CONFIG
def markdown_command(file: Path | None, config: Path | None) -> None:
    """Print a page of reference: channels, events, fields, and who sees them."""
    _echo(markdown, file, config)


@contract.command(name="typescript")
@_FILE
@CONFIG
def typescript_command(file: Path | None, config: Path | None) -> None:
    """Print types for clients in TypeScript."""
    _echo(typescript, file, config)


def _echo(
    render: Callable[[Mapping[str, object], Contract], str],
    file: Path | None,
    config: Path | None,
) -> None:
    document, loaded = _loaded(file, config)
    click.echo(render(mapping(document.content, ""), loaded), nl=False)
