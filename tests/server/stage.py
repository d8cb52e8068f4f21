"""The whole way of an event inside one node, from a token to the bytes on a wire.

Everything is the product's own but three things: wires that remember, the broker's outside (it
numbers as the script does, and says when it listens), and the clock, which stands still.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import jwt

from auth.apps import App, AppRegistry
from auth.channel_auth import sign_channel
from auth.origins import OriginPolicy
from auth.tokens import TokenVerifier, hmac_key
from channels_spec.document import Document
from channels_spec.reading import HOTEL_CONTRACT, contract_of
from server.broker.interface import Receipt
from server.broker.message import Publication, decode
from server.errors import PublishRefused
from server.hub import Hub, Key
from server.protocol.rules import Rules
from server.publisher import ContractMode, Event, Publisher
from server.session import Session, Surroundings
from server.transports import websocket
from server.transports.door import Door, Entered, Handshake
from server.wheel import Wheel
from tests.broker.script import written
from tests.harness import JWT_SECRET
from tests.people import NOW
from tests.server.room import Wire
from tests.visibility import Json

APPS: Final = (App("1", "key-1", "secret-1"), App("2", "key-2", "secret-2"))
_VERIFIER: Final = TokenVerifier([hmac_key(JWT_SECRET)])


def token(claims: Json) -> str:
    """Return a JWT of these claims that is good for an hour."""
    return jwt.encode({"exp": NOW + 3600, **claims}, JWT_SECRET, algorithm="HS256")


class Socket:
    """A client's end of a wire: what it sends, and the bytes that it gets."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.closed: int | None = None
        self.session: Session
        self.app: App

    def encode(self, frame: bytes) -> bytes:
        return websocket.encode(frame)

    def close(self, code: int, reason: str) -> None:
        del reason
        self.closed = code

    @property
    def got(self) -> bytes:
        return b"".join(self.wire.written)

    def say(self, event: str, **data: Any) -> None:
        self.session.receive(json.dumps({"event": event, "data": data}).encode())

    def subscribe_signed(self, channel: str, said: Json | None) -> None:
        """Subscribe with the app's signature, over channel_data where there is any."""
        data = None if said is None else json.dumps(said)
        auth = sign_channel(self.app, self.session.socket_id, channel, data)
        self.say("pusher:subscribe", channel=channel, auth=auth, channel_data=data)


class Stage:
    """A node without sockets and without Redis."""

    def __init__(self, document: Json, mode: ContractMode) -> None:
        self.contract = contract_of(Document(HOTEL_CONTRACT, document, None))
        self.loop = asyncio.new_event_loop()
        self.hub = Hub(self, join=websocket.join, defer=self.loop.call_soon)
        self.publisher = Publisher(self.contract, self, mode=mode, serves_unlisted=False)
        self.ready = True
        self.confirms_at_once = True
        self.listening: set[Key] = set()
        self._asked: set[Key] = set()
        self._count = 0
        wheel = Wheel(lambda: NOW)
        around = Surroundings(self.hub, wheel, _VERIFIER, Rules(self.contract), lambda: NOW)
        self._door = Door(AppRegistry(APPS), OriginPolicy(()), around)

    def enter(self, app: App, claims: Json | None) -> Socket:
        """Open a socket with a token in its path, or without one."""
        path = f"/t/{token(claims)}" if claims is not None else ""
        socket = Socket()
        handshake = Handshake(f"{path}/app/{app.key}?protocol=7", {})
        entered = self._door.enter(handshake, socket)
        assert isinstance(entered, Entered), entered
        socket.app, socket.session = app, entered.session
        entered.open()
        return socket

    def trigger(self, event: Event) -> bool:
        """Publish an event; False where it is refused."""
        try:
            self.publisher.publish(self.publisher.prepare(event))
        except PublishRefused:
            return False
        return True

    def turn(self) -> None:
        """Come to the end of this turn of the event loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    # --- the broker's outside --------------------------------------------------------------------

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        self._count += 1
        message = decode(written(publication, sequence=self._count))
        key = (publication.app_id, publication.channel)
        if key in self.listening:
            self.hub.fan_out(*key, message)
        receipt: asyncio.Future[Receipt] = self.loop.create_future()
        receipt.set_result(Receipt(publication.event_id, self._count, "e", duplicate=False))
        return receipt

    def watch(self, app_id: str, channel: str) -> bool:
        key = (app_id, channel)
        if self.confirms_at_once:
            self.listening.add(key)
        self._asked.add(key)
        return key in self.listening

    def unwatch(self, app_id: str, channel: str) -> None:
        self._asked.discard((app_id, channel))
        self.listening.discard((app_id, channel))

    def confirm(self) -> None:
        """Confirm what the hub has asked to listen to."""
        asked, self._asked = self._asked - self.listening, set()
        self.listening |= asked
        for key in sorted(asked):
            self.hub.watched(*key)
