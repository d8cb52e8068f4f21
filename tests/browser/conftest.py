"""Fixtures: pages of a browser, and a site of our own that serves them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from tests.clients.driver import PusherJs
from tests.harness import ROOT, Server, ended, environment, free_port_pair

_DESK: Final = b"""<!doctype html><meta charset="utf-8"><title>Desk</title>
<link rel="icon" href="data:,">
<script src="/pusher.js"></script>
<script src="/driver.js"></script>
<script>const pusherJs = drive(Pusher, window.report);</script>
"""
_FILES: Final[dict[str, tuple[str, Path]]] = {
    "/pusher.js": (
        "text/javascript",
        ROOT / "node_modules" / "pusher-js" / "dist" / "web" / "pusher.min.js",
    ),
    "/driver.js": ("text/javascript", ROOT / "tests" / "clients" / "pusher_js_driver.js"),
}


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser profile of the test's own."""
    profile = await browser.new_context(viewport={"width": 1920, "height": 1080})
    yield profile
    await profile.close()


# --- the demo's page -----------------------------------------------------------------------------


@dataclass
class DemoPage:
    """The front-desk page of `bellhop demo`, and what went wrong in it."""

    server: Server
    page: Page
    faults: list[str] = field(default_factory=list)

    async def open(self) -> None:
        """Load the page, and await that it is live."""
        await self.page.goto(f"{self.server.url}/demo")
        await self.page.wait_for_selector("body[data-connection=connected]")

    async def feed(self) -> list[dict[str, str]]:
        """Return the activity feed, oldest first: what each line says in its `data-` attributes."""
        lines: list[dict[str, str]] = await self.page.eval_on_selector_all(
            "#feed > li", "lines => lines.map(({ dataset }) => ({ ...dataset }))"
        )
        return lines[::-1]


@pytest.fixture
async def demo_server(tmp_path: Path) -> AsyncIterator[Server]:
    """`bellhop demo` with a hotel where nothing happens by itself."""
    quiet = ("--interval", "3600")
    log = tmp_path / "demo.log"
    with ended(Server(free_port_pair(), environment({}), log, quiet, subcommand="demo")) as running:
        running.start()
        await running.wait_until_ready()
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def demo(demo_server: Server, context: BrowserContext) -> DemoPage:
    """The demo's page, live; another way to use the page is to read its DOM."""
    shown = DemoPage(demo_server, await context.new_page())
    shown.page.on("pageerror", lambda error: shown.faults.append(str(error)))
    shown.page.on(
        "console",
        lambda said: shown.faults.append(said.text) if said.type == "error" else None,
    )
    await shown.open()
    return shown


# --- a page of our own ---------------------------------------------------------------------------


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, body = "text/html", _DESK
        if self.path in _FILES:
            kind, file = _FILES[self.path]
            body = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@pytest.fixture(scope="session")
def site_port() -> Iterator[int]:
    """The port of a web site, on the server's host, that has a page with pusher-js."""
    site = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site.server_port
    site.shutdown()
    thread.join()
    site.server_close()


@dataclass
class Desk:
    """A page of a hotel's own with the released pusher-js in it."""

    page: Page
    pusher_js: PusherJs


@pytest_asyncio.fixture(loop_scope="session")
async def desk(context: BrowserContext) -> AsyncIterator[Desk]:
    """A page that is to `go` somewhere; nothing may have been thrown in it in the end."""
    page = await context.new_page()

    async def call(name: str, fields: dict[str, Any]) -> None:
        await page.evaluate("([name, fields]) => { pusherJs[name](fields); }", [name, fields])

    pusher_js = PusherJs(call)
    await page.expose_function("report", pusher_js.take)
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    yield Desk(page, pusher_js)
    assert not thrown
