"""Fixtures: a plain Pusher installation of two nodes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.broker.pair import CONFIGURATION, Pair
from tests.harness import Server, started


@pytest.fixture(scope="session")
def shared_pair(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes on the shared Valkey, with small limits, for the whole session."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "bellhop.toml").write_text(CONFIGURATION)
    settings = {
        "REDIS_URL": shared_server.redis_url,
        "BELLHOP_REDIS_PREFIX": f"pair-{uuid.uuid4().hex[:8]}:",
        "BELLHOP_UNLISTED_CHANNELS": "pusher",
        "BELLHOP_REQUIRE_TOKEN": "false",
    }
    arguments = ("--config", str(folder / "bellhop.toml"))
    with (
        started(folder / "first.log", settings, *arguments) as first,
        started(folder / "second.log", settings, *arguments) as second,
    ):
        yield Pair((first, second), settings, arguments)


@pytest.fixture
async def pair(shared_pair: Pair) -> Pair:
    """The shared pair; a test may end neither node, nor rely on what others did there."""
    return shared_pair
