"""Fixtures: real Pusher clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.clients.driver import PusherJs, pusher_js_in_node


@pytest.fixture
async def pusher_js() -> AsyncIterator[PusherJs]:
    """One pusher-js in Node, not yet opened."""
    async with pusher_js_in_node() as client:
        yield client
