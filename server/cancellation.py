"""What redis-py makes of a task that ends while it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def raise_if_cancelled() -> None:
    """Raise CancelledError where a call of Redis has swallowed it; after it, in a loop.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 returns instead of raising
    when the cancellation comes as the sending ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def lost_while_sending() -> Iterator[None]:
    """Raise ConnectionError where Redis' connection was taken down by whoever reads from it.

    redis-py sends in a task of its own, which then finds no writer, an AttributeError, or one that
    uvloop has closed, a RuntimeError.
    """
    try:
        yield
    except (AttributeError, RuntimeError):
        raise ConnectionError("Redis was lost while it was written to") from None
