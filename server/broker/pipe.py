"""One connection to Redis on which a script is called many times over, without waiting in between.

redis-py's pipelines wait for their answers before the next one leaves, and take a connection from
the pool for each. Here calls leave as they come, in order, and answers are matched as they return.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import NoScriptError, RedisError, ResponseError

from server.errors import BrokerUnavailable

Argument = str | bytes | int

_AT_ONCE: Final = 128
"""Calls that leave in one write."""
_MAX_UNANSWERED: Final = 1_024
_MAX_WAITING: Final = 20_000
"""Calls that may wait for Redis; more are refused at once."""
_ANSWER_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = (0.05, 1.0)

log = structlog.get_logger()


class _Call:
    """One call of the script and who waits for its answer."""

    __slots__ = ("answer", "command", "sent_at")

    def __init__(self, command: tuple[Argument, ...], answer: asyncio.Future[object]) -> None:
        self.command = command
        self.answer = answer
        self.sent_at = 0.0


class ScriptPipe:
    """Calls one Lua script in Redis; `run` owns the connection."""

    def __init__(self, pool: ConnectionPool, script: str) -> None:
        self._pool = pool
        self._script = script
        self._sha = b""
        self._waiting: deque[_Call] = deque()
        self._unanswered: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._connected = False

    @property
    def ready(self) -> bool:
        """Whether the connection stands."""
        return self._connected

    def call(
        self, keys: Sequence[Argument], arguments: Sequence[Argument]
    ) -> asyncio.Future[object]:
        """Call the script; the future has its answer, or raises `BrokerUnavailable`."""
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if not self._connected:
            answer.set_exception(BrokerUnavailable("Redis does not answer"))
        elif len(self._waiting) >= _MAX_WAITING:
            answer.set_exception(BrokerUnavailable("too many events wait for Redis"))
        else:
            self._waiting.append(_Call((len(keys), *keys, *arguments), answer))
            self._wake.set()
        return answer

    async def run(self) -> None:
        """Keep a connection until cancelled; what a lost one had not answered fails with it."""
        retry = _RETRY_S[0]
        while True:
            connection: AbstractConnection | None = None
            try:
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it so
                await self._load(connection)
                retry = _RETRY_S[0]
                self._connected = True
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._write(connection))
                    tasks.create_task(self._read(connection))
            except* (RedisError, OSError) as group:
                if self._connected:
                    cause = group.exceptions[0]
                    log.warning("publishing.lost", error=str(cause)[:200])
            finally:
                self._fail("Redis was lost before it answered")
                if connection is not None:
                    await connection.disconnect(nowait=True)
                    await self._pool.release(connection)
            await asyncio.sleep(retry * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret
            retry = min(retry * 2, _RETRY_S[1])

    async def _load(self, connection: AbstractConnection) -> None:
        await connection.send_command("SCRIPT", "LOAD", self._script)
        sha = await connection.read_response()
        if not isinstance(sha, bytes):
            raise ConnectionError("Redis answered SCRIPT LOAD with something else")
        self._sha = sha

    async def _write(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._waiting and len(self._unanswered) < _MAX_UNANSWERED:
                count = min(len(self._waiting), _AT_ONCE)
                calls = [self._waiting.popleft() for _ in range(count)]
                now = loop.time()
                for call in calls:
                    call.sent_at = now
                self._unanswered.extend(calls)
                commands = [("EVALSHA", self._sha, *call.command) for call in calls]
                await connection.send_packed_command(connection.pack_commands(commands))
            self._wake.clear()
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S / 2):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if self._unanswered and loop.time() - self._unanswered[0].sent_at > _ANSWER_TIMEOUT_S:
                raise ConnectionError("Redis does not answer a publish")

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            try:
                answer = await connection.read_response(disable_decoding=True, timeout=math.inf)
            except NoScriptError:
                # Somebody flushed Redis' scripts. The connection is made anew, which loads it.
                raise ConnectionError("Redis has forgotten the publish script") from None
            except ResponseError as error:
                answer = error
            call = self._unanswered.popleft()
            if not call.answer.done():
                if isinstance(answer, ResponseError):
                    call.answer.set_exception(BrokerUnavailable(f"Redis: {answer}"))
                else:
                    call.answer.set_result(answer)
            if self._waiting:
                self._wake.set()

    def _fail(self, reason: str) -> None:
        self._connected = False
        for call in (*self._unanswered, *self._waiting):
            if not call.answer.done():
                call.answer.set_exception(BrokerUnavailable(reason))
        self._unanswered.clear()
        self._waiting.clear()
