"""The embedded Valkey: a child that nobody else sees, and that never outlives its parent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis

from server.broker.embedded import EmbeddedValkey
from server.errors import ConfigError
from tests.harness import Server, ended, eventually, free_port_pair, make_server


async def info(url: str) -> dict[str, Any]:
    """Return what a Valkey says of itself."""
    redis = Redis.from_url(url)
    try:
        answer: dict[str, Any] = await redis.info()
        settings: Any = await redis.config_get("*")
        return {**answer, **settings}
    finally:
        await redis.aclose()


def runs(pid: int) -> bool:
    """Whether a process lives; one that nobody has waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_valkey_listens_on_loopback_and_keeps_nothing() -> None:
    """A child of ours in a folder of its own, without a file on disk; all of it ends with us."""
    port = free_port_pair()
    async with EmbeddedValkey(port) as url:
        assert url == f"redis://127.0.0.1:{port}/0"
        said = await info(url)
        pid, folder = said["process_id"], str(said["dir"])
        assert runs(pid)
        assert said["bind"] == "127.0.0.1"
        assert (said["save"], said["appendonly"]) == ("", "no")
        assert os.listdir(folder) == ["valkey.log"]  # noqa: PTH208  not in a coroutine
        listening = psutil.Process(pid).net_connections(kind="inet")
        assert {row.laddr.ip for row in listening if row.status == psutil.CONN_LISTEN} == {
            "127.0.0.1"
        }
    assert not runs(pid)
    with pytest.raises(FileNotFoundError):
        os.listdir(folder)  # noqa: PTH208  likewise


async def test_valkey_comes_again_on_the_same_port() -> None:
    """Nothing is left behind that would keep the next one out, and no data either."""
    port = free_port_pair()
    for _ in range(2):
        async with EmbeddedValkey(port) as url:
            redis = Redis.from_url(url)
            assert await redis.incr("visits") == 1
            await redis.aclose()


async def test_valkey_refuses_a_port_in_use() -> None:
    """A ConfigError with the cause, and no child left; the other one is left alone."""
    port = free_port_pair()
    async with EmbeddedValkey(port) as url:
        before = psutil.Process().children(recursive=True)
        with pytest.raises(ConfigError, match=f"port {port}.*REDIS_URL"):
            await EmbeddedValkey(port).__aenter__()
        assert (await info(url))["process_id"]
        after = psutil.Process().children(recursive=True)
        assert [child for child in after if child not in before and runs(child.pid)] == []


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["serve", "workers"])
async def test_valkey_dies_with_its_parent_however_that_dies(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A server killed by SIGKILL cannot tidy up: its Valkey and its workers end all the same."""
    server: Server = make_server(tmp_path / "server.log", {}, *arguments)
    with ended(server):
        server.start()
        await server.wait_until_ready()
        assert server.process is not None
        pid = (await info(server.redis_url))["process_id"]
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert pid in {member.pid for member in family}
        server.process.kill()
        await eventually(lambda: not runs(pid))
        await eventually(lambda: not any(runs(member.pid) for member in family))
