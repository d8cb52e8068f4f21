"""One connection to Redis for scripts and commands in great number, without waiting in between.

redis-py's pipelines wait for their answers before the next one leaves, and take a connection from
the pool for each. Here calls leave as they come, in order, and answers are matched as they return.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import structlog
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import NoScriptError, RedisError, ResponseError

from server.cancellation import cancellations, raise_if_cancelled
from server.errors import BrokerRefused, BrokerUnavailable

Argument = str | bytes | int
T = TypeVar("T")

_AT_ONCE: Final = 128
"""Calls that leave in one write."""
_MAX_UNANSWERED: Final = 1_024
_ANSWERS_PER_TURN: Final = 64
"""Answers read before other tasks get their turn, however many are there."""
_MAX_WAITING: Final = 20_000
"""Calls that may wait for Redis; more are refused at once."""
_ANSWER_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = (0.05, 1.0)

log = structlog.get_logger()


class _Call(Generic[T]):
    """One command, who waits for its answer, and what is made of that."""

    __slots__ = ("answer", "command", "read", "sent_at")

    def __init__(
        self,
        command: tuple[Argument, ...],
        answer: asyncio.Future[T],
        read: Callable[[object], T],
    ) -> None:
        self.command = command
        self.answer = answer
        self.read = read
        self.sent_at = 0.0


class Pipe:
    """Calls Lua scripts and commands in Redis, in order; `run` owns the connection."""

    def __init__(self, pool: ConnectionPool, scripts: Mapping[str, str]) -> None:
        """Create a pipe; ``scripts`` are sources by the names they are called by."""
        self._pool = pool
        self._scripts = scripts
        self._shas: dict[str, bytes] = {}
        self._waiting: deque[_Call[Any]] = deque()
        self._unanswered: deque[_Call[Any]] = deque()
        self._wake = asyncio.Event()
        self._connected = False

    @property
    def ready(self) -> bool:
        """Whether the connection stands."""
        return self._connected

    @property
    def behind(self) -> bool:
        """Whether more is asked than may be under way."""
        return len(self._waiting) + len(self._unanswered) >= _MAX_UNANSWERED

    def script(
        self,
        name: str,
        keys: Sequence[Argument],
        arguments: Sequence[Argument],
        read: Callable[[object], T],
    ) -> asyncio.Future[T]:
        """Call a script; the future has what ``read`` makes of its answer.

        The future raises `BrokerUnavailable` where Redis cannot be asked or answers an error, and
        whatever ``read`` raises.
        """
        # The script's digest is known only once there is a connection.
        sha = self._shas.get(name, b"")
        return self.command(("EVALSHA", sha, len(keys), *keys, *arguments), read)

    def command(
        self, command: tuple[Argument, ...], read: Callable[[object], T]
    ) -> asyncio.Future[T]:
        """Send a command; the future as with `script`."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._connected:
            answer.set_exception(BrokerUnavailable("Redis does not answer"))
        elif len(self._waiting) >= _MAX_WAITING:
            answer.set_exception(BrokerUnavailable("too many events wait for Redis"))
        else:
            self._waiting.append(_Call(command, answer, read))
            self._wake.set()
        return answer

    async def run(self) -> None:
        """Keep a connection until cancelled; what a lost one had not answered fails with it."""
        retry = _RETRY_S[0]
        while True:
            connection: AbstractConnection | None = None
            known = cancellations()
            try:
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it so
                await self._load(connection)
                raise_if_cancelled(beside=known)
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
        for name, source in self._scripts.items():
            await connection.send_command("SCRIPT", "LOAD", source)
            sha = await connection.read_response()
            if not isinstance(sha, bytes):
                raise ConnectionError("Redis answered SCRIPT LOAD with something else")
            self._shas[name] = sha

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
                # Their stub says a tuple of one.
                packed = [pack_command(call.command) for call in calls]  # type: ignore[arg-type]  # as said
                await connection.send_packed_command(packed)
                raise_if_cancelled()
            self._wake.clear()
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S / 2):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if self._unanswered and loop.time() - self._unanswered[0].sent_at > _ANSWER_TIMEOUT_S:
                raise ConnectionError("Redis does not answer a command")

    async def _read(self, connection: AbstractConnection) -> None:
        settled = 0
        while True:
            try:
                answer = await connection.read_response(disable_decoding=True, timeout=math.inf)
            except NoScriptError:
                # Somebody flushed Redis' scripts. The connection is made anew, which loads it.
                raise ConnectionError("Redis has forgotten a script") from None
            except ResponseError as error:
                answer = error
            _settle(self._unanswered.popleft(), answer)
            if self._waiting:
                self._wake.set()
            settled += 1
            if settled % _ANSWERS_PER_TURN == 0:
                # Answers that are here already are read without a pause otherwise.
                await asyncio.sleep(0)

    def _fail(self, reason: str) -> None:
        self._connected = False
        for call in (*self._unanswered, *self._waiting):
            if not call.answer.done():
                call.answer.set_exception(BrokerUnavailable(reason))
        self._unanswered.clear()
        self._waiting.clear()


def _settle(call: _Call[T], answer: object) -> None:
    if call.answer.done():
        return
    if isinstance(answer, ResponseError):
        call.answer.set_exception(BrokerRefused(f"Redis: {answer}"))
        return
    try:
        call.answer.set_result(call.read(answer))
    except (TypeError, ValueError, IndexError) as error:
        unexpected = BrokerUnavailable(f"Redis answered with something else: {error}")
        call.answer.set_exception(unexpected)
