"""Posting what is due to the endpoints, from whichever node takes it first."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.parse import urlsplit

import httpx
import orjson
import structlog
from redis.exceptions import RedisError

from auth.apps import App, AppRegistry
from auth.signatures import sign
from server.cancellation import raise_if_cancelled
from server.webhooks.queue import Batch, Job, Timing, WebhookQueue

_MAX_IN_FLIGHT: Final = 32
"""POSTs of this node that are on their way."""
_MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read so that its connection can be used again."""
_RELEASE_S: Final = 1.0
_SUSPECT: Final = 3
"""Failures in a row after which a single event is held to be what the endpoint refuses."""
_OUT_OF_ORDER: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses that say something of the endpoint and nothing of the event."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a POST was not taken."""

    reason: str
    of_event: bool = False
    """Whether another event might be taken."""


class Deliverer:
    """Claims due jobs and posts them until cancelled."""

    def __init__(
        self, queue: WebhookQueue, apps: AppRegistry, timing: Timing, counts: Counter[str]
    ) -> None:
        self._queue = queue
        self._apps = apps
        self._timing = timing
        self._counts = counts
        self._wake = asyncio.Event()
        self._in_flight = 0
        self._node = secrets.token_hex(8)
        self._claims = 0

    def wake(self) -> None:
        """Have it look for what is due."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is on its way then may be delivered once more."""
        async with (
            httpx.AsyncClient(
                timeout=self._timing.timeout_s,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=_MAX_IN_FLIGHT),
                headers={"User-Agent": _user_agent(), "Accept": "*/*"},
            ) as client,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                self._wake.clear()
                wait = await self._take(tasks, client)
                raise_if_cancelled()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    async def _take(self, tasks: asyncio.TaskGroup, client: httpx.AsyncClient) -> float:
        """Start the POSTs that are due; return how long there is nothing to do."""
        if self._in_flight >= _MAX_IN_FLIGHT:
            return self._timing.poll_s
        self._claims += 1
        token = f"{self._node}:{self._claims}"
        try:
            claim = await self._queue.claim(token, _MAX_IN_FLIGHT - self._in_flight)
        except (RedisError, OSError):
            return self._timing.poll_s
        for batch in claim.batches:
            self._in_flight += 1
            tasks.create_task(self._deliver(client, batch))
        if claim.next_s is None:
            return self._timing.poll_s
        return min(claim.next_s, self._timing.poll_s)

    async def _deliver(self, client: httpx.AsyncClient, batch: Batch) -> None:
        settle = partial(self._queue.release, batch)
        try:
            failure = await self._posted(client, batch)
            if failure is None:
                self._counts["delivered"] += len(batch.wanted)
                settle = partial(self._queue.done, batch)
            else:
                _tell("webhook.failed", batch.wanted, failure.reason, batch.failures + 1)
                settle = partial(self._failed, batch, failure)
            await self._settle(settle)
        except asyncio.CancelledError:
            with suppress(RedisError, OSError):
                async with asyncio.timeout(_RELEASE_S):
                    await settle()
            raise
        finally:
            self._in_flight -= 1
            self._wake.set()

    async def _settle(self, settle: Callable[[], Awaitable[None]]) -> None:
        """Say in Redis what became of a claim, unless it runs out before Redis answers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timing.claim_s):
                while True:
                    try:
                        await settle()
                    except (RedisError, OSError):
                        raise_if_cancelled()
                        await asyncio.sleep(self._timing.first_retry_s)
                    else:
                        return

    # --- posting ---------------------------------------------------------------------------------

    async def _posted(self, client: httpx.AsyncClient, batch: Batch) -> Failure | None:
        if not batch.wanted:
            return None
        app = self._apps.by_id(batch.wanted[0].app_id)
        if app is None:
            return Failure("the app is not configured")
        try:
            return await self._post(client, app, batch.wanted)
        except (TimeoutError, httpx.TimeoutException):
            return Failure(f"no answer within {self._timing.timeout_s:g} s")
        except httpx.ConnectError:
            return Failure("cannot be connected to")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Failure(f"failed ({type(error).__name__})")
        except Exception as error:
            # A fault of ours costs these events, not the node and everybody on it.
            log.exception("webhook.broken", app=app.id)
            return Failure(f"the server failed ({type(error).__name__})")

    async def _post(
        self, client: httpx.AsyncClient, app: App, jobs: tuple[Job, ...]
    ) -> Failure | None:
        # Stamped and signed for every attempt: libraries refuse what is five minutes old.
        stamped = {"time_ms": round(time.time() * 1000), "events": [job.event for job in jobs]}
        body = orjson.dumps(stamped)
        headers = {
            "Content-Type": "application/json",
            "X-Pusher-Key": app.key,
            "X-Pusher-Signature": sign(app.secret, body.decode()),
        }
        status = 0
        try:
            # The client's own limit is for each step of a request; this one is for all of it.
            async with (
                asyncio.timeout(self._timing.timeout_s),
                client.stream("POST", jobs[0].url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code
                await _read(answer)
        except (TimeoutError, httpx.HTTPError):
            if not status:
                raise
        if httpx.codes.is_success(status):
            return None
        return Failure(f"answered {status}", of_event=status not in _OUT_OF_ORDER)

    # --- failing ---------------------------------------------------------------------------------

    async def _failed(self, batch: Batch, failure: Failure) -> None:
        dead: set[str] = set()
        aside = self._aside(batch, failure)
        if aside is not None and batch.now - aside[0].since >= self._timing.give_up_s * 1000:
            dead |= await self._bury(batch.endpoint, [aside[0]], failure.reason)
            aside = None
        if await self._queue.failed(batch, self._rest_s(batch.failures), aside):
            while jobs := await self._queue.overdue(batch.endpoint):
                dead |= await self._bury(batch.endpoint, jobs, failure.reason)
        self._counts["retried"] += sum(job.id not in dead for job in batch.wanted)

    def _aside(self, batch: Batch, failure: Failure) -> tuple[Job, float] | None:
        """Return the job that the endpoint refuses though it may take others, and for how long."""
        if len(batch.jobs) > 1 or not failure.of_event:
            return None
        (job,) = batch.jobs
        if not job.alone and batch.failures < _SUSPECT:
            return None
        age_s = (batch.now - job.since) / 1000
        # As long again as it has been waiting: that doubles.
        return job, min(max(age_s, self._timing.first_retry_s), self._timing.max_retry_s)

    def _rest_s(self, failures: int) -> float:
        longest = self._timing.first_retry_s * 2.0 ** min(failures, 30)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311  no secret
        return min(longest, self._timing.max_retry_s) * jitter

    async def _bury(self, endpoint: str, jobs: list[Job], reason: str) -> set[str]:
        """Give jobs up; return their ids."""
        await self._queue.bury(endpoint, jobs, reason)
        wanted = [job for job in jobs if job.wanted]
        if wanted:
            self._counts["dead"] += len(wanted)
            _tell("webhook.dead", wanted, reason)
        return {job.id for job in jobs}


def _tell(event: str, jobs: Sequence[Job], reason: str, failures: int | None = None) -> None:
    more = {} if failures is None else {"failures": failures}
    url = printable_url(jobs[0].url)
    log.warning(event, app=jobs[0].app_id, url=url, events=len(jobs), reason=reason, **more)


def printable_url(url: str) -> str:
    """Return a URL without what may be secret in it: its user and its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _read(answer: httpx.Response) -> None:
    read = 0
    async for part in answer.aiter_raw():
        read += len(part)
        if read > _MAX_ANSWER:
            return


def _user_agent() -> str:
    try:
        return f"Bellhop/{version('bellhop-server')}"
    except PackageNotFoundError:
        return "Bellhop"
