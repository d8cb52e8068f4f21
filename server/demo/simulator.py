"""The simulated hotel's backend: publishes what happens, by both entrances in turn."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Final

import httpx
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from auth.apps import App
from auth.request_auth import sign_request
from server.cancellation import raise_if_cancelled
from server.demo.hotel import Hotel
from server.demo.state import DemoEvent

_log: Final = structlog.get_logger(__name__)

_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 10.0
_TIMEOUT_S: Final = 5.0

Publish = Callable[[DemoEvent], Awaitable[None]]


class EntranceFailed(Exception):
    """The event did not get in, and may if it is sent again."""


class EventRefused(Exception):
    """The server will not have this event, however often it is sent."""


async def simulate(
    hotel: Hotel,
    *,
    redis_url: str,
    redis_prefix: str,
    http_url: str,
    app: App,
    interval_s: float,
) -> None:
    """Publish one step of the hotel per interval, until cancelled.

    The events of one step go in by one entrance, each after the one before it is in, so a channel
    carries them in the order in which they happened.

    Args:
        hotel: whose steps these are.
        redis_url: of the broker that the server listens on.
        redis_prefix: the server's prefix of every bus channel, such as ``bellhop:``.
        http_url: of the server, without a path.
        app: signs the HTTP requests.
        interval_s: seconds between two steps.

    """
    async with (
        redis.asyncio.from_url(redis_url, socket_timeout=_TIMEOUT_S) as client,
        # No proxy of the environment: the server is near.
        httpx.AsyncClient(base_url=http_url, timeout=_TIMEOUT_S, trust_env=False) as http,
    ):
        by_redis = RedisEntrance(client, redis_prefix)
        by_http = HttpEntrance(http, app)
        for publish in cycle((by_redis.publish, by_http.publish)):
            await asyncio.sleep(interval_s)
            for event in hotel.step():
                await deliver(event, publish)


async def deliver(event: DemoEvent, publish: Publish) -> None:
    """Publish one event, again and again until it is in or refused.

    An event that got in though its answer was lost is sent twice; the server delivers it once.
    """
    wait_s = _FIRST_RETRY_S
    while True:
        settled = await _settled(event, publish, wait_s)
        raise_if_cancelled()
        if settled:
            return
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, _LAST_RETRY_S)


async def _settled(event: DemoEvent, publish: Publish, wait_s: float) -> bool:
    """Publish one event; False where it is worth another try."""
    try:
        await publish(event)
    except EntranceFailed as error:
        _log.warning("demo_entrance.failed", reason=str(error), retry_in_s=wait_s)
        return False
    except EventRefused as error:
        _log.error("demo_event.refused", type=event.name, reason=str(error))
    return True


class RedisEntrance:
    """Publishes as a backend does that shares the server's Redis."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def publish(self, event: DemoEvent) -> None:
        """PUBLISH the envelope; raises `EntranceFailed` also where no node was listening."""
        channel = f"{self._prefix}publish:{event.channel}"
        try:
            listeners = await self._client.publish(channel, json.dumps(event.envelope))
        except (RedisError, OSError) as error:
            raise EntranceFailed(f"redis: {error}") from error
        if not listeners:
            raise EntranceFailed("redis: no node is listening")


class HttpEntrance:
    """Publishes as Pusher's server libraries do."""

    def __init__(self, client: httpx.AsyncClient, app: App) -> None:
        self._client = client
        self._app = app

    async def publish(self, event: DemoEvent) -> None:
        """POST the event, signed; raises `EntranceFailed` or `EventRefused`."""
        path = f"/apps/{self._app.id}/events"
        trigger = {
            "name": event.name,
            "channels": [event.channel],
            "data": json.dumps(event.envelope),
        }
        body = json.dumps(trigger).encode()
        query = sign_request(self._app, "POST", path, body, time.time())
        try:
            answer = await self._client.post(
                path,
                params=query,
                content=body,
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            raise EntranceFailed(f"http: {error!r}") from error
        if answer.is_success:
            return
        reason = f"http: {answer.status_code} {answer.text[:200]}"
        if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            raise EventRefused(reason)
        raise EntranceFailed(reason)
