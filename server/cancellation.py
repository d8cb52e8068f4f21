"""What redis-py makes of a task that ends while it sends."""

from __future__ import annotations

import asyncio


def raise_if_cancelled(beside: int = 0) -> None:
    """Raise CancelledError where a call of Redis has swallowed it; after it, in a loop.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 returns instead of raising
    when the cancellation comes as the sending ends. ``beside`` is what `cancellations` were known.
    """
    if cancellations() > beside:
        raise asyncio.CancelledError


def cancellations() -> int:
    """Return how often this task was cancelled so far.

    Whoever goes on where a TaskGroup has failed asks before it goes on: the group cancels the task
    that waits for it, and before Python 3.13 leaves that standing.
    """
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
