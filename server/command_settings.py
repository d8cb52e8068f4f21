"""What a command takes from the settings: the default app, and the Redis that it reads itself."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from auth.apps import App
from server.broker.redis import connect
from server.config import Settings, app_registry, load_settings, named
from server.errors import ConfigError
from server.usage import Failed, Misconfigured, config_file, misconfigured, run


def settings_of(config: Path | None) -> Settings:
    """Load the settings; what is wrong with them ends the command."""
    try:
        return load_settings(config_file(config), os.environ, {})
    except ConfigError as error:
        raise misconfigured(error) from None


def default_app(config: Path | None) -> App:
    """Return the app that requests are signed for."""
    problems: list[str] = []
    apps = app_registry(settings_of(config), problems)
    if problems:
        raise misconfigured(ConfigError(*problems))
    return next(iter(apps))


def with_redis(settings: Settings, kept: str, use: Callable[[Redis, str], Awaitable[None]]) -> None:
    """Run a command on the server's Redis and prefix; ``kept`` says what it looks for there."""
    url = settings.redis.url
    if url is None:
        missing = f"missing; {kept} are kept there (an embedded Valkey is at PORT + 1)"
        raise Misconfigured(f"{named('redis.url')}: {missing}")

    async def main_() -> None:
        try:
            redis = connect(url)
        except ValueError as error:
            raise Misconfigured(f"{named('redis.url')}: {error}") from None
        try:
            await use(redis, settings.redis.prefix)
        except (RedisError, OSError) as error:
            raise Failed(f"{named('redis.url')}: {error}") from None
        finally:
            await redis.aclose()

    run(main_)
