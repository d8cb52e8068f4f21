"""What tests stand on: a real server process, a raw client, tokens, awaited conditions.

Nothing here sleeps for a fixed time: everything awaits a condition with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import psutil
import pusher
import redis.asyncio
import websockets
from websockets.asyncio.client import ClientConnection

APP_ID: Final = "1"
APP_KEY: Final = "test-key"
APP_SECRET: Final = "test-app-secret"
JWT_SECRET: Final = "test-jwt-secret-that-is-long-enough!"
HOTEL: Final = "hotel-killarney"
ROOMS: Final = f"{HOTEL}.rooms"
BOOKINGS: Final = f"{HOTEL}.room-bookings"
DEADLINE_S: Final = 15.0
_TLS: Final = ssl.create_default_context()
"""Not used, but a client would make one of its own, which takes longer than a request."""
ROOT: Final = Path(__file__).resolve().parent.parent


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def signed_query(
    method: str, path: str, body: bytes, params: Mapping[str, str], secret: str = APP_SECRET
) -> dict[str, str]:
    """Return a request's query with the app's signature."""
    query = {"auth_key": APP_KEY, "auth_timestamp": str(int(time.time())), **params}
    query = {"auth_version": "1.0", **query}
    if body:
        query.setdefault("body_md5", hashlib.md5(body, usedforsecurity=False).hexdigest())
    text = "&".join(f"{name}={query[name]}" for name in sorted(query))
    message = f"{method}\n{path}\n{text}".encode()
    query["auth_signature"] = hmac.new(secret.encode(), message, "sha256").hexdigest()
    return query


_PORTS: Final = iter(random.Random().sample(range(10_000, 32_000, 2), 11_000))
"""Below those that systems give to outgoing connections, each offered once to this process."""


def free_port_pair() -> int:
    """Return a port that is free together with the one after it (the embedded Valkey's)."""
    for port in _PORTS:
        with socket.socket() as first, socket.socket() as second, contextlib.suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two neighbouring ports are free")


def token(sub: str = "staff-1", *, secret: str = JWT_SECRET, **claims: Any) -> str:
    """Return a JWT for a staff member of the hotel, with other claims as given."""
    now = int(time.time())
    base = {"sub": sub, "iat": now, "exp": now + 600, "hotels": [{"slug": HOTEL, "id": 1}]}
    return jwt.encode({**base, **claims}, secret, algorithm="HS256")


def guest_token(booking: str, *scopes: str, hotel: str = HOTEL, **claims: Any) -> str:
    """Return a JWT for the guest of one booking; without scopes, STATUS_READ."""
    given = {"kind": "guest", "booking_id": booking, "scope": list(scopes) or ["STATUS_READ"]}
    return token(f"guest-{booking}", hotels=[hotel], **{**given, **claims})


def new_hotel() -> str:
    """Return the slug of a hotel that no other test speaks of."""
    return f"hotel-{uuid.uuid4().hex[:12]}"


def room_updated(room: str = "101", *, hotel: str = HOTEL, **payload: Any) -> dict[str, Any]:
    """Return a complete `room_updated` envelope without an event id of its own."""
    return {
        "category": "rooms",
        "type": "room_updated",
        "payload": {
            "room_number": room,
            "room_status": "CLEANING_IN_PROGRESS",
            "is_occupied": False,
            "is_out_of_order": False,
            "maintenance_required": False,
            "changed_fields": ["room_status"],
            **payload,
        },
        "meta": {"hotel_slug": hotel, "ts": "2025-12-20T10:30:00Z", "scope": {"room_number": room}},
    }


async def eventually(
    condition: Callable[[], Awaitable[Any] | Any], *, within_s: float = DEADLINE_S
) -> Any:
    """Await until ``condition`` gives something truthy, and return that."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {condition}")
        await asyncio.sleep(0.02)


@dataclass
class Server:
    """One `bellhop serve` (or `demo`) process on loopback, and the ways to talk to it."""

    port: int
    environment: dict[str, str]
    log_file: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    subcommand: str = "serve"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def redis_url(self) -> str:
        return self.environment.get("REDIS_URL") or f"redis://127.0.0.1:{self.port + 1}/0"

    @property
    def log(self) -> str:
        """What the process has written to stderr so far."""
        return self.log_file.read_text("utf-8", errors="replace")

    def log_events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event, decoded."""
        lines = [line for line in self.log.splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry.get("event") == name]

    def start(self) -> None:
        """Start the process; `wait_until_ready` follows."""
        command = [sys.executable, "-m", "server", self.subcommand, "--port", str(self.port)]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    async def wait_until_ready(self) -> None:
        """Await that `/health/ready` answers 200; fail with the log when the process ends."""

        async def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended:\n{self.log}"
            with contextlib.suppress(httpx.TransportError):
                return (await client.get(f"{self.url}/health/ready")).status_code == 200
            return False

        async with httpx.AsyncClient() as client:
            await eventually(ready, within_s=30)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(how)
        try:
            return process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def connect(self, path: str = "", *, query: str = "protocol=7", **options: Any) -> Any:
        """Open a raw WebSocket; ``path`` goes before `/app/{key}`."""
        return self.dial(f"{path}/app/{APP_KEY}?{query}", **options)

    def dial(self, target: str, **options: Any) -> Any:
        """Open a raw WebSocket to any path and query."""
        url = f"ws://127.0.0.1:{self.port}{target}"
        return websockets.connect(url, open_timeout=DEADLINE_S, proxy=None, **options)

    @contextlib.asynccontextmanager
    async def client(self, path: str = "", **options: Any) -> AsyncIterator[Client]:
        """Open a raw client and take its greeting."""
        async with self.connect(path, **options) as socket_:
            client = Client(socket_)
            await client.greeted()
            yield client

    @contextlib.asynccontextmanager
    async def staff(self, *channels: str, **claims: Any) -> AsyncIterator[Client]:
        """Open a client authenticated by path, subscribed to the channels."""
        async with self.client(f"/t/{token(**claims)}") as client:
            for channel in channels:
                await client.subscribe(channel)
            yield client

    @contextlib.asynccontextmanager
    async def redis(self) -> AsyncIterator[redis.asyncio.Redis]:
        """Open a Redis client of the server's broker, as a backend would."""
        client = redis.asyncio.Redis.from_url(self.redis_url)
        try:
            yield client
        finally:
            await client.aclose()

    async def publish(self, channel: str, body: Any) -> None:
        """Publish as a backend does: Redis PUBLISH of the JSON body."""
        message = body if isinstance(body, bytes | str) else json.dumps(body)
        async with self.redis() as client:
            await client.publish(f"bellhop:publish:{channel}", message)

    async def api(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        secret: str = APP_SECRET,
        params: Mapping[str, str] | None = None,
        after: Mapping[str, str | None] | None = None,
        signed_path: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a signed request of Pusher's HTTP API.

        Args:
            method: of the request.
            path: as it is signed and sent, without the query.
            body: bytes as they are, anything else as JSON; ``None`` for no body.
            secret: what it is signed with.
            params: of the query, signed with the rest.
            after: changes to the query after it was signed; ``None`` takes a parameter away.
            signed_path: where the path that is signed differs from the one that is sent.
            headers: sent with it; no part of what is signed.

        """
        given = body if isinstance(body, bytes) else b"" if body is None else _encoded(body)
        query = signed_query(method, signed_path or path, given, params or {}, secret)
        sent = {
            name: value for name, value in {**query, **(after or {})}.items() if value is not None
        }
        async with httpx.AsyncClient(timeout=DEADLINE_S, verify=_TLS) as client:
            url = f"{self.url}{path}"
            return await client.request(method, url, params=sent, content=given, headers=headers)

    def pusher(self, **changes: Any) -> Any:
        """The released Pusher library, pointed here."""
        given = {"app_id": APP_ID, "key": APP_KEY, "secret": APP_SECRET, **changes}
        return pusher.Pusher(host="127.0.0.1", port=self.port, ssl=False, **given)


@dataclass
class Client:
    """A raw client of the Pusher protocol that remembers what it got."""

    socket: ClientConnection
    socket_id: str = ""
    frames: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, event: str, data: Any = None, **more: Any) -> None:
        """Send one frame."""
        await self.socket.send(json.dumps({"event": event, "data": data or {}, **more}))

    async def next(self, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """Return the next frame that is not a ping, with ``data`` decoded where it is JSON."""
        while True:
            frame = json.loads(await asyncio.wait_for(self.socket.recv(), within_s))
            if isinstance(frame.get("data"), str):
                with contextlib.suppress(ValueError):
                    frame["data"] = json.loads(frame["data"])
            if frame["event"] == "pusher:ping":
                # What came before a close is read after it, too.
                with contextlib.suppress(websockets.ConnectionClosed):
                    await self.send("pusher:pong")
                continue
            self.frames.append(frame)
            return dict(frame)

    async def until(self, event: str, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """Return the next frame of one event, passing over others (they stay in ``frames``)."""
        while True:
            frame = await self.next(within_s)
            if frame["event"] == event:
                return frame

    async def greeted(self) -> None:
        """Take `connection_established`."""
        frame = await self.next()
        assert frame["event"] == "pusher:connection_established", frame
        self.socket_id = frame["data"]["socket_id"]

    async def subscribe(self, channel: str, **data: Any) -> dict[str, Any]:
        """Subscribe and return the success frame."""
        await self.send("pusher:subscribe", {"channel": channel, **data})
        frame = await self.until("pusher_internal:subscription_succeeded")
        assert frame["channel"] == channel
        return frame

    async def refused(self, channel: str, **data: Any) -> dict[str, Any]:
        """Subscribe and return the data of the `pusher:subscription_error`."""
        await self.send("pusher:subscribe", {"channel": channel, **data})
        frame = await self.until("pusher:subscription_error")
        assert frame["channel"] == channel
        return dict(frame["data"])

    async def signin(self, jwt_: str, sub: str = "staff-1") -> None:
        """Send `pusher:signin` with a JWT; the answer is the caller's to await."""
        await self.send("pusher:signin", {"auth": jwt_, "user_data": json.dumps({"id": sub})})

    async def quiet(self) -> None:
        """Assert that nothing but a pong comes: what was on its way would be here before it."""
        await self.send("pusher:ping")
        frame = await self.next()
        assert frame["event"] == "pusher:pong", frame

    async def closed(self) -> tuple[int, list[dict[str, Any]]]:
        """Await the close; return its code and the frames that came before it."""
        before: list[dict[str, Any]] = []
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                before.append(await self.next())
        assert self.socket.close_code is not None
        return self.socket.close_code, before


def command_line(process: psutil.Process) -> list[str]:
    """Return a process' command line; empty where it has ended, be it in this moment."""
    try:
        lives = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return process.cmdline() if lives else []
    except psutil.NoSuchProcess:
        return []


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server under test: its keys, and no setting from outside."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BELLHOP_", "PUSHER_", "REDIS_"))
    }
    keys = {
        "PUSHER_APP_ID": APP_ID,
        "PUSHER_KEY": APP_KEY,
        "PUSHER_SECRET": APP_SECRET,
        "BELLHOP_JWT_SECRET": JWT_SECRET,
        # Where there is another node, a test does not wait for its clients to be sent there.
        "BELLHOP_DRAIN_S": "0.2",
    }
    return {**clean, **keys, **settings}


def make_server(log_file: Path, settings: Mapping[str, str], *arguments: str) -> Server:
    """Return a server on free ports, not yet started."""
    return Server(free_port_pair(), environment(settings), log_file, arguments)


@contextlib.contextmanager
def ended(server: Server) -> Iterator[Server]:
    """End a server with its test, and hold that none of its own faults went unnoticed."""
    try:
        yield server
    finally:
        if server.process is not None:
            server.end()
    assert "Traceback" not in server.log, server.log


@contextlib.contextmanager
def started(log_file: Path, settings: Mapping[str, str], *arguments: str) -> Iterator[Server]:
    """Start a server for a fixture that outlives a test, and end it."""
    with ended(make_server(log_file, settings, *arguments)) as server:
        server.start()
        asyncio.run(server.wait_until_ready())
        yield server
