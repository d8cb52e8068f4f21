"""The released Pysher, in its own thread, and what it heard."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pysher

from tests.clients.driver import own_token
from tests.harness import APP_KEY, DEADLINE_S, Server

SUCCEEDED = "pusher_internal:subscription_succeeded"


@dataclass
class PysherClient:
    """Appended to by Pysher's thread, read by the test."""

    pusher: Any
    events: list[tuple[str, Any]] = field(default_factory=list)
    """Names and decoded data of the channel's events, successes of subscribing included."""

    def named(self, event: str) -> list[Any]:
        """Return the data of one kind of event."""
        return [data for name, data in list(self.events) if name == event]

    def heard(self, event: str, data: str) -> None:
        """Take one event; Pysher hands its data over as the string that was sent."""
        self.events.append((event, json.loads(data)))


@contextmanager
def pysher_subscribed(server: Server, channel: str, *events: str) -> Iterator[PysherClient]:
    """Run a Pysher that hears ``events`` of a channel; its token is in the query."""
    pusher = pysher.Pusher(
        APP_KEY,
        secure=False,
        custom_host="127.0.0.1",
        port=server.port,
        auto_sub=True,
        reconnect_interval=1,
    )
    pusher.connection.url += f"&token={own_token('staff-pysher')}"
    client = PysherClient(pusher)
    pusher.connection.bind("pusher:connection_established", _subscriber(client, channel, events))
    pusher.connect()
    try:
        yield client
    finally:
        end(pusher.connection)
    assert not pusher.connection.is_alive()


def end(connection: Any) -> None:
    """End Pysher's thread; its own `disconnect` leaves it waiting for up to 100 s to be woken."""
    connection.disconnect_called = True
    websocket = connection.socket.sock
    if websocket is not None and websocket.sock is not None:
        with suppress(OSError):
            websocket.sock.shutdown(socket.SHUT_RDWR)
    connection.join(DEADLINE_S)


def _subscriber(
    client: PysherClient, channel: str, events: tuple[str, ...]
) -> Callable[[str], None]:
    def subscribe(_: str) -> None:
        # The first time only: after that auto_sub does it.
        if channel not in client.pusher.channels:
            subscribed = client.pusher.subscribe(channel)
            for event in (SUCCEEDED, *events):
                subscribed.bind(event, partial(client.heard, event))

    return subscribe
