"""Fixtures: a shared server for tests that leave it as it was, and servers of a test's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from playwright.async_api import Browser, async_playwright

from tests.harness import Server, ended, make_server, started

StartServer = Callable[..., Awaitable[Server]]

CHROMIUM_FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# How long it takes to make an input says how busy the machine is, and nothing about us.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with default settings and an embedded Valkey, for the whole session."""
    log = tmp_path_factory.mktemp("shared") / "server.log"
    with started(log, {}) as running:
        yield running


@pytest.fixture
async def server(shared_server: Server) -> Server:
    """The shared server; a test may not stop it, nor rely on what others published."""
    return shared_server


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Start servers of the test's own, with settings and arguments as given."""
    with ExitStack() as stack:
        count = 0

        async def start(*arguments: str, **settings: str) -> Server:
            nonlocal count
            count += 1
            running = make_server(tmp_path / f"server-{count}.log", settings, *arguments)
            stack.enter_context(ended(running))
            running.start()
            await running.wait_until_ready()
            return running

        yield start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium; a machine without one fails these tests."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=CHROMIUM_FLAGS,
            chromium_sandbox=False,
        )
        yield chromium
        await chromium.close()
