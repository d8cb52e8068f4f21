"""The jobs of webhooks in Redis, shared by all nodes. Times are Redis' own.

All keys share the hash tag ``{webhooks}``, so that a script may touch any of them. Names, after the
prefix:

    {webhooks}:due           zset: endpoint -> when it is looked at
    {webhooks}:due:ENDPOINT  zset: job -> since when it is due
    {webhooks}:jobs          hash: job -> its JSON
    {webhooks}:endpoints     hash: who posts to an endpoint, its failures, and since when it fails
    {webhooks}:number        string: counter that jobs' ids are drawn from
    {webhooks}:last:NAME     string: what happened last to a channel or a member, and when; 60 s
    {webhooks}:dead          stream: what could not be delivered, bounded

A queue for each endpoint (app and URL), because one that hangs must not be in the way of another's
jobs, and because its own must not overtake each other: at most one POST is on its way to it, from
all nodes together. An id is ENDPOINT:NUMBER; ENDPOINT:END:CHANNEL:USER while a job is held;
ENDPOINT:~NUMBER where the endpoint has refused it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from auth.apps import WebhookKind

_MAX_WAITING: Final = 20_000
"""Jobs that may wait for one endpoint; more go to the dead ones at once."""
_MAX_DEAD: Final = 10_000
_MAX_ENDPOINTS: Final = 8
_MAX_EVENTS: Final = 100
_MAX_BYTES: Final = 512 * 1024
"""Of one POST, about."""
_OVERDUE: Final = 200
_PARTNERS: Final = {
    WebhookKind.CHANNEL_OCCUPIED: WebhookKind.CHANNEL_VACATED,
    WebhookKind.MEMBER_ADDED: WebhookKind.MEMBER_REMOVED,
}
"""What is not told where the end that it follows has not been told yet."""
_ENDS: Final = {
    WebhookKind.MEMBER_REMOVED: "member_removed",
    WebhookKind.CHANNEL_VACATED: "vacated",
}
"""What held jobs are called. Those of one moment are told in the order of these names: the member
whose leaving leaves a channel empty is the cause, and comes first."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When things are done, in seconds."""

    hold_s: float = 3.0
    """How long `channel_vacated` and `member_removed` wait for the client to come back."""
    timeout_s: float = 10.0
    claim_s: float = 30.0
    """After which a node that took jobs and has not settled them is held to be dead."""
    first_retry_s: float = 1.0
    max_retry_s: float = 60.0
    give_up_s: float = 300.0
    poll_s: float = 1.0
    """How long the jobs of another node that died may go unseen."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """One event for one endpoint, on its way into the queue."""

    app_id: str
    url: str
    kind: WebhookKind
    channel: str
    user_id: str
    event: bytes
    """As it is told, JSON."""
    at_us: int = 0
    """When it happened, by Redis' clock; 0: as it comes into the queue."""
    wanted: bool = True
    """Whether it is told; one that is not still holds back the event that would undo it."""
    again: bool = False
    """Whether it comes from the dead ones: it is told whatever has happened since."""


@dataclass(frozen=True, slots=True)
class Job:
    """One event for one endpoint, as it was in the queue."""

    id: str
    since: int
    """When it was due first, ms."""
    app_id: str
    url: str
    kind: str
    event: dict[str, Any]
    wanted: bool

    @property
    def alone(self) -> bool:
        """Whether the endpoint has refused it alone before."""
        return self.id.partition(":")[2].startswith("~")


@dataclass(frozen=True)
class Batch:
    """Jobs of one endpoint that were claimed for one POST, in their order."""

    endpoint: str
    token: str
    failures: int
    """POSTs to this endpoint that failed since the last good one."""
    now: int
    """When they were claimed, ms."""
    jobs: tuple[Job, ...]

    @cached_property
    def wanted(self) -> tuple[Job, ...]:
        """The jobs that are told."""
        return tuple(job for job in self.jobs if job.wanted)


@dataclass(frozen=True, slots=True)
class Claim:
    """What there is to do now."""

    batches: tuple[Batch, ...]
    next_s: float | None
    """Seconds until there may be more, if that is known."""


class WebhookQueue:
    """Every access to the jobs; raises RedisError or OSError where Redis does not answer."""

    def __init__(self, redis: Redis, prefix: str, timing: Timing) -> None:
        base = f"{prefix}{{webhooks}}:"
        self._due, self._jobs, self._number = f"{base}due", f"{base}jobs", f"{base}number"
        self._endpoints, self.dead = f"{base}endpoints", f"{base}dead"
        self._last = f"{base}last"
        self._timing = timing

        def script(name: str) -> Any:  # noqa: ANN401  redis-py's scripts answer anything
            source = files("server.webhooks").joinpath(f"scripts/{name}.lua").read_text("utf-8")
            return redis.register_script(source)

        self._add, self._claim, self._done = script("add"), script("claim"), script("done")
        self._failed, self._release = script("failed"), script("release")
        self._overdue, self._bury = script("overdue"), script("bury")

    async def add(self, jobs: Sequence[NewJob]) -> int:
        """Add jobs in their order; return how many went to the dead ones for want of room."""
        arguments: list[str | bytes] = []
        for job in jobs:
            arguments += _arguments(job)
        refused = await self._add(
            keys=[self._due, self._jobs, self._number, self._endpoints, self._last],
            args=[_ms(self._timing.hold_s), _MAX_WAITING, *arguments],
        )
        for position in refused:
            job = jobs[position]
            told = Job("", 0, job.app_id, job.url, job.kind, orjson.loads(job.event), job.wanted)
            reason = "too many events wait for this endpoint"
            await self.bury(endpoint_id(job.app_id, job.url), [told], reason)
        return len(refused)

    async def claim(self, token: str, endpoints: int) -> Claim:
        """Take due jobs, each endpoint's for one POST; they come again unless they are settled."""
        now, wait, *taken = await self._claim(
            keys=[self._due, self._jobs, self._number, self._endpoints],
            args=[
                token,
                _ms(self._timing.claim_s),
                min(endpoints, _MAX_ENDPOINTS),
                _MAX_EVENTS,
                _MAX_BYTES,
            ],
        )
        batches = tuple(
            Batch(endpoint.decode(), token, failures, int(now), tuple(_jobs(rest)))
            for endpoint, failures, *rest in taken
        )
        return Claim(batches, wait / 1000 if wait >= 0 else None)

    async def done(self, batch: Batch) -> None:
        """Remove delivered jobs."""
        await self._done(
            keys=[self._due, self._jobs, self._endpoints, self._queue(batch.endpoint)],
            args=[batch.endpoint, batch.token, *(job.id for job in batch.jobs)],
        )

    async def failed(self, batch: Batch, rest_s: float, aside: tuple[Job, float] | None) -> bool:
        """Put the jobs back.

        Args:
            batch: what was claimed.
            rest_s: for so long nothing is posted to the endpoint.
            aside: the job that the endpoint refuses, and seconds until it comes again.

        Returns:
            Whether the endpoint has failed for so long that its `overdue` jobs are given up.

        """
        job, delay = aside if aside is not None else (None, 0.0)
        answer = await self._failed(
            keys=[self._due, self._jobs, self._endpoints, self._queue(batch.endpoint)],
            args=[
                batch.endpoint,
                batch.token,
                _ms(rest_s),
                _ms(self._timing.give_up_s),
                job.id if job is not None else "",
                _ms(delay),
            ],
        )
        return bool(answer == 1)

    async def overdue(self, endpoint: str) -> list[Job]:
        """Return some of the jobs that have been due for longer than they are retried."""
        found = await self._overdue(
            keys=[self._jobs, self._queue(endpoint)],
            args=[_ms(self._timing.give_up_s), _OVERDUE],
        )
        return list(_jobs(found))

    async def bury(self, endpoint: str, jobs: Sequence[Job], reason: str) -> None:
        """Move jobs to the dead ones; those that nobody wants just go."""
        arguments: list[str | bytes] = []
        for job in jobs:
            event = orjson.dumps(job.event)
            arguments += [job.id, str(int(job.wanted)), job.app_id, job.url, job.kind]
            arguments += [reason, event]
        await self._bury(
            keys=[self._jobs, self.dead, self._queue(endpoint)], args=[_MAX_DEAD, *arguments]
        )

    async def release(self, batch: Batch) -> None:
        """Give jobs back at once, whatever became of their POST."""
        await self._release(keys=[self._due, self._endpoints], args=[batch.endpoint, batch.token])

    def _queue(self, endpoint: str) -> str:
        return f"{self._due}:{endpoint}"


def endpoint_id(app_id: str, url: str) -> str:
    """Return the name of an app's URL in Redis."""
    return hashlib.sha256(f"{app_id}\n{url}".encode()).hexdigest()[:16]


def partner(kind: WebhookKind) -> WebhookKind | None:
    """Return the kind that this one undoes, or that undoes it."""
    for begin, end in _PARTNERS.items():
        if kind in {begin, end}:
            return end if kind is begin else begin
    return None


def _arguments(job: NewJob) -> list[str | bytes]:
    endpoint = endpoint_id(job.app_id, job.url)
    end = _PARTNERS.get(job.kind)
    if job.again:
        what, name = "add", ""
    elif end is not None:
        what, name = "recall", f"{_ENDS[end]}:{job.channel}:{job.user_id}"
    elif job.kind in _ENDS:
        what, name = "hold", f"{_ENDS[job.kind]}:{job.channel}:{job.user_id}"
    else:
        what, name = "add", ""
    body = {
        "app": job.app_id,
        "url": job.url,
        "kind": job.kind,
        "wanted": job.wanted,
        "event": orjson.Fragment(job.event),
    }
    wanted = str(int(job.wanted))
    return [endpoint, what, name, wanted, str(job.at_us), orjson.dumps(body)[1:]]


def _jobs(found: Sequence[bytes]) -> Iterable[Job]:
    for job_id, text in zip(found[::2], found[1::2], strict=True):
        job = orjson.loads(text or b"{}")
        yield Job(
            job_id.decode(),
            job.get("since", 0),
            job.get("app", ""),
            job.get("url", ""),
            job.get("kind", ""),
            job.get("event", {}),
            job.get("wanted", False),
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
