"""A node's part in revoking: what is heard, when it is in force, what is read anew."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import orjson
import uvloop
from redis.asyncio import Redis

from auth.revocations import Revocations
from server.broker.keys import Keys
from server.revoking import Revoking
from tests.people import principal


def entry(value: str, at: float) -> dict[str, Any]:
    """Return a revocation of a person as the nodes tell each other."""
    return {"id": "1", "what": "sub", "value": value, "at": at, "until": at + 60}


class SlowRedis:
    """Redis whose answer is on its way until it is told to come."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    def register_script(self, source: str) -> None:
        del source

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        del key
        self.asked.set()
        await self.answers.wait()
        return {b"sub:known": orjson.dumps(entry("known", time.time() - 1))}


def revoking(redis: object, revocations: Revocations, apply: Any = lambda: None) -> Revoking:
    """Return a node's part, over this Redis."""
    known = cast("Redis", redis)
    return Revoking(known, Keys("bellhop:"), revocations, lasts_s=60, apply=apply)


def test_revocation_of_later_is_in_force_when_it_is_applied() -> None:
    """Connections are judged once, at its time: it must not be too early for that."""

    async def heard() -> None:
        for step in range(30):
            revocations, judged = Revocations(), asyncio.Event()
            known: list[bool] = []

            def apply(revocations: Revocations = revocations, known: Any = known) -> None:
                curtailed = revocations.curtail(principal("staff-1"), time.time())
                known.append(curtailed is None)
                judged.set()  # noqa: B023  awaited before the next one is made

            part = revoking(SlowRedis(), revocations, apply)
            part.hear(entry("staff-1", time.time() + 0.003 + step * 0.00037))
            await judged.wait()
            assert known == [True]

    uvloop.run(heard())


async def test_revocation_that_is_heard_while_all_are_read_is_kept() -> None:
    """Redis may have answered before it was written, and the answer come after it was told."""
    redis, revocations = SlowRedis(), Revocations()
    part = revoking(redis, revocations)
    loading = asyncio.create_task(part.load())
    await redis.asked.wait()
    part.hear(entry("staff-1", time.time()))
    redis.answers.set()
    await loading
    for sub in ("known", "staff-1"):
        assert revocations.curtail(principal(sub), time.time()) is None, sub
