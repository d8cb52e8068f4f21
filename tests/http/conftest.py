"""Fixtures of the HTTP API's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.harness import Server, started
from tests.http.state import State


@pytest.fixture(scope="session")
def shared_plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A plain Pusher server: channels outside the contract, and no tokens."""
    log = tmp_path_factory.mktemp("plain") / "server.log"
    plain = {"BELLHOP_UNLISTED_CHANNELS": "pusher", "BELLHOP_REQUIRE_TOKEN": "false"}
    with started(log, plain) as running:
        yield running


@pytest.fixture
async def plain(shared_plain_server: Server) -> Server:
    """The shared plain server; a test may not rely on what others did there."""
    return shared_plain_server


@pytest.fixture
async def state(plain: Server) -> AsyncIterator[State]:
    """What a node would have written into the plain server's Redis, written by hand."""
    async with plain.redis() as redis, State.of(redis, "bellhop:") as state:
        yield state
