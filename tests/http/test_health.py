"""Health and metrics: what operators' machines read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.harness import Server, eventually, new_hotel

StartServer = Callable[..., Awaitable[Server]]


async def get(server: Server, path: str, **headers: str) -> httpx.Response:
    """Get a path with headers."""
    async with httpx.AsyncClient() as client:
        return await client.get(f"{server.url}{path}", headers=headers)


async def figures(server: Server) -> dict[str, float]:
    """Return the metrics without labels."""
    lines = (await get(server, "/metrics")).text.splitlines()
    pairs = (line.rsplit(maxsplit=1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def test_health_is_answered_as_json(server: Server) -> None:
    """Live while the process turns, ready while clients may come."""
    for path, status in (("/health/live", "live"), ("/health/ready", "ready")):
        answer = await get(server, path)
        assert (answer.status_code, answer.json()) == (200, {"status": status})


async def test_metrics_are_in_the_format_of_prometheus(server: Server) -> None:
    """Text with help and type of each metric."""
    answer = await get(server, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "# TYPE bellhop_connections gauge" in answer.text
    assert "# TYPE bellhop_deliveries_total counter" in answer.text


async def test_metrics_count_connections_and_channels(server: Server) -> None:
    """The gauges follow what is open."""

    async def open_connections() -> float:
        return (await figures(server))["bellhop_connections"]

    async def nobody() -> bool:
        return await open_connections() == 0

    await eventually(nobody)
    rooms = f"{(hotel := new_hotel())}.rooms"
    async with server.staff(rooms, hotels=[hotel]), server.staff(rooms, hotels=[hotel]):
        during = await figures(server)
    assert (during["bellhop_connections"], during["bellhop_channels"]) == (2, 1)
    assert during["bellhop_ready"] == 1
    await eventually(nobody)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_metrics_are_refused_through_a_proxy(server: Server, header: str) -> None:
    """A proxy's requests come from loopback too: direct ones alone count as such."""
    answer = await get(server, "/metrics", **{header: "203.0.113.9"})
    assert answer.status_code == 403
    assert "BELLHOP_METRICS_TOKEN" in answer.json()["error"]


async def test_metrics_need_the_token_where_one_is_set(
    server: Server, start_server: StartServer
) -> None:
    """With `BELLHOP_METRICS_TOKEN` the bearer decides, from wherever it comes."""
    secured = await start_server(
        BELLHOP_METRICS_TOKEN="scrape-me",
        REDIS_URL=server.redis_url,
        BELLHOP_REDIS_PREFIX="metrics:",
    )
    for authorization, status in (
        ("Bearer scrape-me", 200),
        ("bearer scrape-me", 200),
        ("Bearer scrape-m", 403),
        ("Bearer", 403),
        ("Basic scrape-me", 403),
        ("é", 403),
    ):
        headers = {b"Authorization": authorization.encode()}
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{secured.url}/metrics", headers=headers)
        assert answer.status_code == status, authorization
    assert (await get(secured, "/metrics")).status_code == 403
    answer = await get(
        secured, "/metrics", **{"Authorization": "Bearer scrape-me", "X-Forwarded-For": "1.2.3.4"}
    )
    assert answer.status_code == 200
