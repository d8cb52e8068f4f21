"""The released Pysher as a driven client: it runs in threads of its own."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pysher

from tests.clients.driver import Driven
from tests.clients.pysher_client import end
from tests.harness import APP_SECRET

_ALWAYS: Final = (
    "pusher_internal:subscription_succeeded",
    "pusher_internal:member_added",
    "pusher_internal:member_removed",
    "pusher:subscription_error",
    "pusher:cache_miss",
)


class PysherDriver:
    """Carries out the commands of `pusher_js_driver.js` that Pysher knows."""

    def __init__(self) -> None:
        self.driven = Driven(self._command)
        self._pusher: Any = None
        self._wanted: dict[str, tuple[str, ...]] = {}

    async def _command(self, name: str, fields: dict[str, Any]) -> None:
        # Its requests for signatures block.
        await asyncio.to_thread(getattr(self, f"_{name}"), **fields)

    def _report(self, what: str, **fields: Any) -> None:
        self.driven.take({"what": what, **fields})

    def _open(
        self, *, key: str, port: int, user: str, token: str = "", channel_auth: str = ""
    ) -> None:
        self._pusher = pysher.Pusher(
            key,
            secure=False,
            custom_host="127.0.0.1",
            port=port,
            # With the secret Pysher signs by itself, as it must on presence channels.
            secret="" if channel_auth else APP_SECRET,
            auth_endpoint=channel_auth or None,
            user_data={"user_id": user, "user_info": {"id": user}},
            reconnect_interval=1,
        )
        connection = self._pusher.connection
        if token:
            connection.url += f"&token={token}"
        connection.bind("pusher:connection_established", self._established)
        connection.bind("pusher:error", lambda data: self._report("error", **data))
        connection.bind(
            "pusher:pong", lambda data: self._report("frame", event="pusher:pong", data=data)
        )
        self._pusher.connect()

    def _established(self, _: str) -> None:
        """Subscribe again by hand: Pysher's own way of it forgets signatures."""
        self._report("state", current="connected")
        for channel in self._wanted:
            self._subscribe_now(channel)

    def _subscribe(self, channel: str, events: tuple[str, ...] = ()) -> None:
        self._wanted[channel] = events
        self._subscribe_now(channel)

    def _subscribe_now(self, channel: str) -> None:
        subscribed = self._pusher.subscribe(channel)
        for event in (*_ALWAYS, *self._wanted[channel]):
            subscribed.bind(event, partial(self._heard, channel, event))

    def _heard(self, channel: str, event: str, data: Any) -> None:
        """Take one event; Pysher hands its data over as the string that was sent."""
        decoded = data
        if isinstance(data, str):
            with suppress(ValueError):
                decoded = json.loads(data)
        event = event.replace("pusher_internal:", "pusher:")
        self._report("event", channel=channel, event=event, data=decoded)
        match event:
            case "pusher:subscription_succeeded" if channel.startswith("presence-"):
                self._report("here", channel=channel, ids=list(decoded["presence"]["hash"]))
            case "pusher:member_added":
                self._report("joined", channel=channel, id=decoded["user_id"])
            case "pusher:member_removed":
                self._report("left", channel=channel, id=decoded["user_id"])
            case _:
                pass

    def _unsubscribe(self, channel: str) -> None:
        del self._wanted[channel]
        self._pusher.unsubscribe(channel)

    def _trigger(self, channel: str, event: str, data: Any) -> None:
        self._pusher.channel(channel).trigger(event, data)

    def _ping(self) -> None:
        self._pusher.connection.send_ping()

    def _standing(self) -> None:
        connection = self._pusher.connection
        self._report("standing", state=connection.state, socket_id=connection.socket_id)

    def _disconnect(self) -> None:
        if self._pusher is not None:
            end(self._pusher.connection)
