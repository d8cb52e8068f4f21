"""The pasts of connections: looked up once, shared by who asks meanwhile, and not kept for ever."""

from __future__ import annotations

import asyncio

from server.broker.records import Heard
from server.pasts import Past, Pasts

KEY = ("1.1", "instance page-1 staff-1")
HEARD = Heard("0.9", "news", "node", since_ms=1, entered_ms=2, number=3, epoch="e")


async def test_past_is_looked_up_once_however_many_ask() -> None:
    """A page that comes back subscribes to all its channels at once."""
    pasts, asked, answer = Pasts(), 0, asyncio.Event()

    async def look_up() -> Past:
        nonlocal asked
        asked += 1
        await answer.wait()
        return {"news": [HEARD]}

    both = asyncio.gather(*(pasts.of(KEY, look_up) for _ in range(2)))
    await asyncio.sleep(0)
    assert pasts.known(KEY) is None
    answer.set()
    first, second = await both
    assert first is second is pasts.known(KEY) is await pasts.of(KEY, look_up)
    assert (first, asked) == ({"news": [HEARD]}, 1)


async def test_past_that_could_not_be_looked_up_is_asked_for_again() -> None:
    """Whoever waited for it learns that it failed, too."""
    pasts = Pasts()

    async def fails() -> Past:
        await asyncio.sleep(0)
        raise OSError

    outcomes = await asyncio.gather(
        *(pasts.of(KEY, fails) for _ in range(2)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [OSError, asyncio.CancelledError]

    async def nothing() -> Past:
        return {}

    assert await pasts.of(KEY, nothing) == {}


async def test_past_is_kept_for_one_turn_and_forgotten_in_the_next() -> None:
    """Nothing is left of connections that came long ago, and no timer for each."""
    pasts = Pasts()

    async def look_up() -> Past:
        return {"news": [HEARD]}

    await pasts.of(KEY, look_up)
    pasts.age()
    assert pasts.known(KEY) == {"news": [HEARD]}
    pasts.age()
    assert pasts.known(KEY) is None
