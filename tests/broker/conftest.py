"""Fixtures: a plain Pusher installation of two nodes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.broker.pair import CONFIGURATION, Pair
from tests.broker.returns import SETTINGS, Nodes, Place
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


@pytest.fixture(scope="session")
def shared_pinging_nodes(
    shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    """Two nodes that ping every second; a test may end neither."""
    folder = tmp_path_factory.mktemp("replay")
    prefix = f"replay-{uuid.uuid4().hex[:8]}:"
    settings = {
        **SETTINGS,
        "REDIS_URL": shared_server.redis_url,
        "BELLHOP_REDIS_PREFIX": prefix,
        # More than any test publishes within seconds, however fast the machine is.
        "BELLHOP_HISTORY_EVENTS": "10000",
    }
    with (
        started(folder / "one.log", settings) as one,
        started(folder / "two.log", settings) as two,
    ):
        yield one, two


@pytest.fixture
async def nodes(shared_pinging_nodes: Nodes) -> Nodes:
    """Two nodes that ping every second; a test may end neither."""
    return shared_pinging_nodes


@pytest.fixture
def place() -> Place:
    """A channel that no other test speaks of."""
    return Place()
