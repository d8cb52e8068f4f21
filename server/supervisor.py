"""`bellhop serve --workers N`: N processes on one listening socket, ended and replaced as one.

Workers share the socket, and the embedded Valkey where no Redis is named. Each has a private one
beside, for what the others pass on to it (`server.transports.homes`). Each holds the end of a pipe
from here: when this process dies, however that is, they stop.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import structlog

from server.broker.embedded import EmbeddedValkey
from server.errors import ServerError
from server.transports.homes import private_sockets

_MISCONFIGURED: Final = 2
"""The exit code of a `bellhop` that refuses its configuration."""
_RESTART_S: Final = 1.0
"""Pause before a worker that died is replaced."""

log = structlog.get_logger()


class WorkerFailed(ServerError):
    """A worker could not even start; it has said why."""


async def supervise(
    arguments: Sequence[str],
    *,
    workers: int,
    listening: socket.socket,
    environment: Mapping[str, str],
    embedded_port: int | None,
) -> None:
    """Run the workers until a signal comes.

    Args:
        arguments: of `bellhop serve` for each worker; the sockets are added here.
        workers: how many.
        listening: a bound socket.
        environment: of the workers; `REDIS_URL` is set where Valkey is embedded.
        embedded_port: where to start an embedded Valkey, or ``None``.

    Raises:
        ConfigError: there is no place for the workers' own sockets.
        WorkerFailed: a worker refused to start.

    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop, stopping.set)
    async with AsyncExitStack() as stack:
        directory, homes = stack.enter_context(private_sockets(workers))
        given = dict(environment)
        if embedded_port is not None:
            given["REDIS_URL"] = await stack.enter_async_context(EmbeddedValkey(embedded_port))
        # A socket that is only bound refuses; one that listens queues till the workers are up.
        listening.listen(4096)
        descriptor = listening.fileno()
        command = [sys.executable, "-m", "server", "serve", *arguments, "--fd", str(descriptor)]
        async with asyncio.TaskGroup() as tasks:
            for number, home in enumerate(homes):
                own = [*command, "--home", str(home.fileno()), str(number), str(directory)]
                descriptors = (descriptor, home.fileno())
                keeping = _keep(number, own, descriptors, given, stopping)
                tasks.create_task(_with(home, keeping))


async def _with(home: socket.socket, keeping: Coroutine[Any, Any, None]) -> None:
    """Let a worker's private socket go with the last of its processes: nobody comes for it."""
    with home:
        await keeping


async def _keep(
    number: int,
    command: Sequence[str],
    descriptors: tuple[int, ...],
    environment: Mapping[str, str],
    stopping: asyncio.Event,
) -> None:
    """Keep one worker alive until it is time to stop."""
    while not stopping.is_set():
        worker = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
            env={**environment, "BELLHOP_WORKER": str(number)},
            # Ctrl-C reaches this process alone, which ends the workers in order.
            start_new_session=True,
        )
        ended = asyncio.create_task(worker.wait())
        stopped = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not ended.done():
                with suppress(ProcessLookupError):
                    worker.terminate()
            code = await ended
        if stopping.is_set():
            return
        log.warning("worker.died", worker=number, code=code)
        if code == _MISCONFIGURED:
            raise WorkerFailed("a worker could not start")
        with suppress(TimeoutError):
            async with asyncio.timeout(_RESTART_S):
                await stopping.wait()
