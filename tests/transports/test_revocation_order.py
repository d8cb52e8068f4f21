"""Revoked and undone, or the other way round: the last word holds, whichever node is slow."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.harness import Client, Server, eventually, token
from tests.transports.revoking import ended, recorded, revoke, somebody


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    """What closes with the test."""
    async with contextlib.AsyncExitStack() as opened:
        yield opened


@contextlib.contextmanager
def held_up(node: Server) -> Iterator[None]:
    """Stop a node's process for a while; what it is told meanwhile it hears afterwards."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


async def has_written(node: Server) -> None:
    """Await that a node has nothing to write: a request is done after what was PUBLISHed."""
    await revoke(node, sub=somebody(), undo=True)


async def is_revoked(node: Server, sub: str) -> dict[str, Any]:
    """Await that a person is revoked; return what Redis keeps of it."""
    entry: dict[str, Any] = await eventually(lambda: recorded(node, f"sub:{sub}"))
    return entry


async def is_not_revoked(node: Server, sub: str) -> None:
    """Await that a person is not revoked any more."""

    async def lifted() -> bool:
        return await recorded(node, f"sub:{sub}") is None

    await eventually(lifted)


@pytest.mark.parametrize("by", ["redis", "http"])
async def test_slow_node_does_not_revoke_what_was_undone(
    pair: tuple[Server, Server], by: str, stack: contextlib.AsyncExitStack
) -> None:
    """Whoever is back meanwhile stays, and every node lets them in."""
    one, slow = pair
    sub = somebody()
    jwt = token(sub)
    with held_up(slow):
        await revoke(one, "redis", sub=sub)
        await is_revoked(one, sub)
        await revoke(one, by, sub=sub, undo=True)
        await is_not_revoked(one, sub)
        back = await stack.enter_async_context(one.client(f"/t/{jwt}"))
    await has_written(slow)
    assert await recorded(one, f"sub:{sub}") is None
    await back.quiet()
    for node in pair:
        async with node.client(f"/t/{jwt}") as client:
            await client.quiet()


@pytest.mark.parametrize("by", ["redis", "http"])
async def test_slow_node_does_not_undo_what_was_revoked(
    pair: tuple[Server, Server], by: str
) -> None:
    """Not for a moment, nor is it revoked a second time: tokens issued since then stay good."""
    one, slow = pair
    sub = somebody()
    jwt = token(sub)
    await revoke(one, sub=sub)
    with held_up(slow):
        await revoke(one, "redis", sub=sub, undo=True)
        await is_not_revoked(one, sub)
        await revoke(one, by, sub=sub)
        entry = await is_revoked(one, sub)
    await has_written(slow)
    assert await recorded(one, f"sub:{sub}") == entry
    for node in pair:
        async with node.connect(f"/t/{jwt}") as socket:
            await ended(Client(socket))


async def test_last_word_of_many_holds(pair: tuple[Server, Server]) -> None:
    """Published back and forth without a pause, then said otherwise over HTTP on either node."""
    async with pair[0].redis() as redis:
        for number in range(10):
            sub, last = somebody(), number % 2 == 0
            for word in (not last, last, not last):
                undo = "" if word else ', "undo": true'
                await redis.publish("bellhop:revoke", f'{{"sub": "{sub}"{undo}}}')
            await revoke(pair[number // 2 % 2], sub=sub, undo=not last)
            for node in pair:
                await has_written(node)
            assert (await recorded(pair[0], f"sub:{sub}") is not None) == last
