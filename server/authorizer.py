"""The callback authorizer: the backend is asked over HTTP whether somebody may enter a channel.

No answer is a refusal, always. What the backend has answered is good for seconds, questions that
are alike are asked once, and a backend that does not answer is left alone for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple

import httpx
import orjson
import structlog

from auth.apps import App
from auth.principal import Principal
from auth.signatures import sign

MAX_CACHE_S: Final = 60.0
"""How long an answer may count at most, whatever the backend says."""
MAX_REFUSED_CACHE_S: Final = 5.0
"""The same for a refusal: who was just let in by the backend is not to wait long."""
_MAX_CACHED: Final = 16_384
_MAX_AT_ONCE: Final = 64
_MAX_WAITING: Final = 10_000
"""Questions that are asked or wait for it."""
_PATIENCE: Final = 5
"""A question waits for its turn as long as so many deadlines."""
_MAX_ANSWER: Final = 64 * 1024
_FAILURES: Final = 5
"""In a row; then the backend is left alone."""
_REST_S: Final = 5.0
_ALONE: Final = "the authorizer does not answer and is left alone for some seconds"
_TOO_MANY: Final = "too many questions wait for the authorizer"
_NO_ANSWER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
"""Beside 500 and up: statuses that say something of the backend and nothing of the question."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the backend says."""

    allowed: bool
    reason: str = ""
    """Why not; for the client."""
    ttl_s: float | None = None
    """For how much longer the backend lets it count, where it says so."""


class _Key(NamedTuple):
    app_id: str
    channel: str
    sub: str
    jti: str | None
    claims: bytes


@dataclass(frozen=True, slots=True)
class _Cached:
    answer: Answer
    asked_at: float
    until: float


class _Failed(Exception):
    """There is no answer to the question."""

    def __init__(self, reason: str, *, of_backend: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.of_backend = of_backend
        """Whether another question would have failed too."""


class _Breaker:
    """Says whether a backend is to be asked: not for a while after failures in a row."""

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._rests_until: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the backend has failed too often, and not answered since."""
        return self._rests_until is not None

    @property
    def may_ask(self) -> bool:
        """Whether one may be asked: always, or, after a rest, one that shows how things are."""
        if self._rests_until is None:
            return True
        return not self._probing and self._clock() >= self._rests_until

    def asking(self) -> None:
        """Note that one is asked."""
        self._probing = self.open

    def answered(self) -> bool:
        """Note an answer; True where all may be asked again."""
        was_open = self.open
        self._failures, self._rests_until, self._probing = 0, None, False
        return was_open

    def failed(self) -> bool:
        """Note a failure; True where the backend is to be left alone from now on."""
        self._failures += 1
        self._probing = False
        if self._failures < _FAILURES:
            return False
        was_open = self.open
        # Nodes that lost their backend together do not ask again together.
        self._rests_until = self._clock() + _REST_S * (1.0 + self._jitter() / 2)
        return not was_open


class Authorizer:
    """Asks a backend; `run` must be running."""

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float = 3.0,
        cache_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take the backend's URL, how long an answer may take, and how long it counts."""
        self._url = url
        self._deadline_s = deadline_s
        self._cache_s = min(cache_s, MAX_CACHE_S)
        self._clock = clock
        self._breaker = _Breaker(clock, jitter)
        self._cache: OrderedDict[_Key, _Cached] = OrderedDict()
        self._asked: dict[_Key, asyncio.Future[Answer]] = {}
        self._turns = asyncio.Semaphore(_MAX_AT_ONCE)
        self._client: httpx.AsyncClient | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self.counts: Counter[str] = Counter()
        """Questions by what became of them."""

    @property
    def resting(self) -> bool:
        """Whether the backend is left alone because it does not answer."""
        return self._breaker.open

    def ask(
        self, app: App, socket_id: str, channel: str, principal: Principal
    ) -> asyncio.Future[Answer]:
        """Ask whether somebody may enter a channel; the future never has an exception.

        To cancel it is to stop waiting: others may wait for the same answer.
        """
        claims = {"sub": principal.sub, **principal.claims()}
        digest = hashlib.sha256(orjson.dumps(claims)).digest()
        key = _Key(app.id, channel, principal.sub, principal.jti, digest)
        cached = self._from_cache(key)
        if cached is not None:
            self.counts["cached"] += 1
            return _done(cached)
        shared = self._asked.get(key)
        if shared is None:
            refusal = self._refusal()
            if refusal is not None:
                return _done(refusal)
            question = {"socket_id": socket_id, "channel": channel, "claims": claims}
            shared = self._start(app, key, orjson.dumps(question))
        else:
            self.counts["shared"] += 1
        own: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        shared.add_done_callback(partial(_pass_on, own))
        return own

    async def run(self) -> None:
        """Ask what is to be asked until cancelled."""
        try:
            async with (
                httpx.AsyncClient(
                    timeout=self._deadline_s,
                    follow_redirects=False,
                    limits=httpx.Limits(
                        max_connections=_MAX_AT_ONCE, max_keepalive_connections=_MAX_AT_ONCE
                    ),
                    headers={"User-Agent": "Bellhop", "Accept": "application/json"},
                ) as self._client,
                asyncio.TaskGroup() as self._tasks,
            ):
                await asyncio.get_running_loop().create_future()
        finally:
            self._client = self._tasks = None
            for question in list(self._asked.values()):
                question.set_result(Answer(allowed=False, reason="the server is stopping"))
            self._asked.clear()

    def _refusal(self) -> Answer | None:
        """Refuse what cannot be asked now."""
        if self._tasks is None:
            return Answer(allowed=False, reason="the authorizer cannot be asked now")
        if len(self._asked) >= _MAX_WAITING:
            self.counts["too_many"] += 1
            return Answer(allowed=False, reason=_TOO_MANY)
        if not self._breaker.may_ask:
            self.counts["left_alone"] += 1
            return Answer(allowed=False, reason=_ALONE)
        return None

    def _start(self, app: App, key: _Key, body: bytes) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[key] = future
        if self._tasks is not None:
            self._tasks.create_task(self._settle(app, key, body, future))
        return future

    async def _settle(
        self, app: App, key: _Key, body: bytes, future: asyncio.Future[Answer]
    ) -> None:
        answer = await self._judged(app, key, body)
        # Cancelled, the question stays for `run` to answer: nobody waits for ever.
        del self._asked[key]
        self.counts["allowed" if answer.allowed else "refused"] += 1
        future.set_result(answer)

    async def _judged(self, app: App, key: _Key, body: bytes) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_s * _PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            self.counts["too_many"] += 1
            return Answer(allowed=False, reason=_TOO_MANY)
        try:
            # While this one waited, others may have shown that nobody answers.
            if not self._breaker.may_ask:
                self.counts["left_alone"] += 1
                return Answer(allowed=False, reason=_ALONE)
            self._breaker.asking()
            answer, counts = await self._answered(app, key, body)
        finally:
            self._turns.release()
        if counts:
            self._keep(key, answer)
        return answer

    async def _answered(self, app: App, key: _Key, body: bytes) -> tuple[Answer, bool]:
        """Ask; also say whether the answer is one, and not the lack of one."""
        try:
            answer = await self._post(app, body)
        except _Failed as failure:
            self.counts["failed"] += 1
            log.warning("authorizer.failed", app=app.id, channel=key.channel, reason=failure.reason)
            answer = Answer(allowed=False, reason=failure.reason)
            if failure.of_backend:
                if self._breaker.failed():
                    log.error("authorizer.left_alone", reason=failure.reason)
                return answer, False
        if self._breaker.answered():
            log.info("authorizer.answers_again")
        return answer, True

    # --- asking ----------------------------------------------------------------------------------

    async def _post(self, app: App, body: bytes) -> Answer:
        """Ask the backend; raises `_Failed`."""
        try:
            # The client's own limit is for each step of a request; this one is for all of it.
            async with asyncio.timeout(self._deadline_s):
                return await self._exchange(app, body)
        except (TimeoutError, httpx.TimeoutException):
            raise _Failed("the authorizer did not answer in time") from None
        except httpx.ConnectError:
            raise _Failed("the authorizer cannot be reached") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            raise _Failed("the connection to the authorizer failed") from None
        except _Failed:
            raise
        except Exception:
            # A fault of ours costs this one question, not the node and everybody on it.
            log.exception("authorizer.broken", app=app.id)
            raise _Failed("the server failed to ask the authorizer") from None

    async def _exchange(self, app: App, body: bytes) -> Answer:
        client = self._client
        if client is None:
            raise _Failed("the server is stopping")
        headers = {
            "Content-Type": "application/json",
            "X-Pusher-Key": app.key,
            "X-Pusher-Signature": sign(app.secret, body.decode()),
        }
        async with client.stream("POST", self._url, content=body, headers=headers) as response:
            status, content = response.status_code, bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_ANSWER:
                    raise _Failed("the authorizer's answer is too long")
        if status != HTTPStatus.OK:
            of_backend = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _NO_ANSWER
            raise _Failed(f"the authorizer answered {status}", of_backend=of_backend)
        return _read(bytes(content))

    # --- remembering -----------------------------------------------------------------------------

    def _keep(self, key: _Key, answer: Answer) -> None:
        lasts_s = self._cache_s if answer.ttl_s is None else min(answer.ttl_s, MAX_CACHE_S)
        if not answer.allowed:
            lasts_s = min(lasts_s, MAX_REFUSED_CACHE_S)
        if lasts_s <= 0:
            return
        now = self._clock()
        self._cache[key] = _Cached(answer, now, now + lasts_s)
        if len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)

    def _from_cache(self, key: _Key) -> Answer | None:
        cached = self._cache.get(key)
        if cached is None:
            return None
        now = self._clock()
        if now >= cached.until:
            del self._cache[key]
            return None
        if cached.answer.ttl_s is None:
            return cached.answer
        return replace(cached.answer, ttl_s=cached.answer.ttl_s - (now - cached.asked_at))


def _read(content: bytes) -> Answer:
    """Read a backend's answer; raises `_Failed`."""
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise _Failed("the authorizer's answer is not valid JSON") from None
    allowed = said.get("allowed") if isinstance(said, dict) else None
    # Not what counts as true: "false" does.
    if not isinstance(allowed, bool):
        raise _Failed('the authorizer\'s answer has no "allowed" of true or false')
    ttl = said.get("ttl")
    good = isinstance(ttl, int | float) and not isinstance(ttl, bool) and math.isfinite(ttl)
    if ttl is not None and not (good and ttl >= 0):
        raise _Failed('the authorizer\'s "ttl" is not a number of seconds')
    reason = "" if allowed else "the authorizer refuses it"
    return Answer(allowed, reason, None if ttl is None else float(ttl))


def _pass_on(own: asyncio.Future[Answer], shared: asyncio.Future[Answer]) -> None:
    if not own.done():
        own.set_result(shared.result())


def _done(answer: Answer) -> asyncio.Future[Answer]:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    future.set_result(answer)
    return future
