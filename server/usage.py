"""How the command line speaks with its users: one line for a mistake, and an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import click
import uvloop
from click.exceptions import NoArgsIsHelpError

from server.errors import ConfigError, ServerError

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="BELLHOP_CONFIG",
    help="A TOML file; default: bellhop.toml here, if there is one.",
)


def config_file(config: Path | None) -> Path | None:
    """Return the file of the settings: the one that was given, or the one that is here."""
    return config or (Path("bellhop.toml") if Path("bellhop.toml").exists() else None)


class Failed(click.ClickException):
    """An error that the user can mend: one line, exit code 1."""

    def show(self, file: IO[str] | None = None) -> None:
        """Print it, as click asks."""
        del file
        click.echo(f"bellhop: {self.message}", err=True)


class Misconfigured(Failed):
    """Wrong configuration: exit code 2."""

    exit_code = 2


def misconfigured(error: ConfigError) -> Misconfigured:
    """Return the error that tells each problem on a line of its own."""
    return Misconfigured("\nbellhop: ".join(error.problems))


class OneLine(click.Group):
    """A group whose users read one line about a wrong use, not three."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401  click's own signature
    ) -> click.Context:
        """Parse the options of the group itself."""
        with _usage_in_one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  click's own signature
        """Parse a command's own, and run it."""
        with _usage_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except NoArgsIsHelpError:  # the help is the answer
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "bellhop"
        message = " ".join(error.format_message().split())
        raise Misconfigured(f"{message} (see {path} --help)") from None


def _checked_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    del ctx, param
    try:
        parts = urlsplit(value)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise click.BadParameter(f"{value!r} is not of the form http://HOST:PORT")
    return value


URL = click.option(
    "--url",
    envvar="BELLHOP_URL",
    default="http://127.0.0.1:6001",
    show_default=True,
    callback=_checked_url,
    help="The server to speak to.",
)


def run(main_: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on uvloop; our own errors become one line, Ctrl-C a clean end."""
    try:
        with (
            suppress(KeyboardInterrupt),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(main_())
    except* ConfigError as group:
        raise misconfigured(ConfigError(*_causes(group))) from None
    except* ServerError as group:
        raise Failed("; ".join(_causes(group))) from None


def _causes(group: BaseExceptionGroup[BaseException]) -> list[str]:
    causes: list[str] = []
    for error in group.exceptions:
        causes += _causes(error) if isinstance(error, BaseExceptionGroup) else [str(error)]
    return causes
