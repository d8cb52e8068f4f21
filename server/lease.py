"""A lease in Redis: what one node does at a time, for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.keys import Keys
from server.cancellation import raise_if_cancelled

LASTS_S: Final = 5.0
"""How long a lease outlives its holder's last renewal."""
_MARGIN: Final = 0.1
"""By which fraction earlier a holder stops than Redis would let the lease go."""


class Lease:
    """One node's side of a lease; `renew` is called again and again, whether it is held or not.

    Each time the lease is given to somebody, that is under a new token, a whole number that rises:
    what a former holder still asks of Redis under its own is told from the present one's. Its own
    clock tells a holder to stop before Redis can have given the lease away, so that one that was
    slow, or cut off, does not go on.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        of: str,
        *,
        lasts_s: float = LASTS_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a lease; ``of`` is the name of the key in whose slot it is."""
        self.key = keys.beside(of, "lease")
        self._last = keys.beside(of, "last-lease")
        self._lasts_s = lasts_s
        self._clock = clock
        scripts = files("server.broker").joinpath("scripts")
        self._renew = redis.register_script(scripts.joinpath("lease.lua").read_text("utf-8"))
        self._release = redis.register_script(scripts.joinpath("release.lua").read_text("utf-8"))
        self._until = 0.0
        self._vacant_since: float | None = None
        # A renewal that is under way must not take again what is released behind its back.
        self._asking = asyncio.Lock()
        self.token = 0
        """The present one, or the last; good while `held`."""

    @property
    def held(self) -> bool:
        """Whether this node may act, as far as it can tell without asking."""
        return self._clock() < self._until

    @property
    def vacant(self) -> bool:
        """Whether nobody had it when this node asked, which then hesitated."""
        return self._vacant_since is not None

    @property
    def period_s(self) -> float:
        """How often to `renew`."""
        return self._lasts_s / 4

    async def renew(self, *, hesitate_s: float = 0.0) -> bool:
        """Keep the lease, or take it where nobody has it; raises as Redis' client does.

        ``hesitate_s`` is for how long nobody must have had it before this node takes it.
        """
        async with self._asking:
            asked = self._clock()
            since = self._vacant_since
            hesitates = hesitate_s > 0.0 and (since is None or asked - since < hesitate_s)
            answer: int = await self._renew(
                keys=[self.key, self._last],
                args=[self.token, round(self._lasts_s * 1000), int(hesitates)],
            )
            self._vacant_since = None if answer >= 0 else asked if since is None else since
            self.token = max(answer, 0)
            # From when it was asked: Redis counts from when it answered.
            self._until = asked + self._lasts_s * (1.0 - _MARGIN) if self.token else 0.0
            return self.held

    def holds(self, token: int) -> bool:
        """Whether what was begun under a token may go on."""
        return token == self.token and self.held

    async def keep(self) -> None:
        """Renew until cancelled, then let it go."""
        try:
            while True:
                with suppress(RedisError, OSError):
                    await self.renew()
                raise_if_cancelled()
                await asyncio.sleep(self.period_s)
        finally:
            await self.release()

    def lost(self, token: int) -> None:
        """Learn from Redis that what was asked under a token is not this node's to ask."""
        if token == self.token:
            self.token, self._until = 0, 0.0

    async def release(self) -> None:
        """Stop at once, and let another node have it if Redis can be told."""
        self._until = 0.0
        async with self._asking:
            token, self.token, self._until = self.token, 0, 0.0
            if token:
                with suppress(RedisError, OSError):
                    await self._release(keys=[self.key], args=[token])
