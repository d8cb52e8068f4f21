"""A hotel's own web site: its pages, its backend's authorization, and where its webhooks go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pusher

from tests.harness import APP_ID, APP_KEY, APP_SECRET, ROOT

MASTER_KEY: Final = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
_HERE: Final = ROOT / "tests" / "clients"
_PUSHER_JS: Final = ROOT / "node_modules" / "pusher-js" / "dist"
_SCRIPTS: Final[dict[str, Path]] = {
    "/pusher.js": _PUSHER_JS / "web" / "pusher-with-encryption.min.js",
    "/pusher.worker.js": _PUSHER_JS / "worker" / "pusher-with-encryption.worker.min.js",
    "/echo.js": ROOT / "node_modules" / "laravel-echo" / "dist" / "echo.iife.js",
    "/driver.js": _HERE / "pusher_js_driver.js",
    "/echo_driver.js": _HERE / "echo_driver.js",
    "/host.js": _HERE / "host.js",
    "/worker.js": _HERE / "worker.js",
}
_HEAD: Final = b"""<!doctype html><meta charset="utf-8"><title>Desk</title>
<link rel="icon" href="data:,">
"""
_PAGES: Final[dict[str, bytes]] = {
    "/page": _HEAD
    + b"""<script src="/pusher.js"></script>
<script src="/echo.js"></script>
<script src="/driver.js"></script>
<script src="/echo_driver.js"></script>
<script src="/host.js"></script>
<script>
const command = host({
  "pusher-js": (report) => drive(Pusher, report),
  "laravel-echo": (report) => driveEcho(Echo.default, Pusher, report),
}, window.report);
</script>
""",
    "/worker": _HEAD
    + b"""<script>
const worker = new Worker("/worker.js");
worker.onmessage = ({ data }) => window.report(data);
worker.onerror = ({ message }) => window.report({ what: "thrown", error: message });
const command = (line) => worker.postMessage(line);
</script>
""",
}


@dataclass(frozen=True)
class Hook:
    """One webhook as it came."""

    headers: dict[str, str]
    body: str


@dataclass
class Site:
    """The site, and the webhooks that it was sent."""

    port: int = 0
    hooks: list[Hook] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def channel_auth(self, user: str) -> str:
        """Return the endpoint that signs for a user, with the released library."""
        return f"{self.url}/auth/channel?user={user}"

    def user_auth(self, user: str, *watched: str) -> str:
        """Return the endpoint that signs a user in, with the users to watch."""
        return f"{self.url}/auth/user?user={user}&watch={','.join(watched)}"

    def told(self, name: str, **fields: Any) -> list[Hook]:
        """Return the webhooks that hold such an event."""
        return [
            hook
            for hook in list(self.hooks)
            for event in json.loads(hook.body)["events"]
            if event["name"] == name and fields.items() <= event.items()
        ]


_BACKEND: Final = pusher.Pusher(
    app_id=APP_ID,
    key=APP_KEY,
    secret=APP_SECRET,
    encryption_master_key_base64=MASTER_KEY,
)


def _signed(path: str, query: Mapping[str, str], form: Mapping[str, str]) -> dict[str, str]:
    user = query["user"]
    # By Laravel's custom the id is in the info too: Echo shows nothing else.
    info = {"id": user, "name": user.title()}
    if path == "/auth/user":
        watched = [name for name in query.get("watch", "").split(",") if name]
        data = {"id": user, "user_info": info, "watchlist": watched}
        signed: dict[str, str] = _BACKEND.authenticate_user(form["socket_id"], data)
        return signed
    channel = form["channel_name"]
    named = channel.startswith("presence-") and "signedin" not in channel
    member = {"user_id": user, "user_info": info} if named else None
    authorized = _BACKEND.authenticate(channel, form["socket_id"], member)
    # The shared secret of an encrypted channel comes as bytes.
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in authorized.items()
    }


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in _SCRIPTS:
            self._answer(200, "text/javascript", _SCRIPTS[path].read_bytes())
        else:
            self._answer(200, "text/html", _PAGES[path])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        parts = urlsplit(self.path)
        if parts.path == "/hook":
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.site.hooks.append(Hook(headers, body))
            self._answer(200, "text/plain", b"")
        elif "forbidden" in body:
            self._answer(403, "text/plain", b"Forbidden")
        else:
            signed = _signed(parts.path, dict(parse_qsl(parts.query)), dict(parse_qsl(body)))
            self._answer(200, "application/json", json.dumps(signed).encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Site]:
    """Run a site around the body."""
    site = Site()
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("_SiteHandler", (_Handler,), {"site": site})
    )
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
