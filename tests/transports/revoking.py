"""How tests revoke, and see that it was done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.harness import (
    APP_ID,
    ROOT,
    Client,
    Server,
)

SUCCEEDED: Final = "pusher_internal:subscription_succeeded"
ERROR: Final = "pusher:subscription_error"
REVOKED: Final = {"code": 4009, "message": "the token was revoked"}


async def revoke(server: Server, by: str = "http", *, undo: bool = False, **named: str) -> None:
    """Revoke, or undo it, by one of the entrances."""
    asked = {**named, **({"undo": True} if undo else {})}
    if by == "http":
        answer = await server.api("POST", f"/apps/{APP_ID}/revocations", asked)
        assert answer.status_code == 200, answer.text
        assert bool(answer.json().get("id")) is not undo
    elif by == "cli":
        options = [f"--{what}={value}" for what, value in named.items()]
        answered = await command(server, *options, *(["--undo"] if undo else []))
        assert answered.returncode == 0, answered.stderr
    else:
        async with server.redis() as redis:
            await redis.publish("bellhop:revoke", json.dumps(asked))


async def command(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `bellhop revoke`."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "server", "revoke", "--url", server.url, *options],
        env=server.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


async def recorded(server: Server, name: str) -> dict[str, Any] | None:
    """Return what Redis keeps of a revocation, such as `sub:staff-1`."""
    async with server.redis() as redis:
        text: Any = await redis.hget("bellhop:revocations", name)
    return json.loads(text) if text is not None else None


async def ended(client: Client) -> None:
    """Await that a connection is closed for good, and say nothing else before it."""
    code, before = await client.closed()
    assert code == 4009
    assert [frame["data"] for frame in before] == [REVOKED]


@contextlib.asynccontextmanager
async def on_both(
    pair: tuple[Server, Server], *channels: str, **claims: Any
) -> AsyncIterator[list[Client]]:
    """Open the same staff member's clients on both nodes."""
    async with pair[0].staff(*channels, **claims) as one, pair[1].staff(*channels, **claims) as two:
        yield [one, two]


def somebody() -> str:
    """Return a subject, or an id, that no other test speaks of."""
    return f"staff-{uuid.uuid4().hex[:12]}"
