"""The keys of a tokens' issuer, fetched from where it publishes them (JWKS, RFC 7517).

They are fetched before they are out of date, and at once for a token that names a key which is not
among them, so that an issuer can change its keys at any time. The copy at hand serves for as long
as the issuer cannot be reached. Only the configured URL is ever fetched, never one in a token.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import httpx
import orjson
import structlog

from auth.errors import AuthError, KeysUnavailable, TokenInvalid, UnknownKey
from auth.principal import Principal
from auth.tokens import TokenVerifier, VerificationKey, jwks_keys

MAX_BYTES: Final = 1024 * 1024
MAX_WAITING: Final = 1000
"""Tokens of this node that wait for a fetch; one more is told to come back later."""

_MAX_AGE: Final = re.compile(r'(?:^|[\s,])max-age\s*=\s*"?(\d{1,9})', re.IGNORECASE | re.ASCII)
_UNCACHED: Final = re.compile(r"(?:^|[\s,])no-(?:cache|store)\b", re.IGNORECASE)
_AGE: Final = re.compile(r"\d{1,9}", re.ASCII)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How often keys are fetched, in seconds."""

    timeout_s: float = 5.0
    gap_s: float = 10.0
    """From the end of a fetch that a token asked for, or that failed, to the next for a token."""
    default_s: float = 600.0
    """How long keys are good whose issuer does not say (`Cache-Control: max-age`)."""
    least_s: float = 60.0
    most_s: float = 3600.0
    max_retry_s: float = 300.0
    """Between attempts while the issuer cannot be reached: doubled from the gap up to this."""


class _Unusable(Exception):
    """What came is no answer that keys could be taken from."""


class JwksKeys:
    """One issuer's keys: fetched by `run`, and by nothing else, so there is one fetch at a time."""

    def __init__(
        self, url: str, fixed: Sequence[VerificationKey] = (), pace: Pace | None = None
    ) -> None:
        """Take a URL that the settings have checked; fixed keys are valid beside the fetched."""
        self._url = url
        self._fixed = tuple(fixed)
        self._pace = pace or Pace()
        self._keys = self._fixed
        self._ignored = 0
        self._fetched_at: float | None = None
        self._failures = 0
        self._earliest = 0.0
        self._wanted = asyncio.Event()
        self._flight: asyncio.Future[bool] | None = None
        self._over = False
        self.counts: Counter[str] = Counter()
        """Fetches by outcome, `fetched` or `failed`."""

    def keys(self) -> Sequence[VerificationKey]:
        """Return the keys that are valid now."""
        return self._keys

    @property
    def known(self) -> bool:
        """Whether there is any key: until then no token can be verified."""
        return bool(self._keys)

    def age_s(self) -> float:
        """Return how old the copy of the keys is; NaN where there is none."""
        return float("nan") if self._fetched_at is None else time.monotonic() - self._fetched_at

    def renewal(self) -> asyncio.Future[bool]:
        """Ask for a fetch; the future, which all who ask share, says whether it succeeded.

        That is no later than a gap and a timeout from now, and at once where the last one failed
        a moment ago.
        """
        loop = asyncio.get_running_loop()
        if self._over or (self._failures and loop.time() < self._earliest):
            failed: asyncio.Future[bool] = loop.create_future()
            failed.set_result(False)
            return failed
        if self._flight is None:
            self._flight = loop.create_future()
        self._wanted.set()
        return self._flight

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        loop = asyncio.get_running_loop()
        asked = False
        try:
            async with self._client() as client:
                while True:
                    rest_s = await self._fetch(client)
                    if asked or self._failures:
                        self._earliest = loop.time() + self._pace.gap_s
                    self._land(fetched=not self._failures)
                    asked = await self._rest(rest_s)
        finally:
            self._over = True
            self._land(fetched=False)

    async def _rest(self, rest_s: float) -> bool:
        """Wait until it is time for a fetch; return whether somebody asked for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await self._wanted.wait()
        asked = self._wanted.is_set()
        if asked:
            await asyncio.sleep(max(0.0, self._earliest - asyncio.get_running_loop().time()))
        return asked

    def _land(self, *, fetched: bool) -> None:
        """Tell those who asked before or during a fetch that it is over."""
        self._wanted.clear()
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.set_result(fetched)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=self._pace.timeout_s,
            follow_redirects=False,
            # No proxy on the way to loopback: it would see, and could change, plain HTTP.
            trust_env=urlsplit(self._url).scheme == "https",
            headers={
                "User-Agent": "Bellhop",
                "Accept": "application/jwk-set+json, application/json",
                # What is unpacked cannot be bounded before it is there.
                "Accept-Encoding": "identity",
            },
        )

    async def _fetch(self, client: httpx.AsyncClient) -> float:
        """Fetch once; return after how many seconds to fetch again."""
        try:
            async with (
                asyncio.timeout(self._pace.timeout_s),
                client.stream("GET", self._url) as answer,
            ):
                body = await _body(answer)
            life_s = lifetime_s(answer.headers, self._pace)
            self._take(body)
        except (TimeoutError, httpx.TimeoutException):
            return self._failed(f"no answer within {self._pace.timeout_s:g} s")
        except _Unusable as error:
            return self._failed(str(error))
        except httpx.ConnectError:
            return self._failed("cannot be connected to")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return self._failed(f"failed ({type(error).__name__})")
        except Exception as error:
            # A fault of ours costs this fetch, not the node and everybody on it.
            log.exception("jwks.broken")
            return self._failed(f"the server failed ({type(error).__name__})")
        # Early, and not all nodes at once.
        return life_s * random.uniform(0.7, 0.9)  # noqa: S311  jitter

    def _take(self, body: bytes) -> None:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise _Unusable("answered what is not JSON") from None
        if not isinstance(document, dict):
            raise _Unusable("answered what is not a key set")
        try:
            found = jwks_keys(document)
        except ValueError as error:
            raise _Unusable(str(error)) from None
        keys, ignored = (*self._fixed, *found), len(document["keys"]) - len(found)
        if keys != self._keys or ignored != self._ignored or self._failures:
            log.info("jwks.fetched", url=self._printable, keys=len(found), ignored=ignored)
        self._keys, self._ignored = keys, ignored
        self._fetched_at = time.monotonic()
        self._failures = 0
        self.counts["fetched"] += 1

    def _failed(self, reason: str) -> float:
        if not self._failures:
            log.warning(
                "jwks.lost", url=self._printable, reason=reason, copy=self._fetched_at is not None
            )
        self._failures += 1
        self.counts["failed"] += 1
        wait_s = self._pace.gap_s * 2.0 ** min(self._failures - 1, 30)
        return min(wait_s, self._pace.max_retry_s) * random.uniform(0.7, 1.0)  # noqa: S311  jitter

    @property
    def _printable(self) -> str:
        return urlsplit(self._url)._replace(query="").geturl()


class PatientVerifier:
    """Verifies a token at once where its key is at hand, and else when the keys are fetched."""

    __slots__ = ("_clock", "_keys", "_verifier", "_waiting")

    def __init__(
        self,
        verifier: TokenVerifier,
        keys: JwksKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the verifier and, where its keys are fetched, their source."""
        self._verifier = verifier
        self._keys = keys
        self._clock = clock
        self._waiting = 0

    def verify(self, token: str, now: float) -> Principal:
        """Return whom the token proves; raises `UnknownKey` where `verify_later` may know more."""
        try:
            return self._verifier.verify(token, now)
        except UnknownKey as error:
            if self._keys is None:
                raise TokenInvalid(error.reason) from None
            raise

    def verify_later(self, token: str, answer: Callable[[Principal | AuthError], None]) -> None:
        """Fetch the keys anew, then answer on the event loop, once and for good.

        `KeysUnavailable` means that they could not be fetched: the token may be good.
        """
        loop = asyncio.get_running_loop()
        if self._keys is None or self._waiting >= MAX_WAITING:
            loop.call_soon(answer, self._outcome(token, fetched=self._keys is None))
            return
        self._waiting += 1
        self._keys.renewal().add_done_callback(partial(self._again, token, answer))

    async def verified(self, token: str) -> Principal:
        """Return whom the token proves, waiting for its key if need be; raises `AuthError`."""
        try:
            return self.verify(token, self._clock())
        except UnknownKey:
            pass
        outcome: asyncio.Future[Principal | AuthError] = asyncio.get_running_loop().create_future()
        self.verify_later(token, lambda each: None if outcome.done() else outcome.set_result(each))
        found = await outcome
        if isinstance(found, AuthError):
            raise found
        return found

    def _again(
        self,
        token: str,
        answer: Callable[[Principal | AuthError], None],
        flight: asyncio.Future[bool],
    ) -> None:
        self._waiting -= 1
        answer(self._outcome(token, fetched=flight.result()))

    def _outcome(self, token: str, *, fetched: bool) -> Principal | AuthError:
        try:
            return self._verifier.verify(token, self._clock())
        except UnknownKey as error:
            if fetched:
                return TokenInvalid(error.reason)
            return KeysUnavailable("the keys of the token's issuer cannot be fetched now")
        except AuthError as error:
            return error


async def _body(answer: httpx.Response) -> bytes:
    if answer.status_code != HTTPStatus.OK:
        # A redirect too: who may answer with keys is what the settings say, and nobody else.
        raise _Unusable(f"answered {answer.status_code}")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise _Unusable("answered in an encoding that was not asked for")
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) > MAX_BYTES:
            raise _Unusable(f"answered more than {MAX_BYTES} bytes")
    return bytes(body)


def lifetime_s(headers: httpx.Headers, pace: Pace) -> float:
    """Return for how many seconds an answer may be kept, within bounds."""
    control = headers.get("cache-control", "")
    said = _MAX_AGE.search(control)
    if _UNCACHED.search(control):
        life_s = 0.0
    elif said is None:
        life_s = pace.default_s
    else:
        age = headers.get("age", "0").strip()
        life_s = float(said[1]) - (int(age) if _AGE.fullmatch(age) else 0)
    return min(max(life_s, pace.least_s), pace.most_s)
