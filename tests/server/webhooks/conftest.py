"""Fixtures: a bare Valkey, and a backend."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.broker.embedded import EmbeddedValkey
from server.broker.redis import connect
from tests.harness import free_port_pair
from tests.server.webhooks.ground import Ground
from tests.server.webhooks.receiver import Receiver, receiving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def valkey() -> AsyncIterator[str]:
    """A bare Valkey for the tests of one module: its URL."""
    async with EmbeddedValkey(free_port_pair()) as url:
        yield url


@pytest.fixture
async def ground(valkey: str) -> AsyncIterator[Ground]:
    """The module's Valkey, under a prefix of the test's own."""
    redis = connect(valkey)
    yield Ground(redis, f"test-{uuid.uuid4().hex[:12]}:")
    await redis.aclose()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A backend that takes everything."""
    async with receiving() as receiver:
        yield receiver
