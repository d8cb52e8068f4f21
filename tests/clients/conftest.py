"""Fixtures: released clients of every kind, and the nodes that they speak to."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.clients import compatibility
from tests.clients.backends import Backend, NodeBackend, PythonBackend
from tests.clients.cast import Cast
from tests.clients.driver import Driven, PusherJs
from tests.clients.features import BACKENDS, Kind
from tests.clients.hosts import NODE, Host, page_host, process_host
from tests.clients.java.command import java_command
from tests.clients.site import Site, serving
from tests.clients.topology import Shape, Topology, nodes_of, topology_of
from tests.harness import Server

pytest_runtest_makereport = compatibility.pytest_runtest_makereport
pytest_sessionfinish = compatibility.pytest_sessionfinish


@pytest.fixture
async def pusher_js() -> AsyncIterator[PusherJs]:
    """One pusher-js in Node, not yet opened."""
    async with process_host(NODE) as host:
        client = host.new("pusher-js", PusherJs)
        yield client
        # Whoever goes without a word is handed what it misses when it comes again.
        await client.tell("disconnect")


# --- the nodes -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The web site of a hotel, its backend included."""
    with serving() as site:
        yield site


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(Shape.ONE_NODE, id="one-node"),
        pytest.param(Shape.TWO_NODES, id="two-nodes", marks=pytest.mark.long),
    ],
)
def shape(request: pytest.FixtureRequest) -> Shape:
    """How many nodes: every test that speaks to them is run with each."""
    shape: Shape = request.param
    return shape


@pytest.fixture(scope="session")
def nodes(
    shape: Shape, tmp_path_factory: pytest.TempPathFactory, site: Site
) -> Iterator[tuple[Server, ...]]:
    """Nodes for the whole session."""
    with nodes_of(shape, tmp_path_factory.mktemp("nodes"), site) as nodes:
        yield nodes


@pytest_asyncio.fixture(loop_scope="session")
async def topology(nodes: tuple[Server, ...]) -> AsyncIterator[Topology]:
    """The nodes, and new ways to them."""
    for node in nodes:
        await node.wait_until_ready()
    async with topology_of(nodes) as topology:
        yield topology


@pytest.fixture
def name() -> str:
    """Return a part of names of channels and users that no other test has."""
    return uuid.uuid4().hex[:12]


# --- where clients run ---------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node_host() -> AsyncIterator[Host]:
    """Clients in Node."""
    async with process_host(NODE) as host:
        yield host


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def java_host() -> AsyncIterator[Host]:
    """Clients in a JVM."""
    async with process_host(java_command()) as host:
        yield host


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def page(browser: Browser, site: Site) -> AsyncIterator[Host]:
    """Clients in a page of Chromium."""
    profile = await browser.new_context()
    yield await page_host(await profile.new_page(), f"{site.url}/page")
    await profile.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker(browser: Browser, site: Site) -> AsyncIterator[Host]:
    """Clients in a worker of Chromium."""
    profile = await browser.new_context()
    yield await page_host(await profile.new_page(), f"{site.url}/worker")
    await profile.close()


_HOSTS = {
    Kind.NODE: "node_host",
    Kind.PAGE: "page",
    Kind.WORKER: "worker",
    Kind.ECHO: "page",
    Kind.JAVA: "java_host",
    Kind.NODE_BACKEND: "node_host",
}


@pytest.fixture
def host(kind: Kind, request: pytest.FixtureRequest) -> Host | None:
    """Where clients of the test's ``kind`` run."""
    return request.getfixturevalue(_HOSTS[kind]) if kind in _HOSTS else None


@pytest_asyncio.fixture(loop_scope="session")
async def cast(
    kind: Kind, host: Host | None, topology: Topology, site: Site
) -> AsyncIterator[Cast]:
    """Clients of the test's ``kind``."""
    cast = Cast(kind, host, topology, site)
    yield cast
    await cast.end()


@pytest.fixture
def every_host(request: pytest.FixtureRequest) -> dict[Kind, Host | None]:
    """Where each kind of client runs, those of the long run only there."""
    kinds = [Kind.NODE, Kind.PAGE, Kind.WORKER, Kind.ECHO, Kind.PYSHER]
    if request.node.get_closest_marker("long"):
        kinds.append(Kind.JAVA)
    return {
        kind: request.getfixturevalue(_HOSTS[kind]) if kind in _HOSTS else None for kind in kinds
    }


@pytest_asyncio.fixture(loop_scope="session")
async def backend(kind: Kind, host: Host | None, topology: Topology) -> Backend:
    """The backend's library of the test's ``kind``."""
    return await _backend(kind, host, topology)


@pytest_asyncio.fixture(loop_scope="session")
async def every_backend(node_host: Host, topology: Topology) -> list[Backend]:
    """The libraries of backends, all of them."""
    return [await _backend(kind, node_host, topology) for kind in BACKENDS]


async def _backend(kind: Kind, host: Host | None, topology: Topology) -> Backend:
    if kind is Kind.PYTHON_BACKEND:
        return PythonBackend(topology.backend())
    assert host is not None
    library = NodeBackend(host.new("pusher", Driven))
    await library.open(topology.api.port)
    return library
