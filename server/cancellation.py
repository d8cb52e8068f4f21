"""What redis-py makes of a task that ends while it sends."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raise CancelledError where a call of Redis has swallowed it; after it, in a loop.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 returns instead of raising
    when the cancellation comes as the sending ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
