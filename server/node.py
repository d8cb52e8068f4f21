"""The composition root: one running Bellhop process. Only here are concrete classes named."""

from __future__ import annotations

import asyncio
import gc
import secrets
import signal
import socket
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from auth.apps import App, AppRegistry
from auth.origins import OriginPolicy
from auth.tokens import TokenVerifier, VerificationKey, hmac_key, public_key
from channels_spec.contract import Contract
from channels_spec.document import ContractError
from channels_spec.reading import HOTEL_CONTRACT, load_contract
from server.broker.embedded import EmbeddedValkey
from server.broker.redis import History, RedisBroker, connect
from server.config import Settings, named
from server.errors import ConfigError
from server.http.answers import Refused, refused
from server.http.api import Api
from server.http.auth import ClientAuth
from server.http.health import Health
from server.hub import Hub
from server.ingress import Ingress
from server.metrics import Metrics, NodeCollector
from server.protocol.rules import Rules
from server.publisher import ContractMode, Publisher
from server.rejected import Rejected
from server.session import Surroundings
from server.transports.door import Door, cookie_token
from server.transports.websocket import WebSocketProtocol, join
from server.wheel import Wheel

_BACKLOG: Final = 4096

log = structlog.get_logger()


class Parts:
    """What settings alone determine: read, checked, and free of any connection."""

    def __init__(self, settings: Settings) -> None:
        """Read keys, apps and contract; raises `ConfigError` with every problem."""
        problems: list[str] = []
        self.settings = settings
        self.apps = _apps(settings, problems)
        self.keys = _token_keys(settings, problems)
        self.contract = _contract(settings, problems)
        _check_certificate(settings, problems)
        if settings.redis.url is not None:
            try:
                connect(settings.redis.url)
            except ValueError as error:
                problems.append(f"{named('redis.url')}: {error}")
        if not settings.redis.prefix:
            problems.append(f"{named('redis.prefix')}: must not be empty")
        if problems:
            raise ConfigError(*problems)

    @property
    def serves_unlisted(self) -> bool:
        """Whether channels outside the contract follow plain Pusher rules."""
        return self.settings.contract.unlisted_channels == "pusher"

    def verifier(self) -> TokenVerifier:
        """Return the verifier of tokens."""
        jwt = self.settings.jwt
        return TokenVerifier(
            self.keys, issuer=jwt.issuer, audience=jwt.audience, leeway_s=jwt.leeway_s
        )

    def rules(self) -> Rules:
        """Return the rules for connections."""
        connection = self.settings.connection
        return Rules(
            contract=self.contract,
            serves_unlisted=self.serves_unlisted,
            require_token=connection.require_token,
            auth_timeout_s=connection.auth_timeout_s,
            activity_timeout_s=connection.activity_timeout_s,
            ping_s=connection.ping_s,
            # A client that knows the timeout has spoken within it, or is gone.
            pong_timeout_s=connection.activity_timeout_s,
            expiry_spread_s=connection.expiry_spread_s,
        )


class Node:
    """The parts of one process, wired."""

    def __init__(self, parts: Parts, redis_url: str) -> None:
        """Wire everything; called on the event loop."""
        settings = parts.settings
        self.redis_url = redis_url
        self.parts = parts
        self._redis = connect(redis_url)
        history = settings.history
        self._broker = RedisBroker(
            self._redis,
            settings.redis.prefix,
            History(history.seconds, history.events, history.dedupe_s),
        )
        self.hub = Hub(self._broker, join=join, defer=asyncio.get_running_loop().call_soon)
        self._broker.bring_to(self.hub)
        self._wheel = Wheel()
        self._publisher = Publisher(
            parts.contract,
            self._broker,
            mode=ContractMode(settings.contract.mode),
            serves_unlisted=parts.serves_unlisted,
        )
        self._rejected = Rejected(self._redis, settings.redis.prefix)
        self._ingress = Ingress(
            self._redis,
            prefix=settings.redis.prefix,
            node_id=secrets.token_hex(8),
            default_app=settings.default_app.id,
            known_apps=frozenset(app.id for app in parts.apps),
            publisher=self._publisher,
            rejected=self._rejected,
        )
        self._origins = OriginPolicy(settings.allowed_origins)
        self._around = Surroundings(self.hub, self._wheel, parts.verifier(), parts.rules())
        self.door = Door(parts.apps, self._origins, self._around)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run beside the server."""
        return [self._broker.run(), self._ingress.run(), self._rejected.run(), self._wheel.run()]

    def http(self, more: Sequence[BaseRoute] = ()) -> Starlette:
        """Return the HTTP application."""
        settings, default = self.parts.settings, self.parts.settings.default_app
        app = self.parts.apps.by_id(default.id)
        if app is None:
            raise ConfigError("app: missing")
        token = settings.metrics_token
        routes = [
            *Api(self.parts.apps, self._publisher).routes(),
            *ClientAuth(
                app,
                self.parts.verifier(),
                self.parts.contract,
                self._origins,
                cookie_token=cookie_token,
            ).routes(),
            *Health(
                unready=self.unready,
                metrics=Metrics(self._collector()).render,
                metrics_token=token.get_secret_value() if token is not None else None,
            ).routes(),
            *more,
        ]
        return Starlette(routes=routes, exception_handlers={Refused: refused})

    def unready(self) -> str | None:
        """Say why clients should not be sent here, if so."""
        if not self._broker.ready or not self._ingress.ready:
            return "Redis does not answer"
        return None

    async def close(self) -> None:
        """Let Redis go."""
        await self._redis.aclose()

    def _collector(self) -> NodeCollector:
        hub, publisher, rejected = self.hub, self._publisher, self._rejected
        return NodeCollector(
            gauges={
                "connections": ("Open connections.", lambda: len(hub.sessions)),
                "channels": ("Channels with subscribers here.", lambda: hub.channel_count),
                "ready": ("1 while clients may come.", lambda: float(self.unready() is None)),
            },
            counters={
                "deliveries": ("Frames offered to subscribers.", lambda: hub.delivered),
                "slow_consumers": ("Connections closed as slow.", lambda: hub.slow_consumers),
                "contract_faults": (
                    "Faults in events that were let through.",
                    lambda: sum(publisher.violations.values()),
                ),
            },
            labelled={
                "events": ("Events by outcome.", "outcome", lambda: publisher.published),
                "rejected": ("Refused Redis publishes.", "status", lambda: rejected.counts),
            },
        )


@asynccontextmanager
async def running_node(parts: Parts, *, embedded_port: int | None = None) -> AsyncIterator[Node]:
    """Run a node's background around the body, with an embedded Valkey where no Redis is named."""
    async with AsyncExitStack() as stack:
        url = parts.settings.redis.url
        if url is None:
            port = embedded_port or parts.settings.server.port + 1
            url = await stack.enter_async_context(EmbeddedValkey(port))
        node = Node(parts, url)
        stack.push_async_callback(node.close)
        # What is there now stays for good; the collector need not walk it again and again.
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(part) for part in node.background()]
            try:
                yield node
            finally:
                for task in background:
                    task.cancel()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which ends us before we have tidied up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: `serve` sees to them."""
        yield

    def stop(self) -> None:
        """Stop gracefully; asked a second time, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def serve(
    node: Node, listening: socket.socket, app: Starlette, *, supervised: bool = False
) -> None:
    """Serve HTTP and WebSocket on a bound socket until a signal comes.

    A supervised process also stops when its standard input ends, for then its supervisor has died.
    """
    server_settings = node.parts.settings.server
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        # uvicorn only calls it; a function that makes the protocol is as good as its class.
        ws=cast("type[asyncio.Protocol]", _websocket_class(node.door)),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=max(1, round(server_settings.drain_s)),
        ssl_certfile=server_settings.ssl_certfile,
        ssl_keyfile=server_settings.ssl_keyfile,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop, server.stop)
    if supervised:
        # The supervisor never writes: standard input becomes readable when it is gone.
        loop.add_reader(sys.stdin.fileno(), server.stop)
    try:
        await server.serve(sockets=[listening])
    finally:
        if supervised:
            loop.remove_reader(sys.stdin.fileno())
        for stop in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(stop)


def bound_socket(settings: Settings) -> socket.socket:
    """Bind where the settings say; raises `ConfigError` naming the address."""
    server = settings.server
    if server.uds is not None:
        return _bound_unix_socket(server.uds)
    try:
        info = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        return _bound(info[0], info[4])
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot listen on {server.host}:{server.port}: {reason}") from None


def _bound_unix_socket(path: Path) -> socket.socket:
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        return _bound(socket.AF_UNIX, str(path))
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from None


def _bound(family: int, address: object) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(cast("str", address))
    except OSError:
        listening.close()
        raise
    return listening


def _websocket_class(door: Door) -> Callable[..., asyncio.Protocol]:
    """Return what uvicorn calls to make the protocol of an upgraded connection."""

    def make(*, server_state: uvicorn.server.ServerState, **_: object) -> WebSocketProtocol:
        return WebSocketProtocol(door, server_state.connections)

    return make


def _apps(settings: Settings, problems: list[str]) -> AppRegistry:
    if not settings.all_apps:
        problems += [f"{named(path)}: missing" for path in ("app.id", "app.key", "app.secret")]
        return AppRegistry([])
    try:
        return AppRegistry(
            App(app.id, app.key, app.secret.get_secret_value(), app.enabled)
            for app in settings.all_apps
        )
    except ValueError as error:
        problems.append(f"app: {error}")
        return AppRegistry([])


def _token_keys(settings: Settings, problems: list[str]) -> list[VerificationKey]:
    jwt = settings.jwt
    keys: list[VerificationKey] = []
    if jwt.secret is not None:
        try:
            keys.append(hmac_key(jwt.secret.get_secret_value()))
        except ValueError as error:
            problems.append(f"{named('jwt.secret')}: {error}")
    if jwt.public_key is not None:
        try:
            keys.append(public_key(_pem(jwt.public_key)))
        except (ValueError, OSError) as error:
            problems.append(f"{named('jwt.public_key')}: {error}")
    if not (jwt.secret or jwt.public_key) and settings.connection.require_token:
        either = f"{named('jwt.secret')} or {named('jwt.public_key')}"
        problems.append(f"{either}: missing; tokens cannot be verified")
    return keys


def _check_certificate(settings: Settings, problems: list[str]) -> None:
    certificate, key = settings.server.ssl_certfile, settings.server.ssl_keyfile
    if certificate is None:
        if key is not None:
            problems.append("server.ssl_certfile: missing; server.ssl_keyfile is set")
        return
    try:
        # Without the password here, OpenSSL would ask for it on the terminal.
        ssl.create_default_context().load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        files = f"{certificate}, {key}" if key is not None else str(certificate)
        problems.append(f"server.ssl_certfile, server.ssl_keyfile: {files}: {error}")


def _pem(value: str) -> str:
    """Return a key given as a path, or as PEM text (its newlines may be escaped)."""
    if "-----BEGIN" in value:
        return value.replace("\\n", "\n")
    return Path(value).read_text(encoding="utf-8")


def _contract(settings: Settings, problems: list[str]) -> Contract:
    try:
        return load_contract(settings.contract.file or HOTEL_CONTRACT)
    except ContractError as error:
        problems += [f"{named('contract.file')}: {problem}" for problem in error.problems]
        return Contract("", ())
