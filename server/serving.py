"""Serving HTTP and WebSocket on one socket until a signal comes."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp

from server.config import Settings
from server.errors import ConfigError
from server.node import Node
from server.transports.acceptor import Acceptor
from server.transports.admission import Admission
from server.transports.door import Door
from server.transports.http import HEAD_S, HttpProtocol
from server.transports.websocket import WebSocketProtocol

_BACKLOG: Final = 4096
_LAST_REQUESTS_S: Final = 5
"""How long requests under way may take when the server stops."""
_KEEP_ALIVE_S: Final = 75
"""Seconds for which an idle HTTP connection stays open."""


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which ends us before we have tidied up."""

    def __init__(
        self,
        config: uvicorn.Config,
        admission: Admission,
        private: tuple[socket.socket, uvicorn.Config] | None = None,
    ) -> None:
        super().__init__(config)
        self.servers = []
        self._admission = admission
        self._private = private

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: `serve` sees to them."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets as uvicorn does, but have TLS handshakes end in time too."""
        await self.lifespan.startup()
        for each in sockets or ():
            self._accept(each, self.config)
        if self._private is not None:
            each, config = self._private
            config.load()
            self._accept(each, config)
        self.started = True

    def _accept(self, listening: socket.socket, config: uvicorn.Config) -> None:
        state, admission = self.server_state, self._admission

        def protocol(connection: socket.socket) -> asyncio.Protocol:
            # With TLS nothing but the transport may write.
            send = connection.send if config.ssl is None else None
            return HttpProtocol(config, state, self.lifespan.state, admission=admission, send=send)

        listening.listen(config.backlog)
        handshake_s = HEAD_S if config.ssl is not None else None
        acceptor = Acceptor(listening, protocol, tls=config.ssl, tls_handshake_s=handshake_s)
        # uvicorn closes them and awaits that, no more.
        self.servers.append(cast("asyncio.base_events.Server", acceptor))

    def stop(self) -> None:
        """Stop gracefully; asked a second time, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def serve(
    node: Node,
    listening: socket.socket,
    app: ASGIApp,
    *,
    supervised: bool = False,
    private: socket.socket | None = None,
) -> None:
    """Serve HTTP and WebSocket on a bound socket until a signal comes.

    A supervised process also stops when its standard input ends, for then its supervisor has died.
    What comes on a private socket is what other workers pass on, and is believed as theirs.
    """
    server_settings = node.parts.settings.server
    config = _config(
        app,
        # uvicorn only calls it; a function that makes the protocol is as good as its class.
        ws=cast("type[asyncio.Protocol]", _websocket_class(node.door)),
        # Backends and their proxies keep connections for their next event.
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_REQUESTS_S,
        ssl_certfile=server_settings.ssl_certfile,
        ssl_keyfile=server_settings.ssl_keyfile,
    )
    server = _Server(config, node.admission, _at_home(node, private))
    loop = asyncio.get_running_loop()
    leaving = asyncio.Event()

    def leave() -> None:
        """Drain first; asked a second time, stop at once."""
        if leaving.is_set():
            # A WebSocket is told by its protocol; a response without an end is nobody's there.
            node.hurry()
            server.stop()
        leaving.set()
        if supervised:
            loop.remove_reader(sys.stdin.fileno())

    for stop in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop, leave)
    if supervised:
        # The supervisor never writes: standard input becomes readable when it is gone.
        loop.add_reader(sys.stdin.fileno(), leave)
    try:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listening]))
            draining = tasks.create_task(_drain(leaving, node, server))
            serving.add_done_callback(lambda _: draining.cancel())
    finally:
        if supervised:
            loop.remove_reader(sys.stdin.fileno())
        for stop in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(stop)


def _at_home(
    node: Node, private: socket.socket | None
) -> tuple[socket.socket, uvicorn.Config] | None:
    """Return how a private socket is served: without TLS, and nothing but what is passed on."""
    if private is None or node.over_http is None:
        return None
    # uvicorn takes a method for something older.
    return private, _config(node.over_http.at_home, interface="asgi3", ws="none")


def _config(app: ASGIApp, **given: Any) -> uvicorn.Config:  # noqa: ANN401  uvicorn's own
    return uvicorn.Config(
        app,
        loop="none",
        http=HttpProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        **given,
    )


async def _drain(leaving: asyncio.Event, node: Node, server: _Server) -> None:
    """Await the signal, drain, then close the listener, last of all."""
    await leaving.wait()
    await node.drain()
    server.should_exit = True


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

    def make(
        *,
        server_state: uvicorn.server.ServerState,
        send: Callable[[bytes], int] | None = None,
        crowded: bool = False,
        **_: object,
    ) -> WebSocketProtocol:
        return WebSocketProtocol(door, server_state.connections, send=send, crowded=crowded)

    return make
