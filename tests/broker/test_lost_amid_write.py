"""A Redis that goes while something is written to it is lost, which every caller expects."""

from __future__ import annotations

import pytest
import uvloop
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from server.broker.redis import connect
from tests.harness import Server


def test_write_to_a_connection_that_has_gone_is_a_loss(shared_server: Server) -> None:
    """Not an error of the event loop's own, which would end the node."""

    async def write() -> None:
        redis = connect(shared_server.redis_url)
        pool: ConnectionPool = redis.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it so
        writer = connection._writer  # noqa: SLF001  its reader closes it, at any moment
        assert writer is not None
        writer.transport.abort()
        with pytest.raises((RedisError, OSError)):
            await connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"], check_health=False)
        await connection.disconnect(nowait=True)
        await redis.aclose()

    uvloop.run(write())
