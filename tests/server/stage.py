"""The whole way of an event inside one node, from a token to the bytes on a wire.

Everything is the product's own but three things: wires that remember, the broker's outside (it
numbers as the script does, says when it listens, and lets everybody in), and the clock, which goes
when it is told to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, cast

import jwt

from auth.apps import App, AppRegistry
from auth.channel_auth import sign_channel
from auth.origins import OriginPolicy, Origins
from auth.revocations import Revocation, Revocations, Revoked
from auth.tokens import TokenVerifier, hmac_key
from channels_spec.document import Document
from channels_spec.reading import HOTEL_CONTRACT, contract_of
from server.asking import Asking
from server.broker.interface import Receipt
from server.broker.message import Announcement, Publication, decode
from server.channels import Key
from server.encoding import Event
from server.errors import PublishRefused
from server.hub import Hub
from server.jwks import PatientVerifier
from server.presence import Arrival, Presence
from server.protocol.presence import Entered as Let
from server.protocol.presence import Member, Past
from server.protocol.rules import Rules
from server.publisher import ContractMode, Publisher
from server.resuming import Resuming
from server.session import Session
from server.surroundings import Surroundings
from server.transports import websocket
from server.transports.door import Door, Entered, Handshake
from server.users import Users
from server.walls import PublishWall, Rate, WallLimits, Walls
from server.wheel import Wheel
from tests.broker.script import written
from tests.harness import JWT_SECRET
from tests.people import NOW
from tests.server.room import Wire
from tests.visibility import Json

APPS: Final = (App("1", "key-1", "secret-1"), App("2", "key-2", "secret-2"))
_VERIFIER: Final = PatientVerifier(TokenVerifier([hmac_key(JWT_SECRET)]))
_FREE: Final = Rate(0, 1)
_NO_LIMITS: Final = WallLimits(_FREE, _FREE, _FREE, 0, _FREE, _FREE)


def token(claims: Json) -> str:
    """Return a JWT of these claims that is good for an hour."""
    return jwt.encode({"exp": NOW + 3600, **claims}, JWT_SECRET, algorithm="HS256")


class Socket:
    """A client's end of a wire: what it sends, and the bytes that it gets."""

    def __init__(self, stage: Stage) -> None:
        self.wire = Wire()
        self.closed: int | None = None
        self.session: Session
        self.app: App
        self._stage = stage

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
        self._stage.settle()

    def subscribe_signed(self, channel: str, said: Json | None) -> None:
        """Subscribe with the app's signature, over channel_data where there is any."""
        data = None if said is None else json.dumps(said)
        auth = sign_channel(self.app, self.session.socket_id, channel, data)
        self.say("pusher:subscribe", channel=channel, auth=auth, channel_data=data)


class Returns:
    """Nobody has missed anything: whoever is let in hears at once."""

    def enter(self, asking: Asking) -> None:
        asking.told.told(Past())

    def recall(self, askings: Sequence[Asking], identity: str) -> None:
        del identity
        for asking in askings:
            asking.told.told(Past())

    def left(self, client: object, channel: str) -> None:
        del client, channel

    def proved(self, client: object) -> None:
        del client

    def ended(self, client: object, channels: object, *, goodbye: bool) -> None:
        del client, channels, goodbye


class Entrance:
    """The broker's side of letting subscribers in: everybody, in order, now or when told to."""

    def __init__(self) -> None:
        self.count = 0
        """Events so far."""
        self.waiting: list[tuple[Arrival, Let]] = []

    def enter(self, key: Key, socket_id: str, member: Member | None, arrival: Arrival) -> None:
        roster = (member,) if member is not None else ()
        # The script has run; its answer is on its way.
        self.waiting.append((arrival, Let(number=self.count, epoch="e", roster=roster)))

    def leave(self, key: Key, socket_id: str) -> None:
        del key, socket_id

    def answer(self) -> None:
        """Let in who waits, and who comes meanwhile."""
        while self.waiting:
            arrival, let = self.waiting.pop(0)
            arrival.entered(let)


def _unheard(*told: object, **fields: object) -> None:
    del told, fields


class Stage:
    """A node without sockets and without Redis."""

    def __init__(self, document: Json, mode: ContractMode) -> None:
        self.contract = contract_of(Document(HOTEL_CONTRACT, document, None))
        self.loop = asyncio.new_event_loop()
        self.hub = Hub(self, join=websocket.join, defer=self.loop.call_soon)
        self.publisher = Publisher(
            self.contract, self, mode=mode, serves_unlisted=False, wall=PublishWall(_FREE)
        )
        self.ready = True
        self.now = NOW
        self.confirms_at_once = True
        self.answers_at_once = True
        self.listening: set[Key] = set()
        self.revocations = Revocations()
        self._asked: set[Key] = set()
        self._entrance = Entrance()
        self._wheel = Wheel(lambda: self.now)
        around = Surroundings(
            hub=self.hub,
            presence=cast("Presence", self._entrance),
            resuming=cast("Resuming", Returns()),
            users=cast("Users", None),  # nobody signs in here
            relayer=self.publisher,
            notify=_unheard,
            wheel=self._wheel,
            verifier=_VERIFIER,
            rules=Rules(self.contract, revocations=self.revocations),
            clock=lambda: self.now,
        )
        origins = Origins(OriginPolicy(()), APPS)
        apps, no_walls = AppRegistry(APPS), Walls(_NO_LIMITS)
        self._door = Door(apps, origins, around, lambda app_id: 0, walls=no_walls)

    def enter(self, app: App, claims: Json | None) -> Socket:
        """Open a socket with a token in its path, or without one."""
        socket = self.knock(app, claims)
        assert socket is not None
        return socket

    def knock(self, app: App, claims: Json | None) -> Socket | None:
        """Open a socket where the door opens for its token."""
        path = f"/t/{token(claims)}" if claims is not None else ""
        socket = Socket(self)
        handshake = Handshake(f"{path}/app/{app.key}?protocol=7", {})
        entered = self._door.enter(handshake, socket)
        if not isinstance(entered, Entered):
            return None
        socket.app, socket.session = app, entered.session
        entered.open()
        self.settle()
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

    def wait(self, seconds: int) -> None:
        """Let the clock go on, and the wheel turn as it does: once a second."""
        for _ in range(seconds):
            self.now += 1
            self.turn()
            self._wheel.turn()

    def revoke(self, what: Revoked, value: str) -> None:
        """Revoke for an hour."""
        self.revocations.put(Revocation("id", what, value, self.now, self.now + 3600))
        self._judge_anew()

    def lift(self, what: Revoked, value: str) -> None:
        """End a revocation."""
        self.revocations.lift(what, value)
        self._judge_anew()

    def _judge_anew(self) -> None:
        for session in list(self.hub.sessions.values()):
            session.revoked()
        self.settle()

    # --- the broker's outside --------------------------------------------------------------------

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        self._entrance.count += 1
        count = self._entrance.count
        message = decode(written(publication, sequence=count))
        key = (publication.app_id, publication.channel)
        if key in self.listening:
            self.hub.fan_out(*key, message)
        receipt: asyncio.Future[Receipt] = self.loop.create_future()
        receipt.set_result(Receipt(publication.event_id, count, "e", duplicate=False))
        return receipt

    def announce(self, app_id: str, channel: str, announcement: Announcement) -> None:
        del app_id, channel, announcement  # nobody hears a client's event here

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
        self.settle()

    def settle(self) -> None:
        """Let in who waits, unless the broker's answers take their time."""
        if self.answers_at_once:
            self._entrance.answer()
